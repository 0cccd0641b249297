"""Lambda's machines: the conformance suite, and what is Lambda's own, against an emulator of its published API."""

import importlib.util
import json
from types import SimpleNamespace

import pytest

from styx.errors import AmbiguousError, CapacityError, CredentialsError, TransientError, UnsupportedError
from styx.plugin import Image, NodeState, Place, Scope
from styx.provision.guard import Guarded
from styx.provision.removal import remove
from styx.state.folders import HomeFolders
from styx.testing.clock import ManualClock
from styx.testing.conformance import STORE, DriverConformance, FaultKind, Harness, Truth, steps
from styx.testing.conformance.harness import order
from styx.testing.contexts import make_context
from styx.testing.emulator import Reply, plain_client
from styx.transport.ssh.keys import host_key
from styx_lambda import Lambda, LambdaConfig
from styx_lambda.driver import SELF_END
from styx_lambda.errors import LAUNCH_ERRORS
from styx_lambda.machines import is_of
from tests.simcloud.lambdacloud import KEY, LambdaCloud, refusal
from tests.simcloud.vendor import LOSE

CAPACITY = "instance-operations/launch/insufficient-capacity"


class LambdaHarness(Harness):
    error_table = LAUNCH_ERRORS

    def __init__(self, home, cloud, clock):
        self.credentials = {"LAMBDA_API_KEY": KEY}
        self.home, self.cloud, self.clock = home, cloud, clock

    def driver(self, *, store=STORE, secrets=None):
        secrets = self.credentials if secrets is None else secrets
        config = LambdaConfig(endpoint=self.cloud.url)
        context = make_context(
            self.home, config=config, store=store, secrets=secrets, clock=self.clock, http=plain_client
        )
        return Lambda(context)

    def machines(self):
        bodies = {key["name"]: key["public_key"] for key in self.cloud.ssh_keys()}
        opened = {one["id"]: {rule["port_range"][0] for rule in one["rules"]} for one in self.cloud.rulesets()}
        return [
            Truth(
                id=one.id,
                ssh_keys=frozenset(bodies.get(name, "") for name in one.keys),
                boot_script=json.loads(one.user_data.partition("\n")[2])["write_files"][0]["content"]
                if one.user_data
                else None,
                labels={tag["key"]: tag["value"] for tag in one.tags},
                ports=frozenset(port for each in one.rulesets for port in opened[each["id"]]),
            )
            for one in self.cloud.instances()
        ]

    def plant_foreign(self, place):
        near = {"styx-cluster": "styx-conform-else0101", "styx-rank": "0", "styx-store": f"{STORE}x"}
        nearer = {**near, "styx-cluster": f"styx-conform-{STORE}01"}
        plants = [{}, {"name": "styx-conform-else0101-0", "tags": near}, {"name": "styx-x", "tags": nearer}]
        return [self.cloud.plant(place.region, **plant).id for plant in plants]

    def fail_next(self, fault):
        match fault.kind:
            case FaultKind.REFUSED:
                self.cloud.script(
                    "launch", refusal(fault.code, status=418 if fault.code == self.unknown_code else None)
                )
            case FaultKind.PARTIAL:
                self.cloud.script("launch", refusal(CAPACITY), skip=fault.after)
            case FaultKind.LOST_REPLY:
                self.cloud.script("launch", LOSE)
            case FaultKind.LATE:
                self.cloud.doom(fails=True)
            case FaultKind.LISTING:
                self.cloud.script("GET instances", refusal("global/internal-error"))

    def advance(self, seconds):
        self.clock.advance(seconds)

    def remains(self):
        return [one["name"] for one in (*self.cloud.ssh_keys(), *self.cloud.rulesets())]

    def request_lines(self):
        return self.cloud.server.lines()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def cloud(clock):
    with LambdaCloud(clock=clock, boot_s=40, terminate_s=8, listing_lag_s=Lambda.limits.listing_lag_s) as cloud:
        yield cloud
    assert not cloud.broken


@pytest.fixture
def harness(tmp_path, cloud, clock):
    return LambdaHarness(tmp_path, cloud, clock)


class TestLambda(DriverConformance):
    driver_type = Lambda


def test_within_the_rate_limits_a_gang_still_comes_up(harness, cloud):
    """One request a second, one launch in twelve: every repeat must get further than the one before."""
    cloud.pace_s, cloud.launch_pace_s = 1.0, 12.0
    driver = harness.driver()
    row = next(one for one in driver.fetch() if one.region == "us-east-1")
    request = order(driver, row, Place(cloud="lambda", account="a", region="us-east-1"), 3)
    pauses = []

    def patiently(verb):
        for _ in range(20):
            try:
                return verb()
            except TransientError as error:
                pauses.append(error.retry_after_s)
                harness.advance(error.retry_after_s)
        raise AssertionError("no repeat got further")

    nodes = patiently(lambda: driver.create(request))
    assert [node.rank for node in nodes] == [0, 1, 2]
    assert max(pauses) > 10
    assert len(pauses) <= 14
    harness.advance(60)
    seen = patiently(lambda: driver.nodes(request.place, request.cluster))
    assert {node.state for node in seen} == {NodeState.RUNNING}
    patiently(lambda: driver.terminate(seen))
    harness.advance(10)
    patiently(lambda: driver.release(request.place, request.cluster))
    assert not cloud.instances()
    assert not harness.remains()


