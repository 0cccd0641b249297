"""RunPod: identity, catalog, pods.

The REST API (version 2) does all but bids and account figures, which GraphQL alone knows. There are neither tags nor
idempotency tokens: a pod is ours by its name and its environment, where it also carries the token of its request.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from styx.plugin import (
    BalanceError,
    CapacityError,
    CatalogRow,
    CloudError,
    Context,
    DiskPrice,
    Driver,
    DriverConfig,
    DriverError,
    EndsItself,
    FeatureSet,
    HasZones,
    Identity,
    Limits,
    Market,
    Node,
    NodeRequest,
    Place,
    ReportsQuota,
    Scope,
    SelfEnd,
    Stoppable,
    UnsupportedError,
)
from styx.rest import expecting, still_to_come, with_those_to_come
from styx_runpod import pods, prices
from styx_runpod.access import Access
from styx_runpod.errors import ABSENT, CONFLICT

SNAPSHOT: Final = Path(__file__).with_name("snapshot.csv")
SELF_END: Final = Path(__file__).with_name("onnode") / "selfend.py"
GPU_IMAGE: Final = "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404"
GPU_IMAGE_CUDA: Final = "12.8"
DISK_USD: Final = 0.10
VOLUME_USD: Final = 0.10
"""For a GB and a month; a volume costs twice as much while a pod is stopped, and then only it is charged."""
DISKS_SOURCE: Final = "https://docs.runpod.io/pods/storage"
DISKS_AS_OF: Final = date(2026, 11, 28)
CPU_IMAGE: Final = "runpod/base:1.0.2-ubuntu2204"


class RunPodConfig(DriverConfig):
    """Settings under `clouds.runpod`; none is needed."""

    endpoint: str = "https://api.runpod.io/v2"
    """Address of the REST API, version 2."""
    graphql_endpoint: str = "https://api.runpod.io/graphql"
    """Address of the GraphQL API, which alone knows bids and the account's id. Pods end themselves through it too."""
    keep_home: bool = True
    """Whether the home folder of on-demand GPU pods lies on a volume of the host, so that it outlives a stop."""
    port_protocol: Literal["http", "tcp"] = "http"
    """How a task's ports are opened: behind RunPod's HTTPS proxy, or at a port of the host that RunPod chooses."""
    registry: str | None = None
    """Id of a registry credential of your account, for images that are not public. Not for bids."""


