"""The simulated EC2 keeps to what AWS documents where moto does not: a test for each mend, with boto3 alone."""

import base64

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.simcloud.ec2 import KEY_ID, SECRET

CONFIG = Config(retries={"total_max_attempts": 1})


def client(aws, service="ec2", key=KEY_ID, region="us-east-1"):
    return boto3.client(
        service, region_name=region, endpoint_url=aws.url, aws_access_key_id=key, aws_secret_access_key=SECRET,
        config=CONFIG,
    )  # fmt: skip


@pytest.fixture
def ec2(aws):
    return client(aws)


def run(ec2, count=1, **more):
    subnet = ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][0]["SubnetId"]
    nic = {"DeviceIndex": 0, "SubnetId": subnet, "AssociatePublicIpAddress": True, "DeleteOnTermination": True}
    asked = {"InstanceType": "m5.large", "ImageId": "ami-1", "MinCount": count, "MaxCount": count}
    return ec2.run_instances(**{"NetworkInterfaces": [nic], **asked, **more})["Instances"]


def listed(ec2, **asked):
    return [one for each in ec2.describe_instances(**asked)["Reservations"] for one in each["Instances"]]


def refused(call, *arguments, **named):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **named)
    return caught.value.response["Error"]["Code"]


def test_client_tokens_are_idempotent(aws, ec2):
    first = run(ec2, 2, ClientToken="t1")
    again = run(ec2, 2, ClientToken="t1")
    assert [one["InstanceId"] for one in again] == [one["InstanceId"] for one in first]
    assert [one["AmiLaunchIndex"] for one in first] == [0, 1]
    assert refused(run, ec2, 1, ClientToken="t1") == "IdempotentParameterMismatch"
    assert len(aws.instances()) == 2
    assert len({one["InstanceId"] for one in run(ec2, 1, ClientToken="t2") + first}) == 3


def test_states_take_their_time(aws, ec2):
    aws.boot_s, aws.stop_s, aws.terminate_s = 20, 10, 5
    one = run(ec2)[0]["InstanceId"]

    def state(after=0):
        aws.clock.advance(after)
        return listed(ec2)[0]["State"]["Name"]

    assert [state(), state(19), state(1)] == ["pending", "pending", "running"]
    ec2.stop_instances(InstanceIds=[one])
    assert refused(ec2.start_instances, InstanceIds=[one]) == "IncorrectInstanceState"
    assert [state(), state(10)] == ["stopping", "stopped"]
    ec2.start_instances(InstanceIds=[one])
    assert [state(), state(20)] == ["pending", "running"]
    ec2.terminate_instances(InstanceIds=[one])
    assert [state(), state(5)] == ["shutting-down", "terminated"]
    assert listed(ec2)[0]["StateReason"]["Code"] == "Client.UserInitiatedShutdown"


def test_a_new_instance_is_missing_for_a_while(aws, ec2):
    aws.listing_lag_s = 5
    one = run(ec2)[0]["InstanceId"]
    assert not listed(ec2)
    assert refused(listed, ec2, InstanceIds=[one]) == "InvalidInstanceID.NotFound"
    aws.clock.advance(5)
    assert listed(ec2)[0]["InstanceId"] == one


def test_pages(aws, ec2):
    aws.page_size = 2
    for _ in range(5):
        run(ec2)
    pages = list(ec2.get_paginator("describe_instances").paginate())
    assert [len(page["Reservations"]) for page in pages] == [2, 2, 1]


