"""Calls that moto lacks, with replies held against botocore's model of each service, as AWS's reference shows them."""

import json
from contextlib import contextmanager

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber

from styx.plugin import CredentialsError, NodeState, QuotaError, Scope, TransientError, UnsupportedError
from styx_aws import quotas
from styx_aws.errors import translated
from styx_aws.families import CHIPS, family, has_fabric
from styx_aws.permissions import POLICY, policy_actions

from .test_aws_machines import CLUSTER, PLACE, ask, row


@contextmanager
def stubbed(driver, service, region="us-east-1"):
    """A client of the driver whose replies are scripted, and every one of which must be asked for."""
    client = boto3.client(service, region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
    keys = driver._clients.keys()
    driver._clients._clients[service, region, keys.access_key_id] = client
    with Stubber(client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


@pytest.fixture
def driver(make):
    driver = make(capacity_reservations=("cr-0123456789abcdef0",), spot="persistent")
    driver._clients._accounts[driver._clients.keys().access_key_id] = PLACE.account
    return driver


def test_a_quota(driver):
    reply = {
        "Quota": {
            "ServiceCode": "ec2", "ServiceName": "Amazon Elastic Compute Cloud (Amazon EC2)", "QuotaCode": "L-417A185B",
            "QuotaArn": "arn:aws:servicequotas:us-east-1:123456789012:ec2/L-417A185B",
            "QuotaName": "Running On-Demand P instances", "Value": 384.0, "Unit": "None", "Adjustable": True,
            "GlobalQuota": False,
        }
    }  # fmt: skip
    with stubbed(driver, "service-quotas") as service, stubbed(driver, "ec2") as ec2:
        service.add_response("get_service_quota", reply, {"ServiceCode": "ec2", "QuotaCode": "L-417A185B"})
        running = {
            "InstanceId": "i-1", "InstanceType": "p5.48xlarge", "CpuOptions": {"CoreCount": 96, "ThreadsPerCore": 2}
        }  # fmt: skip
        spot = {**running, "InstanceLifecycle": "spot"}
        ec2.add_response("describe_instances", {"Reservations": [{"Instances": [running, spot]}]}, {"Filters": ANY})
        assert quotas.machines_left(driver._clients, "us-east-1", row("p5.48xlarge", vcpus=192)) == 1


def test_a_quota_that_may_not_be_read_is_not_known(driver):
    with stubbed(driver, "service-quotas") as service:
        service.add_client_error("get_service_quota", "AccessDeniedException", http_status_code=400)
        assert driver.quota(PLACE, row()) is None


def test_a_capacity_block(driver):
    reply = {
        "CapacityReservations": [
            {
                "CapacityReservationId": "cr-0123456789abcdef0", "InstanceType": "p5.48xlarge",
                "AvailabilityZone": "us-east-1a", "AvailabilityZoneId": "use1-az6", "TotalInstanceCount": 4,
                "AvailableInstanceCount": 2, "State": "active", "InstanceMatchCriteria": "targeted",
                "ReservationType": "capacity-block", "Tenancy": "default",
            }
        ]
    }  # fmt: skip
    filters = [{"Name": "instance-type", "Values": ["p5.48xlarge"]}, {"Name": "state", "Values": ["active"]}]
    subnet = driver._network.subnets(PLACE, 2, {})
    six = next(one for one in subnet if one.zone_id == "use1-az6")
    with stubbed(driver, "ec2") as ec2:
        for count, found in ((2, ("cr-0123456789abcdef0", True)), (3, None)):
            ec2.add_response("describe_capacity_reservations", reply, {"Filters": filters})
            assert driver._reservation(ask(offer=row("p5.48xlarge")), six, count) == found


def test_a_placement_group(driver):
    tags = driver._group_tags(CLUSTER)
    asked = {
        "GroupName": CLUSTER, "Strategy": "cluster",
        "TagSpecifications": [{"ResourceType": "placement-group", "Tags": tags}],
    }  # fmt: skip
    made = {"GroupName": CLUSTER, "GroupId": "pg-1", "State": "available", "Strategy": "cluster", "Tags": tags}
    with stubbed(driver, "ec2") as ec2:
        ec2.add_response("create_placement_group", {"PlacementGroup": made}, asked)
        assert driver._network.placement_group(ask(), tags) == CLUSTER
        ec2.add_client_error("create_placement_group", "InvalidPlacementGroup.Duplicate")
        assert driver._network.placement_group(ask(), tags) == CLUSTER
        for action, field in (
            ("describe_spot_instance_requests", "SpotInstanceRequests"),
            ("describe_addresses", "Addresses"),
            ("describe_volumes", "Volumes"),
            ("describe_security_groups", "SecurityGroups"),
        ):
            ec2.add_response(action, {field: []}, {"Filters": ANY})
        ec2.add_response("describe_placement_groups", {"PlacementGroups": [made]}, {"Filters": ANY})
        ec2.add_response("delete_placement_group", {}, {"GroupName": CLUSTER})
        driver.release(PLACE, CLUSTER)


def test_a_persistent_spot_request(driver, aws):
    request = ask(offer=row(spot=True, zone="use1-az1"))
    subnet = driver._network.subnets(PLACE.model_copy(update={"zone": "use1-az1"}), 1, {})[0]
    image = driver._images.find("us-east-1", "/aws/service/canonical/x")
    reply = {
        "ReservationId": "r-1", "OwnerId": PLACE.account,
        "Instances": [
            {
                "InstanceId": "i-1", "InstanceType": "m5.large", "AmiLaunchIndex": 0, "InstanceLifecycle": "spot",
                "SpotInstanceRequestId": "sir-1", "State": {"Code": 0, "Name": "pending"},
                "Placement": {"AvailabilityZone": subnet.zone},
                "Tags": [*driver._group_tags(CLUSTER), {"Key": "styx-spot", "Value": "persistent"}],
            }
        ],
    }  # fmt: skip
    expected = {
        "MarketType": "spot",
        "SpotOptions": {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"},
    }
    from styx_aws import machines
    from styx_aws.network import Nic

    asked = machines.parameters(request, machines.Launch(0, 1, image, subnet, [Nic(["sg-1"])]), driver.config)
    assert asked["InstanceMarketOptions"] == expected
    with stubbed(driver, "ec2") as ec2:
        ec2.add_response("run_instances", reply, asked)
        made = driver._clients.call("ec2", "us-east-1", "run_instances", **asked)["Instances"][0]
    node = machines.node_of(made, machines.Shown(PLACE, {}, {}, driver.config))
    assert (node.state, node.data) == (NodeState.PENDING, {"spot": "persistent", "spot_request": "sir-1"})


def test_a_simulation_of_a_policy(driver):
    wanted = policy_actions(json.loads(POLICY.read_text()))
    arn = "arn:aws:iam::123456789012:user/ada"
    with stubbed(driver, "sts") as sts, stubbed(driver, "iam") as iam:
        sts.add_response("get_caller_identity", {"UserId": "A", "Account": "123456789012", "Arn": arn})
        things = {
            "*": [one for one in wanted if one not in {"ssm:GetParameters", "iam:CreateServiceLinkedRole"}],
            "arn:aws:iam::123456789012:role/aws-service-role/spot.amazonaws.com/styx": ["iam:CreateServiceLinkedRole"],
            "arn:aws:ssm:us-east-1::parameter/aws/service/styx": ["ssm:GetParameters"],
        }
        for thing, asked in things.items():
            decisions = [
                {"EvalActionName": one, "EvalResourceName": thing, "EvalDecision": "allowed", "MatchedStatements": []}
                for one in asked
            ]
            if thing == "*":
                decisions[3] = {**decisions[3], "EvalDecision": "explicitDeny"}
            iam.add_response(
                "simulate_principal_policy",
                {"EvaluationResults": decisions, "IsTruncated": False},
                {"PolicySourceArn": arn, "ActionNames": asked, "ResourceArns": [thing], "ContextEntries": ANY},
            )
        assert driver.missing_permissions().missing == (things["*"][3],)


@pytest.mark.parametrize(
    ("code", "message", "kind", "scope", "hint"),
    [
        ("UnauthorizedOperation", "You may not.", CredentialsError, Scope.ACCOUNT, "--permissions"),
        ("UnauthorizedOperation", "You may not: with an explicit deny in a service control policy.",
         CredentialsError, Scope.REGION, "--permissions"),
        ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", "no role", CredentialsError, Scope.ACCOUNT,
         "create-service-linked-role"),
        ("InvalidParameterValue", "Invalid value 'p9.large' for InstanceType.", UnsupportedError, Scope.REGION, None),
        ("InvalidParameterValue", "Tag value is no good", UnsupportedError, Scope.CLOUD, None),
        ("InvalidKeyPair.NotFound", "no such key", UnsupportedError, Scope.REGION, "clouds.aws.key_pair"),
        ("MaxIOPSLimitExceeded", "too fast", QuotaError, Scope.REGION, "EBS IOPS"),
        ("IncorrectSpotRequestState", "not yet", TransientError, Scope.OFFER, None),
    ],
)  # fmt: skip
def test_what_refusals_mean(code, message, kind, scope, hint):
    blob = f"{message} Encoded authorization failure message: {'x' * 900}"
    said = {"Error": {"Code": code, "Message": blob}, "ResponseMetadata": {"HTTPStatusCode": 403, "RequestId": "r-1"}}
    found = translated(ClientError(said, "RunInstances"), "RunInstances in us-east-1")
    assert (type(found), found.scope) == (kind, scope)
    assert (found.message, found.vendor.request_id) == (
        f"RunInstances in us-east-1: AWS says {code}: {message.rstrip('.')}",
        "r-1",
    )
    assert hint is None or hint in found.hint


def test_the_machines_with_a_fabric_are_those_that_aws_says():
    """As DescribeInstanceTypes says, of which moto holds a copy."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    known = {name: info["NetworkInfo"] for name, info in INSTANCE_TYPES.items() if family(name) in CHIPS}
    assert len(known) > 50
    assert {name for name, network in known.items() if network.get("EfaSupported")} == set(filter(has_fabric, known))
