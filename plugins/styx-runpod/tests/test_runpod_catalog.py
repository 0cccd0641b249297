"""RunPod sells what its catalog says; the REST half of the emulator is held against RunPod's own document."""

import json

import pytest

from styx.catalog.query import Catalog
from styx.catalog.snapshot import read_snapshot
from styx.optimizer.problem import Requirement
from styx.plugin import BalanceError, CredentialsError, DriverError, Market, Place, TransientError
from styx.plugins import Hub
from styx.testing.conformance.catalogside import CatalogConformance, CatalogHarness
from styx.testing.contexts import make_context
from styx.testing.emulator import Emulator, Reply, plain_client
from styx.testing.openapi import published
from styx_runpod import RunPod, RunPodConfig
from styx_runpod.driver import SNAPSHOT
from styx_runpod.prices import accelerator, country, counts

KEY = "rpa_STYX5f2b8cCANARYx9"
DOCUMENT = published("runpod-v2.json")


def centers(*names):
    return [{"id": name, "name": name, "availability": "HIGH"} for name in names]


def gpu(gpu_id, name, memory, usd, most, where, **more):
    entry = {
        "id": gpu_id,
        "name": name,
        "pool": None,
        "manufacturer": "NVIDIA",
        "memory": memory,
        "secure": True,
        "community": True,
        "price": {"secure": usd, "community": usd / 2},
        "maxCount": {"secure": most, "community": 1},
        "availability": "HIGH",
        "dataCenters": centers(*where),
    }
    return entry | more


SOLD_OUT = gpu("NVIDIA H100 80GB HBM3", "H100 SXM", 80, 3.99, 8, [], availability="NONE")
del SOLD_OUT["dataCenters"]
GPUS = [
    gpu("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.69, 6, ["US-TX-3", "US-KS-2", "EU-RO-1"]),
    SOLD_OUT,
    gpu("NVIDIA GeForce RTX 3070", "RTX 3070", 8, 0.0, 0, ["US-TX-3"], secure=False),
]
CPUS = [
    {
        "id": "cpu5m",
        "name": "Memory-Optimized",
        "group": "Gen 5",
        "vcpu": {"min": 2, "max": 16},
        "ramGbPerVcpu": 8,
        "price": {"securePerVcpu": 0.065, "serverlessPerVcpu": 0.05},
        "availability": "LOW",
        "dataCenters": centers("EUR-IS-1"),
    }
]
HOSTS = [
    {"id": "NVIDIA GeForce RTX 4090", "lowestPrice": {"minimumBidPrice": 0.5, "minVcpu": 6, "minMemory": 41}},
    {"id": "NVIDIA H100 80GB HBM3", "lowestPrice": {"minimumBidPrice": None, "minVcpu": None, "minMemory": None}},
    {"id": "NVIDIA GeForce RTX 3070", "lowestPrice": None},
]


class Vendor:
    """The catalog, the account, and RunPod's refusals."""

    def __init__(self):
        self.graphql_errors = None
        self.rest_refusal = None

    def __call__(self, request):
        if request.path == "/graphql":
            return self.graphql(request)
        reply = self.rest(request)
        if DOCUMENT is not None:
            DOCUMENT.check(request.method, request.path, reply.status, json.loads(json.dumps(reply.body)))
        return reply

    def graphql(self, request):
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return Reply({"errors": [{"message": "Unauthorized"}], "data": None})
        if self.graphql_errors:
            return Reply({"errors": self.graphql_errors, "data": None})
        query = request.json()["query"]
        assert "mutation" not in query
        if "myself" in query:
            return Reply({"data": {"myself": {"id": "user_2abc", "email": "me@example.com"}}})
        return Reply({"data": {"gpuTypes": HOSTS}})

    def rest(self, request):
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return Reply({"title": "Unauthorized", "status": 401, "detail": "missing bearer token"}, 401)
        if self.rest_refusal is not None:
            return self.rest_refusal
        if request.path == "/v2/catalog/datacenters":
            where = [
                {
                    "id": name,
                    "name": name,
                    "region": "EUROPE",
                    "globalNetwork": True,
                    "networkVolumeTypes": [],
                    "compliance": [],
                }
                for name in ("US-TX-3", "US-KS-2", "EU-RO-1", "EUR-IS-1")
            ]
            return Reply({"dataCenters": where})
        assert request.query == {"include": "AVAILABILITY", "product": "POD"}
        return Reply({"gpus": GPUS} if request.path == "/v2/catalog/gpus" else {"cpus": CPUS})


class RunPodHarness(CatalogHarness):
    def __init__(self, home, emulator):
        super().__init__()
        self.credentials = {"RUNPOD_API_KEY": KEY}
        self.home, self.emulator = home, emulator

    def driver(self, *, store="st0re1", secrets=None):
        config = RunPodConfig(endpoint=f"{self.emulator.url}/v2", graphql_endpoint=f"{self.emulator.url}/graphql")
        given = self.credentials if secrets is None else secrets
        return RunPod(
            make_context(self.home, config=config, store=store, secrets=given, clock=self.clock, http=plain_client)
        )

    def request_lines(self):
        return self.emulator.lines()


@pytest.fixture
def vendor():
    return Vendor()


@pytest.fixture
def harness(tmp_path, vendor):
    with Emulator(vendor) as emulator:
        yield RunPodHarness(tmp_path, emulator)


class TestRunPod(CatalogConformance):
    pass


def test_rows_by_country_count_and_market(harness):
    rows = {(row.instance_type, row.region, row.market): row for row in harness.driver().fetch()}
    four = rows["4x_RTX4090_SECURE", "RO", Market.ON_DEMAND]
    assert (four.usd_per_hour, four.vcpus, four.memory_gib, four.accelerator_memory_gib) == (2.76, 24, 164, 24)
    assert four.ref == "NVIDIA GeForce RTX 4090"
    assert rows["4x_RTX4090_SECURE", "RO", Market.BID].usd_per_hour == 2.0
    assert ("8x_RTX4090_SECURE", "RO", Market.ON_DEMAND) not in rows  # six is the most
    assert ("6x_RTX4090_SECURE", "US", Market.ON_DEMAND) in rows
    big = rows["8x_H100-SXM_SECURE", "IS", Market.ON_DEMAND]  # sold out, not gone
    assert (big.usd_per_hour, big.vcpus, big.memory_gib) == (31.92, None, None)
    assert ("8x_H100-SXM_SECURE", "IS", Market.BID) not in rows
    assert not [key for key in rows if "3070" in key[0]]  # only in the Community Cloud
    cpu = rows["cpu5m-16-128", "IS", Market.ON_DEMAND]
    assert (cpu.usd_per_hour, cpu.memory_gib, cpu.accelerator_name) == (1.04, 128, None)
    assert ("cpu5m-32-256", "IS", Market.ON_DEMAND) not in rows


@pytest.mark.parametrize(
    ("gpu_id", "name", "expected"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 SXM", "A100-80GB-SXM"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", "RTX6000-Ada"),
        ("NVIDIA RTX A6000", "RTX A6000", "A6000"),
        ("NVIDIA RTX PRO 4500 Blackwell Server Edition", "RTX PRO 4500 SE", "RTXPRO4500-SE"),
        ("NVIDIA L40S", "L40S", "L40S"),
        ("NVIDIA B400", "B400", "B400"),
    ],
)
def test_names(gpu_id, name, expected):
    assert accelerator(gpu_id, name) == expected


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    hub = Hub(tmp_path_factory.mktemp("home"), environ={}, store_id="abc123", user="me")
    return Catalog(hub.folders, hub)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("H200", {"H200-SXM"}),
        ("H200-SXM", {"H200-SXM"}),
        ("H100", {"H100-SXM"}),  # of the PCIe card no pod has eight
        ("A100-80GB", {"A100-80GB", "A100-80GB-SXM"}),
        ("A100-80GB-SXM", {"A100-80GB-SXM"}),
    ],
)
def test_the_figures_that_ship_answer_requests_for_the_plain_chip(catalog, asked, found):
    places = [Place(cloud="runpod", account="me", region=region) for _, region in catalog.regions(["runpod"])]
    rows = catalog.candidates(Requirement(label="it", accelerator_name=asked, accelerator_count=8), places)
    assert {row.accelerator_name for row in rows} == found
    assert {row.region for row in rows} >= {"US", "CA", "SE"}


