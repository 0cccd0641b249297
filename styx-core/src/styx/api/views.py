"""What calls return: frozen, JSON-serialisable, units in the names."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from styx.catalog.results import AcceleratorQuery as AcceleratorQuery
from styx.catalog.results import AcceleratorView as AcceleratorView
from styx.catalog.results import CatalogInfo as CatalogInfo
from styx.catalog.results import CatalogRefresh as CatalogRefresh
from styx.catalog.results import PriceRange as PriceRange
from styx.driver import Place, Value
from styx.state.rows import Attempt, ClusterState, Event, Rate


class PlannedOffer(Value):
    """One row of the plan that the user sees."""

    place: Place
    instance_type: str
    vcpus: float | None = None
    memory_gib: float | None = None
    accelerators: str | None = None
    market: str = "on_demand"
    usd_per_hour: float | None = None
    """For all nodes; None is unknown."""
    free: bool = False
    """The place costs nothing."""
    as_of: datetime | None = None
    """When the price was true."""
    source: str = ""
    """Where the price is from: a vendor's page, a file, or the plugin that overrides it."""


class LaunchPlan(Value):
    """What a launch would do."""

    cluster: str
    reuse: bool
    """The cluster exists and is used as it is."""
    num_nodes: int
    offers: tuple[PlannedOffer, ...]
    """Best first."""
    losers: tuple[tuple[str, str], ...] = ()
    """What was not chosen, and why."""
    lease: dict[str, Any] = Field(default_factory=dict)
    costs_money: bool
    """False when a launch needs no confirmation."""
    warnings: tuple[str, ...] = ()


class LaunchResult(Value):
    """A launch whose job was submitted (or that had nothing to run)."""

    cluster: str
    key: str
    job_id: int | None
    num_nodes: int = 1
    """Nodes that the job runs on."""
    place: Place | None
    seconds: dict[str, float] = Field(default_factory=dict)
    """Time spent in each step."""


class ClusterView(Value):
    """One cluster, as `styx status` shows it."""

    name: str
    key: str
    state: ClusterState
    infra: str
    """`cloud/region[/zone]`, or `-`."""
    nodes: int
    resources: str
    usd_per_hour: float | None
    usd_so_far: float | None
    """From the ledger; None when any part is unknown."""
    lease: dict[str, Any] = Field(default_factory=dict)
    user: str
    workspace: str
    created_at: datetime
    last_use_at: datetime
    seen_at: datetime | None
    """When the cloud or an agent was last asked."""
    note: str | None = None
    endpoints: dict[int, str] = Field(default_factory=dict)
    ips: tuple[str, ...] = ()


class JobView(Value):
    """One job, as `styx queue` shows it."""

    cluster: str
    job_id: int
    name: str | None
    user: str
    state: str
    exit_code: int | None
    reason: str | None = None
    num_nodes: int = 1
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class LogLine(Value):
    """A piece of a job's output, whole lines where possible."""

    rank: int
    stream: Literal["setup", "run", "driver"]
    data: bytes


class Orphan(Value):
    """A machine or a leftover that carries this installation's key and that should not be there."""

    id: str
    kind: str
    """`node`, `address`, `disk`, ..."""
    place: Place
    cluster_key: str | None
    cluster: str | None = None
    """Name of the cluster it belonged to, if known."""
    usd_per_hour: float | None = None
    usd_so_far: float | None = None
    created_at: datetime | None = None
    free: bool = False
    why: str = ""
    """Why it is listed: nobody remembers it, its client is gone, or its cluster is overdue."""
    deleted: bool = False
    error: str | None = None


class SweepReport(Value):
    """What a sweep saw."""

    orphans: tuple[Orphan, ...]
    unreadable: tuple[tuple[Place, str], ...] = ()
    """Places that could not be listed, and why: never called empty."""
    unended: tuple[tuple[str, str], ...] = ()
    """Clusters whose launch or down died with its client, that show no machine, and that could not be ended either."""


class Story(Value):
    """What happened to a cluster: for `styx why`."""

    cluster: str
    key: str
    state: ClusterState
    note: str | None
    attempts: tuple[Attempt, ...]
    events: tuple[Event, ...]


class CheckView(Value):
    """The result of checking one cloud."""

    cloud: str
    ok: bool
    account: str | None = None
    message: str = ""
    hint: str | None = None
    places: tuple[str, ...] = ()
    checked_at: datetime | None = None


class PermissionsView(Value):
    """What one cloud's credentials may do of what its driver needs."""

    cloud: str
    checked: bool
    """False: the driver has no such check, or it failed, for the reason in `message`."""
    missing: tuple[str, ...] = ()
    """By the vendor's names."""
    unknown: tuple[str, ...] = ()
    """Those that could not be asked about."""
    granted: int = 0
    """How many it has."""
    policy: str | None = None
    """A document of the vendor's that grants all."""
    message: str = ""
    hint: str | None = None


