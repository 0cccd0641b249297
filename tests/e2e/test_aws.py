"""The real command on a simulated EC2 whose instances are real SSH hosts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from styx.testing.machines import Machines
from styx_aws import probe
from tests.conftest import Styx
from tests.simcloud.ec2 import KEY_ID, SECRET, Ec2

TASK = """
resources:
  infra: aws
  instance_type: m7i.4xlarge
  ports: 8080
  labels: {{team: blue}}
{more}
run: {run}
"""


@pytest.fixture
def aws(machines: Machines) -> Iterator[Ec2]:
    with Ec2(machines) as aws:
        yield aws


@pytest.fixture
def cloud(aws: Ec2, styx: Styx, tmp_path: Path) -> Styx:
    """The command, enabled on the simulated account, which has a machine of somebody else."""
    styx.cwd = tmp_path
    styx.env = {"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    styx.env |= {"AWS_ENDPOINT_URL": aws.url, "AWS_PROFILE": "", "AWS_SESSION_TOKEN": ""}
    styx.home.mkdir()
    write_config(styx, aws)
    aws.plant(tags={"Name": "styx-somebody-else", "styx-store": "other0", "styx-cluster": "styx-x-other001"})
    styx("check", "aws")
    return styx


def write_config(styx: Styx, aws: Ec2, **more: object) -> None:
    settings = {"regions": ["us-east-1", "eu-west-1"], "price_endpoint": aws.url, **more}
    (styx.home / "config.yaml").write_text(json.dumps({"clouds": {"aws": settings}}))


def task(styx: Styx, run: str, more: str = "") -> str:
    path = styx.cwd / "task.yaml"
    path.write_text(TASK.format(run=json.dumps(run), more=more))
    return str(path)


def until(found: Callable[[], object], what: str, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def ours(aws: Ec2) -> list[str]:
    """Instances of Styx's that exist, by their ids."""
    foreign = {life.instance.id for life in aws.instances() if not life.user_data}
    return [life.instance.id for life in aws.instances() if life.instance.id not in foreign]


def assert_clean(aws: Ec2) -> None:
    """Nothing of ours is left; what is somebody else's is as it was."""
    foreign = aws.instances()
    assert not ours(aws)
    assert [life.state for life in foreign] == ["running"]
    disks = [f"disk {mapping.volume_id}" for _, mapping in foreign[0].instance.get_block_device_mapping]
    assert aws.things() == disks


def test_the_life_of_a_cluster(aws: Ec2, cloud: Styx) -> None:
    yaml = task(
        cloud, "echo rank $STYX_NODE_RANK of $STYX_NUM_NODES on $(hostname); env; cat /proc/*/cmdline | tr '\\0' ' '"
    )
    aws.boot_s, aws.ssh_boot_s = 2.0, 1.0  # running before it answers, as real ones are
    launched = cloud("launch", "--yes", "-c", "life", yaml)
    assert "rank 0 of 1 on ip-1" in launched.stdout
    (life,) = [one for one in aws.instances() if one.user_data]
    assert life.machine is not None
    tags = {tag["key"]: tag["value"] for tag in life.instance.get_tags()}
    assert (tags["team"], tags["styx-rank"]) == ("blue", "0")
    assert life.machine.host_key == tags["styx-host-key"]  # pinned before the first answer
    assert cloud("exec", "life", "exit 3", code=None).returncode == 3
    cloud("stop", "--yes", "life")
    assert [one.state for one in aws.instances() if one.user_data] == ["stopped"]
    assert not life.machine.running
    cloud("start", "--yes", "life")
    assert "and again" in cloud("exec", "life", "echo and again").stdout
    for canary in (KEY_ID, SECRET):
        assert canary not in launched.stdout + launched.stderr
        assert not any(canary in line for line in aws.lines)
        for folder in (cloud.home, life.machine.root / "home", life.machine.root / "var/lib/cloud"):
            assert not holding(folder, canary)
    cloud("down", "--yes", "life")
    assert_clean(aws)
    (cost,) = cloud.json("cost-report")
    lines = {each["item"]: each for each in cost["items"]}
    assert lines["compute"]["usd"] > 0
    assert lines["disk"]["estimated"]
    assert lines["disk"]["usd"] > 0  # as large as its image, which the task said nothing of
    assert "aws.amazon.com/ebs/pricing" in lines["disk"]["note"]
    assert (lines["egress"]["usd"], lines["egress"]["estimated"]) == (None, False)
    assert "traffic ?: neither aws nor Styx counts" in cloud("cost-report").stderr
    assert cloud("sweep").stdout.strip() in ("", "nothing of ours is left") or "nothing" in cloud("sweep").stderr


def holding(folder: Path, text: str) -> list[Path]:
    """Files below a folder that hold a text."""
    found = []
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink() and text.encode() in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


def test_spot_in_another_region_when_one_has_no_machines_and_its_interruption(aws: Ec2, cloud: Styx) -> None:
    aws.sell_out("us-east-1")
    cloud("launch", "--yes", "-d", "-c", "spot", task(cloud, "sleep 600", "  use_spot: true"))
    story = cloud("why", "spot").stdout
    assert "InsufficientInstanceCapacity" in story
    assert "eu-west-1" in story
    (life,) = [one for one in aws.instances() if one.user_data]
    assert (life.region, life.instance.lifecycle) == ("eu-west-1", "spot")
    assert life.machine is not None
    assert life.machine.run(list(probe.COMMAND)).returncode != 0
    aws.interrupt(life.instance.id, notice=True)
    assert life.machine.run(list(probe.COMMAND)).returncode == 0
    aws.interrupt(life.instance.id)
    (row,) = cloud.json("status", "--refresh")
    assert row["state"] not in ("UP", "STOPPED")
    assert "preempt" in json.dumps(cloud.json("why", "spot")).lower()
    cloud("down", "--yes", "spot")
    assert_clean(aws)


