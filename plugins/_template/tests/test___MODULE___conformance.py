"""__CLASS__ does what Styx asks of every driver.

Replace `FakeApi` as you replace the vendor's calls in the driver.
"""

import itertools
import json
from collections.abc import Mapping

import httpx
import pytest

from styx.testing.clock import ManualClock
from styx.testing.conformance import STORE, DriverConformance, FaultKind, Harness, Truth
from styx.testing.contexts import make_context
from styx___MODULE__ import ERRORS, __CLASS__

KEY = "key-of-__NAME__-7731"


class FakeApi:
    """The vendor in a few lines: a function from request to reply, for `httpx.MockTransport`."""

    def __init__(self, clock, page_size):
        self.clock, self.page_size = clock, page_size
        self.machines, self.urls, self.numbers = {}, [], itertools.count(1)
        self.faults = []  # (method, machines to let pass first, code; None loses the reply)
        self.doom = None  # the next machine is accepted, and fails for this reason

    def __call__(self, request):
        self.urls.append(str(request.url))
        if request.headers["Authorization"] != f"Bearer {KEY}":
            return self.error("unauthorized", 401)
        lost = False
        if self.faults and self.faults[0][0] == (request.method, request.url.path.split("/")[2]):
            call, skip, code = self.faults.pop(0)
            if skip:
                self.faults.insert(0, (call, skip - 1, code))
            elif code:
                return self.error(code, 400)
            lost = not skip
        reply = getattr(self, request.method.lower())(request, *request.url.path.split("/")[2:])
        if lost:
            raise httpx.ReadTimeout("no reply", request=request)
        return reply

    def get(self, request, kind):
        if kind == "account":
            return httpx.Response(200, json={"id": "acct-1", "email": "me@example.com", "regions": ["north", "south"]})
        if kind == "types":
            shape = {"name": "m1", "vcpus": 2, "memory_mib": 4096, "cents_per_hour": 5, "regions": ["north", "south"]}
            return httpx.Response(200, json={"types": [shape]})
        query = request.url.params
        wanted = dict(pair.split("=", 1) for pair in query["labels"].split(","))
        hits = [one for one in self.machines.values() if one["region"] == query["region"]]
        hits = [self.shown(one) for one in hits if wanted.items() <= one["labels"].items()]
        start = int(query["cursor"] or 0)
        end = start + self.page_size
        return httpx.Response(200, json={"machines": hits[start:end], "next": str(end) if end < len(hits) else ""})

    def post(self, request, kind):
        return httpx.Response(201, json=self.shown(self.add(**json.loads(request.content))))

    def delete(self, request, kind, machine_id):
        if self.machines.pop(machine_id, None) is None:
            return self.error("not_found", 404)
        return httpx.Response(204)

    def add(self, name, type, region, ssh_key=None, labels=None):
        machine = {"id": f"m-{next(self.numbers)}", "name": name, "type": type, "region": region, "ssh_key": ssh_key}
        machine |= {"labels": labels or {}, "cents_per_hour": 5, "created": self.clock(), "reason": self.doom}
        self.machines[machine["id"]], self.doom = machine, None
        return machine

    def shown(self, machine):
        booted = self.clock() >= machine["created"] + 20
        status = ("failed" if machine["reason"] else "active") if booted else "starting"
        return machine | {"status": status, "ip": "192.0.2.1" if booted else None}

    def error(self, code, status):
        return httpx.Response(status, json={"error": {"code": code, "message": "no"}}, headers={"x-request-id": "r-1"})


class FakeApiHarness(Harness):
    credentials: Mapping[str, str] = {"__ENV___API_KEY": KEY}
    error_table = ERRORS
    page_size = 4

    def __init__(self, home):
        self.home, self.clock = home, ManualClock()
        self.api = FakeApi(self.clock, self.page_size)

    def driver(self, *, store=STORE, secrets=None):
        def http():
            return httpx.Client(transport=httpx.MockTransport(self.api))

        secrets = self.credentials if secrets is None else secrets
        config = __CLASS__.config_type()
        context = make_context(self.home, config=config, store=store, secrets=secrets, clock=self.clock, http=http)
        return __CLASS__(context)

    def machines(self):
        return [
            Truth(id=one["id"], ssh_keys=frozenset([one["ssh_key"]]), labels=one["labels"])
            for one in self.api.machines.values()
        ]

    def plant_foreign(self, place):
        near = {"styx-cluster": "styx-conform-else0101", "styx-rank": "0", "styx-store": f"{STORE}x"}
        plain = self.api.add("database", "m1", place.region)
        return [plain["id"], self.api.add("styx-conform-else0101-0", "m1", place.region, labels=near)["id"]]

    def fail_next(self, fault):
        create, listing = ("POST", "machines"), ("GET", "machines")
        match fault.kind:
            case FaultKind.REFUSED:
                self.api.faults.append((create, 0, fault.code))
            case FaultKind.PARTIAL:
                self.api.faults.append((create, fault.after, "out_of_stock"))
            case FaultKind.LOST_REPLY:
                self.api.faults.append((create, 0, None))
            case FaultKind.LISTING:
                self.api.faults.append((listing, 0, "internal"))
            case FaultKind.LATE:
                self.api.doom = "out_of_stock"

    def advance(self, seconds):
        self.clock.advance(seconds)

    def request_lines(self):
        return self.api.urls


class Test__CLASS__(DriverConformance):
    driver_type = __CLASS__

    @pytest.fixture
    def harness(self, tmp_path):
        return FakeApiHarness(tmp_path)
