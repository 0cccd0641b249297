"""Azure virtual machines: identity and catalog."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field

from styx.plugin import (
    CatalogRow,
    CatalogSource,
    Cloud,
    CloudError,
    Context,
    CredentialsError,
    DriverConfig,
    FeatureSet,
    HasZones,
    Identity,
    Limits,
    Place,
    TransientError,
    UnsupportedError,
)
from styx.rest import RestApi, bearer, expecting
from styx_azure import credentials, retail

SNAPSHOT: Final = Path(__file__).with_name("snapshot.csv")
MAIN_REGIONS: Final = (
    "eastus",
    "eastus2",
    "centralus",
    "northcentralus",
    "southcentralus",
    "westus",
    "westus2",
    "westus3",
    "canadacentral",
    "northeurope",
    "westeurope",
    "uksouth",
    "francecentral",
    "germanywestcentral",
    "swedencentral",
    "japaneast",
    "koreacentral",
    "centralindia",
    "southeastasia",
    "australiaeast",
)
_SUBSCRIPTIONS_VERSION: Final = "2022-12-01"
_SKUS_VERSION: Final = "2021-07-01"
ERRORS: Final[Mapping[str, type[CloudError]]] = {
    "AuthenticationFailed": CredentialsError,
    "AuthorizationFailed": CredentialsError,
    "ExpiredAuthenticationToken": CredentialsError,
    "InvalidAuthenticationToken": CredentialsError,
    "InvalidAuthenticationTokenTenant": CredentialsError,
    "InvalidSubscriptionId": CredentialsError,
    "ReadOnlyDisabledSubscription": CredentialsError,
    "SubscriptionNotFound": CredentialsError,
    "TooManyRequests": TransientError,
}
"""Azure's error codes, and what each tells the engine. Any other goes by its HTTP status."""


class AzureConfig(DriverConfig):
    """Settings under `clouds.azure`; none is needed."""

    subscription: str | None = None
    """Subscription to work in; without it, AZURE_SUBSCRIPTION_ID, then that of `az account set`."""
    regions: tuple[str, ...] = Field(default=MAIN_REGIONS, min_length=1)
    """Regions whose prices a refresh reads, and whose machines are considered, as far as the subscription has them."""
    price_endpoint: str = "https://prices.azure.com/api/retail/prices"
    """Address of the public price list."""
    management_endpoint: str = "https://management.azure.com"
    """Address of the resource manager."""
    login_endpoint: str = "https://login.microsoftonline.com"
    """Address where credentials are exchanged for an access token."""


class Azure(Cloud, CatalogSource, HasZones):
    """Virtual machines in regions, on demand and spot."""

    name = "azure"
    display_name = "Azure"
    config_type = AzureConfig
    features = FeatureSet(
        stop=True,
        spot=True,
        idempotent_create=True,
        ports="any_time",
        user_data=True,
        custom_image=True,
        container="docker",
        fuse=True,
    )
    limits = Limits(name_length=64, user_data_bytes=65535, max_ports=100, max_nodes=1000)

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        self.context = context

    @property
    def config(self) -> AzureConfig:
        """The settings."""
        return cast("AzureConfig", self.context.config)

    def check(self) -> Identity:
        """The subscription behind the credentials, and the regions that it has."""
        found = credentials.find(self.context, self.config.subscription)
        api = self._manager(found)
        path = f"subscriptions/{found.subscription}"
        version = {"api-version": _SUBSCRIPTIONS_VERSION}
        reply = api.get(path, version)
        with expecting(self.display_name, "the subscription"):
            account, state = reply["subscriptionId"], reply["state"]
        if state != "Enabled":
            raise CredentialsError(
                f"the subscription {account} is {state}",
                hint="see its state at https://portal.azure.com, or name another one",
            )
        pages = api.pages(f"{path}/locations", version, next_query=_next)
        with expecting(self.display_name, "the locations"):
            offered = {item["name"] for page in pages for item in page["value"]}
        places: dict[Place, CloudError | None] = {}
        for region in self.config.regions:
            problem = None
            if region not in offered:
                problem = CredentialsError(
                    f"region {region} is not offered to subscription {account}",
                    hint=f"take it out of clouds.azure.regions ({region})",
                )
            places[Place(cloud=self.name, account=account, region=region)] = problem
        return Identity(account=account, user=found.user, places=places)

    def zone_named(self, place: Place, name: str, *, ask: bool) -> str:  # noqa: ARG002 - what it is called is enough
        """The number, which each subscription counts in its own way."""
        if name in ("1", "2", "3"):
            return name
        raise UnsupportedError(f"Azure has no zone {name} in {place.region}: zones are called 1, 2 and 3")

    def snapshot(self) -> Path:
        """The rows shipped in the wheel."""
        return SNAPSHOT

    def fetch(self) -> Iterator[CatalogRow]:
        """The public prices of each region; shapes of the sizes from Azure where there are credentials."""
        prices = RestApi(self.context, name=self.display_name, endpoint=self.config.price_endpoint, table=ERRORS)
        found = self._credentials_or_none()
        manager = self._manager(found) if found else None
        shapes = retail.shipped_shapes(SNAPSHOT)
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        for region in self.config.regions:
            if manager is not None and found is not None:
                shapes |= self._shapes(manager, found.subscription, region)
            asked = retail.Asked(region, now, prices.url(""), self.features)
            pages = prices.pages("", retail.query(region), next_query=_next_prices)
            with expecting(self.display_name, "the list of prices"):
                yield from list(retail.rows((item for page in pages for item in page["Items"]), shapes, asked))

    # workings ----------------------------------------------------------------------------------------------------

    def _shapes(self, api: RestApi, subscription: str, region: str) -> dict[str, retail.Shape]:
        query = {"api-version": _SKUS_VERSION, "$filter": f"location eq '{region}'"}
        pages = api.pages(f"subscriptions/{subscription}/providers/Microsoft.Compute/skus", query, next_query=_next)
        with expecting(self.display_name, "the list of sizes"):
            return retail.shapes_of(sku for page in pages for sku in page["value"])

    def _credentials_or_none(self) -> credentials.Found | None:
        """None where there are none at all: the public prices need none."""
        try:
            return credentials.find(self.context, self.config.subscription)
        except CredentialsError:
            return None

    def _manager(self, found: credentials.Found) -> RestApi:
        token = credentials.access_token(self.context, found, self.config.login_endpoint)
        return RestApi(
            self.context,
            name=self.display_name,
            endpoint=self.config.management_endpoint,
            headers=bearer(token),
            table=ERRORS,
            hint=credentials.HINT,
            request_id_header="x-ms-request-id",
        )


def _next(page: Mapping[str, Any]) -> str | None:
    return page.get("nextLink") or None


def _next_prices(page: Mapping[str, Any]) -> str | None:
    return page.get("NextPageLink") or None
