"""Keys that AWS hands to programs where they run, asked of an emulator of its metadata and token services."""

import re

import pytest

from styx.plugin import CredentialsError
from styx.testing.contexts import make_context
from styx.testing.emulator import Emulator, Reply, plain_client
from styx_aws import Aws, AwsConfig, surroundings

KEY_ID, SECRET, TOKEN = "ASIASTYXCANARY00001", "styx-canary-secret/around", "styx-canary-session-token"
IDENTITY, POD, SESSION = "styx-canary-identity.jwt", "styx-canary-pod-token", "styx-canary-imds-session"
KEYS = {"Code": "Success", "AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": TOKEN}


class Vendor:
    """The metadata service of a machine and of a container, and the token service."""

    def __init__(self):
        self.role = "styx-role"
        self.keys = KEYS
        self.assumed = []

    def __call__(self, request):
        if request.path.startswith("/latest/"):
            return self.metadata(request)
        if request.path in {"/ecs/task", "/eks"}:
            assert request.headers.get("authorization") == (POD if request.path == "/eks" else None)
            return Reply(self.keys)
        form = request.form()
        if form["Action"] == "AssumeRoleWithWebIdentity":
            assert "authorization" not in request.headers
            assert form["WebIdentityToken"] == IDENTITY
            self.assumed.append((form["RoleArn"], form["RoleSessionName"]))
            return self.sts("AssumeRoleWithWebIdentity", credentials("ASIAWEB"))
        assert f"Credential={self.expected(form)}/" in request.headers["authorization"]
        if form["Action"] == "AssumeRole":
            self.assumed.append((form["RoleArn"], form["RoleSessionName"]))
            return self.sts("AssumeRole", credentials("ASIAROLE"))
        if form["Action"] == "GetCallerIdentity":
            key = re.search(r"Credential=([^/]+)/", request.headers["authorization"])[1]
            return self.sts("GetCallerIdentity", f"<Account>111122223333</Account><Arn>arn:{key}</Arn>")
        names = "<item><regionName>us-east-1</regionName></item>"
        return Reply(f"<DescribeRegionsResponse><regionInfo>{names}</regionInfo></DescribeRegionsResponse>")

    def expected(self, form):
        if form["Action"] == "AssumeRole" or not self.assumed:
            return KEY_ID
        return "ASIAWEB" if "web" in self.assumed[-1][0] else "ASIAROLE"

    def metadata(self, request):
        if request.path == "/latest/api/token":
            assert request.method == "PUT"
            assert request.headers["x-aws-ec2-metadata-token-ttl-seconds"] == "21600"
            return Reply(SESSION)
        assert request.headers["x-aws-ec2-metadata-token"] == SESSION
        folder = "/latest/meta-data/iam/security-credentials/"
        if request.path == folder:
            return Reply(self.role, 200 if self.role else 404)
        assert request.path == folder + self.role
        return Reply(self.keys)

    def sts(self, action, inner):
        return Reply(f"<{action}Response><{action}Result>{inner}</{action}Result></{action}Response>")


def credentials(key_id):
    keys = f"<AccessKeyId>{key_id}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey>"
    return f"<Credentials>{keys}<SessionToken>{TOKEN}</SessionToken></Credentials>"


@pytest.fixture
def vendor():
    return Vendor()


@pytest.fixture
def check(tmp_path, vendor, monkeypatch):
    """The ARN that names the key in use, found with these variables and this config file."""
    monkeypatch.setattr(surroundings, "MAKER", tmp_path / "maker")
    with Emulator(vendor) as emulator:
        monkeypatch.setattr(surroundings, "CONTAINERS", emulator.url)

        def who(config="", *, remote=False, profile=None, **secrets):
            folder = tmp_path / "user" / ".aws"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config").write_text(config)
            given = {
                "AWS_ENDPOINT_URL": emulator.url,
                **{k: v.replace("URL", emulator.url) for k, v in secrets.items()},
            }
            settings = AwsConfig(regions=("us-east-1",), profile=profile)
            context = make_context(tmp_path, config=settings, secrets=given, http=plain_client)
            return Aws(context).check().user

        who.emulator = emulator
        yield who
        for line in emulator.lines():
            assert not any(secret in line for secret in (SECRET, TOKEN, IDENTITY, POD, SESSION))


def test_the_role_of_this_machine(check):
    assert check(AWS_EC2_METADATA_SERVICE_ENDPOINT="URL/") == f"arn:{KEY_ID}"
    assert check("[default]\nregion = us-east-1\n", AWS_EC2_METADATA_SERVICE_ENDPOINT="URL") == f"arn:{KEY_ID}"


