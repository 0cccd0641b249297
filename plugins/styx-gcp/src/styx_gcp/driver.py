"""Google Compute Engine: identity and catalog."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from pydantic import Field, SecretStr

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
    QuotaError,
    TransientError,
    UnsupportedError,
)
from styx.rest import RestApi, expecting
from styx_gcp import credentials, machines
from styx_gcp.skus import rates

SNAPSHOT: Final = Path(__file__).with_name("snapshot.csv")
COMPUTE_SKUS: Final = "services/6F81-5844-456A/skus"
"""Compute Engine's part of the price list."""
MAIN_REGIONS: Final = (
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-west1",
    "us-west4",
    "northamerica-northeast1",
    "europe-north1",
    "europe-west1",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "asia-east1",
    "asia-northeast1",
    "asia-south1",
    "asia-southeast1",
    "australia-southeast1",
)
ERRORS: Final[Mapping[str, type[CloudError]]] = {
    "SERVICE_DISABLED": CredentialsError,
    "accessNotConfigured": CredentialsError,
    "backendError": TransientError,
    "notFound": CredentialsError,
    "quotaExceeded": QuotaError,
    "RATE_LIMIT_EXCEEDED": TransientError,
    "rateLimitExceeded": TransientError,
    "userRateLimitExceeded": TransientError,
}
"""Google's reasons, and what each tells the engine; all that is asked for by name here is the project."""


class GcpConfig(DriverConfig):
    """Settings under `clouds.gcp`; none is needed."""

    project: str | None = None
    """Project to work in; without it, GOOGLE_CLOUD_PROJECT, the key file's project, then that of gcloud."""
    credentials_file: str | None = None
    """Key file to use; without it, GOOGLE_APPLICATION_CREDENTIALS, then gcloud's application default credentials."""
    regions: tuple[str, ...] = Field(default=MAIN_REGIONS, min_length=1)
    """Regions whose prices a refresh reads, and whose machines are considered, as far as the project has them."""
    compute_endpoint: str = "https://compute.googleapis.com/compute/v1"
    """Address of Compute Engine."""
    billing_endpoint: str = "https://cloudbilling.googleapis.com/v1"
    """Address of the price list."""
    oauth_endpoint: str = "https://oauth2.googleapis.com/token"
    """Address where credentials are exchanged for an access token."""


class Gcp(Cloud, CatalogSource, HasZones):
    """Virtual machines in regions, on demand and spot. Prices are the same in all zones of a region."""

    name = "gcp"
    display_name = "Google Cloud"
    config_type = GcpConfig
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
    limits = Limits(name_length=63, user_data_bytes=262144, max_ports=100, max_nodes=1000)

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        self.context = context

    @property
    def config(self) -> GcpConfig:
        """The settings."""
        return cast("GcpConfig", self.context.config)

    def check(self) -> Identity:
        """The project behind the credentials, and the regions that it has."""
        found, project, token = self._signed_in()
        api = self._api(self.config.compute_endpoint, found, project, token)
        pages = api.pages(f"projects/{project}/regions", {"maxResults": 500}, next_query=_next)
        with expecting(self.display_name, "regions"):
            up = {item["name"] for page in pages for item in page.get("items", ()) if item["status"] == "UP"}
        places: dict[Place, CloudError | None] = {}
        for region in self.config.regions:
            problem = None
            if region not in up:
                problem = CredentialsError(
                    f"region {region} is not offered to project {project}",
                    hint=f"take it out of clouds.gcp.regions ({region})",
                )
            places[Place(cloud=self.name, account=project, region=region)] = problem
        return Identity(account=project, user=found.user, places=places)

    def zone_named(self, place: Place, name: str, *, ask: bool) -> str:  # noqa: ARG002 - what it is called is enough
        """The name, if it is the region's with a letter: `us-central1-a`."""
        if re.fullmatch(rf"{re.escape(place.region)}-[a-z]", name):
            return name
        raise UnsupportedError(
            f"Google Cloud has no zone {name} in {place.region}: zones there have names like {place.region}-a"
        )

    def snapshot(self) -> Path:
        """The rows shipped in the wheel."""
        return SNAPSHOT

    def fetch(self) -> Iterator[CatalogRow]:
        """Every machine type of the regions at the sum of its parts' prices."""
        found, project, token = self._signed_in()
        compute = self._api(self.config.compute_endpoint, found, project, token)
        billing = self._api(self.config.billing_endpoint, found, project, token)
        query = {"pageSize": 5000, "currencyCode": "USD"}
        with expecting(self.display_name, "the list of prices"):
            known = rates(
                sku for page in billing.pages(COMPUTE_SKUS, query, next_query=_next) for sku in page.get("skus", ())
            )
        with expecting(self.display_name, "the list of machine types"):
            offered = machines.machines(
                self._listed(compute, project, "machineTypes"),
                self._listed(compute, project, "acceleratorTypes"),
                self.config.regions,
            )
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        asked = machines.Asked(now, billing.url(COMPUTE_SKUS), self.features)
        for region, several in offered.items():
            for machine in several:
                yield from machines.rows(machine, region, known, asked)

    # workings ----------------------------------------------------------------------------------------------------

    def _listed(self, api: RestApi, project: str, what: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        query = {"maxResults": 500, "returnPartialSuccess": "true"}
        pages = api.pages(f"projects/{project}/aggregated/{what}", query, next_query=_next)
        return machines.listed(pages, what)

    def _signed_in(self) -> tuple[credentials.Found, str, SecretStr]:
        found = credentials.find(self.context, self.config.credentials_file)
        project = credentials.project_of(self.context, self.config.project, found)
        return found, project, credentials.access_token(self.context, found, self.config.oauth_endpoint)

    def _api(self, endpoint: str, found: credentials.Found, project: str, token: SecretStr) -> RestApi:
        headers = {"Authorization": SecretStr(f"Bearer {token.get_secret_value()}")}
        if found.bills_apart:
            headers["x-goog-user-project"] = SecretStr(project)
        return RestApi(
            self.context,
            name=self.display_name,
            endpoint=endpoint,
            headers=lambda: headers,
            table=ERRORS,
            read_failure=_read_failure,
            hint=credentials.HINT,
        )


def _next(page: Mapping[str, Any]) -> Mapping[str, str] | None:
    token = page.get("nextPageToken")
    return {"pageToken": token} if token else None


def _read_failure(body: Any) -> tuple[str | None, str | None]:
    """Reason and message of `{"error": {"code": 403, "status": ..., "details": [...], "errors": [...]}}`."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        return None, None
    several = [*(error.get("errors") or ()), *(error.get("details") or ())]
    reasons = [each["reason"] for each in several if isinstance(each, Mapping) and each.get("reason")]
    return next((each for each in reasons if each in ERRORS), error.get("status") or next(iter(reasons), None)), (
        error.get("message")
    )
