"""What the driver asks EC2 for, and what it makes of the answers."""

import uuid

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from styx.plugin import (
    CapacityError,
    CatalogRow,
    CredentialsError,
    DriverError,
    Image,
    Market,
    NodeRequest,
    NodeState,
    Place,
    QuotaError,
    Scope,
    TransientError,
    UnsupportedError,
)
from styx.testing.contexts import OTHER_STORE, STORE
from styx_aws import machines
from styx_aws.config import AwsConfig
from styx_aws.images import Ami, parameter, user_of
from styx_aws.network import Subnet, interfaces, ordered, public_subnets
from styx_aws.session import Clients
from tests.simcloud.ec2 import ACCOUNT, KEY_ID, SECRET

PLACE = Place(cloud="aws", account=ACCOUNT, region="us-east-1")
CLUSTER = f"styx-test-{STORE}01"


def a_host_key():
    key = Ed25519PrivateKey.generate()
    return SecretStr(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())


def row(kind="m5.large", *, spot=False, zone=None, **more):
    cells = {"vcpus": 2, "memory_gib": 8, "usd_per_hour": 0.096, "source": "test", **more}
    market = Market.SPOT if spot else Market.ON_DEMAND
    return CatalogRow(cloud="aws", instance_type=kind, region="us-east-1", zone=zone, market=market, **cells)


def ask(count=1, *, offer=None, cluster=CLUSTER, store=STORE, **more):
    return NodeRequest(
        token=uuid.uuid4().hex,
        cluster=cluster,
        store=store,
        place=PLACE,
        offer=offer or row(),
        count=count,
        ssh_public_key="ssh-ed25519 AAAAtest me",
        **more,
    )


def up(driver, request):
    """Until all run."""
    for _ in range(5):
        nodes = driver.create(request)
        if all(node.state is NodeState.RUNNING for node in nodes):
            return list(nodes)
    raise AssertionError([node.state for node in nodes])


def zone_of(aws, node):
    return aws.lives[node.id].instance.placement.zone


# zones and capacity -----------------------------------------------------------------------------------------------


def test_a_gang_goes_to_the_first_zone_that_has_it(aws, make):
    driver = make()
    first = up(driver, ask())[0]
    aws.sell_out(zone_of(aws, first))
    nodes = up(driver, ask(3))
    zones = {zone_of(aws, node) for node in nodes}
    assert len(zones) == 1
    assert zones != {zone_of(aws, first)}
    assert {node.place.zone for node in nodes} == {driver._network.zones("us-east-1")[zones.pop()]}


def test_no_zone_has_it(aws, make):
    aws.sell_out("us-east-1")
    with pytest.raises(CapacityError, match=r"no zone of us-east-1 has 2 x m5\.large \(use1-az1, ") as caught:
        make().create(ask(2))
    assert (caught.value.scope, caught.value.vendor.code) == (Scope.REGION, "InsufficientInstanceCapacity")
    assert not aws.instances()


@pytest.mark.parametrize("zone", ["use1-az2", "us-east-1a"])
def test_a_zone_by_its_id_or_its_name(aws, make, zone):
    driver = make()
    request = ask(offer=row(zone=zone))
    node = up(driver, request)[0]
    assert zone in (node.place.zone, zone_of(aws, node))
    aws.sell_out(zone_of(aws, node))
    with pytest.raises(CapacityError) as caught:
        driver.create(ask(offer=row(zone=zone)))
    assert caught.value.scope is Scope.ZONE


def test_after_a_lost_reply_no_other_zone_is_asked(aws, make):
    driver, request = make(), ask(2)
    names = sorted(driver._network.zones("us-east-1"), key=driver._network.zones("us-east-1").get)
    aws.sell_out(names[0])
    aws.lose_reply("RunInstances", times=1)
    aws.faults[0].skip = 1  # the first zone's refusal arrives
    aws.listing_lag_s = 30
    with pytest.raises(TransientError):
        driver.create(request)
    aws.closed.clear()  # the first zone has machines again, and must not be asked for them
    nodes = driver.create(request)
    assert {zone_of(aws, node) for node in nodes} == {names[1]}
    assert len(aws.instances()) == 2


