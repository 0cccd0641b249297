"""Where the Ray part of one node keeps its things, and how its small files are read and written."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from typing import Any, Dict

MARK = "STYX_RAY"
"""The variable that every process of a node's Ray carries; its value is `<cluster key>/<rank>`."""

CLAIM = "ports.json"


class NodeFailure(Exception):
    """Something that stops the work on this node; the text is one sentence for the user."""


class Layout:
    """The paths of one node's Ray. `root` is the folder `ray` inside the agent's state folder."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.spec = self._in("spec.json")
        self.status = self._in("status.json")
        self.ports = self._in("ports.json")
        self.token = self._in("token")
        self.agent = self._in("agent.pyz")
        self.log = self._in("keeper.log")
        self.ensure_lock = self._in("ensure.lock")
        self.keeper_lock = self._in("keeper.lock")
        self.environments = os.path.join(self.agent_state, "ray-env")
        self.wheels = os.path.join(self.environments, "wheels")
        self.temp = os.path.join(short_folder(), "r-" + _digest(self.root))
        self.claim = os.path.join(self.temp, CLAIM)

    def _in(self, name: str) -> str:
        return os.path.join(self.root, name)

    @property
    def agent_state(self) -> str:
        """The agent's state folder."""
        return os.path.dirname(self.root)


def short_folder() -> str:
    """The folder of this user for sockets: their paths may have 107 bytes only. The agent uses the same."""
    return os.environ.get("STYX_SOCKET_DIR") or "/tmp/sx-%d" % os.getuid()  # noqa: S108 - owner and mode are checked


def private_folder(path: str) -> None:
    """Make a folder that only this user can enter, inside the short folder.

    Raises:
        NodeFailure: It exists and belongs to somebody else, or it cannot be made.
    """
    for folder in (path, os.path.dirname(path)):
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            seen = os.lstat(folder)
            if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
                raise NodeFailure(
                    "the folder %s is not a folder of this user; remove it or set STYX_SOCKET_DIR" % folder
                )
            if seen.st_mode & 0o077:
                os.chmod(folder, 0o700)
        except OSError as error:
            raise NodeFailure("cannot make the folder %s: %s" % (folder, error.strerror)) from error


def read_json(path: str) -> Dict[str, Any]:
    """A JSON object from a file; empty when there is none or it is damaged."""
    try:
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_private(path: str, text: str) -> None:
    """Write a file of mode 0600 so that a reader sees the old or the new text and nothing else."""
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: str, value: Dict[str, Any]) -> None:
    """Write a JSON object atomically."""
    write_private(path, json.dumps(value, sort_keys=True))


def spec_digest(spec: Dict[str, Any]) -> str:
    """Equal for equal specs: decides whether a running Ray still is the one asked for."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode("utf-8")).hexdigest()[:16]


def _digest(root: str) -> str:
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:12]