def test_within_the_rate_limits_the_engine_still_removes_everything(harness, cloud, clock):
    driver = harness.driver()
    request = harness.request(driver)
    steps.up(harness, driver, request)
    cloud.pace_s = 1.0
    engine = SimpleNamespace(
        provisioner=lambda _: Guarded("lambda", driver, driver, lambda _: None),
        timestamp=clock,
        sleep=clock.advance,
    )
    asked, began = len(cloud.server.requests), clock()
    remove(engine, request.place, request.cluster)
    assert not cloud.instances()
    assert not harness.remains()
    assert clock() - began < 90
    assert len(cloud.server.requests) - asked < 60


def test_listings_of_many_places_at_once_are_one_request(harness, cloud):
    driver = harness.driver()
    asked = len(cloud.server.requests)
    for region in ("us-east-1", "us-west-1", "europe-central-1"):
        driver.nodes(Place(cloud="lambda", account="a", region=region), None)
    assert len(cloud.server.requests) == asked + 1


def test_a_launch_that_failed_inside_lambda_may_have_happened(harness, cloud):
    driver = harness.driver()
    cloud.script("launch", Reply("Bad gateway", 502))
    with pytest.raises(AmbiguousError) as caught:
        driver.create(harness.request(driver))
    assert caught.value.settle_s >= driver.limits.listing_lag_s


