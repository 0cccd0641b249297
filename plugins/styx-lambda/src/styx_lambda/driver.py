"""Lambda Cloud: identity and catalog."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from pydantic import SecretStr

from styx.plugin import (
    BalanceError,
    CapacityError,
    CatalogRow,
    CatalogSource,
    Cloud,
    CloudError,
    Context,
    CredentialsError,
    DriverConfig,
    DriverError,
    FeatureSet,
    Identity,
    Limits,
    Place,
    QuotaError,
    TransientError,
    UnsupportedError,
)
from styx.rest import Failure, RestApi, bearer, credential_file, expecting
from styx_lambda import prices

VARIABLES: Final = ("LAMBDA_API_KEY", "LAMBDA_CLOUD_API_KEY")
KEY_FILE: Final = Path(".lambda_cloud") / "lambda_keys"
SNAPSHOT: Final = Path(__file__).with_name("snapshot.csv")
HINT: Final = (
    "make a key at https://cloud.lambda.ai/api-keys, then set LAMBDA_API_KEY to it, or write the line "
    "'api_key = <key>' into ~/.lambda_cloud/lambda_keys"
)

ERRORS: Final[Mapping[str, type[CloudError]]] = {
    "global/account-inactive": BalanceError,
    "global/conflict": TransientError,
    "global/duplicate": UnsupportedError,
    "global/forbidden": CredentialsError,
    "global/internal-error": TransientError,
    "global/invalid-address": BalanceError,
    "global/invalid-api-key": CredentialsError,
    "global/invalid-parameters": UnsupportedError,
    "global/not-found": DriverError,
    "global/object-does-not-exist": DriverError,
    "global/quota-exceeded": QuotaError,
    "instance-operations/launch/file-system-in-wrong-region": UnsupportedError,
    "instance-operations/launch/insufficient-capacity": CapacityError,
}
"""Lambda's error codes, and what each tells the engine. Any other goes by its HTTP status."""


class LambdaConfig(DriverConfig):
    """Settings under `clouds.lambda`; none is needed."""

    endpoint: str = "https://cloud.lambda.ai/api/v1"
    """Address of Lambda's API."""
    account: str | None = None
    """A name for the account. Lambda does not tell it, so without a name of yours it is made from the API key."""


class Lambda(Cloud, CatalogSource):
    """Virtual machines with NVIDIA GPUs, by the hour, in regions without zones."""

    name = "lambda"
    display_name = "Lambda"
    config_type = LambdaConfig
    features = FeatureSet(ports="any_time", user_data=True, custom_image=True, container="docker", fuse=True)
    limits = Limits(name_length=64, user_data_bytes=1_000_000, max_ports=100, min_poll_s=5.0)

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        self.context = context

    @property
    def config(self) -> LambdaConfig:
        """The settings."""
        return cast("LambdaConfig", self.context.config)

    def check(self) -> Identity:
        """The account behind the key, and Lambda's regions. One call, because Lambda allows one in a second."""
        key = self._key()
        account = self.config.account or f"key-{hashlib.sha256(key.get_secret_value().encode()).hexdigest()[:12]}"
        reply = self._api(key).get("regions")
        with expecting(self.display_name, "regions"):
            names = sorted({*shipped_regions(), *(region["name"] for region in reply["data"])})
        return Identity(
            account=account, places={Place(cloud=self.name, account=account, region=name): None for name in names}
        )

    def snapshot(self) -> Path:
        """The rows shipped in the wheel."""
        return SNAPSHOT

    def fetch(self) -> Iterable[CatalogRow]:
        """Every type at its present price, in every region that is known or that the list names."""
        api = self._api(self._key())
        reply = api.get("instance-types")
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        with expecting(self.display_name, "instance-types"):
            return list(prices.rows(reply["data"], shipped_regions(), now=now, source=api.url("instance-types")))

    # workings ----------------------------------------------------------------------------------------------------

    def _api(self, key: SecretStr) -> RestApi:
        return RestApi(
            self.context,
            name=self.display_name,
            endpoint=self.config.endpoint,
            headers=bearer(key),
            table=ERRORS,
            classify=_classify,
            hint=HINT,
        )

    def _key(self) -> SecretStr:
        for name in VARIABLES:
            if value := self.context.secrets(name):
                return SecretStr(value.strip())
        text = credential_file(self.context.user_home / KEY_FILE, hint=HINT)
        found = re.search(r"^\s*api_key\s*=\s*(\S+)\s*$", text or "", re.MULTILINE)
        if found is None:
            where = f"~/{KEY_FILE} has no line 'api_key = <key>'" if text else f"there is no ~/{KEY_FILE}"
            raise CredentialsError(f"no API key of Lambda: {VARIABLES[0]} is not set, and {where}", hint=HINT)
        return SecretStr(found[1])


def shipped_regions() -> frozenset[str]:
    """Regions of the shipped rows: Lambda's price list leaves out those without free machines."""
    with SNAPSHOT.open(encoding="utf-8", newline="") as file:
        body = (line for line in file if not line.startswith("#"))
        return frozenset(row["region"] for row in csv.DictReader(body))


def _classify(failure: Failure) -> type[CloudError] | None:
    """What the code alone does not say: too many calls come under several codes, and so do troubles upstream."""
    if failure.status == 429 or failure.code.startswith("provider/"):
        return TransientError
    return None
