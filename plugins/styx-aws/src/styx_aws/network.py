"""Where machines are plugged in: subnets, security groups, placement groups, network interfaces, addresses.

A step at a time, each of which may be repeated: what exists already is found by its tags.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from styx.plugin import (
    CapacityError,
    CloudError,
    DriverError,
    NodeRequest,
    Place,
    Scope,
    TransientError,
    UnsupportedError,
    VendorDetail,
)
from styx_aws.config import AwsConfig
from styx_aws.errors import GONE
from styx_aws.session import Clients
from styx_aws.tags import carries, tags_of

SSH: Final = 22
_EVERYTHING: Final = "-1"


@dataclass(frozen=True)
class Subnet:
    """A subnet that machines may go to."""

    id: str
    vpc: str
    zone: str
    zone_id: str
    public: bool
    free: int


@dataclass(frozen=True)
class Nic:
    """One network interface of a machine."""

    groups: Sequence[str]
    device: int = 0
    card: int = 0
    kind: str = "interface"


def ordered(subnets: Iterable[Subnet], wanted: str | None, count: int, *, private: bool) -> list[Subnet]:
    """One subnet for each zone that may be used, in the order to try them.

    Args:
        subnets: All there are.
        wanted: Zone, by its id or its name; None takes any.
        count: Machines; a subnet with fewer free addresses comes last.
        private: Machines get no public address, so subnets without a way out to the internet are preferred.
    """
    fit = [one for one in subnets if wanted in (None, one.zone_id, one.zone)]
    ranked = sorted(fit, key=lambda one: (one.free < count, one.public is private, -one.free, one.id))
    by_zone: dict[str, Subnet] = {}
    for one in ranked:
        by_zone.setdefault(one.zone_id, one)
    return sorted(by_zone.values(), key=lambda one: (one.free < count, one.public is private, one.zone_id))


def public_subnets(tables: Iterable[Mapping[str, Any]], ids: Iterable[str]) -> set[str]:
    """Subnets whose routing table, their own or else the network's main one, leads to an internet gateway."""
    own: dict[str, bool] = {}
    main = False
    for table in tables:
        out = any(str(route.get("GatewayId", "")).startswith("igw-") for route in table.get("Routes", ()))
        for association in table.get("Associations", ()):
            if association.get("SubnetId"):
                own[association["SubnetId"]] = out
            elif association.get("Main"):
                main = out
    return {one for one in ids if own.get(one, main)}


def first_interface(instance: Mapping[str, Any]) -> str | None:
    """The interface that carries a machine's IP, where it has several; None where it has one."""
    nics = instance.get("NetworkInterfaces") or ()
    if len(nics) < 2:
        return None
    places = {
        (nic.get("Attachment", {}).get("NetworkCardIndex") or 0, nic.get("Attachment", {}).get("DeviceIndex") or 0): nic
        for nic in nics
    }
    return str(places[min(places)]["NetworkInterfaceId"])


def open_ports(group: Mapping[str, Any]) -> list[int]:
    """Ports that a group opens one by one to addresses, SSH left out."""
    return sorted(
        {
            rule["FromPort"]
            for rule in group.get("IpPermissions", ())
            if rule.get("IpProtocol") == "tcp"
            and rule.get("FromPort") == rule.get("ToPort")
            and rule.get("FromPort") not in (None, SSH)
            and rule.get("IpRanges")
        }
    )


def rules(ports: Iterable[int], sources: Sequence[str]) -> list[dict[str, Any]]:
    """Inbound rules, one for each port."""
    return [
        {
            "IpProtocol": "tcp",
            "FromPort": port,
            "ToPort": port,
            "IpRanges": [{"CidrIp": source, "Description": "styx"} for source in sources],
        }
        for port in ports
    ]


def interfaces(info: Mapping[str, Any], groups: Sequence[str], *, fabric: bool) -> list[Nic]:
    """The network interfaces of a machine; `fabric` asks for all its Elastic Fabric Adapters.

    The first one carries IP; on machines with several network cards, the others carry the fabric alone.
    """
    network = info.get("NetworkInfo") or {}
    if not fabric or not network.get("EfaSupported"):
        return [Nic(groups)]
    adapters = int((network.get("EfaInfo") or {}).get("MaximumEfaInterfaces") or 1)
    cards = int(network.get("MaximumNetworkCards") or adapters)
    plain = 1 < adapters < cards  # as with P6-B300: its first card carries IP alone
    first = Nic(groups, kind="interface" if plain else "efa")
    others = range(1, adapters + 1 if plain else adapters)
    return [first, *(Nic(groups, device=1, card=card, kind="efa-only") for card in others)]


