"""The client is killed by SIGKILL at every commit and every driver call of every operation; nothing may leak.

The moments come from the engine itself: a first child runs the operation to its end and lists what it observed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from styx.api.inprocess import InProcess
from styx.provision.steps import OPERATIONS
from styx.state.rows import ClusterState
from styx.testing.processes import marked

CHILD = Path(__file__).with_name("child.py")
NAME = "victim"
HELD = {ClusterState.UP, ClusterState.STOPPED, ClusterState.STOPPING, ClusterState.STARTING}
"""States in which the user's cluster exists on purpose."""


def run(home: Path, verb: str, moment: int = -1) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "STYX_HOME": str(home)}
    return subprocess.run(
        [sys.executable, str(CHILD), str(home), verb, str(moment)],
        env=environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def prepared(folder: Path, verb: str) -> Path:
    """A home in which the operation has something to do."""
    home = folder / "home"
    (folder / "work").mkdir(parents=True)
    (folder / "work" / "data.txt").write_text("some data\n")
    before = {"launch": (), "stop": ("launch",), "down": ("launch",), "start": ("launch", "stop")}[verb]
    for each in before:
        done = run(home, each)
        assert done.returncode == 0, done.stderr
    return home


def machines(home: Path) -> list[Path]:
    return sorted((home / "local").glob("*/*")) if (home / "local").is_dir() else []


def processes(home: Path) -> set[int]:
    return marked("STYX_HOME", str(home)) - {os.getpid()}


def survive(folder: Path, verb: str, moment: int, name: str) -> None:
    """One case: die at the moment, then recover as a user would, and look for what is left."""
    home = prepared(folder, verb)
    died = run(home, verb, moment)
    assert died.returncode == -signal.SIGKILL, f"{name} never came: {died.stderr}"
    client = InProcess.open(home=home, cwd=folder)
    try:
        if moment % 2:
            client.status(refresh=True)
        client.sweep(delete=True)
        live = client.world.store.clusters()
        assert {row.state for row in live} <= HELD, name
        known = {row.key for row in live}
        assert {path.parent.name for path in machines(home)} <= known, f"{name}: machines nobody remembers"
        for row in live:
            client.down([row.name])
        assert machines(home) == [], name
        assert processes(home) == set(), name
        latest = client.world.store.latest(NAME)
        if latest is not None:
            assert latest.state is ClusterState.TERMINATED
            told_the_end = any(event.phase == "failed" for event in client.why(NAME).events)
            finished = any(event.step == "forget" and event.phase == "done" for event in client.why(NAME).events)
            assert told_the_end or finished, f"{name}: the story does not say that the client died"
        assert client.sweep().orphans == ()
    finally:
        client.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", ["launch", "stop", "start", "down"])
def test_killed_at_every_moment(verb: str, tmp_path: Path) -> None:
    whole = run(prepared(tmp_path / "whole", verb), verb)
    assert whole.returncode == 0, whole.stderr
    InProcess.open(home=tmp_path / "whole" / "home", cwd=tmp_path).down([NAME]) if verb != "down" else None
    moments: list[str] = json.loads(whole.stdout.splitlines()[-1])
    assert any(name.startswith("driver:") for name in moments)
    assert sum(name.startswith("commit:append_event") for name in moments) >= len(OPERATIONS[verb])

    def case(number: int) -> Callable[[], None] | None:
        survive(tmp_path / str(number), verb, number, f"{verb} #{number} {moments[number]}")
        return None

    with ThreadPoolExecutor(max_workers=3) as pool:
        list(pool.map(case, range(len(moments))))
