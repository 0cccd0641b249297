"""Amazon EC2 on this machine: moto behind a door of ours, with real SSH hosts behind the instances.

    with Ec2(room=machines) as aws:
        ...  # AWS_ENDPOINT_URL=aws.url, keys aws.KEY_ID and aws.SECRET

moto knows AWS's wire format and most of EC2. Where it departs from what AWS documents, `ec2_mends` mends it. Here
is the rest of the world: time that passes between states, hosts that boot, faults that are scripted, and the truth for
tests to look at. One server at a time in a process; `reset` empties it, which is much faster than a new one.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import parse_qsl

from styx.testing.machines import Machine, Machines

ACCOUNT = "123456789012"
KEY_ID = "AKIASTYXCANARY000042"
SECRET = "styx-canary-secret/9d1e77+Qz3"
CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
IMAGES = {
    "/aws/service/canonical/": ("ubuntu-jammy-22.04-server", "ubuntu"),
    "/aws/service/deeplearning/": ("Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 22.04)", "ubuntu"),
    "/aws/service/neuron/": ("Deep Learning AMI Neuron (Ubuntu 22.04)", "ubuntu"),
    "/aws/service/ami-amazon-linux-latest/": ("al2023-ami-2023", "ec2-user"),
}
"""What the public parameters lead to: an image's name, and who logs in to it."""

PRICES: list[tuple[str, float, int, float, int]] = [
    ("m5.large", 0.096, 2, 8, 0),
    ("m6g.large", 0.077, 2, 8, 0),
    ("m5.2xlarge", 0.384, 8, 32, 0),
    ("g5.xlarge", 1.006, 4, 16, 1),
    ("p4d.24xlarge", 21.957642, 96, 1152, 8),
]
"""Machine type, dollars for an hour, vCPUs, GiB, GPUs. What the public price list has."""


@dataclass
class Fault:
    """A scripted failure of one action.

    Attributes:
        action: AWS's name of it.
        code: To refuse with; None performs the action, and another fault may meet it.
        status: Of HTTP.
        times: How often.
        skip: Calls to let through before.
        lost: The action is performed, and the connection ends without a reply.
        message: AWS's words.
        named: Only calls whose form holds this text.
        strike: Called as a call is met, before anything comes of it.
    """

    action: str
    code: str | None = None
    status: int = 400
    times: int = 1
    skip: int = 0
    lost: bool = False
    message: str = "scripted"
    named: str = ""
    strike: Callable[[], None] = field(default=lambda: None)


@dataclass
class Life:
    """One instance, beside what moto knows of it."""

    instance: Any
    region: str
    born: float
    user_data: str = ""
    login: str = "ubuntu"
    goal: str = "running"
    due: float = 0.0
    doom: str | None = None
    request: Any = None
    machine: Machine | None = None
    booting: threading.Thread | None = None
    reservation: str | None = None
    ended_at: float | None = None

    @property
    def state(self) -> str:
        return str(self.instance._state.name)


