"""Keeps Ray up on one node: starts it, watches its processes, starts it again when one of them ends.

A user's `ray stop` ends every Ray it can see on the host, ours included; ranks are run by the agent, so the job goes
on meanwhile and its coordinator joins again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

from . import ports, processes
from .launch import HEAD_PATIENCE_S, ray_environment
from .layout import MARK, Layout, NodeFailure, private_folder, read_json, short_folder, spec_digest, write_json

STARTING, UP, FAILED, ENDED = "starting", "up", "failed", "ended"

LAUNCH_S = HEAD_PATIENCE_S + 60.0
WATCH_S = 0.3
_FIRST_TRIES = 3
_KEPT = ("PATH", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "STYX_SOCKET_DIR")


def keeper_environment(layout: Layout, spec: Dict[str, Any], inherited: Dict[str, str]) -> Dict[str, str]:
    """The whole environment of the keeper and of every process of Ray: built, so that no credential gets in."""
    env = {name: inherited[name] for name in _KEPT if name in inherited}
    env.setdefault("PATH", os.defpath)
    env.update(spec["env"])
    env.update(ray_environment(layout))
    env["HOME"] = spec["home"]
    env["STYX_NODE"] = env[MARK] = mark(spec)
    env["STYX_AGENT_STATE"] = layout.agent_state
    env["PYTHONPATH"] = layout.agent
    return env


def mark(spec: Dict[str, Any]) -> str:
    """Which node a process belongs to."""
    return "%s/%d" % (spec["key"], spec["rank"])


def backoff_s(failures: int) -> float:
    """How long to wait before the next start after so many short lives in a row."""
    return 0.0 if failures <= 0 else min(30.0, 0.5 * 2 ** (failures - 1))


def remove_leftovers(layout: Layout, spec: Dict[str, Any]) -> List[int]:
    """End everything of an earlier life of this node's Ray, its keeper included; says what survives."""
    recorded = read_json(layout.status)
    keeper = recorded.get("keeper") or [0, None]
    known = [keeper, *recorded.get("processes", [])]

    def find() -> List[int]:
        found = set(processes.in_session(keeper[0], keeper[1]))
        if spec:
            found.update(processes.marked(MARK, mark(spec)))
        found.update(pid for pid, born in known if pid != os.getpid() and processes.alive(pid, born))
        return sorted(found)

    return processes.end(find)


def remove_temp(layout: Layout, key: Optional[str]) -> None:
    """Remove the short folder's part of this node, and the folder itself when it was the last.

    With it go the parts of those nodes of the same cluster on this host that were killed before they could tidy up.
    """
    shutil.rmtree(layout.temp, ignore_errors=True)
    for claim in ports.claims():
        guard = read_json(Layout(claim.root).status).get("keeper") or [0, None]
        if claim.key == key and not processes.alive(*guard):
            shutil.rmtree(claim.temp, ignore_errors=True)
    with contextlib.suppress(OSError):  # the agents' sockets lie there too
        os.rmdir(short_folder())


class Keeper:
    """The keeper of one node. `run` returns when it is told to end or Ray cannot be started at all."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.spec = read_json(layout.spec)
        self.ended = False
        self.lives = 0
        self.failures = 0
        self.processes: List[List[Any]] = []
        self.ports: Dict[str, int] = {}

    def run(self) -> int:
        """Keep Ray up until SIGTERM."""
        lock = open(self.layout.keeper_lock, "w", encoding="ascii")  # noqa: SIM115 - held as long as the process lives
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        processes.adopt_orphans()
        while not self.ended:
            error = self._start()
            if error is None:
                self.lives += 1
                self._watch()
            elif not self.lives and self.failures >= _FIRST_TRIES:
                self._note(FAILED, error)
                return 1
            else:
                self._note(STARTING, error)
            self._pause(backoff_s(self.failures))
        self._note(ENDED, None)
        remove_leftovers(self.layout, self.spec)
        return 0

    def _stop(self, *_: Any) -> None:
        self.ended = True

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.ended and time.monotonic() < until:
            time.sleep(0.1)

    def _start(self) -> Optional[str]:
        """One start of Ray; the reason when it failed."""
        self.processes = []
        survivors = remove_leftovers(self.layout, self.spec)
        if survivors:
            return "processes of an earlier Ray do not end: %s" % survivors
        began = time.monotonic()
        try:
            self._clear_sessions()
            head = int(self.spec["rank"]) == 0  # whose address the others know
            self.ports = ports.reserve(self.layout, self.spec["ip"], self.spec["key"], keep=head)
            self._note(STARTING, None)
            report = self._launch()
        except (NodeFailure, OSError) as error:
            self.failures += 1
            return str(error)
        if "error" in report:
            self.failures += 1
            return str(report["error"])
        self.processes = [list(processes.identity(int(pid))) for _, pid in report["processes"]]
        self._note(UP, None, launched_s=round(time.monotonic() - began, 2))
        return None

    def _clear_sessions(self) -> None:
        """Remove the logs and sockets of earlier lives, but keep the claim on the ports."""
        private_folder(self.layout.temp)
        for name in os.listdir(self.layout.temp):
            if name.startswith("session_"):
                shutil.rmtree(os.path.join(self.layout.temp, name), ignore_errors=True)

    def _launch(self) -> Dict[str, Any]:
        argv = [sys.executable, "-s", sys.argv[0], "launch", "--root", self.layout.root]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=self.layout.root) as child:
            try:
                said, _ = child.communicate(timeout=LAUNCH_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
                raise NodeFailure("Ray did not start within %d s" % LAUNCH_S) from None
        try:
            report = json.loads(said.decode("utf-8").splitlines()[-1])
        except (ValueError, IndexError):
            raise NodeFailure("the start of Ray ended with exit code %s" % child.returncode) from None
        return dict(report)

    def _watch(self) -> None:
        """Return when a process of Ray has ended, or this keeper is to end."""
        up_since = time.monotonic()
        while not self.ended:
            processes.reap()
            if not all(processes.alive(pid, born) for pid, born in self.processes):
                break
            time.sleep(WATCH_S)
        self.failures = self.failures + 1 if time.monotonic() - up_since < 10.0 else 0

    def _note(self, state: str, error: Optional[str], **more: Any) -> None:
        status = {
            "state": state,
            "error": error,
            "digest": spec_digest(self.spec),
            "cluster": self.spec["cluster"],
            "keeper": list(processes.identity(os.getpid())),
            "processes": self.processes,
            "lives": self.lives,
            **more,
        }
        if self.ports:
            status["address"] = "%s:%d" % (self.spec["ip"], self.ports["gcs"])
        try:
            write_json(self.layout.status, status)
        except OSError as failure:
            sys.stderr.write("cannot write %s: %s\n" % (self.layout.status, failure.strerror))
