"""Keeps the lease of a node: remembers it, judges it, and ends the node when it has run out."""

from __future__ import annotations

import os
import threading
import time

from styx_agent import files, lease
from styx_agent.faults import is_disk_full
from styx_agent.identity import NODE_MARK, SELF_ACTION_MARK
from styx_agent.journal import note
from styx_agent.lean import TYPE_CHECKING
from styx_agent.paths import State

if TYPE_CHECKING:
    from typing import Any, Callable

_COMMAND_S = 120.0
_FIRST_RETRY_S = 5.0
_LONGEST_RETRY_S = 300.0
_POWEROFF = (["systemctl", "poweroff"], ["poweroff"], ["shutdown", "-h", "now"])


class Keeper:
    """Holds the lease.

    `observe(lease, set_at, renewed_at)` looks at the node; `end_all(reason)` ends every process of it but the agent;
    `leave()` ends the agent and does not return; `env()` is the environment for a command.
    """

    def __init__(
        self,
        state: State,
        observe: Callable[[lease.Lease, float, float], lease.Observation],
        end_all: Callable[[str], list[int]],
        leave: Callable[[], None],
        env: Callable[[], dict[str, str]],
    ) -> None:
        self._state = state
        self._observe = observe
        self._end_all = end_all
        self._leave = leave
        self._env = env
        self._lock = threading.Lock()
        record = files.read_object(state.lease)
        self._lease: lease.Lease | None = record.get("lease") if isinstance(record.get("lease"), dict) else None
        self._set_at = _time(record.get("set_at"))
        self._renewed_at = _time(record.get("renewed_at"))
        self._written_at = 0.0
        self._unsaved = False
        self._ending: str | None = None
        self._overdue: str | None = None
        """Why the lease has run out on a node that can't end itself; it is looked at again, for it may be renewed."""

    def set(self, params: dict[str, Any]) -> dict[str, Any]:
        """Replace the lease. Counts as a renewal.

        Raises:
            Fault: It is wrong, and the old one stays.
        """
        parsed = lease.parse(params, time.time())
        with self._lock:
            self._lease = parsed
            self._set_at = self._renewed_at = time.time()
            self._write()
        return self.view()

    def view(self) -> dict[str, Any]:
        """The lease with its end and the reason; empty when none was set."""
        with self._lock:
            held, set_at, renewed_at = self._lease, self._set_at, self._renewed_at
            ending = self._ending
        if held is None:
            return {}
        verdict = lease.decide(held, self._observe(held, set_at, renewed_at))
        over = ending is not None or (verdict.due and _action(held)["kind"] == "none")
        return {**held, "ends_at": verdict.ends_at, "reason": ending or verdict.reason, "ending": over}

    def renew(self) -> None:
        """The owner is alive."""
        with self._lock:
            self._renewed_at = time.time()
            limit = (self._lease or {}).get("dead_man_s")
            # Written now and then only: losing one makes the end at most a tenth of the limit early.
            if limit is not None and self._renewed_at - self._written_at > min(limit / 10, 60.0):
                self._write()

    def judge(self) -> None:
        """End the node if its lease says so. Called every second or so."""
        with self._lock:
            if self._unsaved:
                self._write()
            held, set_at, renewed_at = self._lease, self._set_at, self._renewed_at
            if held is None or self._ending is not None:
                return
        verdict = lease.decide(held, self._observe(held, set_at, renewed_at))
        if not verdict.due or verdict.reason is None:
            self._overdue = None
            return
        action = _action(held)
        if action["kind"] == "none":
            if self._overdue is None:
                note("the lease has run out: %s; this node cannot end itself" % verdict.reason)
            self._overdue = verdict.reason
            return
        self._ending = verdict.reason
        note("the lease has run out: %s; action %s (%s)" % (verdict.reason, held["action"], action["kind"]))
        threading.Thread(target=self._perform, args=(action, verdict.reason), name="end", daemon=True).start()

    def _write(self) -> None:
        record = {"lease": self._lease, "set_at": self._set_at, "renewed_at": self._renewed_at}
        try:
            files.write_json(self._state.lease, record, durable=True)
            self._written_at = time.time()
            self._unsaved = False
        except OSError as error:
            self._unsaved = True
            if not is_disk_full(error):
                note("cannot write the lease: %s" % error)

    def _perform(self, action: dict[str, Any], reason: str) -> None:
        kind = action["kind"]
        why = "its lease has run out: %s" % reason
        if kind == "exit":
            self._end_all(why)
            self._leave()
            return
        if kind == "poweroff":
            self._end_all(why)
            self._insist(_poweroff_commands(self._env().get("PATH")))
        else:
            self._insist([list(action["argv"])])
            self._end_all(why)
        self._leave()

    def _insist(self, commands: list[list[str]]) -> None:
        """Run the commands, in turn, until one succeeds: a machine that cannot end itself goes on costing."""
        pause = _FIRST_RETRY_S
        while True:
            for argv in commands:
                problem = self._run(argv)
                if problem is None:
                    return
                note("the self action %s failed: %s" % (argv[0], problem))
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_RETRY_S)

    def _run(self, argv: list[str]) -> str | None:
        """What went wrong, or None."""
        import subprocess

        # Without the node's mark and with its own: it must survive the end of everything else here.
        env = {name: value for name, value in self._env().items() if name != NODE_MARK}
        env[SELF_ACTION_MARK] = "1"
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=self._state.root,
                env=env,
                timeout=_COMMAND_S,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "it did not end within %g s" % _COMMAND_S
        except OSError as error:
            return str(error)
        if done.returncode == 0:
            return None
        return "exit code %d: %s" % (done.returncode, done.stderr.decode("utf-8", "replace").strip()[-500:])


def _action(held: lease.Lease) -> dict[str, Any]:
    """What the node does when its lease has run out."""
    return held["actions"].get(held["action"]) or {"kind": "exit"}


def _poweroff_commands(path: str | None) -> list[list[str]]:
    prefix = [] if os.geteuid() == 0 else ["sudo", "-n"]
    import shutil

    found = [[*prefix, *argv] for argv in _POWEROFF if shutil.which(argv[0], path=path)]
    return found or [[*prefix, "poweroff"]]


def _time(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
