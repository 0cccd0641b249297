"""Lambda sells what its list says, and says who we are; the vendor is an emulator held against its own document."""

import json

import pytest

from styx.plugin import BalanceError, CredentialsError, DriverError, TransientError
from styx.testing.conformance.catalogside import CatalogConformance, CatalogHarness
from styx.testing.contexts import make_context
from styx.testing.emulator import Emulator, Reply, plain_client
from styx.testing.openapi import published
from styx_lambda import Lambda, LambdaConfig
from styx_lambda.driver import shipped_regions
from styx_lambda.prices import accelerator
from tests.simcloud.lambdacloud import ACCOUNT, EVENT

KEY = "secret_styx_5f2b8c_canary.W9x"
DOCUMENT = published("lambda.json")


def shape(name, gpu, cents, vcpus, memory, disk, gpus, regions=()):
    return {
        "instance_type": {
            "name": name,
            "description": f"{gpus}x {gpu}" if gpus else "4x CPU General",
            "gpu_description": gpu,
            "price_cents_per_hour": cents,
            "specs": {"vcpus": vcpus, "memory_gib": memory, "storage_gib": disk, "gpus": gpus},
        },
        "regions_with_capacity_available": [{"name": name, "description": name} for name in regions],
    }


TYPES = [
    shape("gpu_8x_h100_sxm5", "H100 (80 GB SXM5)", 3192, 208, 1800, 22528, 8, ["us-east-1"]),
    shape("gpu_8x_a100_80gb_sxm4", "A100 (80 GB SXM4)", 2232, 240, 1800, 19968, 8),
    shape("gpu_1x_gh200", "GH200 (96 GB)", 229, 64, 432, 4096, 1, ["us-moon-1"]),
    shape("gpu_8x_v100_n", "Tesla V100 (16 GB)", 632, 88, 448, 5939, 8),
    shape("cpu_4x_general", "N/A", 20, 4, 16, 100, 0),
    shape("gpu_1x_new", "B300 (288 GB SXM6)", 0, 26, 360, 2816, 1),
]


class Vendor:
    """Two calls of Lambda's API, and its refusals."""

    def __init__(self):
        self.refusal = None
        self.log = [EVENT]
        self.keys = {KEY}
        self.refused = {}

    def __call__(self, request):
        reply = self.answer(request)
        if DOCUMENT is not None:
            DOCUMENT.check(request.method, request.path, reply.status, json.loads(json.dumps(reply.body)))
        return reply

    def answer(self, request):
        if request.headers.get("authorization") not in {f"Bearer {key}" for key in self.keys}:
            words = {"code": "global/invalid-api-key", "message": "API key was invalid.", "suggestion": "Check it."}
            return Reply({"error": words}, 401)
        if self.refusal is not None:
            return self.refusal
        if request.path in self.refused:
            return self.refused[request.path]
        if request.path == "/api/v1/audit-events":
            return Reply({"data": self.log, "page_token": None})
        if request.path == "/api/v1/regions":
            known = [{"name": name, "description": name} for name in [*sorted(shipped_regions()), "us-moon-1"]]
            return Reply({"data": known})
        assert request.path == "/api/v1/instance-types"
        return Reply({"data": {entry["instance_type"]["name"]: entry for entry in TYPES}})


class LambdaHarness(CatalogHarness):
    def __init__(self, home, emulator):
        super().__init__()
        self.credentials = {"LAMBDA_API_KEY": KEY}
        self.home, self.emulator = home, emulator

    def driver(self, *, store="st0re1", secrets=None, **settings):
        config = LambdaConfig(endpoint=f"{self.emulator.url}/api/v1", **settings)
        given = self.credentials if secrets is None else secrets
        return Lambda(
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
        yield LambdaHarness(tmp_path, emulator)


class TestLambda(CatalogConformance):
    pass


def test_rows_tell_price_model_memory_and_architecture(harness):
    rows = {(row.instance_type, row.region): row for row in harness.driver().fetch()}
    big = rows["gpu_8x_a100_80gb_sxm4", "us-west-1"]
    assert (big.accelerator_name, big.accelerator_count, big.accelerator_memory_gib) == ("A100-80GB", 8, 80)
    assert (big.usd_per_hour, big.vcpus, big.memory_gib, big.local_disk_gib) == (22.32, 240, 1800, 19968)
    assert rows["gpu_1x_gh200", "us-east-1"].arch == "arm64"
    assert rows["gpu_8x_v100_n", "us-east-1"].accelerator_name == "V100"
    cpu = rows["cpu_4x_general", "us-east-1"]
    assert (cpu.accelerator_name, cpu.accelerator_count, cpu.accelerator_vendor) == (None, 0, None)
    assert rows["gpu_1x_new", "us-east-1"].usd_per_hour is None  # a price of 0 is no price
    assert ("gpu_8x_h100_sxm5", "us-moon-1") in rows  # the list names a region that was not known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("H100 (80 GB PCIe)", ("H100", 80)),
        ("A100 (40 GB SXM4)", ("A100", 40)),
        ("RTX 6000 (24 GB)", ("RTX6000", 24)),
        ("RTX 6000 Ada (48 GB)", ("RTX6000-Ada", 48)),
        ("A6000 (48 GB)", ("A6000", 48)),
        ("N/A", None),
    ],
)
def test_model_and_memory_from_the_description(text, expected):
    assert accelerator(text) == expected


