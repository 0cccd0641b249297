"""Nodes end themselves when their client is gone for good: real hosts behind a simulated EC2, the client killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

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
