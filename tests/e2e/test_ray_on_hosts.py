"""Gangs on real SSH hosts: Ray is installed there from a wheel folder, since they have no way out."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from styx.testing.machines import Machine, Machines
from tests.conftest import Styx
from tests.raywheels import ray_wheels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WHEELS = "/srv/wheels"
ALL_REDUCE = '''
"""Every rank sends its number to rank 0, which sends the sum back: what a process group's rendezvous does."""
import os, socket, time

rank, size = int(os.environ["STYX_NODE_RANK"]), int(os.environ["STYX_NUM_NODES"])
head = (os.environ["STYX_NODE_IPS"].split()[0], 29500)
total = 10**rank
if rank == 0:
    with socket.create_server(head) as server:
        peers = [server.accept()[0] for _ in range(size - 1)]
    total += sum(int(peer.makefile().readline()) for peer in peers)
    for peer in peers:
        peer.sendall(b"%d\\n" % total)
else:
    for _ in range(600):
        try:
            peer = socket.create_connection(head, timeout=5)
            break
        except OSError:
            time.sleep(0.1)
    peer.settimeout(60)
    peer.sendall(b"%d\\n" % total)
    total = int(peer.makefile().readline())
print(f"rank {rank} of {size} on {socket.gethostname()}: sum {total}", flush=True)
'''


@pytest.fixture
def machine_shares() -> dict[str, Path]:
    if reason := Machines.unavailable():
        pytest.skip(reason)
    return {WHEELS: ray_wheels()}


@dataclass
class Lab:
    """A pool of three hosts, and a task that needs all of them."""

    hosts: list[Machine]
    task: Path


@pytest.fixture
def lab(styx: Styx, machines: Machines, tmp_path: Path) -> Iterator[Lab]:
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    users = ("root", "ubuntu", "root")
    hosts = [machines.boot(f"host{n}", user=user, authorized_keys=[public]) for n, user in enumerate(users)]
    for host in hosts:
        host.wait_for_ssh()
    entries = "".join(f"    - {{ip: {host.host}, name: {host.name}, user: {host.user}}}\n" for host in hosts)
    styx.home.mkdir(parents=True)
    (styx.home / "ssh_node_pools.yaml").write_text(f"lab:\n  identity_file: {key}\n  hosts:\n{entries}")
    (styx.home / "config.yaml").write_text(f"ray:\n  find_links: [{WHEELS}]\n")
    work = tmp_path / "work"
    work.mkdir()
    (work / "reduce.py").write_text(ALL_REDUCE)
    task = tmp_path / "task.yaml"
    task.write_text(
        f"num_nodes: 3\nworkdir: {work}\nresources:\n  infra: ssh/lab\n  cpus: 1+\nrun: python3 reduce.py\n"
    )
    yield Lab(hosts, task)
    styx("down", "tri", "--yes", code=None, timeout_s=180)


def doors(host: Machine) -> dict[str, set[str]]:
    """By the name of each server of a node's Ray: the addresses on which its port is open. Nothing else but sshd is."""
    find = "cat /root/.styx-agent/*/*/ray/ports.json /home/*/.styx-agent/*/*/ray/ports.json 2>/dev/null"
    block = json.loads(host.run(["sh", "-c", find]).stdout)
    names = {number: name for name, number in block.items() if name != "base"}
    found: dict[str, set[str]] = {}
    for line in host.run(["ss", "-Hltn"]).stdout.decode().splitlines():
        address, _, port = line.split()[3].rpartition(":")
        if port != "22":
            found.setdefault(names.get(int(port), port), set()).add(address)
    return found


RAYS_OWN = {"gcs", "node_manager", "object_manager"}
"""Servers of Ray that know only two choices, loopback or every interface; all of them want the token."""


def sums(said: str) -> list[str]:
    return sorted(line for line in said.splitlines() if "sum" in line)


EXPECTED = [f"(rank {rank}) rank {rank} of 3 on host{rank}: sum 111" for rank in range(3)]


def watched(process: subprocess.Popen[bytes]) -> list[str]:
    """The lines of its output as they come."""
    lines: list[str] = []

    def read() -> None:
        lines.extend(line.decode() for line in process.stdout)

    threading.Thread(target=read, daemon=True).start()
    return lines


def end_while_running(styx: Styx, lab: Lab, rank: int) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run a job that never ends, cut the power of one host, and see how the client ends, and after how long."""
    process = styx.begin("exec", "tri", "--num-nodes", "3", "--", "echo here; sleep 900")
    lines = watched(process)
    try:
        deadline = time.monotonic() + 150
        while sum("here" in line for line in lines) < 3:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline, lines
            time.sleep(0.1)
        lab.hosts[rank].kill()
        began = time.monotonic()
        code = process.wait(timeout=150)
        took_s = time.monotonic() - began
        return subprocess.CompletedProcess([], code, "".join(lines), process.stderr.read().decode()), took_s
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_gang_on_ssh_hosts_and_the_loss_of_one(styx: Styx, lab: Lab) -> None:
    first = styx("launch", "-y", "-c", "tri", str(lab.task), timeout_s=280)
    assert sums(first.stdout) == EXPECTED
    assert "installed Ray" in first.stderr
    assert "by uv" in first.stderr
    assert all("0.0.0.0" not in line for line in first.stdout.splitlines())
    for rank, host in enumerate(lab.hosts):
        open_there = doors(host)
        assert open_there.keys() == (RAYS_OWN if rank == 0 else RAYS_OWN - {"gcs"}) | {"runtime_env_agent"}
        private = {name for name, addresses in open_there.items() if addresses == {host.host}}
        assert open_there.keys() - private <= RAYS_OWN
    again = styx("exec", "tri", str(lab.task), timeout_s=180)
    assert sums(again.stdout) == EXPECTED
    assert "Ray" not in again.stderr  # it is re-used as it is
    story = styx("why", "tri").stdout
    assert "Ray is up on 3 nodes after" in story

    ended, took_s = end_while_running(styx, lab, 2)
    assert ended.returncode == 68, ended.stderr
    assert "node 2 was lost" in ended.stderr
    print(f"the client knew after {took_s:.1f} s")

    lab.hosts[2].start()
    lab.hosts[2].wait_for_ssh()
    relaunched = styx("launch", "-y", "-c", "tri", str(lab.task), timeout_s=280)
    assert sums(relaunched.stdout) == EXPECTED
    assert "installed Ray" not in relaunched.stderr  # the disk still has it

    styx("down", "tri", "--yes", timeout_s=180)
    for host in lab.hosts:
        left = host.run(["sh", "-c", "ls -A /root /home/*/ /tmp /var/tmp; ps ax -o args"]).stdout.decode()
        assert ".styx-agent" not in left
        assert "ray" not in left.replace(WHEELS, "")
        assert "sx-" not in left


@pytest.mark.machines
def test_the_loss_of_rank_0_is_told_by_the_client(styx: Styx, lab: Lab) -> None:
    styx("launch", "-y", "-c", "tri", str(lab.task), timeout_s=280)
    ended, took_s = end_while_running(styx, lab, 0)
    assert ended.returncode == 68, ended.stderr
    assert "node 0 of tri was lost" in ended.stderr
    print(f"the client knew after {took_s:.1f} s")
    lab.hosts[0].start()
    lab.hosts[0].wait_for_ssh()
    assert sums(styx("launch", "-y", "-c", "tri", str(lab.task), timeout_s=280).stdout) == EXPECTED


@pytest.mark.machines
def test_wheels_are_uploaded_from_this_machine(styx: Styx, lab: Lab) -> None:
    (styx.home / "config.yaml").write_text(f"ray:\n  wheels: {ray_wheels()}\n")
    launched = styx("launch", "-y", "-c", "tri", str(lab.task), timeout_s=400)
    assert sums(launched.stdout) == EXPECTED
    assert "by uv" in launched.stderr
    left = lab.hosts[0].run(["sh", "-c", "ls /root/.styx-agent/*/0/ray-env"]).stdout.decode().split()
    assert "wheels" not in left
    assert "cache" not in left


@pytest.mark.machines
def test_nodes_with_nowhere_to_install_from_are_told_apart(styx: Styx, lab: Lab) -> None:
    (styx.home / "config.yaml").write_text("ray:\n  find_links: [/srv/nothing]\n")
    failed = styx("launch", "-y", "-c", "tri", str(lab.task), code=68, timeout_s=400)
    assert "ray==" in failed.stderr
    assert "cannot be installed for Python" in failed.stderr


@pytest.mark.machines
def test_a_ray_of_the_jobs_own_works_beside(styx: Styx, lab: Lab) -> None:
    own = """
set -e
python3 -c "import sys; sys.exit('RAY_AUTH_MODE' in __import__('os').environ)"
~/.styx-agent/*/*/ray-env/*/bin/python - <<'END'
import os, socket, time
import ray
rank, head = int(os.environ["STYX_NODE_RANK"]), os.environ["STYX_NODE_IPS"].split()[0]
joining = "--num-cpus=1 --disable-usage-stats --object-store-memory=80000000"
options = joining + " --include-dashboard=false"
program = os.path.join(os.path.dirname(os.sys.executable), "ray")
if rank == 0:
    assert os.system(f"{program} start --head --node-ip-address={head} --port=6379 {options} >/dev/null") == 0
    ray.init(address=f"{head}:6379", log_to_driver=False)
    deadline = time.monotonic() + 120
    while sum(node["Alive"] for node in ray.nodes()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    print("own", int(ray.cluster_resources()["CPU"]), [r for r in ray.cluster_resources() if "styx" in r], flush=True)
    with socket.create_server((head, 29500)) as server:
        done = [server.accept() for _ in range(2)]
else:
    for _ in range(60):
        if os.system(f"{program} start --address={head}:6379 {joining} >/dev/null 2>&1") == 0:
            break
        time.sleep(1)
    for _ in range(240):  # what a rank leaves behind ends with it
        try:
            socket.create_connection((head, 29500), timeout=5)
            break
        except OSError:
            time.sleep(0.5)
END
"""
    task = lab.task.with_name("own.yaml")
    body = "".join(f"  {line}\n" for line in own.strip().splitlines())
    task.write_text(f"num_nodes: 3\nresources:\n  infra: ssh/lab\n  cpus: 1+\nrun: |\n{body}")
    done = styx("launch", "-y", "-c", "tri", str(task), timeout_s=400)
    assert "(rank 0) own 3 []" in done.stdout.splitlines()
    assert sums(styx("exec", "tri", str(lab.task), timeout_s=180).stdout) == EXPECTED