def test_public_addresses_vcpus_and_groups(ec2):
    group = ec2.create_security_group(GroupName="g", Description="g")["GroupId"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    nic = {"DeviceIndex": 0, "SubnetId": subnet, "Groups": [group], "DeleteOnTermination": True}
    bare = run(ec2, NetworkInterfaces=[{**nic, "AssociatePublicIpAddress": False}])[0]
    one = run(ec2, NetworkInterfaces=[{**nic, "AssociatePublicIpAddress": True}])[0]
    assert "PublicIpAddress" not in bare
    assert one["PublicIpAddress"].startswith("203.0.113.")
    assert one["CpuOptions"] == {"CoreCount": 1, "ThreadsPerCore": 2}
    assert [each["GroupId"] for each in one["SecurityGroups"]] == [group]
    assert refused(ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    ec2.terminate_instances(InstanceIds=[one["InstanceId"], bare["InstanceId"]])
    listed(ec2)
    ec2.delete_security_group(GroupId=group)
    assert refused(run, ec2, NetworkInterfaces=[{**nic, "Groups": ["sg-1"]}]) == "InvalidGroup.NotFound"


def test_interfaces_of_many_cards(ec2):
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    nics = [
        {"DeviceIndex": min(card, 1), "NetworkCardIndex": card, "SubnetId": subnet, "DeleteOnTermination": True,
         "InterfaceType": "efa" if card == 0 else "efa-only"} for card in range(4)
    ]  # fmt: skip
    one = run(ec2, InstanceType="p4d.24xlarge", NetworkInterfaces=nics)[0]
    assert [nic["InterfaceType"] for nic in one["NetworkInterfaces"]] == ["efa", "efa-only", "efa-only", "efa-only"]
    code = "InvalidParameterCombination"
    nics[0]["AssociatePublicIpAddress"] = True
    assert refused(run, ec2, InstanceType="p4d.24xlarge", NetworkInterfaces=nics) == code
    ec2.terminate_instances(InstanceIds=[one["InstanceId"]])
    listed(ec2)
    assert not ec2.describe_network_interfaces()["NetworkInterfaces"]
    b300 = [{**nics[1], "NetworkCardIndex": card} for card in range(1, 17)]
    first = {"DeviceIndex": 0, "SubnetId": subnet, "DeleteOnTermination": True}
    for wrong in ([{**first, "InterfaceType": "efa"}, *b300[:15]], [{**first, "InterfaceType": "efa-only"}], b300 * 2):
        assert refused(run, ec2, InstanceType="p6-b300.48xlarge", NetworkInterfaces=wrong) == code
    made = run(ec2, InstanceType="p6-b300.48xlarge", NetworkInterfaces=[first, *b300])[0]
    ec2.terminate_instances(InstanceIds=[made["InstanceId"]])


def test_capacity_and_quotas(aws, ec2):
    zone = ec2.describe_subnets()["Subnets"][0]["AvailabilityZone"]
    aws.sell_out(zone)
    assert refused(run, ec2) == "InsufficientInstanceCapacity"
    aws.closed.clear()
    aws.leave(1)
    run(ec2)
    assert refused(run, ec2) == "InsufficientInstanceCapacity"
    aws.quotas["L-1216C47A"] = 5
    quotas = client(aws, "service-quotas")
    assert quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-1216C47A")["Quota"]["Value"] == 5
    assert refused(quotas.get_service_quota, ServiceCode="ec2", QuotaCode="L-0") == "NoSuchResourceException"
    run(ec2)
    assert refused(run, ec2) == "VcpuLimitExceeded"
    assert refused(run, ec2, InstanceType="m5.impossible") == "InvalidInstanceType.NotFound"


def test_spot_requests_of_run_instances(aws, ec2):
    market = {"MarketType": "spot", "SpotOptions": {"SpotInstanceType": "one-time"}}
    one = run(ec2, InstanceMarketOptions=market)[0]
    assert one["InstanceLifecycle"] == "spot"
    shown = ec2.describe_spot_instance_requests()["SpotInstanceRequests"][0]
    assert (shown["SpotInstanceRequestId"], shown["InstanceId"]) == (one["SpotInstanceRequestId"], one["InstanceId"])
    assert refused(ec2.stop_instances, InstanceIds=[one["InstanceId"]]) == "UnsupportedOperation"
    aws.interrupt(one["InstanceId"])
    assert listed(ec2)[0]["StateReason"]["Code"] == "Server.SpotInstanceTermination"
    assert ec2.describe_spot_instance_requests()["SpotInstanceRequests"][0]["State"] == "closed"
    market["SpotOptions"] = {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop"}
    two = run(ec2, InstanceMarketOptions=market)[0]
    ec2.stop_instances(InstanceIds=[two["InstanceId"]])
    ec2.terminate_instances(InstanceIds=[two["InstanceId"]])
    wanted = [{"Name": "state", "Values": ["open"]}, {"Name": "type", "Values": ["persistent"]}]
    (left,) = ec2.describe_spot_instance_requests(Filters=wanted)["SpotInstanceRequests"]
    ec2.cancel_spot_instance_requests(SpotInstanceRequestIds=[left["SpotInstanceRequestId"]])
    assert not ec2.describe_spot_instance_requests(Filters=wanted)["SpotInstanceRequests"]


def test_spot_prices_are_those_of_the_list(aws, ec2):
    prices = ec2.describe_spot_price_history(ProductDescriptions=["Linux/UNIX"])["SpotPriceHistory"]
    assert {one["SpotPrice"] for one in prices if one["InstanceType"] == "m5.large"} == {"0.028800"}


def test_placement_groups_and_reservations(aws, ec2):
    ec2.create_placement_group(GroupName="g", Strategy="cluster")
    assert refused(ec2.create_placement_group, GroupName="g", Strategy="cluster") == "InvalidPlacementGroup.Duplicate"
    one = run(ec2, Placement={"GroupName": "g"})[0]
    assert one["Placement"]["GroupName"] == "g"
    assert refused(ec2.delete_placement_group, GroupName="g") == "InvalidPlacementGroup.InUse"
    assert refused(run, ec2, Placement={"GroupName": "h"}) == "InvalidPlacementGroup.Unknown"
    ec2.terminate_instances(InstanceIds=[one["InstanceId"]])
    listed(ec2)
    ec2.delete_placement_group(GroupName="g")
    assert not ec2.describe_placement_groups()["PlacementGroups"]
    aws.reservations["cr-1"] = {
        "CapacityReservationId": "cr-1", "InstanceType": "m5.large", "State": "active", "AvailableInstanceCount": 1,
        "AvailabilityZone": one["Placement"]["AvailabilityZone"], "region": "us-east-1",
    }  # fmt: skip
    target = {"CapacityReservationTarget": {"CapacityReservationId": "cr-1"}}
    run(ec2, CapacityReservationSpecification=target)
    assert refused(run, ec2, CapacityReservationSpecification=target) == "ReservationCapacityExceeded"
    assert ec2.describe_capacity_reservations()["CapacityReservations"][0]["AvailableInstanceCount"] == 0


def test_a_shutdown_from_within_does_what_the_attribute_says(aws, ec2):
    one, two = (each["InstanceId"] for each in run(ec2, 2))
    groups = listed(ec2)[1]["SecurityGroups"]
    ec2.modify_instance_attribute(InstanceId=two, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    for name in (one, two):
        aws.powered_off(aws.lives[name])
    seen = {each["InstanceId"]: each["State"]["Name"] for each in listed(ec2)}
    assert seen == {one: "stopped", two: "terminated"}
    assert listed(ec2)[1]["SecurityGroups"] == groups


def test_a_default_network_leads_to_the_internet(ec2):
    for _ in range(2):
        (table,) = ec2.describe_route_tables()["RouteTables"]
        assert [route["GatewayId"][:4] for route in table["Routes"]] == ["loca", "igw-"]


def test_public_image_parameters(aws):
    name = "/aws/service/canonical/ubuntu/server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id"
    reply = client(aws, "ssm").get_parameters(Names=[name, "/aws/service/nothing"])
    assert reply["InvalidParameters"] == ["/aws/service/nothing"]
    images = client(aws).describe_images(ImageIds=[reply["Parameters"][0]["Value"]])["Images"]
    assert "ubuntu" in images[0]["Name"]


def test_keys_are_looked_at(aws):
    assert refused(client(aws, key="AKIAWRONG").describe_regions) == "AuthFailure"
    assert refused(client(aws, "sts", key="AKIAWRONG").get_caller_identity) == "InvalidClientTokenId"
    aws.expired = True
    assert refused(client(aws).describe_regions) == "ExpiredToken"


def test_faults(aws, ec2):
    aws.refuse("DescribeRegions", "RequestLimitExceeded", status=503, skip=1)
    ec2.describe_regions()
    assert refused(ec2.describe_regions) == "RequestLimitExceeded"
    aws.lose_reply("RunInstances")
    with pytest.raises(ConnectionClosedError):
        run(ec2)
    assert len(aws.instances()) == 1
    aws.doom = "Server.InsufficientInstanceCapacity"
    aws.boot_s = 1
    doomed = run(ec2)[0]["InstanceId"]
    aws.clock.advance(1)
    (seen,) = listed(ec2, InstanceIds=[doomed])
    assert (seen["State"]["Name"], seen["StateReason"]["Code"]) == ("terminated", "Server.InsufficientInstanceCapacity")


def test_policies(aws, ec2):
    ec2.create_security_group(GroupName="untagged", Description="x")
    aws.policy = {"Statement": [
        {"Effect": "Allow", "Action": ["ec2:DescribeSecurityGroups"], "Resource": "*"},
        {"Effect": "Allow", "Action": "ec2:DeleteSecurityGroup", "Resource": "*",
         "Condition": {"StringLike": {"aws:ResourceTag/styx-store": "?*"}}},
    ]}  # fmt: skip
    (group,) = [one for one in ec2.describe_security_groups()["SecurityGroups"] if one["GroupName"] == "untagged"]
    assert refused(ec2.describe_vpcs) == "UnauthorizedOperation"
    assert refused(ec2.delete_security_group, GroupId=group["GroupId"]) == "UnauthorizedOperation"


def test_user_data_is_kept(aws, ec2):
    one = run(ec2, UserData="#cloud-config\n{}\n")[0]["InstanceId"]
    assert aws.lives[one].user_data == "#cloud-config\n{}\n"
    shown = ec2.describe_instance_attribute(InstanceId=one, Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(shown).decode() == "#cloud-config\n{}\n"
