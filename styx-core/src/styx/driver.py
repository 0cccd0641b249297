"""The driver contract: what a cloud tells Styx, and what Styx asks of it.

Values first (all frozen, JSON-serialisable; `Place` and `Node` are persisted), then the three roles (`Cloud`,
`CatalogSource`, `Provisioner`), then the capability mixins. A one-file cloud subclasses `Driver`.

A driver never waits, never sleeps and never retries: the engine calls it again, in a thread, behind a deadline. It may
be called from several threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from styx.errors import StyxError, Unreachable, UnsupportedError

if TYPE_CHECKING:
    from styx.transport.base import Transport


class Value(BaseModel):
    """Base of every frozen value that crosses a boundary."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


# --------------------------------------------------------------------------------------------------------- values


class Place(Value):
    """Where machines are listed and released: one account in one region or context, sometimes one zone. Persisted."""

    cloud: str
    """The driver's name."""
    account: str
    """The account as `Cloud.check` names it; two accounts are two places."""
    region: str
    """Region, Kubernetes context, Slurm cluster or SSH pool."""
    zone: str | None = None
    """Zone or partition, when machines are made in one."""

    def __str__(self) -> str:
        """`cloud/region[/zone]`, as users write it."""
        return "/".join(part for part in (self.cloud, self.region, self.zone) if part)


class FeatureSet(Value):
    """What one catalog row can do. Defaults come from `Cloud.features`."""

    stop: bool = False
    """The machine can be stopped and started with its disk kept."""
    stop_saves_money: bool = True
    """Stopping ends the charge for the machine."""
    spot: bool = False
    """The row's machines may be taken away by the cloud."""
    multi_node: bool = True
    """Several nodes can work as one cluster."""
    private_network: bool = True
    """Nodes of one cluster reach each other on private addresses."""
    idempotent_create: bool = False
    """A repeated create with the same token makes nothing new, by the cloud's own promise."""
    ports: Literal["any_time", "at_create", "never"] = "never"
    """When inbound ports can be opened."""
    user_data: bool = False
    """A boot script is run by the machine."""
    custom_image: bool = False
    """The user may name a machine image."""
    container: Literal["node", "docker", "pyxis", "none"] = "none"
    """How a docker image is run: as the node itself, by docker on it, by pyxis, or not at all."""
    fuse: bool = False
    """Buckets can be mounted with FUSE."""
    mounts: bool = False
    """Bucket mounts are executed."""
    volumes: bool = False
    """Named volumes are mounted when the node is made (`NodeRequest.mounts`)."""
    absolute_paths: bool = True
    """File mounts may land outside the node's home."""
    disk_tiers: bool = False
    """The root disk can be of the task's `disk_tier`."""


class Limits(Value):
    """The cloud's own limits, for names and pacing."""

    name_length: int = 63
    """Longest machine name."""
    user_data_bytes: int = 16384
    """Longest boot script."""
    max_ports: int = 50
    """Most ports that can be opened."""
    max_nodes: int = 1000
    """Most nodes of one cluster."""
    min_poll_s: float = 1.0
    """Shortest pause between two listings."""
    listing_lag_s: float = 0.0
    """How long a created machine may be missing from a listing."""


class Market(StrEnum):
    """How a row is sold."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    BID = "bid"
    RESERVED = "reserved"


class CatalogRow(Value):
    """One thing that can be bought in one place on one market."""

    cloud: str
    """The driver's name."""
    instance_type: str
    """The cloud's own name for the machine shape."""
    region: str
    """Region, context, cluster or pool."""
    zone: str | None = None
    """Zone, when the price or the stock depends on it."""
    market: Market = Market.ON_DEMAND
    """How it is sold."""
    vcpus: float | None = None
    """Virtual processors; None is unknown."""
    memory_gib: float | None = None
    """Main memory in GiB; None is unknown."""
    arch: Literal["x86_64", "arm64"] = "x86_64"
    """Processor architecture."""
    accelerator_name: str | None = None
    """Canonical accelerator name, such as `H100`."""
    accelerator_count: float = 0
    """Accelerators per machine."""
    accelerator_memory_gib: float | None = None
    """Memory of one accelerator in GiB."""
    accelerator_vendor: str | None = None
    """`nvidia`, `amd`, `google`, ..."""
    local_disk_gib: float | None = None
    """Instance storage included in the price, in GiB."""
    usd_per_hour: float | None = None
    """Price of one machine for one hour; None is unknown, and never 0 for a paid machine."""
    network_tier: Literal["standard", "best"] = "standard"
    """`best` has RDMA, EFA or the like."""
    features: FeatureSet | None = None
    """What this row can do; None means `Cloud.features`."""
    ref: str | None = None
    """Opaque, reversible reference for the provisioner."""
    as_of: datetime | None = None
    """When the figures were true."""
    ttl_s: float | None = None
    """How long to believe them; None means until the next refresh."""
    source: str = ""
    """Where the figures come from: an API, a page, a snapshot."""


