"""FakeDriver: the driver of FakeCloud, written as an author would write one for a vendor with an SDK.

In the order that every driver file follows: two tables, the settings, the class, and one function that turns the
vendor's machine into a `Node`. It uses every capability, so expect yours to be shorter.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from styx.plugin import (
    AmbiguousError,
    BalanceError,
    CapacityError,
    CatalogRow,
    CloudError,
    Context,
    CredentialsError,
    Driver,
    DriverConfig,
    DriverError,
    Ended,
    Endpoint,
    EndsItself,
    FeatureSet,
    HasVolumes,
    HasZones,
    Identity,
    Leftover,
    Limits,
    Local,
    MakesImages,
    Market,
    Node,
    NodeRequest,
    NodeState,
    OfferQuery,
    OpensPorts,
    Place,
    Problem,
    QuotaError,
    QuotesLive,
    Reach,
    ReportsQuota,
    SelfEnd,
    Ssh,
    Stoppable,
    TransientError,
    UnsupportedError,
    VendorDetail,
    Waiting,
    WarnsBeforeEnd,
)
from styx.testing.fakecloud.cloud import MARKER, FakeCloud, instance_of
from styx.testing.fakecloud.world import ApiError, ConnectionLost, Machine, MachineType, Status, World

STATES: dict[Status, NodeState] = {
    Status.BOOTING: NodeState.PENDING,
    Status.ACTIVE: NodeState.RUNNING,
    Status.HALTING: NodeState.STOPPING,
    Status.HALTED: NodeState.STOPPED,
    Status.BROKEN: NodeState.FAILED,
    Status.RECLAIMED: NodeState.TERMINATED,
    Status.DELETING: NodeState.TERMINATED,
    Status.GONE: NodeState.TERMINATED,
}
"""The vendor's status, and ours."""

ERRORS: dict[str, type[CloudError]] = {
    "bad_request": UnsupportedError,
    "in_use": TransientError,
    "internal": TransientError,
    "invalid_key": CredentialsError,
    "invalid_type": UnsupportedError,
    "out_of_stock": CapacityError,
    "payment_required": BalanceError,
    "quota_exceeded": QuotaError,
    "rate_limited": TransientError,
}
"""The vendor's error code, and what it tells the engine. Any other code is a `DriverError`."""

HINT = "Set FAKE_API_KEY to a key of the fake cloud; `fake-key` works unless the world was made with others."

P = ParamSpec("P")
R = TypeVar("R")


class FakeConfig(DriverConfig):
    """Settings under `clouds.fake`."""

    state_path: str | None = None
    """File with the cloud's books, shared between processes; by default `fakecloud/books.json` under `$STYX_HOME`."""
    real_nodes: bool = False
    """Give machines real home folders beside the books, so that agents can run on them."""


