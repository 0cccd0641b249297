"""Where moto departs from what AWS documents about EC2, and what is done about it. One test for each is in
`plugins/styx-aws/tests/test_ec2_simulator.py`.

Methods of moto's responses and models are replaced while a simulator is entered.
"""

from __future__ import annotations

import base64
import copy
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from tests.simcloud.ec2 import Ec2

STANDARD = {"on-demand": "L-1216C47A", "spot": "L-34B43A08"}
QUOTA_FAMILIES = {"g": ("L-DB2E81BA", "L-3819A6DF"), "p": ("L-417A185B", "L-7212CCBC")}


@contextmanager
def patched(aws: Ec2) -> Iterator[None]:
    """All mends, while the block lasts."""
    from moto.ec2.models.instances import Instance
    from moto.ec2.models.security_groups import SecurityGroupBackend
    from moto.ec2.responses import EC2Response
    from moto.ec2.responses.instances import InstanceResponse
    from moto.ec2.responses.route_tables import RouteTables
    from moto.ec2.responses.spot_instances import SpotInstances
    from moto.ec2.responses.vpcs import VPCs

    with ExitStack() as stack:

        def replace(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
            before = getattr(owner, name, None)
            stack.enter_context(mock.patch.object(owner, name, make(before), create=before is None))

        replace(InstanceResponse, "run_instances", lambda old: lambda response: run_instances(aws, response, old))
        replace(InstanceResponse, "describe_instances", lambda old: lambda response: describe_instances(aws, response))
        replace(InstanceResponse, "modify_instance_attribute", lambda old: lambda response: modify(aws, response, old))
        replace(Instance, "styx_terminate", lambda _: Instance.terminate)
        replace(Instance, "terminate", lambda _: lambda instance: terminate(aws, instance))
        replace(Instance, "stop", lambda _: lambda instance: stop(aws, instance))
        replace(Instance, "start", lambda _: lambda instance: start(aws, instance))
        replace(SpotInstances, "describe_spot_instance_requests", lambda _: lambda response: spot_list(aws, response))
        replace(SpotInstances, "cancel_spot_instance_requests", lambda _: lambda response: spot_cancel(aws, response))
        replace(SpotInstances, "describe_spot_price_history", lambda _: lambda response: spot_prices(aws, response))
        replace(SecurityGroupBackend, "delete_security_group", lambda old: deletes_unused(old))
        replace(VPCs, "describe_vpcs", lambda old: lambda response: describe_vpcs(aws, response, old))
        replace(RouteTables, "describe_route_tables", lambda old: lambda response: describe_routes(aws, response, old))
        for name, function in {
            "create_placement_group": group_create,
            "describe_placement_groups": group_list,
            "delete_placement_group": group_delete,
            "describe_capacity_reservations": reservation_list,
        }.items():
            replace(EC2Response, name, lambda _, function=function: lambda response: function(aws, response))
        yield


def _refused(code: str, message: str) -> Exception:
    from moto.ec2.exceptions import EC2ClientError

    return EC2ClientError(code, message)


def _result(value: Any) -> Any:
    from moto.core.responses import ActionResult

    return ActionResult(value)


def _matches(tags: dict[str, str], more: dict[str, Any], filters: dict[str, list[str]]) -> bool:
    """Whether a thing with these tags and properties passes the filters of a listing."""
    have = {**{f"tag:{name}": value for name, value in tags.items()}, **more}
    return all(str(have.get(name)) in values for name, values in filters.items())


def _tags_of(response: Any, kind: str) -> dict[str, str]:
    specs = response._get_param("TagSpecifications", [])
    return {tag["Key"]: tag.get("Value", "") for one in specs if one["ResourceType"] == kind for tag in one["Tags"]}


def _tag_set(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": name, "Value": value} for name, value in tags.items()]


def tags_of_named(aws: Ec2, region: str, form: dict[str, str]) -> list[dict[str, str]]:
    """The tags of every thing that a request names, for policies that look at them."""
    backend = aws.backend(region)
    found = []
    for name, value in form.items():
        if re.fullmatch(r"(InstanceId|SpotInstanceRequestId)(\.\d+)?|GroupId|AllocationId|VolumeId", name):
            if value.startswith("sir-"):
                one = aws.requests.get(value, {"Tags": []})
                found.append({tag["Key"]: tag["Value"] for tag in one["Tags"]})
            else:
                found.append({tag["key"]: tag["value"] for tag in backend.describe_tags({"resource-id": [value]})})
        elif name == "GroupName" and "Strategy" not in form:
            one = aws.placement_groups.get((region, value), {"Tags": []})
            found.append({tag["Key"]: tag["Value"] for tag in one["Tags"]})
    return found


# instances --------------------------------------------------------------------------------------------------------


def run_instances(aws: Ec2, response: Any, before: Callable[[Any], Any]) -> Any:
    """Client tokens, capacity, quotas, spot requests, public addresses, time to boot, and a host."""
    with aws.lock:
        token, asked = response._get_param("ClientToken"), _fingerprint(response)
        known = aws.tokens.get((response.region, token)) if token else None
        if known is not None:
            if known[1] != asked:
                raise _refused(
                    "IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with ..."
                )
            return _result(known[0])
        _check_groups(response)
        if not response._get_param("DryRun", False):
            _check_room(aws, response)
        reservation = before(response).result
        for instance in reservation.instances:
            _adopt(aws, response, instance)
        if token:
            aws.tokens[response.region, token] = (reservation, asked)
        return _result(reservation)


def _fingerprint(response: Any) -> str:
    return repr(sorted((name, value) for name, value in response.querystring.items() if name != "Version"))


def _check_groups(response: Any) -> None:
    for nic in response._get_param("NetworkInterfaces", []):
        for group in nic.get("Groups") or ():
            if response.ec2_backend.get_security_group_from_id(group) is None:
                raise _refused("InvalidGroup.NotFound", f"The security group '{group}' does not exist")
    nics = response._get_param("NetworkInterfaces", [])
    _check_cards(response._get_param("InstanceType"), nics)
    if len(nics) > 1 and any("AssociatePublicIpAddress" in nic for nic in nics):
        raise _refused(
            "InvalidParameterCombination",
            "The associatePublicIPAddress parameter cannot be specified with multiple network interfaces.",
        )


def _check_cards(kind: str, nics: list[dict[str, Any]]) -> None:
    """Which interfaces a machine type has room for. Where it has fewer adapters than cards, the first card has none."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    network = INSTANCE_TYPES.get(kind, {}).get("NetworkInfo")
    if network is None:
        return
    cards, most = network["MaximumNetworkCards"], network.get("EfaInfo", {}).get("MaximumEfaInterfaces", 0)
    places = [(int(nic.get("NetworkCardIndex") or 0), int(nic["DeviceIndex"])) for nic in nics]
    fabric = [at for nic, at in zip(nics, places, strict=True) if nic.get("InterfaceType", "interface") != "interface"]
    if len(set(places)) < len(places) or any(card >= cards for card, _ in places):
        raise _refused("InvalidParameterCombination", f"{kind} has {cards} network cards, each with its own devices")
    if len(fabric) > most or (most < cards and any(card == 0 for card, _ in fabric)):
        raise _refused("InvalidParameterCombination", f"{kind} has {most} EFA interfaces, and not on those cards")
    if any(nic.get("InterfaceType") == "efa-only" and at == (0, 0) for nic, at in zip(nics, places, strict=True)):
        raise _refused("InvalidParameterCombination", "the primary network interface can't be efa-only")


def _check_room(aws: Ec2, response: Any) -> None:
    """Whether the vendor has so many machines there, and the account may have them."""
    count, kind = int(response._get_param("MinCount", 1)), response._get_param("InstanceType")
    subnet = response._get_param("NetworkInterfaces", [{}])[0].get("SubnetId")
    zone = response.ec2_backend.get_subnet(subnet).availability_zone
    places = [f"{place}{only}" for place in (zone, response.region) for only in ("", f" {kind}")]
    code = next((aws.closed[place] for place in places if place in aws.closed), None)
    if aws.left is not None:
        left, aws.left = aws.left, max(0, aws.left - count)
        if left < count:
            code, aws.left = "InsufficientInstanceCapacity", None
    target = response._get_param("CapacityReservationSpecification.CapacityReservationTarget.CapacityReservationId")
    if target is not None:
        reserved = aws.reservations[target]
        if reserved["InstanceType"] != kind or reserved["AvailabilityZone"] != zone:
            raise _refused("InvalidParameterValue", "The Capacity Reservation does not match the request")
        if reserved["AvailableInstanceCount"] < count:
            raise _refused("ReservationCapacityExceeded", "The requested reservation does not have sufficient capacity")
        reserved["AvailableInstanceCount"] -= count
        return
    if code is not None:
        raise _refused(code, f"We currently do not have sufficient {kind} capacity in the zone you requested ({zone}).")
    _check_quota(aws, kind, count, spot=response._get_param("InstanceMarketOptions.MarketType") == "spot")
    group = response._get_param("Placement.GroupName")
    if group is not None and (response.region, group) not in aws.placement_groups:
        raise _refused("InvalidPlacementGroup.Unknown", f"The placement group '{group}' is unknown")


def vcpus_of(kind: str) -> int:
    """Of a machine type."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    return int(INSTANCE_TYPES[kind]["VCpuInfo"]["DefaultVCpus"]) if kind in INSTANCE_TYPES else 1


def _check_quota(aws: Ec2, kind: str, count: int, *, spot: bool) -> None:
    codes = QUOTA_FAMILIES.get(kind[0], (STANDARD["on-demand"], STANDARD["spot"]))
    limit = aws.quotas.get(codes[int(spot)])
    if limit is None:
        return
    used = sum(
        vcpus_of(life.instance.instance_type)
        for life in aws.lives.values()
        if life.state in {"pending", "running"} and (life.request is not None) is spot
    )
    if used + count * vcpus_of(kind) > limit:
        code = "MaxSpotInstanceCountExceeded" if spot else "VcpuLimitExceeded"
        raise _refused(code, f"You have requested more vCPU capacity than your current vCPU limit of {limit:g} allows")


def _adopt(aws: Ec2, response: Any, instance: Any) -> None:
    """An instance that moto made, as AWS would have made it."""
    from moto.ec2.models.instance_types import INSTANCE_TYPES

    from tests.simcloud.ec2 import Life, launch_time

    data = response._get_param("UserData")
    life = Life(instance, response.region, aws.clock(), user_data=_decoded(data), doom=aws.doom)
    aws.doom = None
    instance.launch_time = launch_time(life.born)
    shape = INSTANCE_TYPES.get(instance.instance_type, {}).get("VCpuInfo", {})
    threads = int(shape.get("DefaultThreadsPerCore") or 1)
    cores = int(shape.get("DefaultCores") or (vcpus_of(instance.instance_type) // threads))
    instance.cpu_options = {"CoreCount": cores, "ThreadsPerCore": threads}
    instance.placement.group_name = response._get_param("Placement.GroupName") or ""
    _plug(response, instance)
    if response._get_param("InstanceMarketOptions.MarketType") == "spot":
        life.request = _spot_request(aws, response, instance)
    aws.lives[instance.id] = life
    aws.boot(life)


def _decoded(data: Any) -> str:
    return base64.b64decode(str(data)).decode() if data else ""


def _plug(response: Any, instance: Any) -> None:
    """Interfaces: a public address where it is asked for, the kinds that were asked for, all that share an index."""
    instance.security_groups = list(instance.nics[0]._group_set)
    known = {id(nic) for nic in instance.nics.values()}
    lost = [nic for nic in response.ec2_backend.enis.values() if nic.instance is instance and id(nic) not in known]
    for number, nic in enumerate(lost):  # moto keeps one for each device index, and forgets about network cards
        instance.nics[1000 + number] = nic
    asked = response._get_param("NetworkInterfaces", [])
    for nic in instance.nics.values():
        kinds = [one.get("InterfaceType", "interface") for one in asked if int(one["DeviceIndex"]) == nic.device_index]
        nic.interface_type = kinds[0] if kinds else "interface"
    wanted = any(one.get("AssociatePublicIpAddress") is True for one in asked)
    instance.nics[0].public_ip = _public_address() if wanted else None


def _public_address() -> str:
    return f"203.0.113.{random.randint(1, 254)}"


def describe_instances(aws: Ec2, response: Any) -> Any:
    """Pages of a few reservations; what is too new is missing, also by its id."""
    response.error_on_dryrun()
    with aws.lock:
        filters, ids = response._filters_from_querystring(), response._get_param("InstanceIds", [])
        young = (
            {name for name, life in aws.lives.items() if aws.clock() - life.born < aws.listing_lag_s}
            if aws.listing_lag_s
            else set()
        )
        for name in ids:
            if name in young or name not in aws.lives:
                raise _refused("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")
        backend = response.ec2_backend
        found = (
            backend.get_reservations_by_instance_ids(ids, filters=filters)
            if ids
            else backend.describe_instances(filters=filters)
        )
        shown = []
        for reservation in found:
            one = copy.copy(reservation)
            one.instances = [each for each in reservation.instances if each.id not in young]
            if one.instances:
                shown.append(one)
        first = int(response._get_param("NextToken") or 0)
        size = min(int(response._get_param("MaxResults") or 1000), aws.page_size)
        after = first + size
        token = str(after) if after < len(shown) else None
        return _result({"Reservations": shown[first:after], "NextToken": token})


def modify(aws: Ec2, response: Any, before: Callable[[Any], Any]) -> Any:
    """What a shutdown from within does; moto takes the call for one that clears the groups."""
    value = response._get_param("InstanceInitiatedShutdownBehavior.Value")
    if value is None:
        return before(response)
    response.error_on_dryrun()
    if value not in {"stop", "terminate"}:
        raise _refused("InvalidParameterValue", f"{value} is no shutdown behavior")
    name = response._get_param("InstanceId")
    if name not in aws.lives:
        raise _refused("InvalidInstanceID.NotFound", f"The instance ID '{name}' does not exist")
    aws.lives[name].instance.instance_initiated_shutdown_behavior = value
    return _result({})


def terminate(aws: Ec2, instance: Any) -> Any:
    """Shutting down takes time; the interfaces, and with them the security groups, are in use until its end."""
    from moto.ec2.models.instances import StateReason

    with aws.lock:
        life = aws.lives[instance.id]
        if aws.unknown_while_new and aws.clock() - life.born < aws.listing_lag_s:
            raise _refused("InvalidInstanceID.NotFound", f"The instance ID '{instance.id}' does not exist")
        previous = copy.copy(instance._state)
        if life.state in {"shutting-down", "terminated"}:
            return previous
        instance.state_reason = StateReason(
            "Client.UserInitiatedShutdown: User initiated shutdown", "Client.UserInitiatedShutdown"
        )
        aws.close_request(life, "instance-terminated-by-user")
        if life.machine is not None:
            life.machine.kill()
        aws.set_state(life, "shutting-down")
        life.due = aws.clock() + aws.terminate_s
        return previous


def stop(aws: Ec2, instance: Any) -> Any:
    """Spot instances of one-time requests can't be stopped; others take time."""
    from moto.ec2.models.instances import StateReason

    with aws.lock:
        life = aws.lives[instance.id]
        previous = copy.copy(instance._state)
        if life.request is not None and life.request["Type"] != "persistent":
            raise _refused(
                "UnsupportedOperation",
                f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time request.",
            )
        if life.state in {"stopping", "stopped"}:
            return previous
        if life.state != "running":
            raise _refused("IncorrectInstanceState", f"The instance '{instance.id}' is not in a state to be stopped")
        instance.state_reason = StateReason(
            "Client.UserInitiatedShutdown: User initiated shutdown", "Client.UserInitiatedShutdown"
        )
        if life.machine is not None:
            life.machine.stop()
        if life.request is not None:
            life.request["State"] = "disabled"
        aws.set_state(life, "stopping")
        life.due = aws.clock() + aws.stop_s
        return previous


def start(aws: Ec2, instance: Any) -> Any:
    """Only what is stopped can be started; it gets another public address.

    A persistent spot request follows its stopped instance late, and one that AWS stopped is AWS's alone to start.
    """
    from moto.ec2.models.instances import StateReason

    with aws.lock:
        life = aws.lives[instance.id]
        previous = copy.copy(instance._state)
        if life.state in {"pending", "running"}:
            return previous
        if life.state != "stopped":
            raise _refused("IncorrectInstanceState", f"The instance '{instance.id}' is not in a state to be started")
        if life.request is not None:
            if life.request["State"] == "open" or aws.clock() - life.due < aws.spot_settle_s:
                raise _refused(
                    "IncorrectSpotRequestState",
                    f"You can't start the Spot Instance '{instance.id}' because the associated Spot Instance request "
                    "is not in an appropriate state to support start.",
                )
            life.request["State"] = "active"
        code = aws.closed.get(instance.placement.zone) or aws.closed.get(life.region)
        if code is not None:
            raise _refused(code, "no capacity to start it")
        instance.state_reason = StateReason()
        nic = instance.nics[0]
        if nic.public_ip and life.machine is None:
            nic.public_ip = _public_address()
        aws.boot(life)
        return previous


# spot requests ----------------------------------------------------------------------------------------------------


def _spot_request(aws: Ec2, response: Any, instance: Any) -> dict[str, Any]:
    number = f"sir-{random.getrandbits(32):08x}"
    options = "InstanceMarketOptions.SpotOptions"
    kind = response._get_param(f"{options}.SpotInstanceType") or "one-time"
    behaviour = response._get_param(f"{options}.InstanceInterruptionBehavior") or "terminate"
    if kind == "one-time" and behaviour != "terminate":
        raise _refused("InvalidParameterCombination", "one-time requests end their instances when interrupted")
    instance.spot_instance_request_id = number
    request = {
        "SpotInstanceRequestId": number,
        "InstanceId": instance.id,
        "Type": kind,
        "State": "active",
        "Status": {"Code": "fulfilled", "Message": "fulfilled"},
        "InstanceInterruptionBehavior": behaviour,
        "SpotPrice": response._get_param(f"{options}.MaxPrice"),
        "Tags": _tag_set(_tags_of(response, "spot-instances-request")),
        "CreateTime": instance.launch_time,
        "region": response.region,
    }
    aws.requests[number] = request
    return request


def spot_list(aws: Ec2, response: Any) -> Any:
    """Requests that RunInstances made."""
    filters = response._filters_from_querystring()
    found = []
    for one in aws.requests.values():
        tags = {tag["Key"]: tag["Value"] for tag in one["Tags"]}
        if one["region"] == response.region and _matches(tags, {"state": one["State"], "type": one["Type"]}, filters):
            found.append({name: value for name, value in one.items() if name != "region"})
    return _result({"SpotInstanceRequests": found})


def spot_cancel(aws: Ec2, response: Any) -> Any:
    """Ends requests, not their instances."""
    response.error_on_dryrun()
    names = response._get_param("SpotInstanceRequestIds", [])
    for name in names:
        if name not in aws.requests:
            raise _refused(
                "InvalidSpotInstanceRequestID.NotFound", f"The spot instance request ID '{name}' does not exist"
            )
        aws.requests[name]["State"] = "cancelled"
    return _result(
        {"CancelledSpotInstanceRequests": [{"SpotInstanceRequestId": one, "State": "cancelled"} for one in names]}
    )


def spot_prices(aws: Ec2, response: Any) -> Any:
    """A share of the list price in every zone, now."""
    zones = response.ec2_backend.describe_availability_zones()
    history = [
        {
            "InstanceType": kind,
            "ProductDescription": "Linux/UNIX",
            "SpotPrice": f"{usd * aws.spot_share:.6f}",
            "AvailabilityZone": zone.name,
            "Timestamp": "2026-11-20T10:00:00Z",
        }
        for kind, usd, *_ in aws.prices
        for zone in zones
    ]
    return _result({"SpotPriceHistory": history})


# groups, networks, reservations -----------------------------------------------------------------------------------


def deletes_unused(before: Callable[..., Any]) -> Callable[..., Any]:
    """A security group can't be deleted while an interface has it."""

    def delete(backend: Any, name: str | None = None, group_id: str | None = None) -> Any:
        for nic in backend.enis.values():
            if any(group.id == group_id for group in nic._group_set):
                raise _refused("DependencyViolation", f"resource {group_id} has a dependent object")
        return before(backend, name, group_id)

    return delete


def describe_vpcs(aws: Ec2, response: Any, before: Callable[[Any], Any]) -> Any:
    """Regions without a default network."""
    if response.region in aws.without_default_vpc and "is-default" in response._filters_from_querystring():
        return _result({"Vpcs": []})
    return before(response)


def describe_routes(aws: Ec2, response: Any, before: Callable[[Any], Any]) -> Any:
    """A default network leads to the internet."""
    with aws.lock:
        backend = response.ec2_backend
        default = backend.get_default_vpc()
        for table in backend.route_tables.values():
            out = any(getattr(route, "gateway", None) is not None for route in table.routes)
            if default is not None and table.vpc_id == default.id and table.main_association_id and not out:
                gateway = backend.create_internet_gateway()
                backend.attach_internet_gateway(gateway.id, default.id)
                backend.create_route(table.id, "0.0.0.0/0", gateway_id=gateway.id)
        return before(response)


def group_create(aws: Ec2, response: Any) -> Any:
    """CreatePlacementGroup."""
    response.error_on_dryrun()
    name, key = response._get_param("GroupName"), (response.region, response._get_param("GroupName"))
    if key in aws.placement_groups:
        raise _refused("InvalidPlacementGroup.Duplicate", f"The placement group '{name}' already exists")
    tags = _tags_of(response, "placement-group")
    made = {
        "GroupName": name,
        "GroupId": f"pg-{random.getrandbits(64):016x}",
        "State": "available",
        "Strategy": response._get_param("Strategy"),
        "Tags": _tag_set(tags),
    }
    aws.placement_groups[key] = made
    return _result({"PlacementGroup": made})


def group_list(aws: Ec2, response: Any) -> Any:
    """DescribePlacementGroups."""
    filters = response._filters_from_querystring()
    found = [
        one
        for (region, _), one in aws.placement_groups.items()
        if region == response.region and _matches({tag["Key"]: tag["Value"] for tag in one["Tags"]}, {}, filters)
    ]
    return _result({"PlacementGroups": found})


def group_delete(aws: Ec2, response: Any) -> Any:
    """DeletePlacementGroup."""
    response.error_on_dryrun()
    name = response._get_param("GroupName")
    if (response.region, name) not in aws.placement_groups:
        raise _refused("InvalidPlacementGroup.Unknown", f"The placement group '{name}' is unknown")
    users = [life for life in aws.lives.values() if life.instance.placement.group_name == name]
    if any(life.state != "terminated" for life in users):
        raise _refused("InvalidPlacementGroup.InUse", f"The placement group '{name}' is in use")
    del aws.placement_groups[response.region, name]
    return _result({})


def reservation_list(aws: Ec2, response: Any) -> Any:
    """DescribeCapacityReservations."""
    filters = response._filters_from_querystring()
    found = [
        {name: value for name, value in one.items() if name != "region"}
        for one in aws.reservations.values()
        if one["region"] == response.region
        and _matches({}, {"instance-type": one["InstanceType"], "state": one["State"]}, filters)
    ]
    return _result({"CapacityReservations": found})
