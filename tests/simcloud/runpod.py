"""RunPod: what the document of its REST API (version 2) says, and the four GraphQL calls that REST lacks."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from styx.testing.emulator import Reply, Request
from styx.testing.openapi import published
from tests.simcloud.forward import Forward
from tests.simcloud.vendor import Fate, Vendor

if TYPE_CHECKING:
    from styx.testing.machines import Machine

KEY = "rpa_STYX5f2b8cCANARYx9"
SOLD_OUT = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)
HOST_FULL = "There are not enough free GPUs on the host machine to start this pod."
CENTERS = ("US-TX-3", "US-KS-2", "EU-RO-1", "EUR-IS-1")
TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    418: "never-heard-of-it",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
VOLUME = "/var/lib/workspace"
"""Where a host keeps what a pod sees as its volume: the host's disk outlives a stop, and the rest is wiped."""


def refusal(status: int, detail: str = "no", *, retry_after_s: float | None = None) -> Reply:
    """A refusal of the REST API."""
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    return Reply({"title": TITLES[status], "status": status, "detail": detail}, status, headers)


def graphql_refusal(message: str, code: str | None = None) -> Reply:
    """A refusal of GraphQL, which is a 200."""
    extensions = {"extensions": {"code": code}} if code else {}
    return Reply({"errors": [{"message": message, **extensions}], "data": None})


def gpu(gpu_id: str, name: str, memory: int, usd: float, most: int) -> dict[str, Any]:
    """A type of GPU."""
    return {
        "id": gpu_id,
        "name": name,
        "pool": None,
        "manufacturer": "NVIDIA",
        "memory": memory,
        "secure": True,
        "community": True,
        "price": {"secure": usd, "community": usd / 2},
        "maxCount": {"secure": most, "community": 1},
    }


