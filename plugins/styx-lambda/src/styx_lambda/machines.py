"""Instances of Lambda as nodes of Styx, and back. Nothing here talks to a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import SecretStr

from styx.plugin import (
    Ended,
    Endpoint,
    Node,
    NodeRequest,
    NodeState,
    Place,
    Ssh,
    Waiting,
    cloud_config,
    public_half,
)

USER: Final = "ubuntu"
SSH_PORT: Final = 22
END_KEY_FILE: Final = "/etc/styx/lambda-end-key"
"""On machines whose owner lets them end themselves: an API key, for root alone."""
BOOT_S: Final = 1800.0
"""A machine of eight GPUs may take so long."""
STATES: Final[Mapping[str, NodeState]] = {
    "booting": NodeState.PENDING,
    "active": NodeState.RUNNING,
    "unhealthy": NodeState.UNREACHABLE,  # often for a while only
    "terminating": NodeState.STOPPING,
    "terminated": NodeState.TERMINATED,
    "preempted": NodeState.TERMINATED,
}
_IMAGE_ID: Final = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_of(cluster: str, store: str) -> bool:
    """Whether a cluster key, or a name made of it alone, is of this installation: `styx-<slug>-<store><generation>`."""
    return re.fullmatch(rf"styx-.+-{re.escape(store)}[0-9a-z]{{2}}", cluster) is not None


def launch_body(
    request: NodeRequest, rank: int, *, now: float, ruleset: str | None, end_key: SecretStr | None = None
) -> dict[str, Any]:
    """The request for one machine. The SSH key and the ruleset were made under the cluster's key."""
    name = f"{request.cluster}-{rank}"
    body: dict[str, Any] = {
        "region_name": request.place.region,
        "instance_type_name": request.offer.instance_type,
        "ssh_key_names": [request.cluster],
        "name": name,
        "hostname": name,
        "tags": [{"key": key, "value": value} for key, value in _tags(request, rank, now).items()],
    }
    if request.image is not None and request.image.kind == "machine":
        ref = request.image.ref
        body["image"] = {"id": ref} if _IMAGE_ID.fullmatch(ref) else {"family": ref}
    private = {END_KEY_FILE: end_key} if end_key is not None else None
    if user_data := cloud_config(request, limit_bytes=1_000_000, private_files=private):
        body["user_data"] = user_data
    if ruleset is not None:
        body["firewall_rulesets"] = [{"id": ruleset}]
    return body


def _tags(request: NodeRequest, rank: int, now: float) -> dict[str, str]:
    tags = {_tag_key(key): value[:128] for key, value in request.labels.items()}
    tags |= {
        "styx-cluster": request.cluster,
        "styx-store": request.store,
        "styx-rank": str(rank),
        "styx-token": request.token,
        "styx-created": f"{now:.0f}",
    }
    if request.host_key is not None:
        tags["styx-host-key"] = public_half(request.host_key)
    return tags


def _tag_key(label: str) -> str:
    """A user's label as Lambda allows it: lower case, 55 characters, none of `._/`."""
    text = re.sub(r"[^a-z0-9:-]", "-", label.lower())
    return (text if re.match(r"[a-z].", text) else f"x-{text}")[:55]


def ours(instances: Iterable[Mapping[str, Any]], store: str, region: str) -> list[Mapping[str, Any]]:
    """Those of this installation in a region. Tags decide: names are anybody's."""
    return [
        one
        for one in instances
        if one["region"]["name"] == region
        and (tags := tags_of(one)).get("styx-store") == store
        and is_of(tags.get("styx-cluster", ""), store)
        and tags.get("styx-rank", "").isdecimal()
    ]


def tags_of(instance: Mapping[str, Any]) -> dict[str, str]:
    """An instance's tags as a mapping."""
    return {tag["key"]: tag["value"] for tag in instance.get("tags") or ()}


def node(instance: Mapping[str, Any], place: Place, ports: Iterable[int]) -> Node:
    """What an instance of ours is to the engine."""
    tags, status, ip = tags_of(instance), instance["status"], instance.get("ip")
    state = STATES.get(status, NodeState.UNREACHABLE)
    if state is NodeState.RUNNING and not ip:
        state = NodeState.PENDING
    reachable = ip if state in {NodeState.RUNNING, NodeState.UNREACHABLE} else None
    shape = instance["instance_type"]
    cents = shape["price_cents_per_hour"]
    created = tags.get("styx-created", "")
    return Node(
        id=instance["id"],
        cluster=tags["styx-cluster"],
        rank=int(tags["styx-rank"]),
        place=place,
        state=state,
        token=tags.get("styx-token"),
        waiting=Waiting(kind="booting", patience_s=BOOT_S) if state is NodeState.PENDING else None,
        ended=Ended(cause="preempted", code=status) if status == "preempted" else None,
        reach=Ssh(host=reachable, user=USER, host_key=tags.get("styx-host-key")) if reachable else None,
        endpoints={port: Endpoint(host=reachable, port=port, public=True) for port in ports} if reachable else {},
        private_ip=instance.get("private_ip"),
        public_ip=ip,
        instance_type=shape["name"],
        usd_per_hour=cents / 100 if cents > 0 else None,
        created_at=datetime.fromtimestamp(int(created), UTC) if created.isdecimal() else None,
    )


def fresh_node(request: NodeRequest, rank: int, instance_id: str, now: float) -> Node:
    """A machine that was launched a moment ago, which no listing may show yet."""
    return Node(
        id=instance_id,
        cluster=request.cluster,
        rank=rank,
        place=request.place,
        state=NodeState.PENDING,
        token=request.token,
        waiting=Waiting(kind="booting", patience_s=BOOT_S),
        instance_type=request.offer.instance_type,
        usd_per_hour=request.offer.usd_per_hour,
        created_at=datetime.fromtimestamp(int(now), UTC),
    )


def rules(ports: Iterable[int]) -> list[dict[str, Any]]:
    """Rules that let these ports in, and SSH always: a ruleset without it might shut us out."""
    return [
        {
            "protocol": "tcp",
            "port_range": [port, port],
            "source_network": "0.0.0.0/0",
            "description": "SSH" if port == SSH_PORT else f"port {port}",
        }
        for port in sorted({SSH_PORT, *ports})
    ]


def ports_of(ruleset: Mapping[str, Any]) -> set[int]:
    """The ports that our ruleset lets in, SSH left out."""
    return {rule["port_range"][0] for rule in ruleset["rules"] if rule.get("port_range")} - {SSH_PORT}
