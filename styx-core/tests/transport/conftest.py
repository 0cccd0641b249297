"""Real nodes for transport tests: a folder each, with a real agent in it; nothing of them outlives the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from styx.driver import Local
from styx.testing.processes import kill_marked
from styx.transport.agent import AgentConnection, ensure_agent
from styx.transport.agentfile import AgentFile, agent_file
from styx.transport.local import LocalTransport

KEY = f"styx-w{os.getpid():x}-st0re101"  # one for each test process: they run side by side

CONFIG = {"num_nodes": 1, "ips": ["127.0.0.1"], "cpus": 4, "gpus": 0, "env": {"PATH": "/usr/bin:/bin"}, "cluster": {}}


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> AgentFile:
    return agent_file(tmp_path_factory.mktemp("agentfile"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[[int], LocalTransport]]:
    """Makes the transport to a node by its rank; all of their processes are killed in the end."""
    home = tmp_path / "styx home é"
    made: set[int] = set()
    sockets = f"/tmp/sxt-{os.getpid()}-{tmp_path.name[-30:]}"

    def make(rank: int = 0) -> LocalTransport:
        folder = home / "local" / KEY / str(rank)
        for part in ("home", "agent"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        made.add(rank)
        env = {"STYX_HOME": str(home), "STYX_NODE": f"{KEY}/{rank}", "STYX_SOCKET_DIR": sockets}
        return LocalTransport(Local(home=str(folder / "home"), state=str(folder / "agent"), env=env))

    yield make
    for rank in made:
        transport = make(rank)
        for file in (Path(transport.agent_state)).glob("agent-*.pyz"):
            transport.run((transport.python, str(file), "stop", "--state", transport.agent_state), timeout_s=60)
        assert kill_marked("STYX_NODE", f"{KEY}/{rank}")
    shutil.rmtree(sockets, ignore_errors=True)


@pytest.fixture
def connected(node: Callable[[int], LocalTransport], agent: AgentFile) -> Iterator[Callable[[int], AgentConnection]]:
    """Makes a connection to the configured agent of a rank."""
    made: list[AgentConnection] = []

    def connect(rank: int = 0) -> AgentConnection:
        connection = ensure_agent(node(rank), KEY, rank, agent)
        made.append(connection)
        connection.call("node.configure", CONFIG)
        return connection

    yield connect
    for connection in made:
        connection.close()


@pytest.fixture
def submit() -> Callable[[AgentConnection, str], int]:
    """Submits a script and returns the job's id."""

    def send(connection: AgentConnection, script: str) -> int:
        spec = {
            "token": f"{abs(hash(script)):032x}"[:32],
            "name": None,
            "user": "tester",
            "task_id": "task",
            "setup": None,
            "run": script,
            "workdir": "",
            "env": {},
            "secret_env": {},
            "num_nodes": 1,
            "cpus": 1,
            "gpus": 0,
        }
        return int(connection.call("job.submit", spec)["job_id"])

    return send