def test_another_client_finds_the_machines_of_a_lost_reply(aws, make):
    request = ask(2)
    aws.lose_reply("RunInstances")
    aws.listing_lag_s = 30
    with pytest.raises(TransientError):
        make().create(request)
    nodes = make().create(request)
    assert len(nodes) == 2
    assert {node.id for node in nodes} == {life.instance.id for life in aws.instances()}


def test_what_exists_of_a_gang_is_named_when_the_rest_is_refused(aws, make):
    driver = make(launch_size=2)
    aws.leave(4)
    with pytest.raises(CapacityError) as caught:
        driver.create(ask(5))
    assert sorted(node.rank for node in caught.value.created) == [0, 1, 2, 3]


def test_calls_are_made_once(aws, make):
    driver = make()
    driver.create(ask())
    for status, code in ((503, "RequestLimitExceeded"), (500, "InternalError"), (503, "Unavailable")):
        aws.calls.clear()
        aws.refuse("RunInstances", code, status=status)
        with pytest.raises(TransientError) as caught:
            driver.create(ask())
        assert caught.value.retry_after_s > 0
        assert aws.calls.count("RunInstances") == 1


def test_a_repeat_gets_further(aws, make):
    driver, request = make(), ask()
    aws.refuse("RunInstances", "RequestLimitExceeded", status=503)
    with pytest.raises(TransientError):
        driver.create(request)
    aws.calls.clear()
    driver.create(request)
    assert not {"DescribeSubnets", "CreateSecurityGroup", "DescribeRouteTables", "GetParameters"} & set(aws.calls)


# quotas -----------------------------------------------------------------------------------------------------------


def test_quota_of_the_family_in_the_region(aws, make):
    driver = make()
    aws.quotas["L-1216C47A"] = 6
    assert driver.quota(PLACE, row()) == 3
    up(driver, ask(2))
    assert driver.quota(PLACE, row()) == 1
    with pytest.raises(QuotaError) as caught:
        driver.create(ask(2, cluster=f"styx-more-{STORE}01"))
    assert (caught.value.scope, caught.value.vendor.code) == (Scope.REGION, "VcpuLimitExceeded")
    assert "Service Quotas" in caught.value.hint
    assert driver.quota(PLACE, row("p5.48xlarge", vcpus=192)) is None  # no such quota is known
    aws.quotas["L-34B43A08"] = 2
    assert driver.quota(PLACE, row(spot=True)) == 1


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("m7i.large", "standard"), ("t3.micro", "standard"), ("g6e.xlarge", "g"), ("gr6.4xlarge", "g"),
        ("p5en.48xlarge", "p5"), ("p4d.24xlarge", "p"), ("p6-b200.48xlarge", "p"), ("trn2.48xlarge", "trn"),
        ("inf2.xlarge", "inf"),
        ("dl1.24xlarge", "dl"), ("x2idn.16xlarge", "x"), ("u-6tb1.metal", None), ("hpc7a.96xlarge", None),
        ("f1.2xlarge", "f"), ("vt1.3xlarge", "g"), ("is4gen.large", "standard"),
    ],
)  # fmt: skip
def test_families_of_quotas(kind, group):
    from styx_aws import quotas

    assert quotas.group(kind) == group


# spot -------------------------------------------------------------------------------------------------------------


def test_a_new_machine_ends_when_it_switches_itself_off_until_its_lease_says_otherwise(aws, make):
    driver = make()
    node = up(driver, ask())[0]
    instance = aws.lives[node.id].instance
    assert instance.instance_initiated_shutdown_behavior == "terminate"
    driver.prepare_self_action([node], "stop")
    assert instance.instance_initiated_shutdown_behavior == "stop"


