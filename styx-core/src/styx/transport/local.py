"""The way to a node of the embedded cloud: processes of this machine whose home is the node's folder."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.util import MAGIC_NUMBER
from pathlib import Path

from styx.atomic import write_atomically
from styx.driver import Local
from styx.errors import LocalIOError, Unreachable
from styx.transport.base import Completed, NodeGone, Transport
from styx.transport.process import ProcessChannel, run_on_terminal, run_process

_SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")


def node_search_path(environ: Mapping[str, str]) -> str:
    """The client's PATH without virtual environments, relative entries and repeats, then the system's own folders.

    A job on a local node must not find the client's own interpreter and packages, but always a shell.
    """
    active = environ.get("VIRTUAL_ENV")
    kept: list[str] = []
    for entry in environ.get("PATH", "").split(os.pathsep):
        folder = entry.rstrip("/") or entry
        if not os.path.isabs(folder) or folder in kept:
            continue
        parent = os.path.dirname(folder)
        if os.path.isfile(os.path.join(parent, "pyvenv.cfg")):
            continue
        if active and os.path.realpath(parent) == os.path.realpath(active):
            continue
        kept.append(folder)
    return os.pathsep.join(dict.fromkeys((*kept, *_SYSTEM_PATH)))


def node_environment(reach: Local, environ: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a node's processes: built, never inherited."""
    try:
        me = pwd.getpwuid(os.getuid())
        name, shell = me.pw_name, me.pw_shell
    except KeyError:  # a container may run under a number that has no name
        name, shell = str(os.getuid()), ""
    built = {
        "PATH": node_search_path(environ),
        "USER": name,
        "LOGNAME": name,
        "SHELL": shell or "/bin/sh",
        "LANG": "C.UTF-8",
    }
    built.update(reach.env)
    built["HOME"] = reach.home
    return built


def base_python() -> str:
    """An interpreter outside any virtual environment: this one's base, else the first `python3` on the node's PATH."""
    base = str(getattr(sys, "_base_executable", "") or "")
    if base and os.access(base, os.X_OK):
        return base
    found = shutil.which("python3", path=node_search_path(os.environ))
    if found is None:
        raise Unreachable("no python3 was found on this machine's PATH", hint="install Python 3.8 or newer")
    return found


class LocalTransport(Transport):
    """Runs the node's commands as processes of this machine."""

    compress_level = 0  # bytes only cross a pipe: packing them would cost more than it saves

    def __init__(self, reach: Local, *, environ: Mapping[str, str] | None = None) -> None:
        self.home = reach.home
        self.agent_state = reach.state
        self.python = base_python()
        self.code_magic = MAGIC_NUMBER.hex() if self.python == getattr(sys, "_base_executable", "") else ""
        self._env = node_environment(reach, os.environ if environ is None else environ)
        self.job_env = self._env

    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> ProcessChannel:
        """Start `argv` in the node's home."""
        return ProcessChannel(argv, env={**self._env, **(env or {})}, cwd=self.home)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` in the node's home to its end."""
        return run_process(argv, env=self._env, cwd=self.home, stdin=stdin, timeout_s=timeout_s)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file of this machine."""
        target = Path(path)
        if not os.path.isdir(self.home):
            raise NodeGone(f"the node's folder {self.home} does not exist")
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(target, data, mode=mode)
        except OSError as error:
            raise LocalIOError(f"cannot write {path}: {error.strerror}") from error

    def interactive(self, argv: Sequence[str]) -> int:
        """A command, or the user's login shell, in the node's home on this terminal."""
        env = {**self._env, "TERM": os.environ.get("TERM", "dumb")}
        return run_on_terminal(argv or (env["SHELL"], "-l"), env=env, cwd=self.home)
