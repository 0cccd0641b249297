"""Makes and unmakes EC2 machines, on boto3. Every method is a step: nothing here waits, sleeps or tries again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, cast

from styx.plugin import (
    CapacityError,
    CatalogRow,
    CloudError,
    CredentialsError,
    Driver,
    EndsItself,
    HasZones,
    Leftover,
    Node,
    NodeRequest,
    NodeState,
    OpensPorts,
    Place,
    ReportsQuota,
    Scope,
    SelfEnd,
    Stoppable,
    TransientError,
    UnsupportedError,
    WarnsBeforeEnd,
    cloud_config,
    public_half,
)
from styx_aws import machines, network, probe, quotas, tags, zonenames
from styx_aws.config import AwsConfig
from styx_aws.errors import GONE
from styx_aws.images import Images, wanted
from styx_aws.session import Clients
from styx_aws.sigv4 import Keys

_IDS_OF_A_CALL: Final = 500
T = TypeVar("T")


class _Attempt:
    """What this process knows of one request that a listing may not show yet."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.lock = threading.Lock()
        self.made: dict[str, Mapping[str, Any]] = {}
        self.steps: dict[str, Any] = {}
        """What earlier calls found out or made, so that a repeat gets further than the call before it."""
        self.zone: str | None = None
        """Where the last launch went. Its reply may have been lost, so zones before it are not asked again."""

    def step(self, name: str, take: Callable[[], T]) -> T:
        """Take a step of the attempt, once."""
        if name not in self.steps:
            self.steps[name] = take()
        return cast("T", self.steps[name])


