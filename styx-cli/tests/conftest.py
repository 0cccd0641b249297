"""A client that keeps its clusters in memory, and a way to run one command line against it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from styx.api import (
    CheckView,
    ClusterState,
    ClusterView,
    CostGroup,
    CostView,
    Event,
    JobView,
    LaunchOptions,
    LaunchPlan,
    LaunchResult,
    LogLine,
    Orphan,
    PermissionsView,
    PlannedOffer,
    Say,
    Story,
    SweepReport,
)
from styx.driver import Place
from styx.errors import NotFound
from styx.provision.sshconfig import SshSetup
from styx_cli.app import App
from styx_cli.main import run

NOW = datetime.now(UTC)
PLACE = Place(cloud="acme", account="1", region="eu-1")


def cluster(name: str, **changes: Any) -> ClusterView:
    values: dict[str, Any] = {
        "name": name,
        "key": f"styx-{name}-aaaaaa01",
        "state": ClusterState.UP,
        "infra": "acme/eu-1",
        "nodes": 1,
        "resources": "4 cpus",
        "usd_per_hour": 0.0,
        "usd_so_far": 0.0,
        "user": "ada",
        "workspace": "default",
        "created_at": NOW - timedelta(hours=2, minutes=5),
        "last_use_at": NOW,
        "seen_at": NOW,
    }
    return ClusterView(**values | changes)


def job(owner: str, /, job_id: int = 1, **changes: Any) -> JobView:
    values: dict[str, Any] = {
        "cluster": owner, "job_id": job_id, "name": None, "user": "ada", "state": "SUCCEEDED", "exit_code": 0,
        "submitted_at": NOW, "started_at": NOW, "ended_at": NOW,
    }  # fmt: skip
    return JobView(**values | changes)


@dataclass
class FakeClient:
    """The client protocol over plain lists; records what it was asked to do."""

    clusters: list[ClusterView] = field(default_factory=list)
    jobs: list[JobView] = field(default_factory=list)
    output: list[LogLine] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    orphans: tuple[Orphan, ...] = ()
    unreadable: tuple[tuple[Place, str], ...] = ()
    checks: list[CheckView] = field(default_factory=list)
    allowed: list[PermissionsView] = field(default_factory=list)
    optimized: Any = None
    planned: LaunchPlan | None = None
    gpus: list[Any] = field(default_factory=list)
    catalogs: list[Any] = field(default_factory=list)
    refreshed: list[Any] = field(default_factory=list)
    costs: list[CostView] = field(default_factory=list)
    groups: list[CostGroup] = field(default_factory=list)
    story: Story | None = None
    paid: bool = False
    fails: BaseException | None = None
    """Raised by launch, exec, stop, start and down."""
    ends_as: dict[str, Any] = field(default_factory=dict)
    """How the submitted job ends."""
    tail_raises: BaseException | None = None
    closed: bool = False
    ssh_included: bool = False
    events_of_down: list[Event] = field(default_factory=list)

    def _ask(self, *what: Any) -> None:
        self.asked.append(what)
        if self.fails is not None:
            raise self.fails

    def plan(self, task: Any, options: LaunchOptions) -> LaunchPlan:
        self.asked.append(("plan", task, options))
        if self.planned is not None:
            return self.planned
        offer = PlannedOffer(
            place=PLACE, instance_type="x1", usd_per_hour=1.5 if self.paid else 0.0, free=not self.paid
        )
        return LaunchPlan(
            cluster=options.cluster or "fresh",
            reuse=False,
            num_nodes=task.num_nodes,
            offers=(offer,),
            costs_money=self.paid,
        )

    def launch(self, task: Any, options: LaunchOptions, say: Say | None = None) -> LaunchResult:
        self._ask("launch", task, options)
        return self._submit(task, options.cluster or "fresh")

    def exec(self, task: Any, cluster: str, say: Say | None = None) -> LaunchResult:
        self._ask("exec", task, cluster)
        return self._submit(task, cluster)

    def _submit(self, task: Any, name: str) -> LaunchResult:
        job_id = None
        if task.run:
            job_id = len(self.jobs) + 1
            self.jobs.append(job(name, job_id, **{"num_nodes": task.num_nodes, **self.ends_as}))
        num_nodes = self.jobs[-1].num_nodes if job_id else task.num_nodes
        return LaunchResult(cluster=name, key=f"styx-{name}-aaaaaa01", job_id=job_id, num_nodes=num_nodes, place=PLACE)

    def tail(
        self, cluster: str, job_id: int | None = None, *, follow: bool = True, tail: int = 0, ranks: Sequence[int] = ()
    ) -> Iterator[LogLine]:
        self.asked.append(("tail", cluster, job_id, follow, tail))
        yield from self.output
        if self.tail_raises is not None:
            raise self.tail_raises

    def wait(self, cluster: str, job_id: int, timeout_s: float | None = None) -> JobView:
        return self.job(cluster, job_id)

    def job(self, cluster: str, job_id: int | None = None) -> JobView:
        for each in reversed(self.jobs):
            if each.cluster == cluster and job_id in (None, each.job_id):
                return each
        raise NotFound(f"there is no cluster called {cluster}")

    def queue(self, names: Sequence[str] = (), *, skip_finished: bool = False) -> list[JobView]:
        return [each for each in self.jobs if not names or each.cluster in names]

    def cancel(self, cluster: str, job_ids: Sequence[int] = (), *, every: bool = False) -> list[int]:
        self._ask("cancel", cluster, tuple(job_ids), every)
        return list(job_ids) or [1]

    def sync_down(self, cluster: str, job_ids: Sequence[int], target: Path) -> dict[int, Path]:
        return {job_id: target / f"job-{job_id}" for job_id in job_ids}

    def status(self, names: Sequence[str] = (), *, refresh: bool = False) -> list[ClusterView]:
        self.asked.append(("status", tuple(names), refresh))
        return [
            each for each in self.clusters if not names or any(fnmatchcase(each.name, pattern) for pattern in names)
        ]

    def stop(self, names: Sequence[str], say: Say | None = None) -> list[str]:
        self._ask("stop", tuple(names))
        return list(names)

    def start(self, names: Sequence[str], say: Say | None = None, *, retry_until_up: bool = False) -> list[str]:
        self._ask("start", tuple(names), retry_until_up)
        return list(names)

    def down(self, names: Sequence[str], say: Say | None = None, *, purge: bool = False) -> list[str]:
        self._ask("down", tuple(names), purge)
        for event in self.events_of_down:
            if say is not None:
                say(event)
        return list(names)

    def autostop(
        self, names: Sequence[str], *, idle_minutes: float | None, down: bool = False, wait_for: str = "jobs_and_ssh"
    ) -> list[str]:
        self._ask("autostop", tuple(names), idle_minutes, down, wait_for)
        return list(names)

    def why(self, cluster: str) -> Story:
        if self.story is None:
            raise NotFound(f"there is no cluster called {cluster}")
        return self.story

    def sweep(self, *, delete: bool = False, clouds: Sequence[str] = ()) -> SweepReport:
        self.asked.append(("sweep", delete, tuple(clouds)))
        found = tuple(each.model_copy(update={"deleted": delete and not each.error}) for each in self.orphans)
        return SweepReport(orphans=found, unreadable=self.unreadable)

    def check(self, clouds: Sequence[str] = ()) -> list[CheckView]:
        return [each for each in self.checks if not clouds or each.cloud in clouds]

    def permissions(self, clouds: Sequence[str] = ()) -> list[PermissionsView]:
        return [each for each in self.allowed if not clouds or each.cloud in clouds]

    def enabled(self) -> list[CheckView]:
        return self.checks

    def cost_report(self, *, days: int = 30, every: bool = False) -> list[CostView]:
        self.asked.append(("cost_report", days, every))
        return self.costs

    def cost_groups(self, by: str, *, days: int = 30) -> list[CostGroup]:
        self.asked.append(("cost_groups", by, days))
        return self.groups

    def optimize(self, tasks: Any, edges: Any = (), options: Any = None) -> Any:
        self.asked.append(("optimize", tasks, options))
        return self.optimized

    def accelerators(self, query: Any = None) -> list[Any]:
        self.asked.append(("accelerators", query))
        return self.gpus

    def catalog_info(self) -> list[Any]:
        return self.catalogs

    def catalog_refresh(self, clouds: Sequence[str] = (), *, source: str | None = None, say: Any = None) -> list[Any]:
        self.asked.append(("catalog_refresh", tuple(clouds), source))
        return self.refreshed

    def interactive(
        self,
        cluster: str,
        *,
        node: int = 0,
        argv: Sequence[str] = (),
        forwards: Sequence[Any] = (),
        say: Callable[[str], None] | None = None,
    ) -> int:
        self.asked.append(("interactive", cluster, node, tuple(argv), *map(str, forwards)))
        return 42

    def ssh_setup(self, *, apply: bool = False) -> SshSetup:
        self.asked.append(("ssh_setup", apply))
        self.ssh_included = self.ssh_included or apply
        return SshSetup(
            Path("/styx/ssh/config"), Path("/user/.ssh/config"), "Include /styx/ssh/config", self.ssh_included
        )

    def names(self) -> list[str]:
        return [each.name for each in self.clusters]

    def close(self) -> None:
        self.closed = True

    def did(self, verb: str) -> list[tuple[Any, ...]]:
        """The calls of that name."""
        return [call for call in self.asked if call[0] == verb]


@dataclass(frozen=True)
class Ran:
    """How one command line ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


@pytest.fixture
def cli(
    client: FakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Cli:
    """Run one command line in this process; `terminal` answers questions with `answer`."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, terminal: bool = False, answer: str = "", environ: dict[str, str] | None = None) -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        app = App(
            connect=lambda _config, _report: client,
            environ={"STYX_HOME": str(tmp_path / "home"), "TERM": "dumb", **(environ or {})},
            is_terminal=lambda name: terminal and name != "stdout",
        )
        code = run(arguments, app)
        sys.stdout.flush()
        captured = capfdbinary.readouterr()
        return Ran(code, captured.out.decode(), captured.err.decode())

    return call


class Made:
    """Makers of values, for tests: modules of this folder cannot import one another."""

    cluster = staticmethod(cluster)
    job = staticmethod(job)
    now = NOW
    place = PLACE


@pytest.fixture
def made() -> type[Made]:
    return Made
