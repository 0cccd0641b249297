"""Pure translations: a request into the parameters of RunInstances, and an instance into a `Node`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from styx.plugin import (
    Ended,
    Endpoint,
    Market,
    Node,
    NodeRequest,
    NodeState,
    Place,
    Problem,
    Ssh,
    Waiting,
)
from styx_aws import disks
from styx_aws.config import AwsConfig
from styx_aws.images import Ami
from styx_aws.network import Nic, Subnet
from styx_aws.tags import CLUSTER, DISK, HOST_KEY, PRICE, RANK, SPOT, STORE, TOKEN, USER, tag_list, tags_of

STATES: Final[Mapping[str, NodeState]] = {
    "pending": NodeState.PENDING,
    "running": NodeState.RUNNING,
    "stopping": NodeState.STOPPING,
    "shutting-down": NodeState.STOPPING,
    "stopped": NodeState.STOPPED,
    "terminated": NodeState.TERMINATED,
}
"""The vendor's states, and ours. What is shutting down still holds its network interface, and with it its group."""

_CAUSES: Final[Mapping[str, str]] = {
    "Client.InstanceInitiatedShutdown": "requested",
    "Client.UserInitiatedHibernate": "requested",
    "Client.UserInitiatedShutdown": "requested",
    "Server.InternalError": "hardware",
    "Server.ScheduledStop": "hardware",
    "Server.SpotInstanceShutdown": "preempted",
    "Server.SpotInstanceStop": "preempted",
    "Server.SpotInstanceTermination": "preempted",
}
_LATE: Final[Mapping[str, str]] = {
    "Client.InternalError": "UnsupportedError",
    "Client.InvalidSnapshot.NotFound": "UnsupportedError",
    "Client.VolumeLimitExceeded": "QuotaError",
    "Server.InsufficientInstanceCapacity": "CapacityError",
    "Server.InternalError": "CapacityError",
}
"""Reasons for which a machine ends before it ran, and what they tell the engine."""

_BOOT_PATIENCE_S: Final = 900.0


@dataclass(frozen=True)
class Launch:
    """What one RunInstances is made from, beside the request.

    Attributes:
        first: Rank of its first machine.
        count: Machines.
        ami: To boot.
        subnet: To be in.
        nics: Network interfaces, one at least.
        user_data: For cloud-init.
        host_key: Public half of the host key in it.
        group: Placement group.
        reservation: Capacity reservation to fill, and whether it is a capacity block.
    """

    first: int
    count: int
    ami: Ami
    subnet: Subnet
    nics: Sequence[Nic]
    user_data: str = field(default="", repr=False)
    host_key: str | None = None
    group: str | None = None
    reservation: tuple[str, bool] | None = None


def batches(count: int, size: int) -> list[range]:
    """Ranks of a gang in launches of at most `size` machines."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def client_token(token: str, zone: str, first: int) -> str:
    """The idempotency token of one launch: a repeat in the same zone is the same launch, one elsewhere is another."""
    return hashlib.sha256(f"{token}/{zone}/{first}".encode()).hexdigest()


def is_spot(request: NodeRequest) -> bool:
    """Whether a request is for machines that may be taken away."""
    return request.offer.market in {Market.SPOT, Market.BID}


def tags(request: NodeRequest, login: str, first: int, host_key: str | None, spot: str | None) -> dict[str, str]:
    """The user's labels and ours; ours win. Names beginning with `aws:` belong to AWS."""
    own = {
        "Name": request.cluster,
        CLUSTER: request.cluster,
        STORE: request.store,
        TOKEN: request.token,
        RANK: str(first),
        USER: login,
    }
    if host_key:
        own[HOST_KEY] = host_key
    if spot is not None:
        own[SPOT] = spot
    if request.offer.usd_per_hour is not None:
        own[PRICE] = repr(request.offer.usd_per_hour)
    labels = {name: value for name, value in request.labels.items() if not name.lower().startswith("aws:")}
    return {**labels, **own}


