"""A podman of one's own for tests: its own storage, called as `docker`, with images made of this machine's programs.

Needs root, and the Debian packages podman and runc. Nothing is pulled, and no other podman on the machine is touched.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

_PROGRAMS = (
    "bash",
    "sh",
    "cat",
    "chown",
    "env",
    "find",
    "grep",
    "id",
    "ls",
    "mkdir",
    "ps",
    "rm",
    "setsid",
    "sleep",
    "stat",
    "touch",
)
_FOLDERS = ("tmp", "root", "proc", "dev", "sys", "etc", "run", "var")
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
"""
_DOCKER = """#!/bin/sh
export CONTAINERS_CONF={folder}/containers.conf SSL_CERT_FILE={folder}/registry.pem
exec {podman} --root {folder}/storage --runroot {run} --storage-driver vfs "$@"
"""


_CLIENT = """#!/bin/sh
export DOCKER_HOST=unix://{folder}/api.sock
exec {docker} "$@"
"""


class PrivatePodman:
    """A podman, or with `api` docker's own program that talks to podman's service.

    Attributes:
        folder: Everything of it.
        bin: A folder for PATH with `docker` in it.
    """

    def __init__(self, folder: Path, *, api: bool = False) -> None:
        self.folder = folder
        self._service: subprocess.Popen[bytes] | None = None
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        (folder / "containers.conf").write_text(_CONF)
        self._run = tempfile.mkdtemp(prefix="sx-pod-")  # podman takes no path of more than 50 characters
        script = self.bin / "docker"
        self._podman = script
        podman = shutil.which("podman") or "/usr/bin/podman"
        script.write_text(_DOCKER.format(folder=folder, run=self._run, podman=podman))
        script.chmod(0o755)
        if api:
            self._serve(script)

    def _serve(self, script: Path) -> None:
        podman = self._podman = self.folder / "podman"
        script.rename(podman)
        script.write_text(_CLIENT.format(folder=self.folder, docker=shutil.which("docker") or "docker"))
        script.chmod(0o755)
        service = [str(podman), "system", "service", "-t", "0", f"unix://{self.folder}/api.sock"]
        self._service = subprocess.Popen(service, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30.0
        while self.docker("ps", "-q", check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.1)

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it; a failure carries what it said."""
        argv = [str(self.bin / "docker"), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def podman(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run podman itself."""
        return subprocess.run([str(self._podman), *words], capture_output=True, text=True, timeout=120, check=True)

    def image(self, name: str, programs: Sequence[str] = _PROGRAMS, user: str = "") -> str:
        """Make an image `localhost/NAME` with some programs of this machine; `/etc/image` holds its name."""
        packed = self.folder / "image.tar"
        with tarfile.open(packed, "w") as tar:
            for dest, source in _closure(programs).items():
                member = tar.gettarinfo(source)
                member.name, member.type = dest.lstrip("/"), tarfile.REGTYPE
                with open(source, "rb") as stream:
                    tar.addfile(member, stream)
            for folder in _FOLDERS:
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
                tar.addfile(entry)
            note = tarfile.TarInfo("etc/image")
            note.size = len(name)
            tar.addfile(note, io.BytesIO(name.encode()))
        change = ("--change", f"USER {user}") if user else ()
        self.docker("import", *change, str(packed), f"localhost/{name}")
        packed.unlink()
        return f"localhost/{name}"

    def containers(self) -> list[str]:
        """Names of all containers, running or not."""
        return self.docker("ps", "-a", "--format", "{{.Names}}").stdout.split()

    def close(self) -> None:
        """Remove every container and image."""
        for name in self.containers():
            self.docker("rm", "-f", "-v", name, check=False)
        if self._service is not None:
            self._service.terminate()
            self._service.wait(30.0)
        for folder in (self.folder, self._run):
            shutil.rmtree(folder, ignore_errors=True)


def _closure(programs: Sequence[str]) -> dict[str, str]:
    """Path in the image -> file of this machine, for programs and the libraries they need."""
    found: dict[str, str] = {}
    for program in programs:
        path = shutil.which(program)
        if path is None:
            raise FileNotFoundError(f"this machine has no {program}")
        real = os.path.realpath(path)
        found[f"/bin/{program}"] = real
        listed = subprocess.run(["ldd", real], capture_output=True, text=True, timeout=30, check=False).stdout
        found.update({library: os.path.realpath(library) for library in re.findall(r"(/\S+)", listed)})
    return found


class Registry:
    """A private registry on loopback with one image, for whoever has the right name and password.

    Attributes:
        address: `host:port`.
        image: Name of the image there, `address/NAME:TAG`.
    """

    def __init__(self, podman: PrivatePodman, image: str, username: str, password: str) -> None:
        self.folder = podman.folder / "registry"
        podman.podman("push", "-q", image, f"dir:{self.folder}")
        wanted = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.headers.get("Authorization") != wanted:
                    self._answer(401, b"{}", "application/json")
                    return
                kind, _, name = self.path.rpartition("/")
                if self.path in ("/v2/", "/v2"):
                    self._answer(200, b"{}", "application/json")
                elif kind.endswith("/manifests"):
                    data = (registry.folder / "manifest.json").read_bytes()
                    self._answer(200, data, json.loads(data).get("mediaType", _MANIFEST))
                else:
                    self._answer(
                        200, (registry.folder / name.removeprefix("sha256:")).read_bytes(), "application/octet-stream"
                    )

            do_HEAD = do_GET

            def _answer(self, status: int, data: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Docker-Distribution-API-Version", "registry/2.0")
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="private"')
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Not on the test's terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.image = f"{self.address}/private/tool:1"
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(_certificate(podman.folder / "registry.pem"))
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


def _certificate(path: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(pem) + private)
    return path
