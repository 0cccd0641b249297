"""What a job says and how it ends is known in full, whatever dies meanwhile; a cancelled job leaves nothing alive."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from styx.api import LaunchOptions, connect
from styx.models import Task
from tests.conftest import Styx

LINES = "for i in $(seq 1 {count}); do echo line $i; sleep 0.02; done"

EVASIVE = r"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if os.fork():
    time.sleep(600)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
null = os.open("/dev/null", os.O_RDWR)
for number in (0, 1, 2):
    os.dup2(null, number)
os.execve("/bin/sleep", ["sleep", sys.argv[1]], {})
"""


def until(found: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def lines(count: int) -> str:
    return "".join(f"line {number}\n" for number in range(1, count + 1))


def recorded(styx: Styx, name: str) -> psutil.Process:
    """The agent or the supervisor of the one node, by what it left in its state folder."""
    (path,) = styx.home.glob(f"local/*/0/agent/{name}.json")
    return psutil.Process(json.loads(path.read_text())["pid"])


def bridges(styx: Styx) -> list[psutil.Process]:
    """Processes that carry a client's words to an agent."""
    found = []
    for process in styx.processes():
        try:
            if "connect" in process.cmdline() and str(styx.home) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_hundred_jobs_end_as_they_should_with_their_own_logs(styx: Styx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STYX_HOME", str(styx.home))
    client = connect(home=styx.home)
    try:
        task = Task.model_validate({"run": "echo job 1", "resources": {"infra": "local"}})
        client.launch(task, LaunchOptions(cluster="many"))
        for number in range(2, 101):
            script = f"echo job {number}; exit {number % 7}"
            assert client.exec(Task.model_validate({"run": script}), "many").job_id == number
        for number in range(2, 101):
            job = client.wait("many", number, timeout_s=120)
            state = "FAILED" if number % 7 else "SUCCEEDED"
            assert (job.state, job.exit_code) == (state, number % 7), number
    finally:
        client.close()
    done = styx("logs", "many", *map(str, range(2, 101)), code=2)
    assert done.stdout == "".join(f"job {number}\n" for number in range(2, 101))
    rows = styx.json("queue", "many")
    assert sorted(row["job_id"] for row in rows) == list(range(1, 101))


def test_following_survives_dropped_connections_byte_for_byte(styx: Styx) -> None:
    styx("launch", "-c", "drops", "--infra", "local", "true")
    following = styx.begin("exec", "drops", LINES.format(count=200) + "; exit 5")
    for _ in range(4):
        until(lambda: bridges(styx), "a bridge to kill")
        for process in bridges(styx):
            process.send_signal(signal.SIGKILL)
        time.sleep(0.4)
    out, err = following.communicate(timeout=120)
    assert out.decode() == lines(200)
    assert following.returncode == 5, err.decode()
    assert b"Traceback" not in err


@pytest.mark.parametrize("victims", [("agent",), ("supervisor", "agent")])
def test_output_and_exit_code_outlive_the_agent(styx: Styx, victims: tuple[str, ...]) -> None:
    styx("launch", "-c", "hurt", "--infra", "local", "true")
    following = styx.begin("exec", "hurt", LINES.format(count=150) + "; exit 9")
    until(lambda: any(row["state"] == "RUNNING" for row in styx.json("queue", "hurt")), "the job runs")
    for process in [recorded(styx, name) for name in victims]:
        process.send_signal(signal.SIGKILL)
    out, err = following.communicate(timeout=120)
    assert out.decode() == lines(150)
    assert following.returncode == 9, err.decode()
    assert styx("logs", "hurt", "2", code=9).stdout == lines(150)
    assert styx.wait_for("hurt", 2)["state"] == "FAILED"
    styx("down", "hurt")
    styx.assert_nothing_left()


def test_cancel_ends_a_tree_that_does_not_want_to_be_found(styx: Styx, tmp_path: Path) -> None:
    evasive = tmp_path / "evasive.py"
    evasive.write_text(EVASIVE)
    seconds = str(100_000 + os.getpid())
    styx("launch", "-c", "tree", "--infra", "local", "true")
    styx("exec", "tree", "-d", f"trap '' TERM; python3 {evasive} {seconds} & sleep {seconds} & wait")

    def sleepers() -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.cmdline()[-1:] == [seconds] and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.NoSuchProcess:
                continue
        return found

    until(lambda: len(sleepers()) >= 3, "the tree stands")
    styx("cancel", "tree", "2")
    assert sleepers() == []
    assert styx.wait_for("tree", 2)["state"] == "CANCELLED"
    assert styx("exec", "tree", "echo still usable").stdout == "still usable\n"
