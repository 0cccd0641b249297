"""Azure sells what its public price list says; identity and shapes are calls to an emulator of its resource manager."""

import json

import pytest

from styx.plugin import CredentialsError, DriverError, Market, Place, TransientError, UnsupportedError
from styx.testing.conformance.catalogside import CatalogConformance, CatalogHarness
from styx.testing.contexts import make_context
from styx.testing.emulator import Emulator, Reply, plain_client
from styx_azure import Azure, AzureConfig
from styx_azure.sizes import accelerators, has_fabric, is_arm, vcpus

SUBSCRIPTION, TENANT, CLIENT = "5ub-0001", "7enant-0001", "c1ient-0001"
SECRET, TOKEN, REFRESH = "styx-canary~secret.5f2b8c", "eyJ.styx-canary.token", "0.styx-canary-refresh"
CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"


def item(size, usd, product="Virtual Machines Dsv5 Series", sku=None, region="eastus", **more):
    sku = sku or size.removeprefix("Standard_").replace("_", " ")
    return {
        "currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": usd, "unitPrice": usd,
        "armRegionName": region, "location": "US East", "effectiveStartDate": "2025-01-01T00:00:00Z",
        "meterId": "m", "meterName": sku, "productId": "p", "skuId": "s", "productName": product, "skuName": sku,
        "serviceName": "Virtual Machines", "serviceId": "DZH313Z7MMC8", "serviceFamily": "Compute",
        "unitOfMeasure": "1 Hour", "type": "Consumption", "isPrimaryMeterRegion": True, "armSkuName": size,
    } | more  # fmt: skip


ITEMS = [
    item("Standard_D8s_v5", 0.384),
    item("Standard_D8s_v5", 0.752, "Virtual Machines Dsv5 Series Windows"),
    item("Standard_D8s_v5", 0.0422, sku="D8s v5 Spot"),
    item("Standard_D8s_v5", 0.0768, sku="D8s v5 Low Priority"),
    item("Standard_D8s_v5", 0.3, effectiveStartDate="2024-01-01T00:00:00Z"),
    item("Standard_D8s_v5", 0.1, effectiveStartDate="2099-01-01T00:00:00Z"),
    item("Standard_D8s_v5", 9.9, isPrimaryMeterRegion=False, effectiveStartDate="2025-06-01T00:00:00Z"),
    item("Standard_D8s_v5", 2000.0, type="Reservation", unitOfMeasure="1 Hour"),
    item("Dsv5_Type1", 4.0, "Virtual Machines Dsv5 Series Dedicated Host"),
    item("Standard_D2ps_v5", 0.077, "Virtual Machines Dpsv5 Series"),
    item("Standard_ND96isr_H200_v5", 110.24, "Virtual Machines NDisr H200 v5 Series"),
    item("Standard_NV6ads_A10_v5", 0.454, "Virtual Machines NVadsA10v5 Series"),
    item("Standard_E16-4as_v5", 0.904, "Virtual Machines Easv5 Series"),
    item("Standard_Q1_v9", 0.0, "Virtual Machines Q Series"),
]
SIZES = [
    {
        "resourceType": "virtualMachines",
        "name": "Standard_ND96isr_H200_v5",
        "locations": ["eastus"],
        "capabilities": [
            {"name": "vCPUs", "value": "96"},
            {"name": "MemoryGB", "value": "1850"},
            {"name": "CpuArchitectureType", "value": "x64"},
            {"name": "MaxResourceVolumeMB", "value": "1024000"},
        ],
    },
    {"resourceType": "disks", "name": "Premium_LRS"},
]


