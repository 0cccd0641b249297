"""Local nodes with their real agents: whatever they started ends with them, and nothing of them stays."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.driver import Node, NodeRequest, NodeState
from styx.testing.contexts import make_context
from styx.testing.processes import kill_marked, marked
from styx.transport.agent import AgentConnection, ensure_agent
from styx.transport.agentfile import agent_file
from styx.transport.factory import make_transport
from styx.transport.logs import follow
from styx_local import Local, LocalConfig

KEY = f"styx-l{os.getpid():x}-st0re101"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Local]:
    # A path with spaces, over the 107 bytes that a socket's path may have.
    driver = Local(make_context(tmp_path / "a home" / ("long " * 20), config=LocalConfig()))
    yield driver
    for rank in range(3):
        assert kill_marked("STYX_NODE", f"{KEY}/{rank}")


def up(driver: Local, count: int) -> list[Node]:
    offer = next(iter(driver.fetch()))
    place = next(iter(driver.check().places))
    token = uuid.uuid4().hex
    request = NodeRequest(token=token, cluster=KEY, store="st0re1", place=place, offer=offer, count=count)
    return list(driver.create(request))


def connect(driver: Local, node: Node) -> AgentConnection:
    assert node.reach is not None
    transport = make_transport(node.reach)
    connection = ensure_agent(transport, KEY, node.rank, agent_file(driver.context.home / "cache"))
    config = {
        "num_nodes": 3,
        "ips": ["127.0.0.1"] * 3,
        "cpus": 2,
        "gpus": 0,
        "env": dict(transport.job_env),
        "cluster": {},
    }
    connection.call("node.configure", config)
    return connection


def submit(connection: AgentConnection, script: str) -> int:
    spec = {
        "token": uuid.uuid4().hex,
        "user": "tester",
        "task_id": "task",
        "run": script,
        "workdir": "",
        "env": {},
        "secret_env": {},
        "num_nodes": 1,
        "cpus": 1,
        "gpus": 0,
    }
    return int(connection.call("job.submit", spec)["job_id"])


def processes(rank: int) -> set[int]:
    return marked("STYX_NODE", f"{KEY}/{rank}")


def socket_of(node: Node) -> Path:
    digest = hashlib.sha256(os.fsencode(os.path.realpath(Path(node.data["folder"]) / "agent"))).hexdigest()
    return Path(f"/tmp/sx-{os.getuid()}/{digest[:12]}.sock")


NASTY = "(trap '' TERM; cd /; setsid env -i sleep 600 & setsid sleep 600 & wait) & sleep 600"


def test_terminate_takes_agents_and_jobs_along(driver: Local) -> None:
    nodes = up(driver, 3)
    connections = [connect(driver, node) for node in nodes]
    for script in ("echo here; sleep 600", "echo here; " + NASTY):
        job = submit(connections[0], script)
        assert next(follow(connections[0], job, "run"))[1] == b"here\n"
        if "trap" not in script:
            check_signs(driver)
    assert all(socket_of(node).is_socket() for node in nodes)
    own = processes(0)
    driver.terminate(nodes)
    assert [processes(rank) for rank in range(3)] == [set()] * 3
    assert [pid for pid in own if alive(pid)] == []
    assert not any(socket_of(node).exists() for node in nodes)
    assert not (driver.context.home / "local").exists()
    for connection in connections:
        connection.close()


def check_signs(driver: Local) -> None:
    """Every process of a local node can be told by its environment and its working folder."""
    home = str(driver.context.home)
    for pid in processes(0):
        assert f"STYX_HOME={home}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert os.readlink(f"/proc/{pid}/cwd").startswith(home)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_stop_and_start_keep_jobs_and_files(driver: Local) -> None:
    (node,) = up(driver, 1)
    connection = connect(driver, node)
    done = submit(connection, "echo kept > file")
    assert list(follow(connection, done, "run")) == []
    lost = submit(connection, "echo started; sleep 600")
    assert b"".join(next(follow(connection, lost, "run"))[1:]) == b"started\n"
    driver.stop([node])
    assert processes(0) == set()
    connection.close()
    (again,) = driver.start([node])
    connection = connect(driver, again)
    found = connection.call("job.get", {"job_id": done})
    assert (found["state"], found["exit_code"]) == ("SUCCEEDED", 0)
    found = connection.call("job.wait", {"job_id": lost, "not_state": "RUNNING", "wait_s": 25}, timeout_s=40)
    assert found["state"] == "FAILED_DRIVER"
    more = submit(connection, "cat file")
    assert b"".join(data for _, data in follow(connection, more, "run")) == b"kept\n"
    connection.close()
    driver.terminate([again])


@pytest.mark.parametrize(("action", "state"), [("stop", NodeState.STOPPED), ("down", NodeState.TERMINATED)])
def test_a_lease_that_runs_out_ends_the_node(driver: Local, action: str, state: NodeState) -> None:
    (node,) = up(driver, 1)
    connection = connect(driver, node)
    end = driver.self_action(node, action)  # type: ignore[arg-type]
    wire = {"kind": end.kind, "argv": list(end.argv), "stops_billing": end.stops_billing}
    lease = {"dead_man_s": 0.5, "born_at": time.time(), "action": action, "actions": {action: wire}}
    connection.call("lease.set", lease)
    deadline = time.monotonic() + 60
    while True:
        (seen,) = driver.nodes(node.place, KEY)
        if seen.state is not NodeState.RUNNING or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert seen.state is state
    assert processes(0) == set()
    assert not socket_of(node).exists()
    connection.close()
    driver.terminate([seen])
    driver.release(node.place, KEY)
    assert not (driver.context.home / "local").exists()


def test_a_node_killed_behind_our_back_is_ended_all_the_same(driver: Local) -> None:
    (node,) = up(driver, 1)
    connection = connect(driver, node)
    submit(connection, NASTY)
    connection.close()
    for pid in processes(0):
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"supervise" in name:
            os.kill(pid, 9)
    driver.terminate([node])
    assert processes(0) == set()
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True, timeout=30).stdout
    assert str(driver.context.home) not in listing