def test_key_from_the_vendors_own_file(harness):
    folder = harness.home / "user" / ".lambda_cloud"
    folder.mkdir(parents=True)
    (folder / "lambda_keys").write_text(f"# comment\napi_key = {KEY}\n")
    driver = harness.driver(secrets={})
    assert driver.check().account == harness.driver().check().account
    (folder / "lambda_keys").write_text("key = nothing\n")
    with pytest.raises(CredentialsError, match="has no line 'api_key = <key>'"):
        driver.check()


def test_the_account_is_what_the_audit_log_says_and_is_asked_for_once(harness):
    assert harness.driver().check().account == ACCOUNT
    assert harness.driver().account() == ACCOUNT
    assert sum("audit-events" in line for line in harness.request_lines()) == 1
    (file,) = harness.home.rglob("lambda-accounts.json")
    assert KEY not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert harness.driver(account="research").check().account == "research"
    file.write_text("damaged")
    assert harness.driver().account() == ACCOUNT


@pytest.mark.parametrize(
    "log", [[], [EVENT | {"resource_owner_lrn": None}], [EVENT, EVENT | {"resource_owner_lrn": "lrn:cloud:account:b"}]]
)
def test_the_key_names_the_account_where_the_audit_log_does_not(harness, vendor, log):
    vendor.log = log
    driver = harness.driver()
    account = driver.check().account
    assert account.startswith("key-")
    assert account[4:] not in KEY
    assert account in driver.former_accounts()
    assert f"--config clouds.lambda.account={account}" in driver.account_hint(account)
    vendor.log = [EVENT]
    assert driver.account() == ACCOUNT  # as soon as it does
    assert account in driver.former_accounts()


def test_an_account_stays_the_same_with_a_new_key(harness, vendor):
    vendor.log = []
    former = harness.driver().account()
    vendor.log = [EVENT]
    assert harness.driver().account() == ACCOUNT
    vendor.keys.add("secret_other_canary")
    driver = harness.driver(secrets={"LAMBDA_API_KEY": "secret_other_canary"})
    assert driver.account() == ACCOUNT
    assert former in driver.former_accounts()
    stranger = "key-0123456789ab"
    assert stranger not in driver.former_accounts()


def test_a_key_that_may_not_read_the_audit_log_names_the_account(harness, vendor):
    vendor.refused = {"/api/v1/audit-events": refusal("global/forbidden", 403)}
    assert harness.driver().check().account.startswith("key-")
    vendor.refused = {"/api/v1/audit-events": refusal("global/internal-error", 500)}
    with pytest.raises(TransientError):  # nothing is made of a failure
        harness.driver().check()


def refusal(code, status, headers=None):
    return Reply({"error": {"code": code, "message": "no", "suggestion": "wait"}}, status, headers or {})


@pytest.mark.parametrize(
    ("reply", "expected", "words"),
    [
        (refusal("global/account-inactive", 403), BalanceError, "global/account-inactive"),
        (refusal("global/invalid-api-key", 401), CredentialsError, "global/invalid-api-key"),
    ],
)
def test_refusals_keep_the_vendors_words(harness, vendor, reply, expected, words):
    vendor.refusal = reply
    with pytest.raises(expected, match=words) as caught:
        harness.driver().check()
    assert caught.value.vendor.code == words


def test_too_many_calls_say_when_to_come_back(tmp_path):
    with Emulator(lambda request: refusal("global/too-many", 429, {"Retry-After": "7"})) as emulator:
        driver = LambdaHarness(tmp_path, emulator).driver()
        with pytest.raises(TransientError) as caught:
            driver.check()
    assert caught.value.retry_after_s == 7


def test_another_shape_is_the_vendors_fault(tmp_path):
    with Emulator(lambda request: Reply({"data": [{"nome": "x"}]})) as emulator:
        driver = LambdaHarness(tmp_path, emulator).driver()
        with pytest.raises(DriverError, match="in a shape that it does not document"):
            driver.check()
