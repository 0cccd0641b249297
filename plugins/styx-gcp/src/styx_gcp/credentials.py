"""Google's credentials as its own tools find them, exchanged for an access token by REST."""

from __future__ import annotations

import base64
import configparser
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from styx.plugin import CloudError, Context, CredentialsError
from styx.rest import RestApi, credential_file, expecting

HINT: Final = (
    "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service "
    "account"
)
PROJECT_HINT: Final = "set GOOGLE_CLOUD_PROJECT, or clouds.gcp.project in Styx's settings"
SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
AUDIENCE: Final = "https://oauth2.googleapis.com/token"
_REFUSALS: Final[Mapping[str, type[CloudError]]] = {
    "invalid_grant": CredentialsError,
    "invalid_client": CredentialsError,
    "invalid_scope": CredentialsError,
    "unauthorized_client": CredentialsError,
}


@dataclass(frozen=True)
class Found:
    """Credentials before they are exchanged.

    Attributes:
        kind: `token`, `service_account` or `authorized_user`.
        where: For messages.
        values: The file's contents.
        token: Of kind `token`.
    """

    kind: str
    where: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    token: SecretStr | None = None

    @property
    def user(self) -> str | None:
        """The e-mail address of a service account; a person's file does not tell it."""
        return self.values.get("client_email") if self.kind == "service_account" else None

    @property
    def bills_apart(self) -> bool:
        """Whether calls must name the project whose quota they use: a person belongs to none."""
        return self.kind != "service_account"


def gcloud_folder(context: Context) -> Path:
    """Where gcloud keeps its files."""
    named = context.secrets("CLOUDSDK_CONFIG")
    return Path(named) if named else context.user_home / ".config" / "gcloud"


def find(context: Context, file: str | None) -> Found:
    """Credentials of the first place that has some.

    Raises:
        CredentialsError: There are none, or they are of a kind that needs Google's SDK.
    """
    if file is None and (token := context.secrets("CLOUDSDK_AUTH_ACCESS_TOKEN")):
        return Found("token", "CLOUDSDK_AUTH_ACCESS_TOKEN", token=SecretStr(token.strip()))
    named = file or context.secrets("GOOGLE_APPLICATION_CREDENTIALS")
    path = Path(named) if named else gcloud_folder(context) / "application_default_credentials.json"
    text = credential_file(path, hint=HINT)
    if text is None:
        if named:
            raise CredentialsError(f"there is no credential file {path}", hint=HINT)
        raise CredentialsError(
            f"no credentials of Google Cloud: GOOGLE_APPLICATION_CREDENTIALS is not set, and there is no {path}",
            hint=HINT,
        )
    return _from_text(text, path)


def project_of(context: Context, configured: str | None, found: Found) -> str:
    """The project, as gcloud finds it.

    Raises:
        CredentialsError: None is named anywhere.
    """
    project = (
        configured
        or context.secrets("GOOGLE_CLOUD_PROJECT")
        or context.secrets("CLOUDSDK_CORE_PROJECT")
        or found.values.get("project_id")
        or _gclouds_project(context)
        or found.values.get("quota_project_id")
    )
    if not project:
        raise CredentialsError("no project of Google Cloud is named", hint=PROJECT_HINT)
    return str(project)


def access_token(context: Context, found: Found, endpoint: str) -> SecretStr:
    """A token for calls; lives about an hour.

    Raises:
        CredentialsError: Google does not accept them.
    """
    if found.token is not None:
        return found.token
    if found.kind == "service_account":
        form = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": _assertion(found, int(context.clock())),
        }
    else:
        form = {"grant_type": "refresh_token"}
        for name in ("client_id", "client_secret", "refresh_token"):
            form[name] = _value(found, name)
    api = RestApi(context, name="Google Cloud", endpoint=endpoint, table=_REFUSALS, hint=HINT)
    reply = api.call("POST", "", form=form, safe=True)
    with expecting("Google Cloud", "the exchange of credentials"):
        return SecretStr(str(reply["access_token"]))


# ------------------------------------------------------------------------------------------------------------ workings


def _from_text(text: str, path: Path) -> Found:
    try:
        values = json.loads(text)
    except ValueError:
        raise CredentialsError(f"the credential file {path} is no JSON", hint=HINT) from None
    kind = values.get("type") if isinstance(values, dict) else None
    if kind not in {"service_account", "authorized_user"}:
        raise CredentialsError(
            f"the credential file {path} is of type {kind!r}; Styx reads 'service_account' and 'authorized_user'",
            hint=HINT,
        )
    return Found(kind, str(path), values)


def _value(found: Found, name: str) -> str:
    value = found.values.get(name)
    if not isinstance(value, str) or not value:
        raise CredentialsError(f"the credential file {found.where} has no {name}", hint=HINT)
    return value


def _gclouds_project(context: Context) -> str | None:
    """The project of gcloud's active configuration."""
    folder = gcloud_folder(context)
    active = (credential_file(folder / "active_config", hint=HINT) or "default").strip()
    text = credential_file(folder / "configurations" / f"config_{Path(active).name}", hint=HINT)
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text or "")
    except configparser.Error:
        return None
    return parser.get("core", "project", fallback=None)


def _assertion(found: Found, now: int) -> str:
    """A signed statement of who asks (RFC 7523), which Google exchanges for a token."""
    header = {"alg": "RS256", "typ": "JWT", "kid": found.values.get("private_key_id")}
    claims = {"iss": _value(found, "client_email"), "scope": SCOPE, "aud": AUDIENCE, "iat": now, "exp": now + 3600}
    signed = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
    return f"{signed}.{_encoded(_signature(found, signed.encode()))}"


def _signature(found: Found, message: bytes) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_value(found, "private_key").encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise CredentialsError(f"the private_key in {found.where} is no RSA key", hint=HINT)
    return key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
