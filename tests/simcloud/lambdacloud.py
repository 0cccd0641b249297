"""Lambda Cloud: what its API document (1.10.0) says, for one account."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from styx.testing.emulator import Reply, Request
from styx.testing.openapi import published
from tests.simcloud.vendor import Fate, Vendor, without_host_key

if TYPE_CHECKING:
    from styx.testing.machines import Machine

KEY = "secret_styx_5f2b8c_canary.W9x"
BASE = "/api/v1/"
REGIONS = (
    "asia-northeast-1",
    "europe-central-1",
    "us-east-1",
    "us-midwest-1",
    "us-south-1",
    "us-south-2",
    "us-west-1",
    "us-west-2",
)

STATUS = {
    "firewall-rulesets/firewall-ruleset-in-use": 400,
    "global/account-inactive": 403,
    "global/conflict": 409,
    "global/forbidden": 403,
    "global/internal-error": 500,
    "global/invalid-address": 403,
    "global/invalid-api-key": 401,
    "global/object-does-not-exist": 404,
}
"""The statuses of Lambda's error codes; 400 where nothing is said."""

Answer = Callable[[Request], Reply]


def refusal(code: str, *, status: int | None = None, retry_after_s: float | None = None) -> Reply:
    """A refusal as Lambda words it."""
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    body = {"error": {"code": code, "message": f"Sorry: {code}.", "suggestion": "Try something else."}}
    return Reply(body, status or STATUS.get(code, 400), headers)


def shape(name: str, gpu: str, cents: int, gpus: int, *, vcpus: int = 30, memory: int = 200) -> dict[str, Any]:
    """A machine type."""
    return {
        "name": name,
        "description": f"{gpus}x {gpu}" if gpus else "4x CPU General",
        "gpu_description": gpu,
        "price_cents_per_hour": cents,
        "specs": {"vcpus": vcpus, "memory_gib": memory, "storage_gib": 512, "gpus": gpus},
    }


ACCOUNT = "fedcba9876543210fedcba9876543210"
EVENT = {
    "service_name": "cloud",
    "resource_name": "api_key",
    "action": "created",
    "catalog_version": "2025-09-06",
    "event_id": f"{7:032x}",
    "event_time": "2026-09-15T10:30:45.123456Z",
    "actor_lrn": f"lrn:cloud:identity:{1:032x}",
    "resource_lrns": [f"lrn:cloud:api_key:{2:032x}"],
    "resource_owner_lrn": f"lrn:cloud:account:{ACCOUNT}",
    "request_api_key_lrn": None,
    "additional_details": {},
}
"""The oldest event of the account's audit log."""
SHAPES = (
    shape("gpu_1x_a10", "A10 (24 GB PCIe)", 75, 1),
    shape("gpu_8x_h100_sxm5", "H100 (80 GB SXM5)", 3192, 8, vcpus=208, memory=1800),
    shape("cpu_4x_general", "N/A", 20, 0, vcpus=4, memory=16),
)


@dataclass
class Instance:
    """One machine as Lambda knows it."""

    id: str
    region: str
    shape: Mapping[str, Any]
    keys: list[str]
    name: str = ""
    tags: list[dict[str, str]] = field(default_factory=list)
    rulesets: list[dict[str, str]] = field(default_factory=list)
    user_data: str = ""
    born_at: float = 0.0
    ends_at: float | None = None
    status: str = ""
    fate: Fate = field(default_factory=Fate)
    host: Future[Machine] | None = None