def parameters(request: NodeRequest, launch: Launch, config: AwsConfig) -> dict[str, Any]:
    """The parameters of RunInstances: all machines of the launch or none."""
    spot = is_spot(request)
    login = config.ssh_user or launch.ami.user
    named = tags(request, login, launch.first, launch.host_key, config.spot if spot else None)
    size = disk_size(request, launch.ami)
    labels = tag_list(named | ({DISK: str(size)} if size else {}))
    kinds = ["instance", "volume", *(["spot-instances-request"] if spot else [])]
    asked: dict[str, Any] = {
        "ImageId": launch.ami.id,
        "InstanceType": request.offer.instance_type,
        "MinCount": launch.count,
        "MaxCount": launch.count,
        "ClientToken": client_token(request.token, launch.subnet.zone_id, launch.first),
        "NetworkInterfaces": [_interface(nic, launch, config) for nic in launch.nics],
        "BlockDeviceMappings": [{"DeviceName": launch.ami.root_device, "Ebs": root_disk(request, launch.ami, config)}],
        "TagSpecifications": [{"ResourceType": kind, "Tags": labels} for kind in kinds],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"},
        # Until `prepare_self_action`, only a machine that no client has set up switches itself off. One of a persistent
        # request must not end so: AWS would make it again.
        "InstanceInitiatedShutdownBehavior": "stop" if spot and config.spot == "persistent" else "terminate",
    }
    if launch.user_data:
        asked["UserData"] = launch.user_data
    if config.key_pair:
        asked["KeyName"] = config.key_pair
    if config.instance_profile:
        name = "Arn" if config.instance_profile.startswith("arn:") else "Name"
        asked["IamInstanceProfile"] = {name: config.instance_profile}
    if launch.group:
        asked["Placement"] = {"GroupName": launch.group}
    asked.update(_market(request, launch, config))
    return asked


def _market(request: NodeRequest, launch: Launch, config: AwsConfig) -> dict[str, Any]:
    if is_spot(request):
        persistent = config.spot == "persistent"
        options: dict[str, Any] = {
            "SpotInstanceType": config.spot,
            "InstanceInterruptionBehavior": "stop" if persistent else "terminate",
        }
        if request.bid_usd_per_hour is not None:
            options["MaxPrice"] = f"{request.bid_usd_per_hour:.6f}"
        return {"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": options}}
    if launch.reservation is None:
        return {}
    reserved, block = launch.reservation
    target = {"CapacityReservationSpecification": {"CapacityReservationTarget": {"CapacityReservationId": reserved}}}
    return {**target, "InstanceMarketOptions": {"MarketType": "capacity-block"}} if block else target


def _interface(nic: Nic, launch: Launch, config: AwsConfig) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "DeviceIndex": nic.device,
        "SubnetId": launch.subnet.id,
        "Groups": list(nic.groups),
        "DeleteOnTermination": True,
    }
    if len(launch.nics) == 1:  # AWS refuses to choose a public address where there are several
        asked["AssociatePublicIpAddress"] = not config.private_ips
    if nic.card:
        asked["NetworkCardIndex"] = nic.card
    if nic.kind != "interface":
        asked["InterfaceType"] = nic.kind
    return asked


def disk_size(request: NodeRequest, ami: Ami) -> int:
    """GiB of the root disk: as large as asked for, and as the image needs; 0 is left to AWS."""
    return max(math.ceil(request.disk_gib or 0), ami.smallest_gib)


def root_disk(request: NodeRequest, ami: Ami, config: AwsConfig) -> dict[str, Any]:
    """The root disk: as large as asked for and as the image needs, as fast as its tier and its size allow."""
    size = disk_size(request, ami)
    disk: dict[str, Any] = {"VolumeType": "gp3", "DeleteOnTermination": True}
    if size:
        disk["VolumeSize"] = size
    fast = disks.speed(request.disk_tier, size)
    if fast is not None:
        disk |= {"Iops": fast[0], "Throughput": fast[1]}
    if config.encrypt_disks:
        disk["Encrypted"] = True
    return disk


@dataclass(frozen=True)
class Shown:
    """What an instance is read with.

    Attributes:
        place: That was asked for; nodes are of its account and region.
        zones: Name of each zone, as this account says it, to its id.
        ports: Open ports by group.
        config: The settings.
    """

    place: Place
    zones: Mapping[str, str]
    ports: Mapping[str, Sequence[int]]
    config: AwsConfig