class FakeDriver(
    Driver[FakeConfig],
    Stoppable,
    OpensPorts,
    QuotesLive,
    ReportsQuota,
    HasVolumes,
    MakesImages,
    WarnsBeforeEnd,
    EndsItself,
    HasZones,
):
    """A cloud that exists only in memory or in one file.

    It talks to the `FakeCloud` in `Context.extra["fakecloud"]`, or else to the books named by its settings.
    """

    name = "fake"
    display_name = "Fake cloud"
    config_type = FakeConfig
    features = FeatureSet(
        stop=True, idempotent_create=True, ports="any_time", user_data=True, custom_image=True, container="docker"
    )
    limits = Limits(min_poll_s=0.05, listing_lag_s=5.0)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._creating = threading.Lock()
        self._made: dict[str, dict[int, str]] = {}  # token -> rank -> id, while listings may lag

    # --------------------------------------------------------------------------------------------------- who

    def check(self) -> Identity:
        """The account of the key, with every zone."""
        account = self._call(self._cloud.whoami, self._key)
        places = {
            self._place(account.id, region, zone): UnsupportedError(f"{region}: {closed}") if closed else None
            for (region, zone), closed in account.zones.items()
        }
        return Identity(account=account.id, user=account.user, places=places)

    # -------------------------------------------------------------------------------------------------- what

    def fetch(self) -> Iterable[CatalogRow]:
        """The price list, once for each zone and market."""
        types = self._call(self._cloud.price_list, self._key)
        account = self._call(self._cloud.whoami, self._key)
        now = self._at(self.context.clock())
        for (region, zone), closed in account.zones.items():
            if closed:
                continue
            for one in types:
                yield self._row(one, region, zone, Market.ON_DEMAND, one.usd_per_hour, now)
                if one.spot_usd_per_hour is not None:
                    yield self._row(one, region, zone, Market.SPOT, one.spot_usd_per_hour, now)

    def offers(self, query: OfferQuery, deadline_s: float) -> Sequence[CatalogRow]:  # noqa: ARG002 - the contract's
        """The rows that satisfy `query`; one call, so the deadline is the engine's to keep."""
        return [row for row in self.fetch() if _satisfies(row, query)]

    def quota(self, place: Place, row: CatalogRow) -> float | None:  # noqa: ARG002 - the contract's
        """What the vendor says is left in the region, whatever the type."""
        return self._call(self._cloud.machine_quota, self._key, place.region)

    def zone_named(self, place: Place, name: str, *, ask: bool) -> str:
        """One of the account's zones there; without asking, whatever begins with the region's name."""
        if ask:
            there = [zone for region, zone in self._call(self._cloud.whoami, self._key).zones if region == place.region]
        else:
            there = [name] if name.startswith(f"{place.region}-") else []
        if name not in there:
            raise UnsupportedError(f"the fake cloud has no zone {name} in {place.region}")
        return name

    # ---------------------------------------------------------------------------------------- make and unmake

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """A firewall group, an address, then one machine for each rank."""
        made: dict[int, Node] = {}
        with self._creating, self._reporting(made):
            made.update(self._existing(request))
            tags = self._tags(request.cluster)
            region = request.place.region
            group = self._cloud.create_thing(self._key, "group", region=region, name=request.cluster, tags=tags)
            self._cloud.create_thing(self._key, "address", region=region, name=request.cluster, tags=tags)
            for rank in range(request.count):
                if rank not in made:
                    machine = self._create_one(request, rank, group.id)
                    self._made.setdefault(request.token, {})[rank] = machine.id
                    made[rank] = self._node(machine)
        return [made[rank] for rank in sorted(made)]

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """One listing by tag; `known` nodes missing from it are given the listing's lag before they count as gone."""
        machines = self._call(self._list, place.region, self._tags(cluster))
        found = [self._node(one) for one in machines if place.zone in (None, one.zone)]
        ids = {node.id for node in found}
        lost = [node for node in known if node.id not in ids and cluster in (None, node.cluster)]
        return found + [self._missing(node) for node in lost if node.place == place]

    def terminate(self, nodes: Sequence[Node]) -> None:
        """Delete each machine; the vendor's `not_found` is what we wanted."""
        for node in nodes:
            self._unless_absent(self._cloud.delete_machine, self._key, node.id)

    def release(self, place: Place, cluster: str) -> None:
        """Delete the cluster's group and address."""
        for kind in ("address", "group"):
            for thing in self._call(
                self._cloud.list_things, self._key, kind, region=place.region, tags=self._tags(cluster)
            ):
                self._unless_absent(self._cloud.delete_thing, self._key, thing.id)

    def leftovers(self, place: Place) -> Sequence[Leftover]:
        """Addresses: they bill whether a machine uses them or not."""
        return self._leftovers("address", place, usd_per_hour=0.005)

    # ------------------------------------------------------------------------------------------- capabilities

    def stop(self, nodes: Sequence[Node]) -> None:
        """Halt each machine."""
        for node in nodes:
            self._unless_absent(self._cloud.halt_machine, self._key, node.id)

    def start(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Start each machine. A second call may still name the old ids, so machines are looked up by rank."""
        started = []
        for node in nodes:
            now = {one.rank: one for one in self.nodes(node.place, node.cluster)}
            current = now.get(node.rank, node)
            started.append(self._node(self._call(self._cloud.start_machine, self._key, current.id)))
        return started

    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Add to the machine's open ports."""
        for node in nodes:
            have = self._call(self._cloud.get_machine, self._key, node.id).ports
            self._call(self._cloud.set_ports, self._key, node.id, (*have, *ports))

    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Take from the machine's open ports."""
        for node in nodes:
            have = self._call(self._cloud.get_machine, self._key, node.id).ports
            self._call(self._cloud.set_ports, self._key, node.id, tuple(one for one in have if one not in ports))

    def volumes(self, place: Place) -> Sequence[Leftover]:
        """Volumes with our store's tag."""
        return self._leftovers("volume", place, usd_per_hour=None)

    def create_volume(
        self,
        place: Place,
        name: str,
        size_gib: float,
        options: Mapping[str, str],  # noqa: ARG002 - the contract's
    ) -> str:
        """The vendor keeps volume names unique, so a repeat returns the first one."""
        tags = self._tags(None)
        made = self._call(
            self._cloud.create_thing,
            self._key,
            "volume",
            region=place.region,
            name=f"{self.context.store}-{name}",
            tags=tags,
            size_gib=size_gib,
        )
        return made.id

    def delete_volume(self, place: Place, volume: str) -> None:  # noqa: ARG002 - the contract's
        """Delete it."""
        self._unless_absent(self._cloud.delete_thing, self._key, volume)

    def make_image(self, node: Node, name: str) -> str:
        """Copy the machine's disk."""
        tags = self._tags(None)
        image = self._call(
            self._cloud.create_thing,
            self._key,
            "image",
            region=node.place.region,
            name=f"{self.context.store}-{name}",
            tags=tags,
        )
        return image.id

    def notice_probe(self, node: Node) -> Sequence[str]:
        """A file in the machine's folder where it has one, else the vendor's metadata address."""
        if isinstance(node.reach, Local):
            return ("test", "-e", str(Path(node.reach.home).parent / "notice"))
        return ("curl", "--silent", "--fail", "--max-time", "2", "http://169.254.169.254/v1/notice")

    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:
        """A command that edits the books where there is a file, else a power-off, which here still bills the disk."""
        if self._cloud.path is None:
            return SelfEnd(kind="poweroff", stops_billing=action == "stop")
        argv = (sys.executable, "-m", "styx.testing.fakecloud.selfend", str(self._cloud.path), node.id, action)
        return SelfEnd(kind="command", argv=argv, stops_billing=True)

    # ----------------------------------------------------------------------------------------------- workings

    @cached_property
    def _cloud(self) -> FakeCloud:
        """The vendor's client: opened on first use, not in the constructor."""
        given = self.context.extra.get("fakecloud")
        if isinstance(given, FakeCloud):
            return given
        default = self.context.home / "fakecloud" / "books.json"
        path = Path(self.config.state_path) if self.config.state_path else default
        world = World(nodes_dir=str(path.parent / "nodes") if self.config.real_nodes else None)
        return FakeCloud(world, clock=self.context.clock, path=path)

    @property
    def _key(self) -> str:
        key = self.context.secrets("FAKE_API_KEY")
        if not key:
            raise CredentialsError("The fake cloud has no API key.", hint=HINT)
        return key

    def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """One API call, with its errors in our words."""
        try:
            return function(*args, **kwargs)
        except (ApiError, ConnectionLost) as error:
            raise self._translated(error) from None

    def _unless_absent(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """One API call for which `not_found` is success."""
        try:
            function(*args, **kwargs)
        except ApiError as error:
            if error.code != "not_found":
                raise self._translated(error) from None
        except ConnectionLost as error:
            raise self._translated(error) from None

    @contextmanager
    def _reporting(self, made: Mapping[int, Node]) -> Iterator[None]:
        """Errors of create say which machines exist; a lost reply says whether asking again is safe."""
        try:
            yield
        except ApiError as error:
            raise self._translated(error, tuple(made.values())) from None
        except ConnectionLost as error:
            if self._cloud.world.idempotent:
                raise TransientError(str(error), created=tuple(made.values())) from None
            raise AmbiguousError(str(error), settle_s=self.limits.listing_lag_s) from None

    @staticmethod
    def _translated(error: ApiError | ConnectionLost, created: Sequence[Node] = ()) -> CloudError:
        """The vendor's error as an instruction to the engine, with its own words kept."""
        if isinstance(error, ConnectionLost):
            return TransientError(str(error), created=created)
        kind = ERRORS.get(error.code, DriverError)
        vendor = VendorDetail(code=error.code, message=error.message, request_id=error.request_id)
        message = f"The fake cloud says {error.code}: {error.message}."
        if issubclass(kind, TransientError):
            return kind(message, retry_after_s=error.retry_after_s or 1.0, vendor=vendor, created=created)
        hint = HINT if kind is CredentialsError else None
        return kind(message, vendor=vendor, created=created, hint=hint)

    def _create_one(self, request: NodeRequest, rank: int, group: str) -> Machine:
        tags = {**request.labels, **self._tags(request.cluster), "styx-token": request.token, "styx-rank": str(rank)}
        return self._cloud.create_machine(
            self._key,
            zone=request.place.zone or self._cloud.world.regions[request.place.region][0],
            type=request.offer.instance_type,
            name=f"{request.cluster}-{rank}",
            tags=tags,
            client_token=f"{request.token}-{rank}",
            spot=request.offer.market is Market.SPOT,
            ssh_public_key=request.ssh_public_key,
            user_data=request.boot_script,
            image=request.image.ref if request.image else None,
            group=group,
            ports=request.ports,
            volumes=request.volumes,
            disk_gib=request.disk_gib,
        )

    def _existing(self, request: NodeRequest) -> dict[int, Node]:
        """Machines that this request has made already: those listed, and those made too recently to be listed."""
        tags = {**self._tags(request.cluster), "styx-token": request.token}
        found = {int(one.tags["styx-rank"]): self._node(one) for one in self._list(request.place.region, tags)}
        for rank, machine_id in self._made.get(request.token, {}).items():
            if rank not in found:
                found[rank] = self._node(self._cloud.get_machine(self._key, machine_id))
        return found

    def _list(self, region: str, tags: Mapping[str, str]) -> list[Machine]:
        """All pages."""
        machines: list[Machine] = []
        page: str | None = None
        while True:
            batch = self._cloud.list_machines(self._key, region=region, tags=tags, page=page)
            machines += batch.machines
            page = batch.next
            if page is None:
                return machines

    def _tags(self, cluster: str | None) -> dict[str, str]:
        """The tags by which things are ours, and, with `cluster`, that cluster's."""
        return {"styx-store": self.context.store, **({"styx-cluster": cluster} if cluster else {})}

    def _leftovers(self, kind: str, place: Place, usd_per_hour: float | None) -> list[Leftover]:
        things = self._call(self._cloud.list_things, self._key, kind, region=place.region, tags=self._tags(None))
        return [
            Leftover(
                id=one.id,
                kind=kind,
                place=place,
                cluster=one.tags.get("styx-cluster"),
                usd_per_hour=usd_per_hour,
                created_at=self._at(one.created_at),
            )
            for one in things
        ]

    def _missing(self, node: Node) -> Node:
        """A node that the listing does not show (yet, or any more)."""
        age = self.context.clock() - (node.created_at.timestamp() if node.created_at else 0.0)
        if age < self.limits.listing_lag_s or node.state is NodeState.TERMINATED:
            return node
        if node.state is NodeState.PENDING:
            problem = Problem(error="CapacityError", message="The machine was accepted and never appeared.")
            return node.model_copy(update={"state": NodeState.FAILED, "problem": problem, "waiting": None})
        ended = Ended(cause="unknown", message="The machine is no longer listed.")
        return node.model_copy(update={"state": NodeState.TERMINATED, "ended": ended, "reach": None})

    def _node(self, machine: Machine) -> Node:
        """The vendor's machine in our words."""
        state = STATES[machine.status(self.context.clock())]
        problem = ended = waiting = None
        if state is NodeState.FAILED:
            kind = ERRORS.get(machine.doom or "", DriverError)
            said = f"The machine broke while booting: {machine.doom}."
            problem = Problem.model_validate({"error": kind.__name__, "message": said, "code": machine.doom})
        elif state is NodeState.TERMINATED:
            ended = Ended(cause="preempted" if machine.reclaimed_at is not None else "requested")
        elif state is NodeState.PENDING:
            waiting = Waiting(kind="booting", reason="the machine boots", patience_s=300)
        running = state is NodeState.RUNNING
        host = "127.0.0.1" if machine.folder else machine.public_ip
        return Node(
            id=machine.id,
            cluster=machine.tags["styx-cluster"],
            rank=int(machine.tags["styx-rank"]),
            place=self._place(machine.account, machine.region, machine.zone),
            state=state,
            token=machine.tags.get("styx-token"),
            allocation=machine.id,
            problem=problem,
            waiting=waiting,
            ended=ended,
            reach=self._reach(machine) if running else None,
            endpoints={port: Endpoint(host=host, port=port, public=True) for port in machine.ports},
            private_ip="127.0.0.1" if machine.folder else machine.private_ip,
            public_ip=host,
            instance_type=machine.type,
            usd_per_hour=self._price(machine),
            created_at=self._at(machine.created_at),
        )

    def _reach(self, machine: Machine) -> Reach:
        if machine.folder is None:
            return Ssh(host=machine.public_ip, user="ubuntu")
        folder = Path(machine.folder)
        env = {"STYX_HOME": str(self.context.home), MARKER: instance_of(machine)}
        return Local(home=str(folder / "home"), state=str(folder / "state"), env=env)

    def _price(self, machine: Machine) -> float | None:
        for one in self._cloud.world.types:
            if one.name == machine.type:
                return one.spot_usd_per_hour if machine.spot else one.usd_per_hour
        return None

    def _place(self, account: str, region: str, zone: str) -> Place:
        return Place(cloud=self.name, account=account, region=region, zone=zone)

    def _row(
        self, one: MachineType, region: str, zone: str, market: Market, usd_per_hour: float, now: datetime
    ) -> CatalogRow:
        features = {"spot": market is Market.SPOT, "idempotent_create": self._cloud.world.idempotent}
        return CatalogRow(
            cloud=self.name,
            instance_type=one.name,
            region=region,
            zone=zone,
            market=market,
            vcpus=one.vcpus,
            memory_gib=one.memory_gib,
            accelerator_name=one.accelerator_name,
            accelerator_count=one.accelerator_count,
            accelerator_memory_gib=one.accelerator_memory_gib,
            accelerator_vendor="nvidia" if one.accelerator_name else None,
            usd_per_hour=usd_per_hour,
            features=self.features.model_copy(update=features),
            as_of=now,
            source="the fake cloud's price list",
        )

    @staticmethod
    def _at(seconds: float) -> datetime:
        return datetime.fromtimestamp(seconds, UTC)


def _satisfies(row: CatalogRow, query: OfferQuery) -> bool:
    """Whether a row meets every minimum of a query."""
    return (
        query.region in (None, row.region)
        and query.zone in (None, row.zone)
        and query.accelerator_name in (None, row.accelerator_name)
        and row.accelerator_count >= query.accelerator_count
        and (query.vcpus is None or (row.vcpus or 0) >= query.vcpus)
        and (query.memory_gib is None or (row.memory_gib or 0) >= query.memory_gib)
    )