class LambdaCloud(Vendor):
    """The account. `pace_s` and `launch_pace_s` make it hold to Lambda's rate limits, which it does not by default."""

    def __init__(
        self, *, pace_s: float = 0.0, launch_pace_s: float = 0.0, terminate_s: float = 0.0, **options: Any
    ) -> None:
        super().__init__(document=published("lambda.json"), **options)
        self.pace_s, self.launch_pace_s, self.terminate_s = pace_s, launch_pace_s, terminate_s
        self._last: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self._instances: dict[str, Instance] = {}
        self._keys: dict[str, dict[str, str]] = {}
        self._rulesets: dict[str, dict[str, Any]] = {}
        self.regions = REGIONS
        self.sold_out: set[tuple[str, str]] = set()
        self.keys = {KEY}
        """API keys of the account."""
        self.logged = True
        """Whether its audit log has an event."""

    @property
    def url(self) -> str:
        """What the driver's `endpoint` is set to."""
        return f"{self.server.url}{BASE.rstrip('/')}"

    # what is there -----------------------------------------------------------------------------------------------

    def instances(self) -> Sequence[Instance]:
        """Machines that exist: those of which nobody has seen the end."""
        with self.lock:
            return [one for one in self._instances.values() if self._status(one) not in ("terminated", "preempted")]

    def ssh_keys(self) -> Sequence[Mapping[str, str]]:
        """SSH keys of the account."""
        return list(self._keys.values())

    def rulesets(self) -> Sequence[Mapping[str, Any]]:
        """Firewall rulesets of the account."""
        return list(self._rulesets.values())

    def plant(self, region: str, *, name: str = "", tags: Mapping[str, str] | None = None) -> Instance:
        """A machine that no Styx made."""
        made = Instance(self._id(), region, SHAPES[0], ["theirs"], name=name, born_at=self.clock() - 9000)
        made.tags = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        self._instances[made.id] = made
        return made

    def preempt(self, instance_id: str) -> None:
        """Take a machine away without a word; the listing says so."""
        with self.lock:
            one = self._instances[instance_id]
            one.status = "preempted"
            if one.host is not None:
                one.host.result().kill()

    def vanish(self, instance_id: str) -> None:
        """As if somebody had ended it in the console."""
        with self.lock:
            self._end(self._instances.pop(instance_id))

    # answers -----------------------------------------------------------------------------------------------------

    def operation(self, request: Request) -> str:
        """`launch`, `terminate`, or method and collection, such as `GET instances`."""
        parts = request.path.removeprefix(BASE).split("/")
        return parts[1] if parts[0] == "instance-operations" else f"{request.method} {parts[0]}"

    def answer(self, request: Request, operation: str) -> Reply:
        if not self.alive or request.headers.get("authorization") not in {f"Bearer {key}" for key in self.keys}:
            return refusal("global/invalid-api-key")
        if (pause_s := self._too_fast(operation)) > 0:
            return refusal("global/too-many-requests", status=429, retry_after_s=pause_s)
        known: dict[str, Answer] = {
            "GET audit-events": lambda _: Reply({"data": [EVENT] if self.logged else [], "page_token": None}),
            "GET regions": lambda _: self._data([_region(name) for name in self.regions]),
            "GET instance-types": lambda _: self._data({each["name"]: self._sold(each) for each in SHAPES}),
            "GET instances": lambda _: self._data([self._shown(one) for one in self._listed()]),
            "launch": self._launch,
            "terminate": self._terminate,
            "GET ssh-keys": lambda _: self._data(list(self._keys.values())),
            "POST ssh-keys": self._add_key,
            "DELETE ssh-keys": lambda asked: self._remove(self._keys, asked),
            "GET firewall-rulesets": lambda _: self._data([self._ruleset(one) for one in self._rulesets.values()]),
            "POST firewall-rulesets": self._add_ruleset,
            "PATCH firewall-rulesets": self._change_ruleset,
            "DELETE firewall-rulesets": self._remove_ruleset,
        }
        return known[operation](request)

    def _too_fast(self, operation: str) -> float:
        """Seconds to wait, by the limits of one request in `pace_s` and one launch in `launch_pace_s`."""
        now, waits = self.clock(), [0.0]
        limits = {"any": self.pace_s} | ({"launch": self.launch_pace_s} if operation == "launch" else {})
        waits += [self._last[name] + limit - now for name, limit in limits.items() if name in self._last]
        if max(waits) <= 0:
            self._last.update(dict.fromkeys(limits, now))
        return max(waits)

    @staticmethod
    def _data(value: Any) -> Reply:
        return Reply({"data": value})

    def _id(self) -> str:
        return f"{next(self._numbers):032x}"

    def _sold(self, each: Mapping[str, Any]) -> dict[str, Any]:
        regions = [_region(name) for name in self.regions if (name, each["name"]) not in self.sold_out]
        return {"instance_type": each, "regions_with_capacity_available": regions}

    def _launch(self, request: Request) -> Reply:
        body = request.json()
        found = next((each for each in SHAPES if each["name"] == body["instance_type_name"]), None)
        if found is None or body["region_name"] not in self.regions or len(body["ssh_key_names"]) != 1:
            return refusal("global/invalid-parameters")
        wanted = {entry["id"] for entry in body.get("firewall_rulesets", ())}
        here = {one["id"] for one in self._rulesets.values() if one["region"]["name"] == body["region_name"]}
        if body["ssh_key_names"][0] not in {key["name"] for key in self._keys.values()} or not wanted <= here:
            return refusal("global/object-does-not-exist")
        if (body["region_name"], found["name"]) in self.sold_out:
            return refusal("instance-operations/launch/insufficient-capacity")
        one = Instance(self._id(), body["region_name"], found, body["ssh_key_names"], born_at=self.clock())
        one.name, one.tags = body.get("name", ""), body.get("tags", [])
        one.rulesets, one.user_data = body.get("firewall_rulesets", []), body.get("user_data", "")
        one.fate = self.fate()
        data = without_host_key(one.user_data) if one.fate.own_host_key else one.user_data
        keys = [key["public_key"] for key in self._keys.values() if key["name"] in one.keys]
        one.host = self.host(one.name, one.fate, user="ubuntu", user_data=data, authorized_keys=keys)
        self._instances[one.id] = one
        return self._data({"instance_ids": [one.id]})

    def _terminate(self, request: Request) -> Reply:
        ids = request.json()["instance_ids"]
        if any(one not in self._instances for one in ids):
            return refusal("global/object-does-not-exist")
        for one in (self._instances[name] for name in ids):
            if one.ends_at is None:
                one.ends_at = self.clock() + self.terminate_s
                self._end(one)
        return self._data({"terminated_instances": [self._shown(self._instances[name]) for name in ids]})

    @staticmethod
    def _end(one: Instance) -> None:
        if one.host is not None:
            one.host.result().remove()

    def _listed(self) -> list[Instance]:
        """Ended machines drop out of the list, preempted ones stay; new ones may be late."""
        old = self.clock() - self.listing_lag_s
        return [one for one in self._instances.values() if self._status(one) != "terminated" and one.born_at <= old]

    def _status(self, one: Instance) -> str:
        if one.status:
            return one.status
        if one.ends_at is not None:
            return "terminated" if self.clock() >= one.ends_at else "terminating"
        boot_s = self.boot_s if one.fate.boot_s is None else one.fate.boot_s
        if self.clock() < one.born_at + boot_s or (one.host is not None and not one.host.done()):
            return "booting"
        return "terminated" if one.fate.fails else "active"

    def _shown(self, one: Instance) -> dict[str, Any]:
        status = self._status(one)
        available = {"available": True}
        shown = {
            "id": one.id,
            "name": one.name,
            "status": status,
            "ssh_key_names": one.keys,
            "file_system_names": [],
            "region": _region(one.region),
            "instance_type": one.shape,
            "actions": dict.fromkeys(("migrate", "rebuild", "restart", "cold_reboot", "terminate"), available),
            "tags": one.tags,
            "firewall_rulesets": one.rulesets,
        }
        if status != "booting":
            address = one.host.result().host if one.host is not None else f"198.51.100.{int(one.id, 16) % 250 + 1}"
            shown |= {"ip": address, "private_ip": address if one.host else f"10.0.2.{int(one.id, 16) % 250 + 1}"}
        return shown

    def _add_key(self, request: Request) -> Reply:
        body = request.json()
        key = {"id": self._id(), "name": body["name"], "public_key": body["public_key"]}
        self._keys[key["id"]] = key
        return self._data(key)

    def _ruleset(self, one: Mapping[str, Any]) -> dict[str, Any]:
        users = [each.id for each in self.instances() if {"id": one["id"]} in each.rulesets]
        return {**one, "instance_ids": users}

    def _add_ruleset(self, request: Request) -> Reply:
        body = request.json()
        if body["region"] == "us-south-1":
            return refusal("global/invalid-parameters")
        made = {"id": self._id(), "name": body["name"], "region": _region(body["region"]), "rules": body["rules"]}
        made["created"] = datetime.fromtimestamp(self.clock(), UTC).isoformat()
        self._rulesets[made["id"]] = made
        return self._data(self._ruleset(made))

    def _change_ruleset(self, request: Request) -> Reply:
        one = self._rulesets.get(request.path.rpartition("/")[2])
        if one is None:
            return refusal("global/object-does-not-exist")
        one.update(request.json())
        return self._data(self._ruleset(one))

    def _remove_ruleset(self, request: Request) -> Reply:
        one = self._rulesets.get(request.path.rpartition("/")[2])
        if one is not None and self._ruleset(one)["instance_ids"]:
            return refusal("firewall-rulesets/firewall-ruleset-in-use")
        return self._remove(self._rulesets, request)

    def _remove(self, things: dict[str, Any], request: Request) -> Reply:
        if things.pop(request.path.rpartition("/")[2], None) is None:
            return refusal("global/object-does-not-exist")
        return self._data({})


def _region(name: str) -> dict[str, str]:
    return {"name": name, "description": f"Somewhere in {name}"}
