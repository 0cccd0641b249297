"""RunPod's pods: the conformance suite, and what is RunPod's own, against an emulator of its published API."""

import base64
import shlex

import pytest

from styx.errors import (
    AmbiguousError,
    BalanceError,
    CapacityError,
    DriverError,
    QuotaError,
    TransientError,
    UnsupportedError,
)
from styx.plugin import CatalogRow, Image, Market, NodeState
from styx.state.folders import HomeFolders
from styx.testing.clock import ManualClock
from styx.testing.conformance import STORE, DriverConformance, FaultKind, Harness, Truth, cluster_key, steps
from styx.testing.conformance.harness import order, sold_in
from styx.testing.contexts import make_context
from styx.testing.emulator import Reply, plain_client
from styx.transport.ssh.keys import host_key
from styx_runpod import RunPod, RunPodConfig
from styx_runpod.errors import CREATE_ERRORS
from styx_runpod.pods import start_command
from tests.simcloud.runpod import HOST_FULL, KEY, SOLD_OUT, TITLES, RunPodCloud, graphql_refusal, refusal
from tests.simcloud.vendor import LOSE

STATUS = {title: status for status, title in TITLES.items()}


class RunPodHarness(Harness):
    error_table = CREATE_ERRORS

    def __init__(self, home, cloud, clock, **settings):
        self.credentials = {"RUNPOD_API_KEY": KEY}
        self.home, self.cloud, self.clock, self.settings = home, cloud, clock, settings

    def driver(self, *, store=STORE, secrets=None):
        config = RunPodConfig(endpoint=self.cloud.url, graphql_endpoint=self.cloud.graphql_url, **self.settings)
        secrets = self.credentials if secrets is None else secrets
        context = make_context(
            self.home, config=config, store=store, secrets=secrets, clock=self.clock, http=plain_client
        )
        return RunPod(context)

    def request(self, driver, count=1, *, slug="conform", place=None, market=Market.ON_DEMAND, gpus=1):
        where = place or self.place(driver)
        rows = [row for row in self.rows(driver) if sold_in(row, where) and row.market is market]
        offer = next(row for row in rows if row.accelerator_count == gpus)
        return order(driver, offer, where, count, slug=slug)

    def machines(self):
        return [
            Truth(
                id=pod.id,
                ssh_keys=frozenset({pod.env.get("PUBLIC_KEY", "")}),
                boot_script=base64.b64decode(pod.env.get("STYX_BOOT", "")).decode(),
                ports=frozenset(int(text.partition("/")[0]) for text in pod.ports),
            )
            for pod in self.cloud.pods()
        ]

    def plant_foreign(self, place):
        near = {"STYX_STORE": f"{STORE}x", "STYX_REGION": place.region}
        stolen = f"{cluster_key('stolen', STORE)}-0"
        plants = [
            ("sd-webui", {}),
            ("styx-conform-else0101-0", near),
            (stolen, {}),
            (f"{stolen}x", {"STYX_STORE": STORE}),
        ]
        return [self.cloud.plant(name, env=env).id for name, env in plants]

    def fail_next(self, fault):
        match fault.kind:
            case FaultKind.REFUSED:
                self.cloud.script("create", refusal(STATUS[fault.code]))
            case FaultKind.PARTIAL:
                self.cloud.script("create", refusal(400, SOLD_OUT), skip=fault.after)
            case FaultKind.LOST_REPLY:
                self.cloud.script("create", LOSE)
            case FaultKind.LATE:
                self.cloud.doom(fails=True)
            case FaultKind.LISTING:
                self.cloud.script("list", refusal(500))

    def advance(self, seconds):
        self.clock.advance(seconds)

    def request_lines(self):
        return self.cloud.server.lines()


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def cloud(clock):
    with RunPodCloud(clock=clock, boot_s=40, listing_lag_s=RunPod.limits.listing_lag_s) as cloud:
        yield cloud
    assert not cloud.broken


@pytest.fixture
def harness(tmp_path, cloud, clock):
    return RunPodHarness(tmp_path, cloud, clock)


class TestRunPod(DriverConformance):
    driver_type = RunPod


def sent(cloud, kind="/v2/pods"):
    one = next(one for one in reversed(cloud.server.requests) if one.method == "POST" and one.path == kind)
    return one.json()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (refusal(400, SOLD_OUT), CapacityError),
        (refusal(500, SOLD_OUT), CapacityError),
        (refusal(400, "no instances currently available"), CapacityError),
        (refusal(500, "This machine does not have the resources to deploy your pod."), CapacityError),
        (refusal(400, "disk must be smaller"), DriverError),
        (refusal(402, "Insufficient balance."), BalanceError),
        (refusal(403, "access to the pool denied"), QuotaError),
        (refusal(422, "bad body"), UnsupportedError),
        (Reply("Bad gateway", 502), AmbiguousError),
    ],
)
def test_what_refusals_of_a_create_mean(harness, cloud, reply, expected):
    driver = harness.driver()
    cloud.script("create", reply)
    with pytest.raises(expected) as caught:
        driver.create(harness.request(driver))
    assert type(caught.value) is expected


