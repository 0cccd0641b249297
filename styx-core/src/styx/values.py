"""The values of the driver contract: frozen and JSON-serialisable. `Place` and `Node` are persisted.

Everybody imports them from `styx.driver`, plugins from `styx.plugin`.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class Value(BaseModel):
    """Base of every frozen value that crosses a boundary."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


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
    local_disk_kind: Literal["nvme", "ssd", "hdd"] | None = None
    """Of what kind that storage is; None is unknown."""
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
    """Set when the cloud knows why it ended. A failed node with it is no more; one without it may exist and bill."""
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
    first_lease_s: float | None = None
    """How long a node may run without a lease of its agent before it ends itself, for clouds that run no boot script:
    `boot_script` sees to it where there is one."""
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
    """What a node does to end itself when its lease runs out.

    A command is run again, after growing pauses, until its exit code is 0; one try may take two minutes.
    """

    kind: Literal["command", "poweroff", "exit", "none"]
    argv: tuple[str, ...] = ()
    stops_billing: bool = False
