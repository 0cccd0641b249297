"""Google sells what its machine types and its price list say together; the vendor is an emulator of four interfaces."""

import base64
import json
import subprocess

import pytest

from styx.plugin import CredentialsError, DriverError, Market, Place, TransientError, UnsupportedError
from styx.testing.conformance.catalogside import CatalogConformance, CatalogHarness
from styx.testing.contexts import make_context
from styx.testing.emulator import Emulator, Reply, plain_client
from styx_gcp import Gcp, GcpConfig
from styx_gcp.skus import meaning_of

TOKEN = "ya29.styx-canary-5f2b8c"
PERSON = {
    "type": "authorized_user",
    "client_id": "me.apps.example",
    "client_secret": "styx-canary-client",
    "refresh_token": "styx-canary-refresh",
}


def sku(description, usd, group="CPU", usage="OnDemand", unit="h", regions=("us-central1",)):
    units, nanos = str(int(usd)), round((usd - int(usd)) * 1e9)
    price = {"currencyCode": "USD", "units": units, "nanos": nanos}
    expression = {
        "usageUnit": unit,
        "displayQuantity": 1,
        "tieredRates": [{"startUsageAmount": 0, "unitPrice": price}],
        "baseUnit": "s",
    }
    category = {
        "serviceDisplayName": "Compute Engine",
        "resourceFamily": "Compute",
        "resourceGroup": group,
        "usageType": usage,
    }
    return {
        "name": f"services/6F81-5844-456A/skus/{abs(hash(description)) % 10**8}",
        "description": description,
        "category": category,
        "serviceRegions": list(regions),
        "pricingInfo": [{"summary": "", "pricingExpression": expression, "currencyConversionRate": 1}],
        "serviceProviderName": "Google",
    }


def spot(description, usd, **more):
    return sku(description, usd, usage="Preemptible", **more)


SKUS = [
    sku("N1 Predefined Instance Core running in Americas", 0.031611),
    sku("N1 Predefined Instance Ram running in Americas", 0.004237, "RAM", unit="GiBy.h"),
    spot("Spot Preemptible N1 Predefined Instance Core running in Americas", 0.01),
    spot("Spot Preemptible N1 Predefined Instance Ram running in Americas", 0.001, group="RAM", unit="GiBy.h"),
    sku("N2 Custom Instance Core running in Americas", 9.0),
    sku("Commitment v1: N2 Cpu in Americas for 1 Year", 0.01, usage="Commit1Yr"),
    sku("N2 Instance Core running in Americas", 0.031611),
    sku("N2 Instance Ram running in Americas", 0.004237, "RAM", unit="GiBy.h"),
    sku("E2 Instance Core running in Americas", 0.02),
    sku("E2 Instance Ram running in Americas", 0.003, "RAM", unit="GiBy.h"),
    sku("C4A Arm Instance Core running in Americas", 0.03),
    sku("C4A Arm Instance Ram running in Americas", 0.004, "RAM", unit="GiBy.h"),
    sku("A3 Instance Core running in Americas", 0.0293),
    sku("A3 Instance Ram running in Americas", 0.0025, "RAM", unit="GiBy.h"),
    sku("Nvidia H100 80GB GPU running in Americas", 9.79655, "GPU"),
    sku("Nvidia H100 80GB GPU attached to DWS Defined Duration VMs running in Americas", 4.2, "GPU"),
    spot("Spot Preemptible A3 Instance Core running in Americas", 0.01),
    spot("Spot Preemptible A3 Instance Ram running in Americas", 0.001, group="RAM", unit="GiBy.h"),
    spot("Nvidia H100 80GB GPU attached to Spot Preemptible VMs running in Americas", 3.0, group="GPU"),
    sku("SSD backed Local Storage", 0.08, "LocalSSD", unit="GiBy.mo"),
    sku("SSD backed Local Storage attached to Spot Preemptible VMs", 0.0365, "LocalSSD", unit="GiBy.mo"),
    sku("Nvidia Tesla T4 GPU running in Americas", 0.35, "GPU"),
    spot("Nvidia Tesla T4 GPU attached to Spot Preemptible VMs running in Americas", 0.19, group="GPU"),
    spot("Spot Preemptible A4 Nvidia B200 (1 gpu slice) running in Iowa", 4.5, group="GPU"),
    sku("RTX 6000 96GB running in Iowa", 4.0, "GPU"),
    sku("G4 Instance Core running in Iowa", 0.01),
    sku("G4 Instance Ram running in Iowa", 0.001, "RAM", unit="GiBy.h"),
    sku("Storage PD Capacity", 0.04, "PDStandard", unit="GiBy.mo"),
    {**sku("T2D AMD Instance Core running in Americas", 0.0), "pricingInfo": []},
]