def test_a_machine_of_another_maker_is_not_asked(check, tmp_path, monkeypatch):
    monkeypatch.setattr(surroundings, "METADATA", check.emulator.url)
    with pytest.raises(CredentialsError, match="no credentials of AWS"):
        check()
    (tmp_path / "maker").write_text("QEMU\n")
    with pytest.raises(CredentialsError, match="no credentials of AWS"):
        check()
    assert check.emulator.requests == []
    (tmp_path / "maker").write_text("Amazon EC2\n")
    assert check() == f"arn:{KEY_ID}"
    with pytest.raises(CredentialsError, match="no credentials of AWS"):
        check(AWS_EC2_METADATA_DISABLED="true")


def test_a_machine_without_a_role_says_so(check, vendor):
    vendor.role = ""
    with pytest.raises(CredentialsError, match=r"this EC2 machine's role gave no keys \(http_404\)") as caught:
        check(AWS_EC2_METADATA_SERVICE_ENDPOINT="URL")
    assert "give it a role" in str(caught.value.hint)
    vendor.role, vendor.keys = "styx-role", {"Code": "Failed"}
    with pytest.raises(CredentialsError, match="gave no keys"):
        check(AWS_EC2_METADATA_SERVICE_ENDPOINT="URL")


def test_nobody_answers(check):
    with pytest.raises(CredentialsError, match=r"gave no keys \(127\.0\.0\.1:9 can't be reached"):
        check(AWS_EC2_METADATA_SERVICE_ENDPOINT="http://127.0.0.1:9")


def test_a_container(check, tmp_path):
    assert check(AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="/ecs/task") == f"arn:{KEY_ID}"
    full = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "URL/eks"}
    assert check(**full, AWS_CONTAINER_AUTHORIZATION_TOKEN=POD) == f"arn:{KEY_ID}"
    (tmp_path / "pod").write_text(f"{POD}\n")
    assert check(**full, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "pod")) == f"arn:{KEY_ID}"
    with pytest.raises(CredentialsError, match=r"token file .* is empty or absent"):
        check(**full, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(tmp_path / "none"))


def test_a_containers_token_is_not_sent_in_clear_to_strangers(check):
    with pytest.raises(CredentialsError, match=r"names keys\.example, which is asked over https only"):
        check(AWS_CONTAINER_CREDENTIALS_FULL_URI="http://keys.example/x", AWS_CONTAINER_AUTHORIZATION_TOKEN=POD)


def test_a_web_identity(check, vendor, tmp_path):
    (tmp_path / "token").write_text(IDENTITY)
    named = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token")}
    assert check(**named, AWS_ROLE_ARN="arn:web", AWS_ROLE_SESSION_NAME="ci-7") == "arn:ASIAWEB"
    assert vendor.assumed == [("arn:web", "ci-7")]
    with pytest.raises(CredentialsError, match="a web identity's token and no role"):
        check(**named)
    profile = f"[profile p]\nrole_arn = arn:web2\nweb_identity_token_file = {tmp_path / 'token'}\n"
    assert check(profile, AWS_PROFILE="p") == "arn:ASIAWEB"
    assert vendor.assumed[-1] == ("arn:web2", "styx")


def test_the_profile_of_the_settings_wins_over_what_is_around(check, vendor, tmp_path):
    (tmp_path / "token").write_text(IDENTITY)
    profile = f"[profile mine]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    around = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_ARN": "arn:web"}
    assert check(profile, profile="mine", **around) == f"arn:{KEY_ID}"
    assert vendor.assumed == []


@pytest.mark.parametrize(
    ("source", "variables"),
    [
        ("Ec2InstanceMetadata", {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "URL"}),
        ("EcsContainer", {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/ecs/task"}),
        ("Environment", {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}),
    ],
)
def test_a_profiles_source_of_keys(check, vendor, source, variables):
    config = f"[profile r]\nrole_arn = arn:role\ncredential_source = {source}\n"
    assert check(config, profile="r", **variables) == "arn:ASIAROLE"
    assert vendor.assumed == [("arn:role", "styx")]
    with pytest.raises(CredentialsError, match=f"the credential_source {source} of AWS profile 'r' has no keys here"):
        check(config, profile="r")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("credential_source = Moon", "credential_source 'Moon', which AWS does not know"),
        ("", "does not say with which keys"),
        ("source_profile = r\naws_access_key_id = a\naws_secret_access_key = b\nmfa_serial = m", "a second factor"),
    ],
)
def test_roles_that_cannot_be_assumed(check, lines, words):
    with pytest.raises(CredentialsError, match=words) as caught:
        check(f"[profile r]\nrole_arn = arn:role\n{lines}\n", profile="r")
    assert caught.value.hint