def test_one_time_spot_machines(aws, make):
    driver = make()
    node = up(driver, ask(offer=row(spot=True, zone="use1-az1"), bid_usd_per_hour=0.05))[0]
    request = aws.lives[node.id].request
    assert (request["Type"], request["SpotPrice"]) == ("one-time", "0.050000")
    assert {tag["Key"] for tag in request["Tags"]} >= {"styx-store", "styx-cluster"}
    assert node.data == {"spot": "one-time", "spot_request": request["SpotInstanceRequestId"]}
    with pytest.raises(UnsupportedError, match="one-time") as caught:
        driver.stop([node])
    assert "persistent" in caught.value.hint
    assert driver.self_action(node, "stop") == driver.self_action(node, "down")  # it ends either way
    driver.prepare_self_action([node], "stop")
    assert aws.lives[node.id].instance.instance_initiated_shutdown_behavior == "terminate"
    aws.interrupt(node.id)
    gone = driver.nodes(PLACE, CLUSTER)[0]
    assert (gone.state, gone.ended.cause, gone.ended.code) == (
        NodeState.TERMINATED,
        "preempted",
        "Server.SpotInstanceTermination",
    )
    driver.release(PLACE, CLUSTER)
    assert not aws.things()


def test_persistent_spot_machines_stop_and_leave_no_request(aws, make):
    driver = make(spot="persistent")
    node = up(driver, ask(offer=row(spot=True)))[0]
    aws.spot_settle_s = 30.0
    driver.stop([node])
    assert driver.nodes(PLACE, CLUSTER)[0].state is NodeState.STOPPED
    with pytest.raises(TransientError, match="IncorrectSpotRequestState"):
        driver.start([node])
    aws.clock.advance(31)
    assert driver.start([node])[0].id == node.id
    aws.interrupt(node.id)
    taken = driver.nodes(PLACE, CLUSTER)[0]
    assert (taken.state, taken.ended.cause) == (NodeState.STOPPED, "preempted")
    driver.prepare_self_action([node], "down")  # a persistent request would make a machine that ended itself again
    assert aws.lives[node.id].instance.instance_initiated_shutdown_behavior == "stop"
    make().terminate([node])  # whatever the settings say by now
    assert not [thing for thing in aws.things() if thing.startswith("spot-request")]


def test_a_persistent_request_whose_machine_was_ended_elsewhere_is_a_leftover(aws, make):
    driver = make(spot="persistent")
    node = up(driver, ask(offer=row(spot=True)))[0]
    aws.backend("us-east-1").terminate_instances([node.id])
    left = {one.kind: one for one in driver.leftovers(PLACE)}
    assert left["spot-request"].cluster == CLUSTER
    assert left["spot-request"].usd_per_hour is None
    driver.release(PLACE, CLUSTER)
    assert not driver.leftovers(PLACE)
    assert not aws.things()


def test_a_group_lets_in_ssh_and_what_was_asked_for_and_its_own_machines(aws, make):
    driver = make()
    up(driver, ask(count=2, ports=(8080,)))
    ec2 = aws.backend("us-east-1")
    (group,) = [
        one for one in ec2.describe_security_groups() if any(tag["key"] == "styx-cluster" for tag in one.get_tags())
    ]
    from_outside = {(rule.from_port, rule.to_port) for rule in group.ingress_rules if rule.ip_range}
    among_them = [rule for rule in group.ingress_rules if not rule.ip_range]
    assert from_outside == {(22, 22), (8080, 8080)}  # none of Ray's ports, for instance
    assert [rule.source_group["GroupId"] for rule in among_them] == [group.id]


# networks ---------------------------------------------------------------------------------------------------------


def test_private_machines(aws, make):
    driver = make(private_ips=True, jump="me@bastion", proxy_command="aws ssm start-session --target %h")
    node = up(driver, ask(ports=(8080,)))[0]
    assert node.public_ip is None
    assert (node.reach.host, node.reach.jump) == (node.private_ip, "me@bastion")
    assert node.reach.options == {"ProxyCommand": "aws ssm start-session --target %h"}
    assert (node.endpoints[8080].host, node.endpoints[8080].public) == (node.private_ip, False)


