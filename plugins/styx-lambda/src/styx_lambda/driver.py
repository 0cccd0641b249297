"""Lambda Cloud: identity, catalog, machines.

Lambda has neither idempotency tokens nor stop and start. A machine is found again by its tags; a power-off on the
machine does not end its charge, so that nodes cannot end themselves unless their owner puts a key of the account there.
"""

from __future__ import annotations

import csv
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr

from styx.plugin import (
    CatalogRow,
    CloudError,
    Context,
    CredentialsError,
    Driver,
    DriverConfig,
    DriverError,
    EndsItself,
    FeatureSet,
    Identity,
    Leftover,
    Limits,
    Node,
    NodeRequest,
    NodeState,
    OpensPorts,
    Place,
    Scope,
    SelfEnd,
    TransientError,
    UnsupportedError,
)
from styx.rest import (
    Classify,
    RestApi,
    bearer,
    credential_file,
    expecting,
    still_to_come,
    with_those_to_come,
)
from styx_lambda import machines, prices
from styx_lambda.accounts import Accounts
from styx_lambda.errors import ABSENT, ERRORS, INVALID, LAUNCH_ERRORS, classify, classify_launch
from styx_lambda.pace import Pace, Read

VARIABLES: Final = ("LAMBDA_API_KEY", "LAMBDA_CLOUD_API_KEY")
SELF_END: Final = Path(__file__).with_name("onnode") / "selfend.py"
KEY_FILE: Final = Path(".lambda_cloud") / "lambda_keys"
SNAPSHOT: Final = Path(__file__).with_name("snapshot.csv")
NO_FIREWALL: Final = frozenset({"us-south-1"})
"""Regions without Lambda's firewall: every port is open there, and rulesets do not exist."""
ENDING: Final = frozenset({NodeState.STOPPING, NodeState.TERMINATED})
UNSEEN: Final = frozenset({NodeState.PENDING, NodeState.FAILED})
"""States of nodes that may exist although no listing shows them."""
HINT: Final = (
    "make a key at https://cloud.lambda.ai/api-keys, then set LAMBDA_API_KEY to it, or write the line "
    "'api_key = <key>' into ~/.lambda_cloud/lambda_keys"
)


class LambdaConfig(DriverConfig):
    """Settings under `clouds.lambda`; none is needed."""

    endpoint: str = "https://cloud.lambda.ai/api/v1"
    """Address of Lambda's API."""
    account: str | None = None
    """A name for the account. Without one of yours it is what Lambda's audit log says or, where that says nothing, made
    from the API key."""
    end_key_variable: str | None = None
    """Name of an environment variable that holds a second API key, which is put on machines so that they can end
    themselves when their lease runs out. Lambda's keys may do anything in the account, so by default there is none."""


