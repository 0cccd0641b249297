"""A real Kubernetes on this machine: a control plane on one address, and one node beside it.

The node (containerd and kubelet) lives in a network namespace that is joined to the control plane by one cable; it has
no way out. Needs root and what `build.py` makes. Sysctls that the kubelet changes are put back.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.kubernetes.build import BARE_IMAGE, PAUSE_IMAGE, PYTHON_IMAGE, complete
from tests.simcloud.kube import NOBODY, TOKEN, config_of

SYSCTLS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")
USER = "user-token-canary"
KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: []
failSwapOn: false
makeIPTablesUtilChains: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
resolvConf: ""
oomScoreAdj: 0
nodeStatusUpdateFrequency: 4s
"""
CONTAINERD = """
version = 2
root = "{work}/containerd/root"
state = "{work}/containerd/state"
[grpc]
  address = "{work}/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{work}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{work}/cni"
"""


def available(folder: str | None) -> bool:
    """Whether a real cluster can be had with what `$KUBE_BIN_DIR` names."""
    return bool(folder) and os.geteuid() == 0 and complete(Path(folder)) and shutil.which("containerd") is not None


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@dataclass
class RealKube:
    """Enter it to have it run."""

    bins: Path
    node: bool = True
    """Whether there is a node, and not only the API."""
    work: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="kube-", dir="/run")))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = f"k{secrets.token_hex(3)}"
        self._tls: ssl.SSLContext | None = None

    # life ------------------------------------------------------------------------------------------------------------
    def __enter__(self) -> RealKube:
        try:
            self._cable()
            self._control_plane()
            if self.node:
                self._node()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, *argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True)

    def _spawn(self, name: str, *argv: str, inside: bool = False, **env: str) -> None:
        within = ("nsenter", f"--net=/run/netns/{self.name}") if inside else ()
        log = (self.work / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(
            (*within, *argv), cwd=self.work, env={**os.environ, **env}, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()

    def _cable(self) -> None:
        self._run("ip", "netns", "add", self.name)
        self._run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "up0", "netns", self.name)
        for attempt in range(200):
            third, fourth = (os.getpid() + attempt * 7) % 250 + 1, 4 * ((os.getpid() // 250 + attempt) % 60)
            self.ip, self.node_ip = (f"172.31.{third}.{fourth + last}" for last in (1, 2))
            shown = subprocess.run(["ip", "-4", "addr"], capture_output=True, text=True, check=True).stdout
            if f" {self.ip}/" not in shown:
                self._run("ip", "addr", "add", f"{self.ip}/30", "dev", self.name)
                break
        self._run("ip", "link", "set", self.name, "up")
        for argv in (
            ("addr", "add", f"{self.node_ip}/30", "dev", "up0"),
            ("link", "set", "up0", "up"),
            ("link", "set", "lo", "up"),
            ("route", "add", "default", "via", self.ip),  # kubelets insist on one; beyond the cable nothing forwards
        ):
            self._run("ip", "-n", self.name, *argv)

    def _control_plane(self) -> None:
        work = self.work
        self._run("openssl", "genrsa", "-out", str(work / "sa.key"), "2048")
        self._run("openssl", "rsa", "-in", str(work / "sa.key"), "-pubout", "-out", str(work / "sa.pub"))
        (work / "tokens.csv").write_text(f"{TOKEN},admin,1,system:masters\n{USER},tester,2\n{NOBODY},nobody,3\n")
        self.port = free_port(self.ip)
        self._ports = {name: free_port() for name in ("etcd", "peer", "cm", "scheduler")}
        self.url = f"https://{self.ip}:{self.port}"
        self.start_etcd()
        self.start_api()
        (work / "kubeconfig").write_text(json.dumps(self.config({"admin": TOKEN})))
        shared = ("--kubeconfig", "kubeconfig", "--leader-elect=false", "--bind-address=127.0.0.1", "--port=0")
        self._spawn(
            "kube-controller-manager", str(self.bins / "kube-controller-manager"), *shared, f"--cert-dir={work}/cm",
            f"--secure-port={self._ports['cm']}", "--service-account-private-key-file=sa.key",
            "--use-service-account-credentials=false",
        )  # fmt: skip
        self._spawn(
            "kube-scheduler", str(self.bins / "kube-scheduler"), *shared, f"--secure-port={self._ports['scheduler']}",
            f"--cert-dir={work}/scheduler",
        )  # fmt: skip

    def start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("etcd", "peer"))
        self._spawn(
            "etcd", "etcd", "--name", "e", "--data-dir", str(self.work / "etcd"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"e={peer}", "--log-level", "error", "--unsafe-no-fsync",
        )  # fmt: skip

    def start_api(self) -> None:
        """The API server, until it is ready."""
        self._spawn(
            "kube-apiserver", str(self.bins / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._ports['etcd']}", f"--bind-address={self.ip}",
            f"--advertise-address={self.ip}", f"--secure-port={self.port}", f"--cert-dir={self.work}/cert",
            "--token-auth-file=tokens.csv", "--authorization-mode=RBAC", "--service-account-key-file=sa.pub",
            "--service-account-signing-key-file=sa.key", "--service-account-issuer=https://kubernetes.default.svc",
            "--api-audiences=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true", "--disable-admission-plugins=ServiceAccount",
            "--kubelet-preferred-address-types=InternalIP", "--endpoint-reconciler-type=none",
        )  # fmt: skip
        self.wait(lambda: (self.work / "cert/apiserver.crt").exists(), 60, "the API server's certificate")
        self.wait(lambda: self._ready(), 120, "the API server")

    def stop_api(self) -> None:
        """A control plane that is down."""
        self._kill("kube-apiserver")

    def _ready(self) -> bool:
        with contextlib.suppress(OSError, urllib.error.URLError):
            return self.raw("GET", "/readyz") == b"ok" and self.call("GET", "/api/v1/namespaces/default") is not None
        return False

    def _node(self) -> None:
        work = self.work
        self.before = {name: Path("/proc/sys", name).read_text() for name in SYSCTLS}
        (work / "containerd.toml").write_text(CONTAINERD.format(work=work, pause=PAUSE_IMAGE))
        (work / "cni").mkdir()
        ranges = [[{"subnet": "10.88.0.0/16"}]]
        ipam = {"type": "host-local", "dataDir": f"{work}/ipam", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        bridge = {
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": ipam,
        }
        (work / "cni/10.conflist").write_text(json.dumps({"cniVersion": "0.4.0", "name": "k8s", "plugins": [bridge]}))
        (work / "kubelet.yaml").write_text(KUBELET)
        self._spawn("containerd", "containerd", "-c", "containerd.toml", inside=True)
        self.wait(lambda: (work / "containerd.sock").exists() and self._ctr("version"), 60, "containerd")
        for archive in ("pause.tar", "python3.tar", "bare.tar"):
            assert self._ctr("images", "import", "--no-unpack", str(self.bins / archive)), f"{archive} was not imported"
        self._spawn(
            "kubelet", str(self.bins / "kubelet"), "--config", "kubelet.yaml", "--kubeconfig", "kubeconfig",
            "--container-runtime", "remote", "--container-runtime-endpoint", f"unix://{work}/containerd.sock",
            "--root-dir", str(work / "kubelet"), "--cert-dir", str(work / "kubelet-pki"), "--node-ip", self.node_ip,
            "--hostname-override", "node-1", "--pod-infra-container-image", PAUSE_IMAGE,
            inside=True, AWS_EC2_METADATA_DISABLED="true",
        )  # fmt: skip
        self.wait(self._node_ready, 120, "the node")

    def _ctr(self, *argv: str) -> bool:
        socket_path = str(self.work / "containerd.sock")
        done = subprocess.run(["ctr", "-a", socket_path, "-n", "k8s.io", *argv], capture_output=True, check=False)
        return done.returncode == 0

    def _node_ready(self) -> bool:
        with contextlib.suppress(urllib.error.HTTPError):
            status = self.call("GET", "/api/v1/nodes/node-1")["status"]
            return any(one["type"] == "Ready" and one["status"] == "True" for one in status["conditions"])
        return False

    def wait(self, action: Any, seconds: float, what: str) -> Any:
        end = time.monotonic() + seconds
        while not (found := action()):
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended: {self.tail(name)}"
            assert time.monotonic() < end, f"{what} was not there within {seconds} s: {self.tail('kubelet')}"
            time.sleep(0.1)
        return found

    def tail(self, name: str) -> str:
        path = self.work / f"{name}.log"
        return path.read_text(errors="replace")[-1500:] if path.exists() else ""

    def _kill(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def stop(self) -> None:
        """End everything, containers first, and put the machine back."""
        if "kubelet" in self.processes:
            with contextlib.suppress(Exception):
                self.clear()
        for name in ("kubelet", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
            self._kill(name)
        self._kill_shims()
        self._kill("containerd")
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (mount := line.split()[1]).startswith(str(self.work)):
                subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        for name, value in self.before.items():
            Path("/proc/sys", name).write_text(value)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        shutil.rmtree(self.work, ignore_errors=True)

    def _kill_shims(self) -> None:
        """Containers of ours that are left, by the socket in their shims' command lines."""
        wanted = f"{self.work}/containerd.sock".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (path / "cmdline").read_bytes()
                if b"containerd-shim" in line and wanted in line:
                    children = (path / "task" / path.name / "children").read_text().split()
                    for child in children:
                        os.kill(int(child), signal.SIGKILL)
                    os.kill(int(path.name), signal.SIGKILL)

    # the API as its administrator ------------------------------------------------------------------------------------
    def config(self, users: dict[str, str], namespaces: dict[str, str] | None = None) -> dict[str, Any]:
        """A kubeconfig with one context for each user."""
        spaces = namespaces or {}
        named = {name: (token, spaces.get(name, "default")) for name, token in users.items()}
        return config_of(self.url, named, **{"certificate-authority": f"{self.work}/cert/apiserver.crt"})

    def foreign(
        self, name: str, namespace: str = "default", *, labels: Any = None, cpu: float = 0, **more: Any
    ) -> None:
        """A pod of somebody else."""
        container = {"name": "c", "image": BARE_IMAGE, "imagePullPolicy": "Never", "command": ["sleep", "1000"],
                     "resources": {"requests": {"cpu": f"{cpu:g}"}}}  # fmt: skip
        spec = {"containers": [container], "terminationGracePeriodSeconds": 0, **more}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}
        self.call("POST", f"/api/v1/namespaces/{namespace}/pods", pod)

    def back_volume(self, claim: str) -> None:
        """Give a claim its storage: a folder of the node."""
        (self.work / claim).mkdir()
        spec = {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": str(self.work / claim)},
            "claimRef": {"namespace": "default", "name": claim},
        }  # fmt: skip
        volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": claim}, "spec": spec}
        self.call("POST", "/api/v1/persistentvolumes", volume)
        path = f"/api/v1/namespaces/default/persistentvolumeclaims/{claim}"
        self.wait(lambda: self.call("GET", path)["status"].get("phase") == "Bound", 60, "a bound volume")

    def namespace(self, name: str) -> None:
        """A namespace that is not there yet."""
        self.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def quota(self, namespace: str) -> None:
        """A namespace in which no pod fits."""
        self.namespace(namespace)
        self.limit_pods(namespace, 0)

    def limit_pods(self, namespace: str, most: int) -> None:
        """A quota that is in force."""
        path = f"/api/v1/namespaces/{namespace}/resourcequotas"
        spec = {"hard": {"pods": str(most)}}
        self.call(
            "POST", path, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"}, "spec": spec}
        )
        self.wait(lambda: self.call("GET", f"{path}/pods")["status"].get("hard"), 30, "a quota")

    def raw(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> bytes:
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self.work / "cert/apiserver.crt"))
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        asked = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        with urllib.request.urlopen(asked, timeout=20, context=self._tls) as reply:
            return reply.read()

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        return json.loads(self.raw(method, path, body, kind))

    def pods(self, namespace: str = "default") -> list[dict[str, Any]]:
        return self.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]

    def all(self, kind: str, namespace: str) -> list[dict[str, Any]]:
        """All objects of a kind but the API server's own service."""
        group = "apis/networking.k8s.io/v1" if kind == "ingresses" else "api/v1"
        found = self.call("GET", f"/{group}/namespaces/{namespace}/{kind}")["items"]
        return [one for one in found if one["metadata"]["name"] != "kubernetes"]

    def names(self, namespace: str = "default") -> list[str]:
        """Names of everything in a namespace that Styx could have made."""
        kinds = ("pods", "services", "persistentvolumeclaims", "ingresses")
        return sorted(f"{kind}/{one['metadata']['name']}" for kind in kinds for one in self.all(kind, namespace))

    def capacity(self, name: str, count: int) -> None:
        """Give the node an extended resource."""
        patch = [{"op": "add", "path": f"/status/capacity/{name.replace('/', '~1')}", "value": str(count)}]
        self.call("PATCH", "/api/v1/nodes/node-1/status", patch, "application/json-patch+json")

    def label(self, **labels: str | None) -> None:
        self.call("PATCH", "/api/v1/nodes/node-1", {"metadata": {"labels": labels}}, "application/merge-patch+json")

    def evict(self, pod: str, namespace: str = "default") -> None:
        """As `kubectl drain` does it."""
        body = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        self.call("POST", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", body)

    def cordon(self, yes: bool) -> None:
        """As `kubectl drain` begins."""
        path = "/api/v1/nodes/node-1"
        self.call("PATCH", path, {"spec": {"unschedulable": yes}}, "application/merge-patch+json")
        self.wait(lambda: bool(self.call("GET", path)["spec"].get("taints")) == yes, 30, "the node's taint")

    def preempt(self, pod: str) -> None:
        """Ask for so much with a higher priority that the scheduler takes the pod's place; the asker is `urgent`."""
        kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "urgent"}}
        self.call("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", {**kind, "value": 1000})
        has = float(self.call("GET", "/api/v1/nodes/node-1")["status"]["allocatable"]["cpu"])
        self.foreign("urgent", priorityClassName="urgent", cpu=has - 0.25)
        self.wait(lambda: pod not in [one["metadata"]["name"] for one in self.pods()], 60, "the pod's end")

    def clear(self, namespaces: Iterator[str] | tuple[str, ...] = ()) -> None:
        """Remove every pod, and wait until the kubelet has."""
        everywhere = [one["metadata"]["name"] for one in self.call("GET", "/api/v1/namespaces")["items"]]
        for namespace in namespaces or everywhere:
            self.call("DELETE", f"/api/v1/namespaces/{namespace}/pods?gracePeriodSeconds=1")
        end = time.monotonic() + 60
        while any(self.pods(namespace) for namespace in namespaces or everywhere) and time.monotonic() < end:
            time.sleep(0.2)


__all__ = ["BARE_IMAGE", "PYTHON_IMAGE", "USER", "RealKube", "available"]
