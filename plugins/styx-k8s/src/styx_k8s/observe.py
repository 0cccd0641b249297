"""From what the API server shows of a pod to what the engine needs to know of a node. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from styx.plugin import (
    DriverError,
    Ended,
    Endpoint,
    Leftover,
    Node,
    NodeState,
    Place,
    PluginReach,
    Problem,
    UnsupportedError,
    Waiting,
)
from styx_k8s.config import ContextConfig
from styx_k8s.faults import capacity, container_problem
from styx_k8s.pods import CLUSTER, CONTAINER, PRICE, RANK, SHAPE, TOKEN, VOLUME_OF
from styx_k8s.shapes import quantity

SCALING: Final = frozenset({"TriggeredScaleUp", "Nominated"})
"""Events by which an autoscaler says that it is at work (cluster-autoscaler, Karpenter)."""
Cause = Literal["preempted", "evicted", "walltime", "oom"]
CAUSES: Final[Mapping[str, Cause]] = {
    "Preempted": "preempted",
    "Preempting": "preempted",
    "PreemptionByScheduler": "preempted",
    "PreemptionByKubeScheduler": "preempted",
    "Evicted": "evicted",
    "TaintManagerEviction": "evicted",
    "DeletionByTaintManager": "evicted",
    "EvictionByEvictionAPI": "evicted",
    "TerminationByKubelet": "evicted",
    "DeadlineExceeded": "walltime",
    "OOMKilled": "oom",
}
"""By the reason of a pod's status, of its condition `DisruptionTarget`, of its container's end, or of an event."""
SCALE_SIGN_S: Final = 60.0
"""How long an autoscaler that is said to be there may take to give its first sign."""
START_S: Final = 600.0
"""Patience with a pod that has a node: images can be large."""


@dataclass(frozen=True)
class Seen:
    """What pods of one place have in common."""

    place: Place
    settings: ContextConfig
    now: float
    server: str
    namespace: str
    events: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """By pod."""
    endpoints: Mapping[str, Mapping[int, Endpoint]] = field(default_factory=dict)
    """Of rank 0, by cluster."""


def node_of(pod: Mapping[str, Any], seen: Seen) -> Node:
    """The node that a pod of ours is."""
    meta, status = pod["metadata"], pod.get("status") or {}
    labels, notes = meta["labels"], meta.get("annotations") or {}
    name, rank = meta["name"], int(labels[RANK])
    state, problem, waiting, ended = _condition(pod, seen)
    reach = None
    if state in (NodeState.RUNNING, NodeState.UNREACHABLE):
        target = {"context": seen.place.region, "pod": name}
        reach = PluginReach(cloud=seen.place.cloud, target=target)
    endpoints = seen.endpoints.get(labels[CLUSTER], {}) if rank == 0 else {}
    address, host = status.get("podIP"), pod["spec"].get("nodeName", "")
    return Node(
        id=name,
        cluster=labels[CLUSTER],
        rank=rank,
        place=seen.place,
        state=state,
        token=labels.get(TOKEN),
        problem=problem,
        waiting=waiting,
        ended=ended,
        reach=reach,
        endpoints={
            port: end if end.url or end.host else Endpoint(host=address or name, port=port)
            for port, end in endpoints.items()
        },
        private_ip=address,
        instance_type=notes.get(SHAPE),
        usd_per_hour=float(notes[PRICE]) if notes.get(PRICE) else None,
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
        data={"uid": meta["uid"], "server": seen.server, "namespace": seen.namespace, "host": host},
    )


_Condition = tuple[NodeState, Problem | None, Waiting | None, Ended | None]


def _condition(pod: Mapping[str, Any], seen: Seen) -> _Condition:
    meta, status = pod["metadata"], pod.get("status") or {}
    phase = status.get("phase", "Pending")
    if phase == "Succeeded":
        return NodeState.TERMINATED, None, None, Ended(cause="requested", message="the pod ended itself")
    if phase == "Failed":
        return _failed(status)
    disrupted = _of_type(status, "DisruptionTarget")
    if meta.get("deletionTimestamp") and disrupted.get("status") == "True":
        known = disrupted["reason"] in CAUSES
        return _failed(disrupted if known else {**disrupted, "reason": "Evicted"})
    if meta.get("deletionTimestamp"):
        return NodeState.STOPPING, None, None, None
    container = _container(status.get("containerStatuses"))
    now = container.get("state") or {}
    if "terminated" in now:
        return _failed(status)
    if phase == "Running" and "running" in now:
        ready = _of_type(status, "Ready")
        probed = any(one.get(f"{kind}Probe") for one in pod["spec"]["containers"] for kind in ("readiness", "startup"))
        if ready.get("status") != "True" and container.get("ready") is False and not probed:
            return NodeState.UNREACHABLE, None, None, None
        return NodeState.RUNNING, None, None, None
    if phase == "Unknown":
        return NodeState.UNREACHABLE, None, None, None
    return _pending(pod, seen)


def _failed(status: Mapping[str, Any]) -> _Condition:
    over = (_container(status.get("containerStatuses")).get("state") or {}).get("terminated") or {}
    why = str(status.get("reason") or over.get("reason") or "")
    words = status.get("message") or over.get("message")
    if why in CAUSES:
        return NodeState.TERMINATED, None, None, Ended(cause=CAUSES[why], code=why, message=words)
    if over.get("exitCode") == 0:
        return NodeState.TERMINATED, None, None, Ended(cause="requested", message="the pod ended itself")
    code = f" with exit code {over['exitCode']}" if "exitCode" in over else ""
    message = f"the pod failed{code} ({why or 'no reason given'})" + (f": {words}" if words else "")
    error = UnsupportedError if why in ("ContainerCannotRun", "StartError", "Error") else DriverError
    return NodeState.FAILED, Problem(error=error.__name__, message=message, code=why or None), None, None


def _pending(pod: Mapping[str, Any], seen: Seen) -> _Condition:
    status, spec = pod.get("status") or {}, pod["spec"]
    events = seen.events.get(pod["metadata"]["name"], ())
    scheduled = _of_type(status, "PodScheduled")
    if scheduled.get("status") != "True" and not spec.get("nodeName"):
        if spec.get("schedulingGates") or scheduled.get("reason") == "SchedulingGated":
            words = scheduled.get("message") or "a queue has not admitted the pod yet"
            waiting = Waiting(kind="queued", reason=words, patience_s=seen.settings.queue_timeout_s)
            return NodeState.PENDING, None, waiting, None
        return _unscheduled(pod, scheduled, events, seen)
    every = (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ()))
    images = {one["name"]: one.get("image") for one in (*spec["containers"], *(spec.get("initContainers") or ()))}
    for one in every:
        state = one.get("state") or {}
        problem = container_problem(state.get("waiting") or {}, str(images.get(one["name"])))
        if problem is None and (over := state.get("terminated")) and over.get("exitCode"):
            message = f"the init container {one['name']} failed: {over.get('message') or over.get('reason')}"
            problem = Problem(error="UnsupportedError", message=message, code=over.get("reason"))
        if problem is not None:
            return NodeState.FAILED, problem, None, None
    held = (_container(status.get("containerStatuses")).get("state") or {}).get("waiting") or {}
    reason = str(held.get("reason") or "the kubelet has not begun yet")
    for event in events:
        if str(event.get("reason")).startswith("Failed"):  # FailedMount, FailedCreatePodSandBox
            reason = str(event.get("message"))
    return NodeState.PENDING, None, Waiting(kind="pulling", reason=reason, patience_s=START_S), None


def _unscheduled(
    pod: Mapping[str, Any], scheduled: Mapping[str, Any], events: Sequence[Mapping[str, Any]], seen: Seen
) -> _Condition:
    settings = seen.settings
    words = str(scheduled.get("message") or "the scheduler has not looked at the pod yet")
    since = seen.now - datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
    signs = [_when(event) for event in events if event.get("reason") in SCALING]
    if signs:
        left = settings.scale_timeout_s - (seen.now - max(signs))
        if left > 0:
            return NodeState.PENDING, None, Waiting(kind="scaling", reason=words, patience_s=left), None
        return NodeState.FAILED, capacity(f"the autoscaler did not deliver in time: {words}"), None, None
    no = next((str(event.get("message")) for event in events if event.get("reason") == "NotTriggerScaleUp"), None)
    patience_s = max(settings.schedule_timeout_s, SCALE_SIGN_S if settings.autoscaler or settings.pools else 0.0)
    if scheduled.get("reason") == "Unschedulable" and (since > patience_s or (no and since > 5.0)):
        return NodeState.FAILED, capacity(f"{words}; {no}" if no else words), None, None
    if since > patience_s + SCALE_SIGN_S:
        return NodeState.FAILED, capacity(f"after {since:.0f} s: {words}"), None, None
    return NodeState.PENDING, None, Waiting(kind="queued", reason=words, patience_s=patience_s + SCALE_SIGN_S), None


def gone(
    known: Node, events: Sequence[Mapping[str, Any]] = (), machines: Mapping[str, Mapping[str, Any]] | None = None
) -> Node:
    """A pod that was there and is not any more, with the cause if its events, or the machine it was on, tell it.

    Args:
        known: What was last known of it.
        events: Those about pods of its name, oldest first.
        machines: The cluster's nodes by name, if they can be seen.
    """
    host = known.data.get("host")
    ended = Ended(cause="unknown", message="the pod is gone: deleted from outside")
    if host and machines and host not in machines:
        ended = Ended(cause="evicted", code="NodeGone", message=f"the pod is gone, and {host}, where it was, too")
    elif host and machines and machines[host]["spec"].get("unschedulable"):
        words = f"the pod is gone, and {host}, where it was, takes no new ones: it is being drained"
        ended = Ended(cause="evicted", code="Cordoned", message=words)
    for event in events:
        reason, about = str(event.get("reason")), (event.get("involvedObject") or {}).get("uid")
        if reason in CAUSES and about in (None, "", known.data.get("uid")):  # an earlier pod may have had the name
            ended = Ended(cause=CAUSES[reason], code=reason, message=str(event.get("message") or reason))
    ended = known.ended or ended
    return known.model_copy(update={"state": NodeState.TERMINATED, "ended": ended, "waiting": None})


def endpoints_of(
    service: Mapping[str, Any], entry: Mapping[str, Any] | None, node_host: str | None
) -> dict[int, Endpoint]:
    """Where the ports of a `-ports` service are reached; empty ends stand for the pod's own address."""
    kind, name = service["spec"].get("type"), service["metadata"]["labels"][CLUSTER]
    site = entry["spec"]["rules"][0].get("host") or _balancer(entry) if entry is not None else None
    host = _balancer(service) if kind == "LoadBalancer" else node_host if kind == "NodePort" else None
    found: dict[int, Endpoint] = {}
    for one in service["spec"].get("ports") or ():
        port = int(one["port"])
        outside = one.get("nodePort") if kind == "NodePort" else port
        if site:
            found[port] = Endpoint(url=f"http://{site}/styx/{name}/{port}/", public=True)
        else:
            found[port] = Endpoint(host=host, port=outside, public=True) if host and outside else Endpoint()
    return found