def test_a_network_by_its_name_and_subnets_by_their_ids(aws, make):
    backend = aws.backend("us-east-1")
    vpc = backend.create_vpc("10.9.0.0/16")
    vpc.add_tags({"Name": "mine"})
    one = backend.create_subnet(vpc.id, "10.9.1.0/24", "us-east-1b")
    other = backend.create_subnet(vpc.id, "10.9.2.0/24", "us-east-1c")
    with pytest.raises(DriverError, match="leads to an internet gateway") as caught:
        make(vpc="mine").create(ask())
    assert "private_ips" in caught.value.hint
    assert up(make(vpc="mine", private_ips=True), ask())[0].reach.host.startswith("10.9.")
    gateway = backend.create_internet_gateway()
    backend.attach_internet_gateway(gateway.id, vpc.id)
    (table,) = backend.describe_route_tables(filters={"vpc-id": [vpc.id]})
    backend.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
    node = up(make(vpc="mine"), ask())[0]
    assert aws.lives[node.id].instance.subnet_id in {one.id, other.id}
    node = up(make(subnets=(other.id,)), ask())[0]
    assert aws.lives[node.id].instance.subnet_id == other.id
    with pytest.raises(DriverError, match="0 networks called 'nobodys'"):
        make(vpc="nobodys").create(ask())
    with pytest.raises(CapacityError, match="none of the subnets in us-east-1 is in zone use1-az5"):
        make(subnets=(other.id,)).create(ask(offer=row(zone="use1-az5")))


def test_a_region_without_a_default_network(aws, make):
    aws.without_default_vpc.add("us-east-1")
    with pytest.raises(DriverError, match="has no default network") as caught:
        make().create(ask())
    assert "clouds.aws.vpc" in caught.value.hint


def test_security_groups_of_the_users(aws, make):
    group = aws.backend("us-east-1").create_security_group("theirs", "theirs", {})
    driver = make(security_groups=(group.id,))
    node = up(driver, ask())[0]
    assert [one.id for one in aws.lives[node.id].instance.security_groups] == [group.id]
    with pytest.raises(UnsupportedError, match="ports 8080 can't be opened"):
        driver.create(ask(ports=(8080,), cluster=f"styx-b-{STORE}01"))
    with pytest.raises(UnsupportedError, match="ports 9000"):
        driver.open_ports([node], [9000])
    driver.terminate([node])
    driver.release(PLACE, CLUSTER)
    assert aws.things() == [f"security-group {group.id}"]
    with pytest.raises(UnsupportedError, match=r"InvalidGroup\.NotFound") as caught:
        make(security_groups=("sg-elsewhere",)).create(ask())
    assert (caught.value.scope, "clouds.aws.security_groups" in caught.value.hint) == (Scope.REGION, True)


def test_machines_with_many_cards_get_fabric_group_and_fixed_addresses(aws, make):
    offer = row("p4d.24xlarge", vcpus=96, memory_gib=1152, network_tier="best", accelerator_vendor="nvidia")
    driver, request = make(), ask(2, offer=offer, network_tier="best")
    driver.create(request)
    nodes = driver.create(request)  # they run: addresses are asked for
    nodes = driver.create(request)
    assert all(node.public_ip and node.reach.host == node.public_ip for node in nodes)
    kinds = {thing.partition(" ")[0] for thing in aws.things()}
    assert kinds == {"address", "disk", "placement-group", "security-group"}
    assert [thing for thing in aws.things() if thing.startswith("placement")] == [f"placement-group {CLUSTER}"]
    life = aws.lives[nodes[0].id]
    assert life.instance.nics[0].interface_type == "efa"
    assert life.instance.placement.group_name == CLUSTER
    driver.create(request)
    assert len([thing for thing in aws.things() if thing.startswith("address")]) == 2
    assert {one.kind for one in driver.leftovers(PLACE)} == {"address", "placement-group", "security-group"}
    aws.terminate_s = 60
    driver.terminate(nodes)
    with pytest.raises(TransientError, match=r"DependencyViolation|InvalidPlacementGroup\.InUse"):
        driver.release(PLACE, CLUSTER)
    aws.clock.advance(61)
    driver.release(PLACE, CLUSTER)
    assert not aws.things()


