"""The client protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from styx.api.views import (
    AcceleratorQuery,
    AcceleratorView,
    CatalogInfo,
    CatalogRefresh,
    CheckView,
    ClusterView,
    CostGroup,
    CostView,
    JobView,
    LaunchPlan,
    LaunchResult,
    LogLine,
    OptimizeResult,
    PermissionsView,
    Story,
    SweepReport,
)
from styx.driver import Place
from styx.provision.volumes import VolumeView
from styx.state.rows import Event

if TYPE_CHECKING:
    from styx.models import Document, JobGroup, Pipeline, Task, VolumeSpec
    from styx.models.forwards import PortForward
    from styx.provision.options import LaunchOptions, OptimizeOptions
    from styx.provision.sshconfig import SshSetup

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

    def optimize(
        self,
        tasks: Document | Task | Pipeline | JobGroup | Sequence[Task],
        edges: Sequence[tuple[str, str, float]] = (),
        options: OptimizeOptions | None = None,
    ) -> OptimizeResult:
        """Where all tasks should run, planned together; touches nothing.

        Args:
            tasks: A document, or tasks. Those of a pipeline follow each other; those of a connected group share a
                region.
            edges: More order: (task, the task after it, GB that flows), by name.
            options: What to be good at, and what to keep to.

        Raises:
            UsageError: The graph or the options make no sense.
            NoPlaceLeft: No cloud is enabled. (That nothing fits is a result, with the reasons in its details.)
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

        `tail` > 0 starts with the last lines of each stream. Survives dropped connections byte for byte.
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

    def volume_apply(self, spec: VolumeSpec) -> VolumeView:
        """Make a named volume if there is none of that name in its place."""

    def volumes(self, clouds: Sequence[str] = ()) -> tuple[list[VolumeView], list[tuple[Place, str]]]:
        """Every named volume of this installation, and places that could not be read with the reasons."""

    def volume_delete(self, names: Sequence[str]) -> list[str]:
        """Delete named volumes with all that is on them; returns their names."""

    def check(self, clouds: Sequence[str] = ()) -> list[CheckView]:
        """Ask clouds who we are, in parallel, and remember which are enabled."""

    def permissions(self, clouds: Sequence[str] = ()) -> list[PermissionsView]:
        """Ask clouds what our credentials may do and may not; of all enabled clouds when none is named."""

    def enabled(self) -> list[CheckView]:
        """What the last check recorded; asks nothing."""

    def cost_report(self, *, days: int = 30, every: bool = False) -> list[CostView]:
        """What was spent, from the ledger, by cluster."""

    def cost_groups(self, by: Literal["user", "job", "cloud"], *, days: int = 30) -> list[CostGroup]:
        """What was spent, added up by user, job or cloud; the largest first."""

    def catalog_refresh(
        self,
        clouds: Sequence[str] = (),
        *,
        source: str | None = None,
        say: Callable[[CatalogRefresh], None] | None = None,
    ) -> list[CatalogRefresh]:
        """Fetch fresh prices, in parallel; a cloud that fails keeps the rows it has, and its result says why.

        Args:
            clouds: Only these; all that have something to refresh when empty.
            source: A hosted catalog (folder, file or address) to read instead of asking the vendors.
            say: Told of each cloud as it ends.

        Raises:
            NotFound: `source` has no file for what was asked.
        """

    def catalog_info(self) -> list[CatalogInfo]:
        """What the catalog holds, one line for each layer of each cloud; asks nobody."""

    def accelerators(self, query: AcceleratorQuery | None = None) -> list[AcceleratorView]:
        """Accelerators for sale, with price ranges and ages; all without a query.

        Raises:
            NotFound: Nothing is sold under that name; the hint names the nearest one.
            UsageError: The query can't be read.
        """

    def interactive(
        self,
        cluster: str,
        *,
        node: int = 0,
        argv: Sequence[str] = (),
        forwards: Sequence[PortForward] = (),
        say: Callable[[str], None] | None = None,
    ) -> int:
        """Give the terminal to a shell (or `argv`) on a node; returns its exit code.

        Args:
            cluster: Its name.
            node: The rank.
            argv: What to run in place of a login shell.
            forwards: Ports of this machine that lead to the node meanwhile.
            say: Told of forwarded connections that could not be carried.
        """

    def forward(
        self,
        cluster: str,
        forwards: Sequence[PortForward],
        *,
        node: int = 0,
        say: Callable[[str], None] | None = None,
    ) -> AbstractContextManager[list[PortForward]]:
        """Let ports of this machine lead to a node for as long as the result is entered.

        It gives the forwards with the local ports that were really taken.

        Raises:
            NotExecutable: The node is not reached over SSH.
            LocalIOError: A port of this machine is in use.
        """

    def ssh_setup(self, *, apply: bool = False) -> SshSetup:
        """How plain `ssh CLUSTER` stands; with `apply`, one `Include` line is put into `~/.ssh/config`."""

    def names(self) -> list[str]:
        """Live cluster names, for completion."""

    def close(self) -> None:
        """Give back connections."""
