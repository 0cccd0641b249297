"""One case of the kill matrix: die at a moment, recover as a user would, and look for what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from styx.api import LaunchOptions
from styx.api.inprocess import InProcess
from styx.errors import StyxError
from styx.models import Task
from styx.state.rows import ClusterState
from tests.chaos.child import NAME, hurry, perform
from tests.chaos.targets import Target, Undo

CHILD = Path(__file__).with_name("child.py")
ROOT = Path(__file__).parents[2]
HELD = {ClusterState.UP, ClusterState.STOPPED, ClusterState.STOPPING, ClusterState.STARTING}
"""States in which the user's cluster exists on purpose."""
BEFORE = {"launch": (), "stop": ("launch",), "down": ("launch",), "start": ("launch", "stop")}
"""What is done first, so that an operation has something to do."""
DEADLINE_S = 240.0
"""For one operation."""


@dataclass(frozen=True)
class Case:
    """What happens to one home.

    Attributes:
        verb: The operation during which the client dies.
        moment: The observation at which it dies; empty: none.
        after_s: It dies so long after its start, wherever it is then.
        fault: Staged at the cloud first; one of the target's `faults`.
        nodes: Of the cluster.
        anywhere: Whether there is a second place, should the first refuse.
        recovery: `sweep`, `look` (status, then sweep) or `next` (the next command is the same one again).
    """

    verb: str
    moment: str = ""
    after_s: float | None = None
    fault: str | None = None
    nodes: int = 1
    anywhere: bool = False
    recovery: str = "sweep"


@dataclass
class Tally:
    """What cases came to, for the summary at the end.

    Attributes:
        lives: Cases by cloud and operation.
        deaths: Those in which the client died.
        failures: Those that left something, or went wrong.
        seconds: What they took together, though some ran at the same time.
    """

    lives: dict[str, int] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, *, died: bool, failed: bool, seconds: float) -> None:
        """One more case."""
        with self.lock:
            self.lives[what] = self.lives.get(what, 0) + 1
            self.deaths[what] = self.deaths.get(what, 0) + died
            self.failures[what] = self.failures.get(what, 0) + failed
            self.seconds[what] = self.seconds.get(what, 0.0) + seconds

    def lines(self) -> list[str]:
        """A line for each cloud and operation, and one for all."""
        rows = [
            f"{what:<16} {self.lives[what]:>5} runs, {self.deaths[what]:>5} clients killed, "
            f"{self.failures[what]:>3} failed, {self.seconds[what] / self.lives[what]:.1f} s each"
            for what in sorted(self.lives)
        ]
        lives, deaths, failures = (sum(each.values()) for each in (self.lives, self.deaths, self.failures))
        return [*rows, f"{lives} runs, {deaths} clients killed, {failures} failed or left something behind"]