def zoned(styx: Styx, zone: str, more: str = "") -> str:
    path = Path(task(styx, "echo here", more))
    path.write_text(path.read_text().replace("infra: aws", f"infra: aws/us-east-1/{zone}"))
    return str(path)


def test_a_task_is_held_to_a_zone(aws: Ec2, cloud: Styx) -> None:
    names = {"us-east-1a": aws.zone_id("us-east-1a"), "us-east-1b": aws.zone_id("us-east-1b")}
    here = names["us-east-1b"]
    (planned,) = cloud.json("optimize", zoned(cloud, "us-east-1b"))["tasks"]
    assert (planned["region"], planned["zone"], planned["alternatives"]) == ("us-east-1", here, [])
    (spot,) = cloud.json("optimize", zoned(cloud, "us-east-1b", "  use_spot: true"))["tasks"]
    assert (spot["zone"], spot["use_spot"]) == (here, True)
    (assumed,) = cloud.json("optimize", "--assume-enabled", "aws", zoned(cloud, "us-east-1b"))["tasks"]
    assert assumed["zone"] == "us-east-1b"  # as it was written, since nobody is asked

    aws.sell_out("us-east-1b")
    refused = cloud("launch", "--yes", "-c", "held", zoned(cloud, "us-east-1b"), code=69)
    assert "InsufficientInstanceCapacity" in refused.stderr
    assert here in refused.stderr
    assert len(cloud.json("why", "held")["attempts"]) == 1  # no other zone was tried
    assert_clean(aws)
    del aws.closed["us-east-1b"]

    cloud("launch", "--yes", "-c", "held", zoned(cloud, "us-east-1b"))
    (life,) = [one for one in aws.instances() if one.user_data]
    assert life.instance.placement.zone == "us-east-1b"
    assert cloud.json("status")[0]["infra"] == f"aws/us-east-1/{here}"
    assert "here" in cloud("launch", "--yes", "-c", "held", zoned(cloud, here)).stdout
    other = cloud("launch", "--yes", "-c", "held", zoned(cloud, "us-east-1a"), code=67).stderr
    assert f"needs zone {names['us-east-1a']}; the cluster has zone {here}" in other
    cloud("down", "--yes", "held")
    assert_clean(aws)


def test_a_zone_that_there_is_not_is_told_before_anything_is_made(aws: Ec2, cloud: Styx) -> None:
    named = "AWS has no zone {} in us-east-1: zones there have names like us-east-1a or ids like use1-az1"
    wrong = {"eu-west-1a": named.format("eu-west-1a")}
    wrong["us-east-1z"] = "AWS has no zone us-east-1z in us-east-1 for this account: there is us-east-1a (use1-az"
    for zone, says in wrong.items():
        ran = cloud("launch", "--yes", "-c", "none", zoned(cloud, zone), code=69)
        assert says in ran.stderr
        assert "Traceback" not in ran.stderr
    assert cloud.json("status") == []
    assert_clean(aws)


def test_a_machine_that_does_not_answer_is_shown_so_until_it_does(aws: Ec2, cloud: Styx) -> None:
    cloud("launch", "--yes", "-c", "quiet", task(cloud, "echo done"))
    (life,) = [one for one in aws.instances() if one.user_data]
    assert life.machine is not None
    life.machine.cut()  # and for AWS it runs
    (seen,) = cloud.json("status", "--refresh")
    assert (life.state, seen["state"]) == ("running", "UNREACHABLE")
    assert "node 0 has not answered since 20" in seen["note"]
    assert "cannot reach" in seen["note"]
    (later,) = cloud.json("status")  # as last seen, without asking
    assert (later["state"], later["note"]) == ("UNREACHABLE", seen["note"])
    life.machine.mend()
    (back,) = cloud.json("status", "--refresh")
    assert (back["state"], back["note"]) == ("UP", None)
    story = [event["message"] for event in cloud.json("why", "quiet")["events"] if event["step"] == "answer"]
    assert story == [seen["note"], "all nodes answer again"]

    life.machine.hang()  # connections open, and nothing is said
    assert cloud.json("status", "--refresh")[0]["state"] == "UNREACHABLE"
    life.machine.resume()
    assert "hello" in cloud("exec", "quiet", "echo hello").stdout
    assert cloud.json("status")[0]["state"] == "UP"  # it answered just now
    cloud("down", "--yes", "quiet")
    assert_clean(aws)


def test_a_machine_ends_itself_when_its_client_is_gone_for_good(aws: Ec2, cloud: Styx) -> None:
    yaml = task(cloud, "echo done", "config: {lease: {idle: 2s, action: down}}")
    cloud("launch", "--yes", "-d", "-c", "brief", yaml, timeout_s=240)
    until(lambda: not ours(aws), "the machine has ended itself")
    (life,) = [one for one in aws.instances(ended=True) if one.user_data]
    assert life.instance.state_reason.code == "Client.InstanceInitiatedShutdown"
    cloud("status", "--refresh")
    cloud("down", "--yes", "brief", code=None)
    assert_clean(aws)


def test_a_host_that_somebody_else_stands_in_for(aws: Ec2, cloud: Styx) -> None:
    aws.other_host_key = True
    yaml = task(cloud, "echo never", "config: {launch: {ready_timeout: 8s}}")
    ran = cloud("launch", "--yes", "-c", "forged", yaml, code=None, timeout_s=240)
    assert ran.returncode not in (0, 70), ran.stderr
    assert "host key" in ran.stderr
    assert "never" not in ran.stdout
    cloud("down", "--yes", "forged", code=None)
    assert_clean(aws)
