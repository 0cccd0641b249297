"""Commands on a local node: where they run, what they see, and that they end."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.driver import Exec, Local, Ssh
from styx.errors import DeadlineExceeded, InternalError, LocalIOError, Unreachable
from styx.testing.processes import marked
from styx.transport.base import NodeGone, write_all
from styx.transport.factory import make_transport
from styx.transport.local import LocalTransport, base_python, node_environment, node_search_path

Nodes = Callable[[], LocalTransport]
MARK = f"styx-w{os.getpid():x}-st0re101/0"


def test_a_command_sees_only_what_was_built(node: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("PYTHONPATH", "/canary")
    transport = node()
    done = transport.run(("sh", "-c", "pwd; env"))
    lines = done.stdout.decode().splitlines()
    assert lines[0] == os.path.realpath(transport.home)
    seen = dict(line.split("=", 1) for line in lines[1:])
    assert seen["HOME"] == transport.home
    assert seen["STYX_NODE"].endswith("/0")
    assert set(seen) - {"PWD", "_", "SHLVL"} == {
        "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "STYX_HOME", "STYX_NODE", "STYX_SOCKET_DIR", "USER",
    }  # fmt: skip


def test_no_virtual_environment_on_the_path(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("")
    active = tmp_path / "active"
    (active / "bin").mkdir(parents=True)
    path = f"{venv}/bin:{active}/bin:/usr/bin:.::/bin:/usr/bin/:relative:{sys.prefix}/bin"
    assert node_search_path({"PATH": path, "VIRTUAL_ENV": str(active)}) == "/usr/bin:/bin:/usr/local/bin"
    assert node_search_path({}) == "/usr/local/bin:/usr/bin:/bin"
    assert node_environment(Local(home="/h", state="/s", env={"HOME": "/other"}), {})["HOME"] == "/h"


@given(st.lists(st.sampled_from(["/usr/bin", "/bin/", "", ".", "a/b", "/opt/x y", "/usr/bin/"]), max_size=8))
def test_path_keeps_order_and_nothing_twice(entries: list[str]) -> None:
    found = node_search_path({"PATH": ":".join(entries)}).split(":")
    assert len(found) == len(set(found))
    assert all(entry.startswith("/") for entry in found)
    kept = [entry.rstrip("/") for entry in entries if entry.startswith("/")]
    assert found == list(dict.fromkeys([*kept, "/usr/local/bin", "/usr/bin", "/bin"]))


def test_the_interpreter_is_none_of_ours() -> None:
    probe = "import sys; print(sys.prefix == sys.base_prefix, sys.version_info >= (3, 8))"
    done = subprocess.run([base_python(), "-I", "-c", probe], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True True\n"


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -9 $$", 137), ("cat; echo err >&2", 0)])
def test_run_tells_how_it_ended(node: Nodes, script: str, code: int) -> None:
    done = node().run(("sh", "-c", script), stdin=b"input")
    assert done.exit_code == code
    if code == 0:
        assert (done.stdout, done.stderr) == (b"input", b"err\n")


def test_a_command_over_its_time_is_killed_with_its_children(node: Nodes) -> None:
    transport = node()
    with pytest.raises(DeadlineExceeded, match=r"sh did not end within 0\.3 s"):
        transport.run(("sh", "-c", "sleep 100 & sleep 100"), timeout_s=0.3)
    end = time.monotonic() + 10
    while marked("STYX_NODE", MARK) and time.monotonic() < end:
        time.sleep(0.01)
    assert marked("STYX_NODE", MARK) == set()


def test_a_channel_carries_bytes_both_ways(node: Nodes) -> None:
    channel = node().open(("sh", "-c", 'echo "$GIVEN" >&2; exec cat'), env={"GIVEN": "a value"})
    data = bytes(range(256)) * 100
    write_all(channel.stdin, data)
    got = b""
    while len(got) < len(data):
        got += channel.stdout.read(65536)
    assert got == data
    with pytest.raises(DeadlineExceeded):
        channel.wait(0.01)
    channel.close()
    channel.close()
    assert channel.wait(1) == 0
    assert channel.stderr_tail() == "a value\n"


def test_closing_ends_a_command_that_takes_no_notice(node: Nodes) -> None:
    channel = node().open(("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"))
    assert channel.stdout.read(10) == b"up\n"
    channel.close()
    assert channel.wait(1) == 137


def test_only_the_end_of_standard_error_is_kept(node: Nodes) -> None:
    channel = node().open(("sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done"))
    assert channel.wait(60) == 0
    tail = channel.stderr_tail()
    channel.close()
    assert tail.endswith("line 2999\n")
    assert len(tail) == 8192


def test_put_is_atomic_and_makes_folders(node: Nodes) -> None:
    transport = node()
    path = Path(transport.home) / "a" / "b c" / "file"
    transport.put(b"one", str(path), mode=0o640)
    transport.put(b"two", str(path), mode=0o600)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["file"]
    with pytest.raises(LocalIOError, match=r"cannot write .*file/below"):
        transport.put(b"", str(path / "below"))


def test_a_removed_node_is_gone(node: Nodes) -> None:
    transport = node()
    os.rmdir(transport.home)
    for action in (
        lambda: transport.run(("true",)),
        lambda: transport.open(("true",)),
        lambda: transport.put(b"", f"{transport.agent_state}/x"),
        lambda: transport.interactive(("true",)),
    ):
        with pytest.raises(NodeGone, match="does not exist"):
            action()
    os.mkdir(transport.home)
    with pytest.raises(Unreachable, match="cannot run /no/such/program"):
        transport.run(("/no/such/program",))


def test_the_terminal_is_the_commands(node: Nodes) -> None:
    transport = node()
    program = (
        "from styx.driver import Local; from styx.transport.local import LocalTransport; import sys; "
        f"t = LocalTransport(Local(home={transport.home!r}, state={transport.agent_state!r})); "
        "sys.exit(t.interactive(['sh', '-c', 'test -t 0 && test -t 1 && pwd && kill -INT $$']))"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", program])
    output = b""
    try:
        while data := os.read(terminal, 4096):
            output += data
    except OSError:
        pass  # how a closed terminal reads on Linux
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.path.basename(os.path.dirname(transport.home)).encode() in output
    assert os.waitstatus_to_exitcode(status) == 130


def test_who_makes_the_transport(node: Nodes) -> None:
    reach = Local(home="/h", state="/s")
    mine = node()
    assert isinstance(make_transport(reach), LocalTransport)
    assert make_transport(reach, lambda asked: mine if asked is reach else None) is mine
    assert isinstance(make_transport(reach, lambda asked: None), LocalTransport)
    with pytest.raises(InternalError, match="without SSH logins"):
        make_transport(Ssh(host="host", user="me"), instance="styx-a/0")
    with pytest.raises(Unreachable, match="cannot run /no/such"):
        make_transport(Exec(argv=("/no/such",)))
