"""__CLASS__ for Styx.

This file works against the made-up vendor in `the tests`. To make it a real driver, replace from the top: the
two tables, the settings, the calls, and `_node`. The conformance tests say what is still wrong.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from styx.plugin import (
    AmbiguousError,
    BalanceError,
    CapacityError,
    CatalogRow,
    CloudError,
    Context,
    CredentialsError,
    Driver,
    DriverConfig,
    DriverError,
    Ended,
    FeatureSet,
    Identity,
    Limits,
    Node,
    NodeRequest,
    NodeState,
    Place,
    Problem,
    QuotaError,
    Ssh,
    TransientError,
    UnsupportedError,
    VendorDetail,
    Waiting,
)

STATES: dict[str, NodeState] = {
    "starting": NodeState.PENDING,
    "active": NodeState.RUNNING,
    "failed": NodeState.FAILED,
    "deleting": NodeState.TERMINATED,
}
"""The vendor's status, and ours."""

ERRORS: dict[str, type[CloudError]] = {
    "bad_request": UnsupportedError,
    "insufficient_credit": BalanceError,
    "internal": TransientError,
    "limit_reached": QuotaError,
    "out_of_stock": CapacityError,
    "rate_limited": TransientError,
    "unauthorized": CredentialsError,
}
"""The vendor's error code, and what it tells the engine. Any other code is a `DriverError`."""

HINT = "Set __ENV___API_KEY to a valid API key of __CLASS__."


class Config(DriverConfig):
    """Settings under `clouds.__NAME__`."""

    endpoint: str = "https://api.example.com/v1"
    """Address of the vendor's API."""