def _balancer(one: Mapping[str, Any]) -> str | None:
    """Where the load balancer of a service or an ingress is, once there is one."""
    given: Sequence[Mapping[str, str]] = ((one.get("status") or {}).get("loadBalancer") or {}).get("ingress") or [{}]
    return given[0].get("hostname") or given[0].get("ip")


def leftover(one: Mapping[str, Any], kind: str, place: Place) -> Leftover:
    """An object of ours that is no pod."""
    meta = one["metadata"]
    size = (one["spec"].get("resources") or {}).get("requests") or {}
    return Leftover(
        id=meta["name"],
        kind=kind,
        place=place,
        cluster=meta["labels"].get(CLUSTER),
        name=meta["labels"].get(VOLUME_OF),
        size_gib=quantity(size["storage"]) / 2**30 if "storage" in size else None,
        created_at=datetime.fromisoformat(meta["creationTimestamp"]),
    )


def by_object(events: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Events by the name of what they are about, oldest first."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for event in sorted(events, key=_when):
        found.setdefault(str((event.get("involvedObject") or {}).get("name")), []).append(event)
    return found


def _when(event: Mapping[str, Any]) -> float:
    text = (
        event.get("lastTimestamp") or event.get("eventTime") or (event.get("metadata") or {}).get("creationTimestamp")
    )
    return datetime.fromisoformat(text).timestamp() if text else 0.0


def _of_type(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one.get("type") == kind), {})


def _container(statuses: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """Ours among those that a mutating webhook may have added."""
    return next((one for one in statuses or () if one.get("name") == CONTAINER), {})