GPUS = (
    gpu("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.69, 8),
    gpu("NVIDIA A10", "A10", 24, 0.45, 2),
)
CPU = {
    "id": "cpu5m",
    "name": "Memory-Optimized",
    "group": "Gen 5",
    "vcpu": {"min": 2, "max": 16},
    "ramGbPerVcpu": 8,
    "price": {"securePerVcpu": 0.065, "serverlessPerVcpu": 0.05},
}
BID_SHARE = 0.5
"""The least bid, as a part of the price."""


@dataclass
class Pod:
    """One pod as RunPod knows it."""

    id: str
    name: str
    center: str
    image: str
    env: dict[str, str]
    ports: list[str]
    args: str = ""
    disk: int = 20
    mounts: dict[str, Any] = field(default_factory=dict)
    gpu: dict[str, Any] | None = None
    cpu: dict[str, Any] | None = None
    cost: float = 0.0
    born_at: float = 0.0
    started_at: float = 0.0
    status: str = ""
    fate: Fate = field(default_factory=Fate)
    host: Future[Machine] | None = None
    doors: dict[int, Forward] = field(default_factory=dict)


class RunPodCloud(Vendor):
    """The account.

    Attributes:
        balance: Its money.
        spend_limit: Dollars that it may spend in an hour.
        sold_out: Pairs of a type and a data center without free machines.
        hosts_full: Whether stopped pods find no GPU on their hosts.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(document=published("runpod-v2.json"), **options)
        self.balance, self.spend_limit = 100.0, 80.0
        self.sold_out: set[tuple[str, str]] = set()
        self.hosts_full = False
        self._numbers = itertools.count(1)
        self._pods: dict[str, Pod] = {}

    @property
    def url(self) -> str:
        """What the driver's `endpoint` is set to."""
        return f"{self.server.url}/v2"

    @property
    def graphql_url(self) -> str:
        """What the driver's `graphql_endpoint` is set to."""
        return f"{self.server.url}/graphql"

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for pod in self._pods.values():
            self._close(pod)

    # what is there -----------------------------------------------------------------------------------------------

    def pods(self) -> Sequence[Pod]:
        """Pods that exist, stopped ones included."""
        return list(self._pods.values())

    def plant(self, name: str, *, env: Mapping[str, str] | None = None) -> Pod:
        """A pod that no Styx made."""
        pod = Pod(self._id(), name, CENTERS[0], "theirs", dict(env or {}), ["22/tcp"], born_at=self.clock() - 9000)
        pod.gpu, pod.cost = {"id": GPUS[0]["id"], "count": 1}, 0.69
        self._pods[pod.id] = pod
        return pod

    def preempt(self, pod_id: str) -> None:
        """Somebody paid more: the pod is stopped, and stays in the list."""
        with self.lock:
            pod = self._pods[pod_id]
            pod.status = "EXITED"
            if pod.host is not None:
                pod.host.result().kill()

    def vanish(self, pod_id: str) -> None:
        """As if somebody had deleted it in the console."""
        with self.lock:
            self._remove(self._pods[pod_id])

    # answers -----------------------------------------------------------------------------------------------------

    def documented(self, request: Request) -> bool:
        return super().documented(request) and request.path != "/graphql"

    def operation(self, request: Request) -> str:
        """`create`, `bid`, `list`, `delete`, `action`, or method and path."""
        parts = request.path.removeprefix("/v2/").split("/")
        if request.path == "/graphql":
            return "bid" if "podRentInterruptable" in request.json()["query"] else "graphql"
        if parts[0] == "pods":
            return {1: {"GET": "list", "POST": "create"}, 2: {"DELETE": "delete"}}.get(len(parts), {}).get(
                request.method, "action"
            )
        return f"{request.method} {request.path.removeprefix('/v2/')}"

    def answer(self, request: Request, operation: str) -> Reply:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if request.path == "/graphql":
            return self._graphql(request.json(), bearer)
        if not self.alive or bearer != KEY:
            return refusal(401, "missing bearer token")
        known: dict[str, Callable[[Request], Reply]] = {
            "create": self._create,
            "list": lambda _: Reply({"pods": [self._shown(pod) for pod in self._listed()]}),
            "delete": self._delete,
            "action": self._action,
            "GET catalog/gpus": lambda _: Reply({"gpus": [self._sold(each) for each in GPUS]}),
            "GET catalog/cpus": lambda _: Reply({"cpus": [self._sold(CPU)]}),
            "GET catalog/datacenters": lambda _: Reply({"dataCenters": [_center(name) for name in CENTERS]}),
        }
        return known[operation](request)

    def _graphql(self, asked: Mapping[str, Any], bearer: str) -> Reply:
        """The account's key may do all; the key of a pod may stop or end that pod, and nothing else."""
        query, variables = asked["query"], asked.get("variables") or {}
        for verb in ("podTerminate", "podStop"):
            if verb in query:
                pod = self._pods.get(variables["id"])
                if pod is None or bearer not in (KEY, pod_key(pod.id)):
                    return graphql_refusal("Unauthorized")
                self._booting.submit(self._stop if verb == "podStop" else self._remove, pod)  # after the reply
                return Reply({"data": {verb: {"id": pod.id} if verb == "podStop" else None}})
        if not self.alive or bearer != KEY:
            return graphql_refusal("Unauthorized")
        if "podRentInterruptable" in query:
            return self._bid(variables["input"])
        if "gpuTypes" in query:
            least = [
                {"minimumBidPrice": each["price"]["secure"] * BID_SHARE, "minVcpu": 8, "minMemory": 32} for each in GPUS
            ]
            return Reply(
                {
                    "data": {
                        "gpuTypes": [{"id": g["id"], "lowestPrice": low} for g, low in zip(GPUS, least, strict=True)]
                    }
                }
            )
        spent = sum(pod.cost for pod in self._pods.values() if self._status(pod) != "EXITED")
        account = {"id": "user_2abc", "email": "me@example.com", "clientBalance": self.balance}
        return Reply({"data": {"myself": {**account, "spendLimit": self.spend_limit, "currentSpendPerHr": spent}}})

    def _id(self) -> str:
        return f"pod{next(self._numbers):011x}"

    def _sold(self, each: Mapping[str, Any]) -> dict[str, Any]:
        free = [name for name in CENTERS if (each["id"], name) not in self.sold_out]
        where = [{"id": name, "name": name, "availability": "HIGH"} for name in free]
        return {**each, "availability": "HIGH" if free else "NONE", **({"dataCenters": where} if free else {})}

    def _create(self, request: Request) -> Reply:
        body = request.json()
        wanted = body.get("gpu") or body["cpu"]
        if self.balance <= 0:
            return refusal(402, "Insufficient balance.")
        centers = [one for one in body.get("dataCenterIds") or CENTERS if (wanted["id"], one) not in self.sold_out]
        if not centers:
            return refusal(400, SOLD_OUT)
        cost = wanted.get("count", 0) * next((g["price"]["secure"] for g in GPUS if g["id"] == wanted["id"]), 0.0)
        cost = cost or wanted.get("vcpuCount", 0) * CPU["price"]["securePerVcpu"]  # type: ignore[index]
        pod = Pod(self._id(), body["name"], centers[0], body["image"], body["env"], body["ports"], args=body["args"])
        pod.disk, pod.mounts, pod.gpu, pod.cpu = body["disk"], body.get("mounts", {}), body.get("gpu"), body.get("cpu")
        return Reply(self._shown(self._begin(pod, cost)), 201)

    def _bid(self, asked: Mapping[str, Any]) -> Reply:
        found = next((each for each in GPUS if each["id"] == asked["gpuTypeId"]), None)
        centers = [
            name for name in CENTERS if asked.get("countryCode", "") in name or asked.get("dataCenterId") == name
        ]
        centers = [name for name in centers if (asked["gpuTypeId"], name) not in self.sold_out]
        if found is None or not centers:
            return graphql_refusal(SOLD_OUT)
        if asked["bidPerGpu"] < found["price"]["secure"] * BID_SHARE - 1e-9:
            return graphql_refusal("Bid price is too low", "BAD_USER_INPUT")
        env = {pair["key"]: pair["value"] for pair in asked["env"]}
        pod = Pod(self._id(), asked["name"], centers[0], asked["imageName"], env, asked["ports"].split(","))
        pod.args, pod.disk = asked["dockerArgs"], asked["containerDiskInGb"]
        pod.gpu = {"id": found["id"], "count": asked["gpuCount"]}
        return Reply(
            {"data": {"podRentInterruptable": {"id": self._begin(pod, asked["bidPerGpu"] * asked["gpuCount"]).id}}}
        )

    def _begin(self, pod: Pod, cost: float) -> Pod:
        pod.cost, pod.born_at, pod.started_at, pod.fate = round(cost, 6), self.clock(), self.clock(), self.fate()
        env = {**pod.env, "RUNPOD_POD_ID": pod.id, "RUNPOD_API_KEY": pod_key(pod.id), "RUNPOD_DC_ID": pod.center}
        if pod.fate.own_host_key:
            env.pop("STYX_HOST_KEY", None)
        if self.room is not None:
            pod.host = self._booting.submit(self._boot, pod, env)
        self._pods[pod.id] = pod
        return pod

    def _boot(self, pod: Pod, env: dict[str, str]) -> Machine:
        """A bare container: nothing but the start command makes it answer."""
        assert self.room is not None
        machine = self.room.boot(pod.id, ssh=False, env=env)
        self._run_start_command(pod, machine, env)
        return machine

    def _run_start_command(self, pod: Pod, machine: Machine, env: Mapping[str, str]) -> None:
        volume = f"mkdir -p {VOLUME} && ln -sfn {VOLUME} /workspace" if pod.mounts else ":"
        detached = f'{volume}; setsid "$@" </dev/null >/var/log/pod.log 2>&1 &'
        pairs = [f"{name}={value}" for name, value in env.items()]
        if pod.fate.ssh:
            machine.run(["env", *pairs, "sh", "-c", detached, "pod", *shlex.split(pod.args)])

    def _delete(self, request: Request) -> Reply:
        pod = self._pods.get(request.path.rpartition("/")[2])
        if pod is None:
            return refusal(404, "pod not found")
        self._remove(pod)
        return Reply(None, 204)

    def _action(self, request: Request) -> Reply:
        pod, action = self._pods.get(request.path.split("/")[3]), request.json()["action"]
        if pod is None:
            return refusal(404, "pod not found")
        if action not in self._actions(pod):
            return refusal(409, f"a pod that is {self._status(pod)} can't {action}")
        if action == "start":
            if self.hosts_full:
                return refusal(400, HOST_FULL)
            pod.status, pod.started_at = "", self.clock()
            if pod.host is not None:
                pod.host = self._booting.submit(self._boot_again, pod, pod.host.result())
        else:
            self._stop(pod)
        return Reply(self._shown(pod))

    def _boot_again(self, pod: Pod, machine: Machine) -> Machine:
        machine.start()
        self._run_start_command(pod, machine, {**pod.env, "RUNPOD_POD_ID": pod.id, "RUNPOD_API_KEY": pod_key(pod.id)})
        return machine

    def _stop(self, pod: Pod) -> None:
        """The container's own disk is wiped."""
        pod.status = "EXITED"
        self._close(pod)
        if pod.host is not None:
            machine = pod.host.result()
            machine.stop()
            for thing in Path(machine.root, "root").glob("*"):
                shutil.rmtree(thing, ignore_errors=True) if thing.is_dir() else thing.unlink()

    def _remove(self, pod: Pod) -> None:
        self._pods.pop(pod.id, None)
        self._close(pod)
        if pod.host is not None:
            pod.host.result().remove()

    @staticmethod
    def _close(pod: Pod) -> None:
        with contextlib.suppress(KeyError):
            while True:
                pod.doors.popitem()[1].close()

    def _listed(self) -> list[Pod]:
        old = self.clock() - self.listing_lag_s
        return [pod for pod in self._pods.values() if pod.born_at <= old]

    def _status(self, pod: Pod) -> str:
        if pod.status:
            return pod.status
        boot_s = self.boot_s if pod.fate.boot_s is None else pod.fate.boot_s
        age_s = self.clock() - pod.started_at
        if age_s < boot_s / 2:
            return "PROVISIONING"
        if age_s < boot_s or (pod.host is not None and not pod.host.done()):
            return "STARTING"
        return "ERROR" if pod.fate.fails else "RUNNING"

    def _actions(self, pod: Pod) -> list[str]:
        match self._status(pod):
            case "RUNNING":
                return ["stop", "restart", "terminate"]
            case "EXITED" | "ERROR":
                return ["start", "terminate"]
            case _:
                return ["stop", "terminate"]

    def _mapped(self, pod: Pod, port: int) -> tuple[str, int]:
        """The public address of a TCP port."""
        if pod.host is None:
            return "198.51.100.7", 10000 + port
        if port not in pod.doors:
            assert self.room is not None
            pod.doors[port] = Forward(self.room.gateway, pod.host.result().host, port)
        return pod.doors[port].address

    def _shown(self, pod: Pod) -> dict[str, Any]:
        status = self._status(pod)
        runtime, direct = None, None
        if status == "RUNNING":
            ports = []
            for text in pod.ports:
                number, _, kind = text.partition("/")
                if kind == "tcp":
                    host, port = self._mapped(pod, int(number))
                    ports.append({"private": int(number), "public": port, "type": "tcp", "ip": host})
                    if number == "22":
                        command = f"ssh root@{host} -p {port}"
                        direct = {"host": host, "port": port, "username": "root", "command": command}
                else:
                    ports.append({"private": int(number), "public": None, "type": "http", "ip": None})
            runtime = {"uptime": int(self.clock() - pod.started_at), "gpus": [], "ports": ports}
        shown = {
            "id": pod.id,
            "name": pod.name,
            "status": status,
            "actions": self._actions(pod),
            "image": pod.image,
            "args": pod.args,
            "disk": pod.disk,
            "mounts": pod.mounts,
            "ports": pod.ports,
            "env": pod.env,
            "registry": None,
            "cloud": "SECURE",
            "dataCenterId": None if status == "PROVISIONING" else pod.center,
            "cudaVersion": None,
            "ssh": {"proxy": None, "direct": direct},
            "template": None,
            "cost": 0.0 if status == "EXITED" else pod.cost,
            "locked": False,
            "runtime": runtime,
            "createdAt": _time(pod.born_at),
            "startedAt": _time(pod.started_at),
            "globalNetworking": {"enabled": False},
        }
        if pod.gpu is not None:
            shown["gpu"] = {"id": pod.gpu["id"], "count": pod.gpu["count"]}
        if pod.cpu is not None:
            shown["cpu"] = {**pod.cpu, "memory": pod.cpu["vcpuCount"] * 8}
        return shown


def pod_key(pod_id: str) -> str:
    """The key that RunPod puts into a pod."""
    return f"rpa_OF_{pod_id}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _center(name: str) -> dict[str, Any]:
    where = {"id": name, "name": name, "region": "EUROPE" if name.startswith("EU") else "NORTH_AMERICA"}
    return {**where, "globalNetwork": True, "networkVolumeTypes": [], "compliance": []}
