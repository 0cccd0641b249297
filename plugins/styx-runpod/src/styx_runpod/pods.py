"""Pods of RunPod as nodes of Styx, and back. Nothing here talks to a network."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from styx.plugin import (
    CatalogRow,
    Ended,
    Endpoint,
    Market,
    Node,
    NodeRequest,
    NodeState,
    Place,
    Problem,
    Ssh,
    UnsupportedError,
    Waiting,
    public_half,
)

USER: Final = "root"
SSH_PORT: Final = 22
DISK_GB: Final = 50
LEAST_DISK_GB: Final = 10
KEEP: Final = "/workspace"
LONE: Final = "127.0.0.1"
"""Where a pod's job reaches its only node: the public address does not lead back into the pod."""
PATIENCE_S: Final = 1800.0
"""Images of twenty GB are usual."""
STATES: Final[Mapping[str, NodeState]] = {
    "PROVISIONING": NodeState.PENDING,
    "STARTING": NodeState.PENDING,
    "RUNNING": NodeState.RUNNING,
    "EXITED": NodeState.STOPPED,
    "ERROR": NodeState.FAILED,
    "TERMINATED": NodeState.TERMINATED,
}
_PROBLEM: Final = Problem(error="CapacityError", code="ERROR", message="RunPod could not start the pod")
_START: Final = Path(__file__).with_name("onnode") / "start.sh"


@dataclass(frozen=True)
class Spec:
    """A pod to be made, in terms that both of RunPod's interfaces are told.

    Attributes:
        name: Of the pod: the cluster key and the rank, because pods have no tags.
        image: A docker reference.
        gpu: RunPod's id of a GPU or, for pods without one, of a kind of processor.
        count: GPUs, or processors.
        on_gpu: Which of the two.
        home_gb: Size of the volume that outlives a stop; 0 for none.
    """

    name: str
    image: str
    gpu: str
    count: int
    on_gpu: bool
    disk_gb: int
    home_gb: int
    ports: tuple[str, ...]
    env: Mapping[str, str]
    volume: str | None


def disk_gb(asked_gib: float | None) -> int:
    """Size of a pod's disk."""
    return max(LEAST_DISK_GB, math.ceil(asked_gib or DISK_GB))


def keeps_home(offer: CatalogRow, keep_home: bool) -> bool:
    """Whether pods of an offer have their home on a volume that outlives a stop."""
    return keep_home and offer.accelerator_count > 0 and offer.market is Market.ON_DEMAND


def spec(request: NodeRequest, rank: int, *, image: str, protocol: str, keep_home: bool) -> Spec:
    """What is to be made for one rank of a request."""
    offer = request.offer
    if not offer.ref:
        raise UnsupportedError(f"the offer {offer.instance_type} does not say which of RunPod's types it is")
    if len(request.volumes) > 1:
        raise UnsupportedError(f"a pod takes one network volume, and {len(request.volumes)} are asked for")
    on_gpu = offer.accelerator_count > 0
    size = disk_gb(request.disk_gib)
    kept = keeps_home(offer, keep_home) and not request.volumes
    env = {
        **request.env,
        "STYX_STORE": request.store,
        "STYX_TOKEN": request.token,
        "STYX_REGION": request.place.region,
        "STYX_MARKET": offer.market.value,
    }
    env["PUBLIC_KEY"] = (request.ssh_public_key or "").strip()
    if request.host_key is not None:
        env["STYX_HOST_KEY"] = _packed(request.host_key.get_secret_value().strip() + "\n")
    if request.boot_script:
        env["STYX_BOOT"] = _packed(request.boot_script)
    if kept:
        env["STYX_KEEP"] = KEEP
    return Spec(
        name=f"{request.cluster}-{rank}",
        image=image,
        gpu=offer.ref,
        count=int(offer.accelerator_count if on_gpu else offer.vcpus or 2),
        on_gpu=on_gpu,
        disk_gb=size,
        home_gb=size if kept else 0,
        ports=(f"{SSH_PORT}/tcp", *(f"{port}/{protocol}" for port in request.ports)),
        env=env,
        volume=next(iter(request.volumes), None),
    )


def rest_body(pod: Spec, centers: list[str], *, least_cuda: str | None, registry: str | None) -> dict[str, Any]:
    """The body of `POST /pods`."""
    body: dict[str, Any] = {
        "name": pod.name,
        "cloud": "SECURE",
        "dataCenterIds": centers,
        "image": pod.image,
        "args": start_command(),
        "disk": pod.disk_gb,
        "ports": list(pod.ports),
        "env": dict(pod.env),
    }
    if pod.on_gpu:
        body["gpu"] = {"id": pod.gpu, "count": pod.count}
        if least_cuda is not None:
            body["gpu"]["minCudaVersion"] = least_cuda
    else:
        body["cpu"] = {"id": pod.gpu, "vcpuCount": pod.count}
    if pod.home_gb:
        body["mounts"] = {"persistent": {"size": pod.home_gb, "path": KEEP}}
    if pod.volume is not None:
        body["mounts"] = {"network": [{"volumeId": pod.volume, "path": KEEP}]}
    if registry is not None:
        body["registry"] = registry
    return body


BID: Final = """
mutation StyxBid($input: PodRentInterruptableInput!) {
  podRentInterruptable(input: $input) { id }
}
"""


