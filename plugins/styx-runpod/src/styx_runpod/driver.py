"""RunPod: identity and catalog."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

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
    FeatureSet,
    Identity,
    Limits,
    Place,
)
from styx.rest import Failure, RestApi, bearer, credential_file, expecting
from styx_runpod import prices

VARIABLE: Final = "RUNPOD_API_KEY"
KEY_FILE: Final = Path(".runpod") / "config.toml"
SNAPSHOT: Final = Path(__file__).with_name("snapshot.csv")
HINT: Final = (
    "make a key at https://console.runpod.io/user/settings that may read REST and GraphQL, then set RUNPOD_API_KEY to "
    "it, or run `runpodctl config --apiKey <key>`"
)

WORDS: Final[Mapping[str, type[CloudError]]] = {
    "no longer any instances available": CapacityError,
    "no instances currently available": CapacityError,
    "supply_constraint": CapacityError,
    "not enough balance": BalanceError,
    "insufficient funds": BalanceError,
    "unauthorized": CredentialsError,
}
"""What RunPod says where it has no code: parts of its sentences, and what each tells the engine."""


class RunPodConfig(DriverConfig):
    """Settings under `clouds.runpod`; none is needed."""

    endpoint: str = "https://api.runpod.io/v2"
    """Address of the REST API, version 2."""
    graphql_endpoint: str = "https://api.runpod.io/graphql"
    """Address of the GraphQL API, which alone knows bids and the account's id."""


class RunPod(Cloud, CatalogSource):
    """Containers with GPUs in the Secure Cloud: the docker image is the machine. Ports are fixed when it is made."""

    name = "runpod"
    display_name = "RunPod"
    config_type = RunPodConfig
    features = FeatureSet(
        spot=True, multi_node=False, private_network=False, ports="at_create", container="node", stop_saves_money=False
    )
    limits = Limits(max_ports=10, max_nodes=1, min_poll_s=3.0, user_data_bytes=0)

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        self.context = context

    @property
    def config(self) -> RunPodConfig:
        """The settings."""
        return cast("RunPodConfig", self.context.config)

    def check(self) -> Identity:
        """The account behind the key, and the countries with a data center."""
        key = self._key()
        centers = self._rest(key).get("catalog/datacenters")
        myself = self._graphql(key, "query StyxAccount { myself { id email } }")
        with expecting(self.display_name, "data centers or account"):
            names = sorted({prices.country(center["id"]) for center in centers["dataCenters"]})
            account, user = str(myself["myself"]["id"]), myself["myself"].get("email")
        return Identity(
            account=account,
            user=user,
            places={Place(cloud=self.name, account=account, region=name): None for name in names},
        )

    def snapshot(self) -> Path:
        """The rows shipped in the wheel."""
        return SNAPSHOT

    def fetch(self) -> Iterable[CatalogRow]:
        """GPUs and processors of the Secure Cloud at their present prices and bids."""
        key = self._key()
        rest = self._rest(key)
        stock = {"include": "AVAILABILITY", "product": "POD"}
        gpus, cpus = rest.get("catalog/gpus", stock), rest.get("catalog/cpus", stock)
        hosts = self._graphql(key, prices.HOSTS_QUERY)
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        on_demand = self.features.model_copy(update={"spot": False})
        asked = prices.Asked(now, rest.url("catalog"), on_demand, self.features)
        with expecting(self.display_name, "its catalog"):
            shares = {each["id"]: each["lowestPrice"] or {} for each in hosts["gpuTypes"]}
            sold = [*gpus["gpus"], *cpus["cpus"]]
            every = {prices.country(center["id"]) for each in sold for center in each.get("dataCenters") or ()}
            return [
                *prices.gpu_rows(gpus["gpus"], shares, every, asked),
                *prices.cpu_rows(cpus["cpus"], every, asked),
            ]

    # workings ----------------------------------------------------------------------------------------------------

    def _rest(self, key: SecretStr) -> RestApi:
        return RestApi(
            self.context,
            name=self.display_name,
            endpoint=self.config.endpoint,
            headers=bearer(key),
            classify=_classify,
            hint=HINT,
        )

    def _graphql(self, key: SecretStr, query: str) -> Mapping[str, Any]:
        """`data` of a query that only reads. GraphQL refuses with a 200."""
        api = RestApi(
            self.context,
            name=self.display_name,
            endpoint=self.config.graphql_endpoint,
            headers=bearer(key),
            classify=_classify,
            hint=HINT,
        )
        reply = api.post("", {"query": query}, safe=True)
        with expecting(self.display_name, "GraphQL"):
            errors, data = reply.get("errors"), reply.get("data")
            if errors:
                code = (errors[0].get("extensions") or {}).get("code") or "graphql"
                raise api.error(Failure(status=200, code=str(code), message=str(errors[0]["message"])[:300]))
            if not isinstance(data, Mapping):
                raise TypeError("no data")
        return data

    def _key(self) -> SecretStr:
        if value := self.context.secrets(VARIABLE):
            return SecretStr(value.strip())
        text = credential_file(self.context.user_home / KEY_FILE, hint=HINT)
        if text is None:
            raise CredentialsError(
                f"no API key of RunPod: {VARIABLE} is not set, and there is no ~/{KEY_FILE}", hint=HINT
            )
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


def _classify(failure: Failure) -> type[CloudError] | None:
    said = f"{failure.code} {failure.message}".lower()
    return next((kind for words, kind in WORDS.items() if words in said), None)
