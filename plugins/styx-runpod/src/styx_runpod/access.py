"""RunPod's two interfaces, and the key that opens them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from styx.plugin import CloudError, Context, CredentialsError
from styx.rest import Classify, Failure, RestApi, bearer, credential_file, expecting
from styx_runpod.errors import CREATE_ERRORS, ERRORS, classify, classify_create

NAME: Final = "RunPod"
VARIABLE: Final = "RUNPOD_API_KEY"
KEY_FILE: Final = Path(".runpod") / "config.toml"
HINT: Final = (
    "make a key at https://console.runpod.io/user/settings that may read and write REST and GraphQL, then set "
    "RUNPOD_API_KEY to it, or run `runpodctl config --apiKey <key>`"
)


class Access:
    """Both interfaces. Creates go through doors of their own: behind a create that failed a pod may exist.

    Attributes:
        rest: The REST API, version 2.
        creates: The same, for creates.
    """

    def __init__(self, context: Context, endpoint: str, graphql_endpoint: str) -> None:
        self._context = context
        self.rest = self._speaking(endpoint, ERRORS, classify)
        self.creates = self._speaking(endpoint, CREATE_ERRORS, classify_create)
        self._graphql = self._speaking(graphql_endpoint, {}, classify)
        self._bids = self._speaking(graphql_endpoint, {}, classify_create)

    def query(self, query: str) -> Mapping[str, Any]:
        """`data` of a GraphQL query that only reads."""
        return _data(self._graphql, {"query": query}, safe=True)

    def rent(self, mutation: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """`data` of a GraphQL mutation that makes a pod."""
        return _data(self._bids, {"query": mutation, "variables": dict(variables)}, safe=False)

    def _speaking(self, endpoint: str, table: Mapping[str, type[CloudError]], classify: Classify) -> RestApi:
        return RestApi(
            self._context,
            name=NAME,
            endpoint=endpoint,
            headers=lambda: bearer(api_key(self._context))(),
            table=table,
            classify=classify,
            hint=HINT,
        )


def _data(api: RestApi, body: Mapping[str, Any], *, safe: bool) -> Mapping[str, Any]:
    """GraphQL refuses with a 200."""
    reply = api.post("", body, safe=safe)
    with expecting(NAME, "GraphQL"):
        errors, data = reply.get("errors"), reply.get("data")
        if errors:
            code = (errors[0].get("extensions") or {}).get("code") or "graphql"
            raise api.error(Failure(status=200, code=str(code), message=str(errors[0]["message"])[:300]))
        if not isinstance(data, Mapping):
            raise TypeError("no data")
    return data


def api_key(context: Context) -> SecretStr:
    """The key of the environment, else of runpodctl's file.

    Raises:
        CredentialsError: There is none.
    """
    if value := context.secrets(VARIABLE):
        return SecretStr(value.strip())
    text = credential_file(context.user_home / KEY_FILE, hint=HINT)
    if text is None:
        raise CredentialsError(f"no API key of RunPod: {VARIABLE} is not set, and there is no ~/{KEY_FILE}", hint=HINT)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:  # its words may quote the key
        raise CredentialsError(f"~/{KEY_FILE} is no TOML", hint=HINT) from None
    default = table.get("default")
    nested = default.get("api_key") if isinstance(default, dict) else None
    found = table.get("apikey") or table.get("apiKey") or nested
    if not isinstance(found, str) or not found.strip():
        raise CredentialsError(f"no API key of RunPod: {VARIABLE} is not set, and ~/{KEY_FILE} has none", hint=HINT)
    return SecretStr(found.strip())
