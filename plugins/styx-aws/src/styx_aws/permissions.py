"""Which permissions the credentials have, of those in `permissions.json`. Nothing is changed.

IAM is asked what it would say; where it may not be asked, EC2 is, with DryRun, about what can be asked that way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from styx.plugin import CloudError, CredentialsError, Permissions
from styx_aws.session import Clients

POLICY: Final = Path(__file__).with_name("permissions.json")
_OF_A_CALL: Final = 50
_CONTEXT: Final[Mapping[str, tuple[str, ...]]] = {
    "aws:ResourceTag/styx-store": ("styx",),
    "ec2:CreateAction": ("RunInstances",),
    "iam:AWSServiceName": ("spot.amazonaws.com",),
}
"""What the conditions of the policy are asked with: about things that are Styx's."""
_ROLE: Final = re.compile(r"arn:([\w-]+):sts::(\d+):assumed-role/([^/]+)/")
_EVERYTHING: Final = "*"
_DRY_RUNS: Final[Mapping[str, Mapping[str, Any]]] = {
    "ec2:DescribeAddresses": {},
    "ec2:DescribeAvailabilityZones": {},
    "ec2:DescribeCapacityReservations": {},
    "ec2:DescribeInstanceTypes": {},
    "ec2:DescribeInstances": {},
    "ec2:DescribePlacementGroups": {},
    "ec2:DescribeRegions": {},
    "ec2:DescribeRouteTables": {},
    "ec2:DescribeSecurityGroups": {},
    "ec2:DescribeSpotInstanceRequests": {},
    "ec2:DescribeSpotPriceHistory": {},
    "ec2:DescribeSubnets": {},
    "ec2:DescribeVolumes": {},
    "ec2:DescribeVpcs": {},
    "ec2:DescribeImages": {"Owners": ["self"]},
    "ec2:AllocateAddress": {"Domain": "vpc"},
    "ec2:CreatePlacementGroup": {"GroupName": "styx-permission-check", "Strategy": "cluster"},
    "ec2:CreateSecurityGroup": {"GroupName": "styx-permission-check", "Description": "Styx asks, and makes nothing"},
}
"""What DryRun can be asked without naming a thing that exists."""


def policy_actions(document: Mapping[str, Any]) -> list[str]:
    """Every action that a policy allows, in order."""
    found: set[str] = set()
    for statement in document["Statement"]:
        actions = statement["Action"]
        found.update([actions] if isinstance(actions, str) else actions)
    return sorted(found)


def resources(document: Mapping[str, Any], region: str, arn: str) -> dict[str, str]:
    """A thing to ask about for every action of a policy; told nothing, IAM asks about all things there are.

    Args:
        document: The policy.
        region: Of the thing, where the policy leaves it open.
        arn: Whose it is: gives partition and account, where the policy leaves them open.
    """
    _, partition, _, _, account, _ = arn.split(":", 5)
    found: dict[str, str] = {}
    for statement in document["Statement"]:
        thing = statement["Resource"]
        if thing != _EVERYTHING:
            _, _, service, where, whose, name = thing.split(":", 5)
            where, whose = where.replace("*", region), whose.replace("*", account)
            thing = ":".join(("arn", partition, service, where, whose, name.replace("*", "styx")))
        actions = statement["Action"]
        found |= dict.fromkeys([actions] if isinstance(actions, str) else actions, thing)
    return found


def principal(arn: str) -> str | None:
    """Whom to ask IAM about: a role for a session of it; None for the account's root, who may do everything."""
    if arn.endswith(":root"):
        return None
    role = _ROLE.match(arn)
    return f"arn:{role[1]}:iam::{role[2]}:role/{role[3]}" if role else arn


def missing(clients: Clients, region: str) -> Permissions:
    """What the credentials may do of the policy's actions."""
    document = json.loads(POLICY.read_text())
    wanted = policy_actions(document)
    arn = str(clients.call("sts", region, "get_caller_identity")["Arn"])
    whom = principal(arn)
    if whom is None:
        return Permissions(granted=tuple(wanted), policy=str(POLICY))
    answers: Mapping[str, bool | None]
    try:
        answers = _simulated(clients, region, whom, resources(document, region, arn))
    except CredentialsError:
        answers = _dry(clients, region, wanted)
    except CloudError as error:
        if error.vendor.code not in {"NoSuchEntity", "InvalidInput"}:  # a role below a path, a federated user
            raise
        answers = _dry(clients, region, wanted)
    return Permissions(
        granted=tuple(one for one in wanted if answers.get(one) is True),
        missing=tuple(one for one in wanted if answers.get(one) is False),
        unknown=tuple(one for one in wanted if answers.get(one) is None),
        policy=str(POLICY),
    )


def _simulated(clients: Clients, region: str, whom: str, things: Mapping[str, str]) -> dict[str, bool]:
    context = [
        {"ContextKeyName": name, "ContextKeyValues": list(values), "ContextKeyType": "string"}
        for name, values in _CONTEXT.items()
    ]
    answers: dict[str, bool] = {}
    for thing in sorted(set(things.values())):
        wanted = sorted(action for action, about in things.items() if about == thing)
        for first in range(0, len(wanted), _OF_A_CALL):
            results = clients.pages(
                "iam",
                region,
                "simulate_principal_policy",
                "EvaluationResults",
                PolicySourceArn=whom,
                ActionNames=wanted[first : first + _OF_A_CALL],
                ResourceArns=[thing],
                ContextEntries=context,
            )
            answers.update({one["EvalActionName"]: one["EvalDecision"] == "allowed" for one in results})
    return answers


def _dry(clients: Clients, region: str, wanted: Iterable[str]) -> dict[str, bool | None]:
    return {action: _dry_run(clients, region, action) for action in wanted if action in _DRY_RUNS}


def _dry_run(clients: Clients, region: str, action: str) -> bool | None:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", action.partition(":")[2]).lower()
    try:
        clients.call("ec2", region, name, DryRun=True, **_DRY_RUNS[action])
    except CloudError as error:
        return {"DryRunOperation": True, "UnauthorizedOperation": False}.get(error.vendor.code or "")
    return True