class OfferQuery(Value):
    """What a live quote is asked for. All limits are minima."""

    region: str | None = None
    """Only this region."""
    zone: str | None = None
    """Only this zone."""
    accelerator_name: str | None = None
    """Only rows with this accelerator."""
    accelerator_count: float = 0
    """At least so many."""
    vcpus: float | None = None
    """At least so many processors."""
    memory_gib: float | None = None
    """At least so much memory."""


class Image(Value):
    """What a machine boots or runs."""

    kind: Literal["machine", "container"]
    """`machine`: the cloud's own image id; `container`: a docker reference."""
    ref: str
    """The id or reference."""


class Ssh(Value):
    """Reached over SSH."""

    kind: Literal["ssh"] = "ssh"
    host: str
    """An address, a name, or an alias of the user's `~/.ssh/config`."""
    port: int = 22
    """22 gives way to what the user's SSH config says."""
    user: str
    """Empty: as the user's SSH config says, else the user's own name."""
    host_key: str | None = None
    """The host's public key (`ssh-ed25519 AAAA...`); no other is accepted. None: trusted on first use, then kept."""
    jump: str | None = None
    """Hosts to go through, `[user@]host[:port]`, several separated by commas."""
    options: dict[str, str] = Field(default_factory=dict)
    """A few options by their names in ssh_config(5); see `styx.transport.ssh.target.SSH_OPTIONS`."""


class Exec(Value):
    """Reached by running a local command that executes its last arguments on the node."""

    kind: Literal["exec"] = "exec"
    argv: tuple[str, ...]
    home: str = "~"


class Local(Value):
    """A folder of this machine that acts as a node's home."""

    kind: Literal["local"] = "local"
    home: str
    """The node's home folder, absolute."""
    state: str
    """The agent's state folder, absolute, outside `home`."""
    env: dict[str, str] = Field(default_factory=dict)
    """Variables that every process of the node carries."""


class PluginReach(Value):
    """Reached in a way that only the cloud's own plugin knows: its class has `MakesTransport`."""

    kind: Literal["plugin"] = "plugin"
    cloud: str
    """The driver's name."""
    target: dict[str, str] = Field(default_factory=dict)
    """What the plugin needs to find the node again; never secret."""


Reach = Annotated[Ssh | Exec | Local | PluginReach, Field(discriminator="kind")]
"""How the engine gets to a node."""