def machine(name, cpus, gib, gpu=None, count=0, **more):
    entry = {"kind": "compute#machineType", "name": name, "guestCpus": cpus, "memoryMb": int(gib * 1024), **more}
    if gpu:
        entry["accelerators"] = [{"guestAcceleratorType": gpu, "guestAcceleratorCount": count}]
    return entry


MACHINES = {
    "us-central1-a": [
        machine("n1-standard-8", 8, 30),
        machine("n1-standard-96", 96, 360),
        machine("n2-standard-8", 8, 32, architecture="X86_64"),
        machine("e2-small", 2, 2, isSharedCpu=True),
        machine("c4a-standard-4", 4, 16, architecture="ARM64"),
        machine("c4a-standard-4-lssd", 4, 16, bundledLocalSsds={"defaultInterface": "NVME", "partitionCount": 1}),
        machine("t2d-standard-4", 4, 16),
        machine("n2-standard-2", 2, 8, deprecated={"state": "OBSOLETE"}),
    ],
    "us-central1-b": [
        machine("n1-standard-8", 8, 30),
        machine("a3-highgpu-8g", 208, 1872, "nvidia-h100-80gb", 8, bundledLocalSsds={"partitionCount": 16}),
        machine("a4-highgpu-8g", 224, 3968, "nvidia-b200", 8),
        machine("g4-standard-12", 12, 45, "nvidia-rtx-pro-6000", 1),
        machine("x9-standard-8", 8, 32, "nvidia-x900", 1),
    ],
    "europe-west9-a": [machine("n2-standard-8", 8, 32)],
}
ACCELERATORS = {"us-central1-a": ["nvidia-tesla-t4", "nvidia-tesla-t4-vws"], "us-central1-b": ["nvidia-h100-80gb"]}


def google_error(code, status, reason):
    error = {"code": code, "message": f"because {reason}", "status": status}
    return Reply({"error": {**error, "errors": [{"reason": reason, "domain": "global"}]}}, code)