class Ec2:
    """The vendor. Times are in seconds of `clock`.

    Args:
        room: Where hosts are booted; None leaves instances without machines.
        clock: Unix seconds.
        boot_s: From RunInstances to running.
        stop_s: From StopInstances to stopped.
        terminate_s: From TerminateInstances to terminated.
        listing_lag_s: How long a new instance is missing from listings.
        page_size: Most reservations in one page of DescribeInstances.
    """

    def __init__(
        self,
        room: Machines | None = None,
        *,
        clock: Callable[[], float] = time.time,
        boot_s: float = 0.0,
        stop_s: float = 0.0,
        terminate_s: float = 0.0,
        listing_lag_s: float = 0.0,
        page_size: int = 1000,
    ) -> None:
        self.room, self.clock = room, clock
        self.boot_s, self.stop_s, self.terminate_s = boot_s, stop_s, terminate_s
        self.listing_lag_s, self.page_size = listing_lag_s, page_size
        self.lock = threading.RLock()
        self._stack = contextlib.ExitStack()
        self._clear()

    def _clear(self) -> None:
        self.prices = list(PRICES)
        self.spot_share = 0.3
        self.accepted = {KEY_ID}
        self.expired = False
        self.policy: dict[str, Any] | None = None
        self.may_simulate = True
        self.unknown_while_new = False
        self.weather: Callable[[str], Fault | None] | None = None
        self.lives: dict[str, Life] = {}
        self.tokens: dict[tuple[str, str], tuple[Any, Any]] = {}
        self.faults: list[Fault] = []
        self.lines: list[str] = []
        self.calls: list[str] = []
        self.closed: dict[str, str] = {}
        self.left: int | None = None
        self.doom: str | None = None
        self.quotas: dict[str, float] = {}
        self.placement_groups: dict[tuple[str, str], dict[str, Any]] = {}
        self.reservations: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, dict[str, Any]] = {}
        self.spot_settle_s = 0.0
        """How late the request of a stopped spot instance follows it; until then nothing starts the instance."""
        self.images: dict[tuple[str, str], str] = {}
        self.without_default_vpc: set[str] = set()
        self.ssh = True
        self.ssh_boot_s = 0.0
        self.other_host_key = False
        self.numbers = itertools.count(1)

    # the server --------------------------------------------------------------------------------------------------

    def __enter__(self) -> Ec2:
        from tests.simcloud import ec2_mends

        for name, value in {
            "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",
            "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION": "1",
            "AWS_ACCESS_KEY_ID": None,
        }.items():
            before = os.environ.get(name)
            self._stack.callback(_set, name, before)
            _set(name, value if value is not None else before)
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self._moto = DomainDispatcherApplication(create_backend_app)
        self._stack.enter_context(ec2_mends.patched(self))
        from moto.moto_server.werkzeug_app import MotoRequestHandler

        class Quiet(MotoRequestHandler):
            def log(self, type: str, message: str, *args: Any) -> None:
                """Say nothing."""

        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True, request_handler=Quiet)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        self._stack.callback(thread.join, 10)
        self._stack.callback(self._server.server_close)
        self._stack.callback(self._server.shutdown)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._moto_reset()

    def reset(self) -> None:
        """An empty account, as after entering; the settings of time and paging stay."""
        with self.lock:
            for life in self.lives.values():
                self._drop(life)
            self._clear()
            self._moto_reset()

    def _moto_reset(self) -> None:
        from moto.moto_api._internal.models import moto_api_backend

        moto_api_backend.reset()

    def _serve(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """One request: time passes, faults strike, moto answers."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"].startswith("/offers/"):
            return _reply(start, 200, price_list(self.prices).encode(), "prices")
        action, (region, service) = _action(environ, body), _scope(environ)
        with self.lock:
            self.lines.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}")
            self.calls.append(action)
            self.settle()
            refusal = self._credentials(environ, service)
            refusal = refusal or self._denied(environ, region, service, action, body)
            fault = self._fault(action, body.decode(errors="replace"))
        if refusal is not None:
            return _reply(start, 401 if refusal[0] == "AuthFailure" else 403, _error(service, *refusal), service)
        if fault is not None and fault.code is not None:
            return _reply(start, fault.status, _error(service, fault.code, fault.message), service)
        answer = self._own(service, region, action, body)
        if answer is not None:
            return _reply(start, *answer, service)
        result = self._moto(environ, start)
        if fault is not None and fault.lost:
            for part in result:
                del part
            with contextlib.suppress(OSError):
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("the reply is lost")
        return result

    def _credentials(self, environ: dict[str, Any], service: str) -> tuple[str, str] | None:
        found = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        if found is None:
            return "MissingAuthenticationToken", "Request is missing Authentication Token"
        if found[1] not in self.accepted:
            if service == "ec2":
                return "AuthFailure", "AWS was not able to validate the provided access credentials"
            return "InvalidClientTokenId", "The security token included in the request is invalid."
        if self.expired:
            return "ExpiredToken", "The security token included in the request is expired"
        return None

    def _denied(
        self, environ: dict[str, Any], region: str, service: str, action: str, body: bytes
    ) -> tuple[str, str] | None:
        """Whether the policy of the account's user, where it has one, forbids an action."""
        if self.policy is None or service == "sts":
            return None
        asked = f"{service}:{action}"
        if asked == "iam:SimulatePrincipalPolicy":
            return None if self.may_simulate else ("AccessDenied", f"User is not authorized to perform: {asked}")
        if self.allows(asked, region, dict(parse_qsl(body.decode())) if service == "ec2" else {}):
            return None
        code = "UnauthorizedOperation" if service == "ec2" else "AccessDeniedException"
        return code, f"You are not authorized to perform this operation: {asked}"

    def allows(self, asked: str, region: str, form: dict[str, str]) -> bool:
        """What the policy says of an action on the things that a form names; by tags where it looks at them."""
        from tests.simcloud.ec2_mends import tags_of_named

        for statement in (self.policy or {}).get("Statement", ()):
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if asked not in actions:
                continue
            wanted = statement.get("Condition", {}).get("StringLike", {})
            if not any(name.startswith("aws:ResourceTag/") for name in wanted):
                return True
            names = [name.partition("/")[2] for name in wanted]
            things = tags_of_named(self, region, form)
            return all(any(tags.get(name) for name in names) for tags in things)
        return False

    def _fault(self, action: str, form: str) -> Fault | None:
        if self.weather is not None and (sudden := self.weather(action)) is not None:
            return sudden
        for fault in self.faults:
            if fault.action == action and fault.times > 0 and fault.named in form:
                if fault.skip > 0:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                fault.strike()
                if fault.code is not None or fault.lost:
                    return fault
        return None

    def _own(self, service: str, region: str, action: str, body: bytes) -> tuple[int, bytes] | None:
        """Answers to what moto has no notion of: public image parameters and quotas."""
        if service == "ssm" and action == "GetParameters":
            names = json.loads(body)["Names"]
            found = [{"Name": name, "Type": "String", "Value": self.image(region, name)} for name in names]
            known = [one for one in found if one["Value"]]
            bad = [one["Name"] for one in found if not one["Value"]]
            return 200, json.dumps({"Parameters": known, "InvalidParameters": bad}).encode()
        if service == "iam" and action == "SimulatePrincipalPolicy":
            form = dict(parse_qsl(body.decode()))
            names = [value for name, value in form.items() if name.startswith("ActionNames.")]
            given = {value for name, value in form.items() if name.endswith(".ContextKeyName")}
            things = [value for name, value in form.items() if name.startswith("ResourceArns.")] or ["*"]
            return 200, _simulation(names, lambda name: all(self._would_allow(name, given, one) for one in things))
        if service == "servicequotas" and action == "GetServiceQuota":
            code = json.loads(body)["QuotaCode"]
            if code not in self.quotas:
                return 400, _error(service, "NoSuchResourceException", "no such quota")
            quota = {"ServiceCode": "ec2", "QuotaCode": code, "Value": self.quotas[code]}
            return 200, json.dumps({"Quota": quota}).encode()
        return None

    def _would_allow(self, asked: str, given: set[str], thing: str) -> bool:
        """What IAM says of an action on a thing when it is told only these keys of its conditions."""
        for statement in (self.policy or {"Statement": []})["Statement"]:
            actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
            if asked in actions and fnmatchcase(thing, statement["Resource"]):
                return all(name in given for keys in statement.get("Condition", {}).values() for name in keys)
        return False

    # time --------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let everything happen that is due."""
        with self.lock:
            now = self.clock()
            for life in list(self.lives.values()):
                if life.state in {"pending", "stopping", "shutting-down"} and now >= life.due:
                    self._arrive(life)

    def _arrive(self, life: Life) -> None:
        if life.state == "pending":
            if life.doom is not None:
                self._end(life, life.doom, f"{life.doom}: scripted")
                return
            if life.booting is not None and life.booting.is_alive():
                return
            self.set_state(life, "running")
        elif life.state == "stopping":
            self.set_state(life, "stopped")
        else:
            self.finish(life)

    def finish(self, life: Life) -> None:
        """The end of an instance: its disks, interfaces and host go."""
        reason = life.instance.state_reason
        life.instance.styx_terminate()
        life.instance.state_reason = reason
        life.ended_at = self.clock()
        self._drop(life)

    def _end(self, life: Life, code: str, message: str) -> None:
        from moto.ec2.models.instances import StateReason

        life.instance.state_reason = StateReason(message, code)
        self.close_request(life, code)
        self.finish(life)

    def set_state(self, life: Life, state: str) -> None:
        """Put an instance in a state at once."""
        life.instance._state.name, life.instance._state.code = state, CODES[state]

    def boot(self, life: Life) -> None:
        """Switch on the host behind an instance, new or stopped, and begin to be pending."""
        life.due = self.clock() + self.boot_s
        self.set_state(life, "pending")
        room = self.room
        if room is None:
            return

        def work() -> None:
            if life.machine is not None:
                life.machine.start()
                return
            data = _without_host_key(life.user_data) if self.other_host_key else life.user_data
            machine = room.boot(
                f"ip-{next(self.numbers)}",
                user_data=data,
                user=life.login,
                ssh=self.ssh,
                boot_s=self.ssh_boot_s,
                files={"/opt/imds.py": _IMDS},
                on_poweroff=lambda _: self.powered_off(life),
            )
            with self.lock:
                life.machine = machine
                nic = life.instance.nics[0]
                nic.private_ip_address = machine.host
                nic.public_ip = machine.host if nic.public_ip else None
                gone = life.state in {"shutting-down", "terminated"}
            if gone:
                machine.remove()
                return
            machine.run(
                ["sh", "-c", "ip addr add 169.254.169.254/32 dev lo; setsid python3 /opt/imds.py >/dev/null 2>&1 &"]
            )

        life.booting = threading.Thread(target=work, daemon=True)
        life.booting.start()

    def _drop(self, life: Life) -> None:
        machine, life.machine = life.machine, None
        if machine is not None:
            machine.remove()

    # what happens to instances without a call ---------------------------------------------------------------------

    def powered_off(self, life: Life) -> None:
        """The instance shut itself down from within: it stops or ends, as its attribute says."""
        from moto.ec2.models.instances import StateReason

        with self.lock:
            if life.state not in {"running", "pending"}:
                return
            life.instance.state_reason = StateReason(
                "Client.InstanceInitiatedShutdown: Instance initiated shutdown", "Client.InstanceInitiatedShutdown"
            )
            ends = life.instance.instance_initiated_shutdown_behavior == "terminate"
            self.set_state(life, "shutting-down" if ends else "stopping")
            life.due = self.clock() + (self.terminate_s if ends else self.stop_s)

    def interrupt(self, instance_id: str, *, notice: bool = False) -> None:
        """Take a spot instance away; with `notice`, only announce it to the machine, as two minutes before."""
        from moto.ec2.models.instances import StateReason

        with self.lock:
            life = self.lives[instance_id]
            if notice:
                assert life.machine is not None, "a notice is read on the machine"
                life.machine.run(["touch", "/run/interruption"])
                return
            stops = life.request is not None and life.request["InstanceInterruptionBehavior"] == "stop"
            code = "Server.SpotInstanceShutdown" if stops else "Server.SpotInstanceTermination"
            life.instance.state_reason = StateReason(f"{code}: scripted", code)
            self.close_request(life, f"instance-{'stopped' if stops else 'terminated'}-no-capacity")
            if life.machine is not None:
                life.machine.stop() if stops else life.machine.kill()
            self.set_state(life, "stopping" if stops else "shutting-down")
            life.due = self.clock() + (self.stop_s if stops else self.terminate_s)

    def close_request(self, life: Life, code: str) -> None:
        """What becomes of a spot request when its instance ends: a persistent one is open again."""
        if life.request is not None and life.request["State"] in {"active", "disabled"}:
            life.request["State"] = "open" if life.request["Type"] == "persistent" else "closed"
            life.request["Status"] = {"Code": code, "Message": code}

    # faults ------------------------------------------------------------------------------------------------------

    def refuse(self, action: str, code: str, *, times: int = 1, skip: int = 0, status: int = 400) -> None:
        """Answer an action with an error; nothing happens."""
        with self.lock:
            self.faults.append(Fault(action, code, status, times, skip))

    def lose_reply(self, action: str, *, times: int = 1) -> None:
        """Perform an action and end the connection instead of answering."""
        self.plan(Fault(action, lost=True, times=times))

    def plan(self, fault: Fault) -> Fault:
        """Any other fault; with `times` set to 0 it is over."""
        with self.lock:
            self.faults.append(fault)
            return fault

    def zone_id(self, name: str) -> str:
        """What all accounts call a zone that this one calls `name`."""
        zones = self.backend(name[:-1]).describe_availability_zones()
        return next(str(zone.zone_id) for zone in zones if zone.name == name)

    def sell_out(self, zone: str, code: str = "InsufficientInstanceCapacity", *, kind: str | None = None) -> None:
        """No machine, or none of a type, can be had in a zone (its name), or in a region's every zone (its name)."""
        self.closed[zone if kind is None else f"{zone} {kind}"] = code

    def leave(self, machines: int) -> None:
        """Only so many machines are left; the launch after them is refused, once."""
        self.left = machines

    # the truth ---------------------------------------------------------------------------------------------------

    def backend(self, region: str) -> Any:
        """moto's own model of a region."""
        from moto.ec2 import ec2_backends

        return ec2_backends[ACCOUNT][region]

    def image(self, region: str, name: str) -> str | None:
        """The AMI behind a public parameter; registered when first asked for."""
        known = next((value for prefix, value in IMAGES.items() if name.startswith(prefix)), None)
        if known is None:
            return None
        if (region, name) not in self.images:
            ami = self.backend(region).register_image(name=known[0], description="")
            ami.architecture = "arm64" if "arm64" in name else "x86_64"
            self.images[region, name] = ami.id
        return self.images[region, name]

    def instances(self, *, ended: bool = False) -> list[Life]:
        """Every instance that exists, whoever made it."""
        with self.lock:
            self.settle()
            return [life for life in self.lives.values() if ended or life.state != "terminated"]

    def things(self) -> list[str]:
        """Whatever else exists and was made by somebody: groups, keys, addresses, free disks, live spot requests."""
        found: list[str] = []
        with self.lock:
            for region in self._regions():
                backend = self.backend(region)
                groups = [group for table in backend.groups.values() for group in table.values()]
                found += [f"security-group {group.id}" for group in groups if group.name != "default"]
                found += [f"key-pair {name}" for name in backend.key_pairs]
                found += [f"address {address.allocation_id}" for address in backend.addresses]
                found += [f"disk {disk.id}" for disk in backend.volumes.values()]
            found += [f"placement-group {name}" for _, name in self.placement_groups]
            found += [
                f"spot-request {name}"
                for name, one in self.requests.items()
                if one["State"] in {"open", "active", "disabled"}
            ]
        return sorted(found)

    def _regions(self) -> list[str]:
        from moto.ec2 import ec2_backends

        return list(ec2_backends[ACCOUNT]) if ACCOUNT in ec2_backends else []

    def plant(self, zone: str = "us-east-1a", tags: dict[str, str] | None = None) -> str:
        """An instance that somebody else made."""
        backend = self.backend(zone[:-1])
        with self.lock:
            reservation = backend.run_instances(
                "ami-00000000", 1, None, [], instance_type="t3.micro", is_instance_type_default=False,
                region_name=zone[:-1], placement=zone, tags={"instance": tags or {}}, nics=[], security_group_ids=[],
            )  # fmt: skip
            instance = reservation.instances[0]
            self.lives[instance.id] = Life(instance, zone[:-1], self.clock() - 1e6)
            return str(instance.id)


_IMDS = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_PUT(self):
        self.answer(200 if self.path == "/latest/api/token" else 404, b"TOKEN")
    def do_GET(self):
        if self.headers.get("X-aws-ec2-metadata-token") != "TOKEN":
            return self.answer(401, b"")
        there = self.path == "/latest/meta-data/spot/instance-action" and os.path.exists("/run/interruption")
        self.answer(200 if there else 404, b'{"action": "terminate"}' if there else b"")
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.HTTPServer(("169.254.169.254", 80), Handler).serve_forever()
"""
"""The metadata service of a machine, as far as interruptions go: version 2 only, with a token."""
_SIGNED = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")


def _scope(environ: dict[str, Any]) -> tuple[str, str]:
    """Region and service that a request is signed for."""
    found = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
    return (found[1], found[2]) if found else ("us-east-1", "")


def _action(environ: dict[str, Any], body: bytes) -> str:
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    return target.rpartition(".")[2] if target else dict(parse_qsl(body.decode(errors="replace"))).get("Action", "")


def _error(service: str, code: str, message: str) -> bytes:
    if service in {"ssm", "servicequotas"}:
        return json.dumps({"__type": code, "message": message}).encode()
    if service == "ec2":
        inner = f"<Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        return f"<Response>{inner}<RequestID>req-scripted</RequestID></Response>".encode()
    inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return f"<ErrorResponse>{inner}<RequestId>req-scripted</RequestId></ErrorResponse>".encode()


def _simulation(names: Iterable[str], allowed: Callable[[str], bool]) -> bytes:
    members = "".join(
        f"<member><EvalActionName>{name}</EvalActionName><EvalResourceName>*</EvalResourceName>"
        f"<EvalDecision>{'allowed' if allowed(name) else 'implicitDeny'}</EvalDecision></member>"
        for name in names
    )
    inner = f"<EvaluationResults>{members}</EvaluationResults><IsTruncated>false</IsTruncated>"
    return (
        f"<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult>{inner}</SimulatePrincipalPolicyResult>"
        "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></SimulatePrincipalPolicyResponse>"
    ).encode()


def _reply(start: Any, status: int, body: bytes, service: str) -> list[bytes]:
    kind = "application/x-amz-json-1.1" if service in {"ssm", "servicequotas"} else "text/xml"
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-RequestId", "req-scripted")]
    start(f"{status} scripted", headers)
    return [body]


def price_list(prices: Iterable[tuple[str, float, int, float, int]]) -> str:
    """As the public list is written, as far as it is read."""
    names = [
        "SKU", "TermType", "Unit", "PricePerUnit", "Currency", "Instance Type", "vCPU", "Physical Processor",
        "Memory", "Storage", "Processor Architecture", "Tenancy", "Operating System", "operation",
        "CapacityStatus", "GPU", "Pre Installed S/W", "MarketOption",
    ]  # fmt: skip
    lines = ['"FormatVersion","v1.0"', ",".join(f'"{name}"' for name in names)]
    for kind, usd, vcpus, gib, gpus in prices:
        processor = "AWS Graviton2 Processor" if kind.partition(".")[0].endswith("g") else "Intel Xeon"
        cells = [
            "X", "OnDemand", "Hrs", f"{usd:.10f}", "USD", kind, str(vcpus), processor, f"{gib:g} GiB", "EBS only",
            "64-bit", "Shared", "Linux", "RunInstances", "Used", str(gpus) if gpus else "NA", "NA", "OnDemand",
        ]  # fmt: skip
        lines.append(",".join(f'"{cell}"' for cell in cells))
    return "\n".join(lines) + "\n"


def _without_host_key(user_data: str) -> str:
    """User data as for a machine that somebody else stands in for."""
    head, _, text = user_data.partition("\n")
    config = json.loads(text)
    config.pop("ssh_keys", None)
    return f"{head}\n{json.dumps(config)}\n"


def launch_time(now: float) -> datetime:
    """As moto keeps it: UTC, without saying so."""
    return datetime.fromtimestamp(now, UTC).replace(tzinfo=None)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
