"""From "all SSH ports answer" to "the job's first line", on bare hosts, without and with Ray. See `machines.py`."""

from __future__ import annotations

import argparse
import base64
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from machines import Client, timed

from styx.backends.base import ReadyNode
from styx.backends.ray.backend import RayBackend
from styx.config import Settings
from styx.testing.machines import Machine, Machines
from styx.transport.agent import AgentConnection, ensure_agent
from styx.transport.ssh.transport import SshTransport

WHEELS = "/srv/wheels"
FIRST_LINE_S = 300.0
Up = tuple[SshTransport, AgentConnection]


def job(num_nodes: int, driver: Any = None) -> dict[str, Any]:
    """A job that says one line on every rank."""
    empty: dict[str, Any] = dict.fromkeys(("name", "setup"))
    amounts = {"num_nodes": num_nodes, "cpus": 0.5, "gpus": 0.0, "gpus_per_node": 0.0}
    texts = {"token": secrets.token_hex(8), "user": "bench", "task_id": "bench", "run": "echo first", "workdir": "w"}
    return {**empty, **texts, **amounts, "env": {}, "secret_env": {}, "driver": driver}


def wait_for_line(agent: AgentConnection, job_id: int) -> None:
    """Until the rank of this agent has said its line."""
    deadline = time.monotonic() + FIRST_LINE_S
    asked = {"job_id": job_id, "stream": "run", "offset": 0, "max_bytes": 4096, "wait_s": 20}
    while time.monotonic() < deadline:
        read = agent.call("log.read", asked, timeout_s=60)
        if base64.b64decode(read["data"]):
            return
        if read["eof"]:
            time.sleep(0.05)
    raise AssertionError(f"no line of job {job_id}: {agent.call('job.get', {'job_id': job_id})}")


class Round:
    """One life of a cluster on all hosts."""

    def __init__(self, client: Client, machines: Sequence[Machine], cluster: str) -> None:
        self.client, self.machines, self.cluster = client, machines, cluster
        self.workers = min(32, len(machines))

    def agents(self, *, gang: bool) -> list[Up]:
        """An agent on every host: of one cluster, or each of a cluster of its own."""

        def start(machine: Machine) -> Up:
            place = self.machines.index(machine)
            cluster, rank = (self.cluster, place) if gang else (f"{self.cluster}{place:02d}", 0)
            ips = [each.host for each in self.machines] if gang else [machine.host]
            transport = self.client.way_to(machine, f"{cluster}/{rank}")
            agent = ensure_agent(transport, cluster, rank, self.client.agent, start_s=120)
            facts = {"num_nodes": len(ips), "ips": ips, "cpus": 2.0, "gpus": 0.0}
            agent.call("node.configure", {**facts, "cluster": {"cluster": cluster}, "env": {}}, timeout_s=60)
            return transport, agent

        found: list[Up] = timed(start, self.machines, self.workers)[1]
        return found

    def without_ray(self) -> float:
        """A job of one node on every host, all hosts at the same time."""
        began = time.monotonic()
        ups = self.agents(gang=False)

        def first(up: Up) -> None:
            wait_for_line(up[1], int(up[1].call("job.submit", job(1))["job_id"]))

        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(first, ups))
        took_s = time.monotonic() - began
        self.end(ups)
        return took_s

    def with_ray(self, cache: Path) -> dict[str, float]:
        """One gang over all hosts: the whole time, and how it is split."""
        marks = [time.monotonic()]
        ups = self.agents(gang=True)
        marks.append(time.monotonic())
        nodes = [
            ReadyNode(rank, machine.host, transport, agent.agent_path, 2.0, 0.0, {})
            for rank, (machine, (transport, agent)) in enumerate(zip(self.machines, ups, strict=True))
        ]
        backend = RayBackend().with_settings(Settings.model_validate({"ray": {"find_links": [WHEELS]}}))
        installed: list[float] = []

        def say(line: str) -> None:
            print(f"    {line}", file=sys.stderr)
            if line.startswith("installed"):
                installed.append(time.monotonic())

        spec = backend.prepare(self.cluster, nodes, cache, say)
        marks += [installed[0] if installed else marks[-1], time.monotonic()]
        job_id = int(ups[0][1].call("job.submit", job(len(nodes), spec))["job_id"])
        with ThreadPoolExecutor(self.workers) as pool:
            list(pool.map(lambda up: wait_for_line(up[1], job_id), ups))
        marks.append(time.monotonic())
        ups[0][1].call("job.wait", {"job_id": job_id, "not_state": "RUNNING", "wait_s": 20}, timeout_s=60)
        backend.teardown(self.cluster, nodes)
        self.end(ups)
        parts = [later - earlier for earlier, later in pairwise(marks)]
        return dict(zip(("agents", "install", "ray", "gang"), parts, strict=True)) | {"all": marks[-1] - marks[0]}

    def end(self, ups: Sequence[Up]) -> None:
        """Leave the hosts as they were."""
        for _, agent in ups:
            agent.shutdown()
        for machine in self.machines:
            shutil.rmtree(machine.root / "root" / ".styx-agent", ignore_errors=True)


def measure(client: Client, machines: Sequence[Machine], rounds: int, *, ray: bool, cache: Path) -> dict[str, Any]:
    """All figures for these hosts, beside connecting and running `python3 -c pass` on them in the same rounds."""
    base: list[float] = []
    plain: list[float] = []
    gangs: list[dict[str, float]] = []

    def touch(machine: Machine) -> None:
        done = client.way_to(machine, "styx-touch-00000000/0").run(("python3", "-c", "pass"), timeout_s=120)
        assert done.exit_code == 0, done.stderr

    for turn in range(rounds + 1):
        client.forget_logins()
        base.append(timed(touch, machines, min(32, len(machines)))[0])
        client.forget_logins()
        plain.append(Round(client, machines, f"styx-plain-{turn:08d}").without_ray())
        if ray and (turn or rounds == 1):
            client.forget_logins()
            gangs.append(Round(client, machines, f"styx-gang-{turn:08d}").with_ray(cache))
    python_s, plain_s = statistics.median(base[1:]), statistics.median(plain[1:])
    row: dict[str, Any] = {
        "hosts": len(machines),
        "rounds": rounds,
        "python_s": round(python_s, 3),
        "plain_s": round(plain_s, 3),
        "plain_ratio": round(plain_s / python_s, 2),
    }
    for name in gangs[0] if gangs else ():
        row[f"ray_{name}_s"] = round(statistics.median(gang[name] for gang in gangs), 2)
    if gangs:
        row["ray_ratio"] = round(row["ray_all_s"] / python_s, 2)
    return row


def run_start(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The measurement for each number of hosts."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from tests.raywheels import ray_wheels

    found = []
    shares = {WHEELS: ray_wheels()} if not options.no_ray else {}
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as home, Machines(shares) as room:
        client = Client(Path(home))
        hosts: list[Machine] = []
        for number in sorted(options.hosts):
            while len(hosts) < number:
                hosts.append(room.boot(f"bench{len(hosts)}", authorized_keys=[client.key]))
            for host in hosts:
                host.wait_for_ssh(timeout_s=180)
            row = measure(client, hosts, options.rounds, ray=not options.no_ray, cache=Path(home))
            found.append(row)
            print(" ".join(f"{name}={value}" for name, value in row.items()), file=sys.stderr)
        client.logins.close()
    return found
