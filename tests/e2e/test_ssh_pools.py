"""Hosts that exist already: leased, used, shared with nobody, and left as they were. Real sshd, real logins."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.testing.containers import PrivatePodman
from styx.testing.machines import Machine, Machines
from tests.conftest import Styx

CGROUPS = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids")
DOCKER = """#!/bin/sh
export CONTAINERS_CONF=/etc/podman-of-the-test.conf
exec podman --root /var/lib/podman-of-the-test --runroot /run/podman-of-the-test --storage-driver vfs "$@"
"""
TASK = """
name: mine
resources: {infra: ssh/lab}
workdir: .
run: |
  echo "rank $STYX_NODE_RANK on $(hostname) as $(id -un) in $PWD at $STYX_NODE_IPS"
"""
needs_hosts = [
    pytest.mark.debian("openssh-server", "sshd"),
    pytest.mark.debian("iproute2", "ip", "-V"),
    pytest.mark.debian("sudo", "sudo", "--version"),
]
pytestmark = needs_hosts


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an image, as `podman save` leaves it, and the settings that podman needs here."""
    podman = PrivatePodman(tmp_path_factory.mktemp("podman"))
    folder = tmp_path_factory.mktemp("image")
    podman.docker("save", "-o", str(folder / "image.tar"), podman.image("styx-test:1"))
    shutil.copy(podman.folder / "containers.conf", folder)
    yield folder
    podman.close()


@pytest.fixture(scope="module")
def hosts(key: Path, image: Path) -> Iterator[list[Machine]]:
    public = key.with_suffix(".pub").read_text().strip()
    with Machines(shares={"/opt/image": image}) as room:
        machines = [room.boot(name, user="ubuntu", authorized_keys=[public]) for name in ("one", "two")]
        for machine in machines:
            machine.wait_for_ssh()
        yield machines


def pools(home: Path, key: Path, hosts: list[Machine], **settings: object) -> None:
    home.mkdir(parents=True, exist_ok=True)
    listed = [{"ip": each.host, "name": f"host{number}", "port": each.port} for number, each in enumerate(hosts)]
    pool = {"user": "ubuntu", "identity_file": str(key), "hosts": listed, **settings}
    (home / "ssh_node_pools.yaml").write_text(json.dumps({"lab": pool}))


def told(machine: Machine, *argv: str) -> str:
    done = machine.run(list(argv))
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout.decode()


def files(machine: Machine) -> set[str]:
    return set(told(machine, "find", "/home/ubuntu", "/var/tmp").split())


def test_a_host_is_leased_to_one_installation_and_left_as_it_was(
    styx: Styx, key: Path, hosts: list[Machine], tmp_path: Path
) -> None:
    before = [files(machine) for machine in hosts]
    keys = told(hosts[0], "cat", "/home/ubuntu/.ssh/authorized_keys")
    pools(styx.home, key, [*hosts])
    other = Styx(home=tmp_path / "other-home")
    pools(other.home, key, [*hosts])
    task = tmp_path / "work" / "task.yaml"
    task.parent.mkdir()
    task.write_text(TASK)
    styx.cwd = other.cwd = task.parent
    assert styx.json("check", "ssh")[0]["ok"]
    said = styx("launch", "-y", "-c", "mine", "task.yaml").stdout
    assert "rank 0 on one as ubuntu in /home/ubuntu/sky_workdir at " + hosts[0].host in said
    assert told(hosts[0], "cat", "/home/ubuntu/.ssh/authorized_keys") == keys
    other("check", "ssh")
    other("launch", "-y", "-c", "theirs", "task.yaml")
    refused = styx("launch", "-y", "-c", "third", "task.yaml", code=69).stderr
    for words in ("lab/host0 is held by", "styx-mine-", "lab/host1 is held by", "styx-theirs-"):
        assert words in refused
    other("down", "-y", "theirs")
    assert files(hosts[1]) == before[1]
    styx("down", "-y", "mine")
    assert files(hosts[0]) == before[0]


def test_a_node_frees_its_host_when_its_lease_is_over(styx: Styx, key: Path, hosts: list[Machine]) -> None:
    before = files(hosts[0])
    pools(styx.home, key, hosts[:1])
    styx("check", "ssh")
    styx("launch", "-y", "-c", "brief", "-i", "0", "--down", "--infra", "ssh/lab", "echo so")
    deadline = time.monotonic() + 90.0  # and nobody asks meanwhile
    while "/var/tmp/styx.lease" in files(hosts[0]) and time.monotonic() < deadline:
        time.sleep(0.5)
    left = files(hosts[0]) - before
    assert all(path.startswith("/var/tmp/styx.ended.styx-brief-") for path in left), left
    assert not [row for row in styx.json("status", "--refresh") if row["name"] == "brief"]
    assert files(hosts[0]) == before


@pytest.mark.debian("podman", "podman", "--version")
@pytest.mark.debian("runc", "runc", "--version")
def test_a_docker_image_on_a_host(styx: Styx, key: Path, hosts: list[Machine], tmp_path: Path) -> None:
    host = hosts[1]
    mounts = "".join(f"mkdir $g/{name}; mount -t cgroup -o {name} none $g/{name}; " for name in CGROUPS)
    copy = "cp /opt/image/containers.conf /etc/podman-of-the-test.conf"
    told(host, "sh", "-c", f"g=/sys/fs/cgroup; mount -t tmpfs none $g; {mounts} {copy}")
    docker = host.root / "usr/local/bin/docker"
    docker.parent.mkdir(parents=True, exist_ok=True)
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    told(host, "docker", "load", "-q", "-i", "/opt/image/image.tar")
    pools(styx.home, key, [host])
    task = tmp_path / "work" / "task.yaml"
    task.parent.mkdir()
    task.write_text(
        "resources: {infra: ssh/lab, image_id: 'docker:localhost/styx-test:1'}\n"
        "workdir: .\n"
        "secrets: {WORD: canary-31}\n"
        "setup: echo ready > /root/ready\n"
        'run: |\n  cat /etc/image /root/ready; echo "$PWD $STYX_NODE_RANK ${WORD#canary-}"; ls; touch made; exit 9\n'
    )
    styx.cwd = task.parent
    styx("check", "ssh")
    said = styx("launch", "-y", "-c", "boxed", "task.yaml", code=9).stdout
    assert "styx-test:1ready\n/home/ubuntu/sky_workdir 0 31\ntask.yaml" in said
    owner = told(host, "stat", "-c", "%U", "/home/ubuntu/sky_workdir/made")
    assert owner == "ubuntu\n"  # though the container runs as root
    assert len(told(host, "docker", "ps", "-q").split()) == 1
    styx("down", "-y", "boxed")
    assert told(host, "docker", "ps", "-aq") == ""
    assert not [path for path in files(host) if "styx" in path or "sky_workdir" in path]
