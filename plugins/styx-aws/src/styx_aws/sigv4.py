"""AWS Signature Version 4, which proves who sends a request without sending the secret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import SecretStr


@dataclass(frozen=True)
class Keys:
    """Credentials of AWS. The id of the key is no secret; the other two are.

    Attributes:
        access_key_id: Names the key.
        secret_access_key: Signs.
        session_token: Of temporary keys.
        origin: Where they were found, for messages.
    """

    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None
    origin: str = ""


@dataclass(frozen=True)
class Scope:
    """For which region and service a signature holds, and from when."""

    region: str
    service: str
    now: float


def signed(
    method: str, url: str, headers: Mapping[str, str], body: bytes, keys: Keys, scope: Scope
) -> dict[str, SecretStr]:
    """The headers that sign a request; send them beside `headers`.

    Args:
        method: Of HTTP.
        url: Whole, with its query.
        headers: To be signed too; the host is added.
        body: As it is sent.
        keys: That sign.
        scope: Where and when.
    """
    parts = urlsplit(url)
    moment = datetime.fromtimestamp(scope.now, UTC)
    stamp, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
    covered = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    covered |= {"host": parts.netloc, "x-amz-date": stamp}
    if keys.session_token is not None:
        covered["x-amz-security-token"] = keys.session_token.get_secret_value()
    names = ";".join(sorted(covered))
    canonical = "\n".join(
        (
            method,
            quote(parts.path or "/", safe="/~"),
            _query(parts.query),
            *(f"{name}:{covered[name]}" for name in sorted(covered)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    where = f"{day}/{scope.region}/{scope.service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, where, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{keys.secret_access_key.get_secret_value()}".encode()
    for part in (day, scope.region, scope.service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{where}, SignedHeaders={names}, Signature={signature}"
    )
    out = {"Authorization": SecretStr(authorization), "X-Amz-Date": SecretStr(stamp)}
    if keys.session_token is not None:
        out["X-Amz-Security-Token"] = keys.session_token
    return out


def _query(query: str) -> str:
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in parse_qsl(query, True))
    return "&".join(f"{name}={value}" for name, value in pairs)
