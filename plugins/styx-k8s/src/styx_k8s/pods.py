"""The objects that a cluster of nodes is made of, as the API server takes them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from styx.plugin import NodeRequest
from styx_k8s.config import ContextConfig
from styx_k8s.shapes import GPU_RESOURCES, SPOT_LABELS

STORE, CLUSTER, RANK, TOKEN = "styx/store", "styx/cluster", "styx/rank", "styx/token"
SHAPE, PRICE = "styx/instance-type", "styx/usd-per-hour"
VOLUME_OF: Final = "styx/volume"
"""Carries the user's name of a volume."""
CONTAINER: Final = "node"
ROOM: Final = "/styx"
"""An empty folder of every pod that any user id can write: the agent, its state, a lent Python."""
LENT: Final = f"{ROOM}/python/bin/python3"
LEASE: Final = "agent/lease.json"
"""In the room of a pod: there as soon as a client has given its agent a lease."""
GANG_S: Final = 7 * 3600.0
"""More than any launch waits for nodes."""
END: Final = ("sh", "-c", f'kill -TERM "$(cat {ROOM}/pid)"')
LEND: Final = Path(__file__).with_name("lend.sh")
"""Run by the image that lends a Python."""
_LABEL_KEY: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")


def pod_name(cluster: str, rank: int) -> str:
    """The pod of a rank; that names can't be taken twice is what makes creation idempotent."""
    return f"{cluster}-{rank}"


def anchor(request: NodeRequest) -> dict[str, Any]:
    """The headless service that gives the pods their names and owns them: its end is theirs."""
    spec = {"clusterIP": "None", "selector": {CLUSTER: request.cluster}, "publishNotReadyAddresses": True}
    return _object("Service", request.cluster, {STORE: request.store, CLUSTER: request.cluster}, spec)


def patience_s(request: NodeRequest) -> float | None:
    """How long a pod waits for its first lease. The first pods of a gang may run for hours until the last one does."""
    alone = request.count == 1 or request.first_lease_s is None
    return request.first_lease_s if alone else max(request.first_lease_s or 0.0, GANG_S)


def hold(room: str, first_lease_s: float | None) -> str:
    """The pod's first process: ends when it is told to, and with it everything in the pod.

    Also when no client has given the agent a lease in time: then nobody would ever end the pod.
    """
    begin = f"trap 'exit 0' TERM INT; mkdir -p {room}/home; echo $$ > {room}/pid; "
    if first_lease_s is not None:
        begin += (
            f"left={max(1, round(first_lease_s))}; "
            f"until [ -s {room}/{LEASE} ]; do "
            '[ "$left" -gt 0 ] || { echo "styx: no client came in time; this pod ends itself" >&2; exit 0; }; '
            'pause=$((left < 10 ? left : 10)); left=$((left - pause)); sleep "$pause" & wait $!; done; '
        )
    return begin + "while :; do sleep 3600 & wait $!; done"


def verbatim(text: str) -> str:
    """Text that arrives as it is: in commands and variables of pods `$(NAME)` and `$$` mean something else."""
    return text.replace("$", "$$")


def _object(
    kind: str, name: str, labels: Mapping[str, str], spec: Mapping[str, Any], owner: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """With an owner, the anchor, the garbage collector removes it when that goes."""
    meta: dict[str, Any] = {"name": name, "labels": dict(labels)}
    if owner is not None:
        above = {key: owner["metadata"][key] for key in ("name", "uid")}
        meta["ownerReferences"] = [{"apiVersion": "v1", "kind": "Service", **above}]
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, "spec": dict(spec)}


def _only(**values: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in values.items() if value}