class __CLASS__(Driver[Config]):
    """Virtual machines reached over SSH. Add mixins (`Stoppable`, `OpensPorts`, ...) as the vendor allows."""

    name = "__NAME__"
    display_name = "__CLASS__"
    config_type = Config
    features = FeatureSet(container="docker")
    limits = Limits(min_poll_s=2.0)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._creating = threading.Lock()

    def check(self) -> Identity:
        """The account that the key opens, with its regions."""
        account = self._get("account")
        places = {Place(cloud=self.name, account=account["id"], region=one): None for one in account["regions"]}
        return Identity(account=account["id"], user=account["email"], places=places)

    def fetch(self) -> Iterable[CatalogRow]:
        """The vendor's price list. It counts in MiB and cents; rows count in GiB and dollars."""
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        for shape in self._get("types")["types"]:
            for region in shape["regions"]:
                yield CatalogRow(
                    cloud=self.name,
                    instance_type=shape["name"],
                    region=region,
                    vcpus=shape["vcpus"],
                    memory_gib=shape["memory_mib"] / 1024,
                    usd_per_hour=shape["cents_per_hour"] / 100,
                    as_of=now,
                    source=f"{self.config.endpoint}/types",
                )

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """One machine for each rank that has none yet.

        The vendor knows no idempotency tokens, so the token is a label, and what carries it is looked up first.
        """
        made: dict[int, Node] = {}
        with self._creating:
            listed = self._list(request.place, {"styx-cluster": request.cluster, "styx-token": request.token})
            made.update({node.rank: node for node in listed})
            for rank in range(request.count):
                if rank not in made:
                    try:
                        made[rank] = self._create_one(request, rank)
                    except CloudError as error:
                        error.created = tuple(made.values())
                        raise
        return [made[rank] for rank in sorted(made)]

    def nodes(
        self,
        place: Place,
        cluster: str | None,
        known: Sequence[Node] = (),  # noqa: ARG002 - this vendor lists a machine until it is deleted
    ) -> Sequence[Node]:
        """Machines with our store's label."""
        return list(self._list(place, {"styx-cluster": cluster} if cluster else {}))

    def terminate(self, nodes: Sequence[Node]) -> None:
        """Delete each machine; absent already is what we wanted."""
        for node in nodes:
            try:
                self._call("DELETE", f"machines/{node.id}")
            except DriverError as error:
                if error.vendor.code != "not_found":
                    raise

    # ----------------------------------------------------------------------------------------------- workings

    def _create_one(self, request: NodeRequest, rank: int) -> Node:
        labels = {
            **request.labels,
            "styx-store": request.store,
            "styx-cluster": request.cluster,
            "styx-token": request.token,
            "styx-rank": str(rank),
        }
        order = {
            "name": f"{request.cluster}-{rank}",
            "type": request.offer.instance_type,
            "region": request.place.region,
            "ssh_key": request.ssh_public_key,
            "labels": labels,
        }
        return self._node(self._call("POST", "machines", order), request.place)

    def _list(self, place: Place, labels: Mapping[str, str]) -> Iterator[Node]:
        """All pages of our machines in a place that carry `labels`."""
        wanted = {"styx-store": self.context.store, **labels}
        query = {"region": place.region, "labels": ",".join(f"{name}={value}" for name, value in wanted.items())}
        cursor = ""
        while True:
            page = self._get("machines", {**query, "cursor": cursor})
            yield from (self._node(machine, place) for machine in page["machines"])
            cursor = page["next"]
            if not cursor:
                return

    def _node(self, machine: Mapping[str, Any], place: Place) -> Node:
        """The vendor's machine in our words."""
        state, reason = STATES.get(machine["status"], NodeState.UNREACHABLE), machine.get("reason")
        problem = ended = waiting = None
        if state is NodeState.FAILED:
            kind, said = ERRORS.get(reason or "", DriverError).__name__, f"The machine failed: {reason}."
            problem = Problem.model_validate({"error": kind, "message": said, "code": reason})
        elif state is NodeState.TERMINATED:
            ended = Ended(cause="requested")
        elif state is NodeState.PENDING:
            waiting = Waiting(kind="booting", reason=machine["status"], patience_s=600)
        return Node(
            id=machine["id"],
            cluster=machine["labels"]["styx-cluster"],
            rank=int(machine["labels"]["styx-rank"]),
            place=place,
            state=state,
            token=machine["labels"].get("styx-token"),
            problem=problem,
            ended=ended,
            waiting=waiting,
            reach=Ssh(host=machine["ip"], user="root") if state is NodeState.RUNNING else None,
            public_ip=machine.get("ip"),
            instance_type=machine["type"],
            usd_per_hour=machine["cents_per_hour"] / 100,
            created_at=datetime.fromtimestamp(machine["created"], UTC),
        )

    @cached_property
    def _http(self) -> Any:
        """The HTTP client of the context, made on first use; it may be shared between threads."""
        if self.context.http is None:
            raise UnsupportedError("__CLASS__ needs an HTTP client, and the context has none.")
        return self.context.http()

    def _get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        return self._call("GET", path, query=query)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, query: Mapping[str, str] | None = None
    ) -> Any:
        """One API call: its JSON, or its error in our words. The key travels in a header, never in the URL."""
        import httpx

        key = self.context.secrets("__ENV___API_KEY")
        if not key:
            raise CredentialsError("__CLASS__ has no API key.", hint=HINT)
        url, headers = f"{self.config.endpoint}/{path}", {"Authorization": f"Bearer {key}"}
        try:
            reply = self._http.request(method, url, headers=headers, json=body, params=query)
        except httpx.ConnectError as error:
            raise TransientError(f"{self.config.endpoint} can't be reached: {error}.", retry_after_s=5) from None
        except httpx.TransportError as error:
            if method == "POST":  # sent, and perhaps carried out
                raise AmbiguousError(f"No reply from {self.config.endpoint}: {error}.", settle_s=10) from None
            raise TransientError(f"No reply from {self.config.endpoint}: {error}.", retry_after_s=2) from None
        if reply.status_code >= 400:
            raise _error(reply)
        return reply.json() if reply.content else None


def _error(reply: Any) -> CloudError:
    """The vendor's error as an instruction to the engine, with its own words kept."""
    try:
        code, said = str(reply.json()["error"]["code"]), str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        code, said = f"http_{reply.status_code}", reply.text[:200]
    kind = ERRORS.get(code, DriverError)
    vendor = VendorDetail(code=code, message=said, request_id=reply.headers.get("x-request-id"))
    message = f"__CLASS__ says {code}: {said}."
    if issubclass(kind, TransientError):
        return kind(message, retry_after_s=float(reply.headers.get("retry-after", 2)), vendor=vendor)
    return kind(message, vendor=vendor, hint=HINT if kind is CredentialsError else None)