def test_too_many_calls_say_when_to_come_back(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    cloud.script("list", refusal(429, retry_after_s=12))
    with pytest.raises(TransientError) as caught:
        driver.create(request)
    assert caught.value.retry_after_s == 12


def test_a_gpu_pod_is_asked_for_in_its_country_with_a_home_that_stays(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver).model_copy(update={"disk_gib": 70.5, "env": {"A": "1", "STYX_STORE": "x"}})
    driver.create(request)
    body = sent(cloud)
    assert body["dataCenterIds"] == ["EUR-IS-1"]  # the first country of `check` is IS
    assert body["gpu"] == {"id": request.offer.ref, "count": 1, "minCudaVersion": "12.8"}
    assert (body["disk"], body["mounts"]) == (71, {"persistent": {"size": 71, "path": "/workspace"}})
    assert body["ports"] == ["22/tcp", "8080/http"]
    assert (body["env"]["A"], body["env"]["STYX_STORE"], body["env"]["STYX_KEEP"]) == ("1", STORE, "/workspace")


def test_a_pod_without_gpu(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver, gpus=0)
    node = steps.up(harness, driver, request)[0]
    body = sent(cloud)
    assert body["cpu"] == {"id": "cpu5m", "vcpuCount": 2}
    assert "mounts" not in body
    with pytest.raises(UnsupportedError, match="a stop would lose its home folder"):
        driver.stop([node])
    assert driver.self_action(node, "stop").kind == "none"
    assert driver.self_action(node, "down").stops_billing


def test_the_image_is_the_machine(harness, cloud):
    driver = harness.driver()
    image = Image(kind="container", ref="ghcr.io/me/mine:1")
    driver.create(harness.request(driver).model_copy(update={"image": image}))
    body = sent(cloud)
    assert body["image"] == "ghcr.io/me/mine:1"
    assert "minCudaVersion" not in body["gpu"]


def test_settings_for_registries_and_ports(tmp_path, cloud, clock):
    harness = RunPodHarness(tmp_path, cloud, clock, registry="reg_1", port_protocol="tcp", keep_home=False)
    driver = harness.driver()
    request = harness.request(driver)
    node = steps.up(harness, driver, request)[0]
    body = sent(cloud)
    assert (body["registry"], body["ports"]) == ("reg_1", ["22/tcp", "8080/tcp"])
    assert "mounts" not in body
    assert (node.endpoints[8080].host, node.endpoints[8080].port) == ("198.51.100.7", 18080)
    with pytest.raises(UnsupportedError, match="registry"):
        driver.create(harness.request(driver, market=Market.BID))


def test_no_image_for_cuda_goes_to_a_gpu_of_amd(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    amd = request.offer.model_copy(update={"accelerator_vendor": "amd", "accelerator_name": "MI300X"})
    with pytest.raises(UnsupportedError, match="MI300X") as caught:
        driver.create(request.model_copy(update={"offer": amd, "image": None}))
    assert "ROCm" in caught.value.hint
    assert not cloud.pods()


def test_http_ports_are_behind_the_proxy(harness):
    driver = harness.driver()
    node = steps.up(harness, driver, harness.request(driver))[0]
    assert node.endpoints[8080].url == f"https://{node.id}-8080.proxy.runpod.net"
    assert (node.reach.host, node.reach.port, node.reach.user) == ("198.51.100.7", 10022, "root")
    assert (node.public_ip, node.private_ip) == ("198.51.100.7", "127.0.0.1")


def test_network_volumes_are_attached_one_at_a_time(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    driver.create(request.model_copy(update={"volumes": ("vol_1",)}))
    assert sent(cloud)["mounts"] == {"network": [{"volumeId": "vol_1", "path": "/workspace"}]}
    with pytest.raises(UnsupportedError, match="one network volume"):
        driver.create(harness.request(driver, slug="b").model_copy(update={"volumes": ("vol_1", "vol_2")}))


def test_a_bid_is_placed_and_found_again(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver, market=Market.BID, gpus=2).model_copy(update={"bid_usd_per_hour": 1.0})
    assert driver.create(request)[0].state is NodeState.PENDING
    variables = sent(cloud, "/graphql")["variables"]["input"]
    assert (variables["bidPerGpu"], variables["gpuCount"], variables["countryCode"]) == (0.5, 2, "IS")
    node = steps.up(harness, driver, request)[0]
    assert (node.usd_per_hour, node.token) == (1.0, request.token)
    cloud.preempt(node.id)
    seen = driver.nodes(request.place, request.cluster)[0]
    assert (seen.state, seen.ended.cause) == (NodeState.STOPPED, "preempted")
    with pytest.raises(UnsupportedError, match="lost its disk"):
        driver.start([seen])
    steps.down(harness, driver, [seen])


def test_a_lost_bid_is_not_placed_twice(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver, market=Market.BID)
    cloud.script("bid", LOSE)
    with pytest.raises(AmbiguousError) as caught:
        driver.create(request)
    harness.advance(caught.value.settle_s)
    assert len(harness.driver().create(request)) == len(cloud.pods()) == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (graphql_refusal(SOLD_OUT), CapacityError),
        (graphql_refusal("no", "SUPPLY_CONSTRAINT"), CapacityError),
        (graphql_refusal("You have not enough balance"), BalanceError),
        (graphql_refusal("Bid price is too low"), DriverError),
        (graphql_refusal(SOLD_OUT, "INTERNAL_SERVER_ERROR"), CapacityError),
        (graphql_refusal("Something went wrong. Please try again later.", "INTERNAL_SERVER_ERROR"), AmbiguousError),
    ],
)
def test_what_refusals_of_a_bid_mean(harness, cloud, reply, expected):
    driver = harness.driver()
    cloud.script("bid", reply)
    with pytest.raises(expected) as caught:
        driver.create(harness.request(driver, market=Market.BID))
    assert type(caught.value) is expected


def test_a_stopped_pod_may_find_no_gpu(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    nodes = steps.up(harness, driver, request)
    driver.stop(nodes)
    cloud.hosts_full = True
    with pytest.raises(CapacityError, match="not enough free GPUs") as caught:
        driver.start(nodes)
    assert HOST_FULL in caught.value.vendor.message
    cloud.hosts_full = False
    assert driver.start(nodes)[0].id == nodes[0].id


def test_a_pod_that_was_deleted_can_not_be_started(harness, cloud):
    driver = harness.driver()
    nodes = steps.up(harness, driver, harness.request(driver))
    cloud.vanish(nodes[0].id)
    with pytest.raises(DriverError, match="pod not found"):
        driver.start(nodes)


def test_without_money_no_place_is_usable(harness, cloud):
    cloud.balance = 0.0
    problems = set(map(type, harness.driver().check().places.values()))
    assert problems == {BalanceError}


def test_quota_is_what_the_spend_limit_leaves(harness, cloud):
    cloud.spend_limit = 2.0
    driver = harness.driver()
    request = harness.request(driver)
    assert driver.quota(request.place, request.offer) == 2.0 // request.offer.usd_per_hour
    cloud.balance = -1.0
    assert driver.quota(request.place, request.offer) == 0


def test_disks_cost_what_the_list_says(tmp_path, cloud, clock):
    gpu = CatalogRow(cloud="runpod", instance_type="1x_A40", region="US", accelerator_name="A40", accelerator_count=1)
    spot, plain = (gpu.model_copy(update=each) for each in ({"market": Market.BID}, {"accelerator_count": 0}))
    for keep_home, offer, usd, stopped in (
        (True, gpu, 20.0, 20.0), (True, spot, 10.0, 0.0), (True, plain, 10.0, 0.0), (False, gpu, 10.0, 0.0),
    ):  # fmt: skip
        driver = RunPodHarness(tmp_path, cloud, clock, keep_home=keep_home).driver()
        price = driver.disk_price(next(iter(driver.check().places)), offer, 100, None)
        assert (price.usd, price.usd_stopped, price.gib) == (pytest.approx(usd), pytest.approx(stopped), 100)
    assert driver.disk_price(next(iter(driver.check().places)), gpu, None, None).gib == 50  # what it makes unasked


def test_a_task_may_name_a_data_center(harness, cloud):
    driver = harness.driver()
    (america,) = [place for place in driver.check().places if place.region == "US"]
    assert driver.zone_named(america, "US-KS-2", ask=True) == "US-KS-2"
    for name, ask in (("EU-RO-1", False), ("US-XX-9", True)):
        with pytest.raises(UnsupportedError, match=f"no data center {name} in US"):
            driver.zone_named(america, name, ask=ask)
    place = america.model_copy(update={"zone": "US-KS-2"})
    rows = [row for row in harness.rows(driver) if sold_in(row, america)]
    request = order(driver, rows[0], place)
    (node,) = steps.up(harness, driver, request)
    assert node.place == place
    assert [pod.center for pod in cloud.pods() if pod.name.startswith(request.cluster)] == ["US-KS-2"]


def test_no_key_of_the_account_goes_to_a_pod(harness, cloud):
    driver = harness.driver()
    request = harness.request(driver)
    node = steps.up(harness, driver, request)[0]
    assert KEY not in str(sent(cloud))
    for action in ("stop", "down"):
        end = driver.self_action(node, action)
        assert not any(KEY in word for word in end.argv)
        assert "RUNPOD_API_KEY" in end.argv[2]


def test_a_host_key_of_ours_is_pinned_and_stays_private(harness, cloud, tmp_path):
    pair = host_key(HomeFolders(tmp_path), "styx-x")
    secret = pair.private().get_secret_value()
    driver = harness.driver()
    request = harness.request(driver).model_copy(update={"host_key": pair.private()})
    node = steps.up(harness, driver, request)[0]
    assert pair.public.startswith(node.reach.host_key)
    assert base64.b64decode(sent(cloud)["env"]["STYX_HOST_KEY"]).decode() == secret
    for line in secret.splitlines()[1:-1]:
        assert line not in node.model_dump_json()


def test_the_start_command_survives_quoting():
    words = shlex.split(start_command())
    assert words[:2] == ["sh", "-c"]
    assert "sshd" in base64.b64decode(words[2].split()[1]).decode()