def node_of(instance: Mapping[str, Any], shown: Shown) -> Node:
    """An instance of ours in Styx's words."""
    named = tags_of(instance)
    state = STATES.get(instance["State"]["Name"], NodeState.PENDING)
    reason = instance.get("StateReason") or {}
    code, message = str(reason.get("Code") or ""), str(reason.get("Message") or "")
    problem, ended = None, _ended(state, code, message)
    if state is NodeState.TERMINATED and code in _LATE:
        state, problem = (
            NodeState.FAILED,
            Problem.model_validate(
                {"error": _LATE[code], "message": f"AWS ended the machine: {message or code}", "code": code}
            ),
        )
    public, private = instance.get("PublicIpAddress"), instance.get("PrivateIpAddress")
    address = private if shown.config.private_ips else public
    zone = str(instance.get("Placement", {}).get("AvailabilityZone") or "")
    zone_id = shown.zones.get(zone, zone) or None
    groups = [str(group["GroupId"]) for group in instance.get("SecurityGroups") or ()]
    ports = sorted({port for group in groups for port in shown.ports.get(group, ())})
    running = state is NodeState.RUNNING and bool(address)
    alive = state in {NodeState.PENDING, NodeState.RUNNING}
    price = named.get(PRICE)
    return Node(
        id=str(instance["InstanceId"]),
        cluster=named[CLUSTER],
        rank=rank_of(instance),
        place=shown.place.model_copy(update={"zone": zone_id}),
        state=state,
        token=named.get(TOKEN),
        problem=problem,
        waiting=_waiting(state),
        ended=ended,
        reach=_reach(str(address), named, shown.config) if running else None,
        endpoints={port: Endpoint(host=address, port=port, public=bool(public)) for port in ports} if running else {},
        private_ip=private if alive else None,
        public_ip=public if alive else None,
        instance_type=instance.get("InstanceType"),
        usd_per_hour=float(price) if price else None,
        created_at=_when(instance.get("LaunchTime")),
        disk_gib=float(named[DISK]) if named.get(DISK) else None,
        data=_data(instance),
    )


def rank_of(instance: Mapping[str, Any]) -> int:
    """The rank of a machine: its launch's first one, and its place within the launch."""
    return int(tags_of(instance).get(RANK, 0)) + int(instance.get("AmiLaunchIndex") or 0)


def missing(node: Node, now: float, lag_s: float) -> Node:
    """A node that is known and that the listing does not show: too new for it, or gone."""
    age_s = now - (node.created_at.timestamp() if node.created_at else 0.0)
    if age_s < lag_s or node.state in {NodeState.TERMINATED, NodeState.FAILED}:
        return node
    lost: dict[str, Any] = {"reach": None, "waiting": None, "endpoints": {}}
    if node.state is NodeState.PENDING:
        problem = Problem(error="CapacityError", message="AWS accepted the machine, and it never appeared")
        return node.model_copy(update={**lost, "state": NodeState.FAILED, "problem": problem})
    ended = Ended(cause="unknown", message="AWS lists the machine no more")
    return node.model_copy(update={**lost, "state": NodeState.TERMINATED, "ended": ended})


def _waiting(state: NodeState) -> Waiting | None:
    if state is not NodeState.PENDING:
        return None
    return Waiting(kind="booting", reason="AWS starts the machine", patience_s=_BOOT_PATIENCE_S)


def _ended(state: NodeState, code: str, message: str) -> Ended | None:
    if state not in {NodeState.STOPPING, NodeState.STOPPED, NodeState.TERMINATED} or not code:
        return None
    return Ended.model_validate({"cause": _CAUSES.get(code, "unknown"), "code": code, "message": message or None})


def _reach(address: str, named: Mapping[str, str], config: AwsConfig) -> Ssh:
    options = {"ProxyCommand": config.proxy_command} if config.proxy_command else {}
    return Ssh(
        host=address,
        user=named.get(USER) or "ubuntu",
        host_key=named.get(HOST_KEY),
        jump=config.jump,
        options=options,
    )


def _data(instance: Mapping[str, Any]) -> dict[str, Any]:
    request = instance.get("SpotInstanceRequestId")
    found: dict[str, Any] = {}
    if instance.get("InstanceLifecycle") == "spot":
        found["spot"] = tags_of(instance).get(SPOT, "one-time")
    return {**found, "spot_request": str(request)} if request else found


def _when(moment: Any) -> datetime | None:
    if not isinstance(moment, datetime):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