def test_the_figures_that_ship_name_pods_as_the_driver_does():
    for row in read_snapshot(SNAPSHOT):
        if row.accelerator_name is None:
            assert row.instance_type.split("-", 1)[1] == f"{row.vcpus:g}-{row.memory_gib:g}"
        else:
            assert row.instance_type == f"{row.accelerator_count:g}x_{row.accelerator_name}_SECURE"


def test_countries_and_counts():
    named = {"US-TX-3": "US", "EU-RO-1": "RO", "CA-MTL-1": "CA", "EUR-IS-2": "IS", "AP-JP-1": "JP", "SEA-SG-1": "SG"}
    assert {name: country(name) for name in named} == named
    assert (counts(0), counts(1), counts(6), counts(8)) == ([], [1], [1, 2, 4, 6], [1, 2, 4, 8])


@pytest.mark.parametrize("text", [f'apikey = "{KEY}"\n', f'[default]\napi_key = "{KEY}"\n'])
def test_key_from_the_vendors_own_file(harness, text):
    folder = harness.home / "user" / ".runpod"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)
    identity = harness.driver(secrets={}).check()
    assert (identity.account, identity.user) == ("user_2abc", "me@example.com")
    assert {place.region for place in identity.places} == {"US", "RO", "IS"}


@pytest.mark.parametrize(("text", "words"), [(f"apikey = {KEY}", "is no TOML"), ("other = 1", "has none")])
def test_a_key_file_without_a_key(harness, text, words):
    folder = harness.home / "user" / ".runpod"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)
    with pytest.raises(CredentialsError, match=words) as caught:
        harness.driver(secrets={}).check()
    assert KEY not in str(caught.value)


def test_graphql_refuses_with_a_200(harness, vendor):
    vendor.graphql_errors = [{"message": "You have not enough balance", "extensions": {"code": "BAD"}}]
    with pytest.raises(BalanceError, match="not enough balance"):
        harness.driver().check()
    vendor.graphql_errors = [{"message": "Something odd"}]
    with pytest.raises(DriverError, match="Something odd"):
        harness.driver().check()


def test_a_key_that_may_not(harness, vendor):
    vendor.rest_refusal = Reply({"title": "Forbidden", "status": 403, "detail": "key lacks catalog"}, 403)
    with pytest.raises(CredentialsError, match="key lacks catalog") as caught:
        harness.driver().check()
    assert "may read and write REST and GraphQL" in caught.value.hint


def test_too_many_calls_say_when_to_come_back(harness, vendor):
    body = {"title": "Too Many Requests", "status": 429, "detail": "slow down"}
    vendor.rest_refusal = Reply(body, 429, {"Retry-After": "3"})
    with pytest.raises(TransientError) as caught:
        list(harness.driver().fetch())
    assert caught.value.retry_after_s == 3