def pod(
    request: NodeRequest, rank: int, settings: ContextConfig, owner: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """The pod of one rank."""
    offer = request.offer
    ref = json.loads(offer.ref) if offer.ref else {}
    name = pod_name(request.cluster, rank)
    ours = {STORE: request.store, CLUSTER: request.cluster, RANK: str(rank), TOKEN: request.token}
    labels, notes = _user_labels(request.labels)
    notes[SHAPE] = offer.instance_type
    selector = dict(ref.get("selector") or {})
    if spot := ref.get("spot"):
        selector[spot[0]] = spot[1]
    if offer.usd_per_hour is not None:
        notes[PRICE] = f"{offer.usd_per_hour:.10g}"
    if settings.queue:
        labels |= {"kueue.x-k8s.io/queue-name": settings.queue, "kueue.x-k8s.io/pod-group-name": request.cluster}
        notes["kueue.x-k8s.io/pod-group-total-count"] = str(request.count)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": settings.service_account is not None,
        "enableServiceLinks": False,
        "hostname": name,
        "subdomain": request.cluster,
        "containers": [_container(request, settings, ref.get("resource"))],
        "volumes": _volumes(request, settings),
        "nodeSelector": selector,
        "tolerations": _tolerations(ref),
        "affinity": {} if spot else _not_spot(),
        "initContainers": [_lender(settings.python_image)] if settings.python_image else [],
        "serviceAccountName": settings.service_account,
        "priorityClassName": settings.priority_class,
        "imagePullSecrets": [{"name": name} for name in settings.pull_credentials],
        "activeDeadlineSeconds": max(1, int(request.ends_at.timestamp() - now)) if request.ends_at else None,
    }
    given = {key: value for key, value in spec.items() if value not in ({}, [], None)}
    made = _object("Pod", name, labels, given, owner)
    made["metadata"]["annotations"] = notes
    merged: dict[str, Any] = merge(made, settings.pod_config)
    merged["metadata"]["labels"] |= ours
    return merged


