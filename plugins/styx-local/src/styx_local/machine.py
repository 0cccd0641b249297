"""One node on disk: its folder, its record, and the lock that keeps two clients from changing it at once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from styx.plugin import Ended, Market, NodeState, Value, write_atomically

_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_RECORD = "machine.json"
_POWER = "power"


class Machine(Value):
    """The record of one node, `machine.json` in its folder. Persisted."""

    version: Literal[1] = 1
    store: str
    """The installation that made it."""
    account: str
    """The machine and user it lives on: a home on a network file system may be shared by several machines."""
    cluster: str
    rank: int
    token: str
    state: NodeState
    instance_type: str
    market: Market
    created_at: datetime
    ended: Ended | None = None
    ports: tuple[int, ...] = ()
    gpus: tuple[int, ...] = ()
    """Indices of the accelerators that are its own."""
    gpu_share: float = 1.0
    """How much of each of them."""
    labels: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """The place of one node on disk, whether or not there is one."""

    cluster: str
    rank: int
    folder: Path

    @property
    def home(self) -> Path:
        """The node's home folder."""
        return self.folder / "home"

    @property
    def state(self) -> Path:
        """The agent's state folder."""
        return self.folder / "agent"

    @property
    def power(self) -> Path:
        """The node writes `stop` or `down` here when it ends itself."""
        return self.folder / _POWER

    @property
    def mark(self) -> str:
        """The value of STYX_NODE in every process of the node."""
        return f"{self.cluster}/{self.rank}"

    def read(self) -> Machine | None:
        """The record; None when there is no node.

        Raises:
            ValueError: There is a node, but its record is missing or damaged.
        """
        try:
            return Machine.model_validate_json((self.folder / _RECORD).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            if not self.folder.is_dir():
                return None
            raise ValueError(f"{self.folder / _RECORD} is missing") from None
        except (OSError, ValidationError) as error:
            raise ValueError(f"{self.folder / _RECORD} is damaged: {_first_line(error)}") from error

    def write(self, machine: Machine) -> None:
        """Replace the record in one step."""
        write_atomically(self.folder / _RECORD, machine.model_dump_json(indent=1))

    def make(self, machine: Machine) -> None:
        """Create the node: its folder appears complete or not at all."""
        self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = Slot(self.cluster, self.rank, Path(tempfile.mkdtemp(dir=self.folder.parent, prefix=".new-")))
        try:
            fresh.home.mkdir(mode=0o700)
            fresh.state.mkdir(mode=0o700)
            fresh.write(machine)
            os.rename(fresh.folder, self.folder)
        except OSError:
            shutil.rmtree(fresh.folder, ignore_errors=True)
            raise

    def empty(self) -> None:
        """Remove all but the record: home, agent, socket."""
        for path in (self.home, self.state):
            remove_tree(path)
        self.power.unlink(missing_ok=True)
        for path in _short_paths(self.state):
            remove_tree(path)
            with contextlib.suppress(OSError):
                path.parent.rmdir()  # when that was the last one of all nodes

    def remove(self) -> None:
        """Remove the node's folder; the record goes last, so that a removal cut short is seen and done again."""
        self.empty()
        remove_tree(self.folder)

    def self_end(self) -> Literal["stop", "down"] | None:
        """What the node last asked for by itself."""
        try:
            text = self.power.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return None
        return "stop" if text == "stop" else "down" if text == "down" else None


class Machines:
    """All nodes under `$STYX_HOME/local`."""

    def __init__(self, home: Path) -> None:
        self.root = Path(os.path.abspath(home)) / "local"

    def slot(self, cluster: str, rank: int) -> Slot:
        """The place of a node.

        Raises:
            ValueError: The key is none; it would name a folder elsewhere.
        """
        if not _KEY.fullmatch(cluster) or rank < 0:
            raise ValueError(f"{cluster!r}/{rank} does not name a node")
        return Slot(cluster, rank, self.root / cluster / str(rank))

    def slots(self, cluster: str | None = None) -> list[Slot]:
        """Every place with a folder, by cluster and rank."""
        found = []
        for name in [cluster] if cluster is not None else self._names(self.root):
            if _KEY.fullmatch(name):
                ranks = sorted(int(rank) for rank in self._names(self.root / name) if rank.isdecimal())
                found += [self.slot(name, rank) for rank in ranks]
        return found

    @staticmethod
    def _names(folder: Path) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def forget(self, cluster: str) -> None:
        """Remove the cluster's folder if no node is left in it, with what a killed `make` left there."""
        if not _KEY.fullmatch(cluster):
            return
        folder = self.root / cluster
        for name in self._names(folder):
            if name.startswith(".new-"):
                remove_tree(folder / name)
        for path in (folder, self.root):
            with contextlib.suppress(OSError):
                path.rmdir()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the one lock of all nodes: for the moment of a folder's making, or the killing of a node's processes.

        The kernel lets go of it when its holder dies, so nobody waits for a dead one.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.root.parent / "locks" / "local-nodes.lock"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def remove_tree(path: Path) -> None:
    """Remove a file or folder, read-only folders within included. Absent is fine.

    Raises:
        OSError: A part of it cannot be removed, such as another user's file.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return

    try:
        shutil.rmtree(path)
    except PermissionError:
        _open_up(str(path))
        shutil.rmtree(path)


def _open_up(folder: str) -> None:
    """Let the owner into a folder and all below it, from the top down: one cannot be entered before it is open."""
    os.chmod(folder, stat.S_IRWXU)
    with os.scandir(folder) as listing:
        below = [entry.path for entry in listing if entry.is_dir(follow_symlinks=False)]
    for path in below:
        _open_up(path)


def _short_paths(state: Path) -> list[Path]:
    """The node's things in the per-user folder of short paths: all that begins with its 12 characters.

    The agent's socket lies there (a socket's path may have 107 bytes), and so does a backend's temporary folder.
    """
    digest = hashlib.sha256(os.fsencode(os.path.realpath(state))).hexdigest()[:12]
    folder = Path(f"/tmp/sx-{os.getuid()}")  # noqa: S108 - only looked at when it is a folder of this user
    try:
        seen = folder.lstat()
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.getuid():
            return []
        return sorted(folder.glob(f"{digest}*"))
    except OSError:
        return []


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