class RunPod(Driver[RunPodConfig], Stoppable, EndsItself, HasZones, ReportsQuota):
    """Containers with GPUs in the Secure Cloud: the docker image is the machine. Ports are fixed when it is made."""

    name = "runpod"
    display_name = "RunPod"
    config_type = RunPodConfig
    features = FeatureSet(
        stop=True,
        spot=True,
        multi_node=False,
        private_network=False,
        ports="at_create",
        user_data=True,
        container="node",
    )
    limits = Limits(max_ports=10, max_nodes=1, min_poll_s=3.0, user_data_bytes=8192, listing_lag_s=3.0)

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        super().__init__(context)
        self._one_create = threading.Lock()
        self._made: dict[str, dict[int, Node]] = {}
        self._refs: dict[tuple[str, str, Market], str | None] = {}

    # identity and catalog ----------------------------------------------------------------------------------------

    def check(self) -> Identity:
        """The account behind the key, and the countries with a data center; none is usable without money."""
        names = sorted({prices.country(center) for center in self._centers()})
        myself = self._access.query("query StyxAccount { myself { id email clientBalance } }")
        with expecting(self.display_name, "the account"):
            account, user = str(myself["myself"]["id"]), myself["myself"].get("email")
            balance = myself["myself"].get("clientBalance")
        problem = None
        if balance is not None and balance <= 0:
            problem = BalanceError(f"the account's balance is ${balance:.2f}", hint="add credit in RunPod's console")
        places = {Place(cloud=self.name, account=account, region=name): problem for name in names}
        return Identity(account=account, user=user, places=places)

    def disk_price(
        self,
        place: Place,  # noqa: ARG002 - one price everywhere
        offer: CatalogRow | None,
        gib: float | None,
        tier: str | None,  # noqa: ARG002 - one kind
    ) -> DiskPrice | None:
        """RunPod's list price: of the container's disk and, where the home outlives a stop, of a volume as large."""
        size = pods.disk_gb(gib)
        kept = VOLUME_USD * size if offer is not None and pods.keeps_home(offer, self.config.keep_home) else 0.0
        return DiskPrice(
            usd=DISK_USD * size + kept, usd_stopped=2 * kept, gib=size, as_of=DISKS_AS_OF, source=DISKS_SOURCE
        )

    def zone_named(self, place: Place, name: str, *, ask: bool) -> str:
        """A data center of the country."""
        if prices.country(name) != place.region:
            raise UnsupportedError(
                f"RunPod has no data center {name} in {place.region}: they have names like US-TX-3, EU-RO-1, CA-MTL-1"
            )
        there = self._centers(place.region) if ask else [name]
        if name not in there:
            raise UnsupportedError(f"RunPod has no data center {name} in {place.region} but {', '.join(there)}")
        return name

    def snapshot(self) -> Path:
        """The rows shipped in the wheel."""
        return SNAPSHOT

    def fetch(self) -> Iterable[CatalogRow]:
        """GPUs and processors of the Secure Cloud at their present prices and bids."""
        stock = {"include": "AVAILABILITY", "product": "POD"}
        gpus, cpus = self._access.rest.get("catalog/gpus", stock), self._access.rest.get("catalog/cpus", stock)
        hosts = self._access.query(prices.HOSTS_QUERY)
        asked = prices.Asked(
            now=datetime.fromtimestamp(self.context.clock(), UTC),
            source=self._access.rest.url("catalog"),
            on_demand=self.features.model_copy(update={"spot": False}),
            bid=self.features.model_copy(update={"stop": False}),
            without_gpu=self.features.model_copy(update={"spot": False, "stop": False}),
        )
        with expecting(self.display_name, "its catalog"):
            shares = {each["id"]: each["lowestPrice"] or {} for each in hosts["gpuTypes"]}
            sold = [*gpus["gpus"], *cpus["cpus"]]
            every = {prices.country(center["id"]) for each in sold for center in each.get("dataCenters") or ()}
            return [
                *prices.gpu_rows(gpus["gpus"], shares, every, asked),
                *prices.cpu_rows(cpus["cpus"], every, asked),
            ]

    def quota(self, place: Place, row: CatalogRow) -> float | None:  # noqa: ARG002 - the same everywhere
        """How many more of a row fit under the account's limit of spending per hour."""
        myself = self._access.query("query StyxSpend { myself { clientBalance spendLimit currentSpendPerHr } }")
        with expecting(self.display_name, "the account"):
            account = myself["myself"]
            limit, spent = account.get("spendLimit"), account.get("currentSpendPerHr") or 0.0
            if (account.get("clientBalance") or 0.0) <= 0:
                return 0.0
            return None if not limit or not row.usd_per_hour else float(max(0.0, limit - spent) // row.usd_per_hour)

    # pods --------------------------------------------------------------------------------------------------------

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """Rent what is missing, at the market of the offer."""
        with self._one_create:
            request = self._named(request)
            made = self._made.setdefault(request.token, {})
            seen = {one.rank: one for one in self._listed(request.place, request.cluster) if one.token == request.token}
            nodes = {
                rank: still_to_come(one, self.display_name, self.context.clock()) for rank, one in made.items()
            } | seen
            try:
                for rank in range(request.count):
                    if rank not in nodes:
                        nodes[rank] = made[rank] = self._rent(request, rank)
            except CloudError as error:
                error.created = tuple(nodes.values())
                raise
        return [nodes[rank] for rank in sorted(nodes)]

    def _named(self, request: NodeRequest) -> NodeRequest:
        """The request with RunPod's own name of the type, which rows of the shipped list do not have."""
        offer = request.offer
        if offer.ref:
            return request
        key = (offer.instance_type, offer.region, offer.market)
        if key not in self._refs:
            self._refs.update({(row.instance_type, row.region, row.market): row.ref for row in self.fetch()})
        if self._refs.get(key) is None:
            raise CapacityError(f"RunPod lists no {offer.instance_type} in {offer.region} now", scope=Scope.OFFER)
        return request.model_copy(update={"offer": offer.model_copy(update={"ref": self._refs[key]})})

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """Ours in the place, by name and environment; one listing answers for all."""
        found = self._listed(place, cluster)
        return with_those_to_come(found, known, place, name=self.display_name, now=self.context.clock())

    def terminate(self, nodes: Sequence[Node]) -> None:
        """Delete the pods with their disks. Network volumes are only detached."""
        for one in nodes:
            try:
                self._access.rest.delete(f"pods/{one.id}")
            except CloudError as error:
                if error.vendor.code != ABSENT:
                    raise

    def stop(self, nodes: Sequence[Node]) -> None:
        """Stop the pods: the GPU is given back, and the home folder stays where it was."""
        for one in nodes:
            if not one.data.get("kept"):
                raise UnsupportedError(
                    f"the pod {one.id} has no volume, so that a stop would lose its home folder",
                    hint="only on-demand GPU pods made with `keep_home` can be stopped; use `styx down`",
                )
        for one in nodes:
            self._act(one, "stop")

    def start(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Start the pods on the hosts that they are tied to, which may have no GPU left by now.

        Not those by bid: what a start would cost them is nowhere said, and their disk is lost.
        """
        for one in nodes:
            if not one.data.get("kept"):
                raise UnsupportedError(
                    f"the pod {one.id} has no volume: it lost its disk when it was stopped, and is not started again",
                    hint="end it with `styx down`, and launch again",
                )
        for one in nodes:
            self._act(one, "start")
        wanted = {one.id for one in nodes}
        places = {(one.place, one.cluster) for one in nodes}
        started = [one for where in places for one in self._listed(*where) if one.id in wanted]
        if len(started) != len(wanted):
            gone = ", ".join(sorted(wanted - {one.id for one in started}))
            raise DriverError(f"RunPod does not list the pods {gone} any more")
        return started

    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:
        """A call of the pod's own, with the key that RunPod gives each pod for itself. No key of ours is on it."""
        if action == "stop" and not node.data.get("kept"):
            return SelfEnd(kind="none")
        mutation = "podStop" if action == "stop" else "podTerminate"
        argv = ("python3", "-c", SELF_END.read_text(encoding="utf-8"), self.config.graphql_endpoint, mutation)
        return SelfEnd(kind="command", argv=argv, stops_billing=True)

    # workings ----------------------------------------------------------------------------------------------------

    @cached_property
    def _access(self) -> Access:
        return Access(self.context, self.config.endpoint, self.config.graphql_endpoint)

    def _centers(self, country: str | None = None) -> list[str]:
        """Data centers, of all countries or of one."""
        reply = self._access.rest.get("catalog/datacenters")
        with expecting(self.display_name, "data centers"):
            found = [str(each["id"]) for each in reply["dataCenters"]]
        return [one for one in found if country in (None, prices.country(one))]

    def _listed(self, place: Place, cluster: str | None) -> list[Node]:
        reply = self._access.rest.get("pods")
        with expecting(self.display_name, "pods"):
            ours = [(pod, pods.cluster_of(pod, self.context.store)) for pod in reply["pods"]]
            return [
                pods.node(pod, *whose, place)
                for pod, whose in ours
                if whose is not None and cluster in (None, whose[0]) and pods.is_in(pod, place)
            ]

    def _rent(self, request: NodeRequest, rank: int) -> Node:
        place, settings = request.place, self.config
        default = GPU_IMAGE if request.offer.accelerator_count > 0 else CPU_IMAGE
        if request.image is None and request.offer.accelerator_vendor == "amd":
            raise UnsupportedError(
                f"the usual image drives no GPU of AMD, such as {request.offer.accelerator_name}",
                hint="name one for ROCm in the task, such as `image_id: docker:rocm/pytorch`",
                scope=Scope.OFFER,
            )
        image = request.image.ref if request.image is not None else default
        pod = pods.spec(request, rank, image=image, protocol=settings.port_protocol, keep_home=settings.keep_home)
        if request.offer.market is Market.BID:
            return self._bid(request, pod, rank)
        centers = [place.zone] if place.zone else self._centers(place.region)
        least_cuda = GPU_IMAGE_CUDA if request.image is None else None
        body = pods.rest_body(pod, centers, least_cuda=least_cuda, registry=settings.registry)
        reply = self._access.creates.post("pods", body)
        with expecting(self.display_name, "the new pod"):
            return pods.node(reply, request.cluster, rank, place)

    def _bid(self, request: NodeRequest, pod: pods.Spec, rank: int) -> Node:
        usd = request.bid_usd_per_hour or request.offer.usd_per_hour
        if usd is None:
            raise UnsupportedError("a bid needs a price, and neither the task nor the catalog names one")
        if self.config.registry is not None:
            raise UnsupportedError("RunPod takes no registry credential with a bid", hint="name a public image")
        data = self._access.rent(pods.BID, {"input": pods.bid_input(pod, request.place, usd)})
        with expecting(self.display_name, "the bid"):
            return pods.fresh_node(request, rank, str(data["podRentInterruptable"]["id"]), self.context.clock())

    def _act(self, node: Node, action: str) -> None:
        """A transition of a pod; RunPod's "conflict" says that it is there, or on its way, already."""
        try:
            self._access.rest.post(f"pods/{node.id}/action", {"action": action}, safe=True)
        except CloudError as error:
            if error.vendor.code != CONFLICT:
                raise