class NodeState(StrEnum):
    """What the cloud says of a node."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"
    FAILED = "failed"
    UNREACHABLE = "unreachable"


class Waiting(Value):
    """Why a pending node is not running yet, and how long the cloud asks for patience."""

    kind: Literal["queued", "scaling", "pulling", "booting"]
    reason: str = ""
    patience_s: float = 600.0


class Ended(Value):
    """Why a node is no more."""

    cause: Literal["preempted", "evicted", "walltime", "oom", "hardware", "balance", "requested", "unknown"]
    code: str | None = None
    message: str | None = None


class Problem(Value):
    """Why a node failed after the cloud had accepted it: the name of an error class and its words."""

    error: Literal[
        "CredentialsError",
        "BalanceError",
        "QuotaError",
        "CapacityError",
        "TransientError",
        "UnsupportedError",
        "DriverError",
    ]
    message: str
    code: str | None = None


class Endpoint(Value):
    """Where a port of a node can be reached."""

    url: str | None = None
    host: str | None = None
    port: int | None = None
    public: bool = False


class Node(Value):
    """One machine, pod, container or process group, as the cloud shows it. Persisted."""

    id: str
    """The cloud's id; may change when a stopped node starts."""
    cluster: str
    """The cluster key it carries."""
    rank: int
    """Stable number within the cluster, from 0."""
    place: Place
    """Where it is."""
    state: NodeState
    """What the cloud says."""
    token: str | None = None
    """The token of the request that made it, when the cloud keeps it."""
    allocation: str | None = None
    """Nodes of one allocation live and die together."""
    problem: Problem | None = None
    """Set when `state` is failed."""
    waiting: Waiting | None = None
    """Set while pending."""
    ended: Ended | None = None
    """Set when the cloud knows why it ended."""
    reach: Reach | None = None
    """Set as soon as the node can be reached."""
    endpoints: dict[int, Endpoint] = Field(default_factory=dict)
    """Opened ports."""
    private_ip: str | None = None
    """Address inside the cluster."""
    public_ip: str | None = None
    """Address from outside."""
    instance_type: str | None = None
    """The shape that was really made."""
    usd_per_hour: float | None = None
    """The price charged now; None is unknown."""
    created_at: datetime | None = None
    """When the cloud made it."""
    disk_gib: float | None = None
    """The root disk as it was made, where that is charged apart; None is unknown."""
    data: dict[str, Any] = Field(default_factory=dict)
    """Private to the driver, JSON, never secret; handed back as `known`."""


class Leftover(Value):
    """A thing of ours that bills or spawns without being a node: an address, a disk, a persistent bid."""

    id: str
    kind: str
    place: Place
    cluster: str | None = None
    name: str | None = None
    """Of a named volume: what the user calls it."""
    size_gib: float | None = None
    """Of a disk or volume."""
    usd_per_hour: float | None = None
    created_at: datetime | None = None


class NodeRequest(Value):
    """A gang of nodes to be made. The same request is repeated until no node is pending."""

    token: str
    """Idempotency token: 32 hex characters, fresh for each attempt."""
    cluster: str
    """The cluster key: `styx-<slug>-<store><generation>`, at most 24 characters; node names append `-<rank>`."""
    store: str
    """This installation's id; every machine must carry it, in a tag or in its name."""
    place: Place
    """Where."""
    offer: CatalogRow
    """What."""
    count: int = 1
    """How many, ranks 0 to count - 1."""
    image: Image | None = None
    """None means the driver's default."""
    ssh_public_key: str | None = None
    """OpenSSH public key that must open the node."""
    host_key: SecretStr | None = None
    """Private host key to install, when user data is supported."""
    boot_script: str | None = None
    """Run by the machine at each boot, when user data is supported. Until a client has set the machine up, it may end
    the machine by what `self_action` said for "down": a power-off must mean that from the first boot on."""
    env: dict[str, str] = Field(default_factory=dict)
    """For clouds whose nodes are containers."""
    ports: tuple[int, ...] = ()
    """To be opened at creation, when features.ports is not `never`."""
    disk_gib: float | None = None
    """Root disk."""
    disk_tier: str | None = None
    """low, medium, high, ultra or best."""
    network_tier: Literal["standard", "best"] | None = None
    """`best` asks for the fastest network between the nodes that the offer has."""
    volumes: tuple[str, ...] = ()
    """Ids of volumes to attach."""
    mounts: dict[str, str] = Field(default_factory=dict)
    """Path on the node to the volume mounted there (`ID`, or `ID:FOLDER` for a folder of it), for clouds that mount
    volumes when they make the node (`features.volumes`)."""
    labels: dict[str, str] = Field(default_factory=dict)
    """The user's own tags."""
    network: dict[str, str] = Field(default_factory=dict)
    """Driver-specific network choices from the config."""
    bid_usd_per_hour: float | None = None
    """Highest price on bid markets."""
    ends_at: datetime | None = None
    """A deadline given to the cloud at creation, where it takes one."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Driver-specific options from the config, already validated by the driver's config_type."""