class Lambda(Driver[LambdaConfig], OpensPorts, EndsItself):
    """Virtual machines with NVIDIA GPUs, by the hour, in regions without zones."""

    name = "lambda"
    display_name = "Lambda"
    config_type = LambdaConfig
    features = FeatureSet(ports="any_time", user_data=True, custom_image=True, container="docker", fuse=True)
    limits = Limits(name_length=64, user_data_bytes=1_000_000, max_ports=100, min_poll_s=5.0, listing_lag_s=3.0)

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        super().__init__(context)
        self._accounts = Accounts(context.home)
        self._pace = Pace(context.clock)
        self._one_create = threading.Lock()
        self._made: dict[str, dict[int, Node]] = {}

    # identity and catalog ----------------------------------------------------------------------------------------

    def account(self) -> str:
        """As the settings name it, else as Lambda's audit log tells, else as the key names it."""
        return self.config.account or self._accounts.of(self._key(), lambda: self._api.get("audit-events"))

    def former_accounts(self) -> Collection[str]:
        """What the key, and earlier keys of the same account, gave it for a name."""
        return self._accounts.others(self._key(), self.account())

    def account_hint(self, account: str) -> str | None:
        """The setting that names an account, for a key that was replaced before Lambda told whose it was."""
        return (
            f"if that is the same account with a new API key, say so: `clouds: {{lambda: {{account: {account}}}}}` in "
            f"the config, or `--config clouds.lambda.account={account}`"
        )

    def check(self) -> Identity:
        """The account behind the key, and Lambda's regions. One call, if the key's account is known."""
        account = self.account()
        reply = self._api.get("regions")
        with expecting(self.display_name, "regions"):
            names = sorted({*shipped_regions(), *(region["name"] for region in reply["data"])})
        return Identity(
            account=account, places={Place(cloud=self.name, account=account, region=name): None for name in names}
        )

    def disk_usd_per_gib_month(self, place: Place, tier: str | None) -> float | None:  # noqa: ARG002 - none to pay for
        """Nothing: disks come with the machines."""
        return 0.0

    def snapshot(self) -> Path:
        """The rows shipped in the wheel."""
        return SNAPSHOT

    def fetch(self) -> Iterable[CatalogRow]:
        """Every type at its present price, in every region that is known or that the list names."""
        api = self._api
        reply = api.get("instance-types")
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        with expecting(self.display_name, "instance-types"):
            return list(prices.rows(reply["data"], shipped_regions(), now=now, source=api.url("instance-types")))

    # machines ----------------------------------------------------------------------------------------------------

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """Launch what is missing, rank by rank, under an SSH key and a firewall ruleset of the cluster's own."""
        made = self._made.setdefault(request.token, {})
        with self._one_create, self._pace.turn(f"create {request.token}", self._ask) as read:
            seen = {
                one.rank: one
                for one in self._listed(read, request.place, request.cluster, ports=request.ports)
                if one.token == request.token
            }
            nodes = {
                rank: still_to_come(one, self.display_name, self.context.clock()) for rank, one in made.items()
            } | seen
            missing = [rank for rank in range(request.count) if rank not in nodes]
            if missing:
                try:
                    self._need_key(read, request)
                    ruleset = self._need_ruleset(read, request)
                    for rank in missing:
                        nodes[rank] = made[rank] = self._launch(request, rank, ruleset)
                except CloudError as error:
                    error.created = tuple(nodes.values())
                    if error.vendor.code == INVALID:  # which may be the region: Lambda says no more
                        error.scope = Scope.REGION
                    raise
        return [nodes[rank] for rank in sorted(nodes)]

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """Ours in the region, by their tags; one listing answers for all regions and clusters."""
        with self._pace.turn("nodes", self._ask) as read:
            found = self._listed(read, place, cluster)
        return with_those_to_come(found, known, place, name=self.display_name, now=self.context.clock())

    def terminate(self, nodes: Sequence[Node]) -> None:
        """End those that are listed, and try those that no listing shows: Lambda refuses a list with one unknown id."""
        verb = f"terminate {sorted(one.id for one in nodes)}"
        with self._pace.turn(verb, self._ask) as read:
            if not nodes:
                return
            with expecting(self.display_name, "instances"):
                states = {one["id"]: machines.STATES.get(one["status"]) for one in read("instances")}
            for ids in (
                [one.id for one in nodes if one.id in states and states[one.id] not in ENDING],
                *([one.id] for one in nodes if one.id not in states and one.state in UNSEEN),
            ):
                if ids:
                    self._end(ids)

    def release(self, place: Place, cluster: str) -> None:
        """Delete the cluster's SSH key and ruleset. Only those of ours: both are called as the cluster is."""
        if not machines.is_of(cluster, self.context.store):
            return
        with self._pace.turn(f"release {place} {cluster}", self._ask) as read:
            for path in ("ssh-keys", "firewall-rulesets"):
                with expecting(self.display_name, path):
                    ids = [one["id"] for one in read(path) if one["name"] == cluster and _is_in(one, place)]
                for one in ids:
                    with self._pace.changing(path):
                        self._delete(f"{path}/{one}")

    def leftovers(self, place: Place) -> Sequence[Leftover]:
        """Rulesets of ours without a machine. They cost nothing; the SSH key beside them goes with them."""
        with self._pace.turn("nodes", self._ask) as read, expecting(self.display_name, "rulesets"):
            return [
                Leftover(id=one["id"], kind="firewall ruleset", place=place, cluster=one["name"], usd_per_hour=0.0)
                for one in read("firewall-rulesets")
                if machines.is_of(one["name"], self.context.store) and _is_in(one, place) and not one["instance_ids"]
            ]

    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Add the ports to the rulesets of the nodes' clusters."""
        self._change_ports(nodes, lambda have: have | set(ports))

    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Take them out."""
        self._change_ports(nodes, lambda have: have - set(ports))

    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:
        """Nothing; or with `end_key_variable` a call of the machine's own, with the key in a file for root alone."""
        if action == "stop" or self.config.end_key_variable is None:
            return SelfEnd(kind="none")
        program = SELF_END.read_text(encoding="utf-8")
        told = (self.config.endpoint, machines.END_KEY_FILE, node.cluster)
        return SelfEnd(kind="command", argv=("sudo", "-n", "python3", "-c", program, *told), stops_billing=True)

    # workings ----------------------------------------------------------------------------------------------------

    @cached_property
    def _api(self) -> RestApi:
        return self._speaking(ERRORS, classify)

    @cached_property
    def _launches(self) -> RestApi:
        """For launches alone, which may have happened although they failed."""
        return self._speaking(LAUNCH_ERRORS, classify_launch)

    def _speaking(self, table: Mapping[str, type[CloudError]], classify: Classify) -> RestApi:
        return RestApi(
            self.context,
            name=self.display_name,
            endpoint=self.config.endpoint,
            headers=lambda: bearer(self._key())(),
            table=table,
            classify=classify,
            hint=HINT,
        )

    def _key(self) -> SecretStr:
        for name in VARIABLES:
            if value := self.context.secrets(name):
                return SecretStr(value.strip())
        text = credential_file(self.context.user_home / KEY_FILE, hint=HINT)
        found = re.search(r"^\s*api_key\s*=\s*(\S+)\s*$", text or "", re.MULTILINE)
        if found is None:
            where = f"~/{KEY_FILE} has no line 'api_key = <key>'" if text else f"there is no ~/{KEY_FILE}"
            raise CredentialsError(f"no API key of Lambda: {VARIABLES[0]} is not set, and {where}", hint=HINT)
        return SecretStr(found[1])

    def _end_key(self) -> SecretStr | None:
        """What machines get to end themselves with: never the key that we use, which could not be taken back alone."""
        name = self.config.end_key_variable
        if name is None:
            return None
        value = (self.context.secrets(name) or "").strip()
        if not value or value == self._key().get_secret_value():
            wrong = f"{name} is the same API key as the one that Styx uses" if value else f"{name} is not set"
            raise CredentialsError(
                f"no machine can be made that ends itself: {wrong}",
                hint="make a second key for the machines at https://cloud.lambda.ai/api-keys, one that can be revoked "
                f"alone, and set {name} to it; or unset clouds.lambda.end_key_variable",
            )
        return SecretStr(value)

    def _ask(self, path: str) -> Any:
        reply = self._api.get(path)
        with expecting(self.display_name, path):
            return reply["data"]

    def _listed(
        self, read: Read, place: Place, cluster: str | None, *, ports: Iterable[int] | None = None
    ) -> list[Node]:
        """Our nodes in a region, of one cluster or of all, with the ports that are open (or given)."""
        with expecting(self.display_name, "instances"):
            mine = machines.ours(read("instances"), self.context.store, place.region)
        mine = [one for one in mine if cluster in (None, machines.tags_of(one)["styx-cluster"])]
        opened: dict[str, Iterable[int]] = {}
        if mine and ports is None and place.region not in NO_FIREWALL:
            with expecting(self.display_name, "firewall-rulesets"):
                opened = {
                    one["name"]: machines.ports_of(one) for one in read("firewall-rulesets") if _is_in(one, place)
                }
        with expecting(self.display_name, "instances"):
            return [
                machines.node(one, place, opened.get(machines.tags_of(one)["styx-cluster"], ports or ()))
                for one in mine
            ]

    def _need_key(self, read: Read, request: NodeRequest) -> None:
        if request.ssh_public_key is None:
            raise UnsupportedError("Lambda makes no machine without an SSH key, and the request has none")
        with expecting(self.display_name, "ssh-keys"):
            if any(one["name"] == request.cluster for one in read("ssh-keys")):
                return
        with self._pace.changing("ssh-keys"):
            self._api.post("ssh-keys", {"name": request.cluster, "public_key": request.ssh_public_key}, safe=True)

    def _need_ruleset(self, read: Read, request: NodeRequest) -> str | None:
        """The id of the cluster's ruleset. It is attached to each machine, because Lambda takes none afterwards."""
        place = request.place
        if place.region in NO_FIREWALL:
            return None
        with expecting(self.display_name, "firewall-rulesets"):
            for one in read("firewall-rulesets"):
                if one["name"] == request.cluster and _is_in(one, place):
                    return str(one["id"])
            body = {"name": request.cluster, "region": place.region, "rules": machines.rules(request.ports)}
            with self._pace.changing("firewall-rulesets"):
                return str(self._api.post("firewall-rulesets", body, safe=True)["data"]["id"])

    def _launch(self, request: NodeRequest, rank: int, ruleset: str | None) -> Node:
        now = self.context.clock()
        body = machines.launch_body(request, rank, now=now, ruleset=ruleset, end_key=self._end_key())
        with self._pace.changing("instances"):
            reply = self._launches.post("instance-operations/launch", body)
        with expecting(self.display_name, "launch"):
            return machines.fresh_node(request, rank, reply["data"]["instance_ids"][0], now)

    def _end(self, ids: list[str]) -> None:
        try:
            with self._pace.changing("instances"):
                self._api.post("instance-operations/terminate", {"instance_ids": ids}, safe=True)
        except CloudError as error:
            if error.vendor.code != ABSENT:
                raise
            if len(ids) > 1:
                raise TransientError("one of the machines has gone meanwhile", vendor=error.vendor) from None

    def _delete(self, path: str) -> None:
        try:
            self._api.delete(path)
        except CloudError as error:
            if error.vendor.code != ABSENT:
                raise

    def _change_ports(self, nodes: Sequence[Node], change: Callable[[set[int]], set[int]]) -> None:
        for place, cluster in {(one.place, one.cluster) for one in nodes if one.place.region not in NO_FIREWALL}:
            with self._pace.turn(f"ports {place} {cluster}", self._ask) as read:
                with expecting(self.display_name, "firewall-rulesets"):
                    rulesets = [one for one in read("firewall-rulesets") if one["name"] == cluster]
                    rulesets = [one for one in rulesets if _is_in(one, place)]
                if not rulesets:
                    raise DriverError(f"the firewall ruleset {cluster} in {place} is gone, so its ports can't change")
                have = machines.ports_of(rulesets[0])
                wanted = change(have)
                if wanted != have:
                    path = f"firewall-rulesets/{rulesets[0]['id']}"
                    with self._pace.changing("firewall-rulesets"):
                        self._api.call("PATCH", path, body={"rules": machines.rules(wanted)}, safe=True)


def shipped_regions() -> frozenset[str]:
    """Regions of the shipped rows: Lambda's price list leaves out those without free machines."""
    with SNAPSHOT.open(encoding="utf-8", newline="") as file:
        body = (line for line in file if not line.startswith("#"))
        return frozenset(row["region"] for row in csv.DictReader(body))


def _is_in(thing: Mapping[str, Any], place: Place) -> bool:
    """Rulesets are of one region, SSH keys of the account."""
    return "region" not in thing or thing["region"]["name"] == place.region