class Life:
    """One home of one target, from its first command to the proof that nothing is left."""

    def __init__(self, target: Target, folder: Path, home: Path) -> None:
        self.target, self.folder, self.home = target, folder, home
        (folder / "work").mkdir()
        (folder / "work" / "data.txt").write_text("some data\n")
        self.client = self.another_client()
        hurry(self.client, target.name, dict(target.limits))
        assert [view.message for view in self.client.check([target.name]) if not view.ok] == []
        self.store = self.client.world.store.store_id
        self.child: subprocess.Popen[str] | None = None

    def another_client(self) -> InProcess:
        """A client in this process, which knows what a new one knows."""
        return InProcess.open(home=self.home, cwd=self.folder, environ={**os.environ, **self.target.environ()})

    def resources(self, case: Case) -> dict[str, Any]:
        """What a launch asks for."""
        return self.target.anywhere if case.anywhere else self.target.resources

    def asked(self, case: Case) -> dict[str, Any]:
        """A case as `child` takes it."""
        target = self.target
        return {"cloud": target.name, "limits": target.limits, "resources": self.resources(case), "nodes": case.nodes}

    def begin(self, case: Case) -> subprocess.Popen[str]:
        """Start one operation in a process of its own."""
        environ = {
            **os.environ, **self.target.environ(), "STYX_HOME": str(self.home), "CHAOS": json.dumps(self.asked(case)),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, str(CHILD), str(self.home), case.verb, case.moment]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environ, **pipes)

    def run(self, case: Case) -> subprocess.CompletedProcess[str]:
        """One operation from its start to its end or death."""
        with self.begin(case) as self.child:
            try:
                out, err = self.child.communicate(timeout=DEADLINE_S if case.after_s is None else case.after_s)
            except subprocess.TimeoutExpired:
                self.kill()
                if case.after_s is None:
                    raise
                out, err = self.child.communicate()
            return subprocess.CompletedProcess(self.child.args, self.child.returncode, out, err)

    def kill(self) -> None:
        """End the client as it stands."""
        if self.child is not None:
            self.child.kill()

    def prepare(self, case: Case) -> None:
        """Bring the cluster to where the operation has something to do; no process of its own, for it is not killed."""
        with closing(self.another_client()) as client:
            for each in BEFORE[case.verb]:
                perform(client, each, self.folder / "work", self.asked(Case(each, nodes=case.nodes)))

    def stage(self, case: Case) -> Undo:
        """Let the cloud fail as the case says, until the result is called."""
        if case.fault is None:
            return lambda: None
        return self.target.stage(self.target.faults[case.fault], self.store, self.kill)

    def recover(self, case: Case) -> None:
        """What a user does next."""
        if case.recovery == "look":
            self.client.status(refresh=True)
        if case.recovery == "next":
            self._again(case)
        self.client.sweep(delete=True)

    def _again(self, case: Case) -> None:
        if case.verb == "launch":
            task: dict[str, Any] = {"num_nodes": case.nodes, "resources": self.resources(case)}
            job = {"run": "true"} if case.nodes == 1 else {}
            self.client.launch(Task.from_dict(task | job), LaunchOptions(cluster=NAME))
        elif self.client.world.store.cluster(NAME) is not None:
            getattr(self.client, case.verb)([NAME])

    def check(self, name: str) -> None:
        """The cloud holds exactly the machines that the database names; then everything goes, and nothing is left."""
        live = self.client.world.store.clusters()
        assert {row.state for row in live} <= HELD, f"{name}: {[(row.name, row.state, row.note) for row in live]}"
        remembered = {node.id: row.key for row in live for node in row.nodes}
        found = self.target.machines(self.home, self.store)
        if self.target.name == "local":
            remembered = {f"{node.cluster}/{node.rank}": node.cluster for row in live for node in row.nodes}
        assert found == remembered, f"{name}: the cloud has {found}, the database {remembered}"
        for row in live:
            self.client.down([row.name])
        assert self.target.machines(self.home, self.store) == {}, name
        left = self.target.things(self.home, self.store)
        assert left == [], f"{name}: {left}"
        latest = self.client.world.store.latest(NAME)
        if latest is not None:
            assert latest.state is ClusterState.TERMINATED, name
        report = self.client.sweep()
        assert (report.orphans, report.unreadable) == ((), ()), name

    def told(self, name: str) -> None:
        """The story says how the operation ended: by its death, or well."""
        if self.client.world.store.latest(NAME) is None:
            return
        events = self.client.why(NAME).events
        died = any(event.phase == "failed" for event in events)
        finished = any(event.step == "forget" and event.phase == "done" for event in events)
        assert died or finished, f"{name}: the story does not say that the client died"


def worth_dying_at(seen: Sequence[str]) -> list[str]:
    """All moments, but of equal driver calls only the first and the last: how often a cloud is polled varies."""
    rows: dict[str, list[str]] = {}
    for moment in seen:
        rows.setdefault(moment.partition("#")[0], []).append(moment)
    spared = {moment for name, row in rows.items() if name.startswith("driver:") for moment in row[1:-1]}
    return [moment for moment in seen if moment not in spared]


def always(moment: str) -> bool:
    """Whether a moment comes in every run: later ones of a row of driver calls may not."""
    return moment.startswith("commit:") or moment.endswith("#0")


@dataclass(frozen=True)
class Whole:
    """What was seen of an operation that was done to its end.

    Attributes:
        moments: At which a client can die.
        seconds: From start to end.
    """

    moments: list[str]
    seconds: float


def whole(target: Target, folder: Path, case: Case) -> Whole:
    """What a client observes that does the operation of a case, and lives."""
    with ExitStack() as stack:
        home = stack.enter_context(target.home(folder))
        life = Life(target, folder, home)
        stack.callback(life.client.close)
        life.prepare(case)
        stack.callback(life.stage(case))
        began = time.monotonic()
        done = life.run(case)
        seconds = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        life.check(f"{target.name} {case.verb}, whole")
        return Whole(worth_dying_at(json.loads(done.stdout.splitlines()[-1])), seconds)


def survive(target: Target, folder: Path, case: Case, name: str, tally: Tally) -> bool:
    """Whether the client died in a case; raises when anything leaks."""
    began, died, failed = time.monotonic(), False, True
    try:
        died = _survive(target, folder, case, name)
        failed = False
    finally:
        tally.add(f"{target.name} {case.verb}", died=died, failed=failed, seconds=time.monotonic() - began)
    return died


def _survive(target: Target, folder: Path, case: Case, name: str) -> bool:
    with ExitStack() as stack:
        home = stack.enter_context(target.home(folder))
        life = Life(target, folder, home)
        stack.callback(life.client.close)
        life.prepare(case)
        heal = life.stage(case)
        try:
            done = life.run(case)
        finally:
            heal()
        died = done.returncode == -signal.SIGKILL
        assert died or not case.moment or case.fault or not always(case.moment), f"{name} never came: {done.stderr}"
        try:
            life.recover(case)
        except StyxError as error:
            raise AssertionError(f"{name}: recovery failed: {error.message}") from error
        life.check(name)
        if died:
            life.told(name)
        return died