class DiskPrice(Value):
    """List price of the disk under one machine, in US dollars a month: for estimates, never for what was charged."""

    usd: float
    """While the machine runs."""
    usd_stopped: float | None = None
    """While it is stopped; None is the same."""
    gib: float | None = None
    """The size that is meant; None where the price does not depend on it."""
    as_of: date | None = None
    """When the price was read."""
    source: str = ""
    """Where: the vendor's page."""


class SelfEnd(Value):
    """What a node does to end itself when its lease runs out."""

    kind: Literal["command", "poweroff", "exit", "none"]
    argv: tuple[str, ...] = ()
    stops_billing: bool = False


# ---------------------------------------------------------------------------------------------------------- roles


class DriverConfig(Value):
    """Base of a driver's own settings, read from `clouds.<name>` of the config; every field has a docstring."""

    model_config = ConfigDict(use_attribute_docstrings=True)


@dataclass(frozen=True)
class Identity:
    """Who we are at a cloud.

    Attributes:
        account: Stable name of the account (an id, never a secret).
        places: Every place that can be used, with None, or the reason why it can't.
        user: For display.
        notes: What `styx check` says beside that, and what stops nothing: one host of many that does not answer.
    """

    account: str
    places: Mapping[Place, StyxError | None]
    user: str | None = None
    notes: Sequence[str] = ()


class Permissions(Value):
    """Which of the vendor's permissions, by its own names, the credentials have."""

    granted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Those that could not be asked about."""
    policy: str | None = None
    """Path of a document, in the vendor's format, that grants all that is needed."""


