"""Kubernetes as a cloud: contexts are regions, pods are nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

from styx.plugin import (
    CatalogRow,
    CloudError,
    CredentialsError,
    Driver,
    DriverError,
    Endpoint,
    EndsItself,
    FeatureSet,
    HasVolumes,
    Identity,
    Leftover,
    Limits,
    MakesTransport,
    Node,
    NodeRequest,
    OfferQuery,
    OpensPorts,
    Place,
    PluginReach,
    QuotesLive,
    SelfEnd,
    StyxError,
    TransientError,
)
from styx_k8s import observe, pods, shapes
from styx_k8s.api import Api, Contexts
from styx_k8s.config import K8sConfig
from styx_k8s.faults import AlreadyThere, NoConnection

if TYPE_CHECKING:
    from styx.plugin import Transport

T = TypeVar("T")

ACCOUNT: Final = "kubeconfig"
CHECK_S: Final = 20.0
"""For all contexts together; one that is late is reported and skipped."""


class Kubernetes(Driver[K8sConfig], OpensPorts, QuotesLive, HasVolumes, EndsItself, MakesTransport):
    """See the module."""

    name = "kubernetes"
    display_name = "Kubernetes"
    config_type = K8sConfig
    features = FeatureSet(idempotent_create=True, ports="any_time", container="node", volumes=True)
    limits: ClassVar[Limits] = Limits(name_length=63, user_data_bytes=0, max_nodes=1000, min_poll_s=1.0)

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._contexts = Contexts(context, self.config.kubeconfig, self.config.allowed_contexts)
        self._lock = threading.Lock()
        self._apis: dict[str, Api] = {}

    # who -------------------------------------------------------------------------------------------------------------
    def check(self) -> Identity:
        """One account for the kubeconfig; each context a place, with what is missing there."""
        named = self._contexts.named()
        problems = {
            Place(cloud=self.name, account=ACCOUNT, region=name): outcome
            for name, outcome in self._each(named, self._usable, CHECK_S).items()
        }
        refused = [problem for problem in problems.values() if isinstance(problem, CredentialsError)]
        if refused and all(problems.values()):
            raise refused[0]
        return Identity(account=ACCOUNT, places=problems)

    def _usable(self, context: str) -> None:
        api = self._api(context)
        api.call("GET", "/version")
        api.require_permissions()

    def _api(self, context: str) -> Api:
        with self._lock:
            if context not in self._apis:
                client, namespace = self._contexts.client(context)
                namespace = self.config.of(context).namespace or namespace
                self._apis[context] = Api(client, context, namespace, self.context.clock)
            return self._apis[context]

    def _each(self, names: Sequence[str], action: Callable[[str], T], deadline_s: float) -> dict[str, T | StyxError]:
        """The outcome for every context, asked at the same time; one that is late counts as unreachable."""
        pool = ThreadPoolExecutor(max(1, min(16, len(names))), "k8s-contexts")
        futures = {name: pool.submit(action, name) for name in names}
        in_time, _ = wait(futures.values(), deadline_s)
        pool.shutdown(wait=False, cancel_futures=True)
        found: dict[str, T | StyxError] = {}
        for name, future in futures.items():
            try:
                late = NoConnection(f"context {name} did not answer within {deadline_s:g} s")
                found[name] = future.result() if future in in_time else late
            except StyxError as error:
                found[name] = error
        return found

    # what ------------------------------------------------------------------------------------------------------------
    def fetch(self) -> Iterable[CatalogRow]:
        """Nothing to keep: what a cluster has room for changes by the minute. See `offers`."""
        return ()

    def offers(self, query: OfferQuery, deadline_s: float) -> Sequence[CatalogRow]:
        """What every context has room for now. A context that does not answer offers nothing."""
        if query.zone is not None:
            return ()
        names = [name for name in self._contexts.named() if query.region in (None, name)]
        outcomes = self._each(names, lambda name: self._offers_of(name, query), max(0.5, deadline_s - 1.0))
        failures = [outcome for outcome in outcomes.values() if isinstance(outcome, StyxError)]
        if failures and len(failures) == len(outcomes):
            raise failures[0]
        return [row for outcome in outcomes.values() if not isinstance(outcome, StyxError) for row in outcome]

    def _offers_of(self, context: str, query: OfferQuery) -> list[CatalogRow]:
        api, settings = self._api(context), self.config.of(context)
        nodes: list[dict[str, Any]] | None = None
        running: list[dict[str, Any]] = []
        with suppress(CredentialsError):  # without the nodes the scheduler decides; without the pods all counts as free
            nodes = api.items("/api/v1/nodes")
            running = api.items("/api/v1/pods", fieldSelector="status.phase!=Succeeded,status.phase!=Failed")
        found = shapes.machines(nodes, running, settings)
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        return list(shapes.rows(context, found, query, settings, self.features, now))

    # making ----------------------------------------------------------------------------------------------------------
    def create(self, request: NodeRequest) -> Sequence[Node]:
        """The anchor, then the pods that are missing. Names can't be taken twice, so a repeat makes nothing new."""
        api, settings = self._api(request.place.region), self.config.of(request.place.region)
        there = self._pods(api, request.cluster)
        for pod in there:
            if pod["metadata"]["labels"].get(pods.TOKEN) != request.token:
                raise TransientError(f"the pod {pod['metadata']['name']} of an earlier attempt is still there")
        ranks = {int(pod["metadata"]["labels"][pods.RANK]) for pod in there}
        if missing := [rank for rank in range(request.count) if rank not in ranks]:
            owner = self._anchor(api, request)
            for rank in missing:
                body = pods.pod(request, rank, settings, owner, self.context.clock())
                try:
                    there.append(api.call("POST", api.of("pods"), body=body))
                except AlreadyThere:
                    continue  # another thread was faster, or an earlier one is still ending: the next look tells
                except CloudError as error:
                    error.created = tuple(self._seen(api, request.place, there))
                    if not there:
                        with suppress(StyxError):  # else `release` does it
                            api.delete("services", request.cluster)
                    raise
            if request.ports:
                self._set_ports(api, request.cluster, owner, sorted(request.ports))
        return self._seen(api, request.place, there)

    def _anchor(self, api: Api, request: NodeRequest) -> Mapping[str, Any]:
        try:
            return api.call("POST", api.of("services"), body=pods.anchor(request))
        except AlreadyThere:
            found = api.call("GET", api.of("services", request.cluster))
        if found["metadata"].get("deletionTimestamp"):
            raise TransientError(f"an earlier {request.cluster} is still being deleted")
        return found

    def _selector(self, cluster: str | None) -> str:
        mine = f"{pods.STORE}={self.context.store},{pods.CLUSTER}"
        return f"{mine}={cluster}" if cluster else mine

    def _pods(self, api: Api, cluster: str | None) -> list[dict[str, Any]]:
        found = api.labelled("pods", self._selector(cluster))
        return [pod for pod in found if str(pod["metadata"]["labels"].get(pods.RANK, "")).isdigit()]

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """One listing for all clusters; of nodes that are gone the cluster's events tell why."""
        api = self._api(place.region)
        known = [node for node in known if node.place == place and cluster in (None, node.cluster)]
        for node in known:
            made, now = (node.data.get("server"), node.data.get("namespace")), (api.server, api.namespace)
            if node.data and made != now:
                raise DriverError(
                    f"the context {place.region} leads to namespace {now[1]} of {now[0]} now; "
                    f"{node.cluster} was made in namespace {made[1]} of {made[0]}",
                    hint="put the context, or `namespace` of the config, back; `styx down --purge` forgets the cluster",
                )
        listed = self._seen(api, place, self._pods(api, cluster))
        there = {node.id for node in listed}
        lost = [node for node in known if node.id not in there]
        told = self._events(api, [node.id for node in lost])
        machines: dict[str, dict[str, Any]] = {}
        with suppress(StyxError):  # many may not see them
            machines = {one["metadata"]["name"]: one for one in (api.items("/api/v1/nodes") if lost else ())}
        return [*listed, *(observe.gone(node, told.get(node.id, ()), machines) for node in lost)]

    def _seen(self, api: Api, place: Place, found: Sequence[Mapping[str, Any]]) -> list[Node]:
        pending = [pod["metadata"]["name"] for pod in found if (pod.get("status") or {}).get("phase") == "Pending"]
        events, endpoints = self._events(api, pending[:3]), self._endpoints(api) if found else {}
        settings, now = self.config.of(place.region), self.context.clock()
        seen = observe.Seen(place, settings, now, api.server, api.namespace, events, endpoints)
        return sorted((observe.node_of(pod, seen) for pod in found), key=lambda node: (node.cluster, node.rank))

    def _events(self, api: Api, names: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
        found: list[dict[str, Any]] = []
        with suppress(StyxError):  # they only explain
            for name in names:
                selector = f"involvedObject.kind=Pod,involvedObject.name={name}"
                found += api.items(api.of("events"), fieldSelector=selector)
        return observe.by_object(found)

    def terminate(self, nodes: Sequence[Node]) -> None:
        """Delete the pods."""
        for node in nodes:
            self._api(node.place.region).delete("pods", node.id, node.data.get("uid"))

    def release(self, place: Place, cluster: str) -> None:
        """Delete the anchor, and with it all that it owns; asks for patience until none of it is left."""
        api = self._api(place.region)
        for kind, meta in self._all_of(api, cluster):
            api.delete(kind, meta["name"], meta["uid"])
        if left := [meta["name"] for _, meta in self._all_of(api, cluster)]:
            raise TransientError(f"{', '.join(left)} in context {place.region} are still being deleted")

    def _all_of(self, api: Api, cluster: str) -> list[tuple[str, Mapping[str, Any]]]:
        kinds = ["services", "pods", *(["ingresses"] if self.config.of(api.context).ports == "ingress" else [])]
        return [(kind, found["metadata"]) for kind in kinds for found in api.labelled(kind, self._selector(cluster))]

    def leftovers(self, place: Place) -> Sequence[Leftover]:
        """Services of clusters whose pods are gone: a load balancer bills on."""
        api = self._api(place.region)
        running = {pod["metadata"]["labels"][pods.CLUSTER] for pod in self._pods(api, None)}
        services = api.labelled("services", self._selector(None))
        idle = [one for one in services if one["metadata"]["labels"][pods.CLUSTER] not in running]
        return [observe.leftover(one, "service", place) for one in idle]

    # ports -----------------------------------------------------------------------------------------------------------
    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Add them to the cluster's service."""
        self._change_ports(nodes, lambda have: sorted({*have, *ports}))

    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Take them from the cluster's service; without ports it goes."""
        self._change_ports(nodes, lambda have: sorted({*have} - {*ports}))

    def _change_ports(self, nodes: Sequence[Node], change: Callable[[Iterable[int]], list[int]]) -> None:
        for place, cluster in dict.fromkeys((node.place, node.cluster) for node in nodes):
            api = self._api(place.region)
            found = {one["metadata"]["name"]: one for one in api.labelled("services", self._selector(cluster))}
            opened = found.get(f"{cluster}-ports", {"spec": {}})["spec"].get("ports") or ()
            have = sorted(int(one["port"]) for one in opened)
            if cluster in found and (wanted := change(have)) != have:
                self._set_ports(api, cluster, found[cluster], wanted)

    def _set_ports(self, api: Api, cluster: str, owner: Mapping[str, Any], ports: list[int]) -> None:
        settings = self.config.of(api.context)
        objects = {"services": pods.ports_service(cluster, self.context.store, owner, ports, settings.ports)}
        if settings.ports == "ingress":
            objects["ingresses"] = pods.ingress(cluster, self.context.store, owner, ports, settings)
        for kind, body in objects.items():
            if not ports:
                api.delete(kind, f"{cluster}-ports")
                continue
            try:
                api.call("POST", api.of(kind), body=body)
            except AlreadyThere:
                api.call("PATCH", api.of(kind, f"{cluster}-ports"), body={"spec": body["spec"]})

    def _endpoints(self, api: Api) -> dict[str, dict[int, Endpoint]]:
        mode = self.config.of(api.context).ports
        services = api.labelled("services", self._selector(None))
        opened = {one["metadata"]["name"]: one for one in services if one["metadata"]["name"].endswith("-ports")}
        entries = api.labelled("ingresses", self._selector(None)) if mode == "ingress" and opened else []
        by_name = {one["metadata"]["name"]: one for one in entries}
        host = self._a_node(api) if mode == "nodeport" and opened else None
        return {
            one["metadata"]["labels"][pods.CLUSTER]: observe.endpoints_of(one, by_name.get(name), host)
            for name, one in opened.items()
        }

    def _a_node(self, api: Api) -> str | None:
        """An address at which node ports answer."""
        with suppress(StyxError):
            nodes = api.items("/api/v1/nodes")
            found = {one["type"]: one["address"] for node in nodes for one in node["status"].get("addresses") or ()}
            return found.get("ExternalIP") or found.get("InternalIP")
        return None

    # volumes ---------------------------------------------------------------------------------------------------------
    def volumes(self, place: Place) -> Sequence[Leftover]:
        """Persistent volume claims of this installation."""
        mine = f"{pods.STORE}={self.context.store},{pods.VOLUME_OF}"
        found = self._api(place.region).labelled("persistentvolumeclaims", mine)
        return [observe.leftover(one, "volume", place) for one in found if not one["metadata"].get("deletionTimestamp")]

    def create_volume(self, place: Place, name: str, size_gib: float, options: Mapping[str, str]) -> str:
        """A claim called `styx-<store>-<name>`. Options: `storage_class`, `access_mode`."""
        api, settings = self._api(place.region), self.config.of(place.region)
        known = {key: options[key] for key in ("storage_class", "access_mode") if options.get(key)}
        claim = f"styx-{self.context.store}-{name}".lower()
        body = pods.claim(claim, name, self.context.store, size_gib, settings.model_copy(update=known))
        with suppress(AlreadyThere):
            api.call("POST", api.of("persistentvolumeclaims"), body=body)
        return claim

    def delete_volume(self, place: Place, volume: str) -> None:
        """Delete the claim; what holds the data goes by the storage class's own rule."""
        self._api(place.region).delete("persistentvolumeclaims", volume)

    # on the node -----------------------------------------------------------------------------------------------------
    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:  # noqa: ARG002 - all pods are alike
        """A pod can only end: its first process is told to, and the pod is over. What was on it is gone."""
        if action == "stop":
            return SelfEnd(kind="none")
        return SelfEnd(kind="command", argv=pods.END, stops_billing=True)

    def transport(self, reach: PluginReach) -> Transport:
        """Through the API server's exec."""
        from styx_k8s.transport import PodTransport

        return PodTransport(self._api(reach.target["context"]), reach.target["pod"])
