"""Keys that AWS hands to programs where they run: web identities, containers, and EC2 machines.

The variables and addresses are those of AWS's own tools (the "Standardized credential providers" of the AWS SDKs and
Tools Reference Guide). Nothing is asked over the network unless a variable, a profile or the machine itself says that
somebody will answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from styx.plugin import CloudError, Context, CredentialsError
from styx.rest import RestApi, credential_file, expecting
from styx_aws.sigv4 import Keys

Assume = Callable[[Keys | None, str, Mapping[str, str]], Keys]
"""Keys of a role: from the keys that may assume it (None: from a web identity), a region, the call's parameters."""

METADATA: Final = "http://169.254.169.254"
METADATA_V6: Final = "http://[fd00:ec2::254]"
CONTAINERS: Final = "http://169.254.170.2"
CONTAINER_HOSTS: Final = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23", "127.0.0.1", "::1", "localhost"})
"""Where a container's keys may come from without encryption."""
SESSION_S: Final = "21600"
MAKER: Final = Path("/sys/devices/virtual/dmi/id/sys_vendor")
_TIMEOUT_S: Final = 2.0


def web_identity(table: Mapping[str, str], assume: Assume, origin: str) -> Keys | None:
    """Keys of the role that a token in a file may assume; None where no such file is named.

    `table` holds `web_identity_token_file`, `role_arn` and perhaps `role_session_name` and `region`.
    """
    path = table.get("web_identity_token_file")
    if not path:
        return None
    if not (role := table.get("role_arn")):
        raise CredentialsError(
            f"{origin} names a web identity's token and no role", hint="set AWS_ROLE_ARN, or role_arn in the profile"
        )
    token = _token(path, origin)
    parameters = {
        "RoleArn": role,
        "RoleSessionName": table.get("role_session_name") or "styx",
        "WebIdentityToken": token.get_secret_value(),
    }
    made = assume(None, table.get("region") or "us-east-1", parameters)
    return Keys(made.access_key_id, made.secret_access_key, made.session_token, f"the web identity of {origin}")


def web_identity_of_environment(context: Context, assume: Assume, region: str | None) -> Keys | None:
    """As `web_identity`, of AWS_WEB_IDENTITY_TOKEN_FILE."""
    variables = ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME")
    file, role, session = (context.secrets(name) or "" for name in variables)
    named = {"web_identity_token_file": file, "role_arn": role, "role_session_name": session, "region": region or ""}
    return web_identity(named, assume, "the environment")


def container(context: Context) -> Keys | None:
    """Keys of a task of ECS or a pod of EKS; None outside of them.

    Raises:
        CredentialsError: The address is not one that may be asked, or nobody gives keys there.
    """
    relative, full = (context.secrets(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI") for kind in ("RELATIVE", "FULL"))
    if not relative and not full:
        return None
    url = f"{CONTAINERS}{relative}" if relative else str(full)
    parts = urlsplit(url)
    if parts.scheme != "https" and (parts.hostname or "") not in CONTAINER_HOSTS:
        raise CredentialsError(
            f"AWS_CONTAINER_CREDENTIALS_FULL_URI names {parts.hostname}, which is asked over https only",
            hint="unset it, or name the address that AWS gave",
        )
    if path := context.secrets("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"):
        token: SecretStr | None = _token(path, "the environment")
    else:
        given = context.secrets("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        token = SecretStr(given) if given else None
    api = _api(context, f"{parts.scheme}://{parts.netloc}", {"Authorization": token} if token else {})
    return _read(lambda: api.call("GET", url), "this container")


def machine(context: Context) -> Keys | None:
    """Keys of the role of the EC2 machine that this is; None on other machines, and where AWS's tools may not ask.

    Raises:
        CredentialsError: The machine has no role, or does not tell its keys.
    """
    disabled = (context.secrets("AWS_EC2_METADATA_DISABLED") or "").lower() == "true"
    named = context.secrets("AWS_EC2_METADATA_SERVICE_ENDPOINT")
    if disabled or context.remote or not (named or _made_by_amazon()):
        return None
    six = (context.secrets("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") or "").lower() == "ipv6"
    endpoint = (named or (METADATA_V6 if six else METADATA)).rstrip("/")

    def ask() -> Any:
        opener = _api(context, endpoint, {})
        session = str(
            opener.call("PUT", "latest/api/token", headers={"X-aws-ec2-metadata-token-ttl-seconds": SESSION_S}) or ""
        )
        api = _api(context, endpoint, {"X-aws-ec2-metadata-token": SecretStr(session)})
        path = "latest/meta-data/iam/security-credentials"
        roles = str(api.get(f"{path}/") or "").split()
        return api.get(f"{path}/{roles[0]}") if roles else None

    return _read(ask, "this EC2 machine's role")


def of_source(context: Context, source: str, environment: Callable[[], Keys | None], origin: str) -> Keys:
    """Keys that the `credential_source` of a profile means.

    Raises:
        CredentialsError: It is none that AWS knows, or has no keys here.
    """
    ways: dict[str, Callable[[], Keys | None]] = {
        "Environment": environment,
        "Ec2InstanceMetadata": lambda: machine(context),
        "EcsContainer": lambda: container(context),
    }
    known = {name.lower(): way for name, way in ways.items()}
    if source.lower() not in known:
        raise CredentialsError(
            f"AWS {origin} has the credential_source {source!r}, which AWS does not know",
            hint=f"one of {', '.join(ways)}",
        )
    keys = known[source.lower()]()
    if keys is None:
        raise CredentialsError(f"the credential_source {source} of AWS {origin} has no keys here", hint="use a profile")
    return keys


def _made_by_amazon() -> bool:
    try:
        return MAKER.read_text(encoding="utf-8").startswith("Amazon EC2")
    except (OSError, ValueError):
        return False


def _token(path: str, origin: str) -> SecretStr:
    text = credential_file(Path(path).expanduser(), hint=f"mend the name in {origin}")
    if not text or not text.strip():
        raise CredentialsError(f"the token file {path} that {origin} names is empty or absent", hint="is it mounted?")
    return SecretStr(text.strip())


def _api(context: Context, endpoint: str, headers: Mapping[str, SecretStr]) -> RestApi:
    return RestApi(context, name="AWS", endpoint=endpoint, headers=lambda: dict(headers), timeout_s=_TIMEOUT_S)


def _read(ask: Callable[[], Any], whose: str) -> Keys:
    """The keys in an answer.

    Raises:
        CredentialsError: There are none; the chain of causes ends here, because it may quote them.
    """
    try:
        answer = ask()
    except CloudError as error:
        said = error.vendor.code or error.message  # not the whole: a container's path is for itself only
        raise CredentialsError(f"{whose} gave no keys ({said})", hint="give it a role, or use a profile") from None
    with expecting("AWS", whose):
        if not isinstance(answer, Mapping) or "AccessKeyId" not in answer:
            raise CredentialsError(f"{whose} gave no keys", hint="give it a role, or use a profile")
        secret, token = SecretStr(answer["SecretAccessKey"]), SecretStr(answer["Token"])
        return Keys(answer["AccessKeyId"], secret, token, whose)
