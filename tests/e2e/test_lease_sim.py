"""Nodes end themselves when their client is gone for good: real hosts behind a simulated EC2, the client killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from styx.userdata import PER_BOOT_SCRIPT
from tests.simcloud import ec2

if TYPE_CHECKING:
    from styx.testing.machines import Machines
    from tests.conftest import Styx


@pytest.fixture
def aws(styx: Styx, machines: Machines) -> Iterator[ec2.Ec2]:
    with ec2.Ec2(machines) as cloud:
        settings = {"aws": {"regions": ["us-east-1"], "spot_prices": False, "price_endpoint": cloud.url}}
        styx.home.mkdir(parents=True, exist_ok=True)
        lease = {"dead_man": "25s", "action": "stop"}
        (styx.home / "config.yaml").write_text(json.dumps({"clouds": settings, "lease": lease}))
        styx.env |= {
            "AWS_ACCESS_KEY_ID": ec2.KEY_ID, "AWS_SECRET_ACCESS_KEY": ec2.SECRET, "AWS_ENDPOINT_URL": cloud.url,
        }  # fmt: skip
        styx("check", "aws")
        yield cloud
        styx("down", "--all", "--yes", code=None)


def until(condition: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def launch_and_vanish(styx: Styx, *options: str) -> None:
    """Launch a long job, and kill the client once the job's first line has come."""
    where = ("--infra", "aws/us-east-1", "--instance-type", "m5.large", "--yes")
    client = styx.begin("launch", "-c", "alone", *where, *options, "--", "echo begun; sleep 3000")
    assert client.stdout is not None
    line = client.stdout.readline()
    assert line == b"begun\n", (line, client.stderr.read() if client.stderr else b"")
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_node_stops_itself_when_its_client_is_gone_and_starts_again(styx: Styx, aws: ec2.Ec2) -> None:
    launch_and_vanish(styx)
    (life,) = aws.instances()
    assert life.state == "running"
    until(lambda: aws.instances()[0].state == "stopped")
    assert life.machine is not None
    assert not life.machine.running
    view = styx.json("status")[0]  # a cluster with a lease is asked about without --refresh
    assert (view["state"], view["lease"]) == ("STOPPED", {"dead_man_s": 25.0, "action": "stop"})
    changed = ("--config", "lease.dead_man=1h", "--config", "lease.idle=6s", "--config", "lease.action=down")
    again = styx("launch", "-c", "alone", "--infra", "aws", *changed, "--yes", "--", "echo back")
    assert again.stdout == "back\n"
    assert aws.instances()[0].instance.id == life.instance.id
    until(lambda: not aws.instances())  # nobody watches: it removes itself
    assert styx.json("status") == []
    assert [thing for thing in aws.things() if "disk" not in thing] == []


def clocks(life: ec2.Life) -> list[int]:
    """Processes of the host that wait for its first lease."""
    assert life.machine is not None
    found = []
    for pid in life.machine.processes():
        with contextlib.suppress(OSError):
            if PER_BOOT_SCRIPT.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


@pytest.mark.timeout(300)
def test_a_machine_whose_client_dies_right_after_its_creation_ends_itself(styx: Styx, aws: ec2.Ec2) -> None:
    aws.ssh_boot_s = 3.0
    where = ("--infra", "aws/us-east-1", "--instance-type", "m5.large", "--yes", "--config", "launch.first_lease=6s")
    client = styx.begin("launch", "-c", "orphan", *where, "--", "echo never")
    until(lambda: bool(aws.instances()))
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    (life,) = aws.instances()
    assert life.state in ("pending", "running")
    until(lambda: not aws.instances())  # nobody watches
    assert life.instance.state_reason.code == "Client.InstanceInitiatedShutdown"
    styx("sweep", "--delete", "--yes")
    assert [thing for thing in aws.things() if "disk" not in thing] == []


@pytest.mark.timeout(300)
def test_a_machine_that_was_set_up_is_watched_by_its_agent_alone(styx: Styx, aws: ec2.Ec2) -> None:
    where = ("--infra", "aws/us-east-1", "--instance-type", "m5.large", "--yes", "--config", "lease.dead_man=1h")
    styx("launch", "-c", "mine", *where, "--", "echo done")
    (life,) = aws.instances()
    assert life.machine is not None
    until(lambda: not clocks(life))  # it looks every few seconds
    assert life.machine.run(["sh", "-c", "ls /var/lib/styx/leased-*"]).returncode == 0
    life.machine.run(["sh", "-c", "rm -rf /home/*/.styx-agent/*/*/lease.json"])  # whatever becomes of the file later
    styx("stop", "--yes", "mine")
    styx("start", "--yes", "mine")
    assert aws.instances() == [life]
    log = life.machine.root / "var/log/cloud-init-output.log"
    until(lambda: log.read_text().count(f"{PER_BOOT_SCRIPT}: exit code 0") == 2)  # the boot did not wait for the clock
    assert not clocks(life)
    assert styx("exec", "mine", "echo still here").stdout == "still here\n"
