"""AWS sells what its public price list says; identity and spot prices are signed calls to an emulator."""

import json
import re

import pytest

from styx.plugin import CredentialsError, DriverError, Market, TransientError
from styx.testing.conformance.catalogside import CatalogConformance, CatalogHarness
from styx.testing.contexts import make_context
from styx.testing.emulator import Emulator, Reply, plain_client
from styx_aws import Aws, AwsConfig
from styx_aws.endpoints import endpoint
from styx_aws.offers import disk_gib, disk_kind, number

KEY_ID = "AKIASTYXCANARY000001"
SECRET = "styx-canary-secret/5f2b8c+W9x"
TOKEN = "styx-canary-session-token"
NOTES = '"FormatVersion","v1.0"\n"Disclaimer","..."\n"Publication Date","2026-11-20"\n"OfferCode","AmazonEC2"\n'
HEADER = [
    "SKU", "TermType", "Unit", "PricePerUnit", "Currency", "Instance Type", "vCPU", "Physical Processor", "Memory",
    "Storage", "Processor Architecture", "Tenancy", "Operating System", "operation", "CapacityStatus", "GPU",
    "Pre Installed S/W", "MarketOption",
]  # fmt: skip


def sku(name, usd, vcpus, memory, disk="EBS only", gpu="", **more):
    cells = {
        "SKU": "X1", "TermType": "OnDemand", "Unit": "Hrs", "PricePerUnit": usd, "Currency": "USD",
        "Instance Type": name, "vCPU": vcpus, "Physical Processor": "Intel Xeon", "Memory": memory, "Storage": disk,
        "Processor Architecture": "64-bit", "Tenancy": "Shared", "Operating System": "Linux",
        "operation": "RunInstances", "CapacityStatus": "Used", "GPU": gpu, "Pre Installed S/W": "NA",
        "MarketOption": "OnDemand",
    } | more  # fmt: skip
    return ",".join(f'"{cells[name]}"' for name in HEADER)


OFFERS = [
    sku("m7i.4xlarge", "0.8064000000", "16", "64 GiB"),
    sku("m7i.4xlarge", "1.5420000000", "16", "64 GiB", **{"Operating System": "Windows"}),
    sku("m7i.4xlarge", "0.5000000000", "16", "64 GiB", TermType="Reserved", Unit="Quantity"),
    sku("m7i.4xlarge", "0.8870000000", "16", "64 GiB", Tenancy="Dedicated"),
    sku("m7i.4xlarge", "0.0000000000", "16", "64 GiB", CapacityStatus="AllocatedCapacityReservation"),
    sku("p4d.24xlarge", "21.9576420000", "96", "1,152 GiB", "8 x 1000 SSD", "8"),
    sku("m7g.large", "0.0816000000", "2", "8 GiB", **{"Physical Processor": "AWS Graviton3 Processor"}),
    sku("inf2.xlarge", "0.7582000000", "4", "16 GiB"),
    sku("g6f.large", "0.2020000000", "2", "8 GiB", "1 x 110 NVMe SSD", "1"),
    sku("q9.large", "2.0000000000", "2", "8 GiB", "EBS only", "1"),
    sku("t3.free", "0.0000000000", "2", "8 GiB"),
    sku("", "0.0500000000", "", ""),
]
SPOT = [
    ("p4d.24xlarge", "us-east-1a", "8.008700", "2026-11-20T10:00:00.000Z"),
    ("p4d.24xlarge", "us-east-1a", "9.999900", "2026-11-19T10:00:00.000Z"),
    ("m7i.4xlarge", "us-east-1b", "0.298000", "2026-11-20T10:00:00.000Z"),
    ("x0.gone", "us-east-1b", "0.1", "2026-11-20T10:00:00.000Z"),
]


