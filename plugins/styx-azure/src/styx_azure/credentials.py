"""Azure's credentials as its own tools find them, exchanged for an access token by REST."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from styx.plugin import CloudError, Context, CredentialsError
from styx.rest import RestApi, credential_file, expecting

HINT: Final = (
    "run 'az login', or set AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_SUBSCRIPTION_ID to those "
    "of a service principal"
)
SCOPE: Final = "https://management.azure.com/.default"
_PRINCIPAL: Final = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
_REFUSALS: Final[Mapping[str, type[CloudError]]] = {
    "interaction_required": CredentialsError,
    "invalid_client": CredentialsError,
    "invalid_grant": CredentialsError,
    "invalid_request": CredentialsError,
    "unauthorized_client": CredentialsError,
}


@dataclass(frozen=True)
class Found:
    """Credentials before they are exchanged.

    Attributes:
        tenant: The directory that gives out the token.
        subscription: What is worked in.
        user: Name of the person, or id of the service principal.
        form: What is sent for a token; holds secrets.
    """

    tenant: str
    subscription: str
    user: str | None
    form: Mapping[str, str] = field(repr=False)


def find(context: Context, subscription: str | None) -> Found:
    """Credentials of the first place that has some.

    Args:
        context: Of the driver.
        subscription: Id or name from the settings; without it AZURE_SUBSCRIPTION_ID, then that of `az account set`.

    Raises:
        CredentialsError: There are none, or a part is missing.
    """
    wanted = subscription or context.secrets("AZURE_SUBSCRIPTION_ID")
    values = {name: context.secrets(name) for name in _PRINCIPAL}
    if values["AZURE_CLIENT_SECRET"]:
        missing = [name for name in _PRINCIPAL if not values[name]]
        missing += [] if wanted else ["AZURE_SUBSCRIPTION_ID"]
        if missing:
            raise CredentialsError(f"AZURE_CLIENT_SECRET is set, but not {' and '.join(missing)}", hint=HINT)
        tenant, client, secret = (str(values[name]).strip() for name in _PRINCIPAL)
        return Found(tenant, str(wanted), client, _principal(client, secret))
    return _from_cli(context, wanted)


def access_token(context: Context, found: Found, endpoint: str) -> SecretStr:
    """A token for calls; lives about an hour.

    Raises:
        CredentialsError: Azure does not accept them.
    """
    api = RestApi(context, name="Azure", endpoint=endpoint, table=_REFUSALS, hint=HINT)
    reply = api.call("POST", f"{found.tenant}/oauth2/v2.0/token", form={**found.form, "scope": SCOPE}, safe=True)
    with expecting("Azure", "the exchange of credentials"):
        return SecretStr(str(reply["access_token"]))


# ------------------------------------------------------------------------------------------------------------ workings


def _principal(client: str, secret: str) -> dict[str, str]:
    return {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}


def _from_cli(context: Context, wanted: str | None) -> Found:
    """What `az login` left behind."""
    named = context.secrets("AZURE_CONFIG_DIR")
    folder = Path(named) if named else context.user_home / ".azure"
    profile = _json(folder / "azureProfile.json")
    if profile is None:
        raise CredentialsError(
            f"no credentials of Azure: AZURE_CLIENT_SECRET is not set, and there is no {folder / 'azureProfile.json'}",
            hint=HINT,
        )
    subscription = _subscription(profile, wanted, folder)
    try:
        user, tenant, number = subscription["user"], subscription["tenantId"], subscription["id"]
        if user["type"] == "servicePrincipal":
            form = _saved_principal(folder, user["name"], tenant)
        else:
            form = _saved_login(folder, user["name"])
        return Found(str(tenant), str(number), str(user["name"]), form)
    except (KeyError, TypeError, AttributeError):
        raise CredentialsError(f"the files in {folder} are not as 'az login' writes them", hint=HINT) from None


def _subscription(profile: Any, wanted: str | None, folder: Path) -> Mapping[str, Any]:
    several = profile.get("subscriptions") if isinstance(profile, dict) else None
    known = [each for each in several or () if isinstance(each, dict)]
    for each in known:
        if wanted in (each.get("id"), each.get("name")) if wanted else each.get("isDefault"):
            return each
    if wanted:
        raise CredentialsError(
            f"the subscription {wanted!r} is not among the {len(known)} of 'az login'",
            hint="see 'az account list', then set AZURE_SUBSCRIPTION_ID, or clouds.azure.subscription",
        )
    raise CredentialsError(f"{folder / 'azureProfile.json'} names no subscription", hint=HINT)


def _saved_principal(folder: Path, client: str, tenant: str) -> dict[str, str]:
    for entry in _json(folder / "service_principal_entries.json") or ():
        if entry["client_id"] == client and entry["tenant"] == tenant and entry.get("client_secret"):
            return _principal(client, entry["client_secret"])
    raise CredentialsError(f"there is no secret of service principal {client} in {folder}", hint=HINT)


def _saved_login(folder: Path, user: str) -> dict[str, str]:
    cache = _json(folder / "msal_token_cache.json") or {}
    accounts = cache.get("Account", {}).values()
    homes = {each["home_account_id"] for each in accounts if each["username"].lower() == user.lower()}
    for entry in cache.get("RefreshToken", {}).values():
        if entry["home_account_id"] in homes:
            return {
                "grant_type": "refresh_token",
                "client_id": entry["client_id"],
                "refresh_token": entry["secret"],
            }
    raise CredentialsError(f"there is no login of {user} in {folder / 'msal_token_cache.json'}", hint=HINT)


def _json(path: Path) -> Any:
    """The file's contents; None where there is none. `az` begins some files with a byte order mark."""
    text = credential_file(path, hint=HINT)
    if text is None:
        return None
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except ValueError:
        raise CredentialsError(f"the credential file {path} is no JSON", hint=HINT) from None
