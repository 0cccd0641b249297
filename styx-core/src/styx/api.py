"""What the CLI, the TUI, add-ons and programs call. Arguments and results are JSON-serialisable.

`connect()` returns the in-process engine; later also a client of a team server. Nothing heavy is imported until a call
needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from styx.driver import Place, Value
from styx.models import Task
from styx.state.rows import Attempt, ClusterState, Event, Rate


class LaunchOptions(Value):
    """How to launch, beside the task itself."""

    cluster: str | None = None
    """Name of the cluster to make or re-use; None means a fresh name."""
    fast: bool = False
    """Skip provisioning and set-up when the cluster is up."""
    no_setup: bool = False
    """Skip set-up."""
    retry_until_up: bool = False
    """When every place refuses, try again with growing pauses."""
    retry_for_s: float = 86400.0
    """Longest time for `retry_until_up`."""
    idle_minutes: float | None = None
    """Idle minutes to autostop (or autodown with `down`)."""
    down: bool = False
    """End the cluster when idle; with idle_minutes None, as soon as the job ends."""
    wait_for: Literal["jobs", "jobs_and_ssh", "none"] = "jobs_and_ssh"
    """What counts as activity."""


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
    """A machine or a leftover that carries this installation's key and that no live cluster remembers."""

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
    deleted: bool = False
    error: str | None = None


class SweepReport(Value):
    """What a sweep saw."""

    orphans: tuple[Orphan, ...]
    unreadable: tuple[tuple[Place, str], ...] = ()
    """Places that could not be listed, and why: never called empty."""


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


class CostView(Value):
    """One line of the cost report."""

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


Say = Callable[[Event], None]
"""Receives each event of a running operation as it happens."""


class Client(Protocol):
    """Every call of Styx. Names accept globs where `names` is plural. Errors are `StyxError`s."""

    def plan(self, task: Task, options: LaunchOptions) -> LaunchPlan:
        """What `launch` would do; touches nothing.

        Raises:
            NotExecutable: The task uses fields that no place executes.
            NoPlaceLeft: Nothing fits; the message says why.
        """

    def launch(self, task: Task, options: LaunchOptions, say: Say | None = None) -> LaunchResult:
        """Make or re-use the cluster and submit the job; returns once the job is submitted.

        KeyboardInterrupt inside it stops the launch and becomes `Interrupted`, whose message says what exists.
        """

    def exec(self, task: Task, cluster: str, say: Say | None = None) -> LaunchResult:
        """Submit the task's `run` to an existing cluster: no provisioning, no set-up; syncs a workdir."""

    def tail(
        self, cluster: str, job_id: int | None = None, *, follow: bool = True, tail: int = 0, ranks: Sequence[int] = ()
    ) -> Iterator[LogLine]:
        """Output of a job (default: the newest), from the nodes, or from the kept copy when they are gone.

        `tail` > 0 starts with the last lines of each stream. Survives dropped connections without losing or doubling a byte.
        """

    def wait(self, cluster: str, job_id: int, timeout_s: float | None = None) -> JobView:
        """The job once it has ended."""

    def job(self, cluster: str, job_id: int | None = None) -> JobView:
        """The job as it is now (default: the newest)."""

    def queue(self, names: Sequence[str] = (), *, skip_finished: bool = False) -> list[JobView]:
        """Jobs of these clusters (all, when empty)."""

    def cancel(self, cluster: str, job_ids: Sequence[int] = (), *, every: bool = False) -> list[int]:
        """Cancel jobs (none named and not `every`: the newest running one); returns those cancelled, all dead."""

    def sync_down(self, cluster: str, job_ids: Sequence[int], target: Path) -> dict[int, Path]:
        """Copy whole logs to `target`; returns the folder of each job."""

    def status(self, names: Sequence[str] = (), *, refresh: bool = False) -> list[ClusterView]:
        """Clusters, newest first; `refresh` asks the clouds."""

    def stop(self, names: Sequence[str], say: Say | None = None) -> list[str]:
        """Stop clusters; returns the names that were stopped."""

    def start(self, names: Sequence[str], say: Say | None = None, *, retry_until_up: bool = False) -> list[str]:
        """Start stopped clusters."""

    def down(self, names: Sequence[str], say: Say | None = None, *, purge: bool = False) -> list[str]:
        """End clusters for good; resumable. `purge` forgets the record even if the cloud fails, and says so."""

    def autostop(
        self, names: Sequence[str], *, idle_minutes: float | None, down: bool = False, wait_for: str = "jobs_and_ssh"
    ) -> list[str]:
        """Set the idle limit; None cancels it."""

    def why(self, cluster: str) -> Story:
        """What happened, newest generation of that name, ended ones too."""

    def sweep(self, *, delete: bool = False, clouds: Sequence[str] = ()) -> SweepReport:
        """Find (and end) machines with our key that nobody remembers."""

    def check(self, clouds: Sequence[str] = ()) -> list[CheckView]:
        """Ask clouds who we are, in parallel, and remember which are enabled."""

    def enabled(self) -> list[CheckView]:
        """What the last check recorded; asks nothing."""

    def cost_report(self, *, days: int = 30, every: bool = False) -> list[CostView]:
        """What was spent, from the ledger."""

    def interactive(self, cluster: str, *, node: int = 0, argv: Sequence[str] = ()) -> int:
        """Give the terminal to a shell (or `argv`) on a node; returns its exit code."""

    def names(self) -> list[str]:
        """Live cluster names, for completion."""

    def close(self) -> None:
        """Give back connections."""


def connect(
    *, home: Path | None = None, config: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Client:
    """The in-process engine over `$STYX_HOME` (default `~/.styx`).

    Args:
        home: Instead of `$STYX_HOME`.
        config: `--config` values: paths or `a.b=v` pairs.
        environ: Instead of the process environment.
    """
    from styx.provision.engine import Engine

    return Engine.open(home=home, config=config, environ=environ)