def ec2(action, inner):
    return Reply(f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{inner}</{action}Response>')


def sts(action, inner):
    body = f"<{action}Result>{inner}</{action}Result>"
    return Reply(f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{body}</{action}Response>')


def refused(code, message="no", status=403):
    return Reply(
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        "<RequestId>r-9</RequestId></ErrorResponse>",
        status,
        {"x-amzn-RequestId": "r-9"},
    )


class Vendor:
    """The price list, EC2, STS and single sign-on."""

    def __init__(self):
        self.accepted = {KEY_ID}
        self.refusal = None
        self.offers = OFFERS

    def __call__(self, request):
        if request.path.startswith("/offers/"):
            assert "authorization" not in request.headers
            assert request.path == "/offers/v1.0/aws/AmazonEC2/current/us-east-1/index.csv"
            header = ",".join(f'"{name}"' for name in HEADER)
            return Reply(NOTES + header + "\n" + "\n".join(self.offers) + "\n")
        if request.path == "/sso/federation/credentials":
            assert request.headers["x-amz-sso_bearer_token"] == TOKEN
            assert request.query == {"account_id": "111122223333", "role_name": "Dev"}
            keys = {"accessKeyId": KEY_ID, "secretAccessKey": SECRET, "sessionToken": TOKEN, "expiration": 0}
            return Reply({"roleCredentials": keys})
        scope = re.match(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([\w-]+)/(\w+)/aws4_request", request.headers["authorization"]
        )
        assert scope is not None
        if scope[1] not in self.accepted:
            return refused("InvalidClientTokenId", "The security token included in the request is invalid.")
        if self.refusal is not None:
            return self.refusal
        form = request.form()
        assert scope[3] == ("sts" if request.path == "/sts/" else "ec2")
        return getattr(self, form["Action"])(form)

    def GetCallerIdentity(self, form):
        return sts("GetCallerIdentity", "<Account>111122223333</Account><Arn>arn:aws:iam::111122223333:user/me</Arn>")

    def AssumeRole(self, form):
        assert (form["RoleArn"], form["ExternalId"]) == ("arn:aws:iam::1:role/r", "ex")
        self.accepted.add("ASIAROLE")
        keys = f"<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
        return sts("AssumeRole", f"<Credentials>{keys}<SessionToken>{TOKEN}</SessionToken></Credentials>")

    def DescribeRegions(self, form):
        names = "".join(f"<item><regionName>{name}</regionName></item>" for name in ("us-east-1", "eu-west-1"))
        return ec2("DescribeRegions", f"<regionInfo>{names}</regionInfo>")

    def DescribeAvailabilityZones(self, form):
        zones = {"us-east-1a": "use1-az6", "us-east-1b": "use1-az1"}
        items = "".join(
            f"<item><zoneName>{name}</zoneName><zoneId>{number}</zoneId></item>" for name, number in zones.items()
        )
        return ec2("DescribeAvailabilityZones", f"<availabilityZoneInfo>{items}</availabilityZoneInfo>")

    def DescribeSpotPriceHistory(self, form):
        assert form["ProductDescription.1"] == "Linux/UNIX"
        start = int(form.get("NextToken", 0))
        items = "".join(
            f"<item><instanceType>{name}</instanceType><availabilityZone>{zone}</availabilityZone>"
            f"<spotPrice>{usd}</spotPrice><timestamp>{when}</timestamp></item>"
            for name, zone, usd, when in SPOT[start : start + 2]
        )
        more = str(start + 2) if start + 2 < len(SPOT) else ""
        inner = f"<spotPriceHistorySet>{items}</spotPriceHistorySet><nextToken>{more}</nextToken>"
        return ec2("DescribeSpotPriceHistory", inner)


class AwsHarness(CatalogHarness):
    def __init__(self, home, emulator):
        super().__init__()
        self.credentials = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
        self.home, self.emulator = home, emulator

    def driver(self, *, store="st0re1", secrets=None, **settings):
        url = self.emulator.url
        config = AwsConfig(**{"regions": ("us-east-1",), **settings}, price_endpoint=url)
        services = {f"AWS_ENDPOINT_URL_{name.upper()}": f"{url}/{name}" for name in ("ec2", "sts", "sso")}
        quiet = {"AWS_EC2_METADATA_DISABLED": "true"}  # the machine of the tests may be one of EC2
        given = {**services, **quiet, **(self.credentials if secrets is None else secrets)}
        return Aws(
            make_context(self.home, config=config, store=store, secrets=given, clock=self.clock, http=plain_client)
        )

    def request_lines(self):
        return self.emulator.lines()

    def files(self, **texts):
        folder = self.home / "user" / ".aws"
        (folder / "sso" / "cache").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
        return folder


@pytest.fixture
def vendor():
    return Vendor()


@pytest.fixture
def harness(tmp_path, vendor):
    with Emulator(vendor) as emulator:
        yield AwsHarness(tmp_path, emulator)


class TestAws(CatalogConformance):
    pass


def test_rows_are_the_plain_price_of_shared_linux_machines(harness):
    rows = {(row.instance_type, row.zone, row.market): row for row in harness.driver().fetch()}
    assert rows["m7i.4xlarge", None, Market.ON_DEMAND].usd_per_hour == 0.8064
    big = rows["p4d.24xlarge", None, Market.ON_DEMAND]
    assert (big.accelerator_name, big.accelerator_count, big.accelerator_memory_gib) == ("A100", 8, 40)
    assert (big.memory_gib, big.local_disk_gib, big.network_tier) == (1152, 8000, "best")
    assert big.local_disk_kind == "nvme"
    assert rows["m7g.large", None, Market.ON_DEMAND].arch == "arm64"
    assert rows["inf2.xlarge", None, Market.ON_DEMAND].accelerator_name == "Inferentia2"
    part = rows["g6f.large", None, Market.ON_DEMAND]
    assert (part.accelerator_name, part.accelerator_count, part.accelerator_memory_gib) == ("L4", 0.125, 3)
    assert rows["q9.large", None, Market.ON_DEMAND].accelerator_name is None  # a GPU that nobody here knows
    spot = rows["p4d.24xlarge", "use1-az6", Market.SPOT]
    assert (spot.usd_per_hour, spot.features.stop, spot.accelerator_count) == (8.0087, False, 8)  # the newest, by id
    assert rows["m7i.4xlarge", "use1-az1", Market.SPOT].usd_per_hour == 0.298
    assert {name for name, _, _ in rows} == {
        "m7i.4xlarge", "p4d.24xlarge", "m7g.large", "inf2.xlarge", "g6f.large", "q9.large",
    }  # fmt: skip


def test_public_prices_need_no_credentials(harness):
    rows = list(harness.driver(secrets={}).fetch())
    assert {row.market for row in rows} == {Market.ON_DEMAND}
    assert len(harness.emulator.requests) == 1


def test_a_price_list_of_another_shape(harness, vendor):
    vendor.offers = []
    assert list(harness.driver(secrets={}).fetch()) == []
    HEADER.append("dummy")
    HEADER.remove("Instance Type")
    try:
        with pytest.raises(DriverError, match="no column Instance Type"):
            list(harness.driver(secrets={}).fetch())
    finally:
        HEADER.remove("dummy")
        HEADER.insert(5, "Instance Type")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("EBS only", None), ("8 x 1000 SSD", 8000), ("2 x 1,900 NVMe SSD", 3800), ("125 GB NVMe SSD", 125), ("NA", None)],
)
def test_disks(text, expected):
    assert disk_gib(text) == expected


