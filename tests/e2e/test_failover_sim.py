"""`styx launch` with no `infra` over AWS, Lambda and RunPod: emulated accounts, refusals by script, real hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.simcloud import ec2, lambdacloud, runpod

if TYPE_CHECKING:
    from styx.testing.machines import Machines
    from tests.conftest import Styx

REFUSED = 69


@dataclass
class Accounts:
    """Three accounts with something foreign in each."""

    aws: ec2.Ec2
    lambda_: lambdacloud.LambdaCloud
    runpod: runpod.RunPodCloud
    foreign: set[str] = field(default_factory=set)

    def ours(self) -> list[str]:
        """Everything in the accounts that was not planted."""
        found = [str(life.instance.id) for life in self.aws.instances()] + self.aws.things()
        found += [one.name for one in self.lambda_.instances()] + [pod.name for pod in self.runpod.pods()]
        found += [one["name"] for one in (*self.lambda_.ssh_keys(), *self.lambda_.rulesets())]
        return [name for name in found if name not in self.foreign]

    def assert_as_before(self) -> None:
        """Nothing of ours is left, and what is foreign is there."""
        assert self.ours() == []
        there = {str(life.instance.id) for life in self.aws.instances()} | set(self.aws.things())
        there |= {one.name for one in self.lambda_.instances()} | {pod.name for pod in self.runpod.pods()}
        assert self.foreign <= there

    def sell_out(self) -> None:
        """The two cheapest have no A10."""
        self.runpod.sold_out = {(each["id"], center) for each in runpod.GPUS for center in runpod.CENTERS}
        self.lambda_.sold_out = {
            (region, shape["name"]) for region in self.lambda_.regions for shape in lambdacloud.SHAPES
        }


@pytest.fixture
def accounts(styx: Styx, machines: Machines) -> Iterator[Accounts]:
    with (
        ec2.Ec2(machines, listing_lag_s=0.2) as aws,
        lambdacloud.LambdaCloud(room=machines) as first,
        runpod.RunPodCloud(room=machines) as second,
    ):
        made = Accounts(aws, first, second)  # type: ignore[arg-type] # entering a vendor gives that vendor
        first.plant("us-east-1", name="training-box")
        second.plant("styx-web-else0101-0")
        made.foreign = {"training-box", "styx-web-else0101-0", aws.plant()}
        made.foreign |= set(aws.things())
        settings = {
            "aws": {"regions": ["us-east-1"], "spot_prices": False, "price_endpoint": aws.url},
            "lambda": {"endpoint": first.url},
            "runpod": {"endpoint": second.url, "graphql_endpoint": second.graphql_url},
        }
        styx.home.mkdir(parents=True, exist_ok=True)
        (styx.home / "config.yaml").write_text(json.dumps({"clouds": settings, "lease": {"dead_man": "1h"}}))
        user_home = styx.home.parent / "user"
        user_home.mkdir()
        styx.env |= {
            "AWS_ACCESS_KEY_ID": ec2.KEY_ID, "AWS_SECRET_ACCESS_KEY": ec2.SECRET, "AWS_ENDPOINT_URL": aws.url,
            "LAMBDA_API_KEY": lambdacloud.KEY, "RUNPOD_API_KEY": runpod.KEY, "HOME": str(user_home),
        }  # fmt: skip
        places = [place for check in styx.json("check", "aws", "lambda", "runpod") for place in check["places"]]
        first.regions = tuple(place.split("/")[1] for place in places if place.startswith("lambda/"))
        for name in ("lambda", "runpod"):  # what AWS sells is known from the wheel
            styx("catalog", "refresh", "--cloud", name)
        try:
            yield made
        finally:
            styx("down", "--all", "--yes", code=None)


def attempts(styx: Styx, cluster: str) -> list[tuple[str, str, str | None]]:
    """Cloud, outcome and the vendor's code of each attempt, in order."""
    story = styx.json("why", cluster)
    return [(each["place"]["cloud"], each["state"], each["vendor_code"]) for each in story["attempts"]]