class Network:
    """The calls behind it."""

    def __init__(self, config: AwsConfig, clients: Clients) -> None:
        self._config = config
        self._clients = clients
        self._zones: dict[str, dict[str, str]] = {}

    def zones(self, region: str) -> Mapping[str, str]:
        """Name of each zone of a region to its id; never changes for an account."""
        if region not in self._zones:
            reply = self._clients.call("ec2", region, "describe_availability_zones")
            self._zones[region] = {one["ZoneName"]: one.get("ZoneId", "") for one in reply["AvailabilityZones"]}
        return self._zones[region]

    def subnets(self, place: Place, count: int, choices: Mapping[str, str]) -> list[Subnet]:
        """Subnets for machines in a place, one for each zone, in the order to try them.

        Args:
            place: Region, and perhaps zone.
            count: Machines.
            choices: The request's own `vpc` and `subnet`, which win over the settings.

        Raises:
            DriverError: There is no network to use in this region.
        """
        region = place.region
        named = [choices["subnet"]] if "subnet" in choices else list(self._config.subnets)
        filters = [{"Name": "state", "Values": ["available"]}]
        if named:
            filters.append({"Name": "subnet-id", "Values": named})
        else:
            filters.append({"Name": "vpc-id", "Values": [self._vpc(region, choices.get("vpc") or self._config.vpc)]})
        found = self._clients.pages("ec2", region, "describe_subnets", "Subnets", Filters=filters)
        if not found:
            what = ", ".join(named) if named else f"the network {filters[-1]['Values'][0]}"
            raise DriverError(
                f"region {region} has no usable subnet: {what} has none there",
                hint="see clouds.aws.vpc and clouds.aws.subnets",
                vendor=VendorDetail(code="InvalidSubnetID.NotFound"),
            )
        vpcs = sorted({one["VpcId"] for one in found})
        tables = self._clients.pages(
            "ec2", region, "describe_route_tables", "RouteTables", Filters=[{"Name": "vpc-id", "Values": vpcs}]
        )
        public = public_subnets(tables, [one["SubnetId"] for one in found])
        zones = self.zones(region)
        all_of = [
            Subnet(
                id=one["SubnetId"],
                vpc=one["VpcId"],
                zone=one["AvailabilityZone"],
                zone_id=one.get("AvailabilityZoneId") or zones.get(one["AvailabilityZone"], one["AvailabilityZone"]),
                public=one["SubnetId"] in public,
                free=int(one.get("AvailableIpAddressCount") or 0),
            )
            for one in found
        ]
        fit = ordered(all_of, place.zone, count, private=self._config.private_ips)
        if not fit:
            raise CapacityError(
                f"none of the subnets in {region} is in zone {place.zone}",
                hint="add one there, or leave the zone open",
            )
        if self._config.private_ips:
            return fit
        reachable = [one for one in fit if one.public]
        if not reachable:
            raise DriverError(
                f"none of the subnets in {place} leads to an internet gateway: machines there could not be reached",
                hint="set clouds.aws.private_ips, or name a public subnet in clouds.aws.subnets",
            )
        return reachable

    def _vpc(self, region: str, wanted: str | None) -> str:
        filters = [{"Name": "is-default", "Values": ["true"]}]
        if wanted is not None:
            name = "vpc-id" if wanted.startswith("vpc-") else "tag:Name"
            filters = [{"Name": name, "Values": [wanted]}]
        found = self._clients.pages("ec2", region, "describe_vpcs", "Vpcs", Filters=filters)
        if len(found) == 1:
            return str(found[0]["VpcId"])
        what = f"{len(found)} networks called {wanted!r}" if wanted else "no default network (VPC)"
        raise DriverError(
            f"region {region} has {what}",
            hint="name one in clouds.aws.vpc, or make a default one: aws ec2 create-default-vpc",
            vendor=VendorDetail(code="VPCIdNotSpecified"),
        )

    # security groups ---------------------------------------------------------------------------------------------

    def group(self, request: NodeRequest, vpc: str, tags: list[dict[str, str]], *, fabric: bool) -> list[str]:
        """The groups of a request's machines: those of the settings, or the cluster's own, made and filled here."""
        if self._config.security_groups:
            if request.ports:
                raise _no_own_group(request.ports)
            return list(self._config.security_groups)
        region = request.place.region
        found = [one for one in self.groups(region, tags) if one.get("VpcId") == vpc]
        group = found[0] if found else {"GroupId": self._make_group(region, request.cluster, vpc, tags)}
        self._fill(region, group, request.ports, fabric=fabric)
        return [str(group["GroupId"])]

    def _make_group(self, region: str, name: str, vpc: str, tags: list[dict[str, str]]) -> str:
        asked = {
            "GroupName": name,
            "Description": "Styx: machines of one cluster",
            "VpcId": vpc,
            "TagSpecifications": [{"ResourceType": "security-group", "Tags": tags}],
        }
        try:
            return str(self._clients.call("ec2", region, "create_security_group", **asked)["GroupId"])
        except CloudError as error:
            if error.vendor.code != "InvalidGroup.Duplicate":
                raise
            message = f"there is a security group {name} in {region} already, which is not listed with its tags yet"
            raise TransientError(message, retry_after_s=5.0, vendor=error.vendor) from None

    def groups(self, region: str, tags: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Groups that carry all these tags."""
        filters = [{"Name": f"tag:{tag['Key']}", "Values": [tag["Value"]]} for tag in tags]
        return self._clients.pages("ec2", region, "describe_security_groups", "SecurityGroups", Filters=filters)

    def _fill(self, region: str, group: Mapping[str, Any], ports: Iterable[int], *, fabric: bool) -> None:
        """Rules that are missing: machines of the cluster among each other, SSH, ports, the fabric."""
        own = [{"GroupId": group["GroupId"]}]
        among = {"IpProtocol": _EVERYTHING, "UserIdGroupPairs": own}
        have = group.get("IpPermissions", ())
        wanted = [] if any(rule.get("UserIdGroupPairs") for rule in have) else [among]
        closed = sorted(set(ports) - set(open_ports(group)) - {SSH})
        if not any(rule.get("FromPort") == SSH for rule in have):
            wanted += rules([SSH], self._config.ssh_from)
        wanted += rules(closed, self._config.ports_from)
        if wanted:
            self._authorize(region, "authorize_security_group_ingress", str(group["GroupId"]), wanted)
        if fabric and not any(rule.get("UserIdGroupPairs") for rule in group.get("IpPermissionsEgress", ())):
            self._authorize(region, "authorize_security_group_egress", str(group["GroupId"]), [among])

    def _authorize(self, region: str, action: str, group: str, wanted: list[dict[str, Any]]) -> None:
        """One rule after the other where AWS says that one of them exists: it takes all of a call or none."""
        try:
            self._clients.call("ec2", region, action, GroupId=group, IpPermissions=wanted)
        except CloudError as error:
            if error.vendor.code != "InvalidPermission.Duplicate":
                raise
            if len(wanted) > 1:
                for one in wanted:
                    self._authorize(region, action, group, [one])

    def open(self, region: str, tags: Sequence[Mapping[str, str]], ports: Sequence[int]) -> None:
        """Open ports of a cluster."""
        for group in self._own(region, tags, ports):
            if closed := sorted(set(ports) - set(open_ports(group)) - {SSH}):
                wanted = rules(closed, self._config.ports_from)
                self._authorize(region, "authorize_security_group_ingress", str(group["GroupId"]), wanted)

    def close(self, region: str, tags: Sequence[Mapping[str, str]], ports: Sequence[int]) -> None:
        """Close ports of a cluster, whatever addresses they were opened to."""
        for group in self._own(region, tags, ports):
            gone = [
                {name: rule[name] for name in ("IpProtocol", "FromPort", "ToPort", "IpRanges") if name in rule}
                for rule in group.get("IpPermissions", ())
                if rule.get("FromPort") == rule.get("ToPort") and rule.get("FromPort") in set(ports) - {SSH}
            ]
            if gone:
                self._quietly(
                    "ec2",
                    region,
                    "revoke_security_group_ingress",
                    {"InvalidPermission.NotFound"},
                    GroupId=group["GroupId"],
                    IpPermissions=gone,
                )

    def _own(self, region: str, tags: Sequence[Mapping[str, str]], ports: Sequence[int]) -> list[dict[str, Any]]:
        if self._config.security_groups:
            raise _no_own_group(ports)
        return self.groups(region, tags)

    # placement groups and addresses ------------------------------------------------------------------------------

    def placement_group(self, request: NodeRequest, tags: list[dict[str, str]]) -> str:
        """The cluster's own group, in which machines stand close together; made if it is not there."""
        region, name = request.place.region, request.cluster
        try:
            self._clients.call(
                "ec2",
                region,
                "create_placement_group",
                GroupName=name,
                Strategy="cluster",
                TagSpecifications=[{"ResourceType": "placement-group", "Tags": tags}],
            )
        except CloudError as error:
            if error.vendor.code != "InvalidPlacementGroup.Duplicate":
                raise
        return name

    def address(self, region: str, interface: str, tags: list[dict[str, str]]) -> None:
        """A fixed public address for a machine that can't get one at creation; found again by its tags."""
        filters = [{"Name": f"tag:{tag['Key']}", "Values": [tag["Value"]]} for tag in tags]
        found = self._clients.call("ec2", region, "describe_addresses", Filters=filters).get("Addresses", ())
        spec = [{"ResourceType": "elastic-ip", "Tags": tags}]
        one = (
            found[0]
            if found
            else self._clients.call("ec2", region, "allocate_address", Domain="vpc", TagSpecifications=spec)
        )
        if not one.get("AssociationId"):
            self._clients.call(
                "ec2",
                region,
                "associate_address",
                AllocationId=one["AllocationId"],
                NetworkInterfaceId=interface,
                AllowReassociation=False,
            )

    # removal -----------------------------------------------------------------------------------------------------

    def release(self, region: str, filters: list[dict[str, Any]]) -> None:
        """Remove whatever carries these tags and is no machine: requests, addresses, disks, groups.

        Raises:
            TransientError: Something is still in use; repeat.
        """
        left: list[CloudError] = []
        for thing in things(self._clients, region, filters):
            try:
                self._quietly("ec2", region, thing.action, GONE, **thing.parameters)
            except TransientError as error:
                left.append(error)
        if left:
            raise left[0]

    def _quietly(
        self, service: str, region: str, action: str, benign: Collection[str | None], **parameters: Any
    ) -> None:
        try:
            self._clients.call(service, region, action, **parameters)
        except CloudError as error:
            if error.vendor.code not in benign:
                raise


@dataclass(frozen=True)
class Thing:
    """Something of ours that is no machine, and the call that removes it."""

    id: str
    kind: str
    tags: Mapping[str, str]
    action: str
    parameters: Mapping[str, Any]
    usd_per_hour: float | None = 0.0
    created_at: Any = None


def things(clients: Clients, region: str, filters: list[dict[str, Any]]) -> list[Thing]:
    """Whatever carries these tags and is no machine, in the order in which it must be removed."""

    def listed(action: str, field: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
        asked = {"Filters": [*filters, *more]}
        if action in {"describe_addresses", "describe_placement_groups"}:  # not paged
            shown = list(clients.call("ec2", region, action, **asked).get(field) or ())
        else:
            shown = clients.pages("ec2", region, action, field, **asked)
        return [one for one in shown if carries(one, filters)]

    found: list[Thing] = []
    live = {"Name": "state", "Values": ["open", "active", "disabled"]}
    persistent = {"Name": "type", "Values": ["persistent"]}
    for one in listed("describe_spot_instance_requests", "SpotInstanceRequests", live, persistent):
        name = str(one["SpotInstanceRequestId"])
        found.append(
            Thing(
                name,
                "spot-request",
                tags_of(one),
                "cancel_spot_instance_requests",
                {"SpotInstanceRequestIds": [name]},
                None,
                one.get("CreateTime"),
            )
        )
    for one in listed("describe_addresses", "Addresses"):
        name = str(one["AllocationId"])
        found.append(Thing(name, "address", tags_of(one), "release_address", {"AllocationId": name}, 0.005))
    for one in listed("describe_volumes", "Volumes", {"Name": "status", "Values": ["available", "error"]}):
        name = str(one["VolumeId"])
        usd = 0.08 * float(one.get("Size") or 0) / 730
        found.append(Thing(name, "disk", tags_of(one), "delete_volume", {"VolumeId": name}, usd, one.get("CreateTime")))
    for one in listed("describe_security_groups", "SecurityGroups"):
        name = str(one["GroupId"])
        found.append(Thing(name, "security-group", tags_of(one), "delete_security_group", {"GroupId": name}))
    for one in listed("describe_placement_groups", "PlacementGroups"):
        name = str(one["GroupName"])
        found.append(Thing(name, "placement-group", tags_of(one), "delete_placement_group", {"GroupName": name}))
    return found


def named_by_user(error: CloudError, config: AwsConfig) -> CloudError:
    """What a refusal is: a group of ours may not be known everywhere yet, one that the settings name is not there."""
    of_settings: dict[str | None, tuple[str, str]] = {
        "InvalidGroup.NotFound": ("security_groups", ", ".join(config.security_groups)),
        "InvalidPlacementGroup.Unknown": ("placement_group", config.placement_group or ""),
    }
    setting, value = of_settings.get(error.vendor.code, ("", ""))
    if not value:
        return error
    hint = f"clouds.aws.{setting} names {value}, and such groups belong to one region"
    return UnsupportedError(error.message, scope=Scope.REGION, vendor=error.vendor, hint=hint)


def _no_own_group(ports: Iterable[int]) -> UnsupportedError:
    return UnsupportedError(
        f"ports {', '.join(map(str, ports))} can't be opened: clouds.aws.security_groups names groups of yours",
        hint="open them in those groups, or take clouds.aws.security_groups out",
    )