@pytest.mark.parametrize(
    ("machine", "text", "expected"),
    [
        ("m5.large", "EBS only", None),
        ("p4d.24xlarge", "8 x 1000 SSD", "nvme"),
        ("g6.xlarge", "1 x 250 NVMe SSD", "nvme"),
        ("x1.16xlarge", "1 x 1,920 SSD", "ssd"),
        ("d3.xlarge", "3 x 1980 NVMe HDD", "hdd"),
    ],
)
def test_kinds_of_disks(machine, text, expected):
    assert disk_kind(machine, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("1,152 ", 1152), ("NA", None), ("0.0000", None), ("nan", None), ("-1", None)]
)
def test_numbers(text, expected):
    assert number(text) == expected


# identity -----------------------------------------------------------------------------------------------------------


def test_regions_that_are_not_enabled_are_said(harness):
    identity = harness.driver(regions=("us-east-1", "me-south-1")).check()
    assert (identity.account, identity.user) == ("111122223333", "arn:aws:iam::111122223333:user/me")
    problems = {place.region: problem for place, problem in identity.places.items()}
    assert problems["us-east-1"] is None
    assert "region me-south-1 is not enabled" in str(problems["me-south-1"])


def test_temporary_keys_send_their_token_in_a_header(harness):
    harness.driver(secrets={**harness.credentials, "AWS_SESSION_TOKEN": TOKEN}).check()
    assert harness.emulator.requests[-1].headers["x-amz-security-token"] == TOKEN
    assert all(SECRET.encode() not in request.body for request in harness.emulator.requests)