class Vendor:
    """Tokens, regions, machine types and prices."""

    def __init__(self):
        self.refusal = None
        self.accepts = lambda form: form.get("refresh_token") == PERSON["refresh_token"]

    def __call__(self, request):
        if request.path == "/token":
            if self.accepts(request.form()):
                return Reply({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"})
            return Reply({"error": "invalid_grant", "error_description": "Token has been expired or revoked."}, 400)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return google_error(401, "UNAUTHENTICATED", "authError")
        if self.refusal is not None:
            return self.refusal
        if request.path.startswith("/v1/services/6F81-5844-456A/"):
            assert request.query["currencyCode"] == "USD"
            return self.page(request, "skus", SKUS, 10)
        assert request.path.startswith("/compute/v1/projects/demo/")
        what = request.path.removeprefix("/compute/v1/projects/demo/")
        if what == "regions":
            return Reply({"items": [{"name": "us-central1", "status": "UP"}, {"name": "me-west1", "status": "DOWN"}]})
        if what == "aggregated/machineTypes":
            zones = {f"zones/{zone}": {"machineTypes": entries} for zone, entries in MACHINES.items()}
        else:
            assert what == "aggregated/acceleratorTypes"
            zones = {
                f"zones/{zone}": {"acceleratorTypes": [{"name": name} for name in names]}
                for zone, names in ACCELERATORS.items()
            }
        zones["zones/us-west8-a"] = {"warning": {"code": "NO_RESULTS_ON_PAGE"}}
        pages = [dict([each]) for each in zones.items()]
        at = int(request.query.get("pageToken", 0))
        more = {"nextPageToken": str(at + 1)} if at + 1 < len(pages) else {}
        return Reply({"kind": "list", "items": pages[at], **more})

    def page(self, request, name, entries, size):
        at = int(request.query.get("pageToken") or 0)
        after = str(at + size) if at + size < len(entries) else ""
        return Reply({name: entries[at : at + size], "nextPageToken": after})


class GcpHarness(CatalogHarness):
    def __init__(self, home, emulator):
        super().__init__()
        self.credentials = {"CLOUDSDK_AUTH_ACCESS_TOKEN": TOKEN}
        self.home, self.emulator = home, emulator

    def driver(self, *, store="st0re1", secrets=None, **settings):
        url = self.emulator.url
        config = GcpConfig(
            **{"project": "demo", "regions": ("us-central1",), **settings},
            compute_endpoint=f"{url}/compute/v1",
            billing_endpoint=f"{url}/v1",
            oauth_endpoint=f"{url}/token",
        )
        given = self.credentials if secrets is None else secrets
        return Gcp(
            make_context(self.home, config=config, store=store, secrets=given, clock=self.clock, http=plain_client)
        )

    def request_lines(self):
        return self.emulator.lines()

    def default_credentials(self, values):
        folder = self.home / "user" / ".config" / "gcloud"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "application_default_credentials.json").write_text(json.dumps(values))
        return folder


@pytest.fixture
def vendor():
    return Vendor()


@pytest.fixture
def harness(tmp_path, vendor):
    with Emulator(vendor) as emulator:
        yield GcpHarness(tmp_path, emulator)


class TestGcp(CatalogConformance):
    pass


def rows_of(harness):
    return {
        (row.instance_type, row.accelerator_name, row.accelerator_count, row.market): row
        for row in harness.driver().fetch()
    }


def test_a_price_is_the_sum_of_the_parts(harness):
    rows = rows_of(harness)
    n2 = rows["n2-standard-8", None, 0, Market.ON_DEMAND]
    assert n2.usd_per_hour == pytest.approx(8 * 0.031611 + 32 * 0.004237, abs=1e-6)
    assert ("n2-standard-8", None, 0, Market.SPOT) not in rows  # no such price
    big = rows["a3-highgpu-8g", "H100", 8, Market.ON_DEMAND]
    disks = 16 * 375 * 0.08 / 730
    assert big.usd_per_hour == pytest.approx(208 * 0.0293 + 1872 * 0.0025 + 8 * 9.79655 + disks, abs=1e-6)
    assert (big.accelerator_memory_gib, big.local_disk_gib, big.network_tier) == (80, 6000, "best")
    assert not big.features.stop  # its disks would be lost
    part = rows["a3-highgpu-8g", "H100", 8, Market.SPOT]
    assert part.usd_per_hour == pytest.approx(208 * 0.01 + 1872 * 0.001 + 24 + 6000 * 0.0365 / 730, abs=1e-6)
    small = rows["e2-small", None, 0, Market.ON_DEMAND]
    assert small.usd_per_hour == pytest.approx(0.5 * 0.02 + 2 * 0.003)


def test_accelerators_are_added_to_the_hosts_that_take_them(harness):
    rows = rows_of(harness)
    assert rows["n1-standard-8", "T4", 1, Market.ON_DEMAND].usd_per_hour == pytest.approx(
        8 * 0.031611 + 30 * 0.004237 + 0.35, abs=1e-6
    )
    assert rows["n1-standard-8", "T4", 2, Market.SPOT].ref == "nvidia-tesla-t4:2"  # what must be asked for
    assert ("n1-standard-8", "T4", 4, Market.SPOT) in rows
    assert ("n1-standard-96", "T4", 1, Market.ON_DEMAND) not in rows  # too large for one
    assert ("n1-standard-96", "T4", 4, Market.ON_DEMAND) in rows
    assert ("n2-standard-8", "T4", 1, Market.ON_DEMAND) not in rows


def test_what_is_not_known_is_not_guessed(harness):
    rows = rows_of(harness)
    assert rows["a4-highgpu-8g", "B200", 8, Market.ON_DEMAND].usd_per_hour is None
    assert rows["a4-highgpu-8g", "B200", 8, Market.SPOT].usd_per_hour == 36.0  # the slices are the machine
    assert rows["x9-standard-8", "nvidia-x900", 1, Market.ON_DEMAND].usd_per_hour is None
    names = {name for name, *_ in rows}
    assert "c4a-standard-4" in names
    assert "c4a-standard-4-lssd" not in names  # its disks have a price of their own, which is not listed
    assert not {"t2d-standard-4", "n2-standard-2"} & names
    assert rows["c4a-standard-4", None, 0, Market.ON_DEMAND].arch == "arm64"
    slice_ = rows["g4-standard-12", "RTXPRO6000", 0.25, Market.ON_DEMAND]
    assert slice_.accelerator_memory_gib == 24
    assert slice_.usd_per_hour == pytest.approx(12 * 0.01 + 45 * 0.001 + 1.0)


@pytest.mark.parametrize(
    ("text", "group", "meaning"),
    [
        ("N2D AMD Instance Core running in Zurich", "CPU", ("core", "n2d", False)),
        ("Compute optimized Core running in Americas", "CPU", ("core", "c2", False)),
        ("Preemptible Compute optimized Ram running in Americas", "RAM", ("ram", "c2", True)),
        ("Spot Preemptible C4D Instance Local SSD running in Frankfurt", "SSD", ("disk", "c4d", True)),
        ("SSD backed Local Storage in Paris", "LocalSSD", ("disk", "", False)),
        ("H200 141GB GPU running in Netherlands", "GPU", ("gpu", "H200", False)),
        ("Nvidia H100 80GB Mega GPU attached to Spot Preemptible VMs running in X", "GPU", ("gpu", "H100-MEGA", True)),
        ("N2 Sole Tenancy Instance Core running in Americas", "CPU", None),
        ("Nvidia H100 80GB GPU attached to DWS Defined Duration VMs running in Tokyo", "GPU", None),
        ("Network Internet Egress from Americas to China", "PremiumInternetEgress", None),
    ],
)  # fmt: skip
def test_a_sku_means_what_its_description_says(text, group, meaning):
    assert meaning_of(text, group) == meaning


def test_a_persons_default_credentials_name_the_project_that_pays(harness):
    folder = harness.default_credentials(PERSON)
    (folder / "active_config").write_text("work\n")
    (folder / "configurations").mkdir()
    (folder / "configurations" / "config_work").write_text("[core]\nproject = demo\n")
    identity = harness.driver(secrets={}, project=None).check()
    assert (identity.account, identity.user) == ("demo", None)
    assert harness.emulator.requests[-1].headers["x-goog-user-project"] == "demo"


def test_credentials_that_were_revoked(harness):
    harness.default_credentials({**PERSON, "refresh_token": "styx-canary-old"})
    with pytest.raises(CredentialsError, match="expired or revoked") as caught:
        harness.driver(secrets={}).check()
    assert "canary" not in str(caught.value)


@pytest.mark.debian("openssl", "openssl", "version")
def test_a_service_account_signs_its_request(harness, vendor, tmp_path):
    key, public = tmp_path / "key.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-out", key], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    account = "styx@demo.iam.gserviceaccount.com"
    file = tmp_path / "account.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "demo",
                "private_key_id": "k1",
                "private_key": key.read_text(),
                "client_email": account,
            }
        )
    )

    def verified(form):
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        head, body, signature = form["assertion"].split(".")
        claims = json.loads(base64.urlsafe_b64decode(body + "=="))
        assert (claims["iss"], claims["aud"]) == (account, "https://oauth2.googleapis.com/token")
        assert claims["exp"] - claims["iat"] == 3600
        (tmp_path / "signature").write_bytes(base64.urlsafe_b64decode(signature + "=="))
        (tmp_path / "signed").write_text(f"{head}.{body}")
        command = ["openssl", "dgst", "-sha256", "-verify", public, "-signature", tmp_path / "signature"]
        return subprocess.run([*command, tmp_path / "signed"], capture_output=True, check=False).returncode == 0

    vendor.accepts = verified
    identity = harness.driver(secrets={"GOOGLE_APPLICATION_CREDENTIALS": str(file)}, project=None).check()
    assert (identity.account, identity.user) == ("demo", account)
    assert "x-goog-user-project" not in harness.emulator.requests[-1].headers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ('{"type": "external_account"}', "of type 'external_account'"),
        ('{"type": "authorized_user", "client_id": "c"}', "has no client_secret"),
        ('{"type": "service_account", "client_email": "a@b", "private_key": "x"}', "is no RSA key"),
    ],
)
def test_a_bad_credential_file_is_named(harness, tmp_path, text, message):
    file = tmp_path / "bad.json"
    file.write_text(text)
    with pytest.raises(CredentialsError, match=message):
        harness.driver(secrets={"GOOGLE_APPLICATION_CREDENTIALS": str(file)}).check()


