"""A cluster of real agents on this host, each a node with its own home, and the Ray backend on top of it."""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from styx.backends.base import ReadyNode
from styx.backends.ray.backend import RayBackend
from styx.driver import Local
from styx.transport.agent import AgentConnection, ensure_agent
from styx.transport.agentfile import agent_file
from styx.transport.local import LocalTransport
from styx.transport.process import ProcessChannel

ENDED = ("SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED")


class BelowUvRun(LocalTransport):
    """Starts agents below a process that looks like `uv run`, as users do: Ray behaves differently there."""

    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> ProcessChannel:
        uv, run = Path(self.home) / "uv", Path(self.home) / "run"
        if not uv.exists():
            run.write_text("import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))")
            uv.symlink_to(self.python)
        return super().open([str(uv), "run", *argv], env=env)


class LocalCluster:
    """`size` agents with their own homes under `root`."""

    def __init__(self, root: Path, size: int) -> None:
        self.root = root
        self.short = Path(tempfile.mkdtemp(prefix="sx-", dir="/tmp"))
        """Where agents and Ray put their sockets; short, because their paths may have 107 bytes only."""
        self.env = {"STYX_HOME": str(root), "STYX_SOCKET_DIR": str(self.short)}
        self.key = f"styx-raytest-{secrets.token_hex(3)}01"
        self.backend = RayBackend()
        self.said: list[str] = []
        self.agents: dict[int, AgentConnection] = {}
        self.transports = [self._transport(rank) for rank in range(size)]
        with ThreadPoolExecutor(size) as pool:
            list(pool.map(self.start_agent, range(size)))

    def _transport(self, rank: int) -> LocalTransport:
        home, state = self.root / f"node{rank}" / "home", self.root / f"node{rank}" / "agent"
        home.mkdir(parents=True)
        reach = Local(home=str(home), state=str(state), env=self.env)
        return BelowUvRun(reach)

    def start_agent(self, rank: int) -> None:
        """Have the agent of a node running and configured."""
        if rank in self.agents:
            self.agents[rank].close()
        agent = ensure_agent(self.transports[rank], self.key, rank, agent_file(self.root / "cache"))
        size = len(self.transports)
        config = {"num_nodes": size, "ips": ["127.0.0.1"] * size, "cpus": 2.0, "gpus": 2.0, "cluster": {"cluster": "t"}}
        agent.call("node.configure", {**config, "env": {"PATH": os.environ["PATH"]}})
        self.agents[rank] = agent

    def nodes(self) -> list[ReadyNode]:
        return [
            ReadyNode(
                rank=rank,
                ip="127.0.0.1",
                transport=transport,
                agent_path=self.agents[rank].agent_path,
                cpus=2.0,
                gpus=2.0,
                env=self.env,
                shares_host=True,
            )
            for rank, transport in enumerate(self.transports)
        ]

    def prepare(self) -> Any:
        return self.backend.prepare(self.key, self.nodes(), self.root / "cache", self.said.append)

    def submit(self, *, num_nodes: int = 3, **fields: Any) -> int:
        spec = {
            "token": secrets.token_hex(8),
            "name": None,
            "user": "tester",
            "task_id": "task-1",
            "setup": None,
            "run": None,
            "workdir": "sky_workdir",
            "env": {},
            "secret_env": {},
            "num_nodes": num_nodes,
            "cpus": 0.5,
            "gpus": 0.0,
            "gpus_per_node": 0.0,
            "driver": self.prepare(),
            **fields,
        }
        return int(self.agents[0].call("job.submit", spec)["job_id"])

    def job(self, job_id: int) -> dict[str, Any]:
        return self.agents[0].call("job.get", {"job_id": job_id})

    def wait(self, job_id: int, *, states: tuple[str, ...] = ENDED, within_s: float = 90.0) -> dict[str, Any]:
        give_up = time.monotonic() + within_s
        while (job := self.job(job_id))["state"] not in states:
            assert time.monotonic() < give_up, (
                f"job {job_id} is {job} after {within_s} s\n{self.log(0, job_id, 'driver')}"
            )
            time.sleep(0.1)
        return job

    def log(self, rank: int, job_id: int, stream: str = "run") -> str:
        asked = {"job_id": job_id, "stream": stream, "offset": 0, "max_bytes": 1 << 20, "wait_s": 0}
        return base64.b64decode(self.agents[rank].call("log.read", asked)["data"]).decode()

    def wait_for_log(self, rank: int, job_id: int, text: str, *, within_s: float = 60.0) -> None:
        give_up = time.monotonic() + within_s
        while text not in (seen := self.log(rank, job_id)):
            assert time.monotonic() < give_up, (
                f"rank {rank} never printed {text!r}: {seen!r}\n{self.log(0, job_id, 'driver')}"
            )
            time.sleep(0.1)

    def processes(self, rank: int | None = None, mark: str = "STYX_NODE") -> list[psutil.Process]:
        """Everything that carries the mark of a node, or of any node of this cluster."""
        found = []
        for process in psutil.process_iter():
            try:
                value = process.environ().get(mark, "")
                running = process.status() != psutil.STATUS_ZOMBIE
            except psutil.Error:
                continue
            key, _, number = value.partition("/")
            if running and key == self.key and (rank is None or number.split("/")[0] == str(rank)):
                found.append(process)
        return found

    def kill_node(self, rank: int) -> None:
        """What the end of a machine looks like: all its processes at once."""
        while found := self.processes(rank):
            for process in found:
                try:
                    process.send_signal(signal.SIGKILL)
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.05)

    def close(self) -> None:
        try:
            self.backend.teardown(self.key, self.nodes())
        finally:
            for rank, agent in self.agents.items():
                agent.close()
                transport = self.transports[rank]
                argv = (transport.python, "-I", "-S", agent.agent_path, "stop", "--state", transport.agent_state)
                transport.run(argv)


@pytest.fixture(scope="session")
def trio() -> Iterator[LocalCluster]:
    """Three nodes for all tests of this folder. A test that breaks one heals it by `start_agent` and `prepare`."""
    pytest.importorskip("ray")
    root = Path(tempfile.mkdtemp(prefix="styx-ray-"))
    cluster = None
    try:
        cluster = LocalCluster(root, 3)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
            shutil.rmtree(cluster.short, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)
