"""A private bridge network in the root namespace, found under a lock, and recorded so that others can tidy it up."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import ipaddress
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

_PREFIX = "10.213"
_COUNT = 256
_STATE = Path("/run/styx-machines")
"""Where the networks of all test processes are recorded."""
_LOCK_S = 60.0
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def program(name: str) -> str | None:
    """Where a program of the system is, the folders of root included."""
    return shutil.which(name, path=_PATH)


def ip(*commands: str) -> None:
    """Run commands of iproute2 in this process's network namespace.

    Raises:
        OSError: One of them failed; with what `ip` said.
    """
    done = subprocess.run(
        [program("ip") or "ip", "-batch", "-"], input="\n".join(commands), text=True, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise OSError(f"ip: {done.stderr.strip()} ({'; '.join(commands)})")


@dataclass(frozen=True)
class Network:
    """One bridge with its subnet and the folder of its hosts.

    Attributes:
        number: Which of the subnets.
        folder: A file system in memory for the hosts' disks; it is gone with the network.
    """

    number: int
    folder: Path

    @property
    def bridge(self) -> str:
        """The interface that hosts are plugged into."""
        return f"sxr{self.number}"

    def address(self, host: int) -> str:
        """The address of a host; 1 is this machine."""
        return f"{_PREFIX}.{self.number}.{host}"

    def note(self, pid: int) -> None:
        """Record a host's first process, for whoever tidies up after this process."""
        (self.folder / "pids" / str(pid)).write_text(json.dumps(started(pid)))


@contextmanager
def network() -> Iterator[Network]:
    """A network of this process's own, for as long as the context is entered."""
    state = _STATE
    with _locked(state):
        reap(state)
        mine = _make(state)
    try:
        yield mine
    finally:
        with _locked(state):
            _remove(state, mine.number)


def reap(state: Path) -> None:
    """Remove the networks of processes that are gone. The lock must be held."""
    for record in state.glob("*.json"):
        with suppress(ValueError, KeyError, FileNotFoundError):
            owner = json.loads(record.read_text())
            if started(owner["pid"]) != owner["started"]:
                _remove(state, int(record.stem))


def started(pid: int) -> int | None:
    """When a process started, in the kernel's ticks; None when there is none. With the pid it names one process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return None


@contextmanager
def _locked(state: Path) -> Iterator[None]:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(state / "lock", timeout=_LOCK_S):
        yield


def _make(state: Path) -> Network:
    taken = _networks_in_use()
    for number in range(_COUNT):
        made = Network(number, state / str(number))
        record = state / f"{number}.json"
        subnet = ipaddress.ip_network(f"{made.address(0)}/24")
        if record.exists() or any(subnet.overlaps(other) for other in taken):
            continue
        record.write_text(json.dumps({"pid": os.getpid(), "started": started(os.getpid())}))
        try:
            _mount_memory(made.folder)
            (made.folder / "pids").mkdir()
            ip(f"link add name {made.bridge} type bridge")
            with suppress(OSError):
                Path(f"/proc/sys/net/ipv6/conf/{made.bridge}/disable_ipv6").write_text("1")
            ip(f"address add {made.address(1)}/24 dev {made.bridge}", f"link set {made.bridge} up")
        except BaseException:
            _remove(state, number)
            raise
        return made
    raise OSError(f"all {_COUNT} networks below {_PREFIX}.0.0/16 are in use")


def _networks_in_use() -> list[ipaddress.IPv4Network]:
    listed = subprocess.run(
        [program("ip") or "ip", "-json", "-4", "route", "show", "table", "all"], capture_output=True, check=True
    ).stdout
    found = []
    for route in json.loads(listed or b"[]"):
        with suppress(ValueError):  # `default`
            found.append(ipaddress.IPv4Network(route["dst"], strict=False))
    return found


def _remove(state: Path, number: int) -> None:
    """Remove whatever there is of a network. Hosts have ended by now, unless their test process was killed."""
    gone = Network(number, state / str(number))
    for note in (gone.folder / "pids").glob("*"):
        with suppress(ValueError, ProcessLookupError):
            if started(int(note.name)) == json.loads(note.read_text()):
                os.kill(int(note.name), signal.SIGKILL)
    with suppress(OSError):
        ip(f"link delete {gone.bridge}")
    if gone.folder.exists():
        _unmount(gone.folder)
        shutil.rmtree(gone.folder, ignore_errors=True)
    (state / f"{number}.json").unlink(missing_ok=True)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)


def _mount_memory(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if _libc().mount(b"styx-machines", os.fsencode(folder), b"tmpfs", 0, b"mode=700") != 0:
        raise OSError(ctypes.get_errno(), f"mount a tmpfs on {folder}: {os.strerror(ctypes.get_errno())}")


def _unmount(folder: Path) -> None:
    detach = 2
    _libc().umount2(os.fsencode(folder), detach)
