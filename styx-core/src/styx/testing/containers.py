"""A podman of one's own for tests: its own storage, called as `docker`, with images made of this machine's programs.

Needs root, and the Debian packages podman and runc. Nothing is pulled, and no other podman on the machine is touched.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
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
_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
"""
_DOCKER = """#!/bin/sh
export CONTAINERS_CONF={folder}/containers.conf
exec {podman} --root {folder}/storage --runroot {folder}/run --storage-driver vfs "$@"
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
        script = self.bin / "docker"
        script.write_text(_DOCKER.format(folder=folder, podman=shutil.which("podman") or "/usr/bin/podman"))
        script.chmod(0o755)
        if api:
            self._serve(script)

    def _serve(self, script: Path) -> None:
        podman = self.folder / "podman"
        script.rename(podman)
        script.write_text(_CLIENT.format(folder=self.folder, docker=shutil.which("docker") or "docker"))
        script.chmod(0o755)
        service = [str(podman), "system", "service", "-t", "0", f"unix://{self.folder}/api.sock"]
        self._service = subprocess.Popen(service, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30.0
        while self.docker("ps", "-q", check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.1)

    def docker(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run it."""
        argv = [str(self.bin / "docker"), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=check)

    def image(self, name: str, programs: Sequence[str] = _PROGRAMS) -> str:
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
        self.docker("import", str(packed), f"localhost/{name}")
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
        shutil.rmtree(self.folder, ignore_errors=True)


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
