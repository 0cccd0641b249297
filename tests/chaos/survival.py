"""One case of the kill matrix: die at a moment, recover as a user would, and look for what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from styx.api import LaunchOptions
from styx.api.inprocess import InProcess
from styx.errors import StyxError
from styx.models import Task
from styx.state.rows import ClusterState
from tests.chaos.child import NAME, hurry
from tests.chaos.targets import Target

CHILD = Path(__file__).with_name("child.py")
ROOT = Path(__file__).parents[2]
HELD = {ClusterState.UP, ClusterState.STOPPED, ClusterState.STOPPING, ClusterState.STARTING}
"""States in which the user's cluster exists on purpose."""
BEFORE = {"launch": (), "stop": ("launch",), "down": ("launch",), "start": ("launch", "stop")}
"""What is done first, so that an operation has something to do."""


@dataclass(frozen=True)
class Case:
    """What happens to one home.

    Attributes:
        verb: The operation during which the client dies.
        moment: The observation at which it dies; empty: it lives.
        fault: Staged at the cloud first.
        nodes: Of the cluster.
        recovery: `sweep`, `look` (status, then sweep) or `next` (the next command is the same one again).
    """

    verb: str
    moment: str = ""
    fault: str | None = None
    nodes: int = 1
    recovery: str = "sweep"


class Life:
    """One home of one target, from its first command to the proof that nothing is left."""

    def __init__(self, target: Target, folder: Path, home: Path) -> None:
        self.target, self.folder, self.home = target, folder, home
        (folder / "work").mkdir()
        (folder / "work" / "data.txt").write_text("some data\n")
        environ = {**os.environ, **target.environ()}
        self.client = InProcess.open(home=home, cwd=folder, environ=environ)
        hurry(self.client, target.name, dict(target.limits))
        assert [view.message for view in self.client.check([target.name]) if not view.ok] == []
        self.store = self.client.world.store.store_id

    def run(self, verb: str, moment: str = "", nodes: int = 1) -> subprocess.CompletedProcess[str]:
        """One operation in a process of its own."""
        target = self.target
        asked = {"cloud": target.name, "limits": target.limits, "resources": target.resources, "nodes": nodes}
        environ = {
            **os.environ, **target.environ(), "STYX_HOME": str(self.home), "CHAOS": json.dumps(asked),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, str(CHILD), str(self.home), verb, moment],
            env=environ, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    def prepare(self, verb: str) -> None:
        """Bring the cluster to where the operation has something to do."""
        for each in BEFORE[verb]:
            done = self.run(each)
            assert done.returncode == 0, done.stderr

    def recover(self, case: Case) -> None:
        """What a user does next."""
        if case.recovery == "look":
            self.client.status(refresh=True)
        if case.recovery == "next":
            self._again(case)
        self.client.sweep(delete=True)

    def _again(self, case: Case) -> None:
        if case.verb == "launch":
            task: dict[str, Any] = {"run": "true", "num_nodes": case.nodes, "resources": self.target.resources}
            self.client.launch(Task.from_dict(task), LaunchOptions(cluster=NAME))
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


def moments(target: Target, folder: Path, verb: str, nodes: int = 1) -> list[str]:
    """What a client observes that does the operation to its end."""
    with target.home(folder) as home:
        life = Life(target, folder, home)
        try:
            life.prepare(verb)
            whole = life.run(verb, nodes=nodes)
            assert whole.returncode == 0, whole.stderr
            life.check(f"{target.name} {verb}, whole")
            return worth_dying_at(json.loads(whole.stdout.splitlines()[-1]))
        finally:
            life.client.close()


def survive(target: Target, folder: Path, case: Case, name: str) -> bool:
    """Whether the client died at the moment of the case; raises when anything leaks."""
    with ExitStack() as stack:
        home = stack.enter_context(target.home(folder))
        life = Life(target, folder, home)
        stack.callback(life.client.close)
        life.prepare(case.verb)
        if case.fault is not None:
            target.stage(case.fault, life.store)
        done = life.run(case.verb, case.moment, case.nodes)
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