class Vendor:
    """Tokens, the resource manager, and the price list."""

    def __init__(self):
        self.refusal = None
        self.state = "Enabled"

    def __call__(self, request):
        if request.path == "/prices":
            return self.prices(request)
        if request.path.startswith("/login/"):
            return self.login(request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return Reply({"error": {"code": "InvalidAuthenticationToken", "message": "It is invalid."}}, 401)
        if self.refusal is not None:
            return self.refusal
        assert request.query["api-version"]
        what = request.path.removeprefix(f"/arm/subscriptions/{SUBSCRIPTION}")
        if what == "":
            return Reply({"subscriptionId": SUBSCRIPTION, "displayName": "Research", "state": self.state})
        if what == "/locations":
            return Reply({"value": [{"name": "eastus", "metadata": {"regionType": "Physical"}}]})
        assert what == "/providers/Microsoft.Compute/skus"
        assert request.query["$filter"] == "location eq 'eastus'"
        if "page" not in request.query:
            link = f"https://management.azure.com{request.path}?api-version=1&page=2&$filter=location eq 'eastus'"
            return Reply({"value": SIZES[:1], "nextLink": link})
        return Reply({"value": SIZES[1:]})

    def login(self, request):
        assert request.path == f"/login/{TENANT}/oauth2/v2.0/token"
        form = request.form()
        assert form["scope"] == "https://management.azure.com/.default"
        principal = (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        person = (form.get("client_id"), form.get("refresh_token")) == (CLI, REFRESH)
        if form["grant_type"] == ("client_credentials" if principal else "refresh_token") and (principal or person):
            return Reply({"token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN})
        return Reply({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."}, 401)

    def prices(self, request):
        assert "authorization" not in request.headers
        wanted = "serviceName eq 'Virtual Machines' and priceType eq 'Consumption' and armRegionName eq 'eastus'"
        assert request.query["$filter"] == wanted
        at = int(request.query.get("$skip", 0))
        after = f"https://prices.azure.com:443/prices?$filter={wanted}&$skip={at + 5}" if at + 5 < len(ITEMS) else None
        page = {"BillingCurrency": "USD", "CustomerEntityId": "Default", "CustomerEntityType": "Retail"}
        return Reply({**page, "Items": ITEMS[at : at + 5], "NextPageLink": after, "Count": len(ITEMS[at : at + 5])})


class AzureHarness(CatalogHarness):
    def __init__(self, home, emulator):
        super().__init__()
        self.credentials = {"AZURE_CLIENT_SECRET": SECRET}
        self.names = {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_SUBSCRIPTION_ID": SUBSCRIPTION}
        self.home, self.emulator = home, emulator

    def driver(self, *, store="st0re1", secrets=None, **settings):
        url = self.emulator.url
        config = AzureConfig(
            **{"regions": ("eastus",), **settings},
            price_endpoint=f"{url}/prices",
            management_endpoint=f"{url}/arm",
            login_endpoint=f"{url}/login",
        )
        given = {**self.names, **(self.credentials if secrets is None else secrets)}
        return Azure(
            make_context(self.home, config=config, store=store, secrets=given, clock=self.clock, http=plain_client)
        )

    def request_lines(self):
        return self.emulator.lines()

    def az_login(self, user, **files):
        self.names = {}
        folder = self.home / "user" / ".azure"
        folder.mkdir(parents=True)
        other = {"id": "other", "name": "Other", "isDefault": False, "tenantId": "t", "user": user}
        mine = {"id": SUBSCRIPTION, "name": "Research", "isDefault": True, "tenantId": TENANT, "user": user}
        profile = json.dumps({"installationId": "i", "subscriptions": [other, mine]})
        (folder / "azureProfile.json").write_text("\ufeff" + profile, encoding="utf-8")
        for name, values in files.items():
            (folder / f"{name}.json").write_text(json.dumps(values))


@pytest.fixture
def vendor():
    return Vendor()


@pytest.fixture
def harness(tmp_path, vendor):
    with Emulator(vendor) as emulator:
        yield AzureHarness(tmp_path, emulator)


class TestAzure(CatalogConformance):
    pass


def rows_of(driver):
    return {(row.instance_type, row.market): row for row in driver.fetch()}


def test_rows_are_the_plain_hourly_price_of_linux_machines(harness):
    rows = rows_of(harness.driver())
    assert rows["Standard_D8s_v5", Market.ON_DEMAND].usd_per_hour == 0.384
    assert rows["Standard_D8s_v5", Market.SPOT].usd_per_hour == 0.0422
    assert not rows["Standard_D8s_v5", Market.SPOT].features.stop
    assert rows["Standard_D2ps_v5", Market.ON_DEMAND].arch == "arm64"
    assert len([key for key in rows if key[1] is Market.ON_DEMAND]) == 5  # no hosts, and no machine for nothing
    big = rows["Standard_ND96isr_H200_v5", Market.ON_DEMAND]
    assert (big.accelerator_name, big.accelerator_count, big.memory_gib, big.local_disk_gib) == ("H200", 8, 1850, 1000)
    assert (big.vcpus, big.network_tier) == (96, "best")
    part = rows["Standard_NV6ads_A10_v5", Market.ON_DEMAND]
    assert (part.accelerator_count, part.accelerator_memory_gib, part.vcpus) == (0.167, 4, 6)


def test_prices_need_no_credentials(harness):
    harness.names = {}
    rows = rows_of(harness.driver(secrets={}))
    assert rows["Standard_D8s_v5", Market.ON_DEMAND].memory_gib == 32  # as in the shipped rows
    big = rows["Standard_ND96isr_H200_v5", Market.ON_DEMAND]
    assert (big.vcpus, big.memory_gib) == (96, 1850)
    part = rows["Standard_E16-4as_v5", Market.ON_DEMAND]
    assert (part.vcpus, part.memory_gib) == (4, None)  # not shipped, and memory is not in the name
    assert all("/prices" in line for line in harness.emulator.lines())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("Standard_NC24ads_A100_v4", ("A100-80GB", 1)),
        ("Standard_NC80adis_H100_v5", ("H100-NVL", 2)),
        ("Standard_ND96asr_v4", ("A100", 8)),
        ("Standard_ND128isr_NDR_GB200_v6", ("GB200", 4)),
        ("Standard_ND96is_MI300X_v5", ("MI300X", 8)),
        ("Standard_NV72ads_A10_v5", ("A10", 2)),
        ("Standard_NV8as_v4", ("MI25", 0.25)),
        ("Standard_NC72lds_xl_RTXPRO6000BSE_v6", ("RTXPRO6000", 0.5)),
        ("Standard_D8s_v5", None),
        ("Standard_NP10s", None),
    ],
)
def test_accelerators_by_name(size, expected):
    found = accelerators(size)
    assert (found and (found[0].name, found[1])) == expected


def test_what_names_tell():
    assert (vcpus("Standard_D96ads_v5"), vcpus("Standard_E16-4as_v5"), vcpus("Standard_D4_v2")) == (96, 4, None)
    assert is_arm("Standard_E8pds_v5")
    assert not is_arm("Standard_NP10s")
    assert not is_arm("Standard_D8s_v5")
    assert has_fabric("Standard_HB120rs_v3")
    assert not has_fabric("Standard_NC24ads_A100_v4")


def test_a_persons_login_of_the_command_line(harness):
    account = {"username": "Me@example.com", "home_account_id": "h.1"}
    tokens = {"a": {"home_account_id": "h.0", "client_id": "x", "secret": "y"}}
    tokens["b"] = {"home_account_id": "h.1", "client_id": CLI, "secret": REFRESH}
    harness.az_login(
        {"name": "me@example.com", "type": "user"},
        msal_token_cache={"Account": {"k": account}, "RefreshToken": tokens},
    )
    identity = harness.driver(secrets={}).check()
    assert (identity.account, identity.user) == (SUBSCRIPTION, "me@example.com")
    assert harness.driver(secrets={}, subscription="Research").check().account == SUBSCRIPTION
    with pytest.raises(CredentialsError, match="'Nowhere' is not among the 2"):
        harness.driver(secrets={}, subscription="Nowhere").check()


def test_a_service_principal_of_the_command_line(harness):
    entry = {"client_id": CLIENT, "tenant": TENANT, "client_secret": SECRET}
    harness.az_login({"name": CLIENT, "type": "servicePrincipal"}, service_principal_entries=[entry])
    assert harness.driver(secrets={}).check().user == CLIENT


def test_a_login_that_has_gone(harness):
    harness.az_login({"name": "me@example.com", "type": "user"})
    with pytest.raises(CredentialsError, match=r"no login of me@example\.com"):
        harness.driver(secrets={}).check()


def test_what_is_missing_is_named(harness):
    harness.names = {"AZURE_CLIENT_ID": CLIENT}
    with pytest.raises(CredentialsError, match="not AZURE_TENANT_ID and AZURE_SUBSCRIPTION_ID"):
        harness.driver().check()
    with pytest.raises(CredentialsError, match="AZURE_CLIENT_SECRET is not set") as caught:
        harness.driver(secrets={}).check()
    assert "az login" in caught.value.hint


def test_regions_and_subscriptions_that_cannot_be_used(harness, vendor):
    identity = harness.driver(regions=("eastus", "westus9")).check()
    assert {place.region: problem is None for place, problem in identity.places.items()} == {
        "eastus": True,
        "westus9": False,
    }
    vendor.state = "Disabled"
    with pytest.raises(CredentialsError, match="is Disabled"):
        harness.driver().check()


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply({"error": {"code": "SubscriptionNotFound", "message": "none"}}, 404), CredentialsError, "none"),
        (Reply({"error": {"code": "TooManyRequests", "message": "slow"}}, 429), TransientError, "slow"),
        (Reply({"value": 1}), DriverError, "does not document"),
        (Reply("oops", 500), TransientError, "500"),
    ],
)
def test_refusals_keep_the_vendors_words(harness, vendor, reply, kind, words):
    vendor.refusal = reply
    with pytest.raises(kind, match=words):
        harness.driver().check()


def test_a_zone_is_told_by_its_name(harness):
    place = Place(cloud="azure", account="me", region="eastus")
    assert harness.driver().zone_named(place, "2", ask=True) == "2"
    for name in ["eastus-1", "4"]:
        with pytest.raises(UnsupportedError, match=f"no zone {name} in eastus: .*called 1, 2 and 3"):
            harness.driver().zone_named(place, name, ask=False)