def test_missing_things_are_told_with_the_fix(harness):
    with pytest.raises(CredentialsError, match="GOOGLE_APPLICATION_CREDENTIALS is not set") as caught:
        harness.driver(secrets={}).check()
    assert "gcloud auth application-default login" in caught.value.hint
    with pytest.raises(CredentialsError, match="no project"):
        harness.driver(project=None).check()
    with pytest.raises(CredentialsError, match=r"there is no credential file .*none\.json"):
        harness.driver(credentials_file="/nowhere/none.json").check()


def test_a_region_that_is_not_up_is_told(harness):
    identity = harness.driver(regions=("us-central1", "me-west1")).check()
    assert {place.region: problem is None for place, problem in identity.places.items()} == {
        "us-central1": True,
        "me-west1": False,
    }


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (google_error(403, "PERMISSION_DENIED", "accessNotConfigured"), CredentialsError, "accessNotConfigured"),
        (google_error(404, "NOT_FOUND", "notFound"), CredentialsError, "notFound"),
        (google_error(403, "PERMISSION_DENIED", "rateLimitExceeded"), TransientError, "rateLimitExceeded"),
        (Reply({"items": [{"status": "UP"}]}), DriverError, "does not document"),
        (Reply("<html>", 502), TransientError, "502"),
    ],
)
def test_refusals_keep_the_vendors_words(harness, vendor, reply, kind, words):
    vendor.refusal = reply
    with pytest.raises(kind, match=words):
        harness.driver().check()


def test_a_zone_is_told_by_its_name(harness):
    place = Place(cloud="gcp", account="me", region="us-central1")
    assert harness.driver().zone_named(place, "us-central1-a", ask=True) == "us-central1-a"
    for name in ["us-central1", "europe-west4-a", "a"]:
        with pytest.raises(UnsupportedError, match=f"no zone {name} in us-central1: .*names like us-central1-a"):
            harness.driver().zone_named(place, name, ask=False)