class Ec2Machines(Driver[AwsConfig], Stoppable, OpensPorts, ReportsQuota, WarnsBeforeEnd, EndsItself, HasZones):
    """The machines of the account behind the credentials; `check` and the catalog are added by `Aws`."""

    def _prepare(self, keys: Callable[[], Keys]) -> None:
        self._clients = Clients(self.context, self.config.profile, keys)
        self._images = Images(self._clients, self.context.clock)
        self._network = network.Network(self.config, self._clients)
        self._attempts: dict[str, _Attempt] = {}
        self._lock = threading.Lock()

    # make and unmake ---------------------------------------------------------------------------------------------

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """A group, then launches of up to `launch_size` machines, then addresses where they need fixed ones."""
        self._require_account(request.place)
        with self._lock:
            attempt = self._attempts.setdefault(request.token, _Attempt(request.cluster))
        with attempt.lock:
            found = self._of_request(request, attempt)
            missing = [
                ranks
                for ranks in machines.batches(request.count, self.config.launch_size)
                if not set(ranks) <= {machines.rank_of(one) for one in found.values()}
            ]
            if missing:
                try:
                    self._launch(request, attempt, missing, found)
                except CloudError as error:
                    if error.vendor.code in {"InvalidGroup.NotFound", "InvalidPlacementGroup.Unknown"}:
                        attempt.steps.clear()
                    refusal = network.named_by_user(error, self.config)
                    refusal.created = self._created(found, request.place)
                    raise refusal from None
            nodes = self._read(list(found.values()), request.place)
            self._give_addresses(request, nodes, found)
            return nodes

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """One paged listing by our tags, those that ended within the last hour included."""
        self._require_account(place)
        listed = self._instances(place.region, tags.filters(self.context.store, cluster))
        ours = [one for one in listed if tags.is_ours(one, self.context.store, cluster)]
        zone = place.zone and self._network.zones(place.region).get(place.zone, place.zone)
        found = [node for node in self._read(ours, place) if zone in (None, node.place.zone)]
        ids = {node.id for node in found}
        now, lag_s = self.context.clock(), self.limits.listing_lag_s
        lost = [node for node in known if node.id not in ids and cluster in (None, node.cluster)]
        lost = [node for node in lost if node.place.region == place.region]
        return [*found, *(machines.missing(node, now, lag_s) for node in lost)]

    def terminate(self, nodes: Sequence[Node]) -> None:
        """Persistent spot requests first, which would make the machines again."""
        for place, group in _by_place(nodes):
            persistent = [one for one in group if one.data.get("spot") == "persistent"]
            self._cancel(place, sorted({one.data["spot_request"] for one in persistent if "spot_request" in one.data}))
            self._change(place, group, "terminate_instances")

    def release(self, place: Place, cluster: str) -> None:
        """What the cluster had beside machines."""
        self._require_account(place)
        self._network.release(place.region, self._releasable(cluster))
        with self._lock:
            over = [token for token, one in self._attempts.items() if one.cluster == cluster]
            for token in over:
                del self._attempts[token]

    def leftovers(self, place: Place) -> Sequence[Leftover]:
        """Persistent spot requests, addresses, disks of no machine, groups."""
        self._require_account(place)
        found = network.things(self._clients, place.region, tags.filters(self.context.store))
        return [
            Leftover(
                id=one.id,
                kind=one.kind,
                place=place,
                cluster=one.tags.get(tags.CLUSTER),
                usd_per_hour=one.usd_per_hour,
                created_at=one.created_at,
            )
            for one in found
        ]

    # capabilities ------------------------------------------------------------------------------------------------

    def stop(self, nodes: Sequence[Node]) -> None:
        """Stop them, disks kept. AWS has no stop for machines of one-time spot requests."""
        if any(node.data.get("spot") == "one-time" for node in nodes):
            raise UnsupportedError(
                "AWS can't stop spot machines of one-time requests",
                hint="end them with `styx down`, or launch with clouds.aws.spot: persistent",
            )
        for place, group in _by_place(nodes):
            self._change(place, group, "stop_instances")

    def start(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Start them; ids stay. One that is still stopping is a `TransientError`."""
        started: list[Node] = []
        for place, group in _by_place(nodes):
            self._change(place, group, "start_instances", absent_is_fine=False)
            ids = [node.id for node in group]
            by_id = [{"Name": "instance-id", "Values": ids}]
            started += self._read(self._instances(place.region, by_id), place)
        return started

    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """In the group of the nodes' cluster."""
        for place, cluster in sorted({(node.place.region, node.cluster) for node in nodes}):
            self._network.open(place, self._group_tags(cluster), ports)

    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """In the group of the nodes' cluster."""
        for place, cluster in sorted({(node.place.region, node.cluster) for node in nodes}):
            self._network.close(place, self._group_tags(cluster), ports)

    def quota(self, place: Place, row: CatalogRow) -> float | None:
        """What Service Quotas allows of the machine's family in the region, less what runs there."""
        self._require_account(place)
        return quotas.machines_left(self._clients, place.region, row)

    def zone_named(self, place: Place, name: str, *, ask: bool) -> str:
        """The zone's id, which this account's name for it leads to."""
        zonenames.plausible(place.region, name)
        if not ask:
            return name
        self._require_account(place)
        return zonenames.known(place.region, name, self._network.zones(place.region))

    def notice_probe(self, node: Node) -> Sequence[str]:  # noqa: ARG002 - the same for all
        """Asks the machine's metadata for an interruption of its spot request, two minutes ahead at most."""
        return probe.COMMAND

    def prepare_self_action(self, nodes: Sequence[Node], action: Literal["stop", "down"]) -> None:
        """Set what AWS makes of a power-off from within: a machine has no other way to end, and no credentials."""
        wanted = "terminate" if action == "down" else "stop"
        for node in nodes:
            if node.data.get("spot") is not None:
                continue  # made so that they do what they can: one-time ones end, persistent ones stop
            self._clients.call(
                "ec2",
                node.place.region,
                "modify_instance_attribute",
                InstanceId=node.id,
                InstanceInitiatedShutdownBehavior={"Value": wanted},
            )

    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:  # noqa: ARG002 - prepared before
        """A power-off, which does what `prepare_self_action` was last told.

        It always ends spot machines of one-time requests, and always stops those of persistent ones, which AWS would
        make again.
        """
        return SelfEnd(kind="poweroff", stops_billing=True)

    # workings: create --------------------------------------------------------------------------------------------

    def _of_request(self, request: NodeRequest, attempt: _Attempt) -> dict[str, Mapping[str, Any]]:
        """Instances of this request by id: as listed, and as launched where the listing lags."""
        filters = tags.filters(request.store, request.cluster, request.token)
        listed = [one for one in self._instances(request.place.region, filters) if tags.carries(one, filters)]
        return {**attempt.made, **{str(one["InstanceId"]): one for one in listed}}

    def _launch(
        self,
        request: NodeRequest,
        attempt: _Attempt,
        missing: Sequence[range],
        found: dict[str, Mapping[str, Any]],
    ) -> None:
        """Ask for the missing ranks in the first zone that has them. All machines of a gang are in one zone."""
        zone = request.place.zone or request.offer.zone
        place = request.place.model_copy(update={"zone": zone})
        subnets = attempt.step("subnets", lambda: self._network.subnets(place, request.count, request.network))
        zones = {self._zone_of(one, request.place.region) for one in found.values()}
        if attempt.zone is not None and not zones:
            names = [one.zone_id for one in subnets]
            subnets = subnets[names.index(attempt.zone) :] if attempt.zone in names else subnets
        elif zones:
            subnets = [one for one in subnets if one.zone_id in zones] or subnets
        refused: list[CloudError] = []
        for subnet in subnets:
            attempt.zone = subnet.zone_id
            try:
                for ranks in missing:
                    self._run(request, attempt, subnet, ranks, found)
                return
            except CapacityError as error:
                if found:
                    raise
                refused.append(error)
        attempt.zone = None
        raise _nowhere(request, [subnet.zone_id for subnet in subnets], refused)

    def _run(
        self,
        request: NodeRequest,
        attempt: _Attempt,
        subnet: network.Subnet,
        ranks: range,
        found: dict[str, Mapping[str, Any]],
    ) -> None:
        """One launch."""
        region = request.place.region
        ami = self._images.find(region, wanted(request, self.config.image))
        fabric = request.network_tier == "best" and request.offer.network_tier == "best"
        named = self._group_tags(request.cluster)
        groups = attempt.step(
            f"groups of {subnet.vpc}", lambda: self._network.group(request, subnet.vpc, named, fabric=fabric)
        )
        group = self.config.placement_group
        if group is None and fabric and request.count > 1:
            group = attempt.step("placement group", lambda: self._network.placement_group(request, named))
        info = attempt.step("machine type", lambda: self._type_info(region, request)) if fabric else {}
        launch = machines.Launch(
            first=ranks.start,
            count=len(ranks),
            ami=ami,
            subnet=subnet,
            nics=network.interfaces(info, groups, fabric=fabric),
            user_data=cloud_config(request, limit_bytes=self.limits.user_data_bytes),
            host_key=public_half(request.host_key) if request.host_key else None,
            group=group,
            reservation=self._reservation(request, subnet, len(ranks)),
        )
        asked = machines.parameters(request, launch, self.config)
        reply = self._clients.call("ec2", region, "run_instances", **asked)
        for one in reply["Instances"]:
            attempt.made[str(one["InstanceId"])] = one
            found[str(one["InstanceId"])] = one

    def _type_info(self, region: str, request: NodeRequest) -> Mapping[str, Any]:
        reply = self._clients.call(
            "ec2", region, "describe_instance_types", InstanceTypes=[request.offer.instance_type]
        )
        return next(iter(reply.get("InstanceTypes") or ()), {})

    def _reservation(self, request: NodeRequest, subnet: network.Subnet, count: int) -> tuple[str, bool] | None:
        """The first reservation of the settings that fits, and whether it is a capacity block."""
        mine = set(self.config.capacity_reservations)
        if not mine or machines.is_spot(request):
            return None
        filters = [
            {"Name": "instance-type", "Values": [request.offer.instance_type]},
            {"Name": "state", "Values": ["active"]},
        ]
        found = self._clients.pages(
            "ec2",
            request.place.region,
            "describe_capacity_reservations",
            "CapacityReservations",
            Filters=filters,
        )
        for one in sorted(found, key=lambda each: str(each["CapacityReservationId"])):
            here = one.get("AvailabilityZoneId") == subnet.zone_id or one.get("AvailabilityZone") == subnet.zone
            if one["CapacityReservationId"] in mine and here and int(one.get("AvailableInstanceCount") or 0) >= count:
                return str(one["CapacityReservationId"]), one.get("ReservationType") == "capacity-block"
        return None

    def _give_addresses(
        self, request: NodeRequest, nodes: Sequence[Node], found: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Machines with several network cards get no public address at creation: give each a fixed one."""
        if self.config.private_ips:
            return
        for node in nodes:
            interface = network.first_interface(found[node.id])
            if interface is not None and node.public_ip is None and node.state is NodeState.RUNNING:
                named = tags.tag_list(
                    {**self._own(request.cluster), tags.RANK: str(node.rank), tags.TOKEN: request.token}
                )
                self._network.address(request.place.region, interface, named)

    # workings: reading -------------------------------------------------------------------------------------------

    def _instances(self, region: str, filters: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
        reservations = self._clients.pages("ec2", region, "describe_instances", "Reservations", Filters=filters)
        return [one for each in reservations for one in each["Instances"]]

    def _read(self, instances: Sequence[Mapping[str, Any]], place: Place) -> list[Node]:
        """Nodes in the order of their ranks."""
        if not instances:
            return []
        ports: dict[str, list[int]] = {}
        if not self.config.security_groups:
            groups = self._network.groups(place.region, tags.tag_list({tags.STORE: self.context.store}))
            ports = {str(one["GroupId"]): network.open_ports(one) for one in groups}
        shown = machines.Shown(place, self._network.zones(place.region), ports, self.config)
        return sorted((machines.node_of(one, shown) for one in instances), key=lambda node: (node.cluster, node.rank))

    def _created(self, found: Mapping[str, Mapping[str, Any]], place: Place) -> tuple[Node, ...]:
        """What exists in spite of an error; that one counts, whatever else goes wrong."""
        try:
            return tuple(self._read(list(found.values()), place))
        except CloudError:
            return ()

    def _zone_of(self, instance: Mapping[str, Any], region: str) -> str:
        name = str(instance.get("Placement", {}).get("AvailabilityZone") or "")
        return self._network.zones(region).get(name, name)

    def _require_account(self, place: Place) -> None:
        """A listing of another account would show none of our machines, and that must not read as if none were left."""
        account = self._clients.account(place.region)
        if account != place.account:
            raise CredentialsError(
                f"{place} belongs to account {place.account}, and the credentials are of account {account}",
                hint="use credentials of that account, for instance with clouds.aws.profile",
            )

    # workings: changing ------------------------------------------------------------------------------------------

    def _change(self, place: Place, nodes: Sequence[Node], action: str, *, absent_is_fine: bool = True) -> None:
        """One action on many machines. AWS refuses a whole call for one that it does not know."""
        self._require_account(place)
        ids = [node.id for node in nodes]
        for first in range(0, len(ids), _IDS_OF_A_CALL):
            some = ids[first : first + _IDS_OF_A_CALL]
            try:
                self._clients.call("ec2", place.region, action, InstanceIds=some)
            except CloudError as error:
                if error.vendor.code != "InvalidInstanceID.NotFound" or not absent_is_fine:
                    raise
                self._change_those_there(place, nodes, some, action)

    def _change_those_there(self, place: Place, nodes: Sequence[Node], ids: Sequence[str], action: str) -> None:
        listed = self._instances(place.region, [{"Name": "instance-id", "Values": list(ids)}])
        there = {str(one["InstanceId"]) for one in listed}
        now = self.context.clock()
        young = [
            node.id
            for node in nodes
            if node.id not in there
            and node.id in ids
            and node.created_at is not None
            and now - node.created_at.timestamp() < self.limits.listing_lag_s
        ]
        if there:
            self._clients.call("ec2", place.region, action, InstanceIds=sorted(there))
        if young:
            raise TransientError(f"AWS does not list {', '.join(young)} yet", retry_after_s=2.0)

    def _cancel(self, place: Place, requests: Sequence[str]) -> None:
        for one in requests:
            try:
                self._clients.call("ec2", place.region, "cancel_spot_instance_requests", SpotInstanceRequestIds=[one])
            except CloudError as error:
                if error.vendor.code not in GONE:
                    raise

    def _own(self, cluster: str) -> dict[str, str]:
        return {"Name": cluster, tags.CLUSTER: cluster, tags.STORE: self.context.store}

    def _group_tags(self, cluster: str) -> list[dict[str, str]]:
        return tags.tag_list(self._own(cluster))

    def _releasable(self, cluster: str) -> list[dict[str, Any]]:
        return tags.filters(self.context.store, cluster)


def _by_place(nodes: Sequence[Node]) -> Iterator[tuple[Place, list[Node]]]:
    """Nodes by account and region."""
    found: dict[Place, list[Node]] = {}
    for node in nodes:
        found.setdefault(node.place.model_copy(update={"zone": None}), []).append(node)
    yield from found.items()


def _nowhere(request: NodeRequest, zones: Sequence[str], refused: Sequence[CloudError]) -> CloudError:
    """One zone's refusal as it is; those of several as one for the region, with the last one's words."""
    last = refused[-1]
    if len(refused) == 1:
        return last
    return CapacityError(
        f"no zone of {request.place.region} has {request.count} x {request.offer.instance_type} "
        f"({', '.join(zones)}): {last.message}",
        scope=Scope.REGION,
        vendor=last.vendor,
        hint=last.hint,
    )