def test_a_profile_with_keys(harness):
    harness.files(
        credentials=f"[work]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n",
        config="[profile work]\nregion = eu-west-1\n",
    )
    assert harness.driver(secrets={"AWS_PROFILE": "work"}).check().account == "111122223333"
    assert "/eu-west-1/sts/" in harness.emulator.requests[-2].headers["authorization"]
    assert harness.driver(
        secrets={"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "x"}, profile="work"
    ).check()


def test_a_role_of_another_profile(harness):
    harness.files(
        credentials=f"[base]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n",
        config="[default]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nexternal_id = ex\n",
    )
    harness.driver(secrets={}).check()
    assert "Credential=ASIAROLE/" in harness.emulator.requests[-1].headers["authorization"]


def test_profiles_that_lead_in_circles(harness):
    text = "[profile {}]\nrole_arn = r\nsource_profile = {}\n"
    harness.files(config=text.format("a", "b") + text.format("b", "a"))
    with pytest.raises(CredentialsError, match="leads back to itself: a -> b -> a"):
        harness.driver(secrets={"AWS_PROFILE": "a"}).check()


def test_the_endpoint_is_the_users_choice_as_in_awss_own_tools(harness):
    url = harness.emulator.url
    keys = f"aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"

    def of(config, **secrets):
        harness.files(config=config)
        context = make_context(harness.home, secrets=secrets)
        return [endpoint(context, None, service, "eu-west-1") for service in ("ec2", "sts")]

    ours = ["https://ec2.eu-west-1.amazonaws.com", "https://sts.eu-west-1.amazonaws.com"]
    assert of(f"[default]\n{keys}") == ours
    assert of(f"[default]\n{keys}endpoint_url = {url}\n") == [url, url]
    services = f"[services mine]\nec2 =\n  endpoint_url = {url}/ec2\n"
    assert of(f"[default]\nservices = mine\n{keys}{services}") == [f"{url}/ec2", ours[1]]
    assert of(f"[default]\n{keys}", AWS_ENDPOINT_URL="http://x", AWS_ENDPOINT_URL_STS="http://y") == [
        "http://x",
        "http://y",
    ]
    assert of(f"[default]\n{keys}endpoint_url = {url}\n", AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true") == ours
    assert of(f"[default]\n{keys}") == ours
    assert endpoint(make_context(harness.home), None, "ec2", "cn-north-1") == "https://ec2.cn-north-1.amazonaws.com.cn"


def test_single_sign_on(harness):
    start = "[sso-session s]\nsso_start_url = https://x\nsso_region = eu-west-1\n"
    folder = harness.files(
        config=f"{start}[default]\nsso_session = s\nsso_account_id = 111122223333\nsso_role_name = Dev\n"
    )
    with pytest.raises(CredentialsError, match="is over or was never opened") as caught:
        harness.driver(secrets={}).check()
    assert caught.value.hint == "run `aws sso login --profile default`"
    cache = folder / "sso" / "cache" / "a0f1490a20d0211c997b44bc357e1972deab8ae3.json"  # SHA-1 of "s"
    cache.write_text(json.dumps({"accessToken": TOKEN, "expiresAt": "2036-01-01T00:00:00Z"}))
    assert harness.driver(secrets={}).check().account == "111122223333"
    cache.write_text(json.dumps({"accessToken": TOKEN, "expiresAt": "2020-01-01T00:00:00UTC"}))
    with pytest.raises(CredentialsError, match="is over"):
        harness.driver(secrets={}).check()


def test_a_program_that_prints_keys(harness, tmp_path):
    answer = tmp_path / "answer.json"
    answer.write_text(json.dumps({"Version": 1, "AccessKeyId": KEY_ID, "SecretAccessKey": SECRET}))
    harness.files(config=f"[default]\ncredential_process = cat {answer}\n")
    assert harness.driver(secrets={}).check().account == "111122223333"
    answer.write_text(f"{SECRET} is no JSON")
    with pytest.raises(CredentialsError, match=r"credential_process of AWS profile 'default' gave no keys") as caught:
        harness.driver(secrets={}).check()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, r"no profile 'default' \(there: none\)"),
        ("[default]\nregion = eu-west-1\n", "has no keys"),
        ("[default]\naws_access_key_id = AKIA\n", "no aws_secret_access_key"),
        ("[default\naws", "line 1 is not in AWS's format"),
        ("[default]\nrole_arn = r\n", "does not say with which keys"),
    ],
)
def test_without_keys(harness, config, words):
    if config:
        harness.files(config=config)
    with pytest.raises(CredentialsError, match=words) as caught:
        harness.driver(secrets={}).check()
    assert caught.value.hint


def test_refusals_keep_aws_words(harness, vendor):
    vendor.refusal = refused("ExpiredToken", "The security token included in the request is expired")
    with pytest.raises(CredentialsError, match="ExpiredToken") as caught:
        harness.driver().check()
    assert caught.value.vendor.request_id == "r-9"
    assert "the credentials are from the environment" in caught.value.hint
    vendor.refusal = refused("Throttling", status=400)
    with pytest.raises(TransientError):
        harness.driver().check()
