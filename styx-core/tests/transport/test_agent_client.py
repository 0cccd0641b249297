"""Talking to a real agent: start, share, lose and heal a connection."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from styx.errors import (
    DeadlineExceeded,
    InternalError,
    LocalIOError,
    NotFound,
    ProtocolMismatch,
    StyxError,
    Unreachable,
    WrongState,
)
from styx.testing.processes import kill_marked, marked
from styx.transport.agent import AgentClient, AgentConnection, agent_error, ensure_agent
from styx.transport.agentfile import AgentFile
from styx.transport.base import NodeGone
from styx.transport.local import LocalTransport

KEY = f"styx-w{os.getpid():x}-st0re101"  # one for each test process: they run side by side
Nodes = Callable[..., LocalTransport]
Connected = Callable[..., AgentConnection]


def test_an_empty_node_gets_an_agent_and_keeps_it(node: Nodes, agent: AgentFile) -> None:
    transport = node()
    first = ensure_agent(transport, KEY, 0, agent)
    second = ensure_agent(transport, KEY, 0, agent)
    assert (first.hello["key"], first.hello["rank"], first.hello["home"]) == (KEY, 0, transport.home)
    assert first.hello["pid"] == second.hello["pid"]
    assert first.agent_path == f"{transport.agent_state}/{agent.name}"
    assert Path(first.agent_path).read_bytes() == agent.read_for(transport.code_magic)
    first.close()
    first.close()
    assert second.call("ping")["time"] > 0
    with pytest.raises(Unreachable, match="was closed"):
        first.call("ping")
    second.close()


def test_a_long_poll_holds_nobody_up(connected: Connected, submit: Callable[[AgentConnection, str], int]) -> None:
    connection = connected()
    job = submit(connection, "read line < gate; echo $line")
    os.mkfifo(Path(connection.hello["home"]) / "gate")
    answers: list[dict[str, object]] = []

    def wait() -> None:
        params = {"job_id": job, "not_state": "RUNNING", "wait_s": 25}
        answers.append(connection.call("job.wait", params, timeout_s=40))

    while connection.call("job.get", {"job_id": job})["state"] != "RUNNING":
        time.sleep(0.01)
    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    for _ in range(50):
        connection.call("ping", timeout_s=10)
    assert answers == []
    Path(connection.hello["home"], "gate").write_text("go\n")
    waiting.join(20)
    assert [answer["state"] for answer in answers] in (["SUCCEEDED"], ["FAILED"])


def test_errors_of_the_agent_have_their_classes(connected: Connected) -> None:
    connection = connected()
    with pytest.raises(NotFound, match=f"rank 0 of {KEY}"):
        connection.call("job.get", {"job_id": 99})
    with pytest.raises(ProtocolMismatch, match="rank 0"):
        connection.call("no.such.method")
    with pytest.raises(LocalIOError, match="over the agent's limit"):
        connection.call("ping", {"padding": "x" * (9 << 20)})
    assert connection.call("ping")["time"] > 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", NotFound),
        ("wrong_rank", WrongState),
        ("disk_full", LocalIOError),
        ("version_mismatch", ProtocolMismatch),
        ("unknown_method", ProtocolMismatch),
        ("bad_request", InternalError),
        ("internal", InternalError),
        ("something new", InternalError),
    ],
)
def test_every_code_has_a_class(code: str, kind: type[StyxError]) -> None:
    error = agent_error("rank 0 of x", code, "words")
    assert type(error) is kind
    assert str(error).startswith("rank 0 of x: ")
    assert "words" in str(error)


def bridges() -> set[int]:
    found = marked("STYX_NODE", f"{KEY}/0")
    return {pid for pid in found if b"\0connect\0" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def test_a_killed_bridge_is_replaced(connected: Connected) -> None:
    connection = connected()
    pid = connection.hello["pid"]
    for _ in range(3):
        for bridge in bridges():
            os.kill(bridge, signal.SIGKILL)
        assert connection.call("ping")["time"] > 0
    assert connection.hello["pid"] == pid


def test_a_killed_agent_comes_back(connected: Connected) -> None:
    connection = connected()
    pid = connection.hello["pid"]
    os.kill(pid, signal.SIGKILL)
    assert connection.call("node.info")["config"]["cpus"] == 4
    assert connection.hello["pid"] != pid
    assert kill_marked("STYX_NODE", f"{KEY}/0")  # supervisor, agent and bridge
    assert connection.call("node.info")["config"]["cpus"] == 4


def ask_until_it_ends(connection: AgentConnection, deadline: float) -> None:
    while time.monotonic() < deadline:
        connection.call("ping")  # the agent answers until it has ended its jobs


def test_an_agent_ended_on_purpose_stays_ended_until_asked_for(
    connected: Connected, node: Nodes, agent: AgentFile
) -> None:
    connection = connected()
    beside = ensure_agent(node(), KEY, 0, agent, patience_s=0.5)
    connection.shutdown()
    connection.shutdown()
    deadline = time.monotonic() + 20
    with pytest.raises(Unreachable, match="was stopped"):
        ask_until_it_ends(beside, deadline)
    beside.close()
    while (left := marked("STYX_NODE", f"{KEY}/0")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == set()
    again = ensure_agent(node(), KEY, 0, agent)
    assert again.call("ping")["time"] > 0
    again.close()


def test_a_node_that_was_removed_is_not_waited_for(connected: Connected) -> None:
    connection = connected()
    os.rename(connection.hello["home"], connection.hello["home"] + ".away")
    for bridge in bridges():
        os.kill(bridge, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(NodeGone, match="does not exist"):
        connection.call("ping")
    assert time.monotonic() - began < 15  # far below the patience of 30 s


def test_an_agent_that_cannot_start_says_why(node: Nodes, agent: AgentFile) -> None:
    transport = node()
    (Path(transport.agent_state) / "jobs").write_text("a file where a folder must be")
    with pytest.raises(Unreachable, match=r"rank 0 of .*: the agent did not start: .*jobs"):
        ensure_agent(transport, KEY, 0, agent)


def test_a_state_folder_of_another_node_is_refused(connected: Connected, node: Nodes, agent: AgentFile) -> None:
    connected()
    with pytest.raises(WrongState, match=f"another agent answered: {KEY}/0"):
        ensure_agent(node(), KEY, 1, agent)


class ScriptedNode(LocalTransport):
    """A node whose agent is a script."""

    def __init__(self, original: LocalTransport, script: str) -> None:
        vars(self).update(vars(original))
        self.script = script

    def open(self, argv, *, env=None):
        return super().open((self.python, "-c", self.script), env=env)


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ('print(\'{"id": 1, "result": {"version": 99}}\', flush=True); input()', ProtocolMismatch, "version 99"),
        (
            'print(\'{"id": 1, "error": {"code": "version_mismatch", "message": "speaks 7"}}\', flush=True);input()',
            ProtocolMismatch,
            "speaks 7; this client speaks 1",
        ),
        ("print('Welcome to this machine!', flush=True); import time; time.sleep(60)", Unreachable, "broke"),
        ("print('[1]', flush=True); import time; time.sleep(60)", Unreachable, "no JSON object"),
        ("import sys; sys.exit('no room')", Unreachable, r"ended \(no room\)"),
        ("import os; os.write(1, b'x' * 20_000_000)", Unreachable, "too long"),
        ("import time; time.sleep(60)", DeadlineExceeded, r"did not answer hello within 0\.5 s"),
    ],
)
def test_whoever_answers_instead(node: Nodes, script: str, kind: type[StyxError], words: str) -> None:
    client = AgentClient(ScriptedNode(node(), script).open(()), "rank 0")
    try:
        with pytest.raises(kind, match=words):
            client.hello(timeout_s=0.5 if kind is DeadlineExceeded else 20)
    finally:
        client.close()


def test_calls_in_flight_learn_of_the_end(node: Nodes) -> None:
    client = AgentClient(ScriptedNode(node(), "import sys; sys.stdin.readline()").open(()), "rank 0")
    with pytest.raises(Unreachable, match="connection ended"):
        client.call("ping", timeout_s=20)
    assert client.lost
    with pytest.raises(Unreachable, match="connection ended"):
        client.call("ping", timeout_s=20)
    client.close()


def test_a_line_that_stays_silent_is_replaced(node: Nodes, agent: AgentFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("styx.transport.agent._HELLO_S", 1.0)
    transport = node(0)
    ensure_agent(transport, KEY, 0, agent).close()
    opened: list[str] = []
    real = transport.launch

    def launch(program, verb, identity, *, anew):
        opened.append(verb)
        return transport.open(("sleep", "60")) if len(opened) == 1 else real(program, verb, identity, anew=anew)

    monkeypatch.setattr(transport, "launch", launch)
    connection = ensure_agent(transport, KEY, 0, agent)
    assert connection.hello["rank"] == 0
    assert opened == ["connect", "connect"]
    connection.close()