def ranking(styx: Styx, task: Path) -> list[tuple[str, str]]:
    """Cloud and region of the plan's offers, in order, each once."""
    offers = styx.json("launch", str(task), "--dryrun")["offers"]
    return list(dict.fromkeys((offer["place"]["cloud"], offer["place"]["region"]) for offer in offers))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_falls_from_cloud_to_cloud_in_the_plans_order_and_leaves_nothing(
    styx: Styx, accounts: Accounts, tmp_path: Path
) -> None:
    task = tmp_path / "task.yaml"
    task.write_text(
        "resources:\n  any_of:\n    - {accelerators: 'A10:1'}\n    - {accelerators: 'A10G:1'}\n"
        "setup: echo set up\nrun: |\n  whoami\n  exit 7\n"
    )
    order = list(dict.fromkeys(cloud for cloud, _ in ranking(styx, task)))
    assert order == ["runpod", "lambda", "aws"]
    accounts.sell_out()
    all_refuse(styx, accounts, tmp_path)
    ranked = ranking(styx, task)
    assert [place for place in ranked if place[0] == "lambda"][-1] == ("lambda", "us-east-1")  # it refused just now

    inactive = lambdacloud.refusal("global/account-inactive")
    accounts.lambda_.script("launch", inactive, skip=1, times=99)  # the second region says it for the whole account
    done = styx("launch", str(task), "-c", "far", "--yes", code=7, timeout_s=240)
    assert done.stdout == "ubuntu\n"
    assert "set up" in done.stderr
    tried = attempts(styx, "far")
    assert [cloud for cloud, _, _ in tried] == sorted((cloud for cloud, _, _ in tried), key=order.index)
    assert [state for _, state, _ in tried] == ["released"] * (len(tried) - 1) + ["made"]
    assert tried[-1][0] == "aws"
    places = [(each["place"]["cloud"], each["place"]["region"]) for each in styx.json("why", "far")["attempts"]]
    assert places == [place for place in ranked if place in places]
    why = styx("why", "far").stdout
    assert [cloud for cloud, _, _ in tried].count("lambda") == 2
    for words in ("insufficient-capacity", "account-inactive", "instances available", "aws/us-east-1", "made"):
        assert words in why, why
    for words in ("attempt failed: runpod/", "attempt failed: lambda/"):  # told while it happened, too
        assert words in done.stderr
    assert_no_secret(styx, accounts)
    status = styx.json("status", "--refresh")[0]
    assert (status["state"], status["infra"].split("/")[0], status["lease"]) == ("UP", "aws", {"dead_man_s": 3600.0})
    styx("down", "far", "--yes")
    accounts.assert_as_before()
    assert ranking(styx, task)[0][0] == "runpod"  # its refusals are remembered, and it is still so much cheaper


def all_refuse(styx: Styx, accounts: Accounts, folder: Path) -> None:
    """A launch that nobody takes ends with a table of reasons, and leaves nothing."""
    accounts.aws.sell_out("us-east-1")
    few = (
        "{infra: runpod, accelerators: 'A10:1'}",
        "{infra: lambda/us-east-1, accelerators: 'A10:1'}",
        "{infra: aws, accelerators: 'A10G:1'}",
    )
    task = folder / "none.yaml"
    task.write_text("resources:\n  any_of:\n" + "".join(f"    - {each}\n" for each in few) + "run: 'true'\n")
    said = styx("launch", str(task), "-c", "none", "--yes", code=REFUSED, timeout_s=240)
    table = said.stderr[said.stderr.index("every place refused:") :]
    assert "instance-operations/launch/insufficient-capacity" in table
    assert "InsufficientInstanceCapacity" in table
    assert "runpod/" in table
    assert styx.json("status") == []
    assert {state for _, state, _ in attempts(styx, "none")} == {"released"}
    accounts.assert_as_before()
    del accounts.aws.closed["us-east-1"]


def assert_no_secret(styx: Styx, accounts: Accounts) -> None:
    """No credential is in a file of the home, in a request line, in a process's arguments, or on a node."""
    secrets = [ec2.SECRET, lambdacloud.KEY, runpod.KEY]
    folders = [styx.home]
    folders += [
        life.machine.root / part
        for life in accounts.aws.instances()
        if life.machine
        for part in ("home", "tmp", "var/tmp")
    ]
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                assert not any(secret.encode() in content for secret in secrets), f"a secret is in {path}"
    lines = [*accounts.aws.lines, *accounts.lambda_.server.lines(), *accounts.runpod.server.lines()]
    assert lines
    assert not any(secret in line for line in lines for secret in secrets)
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = process.read_bytes()
        except OSError:
            continue
        assert not any(secret.encode() in command for secret in secrets), process