def test_a_reservation_is_filled_where_it_fits(aws, make):
    for name, zone, free in (("cr-1", "us-east-1a", 1), ("cr-2", "us-east-1b", 5)):
        aws.reservations[name] = {
            "CapacityReservationId": name, "InstanceType": "m5.large", "AvailabilityZone": zone, "State": "active",
            "AvailableInstanceCount": free, "TotalInstanceCount": free, "region": "us-east-1",
        }  # fmt: skip
    aws.sell_out("us-east-1")
    node = up(make(capacity_reservations=("cr-1", "cr-2")), ask(2))[0]
    assert zone_of(aws, node) == "us-east-1b"
    assert aws.reservations["cr-2"]["AvailableInstanceCount"] == 3
    with pytest.raises(CapacityError):
        make(capacity_reservations=("cr-1",)).create(ask(2, cluster=f"styx-b-{STORE}01"))


def subnet(name, zone, *, public=True, free=100):
    return Subnet(f"subnet-{name}", "vpc-1", f"us-east-1{zone}", f"use1-az{ord(zone) - 96}", public, free)


def test_one_subnet_for_each_zone_in_a_stable_order():
    many = [
        subnet("c", "c", free=2), subnet("b1", "b", public=False), subnet("b2", "b"), subnet("a", "a", free=9),
        subnet("a2", "a", free=50),
    ]  # fmt: skip
    assert [one.id for one in ordered(many, None, 3, private=False)] == ["subnet-a2", "subnet-b2", "subnet-c"]
    assert [one.id for one in ordered(many, None, 3, private=True)] == ["subnet-b1", "subnet-a2", "subnet-c"]
    assert [one.id for one in ordered(many, "use1-az2", 3, private=False)] == ["subnet-b2"]
    assert [one.id for one in ordered(many, "us-east-1c", 3, private=False)] == ["subnet-c"]


def test_public_subnets_by_their_own_routes_or_the_main_ones():
    def table(gateway, **association):
        return {"Routes": [{"GatewayId": "local"}, {"GatewayId": gateway}], "Associations": [association]}

    tables = [table("igw-1", Main=True), table("vgw-1", SubnetId="own"), table("igw-2", SubnetId="other")]
    assert public_subnets(tables, ["own", "other", "unsaid"]) == {"other", "unsaid"}
    assert public_subnets(tables[1:], ["own", "other", "unsaid"]) == {"other"}


def test_interfaces_of_the_fabric():
    info = {"NetworkInfo": {"EfaSupported": True, "EfaInfo": {"MaximumEfaInterfaces": 3}}}
    assert [(nic.device, nic.card, nic.kind) for nic in interfaces(info, ["sg"], fabric=True)] == [
        (0, 0, "efa"), (1, 1, "efa-only"), (1, 2, "efa-only"),
    ]  # fmt: skip
    info["NetworkInfo"] |= {"MaximumNetworkCards": 4}  # as P6-B300 has one card more than adapters
    assert [(nic.device, nic.card, nic.kind) for nic in interfaces(info, ["sg"], fabric=True)] == [
        (0, 0, "interface"), (1, 1, "efa-only"), (1, 2, "efa-only"), (1, 3, "efa-only"),
    ]  # fmt: skip
    assert [nic.kind for nic in interfaces(info, ["sg"], fabric=False)] == ["interface"]
    assert [nic.kind for nic in interfaces({}, ["sg"], fabric=True)] == ["interface"]


# images and disks -------------------------------------------------------------------------------------------------


def test_images_are_looked_up_by_machine(aws, make):
    assert "amd64" in parameter(row())
    assert "arm64" in parameter(row(arch="arm64"))
    assert parameter(row("g5.xlarge", accelerator_vendor="nvidia")).startswith("/aws/service/deeplearning/ami/x86_64/")
    assert "proprietary" in parameter(row("p3.2xlarge", accelerator_vendor="nvidia"))
    assert "/neuron/" in parameter(row("trn1.2xlarge", accelerator_vendor="aws"))
    ours = aws.backend("us-east-1").register_image(name="al2023-ours", description="")
    node = up(make(), ask(image=Image(kind="machine", ref=ours.id)))[0]
    assert (aws.lives[node.id].instance.image_id, node.reach.user) == (ours.id, "ec2-user")
    node = up(make(image="ssm:/aws/service/ami-amazon-linux-latest/x", ssh_user="ada"), ask())[0]
    assert node.reach.user == "ada"
    groups = aws.things()
    for image, words in (("ami-0000000000000dead", "AMI ami-0000000000000dead"), ("/nobody/knows", "has no image /no")):
        with pytest.raises(UnsupportedError, match=words) as caught:
            make(image=image).create(ask(cluster=f"styx-b-{STORE}01"))
        assert caught.value.scope is Scope.REGION  # another may have it
    assert aws.things() == groups  # asked for before anything is made