def bid_input(pod: Spec, place: Place, usd_per_hour: float) -> dict[str, Any]:
    """The variables of `BID`: REST takes no bids."""
    where = {"dataCenterId": place.zone} if place.zone else {"countryCode": place.region}
    more = {"networkVolumeId": pod.volume, "volumeMountPath": KEEP} if pod.volume is not None else {}
    return {
        "name": pod.name,
        "cloudType": "SECURE",
        **where,
        **more,
        "bidPerGpu": usd_per_hour / pod.count,
        "gpuTypeId": pod.gpu,
        "gpuCount": pod.count,
        "imageName": pod.image,
        "dockerArgs": start_command(),
        "containerDiskInGb": pod.disk_gb,
        "volumeInGb": 0,
        "ports": ",".join(pod.ports),
        "supportPublicIp": True,
        "startSsh": False,
        "env": [{"key": name, "value": value} for name, value in pod.env.items()],
    }


def start_command() -> str:
    """`start.sh` as one line that survives everybody's quoting."""
    return f"sh -c 'echo {_packed(_START.read_text())} | base64 -d >/tmp/styx-start && exec sh /tmp/styx-start'"


def _packed(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def cluster_of(pod: Mapping[str, Any], store: str) -> tuple[str, int] | None:
    """Cluster key and rank of a pod of ours: by its name, which is strict, and by what its environment says."""
    found = re.fullmatch(rf"(styx-.+-{re.escape(store)}[0-9a-z]{{2}})-([0-9]+)", pod.get("name") or "")
    if found is None or pod["env"].get("STYX_STORE") != store:
        return None
    return found[1], int(found[2])


def is_in(pod: Mapping[str, Any], place: Place) -> bool:
    """Whether a pod of ours was asked for in a place. RunPod names the data center only once it has found one."""
    zone = pod["dataCenterId"] or place.zone
    return pod["env"].get("STYX_REGION") == place.region and place.zone in (None, zone)


def node(pod: Mapping[str, Any], cluster: str, rank: int, place: Place) -> Node:
    """What a pod of ours is to the engine."""
    status = pod["status"]
    state = STATES.get(status, NodeState.UNREACHABLE)
    opened = {one["private"]: one for one in (pod["runtime"] or {}).get("ports") or () if one.get("public")}
    if state is NodeState.RUNNING and not pod["ssh"]["direct"]:
        state = NodeState.PENDING
    running = state is NodeState.RUNNING
    taken = state is NodeState.STOPPED and pod["env"].get("STYX_MARKET") == Market.BID.value
    return Node(
        id=pod["id"],
        cluster=cluster,
        rank=rank,
        place=place.model_copy(update={"zone": pod["dataCenterId"] or place.zone}),
        state=state,
        token=pod["env"].get("STYX_TOKEN"),
        problem=_PROBLEM if state is NodeState.FAILED else None,
        waiting=_waiting(status) if state is NodeState.PENDING else None,
        ended=Ended(cause="preempted", message="outbid, or its host was needed") if taken else None,
        reach=_reach(pod) if running else None,
        endpoints=dict(_endpoints(pod, opened)) if running else {},
        public_ip=pod["ssh"]["direct"]["host"] if running else None,
        private_ip=LONE,
        usd_per_hour=pod["cost"] if pod["cost"] > 0 else None,
        created_at=datetime.fromisoformat(pod["createdAt"]).astimezone(UTC),
        data={"kept": bool((pod.get("mounts") or {}).get("persistent"))},
    )


def _waiting(status: str) -> Waiting:
    match status:
        case "PROVISIONING":
            return Waiting(kind="scaling", reason="RunPod looks for a host", patience_s=PATIENCE_S)
        case "STARTING":
            return Waiting(kind="pulling", reason="the image is on its way", patience_s=PATIENCE_S)
        case _:
            return Waiting(kind="booting", reason="port 22 is not mapped yet", patience_s=PATIENCE_S)


def _reach(pod: Mapping[str, Any]) -> Ssh:
    """Port 22 of the pod, as it is mapped to the outside, and the host key that the pod was given."""
    direct, packed = pod["ssh"]["direct"], pod["env"].get("STYX_HOST_KEY")
    known = public_half(SecretStr(base64.b64decode(packed).decode())) if packed else None
    return Ssh(host=direct["host"], port=direct["port"], user=USER, host_key=known)


def _endpoints(pod: Mapping[str, Any], opened: Mapping[int, Mapping[str, Any]]) -> list[tuple[int, Endpoint]]:
    """HTTP ports are behind RunPod's proxy, TCP ports at a port of the host that is not of our choosing."""
    found = []
    for text in pod["ports"]:
        number, _, protocol = text.partition("/")
        port = int(number)
        if protocol == "http":
            found.append((port, Endpoint(url=f"https://{pod['id']}-{port}.proxy.runpod.net", public=True)))
        elif port != SSH_PORT and port in opened:
            found.append((port, Endpoint(host=opened[port]["ip"], port=opened[port]["public"], public=True)))
    return found


def fresh_node(request: NodeRequest, rank: int, pod_id: str, now: float) -> Node:
    """A pod that was rented a moment ago, of which no more than its id is known."""
    return Node(
        id=pod_id,
        cluster=request.cluster,
        rank=rank,
        place=request.place,
        state=NodeState.PENDING,
        token=request.token,
        waiting=_waiting("PROVISIONING"),
        usd_per_hour=request.offer.usd_per_hour,
        created_at=datetime.fromtimestamp(int(now), UTC),
    )
