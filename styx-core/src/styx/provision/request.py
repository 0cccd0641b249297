"""What a cloud is asked for in one attempt: the plan's choice, the task's wishes, the cluster's keys and lease."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import SecretStr

from styx.driver import FeatureSet, Image, Market, Node, NodeRequest, NodeState, SelfEnd, Ssh
from styx.errors import StyxError
from styx.optimizer.problem import Choice
from styx.provision import ledger, volumes
from styx.provision.offers import EMBEDDED
from styx.provision.world import World
from styx.state.rows import ClusterRow

if TYPE_CHECKING:
    from styx.driver import DriverConfig
    from styx.models import Resources


FIRST_LEASE_S: Final = 3600.0
"""How long a machine may run before its client has reached it and given it a lease."""


@dataclass(frozen=True)
class Wanted:
    """What every attempt of a launch has in common.

    Attributes:
        operation: The launch.
        count: Nodes.
        asked: The task's alternatives, by the labels that the plan's choices carry.
        volumes: By path: the name of a volume, or `NAME:FOLDER`.
    """

    operation: str
    count: int
    asked: Mapping[str, Resources] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)


def features_of(world: World, choice: Choice) -> FeatureSet:
    """What the chosen machines can do."""
    return choice.offer.features or world.cloud(choice.place.cloud).features


def unfit(choice: Choice, asked: Resources | None) -> str | None:
    """Why a choice can't be tried although it fits: the image is named for other regions. None when it can."""
    image = asked.image_id if asked else None
    if image is None or not image.machine_by_region or choice.place.region in image.machine_by_region:
        return None
    return f"image_id names no image for {choice.place.region}"


def node_request(world: World, row: ClusterRow, token: str, choice: Choice, wanted: Wanted) -> NodeRequest:
    """The request of one attempt. Makes the keys that it needs, as files under `keys/`; none is in the database."""
    asked = wanted.asked.get(choice.requirement)
    features = features_of(world, choice)
    reached_by_ssh = choice.place.cloud != EMBEDDED
    settings = world.hub.context(choice.place.cloud).config
    return NodeRequest(
        token=token,
        cluster=row.key,
        store=world.store.store_id,
        place=choice.place,
        offer=choice.offer,
        count=wanted.count,
        image=image_of(asked, choice, features),
        ssh_public_key=login_key(world) if reached_by_ssh else None,
        host_key=host_key(world, row.key) if reached_by_ssh and features.user_data else None,
        boot_script=boot_script(world, row, choice) if reached_by_ssh and features.user_data else None,
        first_lease_s=first_lease_s(world, row, choice) if reached_by_ssh else None,
        ports=asked.port_numbers() if asked and features.ports != "never" else (),
        disk_gib=asked.disk_size if asked else None,
        disk_tier=asked.disk_tier if asked else None,
        network_tier=network_tier(asked),
        mounts=volumes.mounts(world, choice.place, wanted.volumes),
        labels=dict(asked.labels or {}) if asked else {},
        network=network_of(settings),
        options=options_of(settings),
        bid_usd_per_hour=bid(choice, asked),
        ends_at=ends_at(row),
    )


def image_of(asked: Resources | None, choice: Choice, features: FeatureSet) -> Image | None:
    """The user's image: the container itself where nodes are containers, else the machine's, by region if so given."""
    image = asked.image_id if asked else None
    if image is None:
        return None
    if image.docker and features.container == "node":
        return Image(kind="container", ref=image.docker)
    ref = image.machine_by_region.get(choice.place.region, image.machine)
    return Image(kind="machine", ref=ref) if ref else None


def network_tier(asked: Resources | None) -> Literal["standard", "best"] | None:
    """The task's tier of network, when it is one that a driver acts on."""
    return "best" if asked is not None and asked.network_tier == "best" else None


