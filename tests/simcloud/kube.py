"""A Kubernetes API server on loopback with pods that are real processes of this machine.

Everything it takes and gives is held against the published document (`kubedocument`). It schedules, garbage-collects
by owner references, keeps events, and serves exec, log and port-forward over websockets. `/styx` of a pod is a folder
of its own: the paths in commands are rewritten, as pods here share this machine's file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from styx.testing.processes import marked
from tests.simcloud.kubedocument import wrong

TOKEN = "kube-token-canary-5521"
NOBODY = "nobody-token-canary"
MARK = "STYX_TEST_POD"
PLURALS = {
    "pods": "Pod",
    "services": "Service",
    "events": "Event",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "nodes": "Node",
    "ingresses": "Ingress",
}
SUFFIXES = {"m": 1e-3, "": 1.0, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class Refuse(Exception):
    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


def quantity(text: str) -> float:
    number, suffix = re.match(r"([0-9.]+)([a-zA-Z]*)$", text).groups()
    return float(number) * SUFFIXES[suffix]


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Script:
    """One staged failure of the next creations of pods."""

    status: int
    reason: str
    message: str
    after: int = 0
    lose: bool = False


@dataclass
class Kube:
    """The cluster. Enter it to have it listen.

    Attributes:
        denied: `(verb, resource)` that the token may not do.
        images: Regular expression of images that can be pulled.
        page: Most objects in one page.
        grace_s: How long a deleted pod stays.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="kube-")))
    clock: Callable[[], float] = time.time
    denied: set[tuple[str, str]] = field(default_factory=set)
    images: str = "(?!missing).*"
    page: int = 5
    grace_s: float = 0.0
    start_s: float = 0.0
    run: bool = True
    """Whether pods are real processes."""
    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    doomed: int = 0
    broken_listings: int = 0
    full: set[str] = field(default_factory=set)
    """Namespaces whose quota is used up."""
    silent: bool = False
    document: list[str] = field(default_factory=list)
    """What was not as the published document has it."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._version = 0
        self.node("node-1", cpu="8", memory="16Gi")

    # levers ----------------------------------------------------------------------------------------------------------
    def node(self, name: str, *, cpu: str, memory: str, labels: dict[str, str] | None = None, **resources: str) -> None:
        """A node with this much; resources such as `nvidia.com/gpu` go into `resources`."""
        has = {"cpu": cpu, "memory": memory, "pods": "110", **resources}
        meta = {"name": name, "labels": {"kubernetes.io/arch": "amd64", **(labels or {})}}
        self.put("nodes", "", {
            "apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {},
            "status": {"allocatable": has, "capacity": has, "conditions": [{"type": "Ready", "status": "True"}]},
        })  # fmt: skip

    def put(self, kind: str, namespace: str, value: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            meta = value["metadata"]
            meta.setdefault("uid", str(uuid.uuid4()))
            meta.setdefault("creationTimestamp", stamp(self.clock()))
            if namespace:
                meta["namespace"] = namespace
            self._version += 1
            meta["resourceVersion"] = str(self._version)
            self.objects[kind, namespace, meta["name"]] = value
            return value

    def all(self, kind: str, namespace: str | None = None) -> list[dict[str, Any]]:
        with self._lock:
            return [
                one for (what, where, _), one in self.objects.items() if what == kind and namespace in (None, where)
            ]

    def event(self, pod: str, reason: str, message: str, namespace: str = "default") -> None:
        """Something that the cluster says about a pod."""
        now = stamp(self.clock())
        self.put("events", namespace, {
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": f"{pod}.{uuid.uuid4().hex[:10]}"},
            "involvedObject": {"kind": "Pod", "name": pod, "namespace": namespace},
            "reason": reason, "message": message, "type": "Normal", "firstTimestamp": now, "lastTimestamp": now,
        })  # fmt: skip

    def kill(self, pod: str, namespace: str = "default", *, reason: str | None = None, message: str = "") -> None:
        """End a pod's processes; with a reason, as an eviction, which leaves the object as failed."""
        with self._lock:
            found = self.objects[("pods", namespace, pod)]
            self._end(found["metadata"]["uid"])
            if reason is None:
                self.objects.pop(("pods", namespace, pod))
                return
            found["status"].update(phase="Failed", reason=reason, message=message)

    # life ------------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Kube:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        assert ready.wait(20), "the double did not come up"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        for uid in list(self._processes):
            self._end(uid)
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _serve(self, ready: threading.Event) -> None:
        from aiohttp import web

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", getattr(self, "port", 0))
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        ready.set()
        ticker = asyncio.create_task(self._tick())
        await self._stop.wait()
        ticker.cancel()
        await runner.cleanup()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            with self._lock:
                self.step()

    def step(self) -> None:
        """What controllers, scheduler and kubelet do."""
        with self._lock:
            uids = {one["metadata"]["uid"] for one in self.objects.values()}
            for (kind, namespace, name), one in list(self.objects.items()):
                owners = one["metadata"].get("ownerReferences") or ()
                if owners and not any(owner["uid"] in uids for owner in owners):
                    self._delete(kind, namespace, name)
                ends = one.get("_ends")
                if ends is not None and self.clock() >= ends:
                    self._end(one["metadata"]["uid"])
                    self.objects.pop((kind, namespace, name), None)
            for pod in self.all("pods"):
                self._step_pod(pod)

    def _step_pod(self, pod: dict[str, Any]) -> None:
        status, uid = pod["status"], pod["metadata"]["uid"]
        process = self._processes.get(uid)
        if status["phase"] == "Pending" and not pod["spec"].get("nodeName"):
            self._schedule(pod)
        if status["phase"] == "Pending" and pod["spec"].get("nodeName"):
            self._start(pod)
        elif status["phase"] == "Running" and process is not None and process.poll() is not None:
            code = process.returncode
            self._end(uid)
            over = {"exitCode": code if code >= 0 else 128 - code, "reason": "Completed" if code == 0 else "Error"}
            status["phase"] = "Succeeded" if code == 0 else "Failed"
            status["containerStatuses"] = [self._container(pod, {"terminated": over})]

    def _schedule(self, pod: dict[str, Any]) -> None:
        wanted: dict[str, float] = {"pods": 1.0}
        for container in pod["spec"]["containers"]:
            asked = {
                **container.get("resources", {}).get("limits", {}),
                **container.get("resources", {}).get("requests", {}),
            }
            for name, value in asked.items():
                wanted[name] = wanted.get(name, 0.0) + quantity(value)
        reasons: dict[str, int] = {}
        for node in self.all("nodes"):
            has = {name: quantity(value) for name, value in node["status"]["allocatable"].items()}
            for other in self.all("pods"):
                if other["spec"].get("nodeName") == node["metadata"]["name"] and other["status"]["phase"] in (
                    "Pending",
                    "Running",
                ):
                    has["pods"] -= 1
                    for container in other["spec"]["containers"]:
                        for name, value in container.get("resources", {}).get("requests", {}).items():
                            has[name] = has.get(name, 0.0) - quantity(value)
            selector = pod["spec"].get("nodeSelector") or {}
            if any(node["metadata"]["labels"].get(key) != value for key, value in selector.items()):
                reasons["node(s) didn't match Pod's node affinity"] = (
                    reasons.get("node(s) didn't match Pod's node affinity", 0) + 1
                )
                continue
            short = [name for name, value in wanted.items() if has.get(name, 0.0) < value - 1e-6]
            if not short:
                pod["spec"]["nodeName"] = node["metadata"]["name"]
                pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
                return
            for name in short:
                reasons[f"Insufficient {name}"] = reasons.get(f"Insufficient {name}", 0) + 1
        total = len(self.all("nodes"))
        words = f"0/{total} nodes are available: " + ", ".join(f"{count} {why}" for why, count in reasons.items()) + "."
        pod["status"]["conditions"] = [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
        ]

    def _container(self, pod: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        spec = pod["spec"]["containers"][0]
        return {
            "name": spec["name"], "image": spec["image"], "imageID": "", "ready": "running" in state,
            "restartCount": 0, "state": state,
        }  # fmt: skip

    def _start(self, pod: dict[str, Any]) -> None:
        status, image = pod["status"], pod["spec"]["containers"][0]["image"]
        if pod.get("_doomed") or not re.fullmatch(self.images, image):
            why = {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}
            status["containerStatuses"] = [self._container(pod, {"waiting": why})]
            return
        if self.clock() < datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp() + self.start_s:
            status["containerStatuses"] = [self._container(pod, {"waiting": {"reason": "ContainerCreating"}})]
            return
        uid = pod["metadata"]["uid"]
        if self.run:
            room = self._room(uid)
            (room / "home").mkdir(parents=True, exist_ok=True)
            given = pod["spec"]["containers"][0].get("command") or ["sleep", "1000000"]
            argv = self._mapped(uid, [word.replace("$$", "$") for word in given])  # as kubelets do
            self._processes[uid] = subprocess.Popen(
                argv, cwd=room, env=self._env(pod), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        status["phase"] = "Running"
        status["podIP"] = "127.0.0.1"
        status["containerStatuses"] = [self._container(pod, {"running": {"startedAt": stamp(self.clock())}})]
        status["conditions"] = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]

    def _room(self, uid: str) -> Path:
        return self.folder / uid[:8]

    def _mapped(self, uid: str, argv: list[str]) -> list[str]:
        return [re.sub(r"(?<![\w/.])/styx(?=/|$)", str(self._room(uid)), word) for word in argv]

    def _env(self, pod: dict[str, Any]) -> dict[str, str]:
        uid = pod["metadata"]["uid"]
        own = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0].get("env") or ()}
        # not this environment's Python: the agent wants one of the machine's own
        base = getattr(sys, "_base_executable", sys.executable)
        path = f"{Path(base).parent}:/usr/local/bin:/usr/bin:/bin"
        kept = {name: os.environ[name] for name in ("STYX_SOCKET_DIR",) if name in os.environ}
        return {
            "PATH": path,
            "HOME": str(self._room(uid) / "home"),
            MARK: uid,
            "KUBE_FOLDER": str(self.folder),
            **kept,
            **own,
        }

    def _end(self, uid: str) -> None:
        process = self._processes.pop(uid, None)
        for _ in range(20):
            found = marked(MARK, uid) - {os.getpid()}
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
            if not found:
                return

    # requests --------------------------------------------------------------------------------------------------------
    async def _handle(self, request: Any) -> Any:
        from aiohttp import web

        self.lines.append(f"{request.method} {request.path} {dict(request.query)}")
        if self.silent:
            request.transport.abort()
            return web.Response()
        try:
            body = await request.read()
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if token not in (TOKEN, NOBODY):
                raise Refuse(401, "Unauthorized", "Unauthorized")
            self._asking = token
            found = re.fullmatch(r"/api/v1/namespaces/([^/]+)/pods/([^/]+)/(exec|portforward)", request.path)
            if found is not None:
                self._allow("create", f"pods/{found[3]}")
                return await self._stream(request, *found.groups())
            value = json.loads(body) if body else None
            with self._lock:
                self.step()
                answer, lost = self._answer(request, value)
            if lost:
                request.transport.abort()
                return web.Response()
            shown = self._shown(answer)
            if shown.get("kind"):
                self.document += wrong(shown)
            return web.json_response(shown, status=201 if request.method == "POST" else 200)
        except Refuse as no:
            status = {
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": no.message, "reason": no.reason, "code": no.status,
            }  # fmt: skip
            return web.json_response(status, status=no.status)

    def _shown(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._shown(item) for key, item in value.items() if not str(key).startswith("_")}
        return [self._shown(item) for item in value] if isinstance(value, list) else value

    def _allow(self, verb: str, resource: str) -> None:
        if self._denied(verb, resource):
            raise Refuse(
                403, "Forbidden", f'{resource} is forbidden: User "tester" cannot {verb} resource "{resource}"'
            )

    def _denied(self, verb: str, resource: str) -> bool:
        return self._asking == NOBODY or (verb, resource) in self.denied

    def _answer(self, request: Any, body: Any) -> tuple[dict[str, Any], bool]:
        path = request.path
        if path == "/version":
            return {"major": "1", "minor": "20", "gitVersion": "v1.20.2"}, False
        if path.endswith("/selfsubjectaccessreviews"):
            self.document += wrong(body)
            asked = body["spec"]["resourceAttributes"]
            name = "/".join(part for part in (asked["resource"], asked.get("subresource")) if part)
            return {**body, "metadata": {}, "status": {"allowed": not self._denied(asked["verb"], name)}}, False
        found = re.fullmatch(
            r"/(?:api/v1|apis/networking\.k8s\.io/v1)(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?", path
        )
        if found is None or found[2] not in PLURALS:
            raise Refuse(404, "NotFound", "the server could not find the requested resource")
        namespace, kind, name = found[1], found[2], found[3]
        verb = {"GET": "get" if name else "list", "POST": "create", "DELETE": "delete", "PATCH": "patch"}[
            request.method
        ]
        self._allow(verb, kind)
        if verb == "list":
            return self._list(kind, namespace, request.query), False
        if verb == "create":
            return self._create(kind, namespace, body)
        key = (kind, namespace or "", name)
        if key not in self.objects:
            raise Refuse(404, "NotFound", f'{kind} "{name}" not found')
        if verb == "delete":
            self.document += wrong({"kind": "DeleteOptions", **(body or {})})
            uid = ((body or {}).get("preconditions") or {}).get("uid")
            if uid not in (None, self.objects[key]["metadata"]["uid"]):
                raise Refuse(409, "Conflict", "the UID in the precondition does not match")
            return self._delete(*key), False
        if verb == "patch":
            self.objects[key]["spec"].update(body.get("spec") or {})
        return self.objects[key], False

    def _list(self, kind: str, namespace: str | None, query: Any) -> dict[str, Any]:
        if kind == "pods" and self.broken_listings:
            self.broken_listings -= 1
            raise Refuse(500, "InternalError", "etcdserver: request timed out")
        items = [one for one in self.all(kind, namespace) if self._selected(one, query)]
        start = int(query.get("continue") or 0)
        page = items[start : start + min(self.page, int(query.get("limit") or self.page))]
        more = {"continue": str(start + len(page))} if start + len(page) < len(items) else {}
        return {"apiVersion": "v1", "kind": f"{PLURALS[kind]}List", "metadata": more, "items": page}

    def _selected(self, one: dict[str, Any], query: Any) -> bool:
        labels = one["metadata"].get("labels") or {}
        for term in filter(None, (query.get("labelSelector") or "").split(",")):
            key, sign, value = term.partition("=")
            if (labels.get(key) != value) if sign else key not in labels:
                return False
        for term in filter(None, (query.get("fieldSelector") or "").split(",")):
            field_path, value = re.split("!?=", term)
            have: Any = one
            for part in field_path.split("."):
                have = have.get(part, "")
            if (have == value) == ("!=" in term):
                return False
        return True

    def _create(self, kind: str, namespace: str, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        faults = wrong(body)
        self.document += faults
        if faults:
            raise Refuse(400, "BadRequest", "; ".join(faults))
        name = body["metadata"]["name"]
        lost = False
        if kind == "pods" and namespace in self.full:
            raise Refuse(
                403, "Forbidden", f'pods "{name}" is forbidden: exceeded quota: {namespace}, requested: pods=1'
            )
        if kind == "pods" and self.scripts:
            if self.scripts[0].after:
                self.scripts[0].after -= 1
            else:
                script = self.scripts.pop(0)
                if not script.lose:
                    raise Refuse(script.status, script.reason, script.message)
                lost = True
        if (kind, namespace, name) in self.objects:
            raise Refuse(409, "AlreadyExists", f'{kind} "{name}" already exists')
        if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
            raise Refuse(422, "Invalid", f"metadata.name: Invalid value: {name!r}")
        made = json.loads(json.dumps(body))
        if kind == "pods":
            made["status"] = {"phase": "Pending"}
            if self.doomed:
                self.doomed -= 1
                made["_doomed"] = True
        elif kind == "services":
            made["spec"].setdefault("clusterIP", "10.96.0.7")
            made["status"] = {"loadBalancer": {}}
        return self.put(kind, namespace, made), lost

    def _delete(self, kind: str, namespace: str, name: str) -> dict[str, Any]:
        one = self.objects[kind, namespace, name]
        if kind == "pods":
            if "_ends" not in one:
                one["metadata"]["deletionTimestamp"] = stamp(self.clock())
                one["_ends"] = self.clock() + self.grace_s
        else:
            self.objects.pop((kind, namespace, name))
        return one

    # streams ---------------------------------------------------------------------------------------------------------
    async def _stream(self, request: Any, namespace: str, name: str, verb: str) -> Any:
        from aiohttp import web

        pod = self.objects.get(("pods", namespace, name))
        if pod is None:
            raise Refuse(404, "NotFound", f'pods "{name}" not found')
        if pod["status"]["phase"] != "Running":
            raise Refuse(400, "BadRequest", f"pod {name} does not run")
        socket = web.WebSocketResponse(protocols=("v4.channel.k8s.io",), max_msg_size=1 << 26)
        await socket.prepare(request)
        if verb == "exec":
            await self._exec(socket, pod, request.query.getall("command"), request.query.get("tty") == "true")
        else:
            await self._forward(socket, int(request.query["ports"]))
        await socket.close()
        return socket

    async def _exec(self, socket: Any, pod: dict[str, Any], command: list[str], tty: bool) -> None:
        argv, env, room = (
            self._mapped(pod["metadata"]["uid"], command),
            self._env(pod),
            self._room(pod["metadata"]["uid"]),
        )
        pipe = asyncio.subprocess.PIPE
        if tty:
            master, slave = pty.openpty()
            process = await asyncio.create_subprocess_exec(
                *argv, cwd=room, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
            )
            os.close(slave)
        else:
            process = await asyncio.create_subprocess_exec(
                *argv, cwd=room, env=env, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
            )

        async def pump(stream: Any, channel: int) -> None:
            while data := await stream.read(1 << 16):
                with contextlib.suppress(ConnectionError):
                    await socket.send_bytes(bytes((channel,)) + data)

        async def pump_terminal() -> None:
            loop = asyncio.get_running_loop()
            with contextlib.suppress(OSError):
                while data := await loop.run_in_executor(None, os.read, master, 1 << 14):
                    await socket.send_bytes(b"\x01" + data)

        async def feed() -> None:
            async for message in socket:
                data = message.data if isinstance(message.data, bytes) else message.data.encode()
                if not data:
                    continue
                if data[0] == 0 and tty:
                    os.write(master, data[1:])
                elif data[0] == 0:
                    with contextlib.suppress(ConnectionError):
                        process.stdin.write(data[1:])
                        await process.stdin.drain()
                elif data[0] == 4 and tty:
                    import fcntl
                    import termios

                    size = json.loads(data[1:])
                    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", size["Height"], size["Width"], 0, 0))
            if not tty:
                process.stdin.close()

        for channel in (1,) if tty else (1, 2, 3):
            await socket.send_bytes(bytes((channel,)))  # real servers begin with an empty frame for each channel
        feeder = asyncio.create_task(feed())
        pumps = [pump_terminal()] if tty else [pump(process.stdout, 1), pump(process.stderr, 2)]
        await asyncio.gather(*pumps)
        code = await process.wait()
        status: dict[str, Any] = {"metadata": {}, "status": "Success"}
        if code:
            cause = {"reason": "ExitCode", "message": str(code if code > 0 else 128 - code)}
            status = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [cause]}}
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        feeder.cancel()
        if tty:
            os.close(master)

    async def _forward(self, socket: Any, port: int) -> None:
        number = struct.pack("<H", port)
        await socket.send_bytes(b"\x00" + number)
        await socket.send_bytes(b"\x01" + number)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError as error:
            await socket.send_bytes(b"\x01" + str(error).encode())
            return

        async def down() -> None:
            while data := await reader.read(1 << 16):
                await socket.send_bytes(b"\x00" + data)
            await socket.close()

        task = asyncio.create_task(down())
        async for message in socket:
            writer.write(message.data[1:])
            await writer.drain()
        task.cancel()
        writer.close()

    def kubeconfig(self, path: Path, *, context: str = "double", token: str = TOKEN) -> Path:
        """A kubeconfig with this cluster as its only context."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(config_of(self.url, {context: (token, "default")})))
        return path

    # what `tests.kubernetes.cluster.RealKube` has as well ------------------------------------------------------------
    def config(self, users: dict[str, str], namespaces: dict[str, str] | None = None) -> dict[str, Any]:
        return config_of(
            self.url, {name: (token, (namespaces or {}).get(name, "default")) for name, token in users.items()}
        )

    def pods(self, namespace: str = "default") -> list[dict[str, Any]]:
        return self.all("pods", namespace)

    def names(self, namespace: str = "default") -> list[str]:
        kinds = ("pods", "services", "persistentvolumeclaims", "ingresses")
        return sorted(f"{kind}/{one['metadata']['name']}" for kind in kinds for one in self.all(kind, namespace))

    def capacity(self, name: str, count: int) -> None:
        self.all("nodes")[0]["status"]["allocatable"][name] = str(count)

    def label(self, **labels: str) -> None:
        self.all("nodes")[0]["metadata"]["labels"].update(labels)

    def cordon(self, yes: bool) -> None:
        self.all("nodes")[0]["spec"]["unschedulable"] = yes

    def preempt(self, pod: str) -> None:
        """Its place goes to a pod called `urgent`."""
        self.event(pod, "Preempted", "Preempted by default/urgent on node node-1")
        self.kill(pod)
        self.foreign("urgent")

    def evict(self, pod: str) -> None:
        with self._lock:
            self.kill(pod)

    def foreign(self, name: str) -> None:
        """A pod of somebody else."""
        spec = {"containers": [{"name": "c", "image": "any", "command": ["sleep", "1000"]}]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self.put("pods", "default", {**pod, "status": {"phase": "Pending"}})

    def quota(self, namespace: str) -> None:
        """A namespace in which no pod fits."""
        self.full.add(namespace)

    def back_volume(self, claim: str) -> None:
        """Give a claim its storage; here nothing is mounted."""

    def stop_api(self) -> None:
        self.silent = True

    def start_api(self) -> None:
        self.silent = False


def config_of(url: str, users: dict[str, tuple[str, str]], **cluster: str) -> dict[str, Any]:
    """A kubeconfig with one context for each user: token and namespace."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(users)),
        "clusters": [{"name": "test", "cluster": {"server": url, **cluster}}],
        "users": [{"name": name, "user": {"token": token}} for name, (token, _) in users.items()],
        "contexts": [
            {"name": name, "context": {"cluster": "test", "user": name, "namespace": namespace}}
            for name, (_, namespace) in users.items()
        ],
    }


__all__ = ["NOBODY", "TOKEN", "Kube", "Script", "config_of"]