def test_words_of_the_vendor_are_kept(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    cloud.sold_out.add((request.place.region, request.offer.instance_type))
    with pytest.raises(CapacityError, match="insufficient-capacity") as caught:
        driver.create(request)
    assert caught.value.vendor.code == CAPACITY


def test_a_machine_that_no_listing_shows_is_given_up_and_still_ended(harness, cloud):
    cloud.listing_lag_s = 1000
    driver = harness.driver()
    request = harness.request(driver)
    first = driver.create(request)
    assert driver.nodes(request.place, request.cluster, known=first)[0].state is NodeState.PENDING
    harness.advance(61)
    given_up = driver.nodes(request.place, request.cluster, known=first)
    assert (given_up[0].state, given_up[0].problem.error) == (NodeState.FAILED, "CapacityError")
    driver.terminate(given_up)
    harness.advance(10)
    assert not cloud.instances()
    driver.terminate(given_up)


def test_upstream_troubles_are_for_later(harness, cloud):
    cloud.script("launch", refusal("provider/internal-unavailable", status=400))
    driver = harness.driver()
    with pytest.raises(TransientError, match="provider/internal-unavailable"):
        driver.create(harness.request(driver))


@pytest.mark.parametrize(
    ("ref", "sent"),
    [
        ("43336648-096d-4cba-9aa2-f9bb7727639d", {"id": "43336648-096d-4cba-9aa2-f9bb7727639d"}),
        ("ddaedf1b7a0e41ac981711504493b242", {"id": "ddaedf1b7a0e41ac981711504493b242"}),
        ("ubuntu-lts", {"family": "ubuntu-lts"}),
    ],
)
def test_images_by_id_and_by_family(harness, cloud, ref, sent):
    driver = harness.driver()
    image = Image(kind="machine", ref=ref)
    driver.create(harness.request(driver).model_copy(update={"image": image}))
    assert last(cloud, "launch")["image"] == sent


def test_labels_are_made_to_fit_and_never_take_our_place(harness, cloud):
    driver = harness.driver()
    labels = {"Team.Name": "a" * 200, "styx-store": "someone", "7": "x"}
    driver.create(harness.request(driver).model_copy(update={"labels": labels}))
    tags = {tag["key"]: tag["value"] for tag in last(cloud, "launch")["tags"]}
    assert (tags["team-name"], tags["x-7"], tags["styx-store"]) == ("a" * 128, "x", STORE)


def test_a_region_without_firewall_gets_no_ruleset(harness, cloud):
    driver = harness.driver()
    row = next(one for one in driver.fetch() if one.region == "us-south-1")
    request = order(driver, row, Place(cloud="lambda", account="a", region="us-south-1"))
    nodes = steps.up(harness, driver, request)
    assert "firewall_rulesets" not in last(cloud, "launch")
    driver.open_ports(nodes, (9000,))
    assert not cloud.rulesets()


def test_a_preempted_machine_says_so(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    node = steps.up(harness, driver, request)[0]
    cloud.preempt(node.id)
    harness.advance(5)
    seen = driver.nodes(request.place, request.cluster)[0]
    assert (seen.state, seen.ended.cause, seen.reach) == (NodeState.TERMINATED, "preempted", None)


def test_a_ruleset_without_machines_is_a_leftover_until_released(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    cloud.script("launch", refusal(CAPACITY))
    with pytest.raises(CapacityError):
        driver.create(request)
    harness.advance(2)
    assert [(one.kind, one.cluster) for one in driver.leftovers(request.place)] == [
        ("firewall ruleset", request.cluster)
    ]
    driver.release(request.place, request.cluster)
    harness.advance(2)
    assert not driver.leftovers(request.place)
    assert not harness.remains()


def test_a_host_key_of_ours_is_pinned_for_every_client(harness, cloud, tmp_path):
    pair = host_key(HomeFolders(tmp_path), "styx-x")
    secret = pair.private().get_secret_value().splitlines()[2]
    driver = harness.driver()
    request = harness.request(driver).model_copy(update={"host_key": pair.private()})
    node = steps.up(harness, driver, request)[0]
    assert node.reach.host_key == harness.driver().nodes(request.place, None)[0].reach.host_key
    assert pair.public.startswith(node.reach.host_key)
    assert secret in last(cloud, "launch")["user_data"]
    assert secret not in node.model_dump_json()


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        (f"styx-web-{STORE}01", True),
        (f"styx-a-b-{STORE}zz", True),
        (f"styx-{STORE}01", False),
        (f"styx-web-{STORE}x01", False),
        (f"styx-web-x{STORE}01", False),
        (f"styx-{STORE}-else0101", False),
        (f"x-styx-web-{STORE}01", False),
    ],
)
def test_whose_a_name_is(name, ours):
    assert is_of(name, STORE) is ours


def last(cloud, path):
    return next(one.json() for one in reversed(cloud.server.requests) if one.path.endswith(path))


def test_a_machine_gets_a_key_to_end_itself_only_where_its_owner_says_so(tmp_path, cloud, clock):
    def made(**settings):
        secrets = {"LAMBDA_API_KEY": KEY, "END": "secret_second_canary", "SAME": KEY}
        config = LambdaConfig(endpoint=cloud.url, **settings)
        return Lambda(make_context(tmp_path, config=config, secrets=secrets, clock=clock, http=plain_client))

    def launch(driver, token):
        row = next(row for row in driver.fetch() if row.instance_type == "gpu_1x_a10")
        request = order(driver, row, Place(cloud="lambda", account="a", region="us-east-1"), 1)
        (node,) = driver.create(request.model_copy(update={"token": token * 32}))
        return node, json.loads(cloud._instances[node.id].user_data.partition("\n")[2])["write_files"]

    node, files = launch(made(), "1")
    assert [file["path"] for file in files] == ["/var/lib/cloud/scripts/per-boot/styx.sh"]
    assert made().self_action(node, "down").kind == "none"
    clock.advance(100)
    lending = made(end_key_variable="END")
    node, files = launch(lending, "2")
    assert (files[1]["path"], files[1]["permissions"], files[1]["content"]) == (
        "/etc/styx/lambda-end-key", "0600", "secret_second_canary",
    )  # fmt: skip
    end = lending.self_action(node, "down")
    assert (end.kind, end.stops_billing, lending.self_action(node, "stop").kind) == ("command", True, "none")
    assert not any("canary" in word for word in end.argv)
    for name, words in (("SAME", "is the same API key"), ("ABSENT", "ABSENT is not set")):
        clock.advance(100)
        with pytest.raises(CredentialsError, match=words):
            launch(made(end_key_variable=name), "3")


def test_a_machine_finds_only_itself():
    spec = importlib.util.spec_from_file_location("selfend", SELF_END)
    selfend = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(selfend)
    mine = [{"key": "styx-cluster", "value": "styx-a-st0re101"}]
    listed = [
        {"id": "me", "private_ip": "10.0.0.7", "tags": mine},
        {"id": "peer", "private_ip": "10.0.0.8", "tags": mine},
        {"id": "other", "private_ip": "10.0.0.7", "tags": [{"key": "styx-cluster", "value": "else"}]},
        {"id": "foreign", "ip": "10.0.0.7"},
    ]
    assert selfend.myself(listed, "styx-a-st0re101", "10.0.0.7") == ["me"]
    assert selfend.myself(listed, "styx-a-st0re101", "10.9.9.9") == []


def test_parameters_that_a_region_refuses_are_no_word_about_the_others(harness, cloud):
    driver = harness.driver()
    cloud.script("launch", refusal("global/invalid-parameters"))
    with pytest.raises(UnsupportedError) as caught:
        driver.create(harness.request(driver))
    assert caught.value.scope is Scope.REGION