@pytest.mark.parametrize(
    ("name", "user"),
    [
        ("ubuntu/images/x", "ubuntu"), ("debian-12", "admin"), ("amzn2-ami", "ec2-user"), ("my-own", "ubuntu"),
        ("Deep Learning Base GPU AMI (Amazon Linux 2023)", "ec2-user"),
    ],
)  # fmt: skip
def test_who_logs_in(name, user):
    assert user_of({"Name": name}) == user


@pytest.mark.parametrize(
    ("disk", "tier", "expected"),
    [
        (None, None, {"VolumeSize": 8}),
        (4, None, {"VolumeSize": 8}),
        (100.2, "low", {"VolumeSize": 101, "Iops": 3000, "Throughput": 125}),
        (500, "high", {"VolumeSize": 500, "Iops": 10000, "Throughput": 500}),
        (10, "ultra", {"VolumeSize": 10, "Iops": 5000, "Throughput": 1000}),
        (8, "ultra", {"VolumeSize": 8, "Iops": 4000, "Throughput": 1000}),
    ],
)
def test_disks_keep_to_gp3s_ratios(disk, tier, expected):
    made = machines.root_disk(ask(disk_gib=disk, disk_tier=tier), Ami("ami-1", "ubuntu", "/dev/sda1", 8), AwsConfig())
    assert made == {"VolumeType": "gp3", "DeleteOnTermination": True, **expected}


# whose ------------------------------------------------------------------------------------------------------------


def test_tags_say_whose_they_are_and_labels_cannot_change_that(aws, make):
    driver = make()
    node = up(driver, ask(labels={"team": "a", "styx-store": "evil", "aws:x": "no"}, host_key=a_host_key()))[0]
    tags = {tag["key"]: tag["value"] for tag in aws.lives[node.id].instance.get_tags()}
    assert (tags["team"], tags["styx-store"], tags["styx-cluster"]) == ("a", STORE, CLUSTER)
    assert "aws:x" not in tags
    assert node.reach.host_key == driver.nodes(PLACE, None)[0].reach.host_key
    assert node.reach.host_key.startswith("ssh-ed25519 AAAA")
    assert node.usd_per_hour == 0.096


def test_another_installations_things_are_left_alone(aws, make):
    ours, theirs = make(), make(store=OTHER_STORE)
    his = up(theirs, ask(cluster=f"styx-test-{OTHER_STORE}01", store=OTHER_STORE))
    mine = up(ours, ask())
    planted = aws.plant(tags={"Name": CLUSTER, "styx-cluster": CLUSTER})
    assert [node.id for node in ours.nodes(PLACE, None)] == [mine[0].id]
    ours.terminate(mine)
    ours.release(PLACE, CLUSTER)
    ours.release(PLACE, f"styx-test-{OTHER_STORE}01")
    assert {life.instance.id for life in aws.instances()} == {his[0].id, planted}
    assert len([thing for thing in aws.things() if thing.startswith("security-group")]) == 1
    assert not ours.leftovers(PLACE)


def test_nothing_of_others_is_removed_where_filters_are_not_applied(aws, make, monkeypatch):
    theirs = make(store=OTHER_STORE)
    up(theirs, ask(cluster=f"styx-test-{OTHER_STORE}01", store=OTHER_STORE))
    aws.backend("us-east-1").create_volume(size=8, zone_name="us-east-1a")
    before = aws.things()
    ours = make()
    for name in ("call", "pages"):
        real = getattr(Clients, name)
        monkeypatch.setattr(
            Clients,
            name,
            lambda self, *words, real=real, **more: real(
                self, *words, **{k: v for k, v in more.items() if k != "Filters"}
            ),
        )
    assert not ours.leftovers(PLACE)
    ours.release(PLACE, CLUSTER)
    assert aws.things() == before


