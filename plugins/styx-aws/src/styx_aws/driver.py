"""Amazon EC2: identity and catalog, without an SDK; machines are in `styx_aws.provisioner`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

from pydantic import SecretStr

from styx.plugin import (
    CatalogRow,
    CloudError,
    Context,
    CredentialsError,
    DiskPrice,
    FeatureSet,
    Identity,
    Limits,
    Permissions,
    Place,
)
from styx.rest import RestApi, expecting
from styx_aws import calls, credentials, disks, endpoints, offers, permissions
from styx_aws.config import AwsConfig
from styx_aws.provisioner import Ec2Machines
from styx_aws.sigv4 import Keys

SNAPSHOT: Final = Path(__file__).with_name("snapshot.csv")
_EC2_VERSION: Final = "2016-11-15"
_STS_VERSION: Final = "2011-06-15"


class Aws(Ec2Machines):
    """Virtual machines in regions and zones, on demand and spot. Rows name zones by their ids, such as `use1-az1`."""

    name = "aws"
    display_name = "AWS"
    config_type = AwsConfig
    features = FeatureSet(
        stop=True,
        spot=True,
        idempotent_create=True,
        ports="any_time",
        user_data=True,
        custom_image=True,
        container="docker",
        fuse=True,
        disk_tiers=True,
    )
    limits = Limits(
        name_length=255, user_data_bytes=16384, max_ports=50, max_nodes=1000, min_poll_s=2.0, listing_lag_s=10.0
    )

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        super().__init__(context)
        self._prepare(self._keys)

    def check(self) -> Identity:
        """The account behind the keys, and the regions that it has enabled."""
        keys, home = self._keys(), self._home_region()
        account, arn = self._who(keys, home)
        reply = self._ec2(home, keys, "DescribeRegions")
        enabled = {item.findtext("regionName", "") for item in reply.iterfind("regionInfo/item")}
        places: dict[Place, CloudError | None] = {}
        for region in self.config.regions:
            problem = None
            if region not in enabled:
                problem = CredentialsError(
                    f"region {region} is not enabled for account {account}",
                    hint=f"enable it in the account's settings, or take it out of clouds.aws.regions ({region})",
                )
            places[Place(cloud=self.name, account=account, region=region)] = problem
        return Identity(account=account, user=arn, places=places)

    def account(self) -> str:
        """The account's number, from one question to the Security Token Service."""
        return self._who(self._keys(), self._home_region())[0]

    def missing_permissions(self) -> Permissions:
        """Ask IAM, else EC2, about every action of the shipped policy."""
        return permissions.missing(self._clients, self._home_region())

    def disk_price(
        self,
        place: Place,
        offer: CatalogRow | None,  # noqa: ARG002 - the same for all machines
        gib: float | None,
        tier: str | None,
    ) -> DiskPrice | None:
        """The list price of a gp3 disk in the regions where it is known to this version."""
        return disks.price(place.region, gib, tier)

    def snapshot(self) -> Path:
        """The rows shipped in the wheel."""
        return SNAPSHOT

    def fetch(self) -> Iterator[CatalogRow]:
        """On-demand prices of the public list for each region, then spot prices where there are credentials."""
        keys = self._keys_or_none() if self.config.spot_prices else None
        for region in self.config.regions:
            machines: dict[str, offers.Shape] = {}
            yield from self._on_demand(region, machines)
            if keys is not None:
                yield from self._spot(region, machines, keys)

    # workings ----------------------------------------------------------------------------------------------------

    def _who(self, keys: Keys, region: str) -> tuple[str, str]:
        """Account and ARN behind the keys."""
        asked = {"Action": "GetCallerIdentity", "Version": _STS_VERSION}
        reply = calls.query(self.context, self._endpoint("sts", region), region, "sts", keys, asked)
        with expecting("AWS", "GetCallerIdentity"):
            return offers.identity(reply)

    def _on_demand(self, region: str, machines: dict[str, offers.Shape]) -> Iterator[CatalogRow]:
        """Rows of one region's price list; fills `machines`."""
        path = f"offers/v1.0/aws/AmazonEC2/current/{region}/index.csv"
        api = RestApi(self.context, name="AWS", endpoint=self.config.price_endpoint, read_failure=calls.read_failure)
        asked = self._asked(region, api.url(path), spot=False)

        def found() -> Iterator[tuple[offers.Shape, float]]:
            for machine, usd in offers.priced(api.lines(path)):
                machines.setdefault(machine.name, machine)
                yield machine, usd

        yield from offers.on_demand_rows(found(), asked)

    def _spot(self, region: str, machines: Mapping[str, offers.Shape], keys: Keys) -> Iterable[CatalogRow]:
        now = datetime.fromtimestamp(self.context.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        zones = offers.zone_ids(self._ec2(region, keys, "DescribeAvailabilityZones"))
        parameters = {
            "Action": "DescribeSpotPriceHistory",
            "Version": _EC2_VERSION,
            "StartTime": now,
            "ProductDescription.1": "Linux/UNIX",
            "MaxResults": "1000",
        }
        url = self._endpoint("ec2", region)
        pages = calls.pages(self.context, url, region, keys, parameters)
        asked = self._asked(region, f"{url} spot price history", spot=True)
        return offers.spot_rows(pages, machines, zones, asked)

    def _asked(self, region: str, source: str, *, spot: bool) -> offers.Asked:
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        stop = not spot or self.config.spot == "persistent"
        features = self.features.model_copy(update={"spot": spot, "stop": stop})
        return offers.Asked(region, now, source, features)

    def _ec2(self, region: str, keys: Keys, action: str) -> Element:
        parameters = {"Action": action, "Version": _EC2_VERSION}
        return calls.query(self.context, self._endpoint("ec2", region), region, "ec2", keys, parameters)

    def _endpoint(self, service: str, region: str) -> str:
        return endpoints.endpoint(self.context, self.config.profile, service, region)

    def _home_region(self) -> str:
        """Where account-wide questions are asked."""
        return credentials.region_of(self.context, self.config.profile) or self.config.regions[0]

    def _keys(self) -> Keys:
        assume = partial(_assume, self.context, partial(self._endpoint, "sts"))
        return credentials.find(self.context, self.config.profile, assume, partial(self._endpoint, "sso"))

    def _keys_or_none(self) -> Keys | None:
        """None where there are none at all: the public prices need none."""
        try:
            return self._keys()
        except CredentialsError:
            return None


def _assume(
    context: Context, endpoint: Callable[[str], str], keys: Keys | None, region: str, parameters: Mapping[str, str]
) -> Keys:
    """Keys of a role; without keys, the parameters hold a web identity's token."""
    action = "AssumeRole" if keys else "AssumeRoleWithWebIdentity"
    asked = {"Action": action, "Version": _STS_VERSION, **parameters}
    reply = calls.query(context, endpoint(region), region, "sts", keys, asked)
    given = reply.find(f"{action}Result/Credentials")
    with expecting("AWS", action):
        if given is None:
            raise KeyError("Credentials")
        return Keys(
            given.findtext("AccessKeyId", ""),
            SecretStr(given.findtext("SecretAccessKey", "")),
            SecretStr(given.findtext("SessionToken", "")),
        )