def _container(request: NodeRequest, settings: ContextConfig, resource: str | None) -> dict[str, Any]:
    offer = request.offer
    asked: dict[str, str] = {}
    if offer.vcpus is not None:
        asked["cpu"] = f"{round(offer.vcpus * 1000)}m"
    if offer.memory_gib is not None:
        asked["memory"] = f"{round(offer.memory_gib * 1024)}Mi"
    gpus = {resource: f"{offer.accelerator_count:g}"} if resource and offer.accelerator_count else {}
    mounts = [{"name": "styx", "mountPath": ROOM}, {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108 - in the pod
    for number, (path, volume) in enumerate(sorted(request.mounts.items())):
        folder = volume.partition(":")[2]
        mounts.append({"name": f"data-{number}", "mountPath": path, **_only(subPath=folder)})
    return {
        "name": CONTAINER,
        "image": request.image.ref if request.image else settings.image,
        "command": ["sh", "-c", verbatim(hold(ROOM, patience_s(request)))],
        "env": [{"name": name, "value": verbatim(value)} for name, value in request.env.items()],
        "resources": {"requests": asked | gpus, "limits": gpus | _only(memory=asked.get("memory"))},
        "ports": [{"containerPort": port} for port in request.ports],
        "volumeMounts": mounts,
    }


def _volumes(request: NodeRequest, settings: ContextConfig) -> list[dict[str, Any]]:
    size = settings.shm_gib if settings.shm_gib is not None else (request.offer.memory_gib or 0.0) / 2
    memory = {"medium": "Memory", **_only(sizeLimit=size and f"{max(64, round(size * 1024))}Mi")}
    found: list[dict[str, Any]] = [{"name": "styx", "emptyDir": {}}, {"name": "shm", "emptyDir": memory}]
    for number, (_, volume) in enumerate(sorted(request.mounts.items())):
        claim = {"claimName": volume.partition(":")[0]}
        found.append({"name": f"data-{number}", "persistentVolumeClaim": claim})
    return found


def _lender(image: str) -> dict[str, Any]:
    return {
        "name": "python",
        "image": image,
        "command": ["sh", "-c", verbatim(LEND.read_text(encoding="utf-8")), "sh", f"{ROOM}/python"],
        "volumeMounts": [{"name": "styx", "mountPath": ROOM}],
    }


def _tolerations(ref: Mapping[str, Any]) -> list[dict[str, Any]]:
    keys = [ref["resource"]] if ref.get("resource") in GPU_RESOURCES else []
    keys += [ref["spot"][0]] if ref.get("spot") else []
    return [{"key": key, "operator": "Exists"} for key in keys]


def _not_spot() -> dict[str, Any]:
    """Nodes that may be taken away are not always tainted: who did not ask for them stays off."""
    apart = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in SPOT_LABELS]
    terms = {"nodeSelectorTerms": [{"matchExpressions": apart}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _user_labels(given: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Labels, and as annotations those that Kubernetes does not take as labels."""
    fit = {key: value for key, value in given.items() if _LABEL_KEY.match(key) and _LABEL_VALUE.match(value)}
    rest = {key: value for key, value in given.items() if key not in fit and _LABEL_KEY.match(key)}
    return fit, rest


def merge(base: Any, over: Any) -> Any:
    """`over` laid over `base`: mappings key by key, lists of named entries by name, other lists put end to end."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        joined = dict(base)
        for key, value in over.items():
            joined[key] = merge(base[key], value) if key in base else value
        return joined
    if isinstance(base, list) and isinstance(over, list):
        names = {item["name"]: place for place, item in enumerate(base) if isinstance(item, Mapping) and "name" in item}
        joined_list = list(base)
        for item in over:
            place = names.get(item.get("name")) if isinstance(item, Mapping) else None
            if place is None:
                joined_list.append(item)
            else:
                joined_list[place] = merge(joined_list[place], item)
        return joined_list
    return over


def ports_service(cluster: str, store: str, owner: Mapping[str, Any], ports: list[int], mode: str) -> dict[str, Any]:
    """What leads to the opened ports of rank 0; also where they are remembered."""
    kind = {"nodeport": "NodePort", "loadbalancer": "LoadBalancer"}.get(mode, "ClusterIP")
    opened = [{"name": f"p{port}", "port": port, "targetPort": port, "protocol": "TCP"} for port in ports]
    spec = {"type": kind, "selector": {CLUSTER: cluster, RANK: "0"}, "ports": opened}
    return _object("Service", f"{cluster}-ports", {STORE: store, CLUSTER: cluster}, spec, owner)


def ingress(
    cluster: str, store: str, owner: Mapping[str, Any], ports: list[int], settings: ContextConfig
) -> dict[str, Any]:
    """One path for each port; the controller must be there."""
    paths = [
        {
            "path": f"/styx/{cluster}/{port}(/|$)(.*)",
            "pathType": "ImplementationSpecific",
            "backend": {"service": {"name": f"{cluster}-ports", "port": {"number": port}}},
        }
        for port in ports
    ]
    rule = {"http": {"paths": paths}, **_only(host=settings.ingress_host)}
    spec = {"rules": [rule], **_only(ingressClassName=settings.ingress_class)}
    made = _object("Ingress", f"{cluster}-ports", {STORE: store, CLUSTER: cluster}, spec, owner)
    notes = {"nginx.ingress.kubernetes.io/use-regex": "true", "nginx.ingress.kubernetes.io/rewrite-target": "/$2"}
    made["metadata"]["annotations"] = notes
    return {**made, "apiVersion": "networking.k8s.io/v1"}


def claim(name: str, label: str, store: str, size_gib: float, settings: ContextConfig) -> dict[str, Any]:
    """A volume."""
    size = {"requests": {"storage": f"{round(size_gib * 1024)}Mi"}}
    spec = {"accessModes": [settings.access_mode], "resources": size}
    if settings.storage_class is not None:  # an empty one means none at all, not the default
        spec["storageClassName"] = settings.storage_class
    return _object("PersistentVolumeClaim", name, {STORE: store, VOLUME_OF: label}, spec)