class CostItem(Value):
    """One kind of charge."""

    item: Literal["compute", "disk", "egress", "other"]
    usd: float | None
    """None when any part is unknown."""
    usd_known: float = 0.0
    """The part that is known."""
    estimated: bool = False
    """Worked out from a list price; otherwise it is what was written down, or free."""
    note: str | None = None
    """What an estimate was worked out from, or why the amount is not known."""


class CostView(Value):
    """One cluster in the cost report."""

    cluster: str
    key: str
    user: str
    infra: str
    state: ClusterState
    nodes: int
    hours: float
    usd: float | None
    """None when any interval's rate is unknown."""
    usd_known: float
    """The part that is known."""
    rates: tuple[Rate, ...] = ()
    items: tuple[CostItem, ...] = ()
    """Machine time, disks, traffic, each on its own; estimates are only here, never in `usd`."""


class CostGroup(Value):
    """One user, job or cloud in the cost report."""

    by: Literal["user", "job", "cloud"]
    name: str
    """The user, the cloud, or `cluster/job`; `cluster (no job)` is what was paid while no job ran."""
    cluster: str | None = None
    """Of a job."""
    job_id: int | None = None
    """Of a job; None for the time without one."""
    hours: float
    usd: float | None
    """From the ledger; None when any rate is unknown. Jobs that ran side by side share in equal parts."""
    usd_known: float
    """The part that is known."""
    items: tuple[CostItem, ...] = ()
    """Machine time, disks, traffic; estimates are only here, never in `usd`."""


class PlannedAlternative(Value):
    """What to try instead, in this order."""

    cloud: str
    region: str
    zone: str | None = None
    instance_type: str
    accelerators: str | None = None
    use_spot: bool = False
    usd_per_hour: float | None = None
    """For all nodes; None is unknown."""
    usd_more: float | None = None
    """How much more the whole plan would cost with it; None is unknown."""


class OptimizedTask(Value):
    """Where one task goes."""

    name: str
    cloud: str
    region: str
    zone: str | None = None
    instance_type: str
    accelerators: str | None = None
    use_spot: bool = False
    usd_per_hour: float | None = None
    """For all nodes; None is unknown."""
    alternatives: tuple[PlannedAlternative, ...] = ()


class OptimizeWhatIf(Value):
    """What the plan would be without one thing."""

    what: str
    feasible: bool = True
    usd_total: float | None = None
    usd_more: float | None = None
    seconds_total: float | None = None
    seconds_more: float | None = None
    where: str = ""
    binds: bool = False
    """It holds the plan back."""


class OptimizeDetails(Value):
    """What `--explain` shows, and what people want to know beside the plan."""

    num_nodes: tuple[int, ...] = ()
    """By task, in the plan's order."""
    hours: tuple[float, ...] = ()
    """Estimated run time by task."""
    usd: tuple[float | None, ...] = ()
    """Cost by task: machines, and transfers from and to outside the graph."""
    starts_s: tuple[float, ...] = ()
    """Earliest start by task, from the start of the first."""
    as_of: tuple[datetime | None, ...] = ()
    """How old the chosen prices are."""
    sources: tuple[str, ...] = ()
    """Where they are from."""
    usd_moved: float = 0.0
    """For transfers between tasks."""
    method: str = ""
    """Who found the plan: `tree` (exact), `milp`, `descent` (no solver installed) or `plugin`."""
    planning_s: float = 0.0
    losers: tuple[tuple[str, str, str], ...] = ()
    """Task, what lost, and why."""
    what_ifs: tuple[OptimizeWhatIf, ...] = ()
    infeasible: tuple[tuple[str, str], ...] = ()
    """What can't be had, and why."""
    warnings: tuple[str, ...] = ()


class OptimizeResult(Value):
    """A placement of all tasks. `optimize --json` prints it without `details`."""

    status: Literal["optimal", "feasible", "infeasible", "unknown"]
    """`feasible`: within `gap` of the optimum. `unknown`: none was found in time, and there may be one."""
    objective: Literal["cost", "time"]
    usd_total: float | None = None
    """None is unknown."""
    seconds_total: float | None = None
    gap: float | None = None
    """Proven relative distance from the optimum; 0 when optimal."""
    tasks: tuple[OptimizedTask, ...] = ()
    """Empty when there is no plan; `details.infeasible` says why."""
    details: OptimizeDetails = Field(default_factory=OptimizeDetails)