def test_another_account_is_never_called_empty(aws, make):
    place = PLACE.model_copy(update={"account": "999999999999"})
    driver = make()
    for call in (
        lambda: driver.nodes(place, None),
        lambda: driver.leftovers(place),
        lambda: driver.release(place, CLUSTER),
        lambda: driver.create(ask().model_copy(update={"place": place})),
    ):
        with pytest.raises(CredentialsError, match="belongs to account 999999999999"):
            call()


def test_credentials_that_expire_midway_and_are_renewed(aws, make, tmp_path):
    folder = tmp_path / "user" / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text(f"[default]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    driver = make(secrets={})
    node = up(driver, ask())[0]
    aws.expired = True
    with pytest.raises(CredentialsError, match="ExpiredToken") as caught:
        driver.nodes(PLACE, None)
    assert "profile 'default'" in caught.value.hint
    aws.expired = False
    aws.accepted = {"AKIASTYXCANARY000043"}
    with pytest.raises(CredentialsError, match="AuthFailure"):
        driver.nodes(PLACE, None)
    text = (folder / "credentials").read_text()
    (folder / "credentials").write_text(text.replace(KEY_ID, "AKIASTYXCANARY000043"))
    assert driver.nodes(PLACE, None)[0].id == node.id


def test_the_process_environment_is_not_read(aws, make, monkeypatch):
    for name, value in {
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_EC2": "http://127.0.0.1:9",
        "AWS_CONFIG_FILE": "/nonexistent/config",
        "AWS_ACCESS_KEY_ID": "AKIAOTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_DEFAULT_REGION": "nowhere-1",
        "AWS_CA_BUNDLE": "/nonexistent/ca",
        "AWS_MAX_ATTEMPTS": "9",
        "AWS_RETRY_MODE": "adaptive",
    }.items():
        monkeypatch.setenv(name, value)
    assert up(make(), ask())


# removal ----------------------------------------------------------------------------------------------------------


def test_a_machine_too_new_to_be_known_is_not_taken_for_gone(aws, make):
    driver = make()
    aws.listing_lag_s, aws.unknown_while_new = 5, True
    node = driver.create(ask())[0]
    with pytest.raises(TransientError, match="does not list"):
        driver.terminate([node])
    aws.clock.advance(6)
    driver.terminate([node])
    assert not aws.instances()
    aws.clock.advance(60)
    driver.terminate([node.model_copy(update={"id": "i-00000000000000000"})])  # gone long ago


def test_one_that_is_gone_does_not_keep_the_others(aws, make):
    driver = make()
    nodes = up(driver, ask(2))
    aws.clock.advance(60)
    driver.terminate([nodes[0].model_copy(update={"id": "i-00000000000000000"}), *nodes])
    assert not aws.instances()


def test_a_power_off_from_within_does_what_was_prepared(aws, make):
    driver = make()
    for action, state in (("stop", NodeState.STOPPED), ("down", NodeState.TERMINATED)):
        node = up(driver, ask(cluster=f"styx-{action}-{STORE}01"))[0]
        driver.prepare_self_action([node], "down")
        driver.prepare_self_action([node], action)
        assert driver.self_action(node, action).model_dump() == {"kind": "poweroff", "argv": (), "stops_billing": True}
        aws.powered_off(aws.lives[node.id])
        seen = driver.nodes(PLACE, node.cluster)[0]
        assert (seen.state, seen.ended.cause) == (state, "requested")


def test_start_asks_for_patience_while_a_machine_stops(aws, make):
    driver = make()
    node = up(driver, ask())[0]
    aws.stop_s = 20
    driver.stop([node])
    with pytest.raises(TransientError, match="IncorrectInstanceState"):
        driver.start([node])
    aws.clock.advance(21)
    aws.sell_out("us-east-1")
    with pytest.raises(CapacityError):
        driver.start([node])
    aws.closed.clear()
    assert driver.start([node])[0].state in {NodeState.PENDING, NodeState.RUNNING}