def bid(choice: Choice, asked: Resources | None) -> float | None:
    """The highest price for one machine: the task's limit, else (where a price must be named) the offer's own."""
    limit = asked.max_hourly_cost if asked else None
    if choice.offer.market is Market.BID:
        return limit if limit is not None else choice.offer.usd_per_hour
    return limit if choice.offer.market is Market.SPOT else None


def ends_at(row: ClusterRow) -> datetime | None:
    """When the cloud itself may end the machines: the lease's greatest age, where ending means removing."""
    if row.lease.get("max_age_s") is None or row.lease.get("action") != "down":
        return None
    return row.created_at + timedelta(seconds=row.lease["max_age_s"])


def network_of(settings: DriverConfig) -> dict[str, str]:
    """The driver's own network choices: its setting `network`, when it has one."""
    network = getattr(settings, "network", None)
    if not isinstance(network, Mapping):
        return {}
    return {str(name): str(value) for name, value in network.items() if value is not None}


def options_of(settings: DriverConfig) -> dict[str, Any]:
    """The driver's other settings that somebody gave. Secrets stay in its context."""
    given = settings.model_fields_set - {"network"}
    secret = {name for name in given if isinstance(getattr(settings, name), SecretStr)}
    return settings.model_dump(mode="json", include=given - secret)


def login_key(world: World) -> str:
    """The public half of this installation's key, made when it is first needed."""
    from styx.transport.ssh import keys

    return keys.login_key(world.store.folders).public


def host_key(world: World, cluster: str) -> SecretStr:
    """The private host key that all nodes of a cluster are given."""
    from styx.transport.ssh import keys

    return keys.host_key(world.store.folders, cluster).private()


def pinned(world: World, node: Node) -> Node:
    """The node with the host key that it was given at creation.

    A cloud that runs user data was given the key of our own file, and that one counts, whatever a tag of the machine
    says: more people can write tags than our files. Without the file the listing's word is taken; without that, too,
    the key is trusted on first use.
    """
    reach = node.reach
    if not isinstance(reach, Ssh):
        return node
    row = world.store.cluster_by_key(node.cluster)
    offer = ledger.offer_of(row) if row else None
    features = (offer.features if offer else None) or world.cloud(node.place.cloud).features
    if not features.user_data:
        return node
    from styx.transport.ssh import keys

    pair = keys.known_host_key(world.store.folders, node.cluster)
    if pair is None:
        return node
    return node.model_copy(update={"reach": reach.model_copy(update={"host_key": keys.public_only(pair.public)})})


def forget_keys(world: World, cluster: str) -> None:
    """End the logins of a cluster that is gone, and forget its host keys."""
    world.hub.ssh.forget(cluster)


def boot_script(world: World, row: ClusterRow, choice: Choice) -> str:
    """What a machine runs at each boot: it brings its agent back and, until the agent has a lease, watches over it."""
    from styx.transport import revive

    node = Node(id="planned", cluster=row.key, rank=0, place=choice.place, state=NodeState.PENDING)
    try:
        end = world.provisioner(choice.place.cloud).self_action(node, "down")
    except StyxError:
        end = SelfEnd(kind="none")  # it can only tell for a machine that exists
    argv = revive.POWEROFF if end.kind == "poweroff" else end.argv
    return revive.boot_script(row.key, first_lease_s=first_lease_s(world, row, choice), end=argv)


def first_lease_s(world: World, row: ClusterRow, choice: Choice) -> float:
    """How long a machine runs without any lease: as set, and never longer than its own lease would allow."""
    settings = world.config.launch
    limits = [settings.first_lease or FIRST_LEASE_S + (settings.ready_timeout or 0.0)]
    if (age_s := row.lease.get("max_age_s")) is not None:
        limits.append(age_s - (world.now() - row.created_at).total_seconds())
    if (usd := row.lease.get("max_usd")) is not None and choice.usd_per_hour:
        limits.append(usd / choice.usd_per_hour * 3600)
    return max(1.0, min(limits))
