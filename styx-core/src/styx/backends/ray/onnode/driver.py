"""The coordinator of one job of several nodes, started by rank 0's agent. Performs what `gang` decides.

It never imports Ray: a child process, the link, does. So whatever happens to Ray, the job's outcome is written.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Dict, Optional, Tuple

from . import gang
from .launch import ray_environment
from .layout import Layout, read_json, write_json
from .link import GATHER_S

TICK_S = 0.25
RELINK_PAUSE_S = 1.0
JOIN_S = 25.0
"""How long one attempt to join Ray may take before the next one is made."""
METHODS = {"start": "rank.start", "wait": "rank.wait", "cancel": "rank.cancel"}
TIMEOUTS_S = {"start": gang.ANSWER_S - 1, "wait": gang.ANSWER_S - 1, "cancel": gang.CANCEL_ANSWER_S - 0.5}
CANCEL_GRACE_S = 3.0


def phases_of(job: Dict[str, Any]) -> Tuple[str, ...]:
    """The phases that the job has."""
    return tuple(phase for phase in ("setup", "run") if job.get(phase))


def params_of(job: Dict[str, Any], ask: gang.Ask) -> Dict[str, Any]:
    """What to say to the agent of a rank."""
    if ask.what == "cancel":
        return {"job_id": job["job_id"], "grace_s": CANCEL_GRACE_S}
    if ask.what == "wait":
        return {"job_id": job["job_id"], "phase": ask.phase, "wait_s": gang.POLL_S}
    copied = ("job_id", "workdir", "env", "secret_env", "num_nodes", "gpus_per_node", "task_id", "user")
    shared = {name: job[name] for name in copied if job.get(name) is not None}
    return {**shared, "phase": ask.phase, "script": job[ask.phase], "abandon_s": gang.ABANDON_S}


class LinkProcess:
    """The child that speaks with Ray. What it says, and its end, goes to `events`, marked with its number."""

    def __init__(self, number: int, layout: Layout, order: Dict[str, Any], events: "queue.SimpleQueue[Any]") -> None:
        self.number = number
        self.give_up = time.monotonic() + JOIN_S
        self._events = events
        self._log = open(os.path.join(layout.root, "link.log"), "ab")  # noqa: SIM115 - the child's, closed with it
        if self._log.tell() > 1_000_000:
            self._log.truncate(0)
        self._child = subprocess.Popen(
            [sys.executable, "-s", os.path.abspath(sys.argv[0]), "link", "--root", layout.root],
            env={**os.environ, **ray_environment(layout), "RAY_BACKEND_LOG_LEVEL": "error", "PYTHONPATH": layout.agent},
            cwd=layout.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.send(order)
        threading.Thread(target=self._listen, name="link", daemon=True).start()

    def send(self, value: Dict[str, Any]) -> None:
        """Give the child one line. A child that is gone is noticed elsewhere."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write((json.dumps(value) + "\n").encode("ascii"))
            self._child.stdin.flush()
        except (OSError, ValueError):
            pass

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()
        self._log.close()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        reason = "its coordinator's link ended"
        for line in self._child.stdout:
            try:
                said = json.loads(line.decode("ascii"))
            except ValueError:
                continue  # half a line of a killed child
            reason = said.get("failed") or reason
            if "failed" not in said:
                self._events.put((self.number, said))
        self._events.put((self.number, {"ended": reason}))


class Driver:
    """Runs one job to its end."""

    def __init__(self, layout: Layout, job: Dict[str, Any], outcome_file: str) -> None:
        self._layout = layout
        self._job = job
        self._outcome_file = outcome_file
        self._events: "queue.SimpleQueue[Any]" = queue.SimpleQueue()
        self._link: Optional[LinkProcess] = None
        self._links = 0
        self._relink_at = 0.0
        self._gang, self._actions = gang.begin(int(job["num_nodes"]), phases_of(job), time.monotonic())

    def run(self) -> gang.Outcome:
        """Coordinate until the outcome is known and written."""
        signal.signal(signal.SIGTERM, lambda *_: self._events.put((None, gang.Stop())))
        try:
            while True:
                for action in self._actions:
                    if isinstance(action, gang.Finish):
                        self._write(action.outcome)
                        return action.outcome
                    self._perform(action)
                self._keep_linked()
                event = self._next()
                verdict = self._gang.verdict
                self._gang, self._actions = gang.step(self._gang, event, time.monotonic())
                if self._gang.verdict is not None and verdict is None:
                    self._write(self._gang.verdict)  # whatever becomes of this process from now on
        finally:
            if self._link is not None:
                self._link.close()

    def _perform(self, action: gang.Action) -> None:
        if isinstance(action, gang.Ask):
            if self._link is not None:
                question = {"method": METHODS[action.what], "params": params_of(self._job, action)}
                timeout_s = TIMEOUTS_S[action.what]
                self._link.send({"call": action.call, "rank": action.rank, "timeout_s": timeout_s, **question})
        elif isinstance(action, gang.Progress):
            self._note({"state": action.state})
        elif isinstance(action, gang.Relink):
            self._unlink()
        elif isinstance(action, gang.Say):
            _say(action.text)

    def _unlink(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
            self._relink_at = time.monotonic() + RELINK_PAUSE_S

    def _keep_linked(self) -> None:
        if self._link is not None or time.monotonic() < self._relink_at:
            return
        self._links += 1
        order = {name: self._job.get(name) or 0 for name in ("job_id", "num_nodes", "cpus", "gpus")}
        # Only the first start takes slots for all: later some nodes may be gone, and the others must be reached.
        order["again"] = any(rank.touched for rank in self._gang.ranks)
        self._link = LinkProcess(self._links, self._layout, order, self._events)

    def _next(self) -> gang.Event:
        try:
            number, said = self._events.get(timeout=TICK_S)
        except queue.Empty:
            if self._link is None or time.monotonic() < self._link.give_up:
                return gang.Tick()
            self._unlink()
            return gang.LinkDown("it does not answer")
        if number is None:
            return said  # type: ignore[no-any-return]
        if self._link is None or number != self._link.number:
            return gang.Tick()  # an earlier link's last words
        if "ended" in said:
            self._unlink()
            return gang.LinkDown(str(said["ended"]))
        if "joined" in said:
            self._link.give_up += GATHER_S
            return gang.Tick()
        if "up" in said:
            self._link.give_up = float("inf")
            return gang.LinkUp()
        code, message = str(said.get("code", "")), str(said.get("message", ""))
        return gang.Reply(said["call"], said.get("result"), said.get("error"), code, message)

    def _write(self, outcome: gang.Outcome) -> None:
        self._note({"state": outcome.state, "exit_code": outcome.exit_code, "reason": outcome.reason})

    def _note(self, value: Dict[str, Any]) -> None:
        try:
            write_json(self._outcome_file, value)
        except OSError as error:
            _say("cannot write %s: %s" % (self._outcome_file, error.strerror))


def _say(text: str) -> None:
    sys.stdout.write("styx: %s\n" % text)
    sys.stdout.flush()


def main(root: str) -> int:
    """Run the job that the agent's variables name. The exit code only says whether the outcome is known."""
    job = read_json(os.environ["STYX_JOB_FILE"])
    outcome = Driver(Layout(root), job, os.environ["STYX_OUTCOME_FILE"]).run()
    _say(outcome.state + (": " + outcome.reason if outcome.reason else ""))
    return 0
