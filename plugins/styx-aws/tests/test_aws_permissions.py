"""The shipped policy is enough for all that the driver does, and no more than that; `check --permissions` tells."""

import json

import pytest

from styx.plugin import CredentialsError, NodeState
from styx_aws.permissions import POLICY, policy_actions, principal
from tests.simcloud.ec2 import Ec2

from .test_aws_machines import CLUSTER, PLACE, ask, row, up

DOCUMENT = json.loads(POLICY.read_text())
UNUSED = {
    "ec2:CreateTags",  # asked for by AWS itself, for tags given at creation
    "ec2:DeleteVolume",  # disks end with their machines; one is left only when that failed
    "iam:CreateServiceLinkedRole",  # asked for by AWS itself, once in an account
}


def without(*actions):
    """The policy with some actions taken out."""
    made = json.loads(POLICY.read_text())
    for statement in made["Statement"]:
        given = statement["Action"]
        statement["Action"] = [one for one in ([given] if isinstance(given, str) else given) if one not in actions]
    return made


def everything(aws: Ec2, make) -> None:
    """All that the driver can do, once."""
    driver = make(spot="persistent", capacity_reservations=("cr-none",))
    driver.check()
    list(driver.fetch())
    aws.quotas["L-1216C47A"] = 64
    driver.quota(PLACE, row())
    request = ask(2, ports=(8080,))
    nodes = up(driver, request)
    driver.open_ports(nodes, [9000])
    driver.close_ports(nodes, [9000])
    driver.prepare_self_action(nodes, "down")
    driver.stop(nodes)
    assert driver.start(nodes)[0].state is NodeState.RUNNING
    spot = up(driver, ask(cluster=f"{CLUSTER[:-1]}2", offer=row(spot=True)))
    big = row("p4d.24xlarge", network_tier="best", accelerator_vendor="nvidia")
    fabric = ask(2, cluster=f"{CLUSTER[:-1]}3", offer=big, network_tier="best")
    for _ in range(3):
        many = driver.create(fabric)
    everyone = [*nodes, *spot, *many]
    driver.terminate(everyone)
    for cluster in {node.cluster for node in everyone}:
        driver.nodes(PLACE, cluster)
        driver.release(PLACE, cluster)
    assert not driver.leftovers(PLACE)


def test_the_policy_is_enough_and_none_of_it_is_idle(aws, make):
    aws.policy = DOCUMENT
    everything(aws, make)
    assert not aws.things()
    called = {action for action in aws.calls if action}
    idle = {one for one in policy_actions(DOCUMENT) if one.partition(":")[2] not in called}
    assert idle == UNUSED


def test_nothing_that_is_not_ours_can_be_touched_with_it(aws, make):
    aws.policy = DOCUMENT
    driver = make()
    node = up(driver, ask())[0]
    theirs = node.model_copy(update={"id": aws.plant()})
    with pytest.raises(CredentialsError, match="UnauthorizedOperation") as caught:
        driver.terminate([theirs])
    assert "styx check aws --permissions" in caught.value.hint


def test_what_is_missing_is_named(aws, make):
    aws.policy = without("ec2:RunInstances", "ec2:DescribeVpcs", "servicequotas:GetServiceQuota")
    found = make().missing_permissions()
    assert found.missing == ("ec2:DescribeVpcs", "ec2:RunInstances", "servicequotas:GetServiceQuota")
    assert not found.unknown
    assert found.policy == str(POLICY)
    aws.policy = DOCUMENT
    assert make().missing_permissions().granted == tuple(policy_actions(DOCUMENT))
    assert not aws.instances()
    assert not aws.things()


def test_dry_runs_where_iam_may_not_be_asked(aws, make):
    aws.policy, aws.may_simulate = without("ec2:DescribeVpcs", "ec2:CreateSecurityGroup"), False
    found = make().missing_permissions()
    assert found.missing == ("ec2:CreateSecurityGroup", "ec2:DescribeVpcs")
    assert "ec2:DescribeSubnets" in found.granted
    assert "ec2:TerminateInstances" in found.unknown
    assert not aws.things()


@pytest.mark.parametrize(
    ("arn", "whom"),
    [
        ("arn:aws:iam::1:user/ada", "arn:aws:iam::1:user/ada"),
        ("arn:aws:sts::1:assumed-role/Admin/me", "arn:aws:iam::1:role/Admin"),
        ("arn:aws-cn:sts::1:assumed-role/Admin/me", "arn:aws-cn:iam::1:role/Admin"),
        ("arn:aws:iam::1:root", None),
    ],
)
def test_whom_iam_is_asked_about(arn, whom):
    assert principal(arn) == whom