@dataclass(frozen=True)
class Completed:
    """A command that ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class SshFailed(Unreachable):
    """A host was not reached over SSH, or lost while a command ran.

    Attributes:
        reason: At which step. Only after `lost` may the command have run.
    """

    def __init__(
        self,
        message: str,
        reason: Literal["dns", "refused", "timeout", "no_route", "proxy", "not_ssh", "host_key", "auth", "lost"],
        *,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class SshDoor(Protocol):
    """How a driver runs a command on a host that exists already: logins, keys and host keys are the engine's."""

    def run(self, reach: Ssh, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` in the login's home folder, to its end. Logins are kept and shared with the engine.

        Raises:
            SshFailed: The host was not reached, or lost meanwhile.
            DeadlineExceeded: The command did not end in time; it may still run.
        """

    def host_key(self, reach: Ssh) -> str:
        """The public key that the host proved to have, for `Ssh.host_key` of nodes.

        Raises:
            SshFailed: The host was not reached.
        """


@dataclass(frozen=True)
class Context:
    """All that a driver may know of the world; it reads nothing else, the process environment included.

    Attributes:
        workspace: Name of the workspace.
        user: Who acts, for tags.
        store: This installation's id.
        config: The driver's own settings, validated by its `config_type`.
        secrets: Environment-like look-up for credentials (`secrets("LAMBDA_API_KEY")`).
        clock: Unix seconds.
        http: Makes an HTTP client; only REST drivers call it.
        ssh: Runs commands on hosts; only drivers of machines that exist already call it.
        home: `$STYX_HOME`.
        user_home: The user's home folder, for credential files of the vendors' own conventions.
        remote: True on a node or server, where the environment must not be read for secrets.
    """

    workspace: str
    user: str
    store: str
    config: DriverConfig
    home: Path
    user_home: Path
    secrets: Callable[[str], str | None]
    clock: Callable[[], float]
    http: Callable[[], Any] | None = None
    remote: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    ssh: SshDoor | None = None


ConfigT = TypeVar("ConfigT", bound=DriverConfig)


class Cloud(ABC):
    """Who the cloud is."""

    name: ClassVar[str]
    """Equal to the entry point's name."""
    display_name: ClassVar[str]
    """For people."""
    config_type: ClassVar[type[DriverConfig]] = DriverConfig
    """Validates `clouds.<name>` of the config."""
    features: ClassVar[FeatureSet] = FeatureSet()
    """Defaults for the rows."""
    limits: ClassVar[Limits] = Limits()
    """The cloud's limits."""
    plugin_api: ClassVar[int] = 1
    """The plugin API version this driver was written for; see `styx.plugin.API_VERSION`."""
    free: ClassVar[bool] = False
    """Its machines cost nothing and hold no credentials: a launch there asks nothing."""

    @abstractmethod
    def check(self) -> Identity:
        """The account and its places. Costs nothing.

        Raises:
            CredentialsError: Says in `hint` how to fix it.
        """

    def account(self) -> str:
        """The account's name as `check` gives it, for comparison. Override it where `check` asks for much more.

        Raises:
            CredentialsError: As `check` does.
        """
        return self.check().account

    def former_accounts(self) -> Collection[str]:
        """Other names under which places of this account may be on record: where its name may change, and it stays."""
        return ()

    def account_hint(self, account: str) -> str | None:  # noqa: ARG002 - for drivers
        """What a user sets who knows that `account`, a name on record, is of the account behind the credentials."""
        return None

    def missing_permissions(self) -> Permissions | None:
        """What the credentials are not allowed to do and the driver needs. Changes nothing; None is no such check."""
        return None

    def disk_usd_per_gib_month(self, place: Place, tier: str | None) -> float | None:  # noqa: ARG002 - for drivers
        """List price of the disk under a machine, by the task's `disk_tier`, for estimates in the cost report.

        None is unknown; 0 where disks come with the machine.
        """
        return 0.0 if self.free else None

    def disk_price(
        self,
        place: Place,
        offer: CatalogRow | None,  # noqa: ARG002 - for drivers
        gib: float | None,
        tier: str | None,
    ) -> DiskPrice | None:
        """The same for one disk. Override it where the price has a date, a part for speed, or another one when stopped.

        Args:
            place: Where the machine is.
            offer: What it was made from, where that is known.
            gib: The size it has, else the one that was asked for; None is neither.
            tier: The task's `disk_tier`.
        """
        usd = self.disk_usd_per_gib_month(place, tier)
        if usd == 0:
            return DiskPrice(usd=0.0)
        return None if usd is None or gib is None else DiskPrice(usd=usd * gib, gib=gib)


class CatalogSource(ABC):
    """What can be bought."""

    def snapshot(self) -> Path | None:
        """A CSV or Parquet file shipped in the wheel, with the date its figures were true; None when there is none."""
        return None

    @abstractmethod
    def fetch(self) -> Iterable[CatalogRow]:
        """Rows live from the vendor's interface."""


class Provisioner(ABC):
    """Make and unmake machines. Never waits, never retries, never sleeps."""

    @abstractmethod
    def create(self, request: NodeRequest) -> Sequence[Node]:
        """Do the next possible step and return all nodes of the request as they are now.

        Called again with the same request until no node is pending. Idempotent on `request.token`: a repeat never
        makes more than `request.count` machines.

        Raises:
            CloudError: Any of the taxonomy; `.created` lists machines that do exist.
        """

    @abstractmethod
    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """Machines of this installation (`Context.store`) in `place`, of one cluster or (None) of all.

        One paged call answers for all clusters. Machines without this installation's key are never returned.
        `known` are nodes that the engine remembers: one that never appeared in a listing can be reported failed.
        """

    @abstractmethod
    def terminate(self, nodes: Sequence[Node]) -> None:
        """End these machines for good. One that is absent already is not an error. Returns without waiting."""

    def release(self, place: Place, cluster: str) -> None:  # noqa: B027 - most clouds have nothing to release
        """Remove groups, keys, addresses and volumes made for the cluster. Re-entrant; once per place ever tried."""

    def leftovers(self, place: Place) -> Sequence[Leftover]:  # noqa: ARG002 - overridden where there are any
        """Things of this installation in `place` that bill or spawn without being nodes."""
        return ()

    def discard(self, leftover: Leftover) -> None:
        """Remove one of `leftovers`. One that is absent already is not an error. `release` is for whole clusters."""
        if leftover.cluster is None:
            raise UnsupportedError(f"{leftover.kind} {leftover.id} in {leftover.place} belongs to no cluster")
        self.release(leftover.place, leftover.cluster)


class Driver(Cloud, CatalogSource, Provisioner, Generic[ConfigT]):
    """A cloud in one class: identity, catalog and provisioner."""

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        self.context = context

    @property
    def config(self) -> ConfigT:
        """The driver's own settings."""
        return self.context.config  # type: ignore[return-value] # the Hub validated it with config_type


# --------------------------------------------------------------------------------------------------- capabilities


class Stoppable(ABC):
    """Machines can be stopped with their disks kept."""

    @abstractmethod
    def stop(self, nodes: Sequence[Node]) -> None:
        """Stop these machines. Idempotent; returns without waiting."""

    @abstractmethod
    def start(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Start these machines and return their replacements (ids may change; ranks do not). Idempotent."""


class OpensPorts(ABC):
    """Inbound ports can be opened after creation."""

    @abstractmethod
    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Open these ports on these nodes. Idempotent."""

    @abstractmethod
    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Close these ports. One that is closed already is not an error."""


class QuotesLive(ABC):
    """Offers are made to measure or vanish: ask when planning."""

    @abstractmethod
    def offers(self, query: OfferQuery, deadline_s: float) -> Sequence[CatalogRow]:
        """Rows that can be had now, within `deadline_s` seconds."""


class ReportsQuota(ABC):
    """The account's quotas can be asked for."""

    @abstractmethod
    def quota(self, place: Place, row: CatalogRow) -> float | None:
        """How many machines of this row the account may still make; None is unknown."""


class HasVolumes(ABC):
    """Named volumes live apart from machines."""

    @abstractmethod
    def volumes(self, place: Place) -> Sequence[Leftover]:
        """Volumes of this installation."""

    @abstractmethod
    def create_volume(self, place: Place, name: str, size_gib: float, options: Mapping[str, str]) -> str:
        """Make a volume and return its id. Idempotent on the name."""

    @abstractmethod
    def delete_volume(self, place: Place, volume: str) -> None:
        """Delete it. Absent is not an error."""


class MakesImages(ABC):
    """A stopped machine's disk can become an image."""

    @abstractmethod
    def make_image(self, node: Node, name: str) -> str:
        """Make an image and return its id. Idempotent on the name."""


class WarnsBeforeEnd(ABC):
    """Nodes learn of their preemption in advance."""

    @abstractmethod
    def notice_probe(self, node: Node) -> Sequence[str]:
        """Command that the agent polls on the node; exit code 0 means that the end is near."""


class EndsItself(ABC):
    """Nodes can stop or terminate themselves."""

    def prepare_self_action(self, nodes: Sequence[Node], action: Literal["stop", "down"]) -> None:  # noqa: B027
        """Called before nodes are told to end themselves with `action`, each time that this may have changed.

        For clouds where a node can't choose between the two, and what its power-off means is set from outside: a new
        machine is made with "down". Idempotent.
        """

    @abstractmethod
    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:
        """What the node runs to end itself."""


class HasZones(ABC):
    """Regions have zones, and machines can be held to one: rows without a zone stand for any zone of their region."""

    @abstractmethod
    def zone_named(self, place: Place, name: str, *, ask: bool) -> str:
        """The zone of `place`'s region that a user means by `name`, as rows and nodes of this cloud name it.

        Args:
            place: A region.
            name: As the user wrote it; a name that rows use is its own answer.
            ask: Whether the cloud may be asked; otherwise say what is known without it.

        Raises:
            UnsupportedError: The region has no such zone; the message says what it has, or how its zones are named.
            CloudError: The cloud gave no answer.
        """


class MakesTransport(ABC):
    """Nodes are reached in the cloud's own way: they have a `PluginReach`."""

    @abstractmethod
    def transport(self, reach: PluginReach) -> Transport:
        """A `styx.transport.base.Transport` to the node.

        Raises:
            Unreachable: It could not be reached.
        """


CAPABILITIES: tuple[type, ...] = (
    Stoppable,
    OpensPorts,
    QuotesLive,
    ReportsQuota,
    HasVolumes,
    MakesImages,
    WarnsBeforeEnd,
    EndsItself,
    HasZones,
    MakesTransport,
)
"""Every capability mixin."""


def capabilities(driver: type | object) -> frozenset[str]:
    """Names of the capability mixins among the bases of a driver class or instance: nothing to keep in step."""
    cls = driver if isinstance(driver, type) else type(driver)
    return frozenset(mixin.__name__ for mixin in CAPABILITIES if issubclass(cls, mixin))
