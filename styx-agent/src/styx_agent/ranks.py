"""Phases of one rank of a job of several nodes, started by the driver through the agent of that node."""

from __future__ import annotations

import os
import threading
import time

from styx_agent import files, slots, taskenv
from styx_agent.config import Config
from styx_agent.faults import Fault, is_disk_full
from styx_agent.fields import Fields, bad
from styx_agent.identity import Identity
from styx_agent.jobs import Queue
from styx_agent.journal import note
from styx_agent.lean import TYPE_CHECKING
from styx_agent.paths import State
from styx_agent.phases import Orders, Phase, Phases
from styx_agent.protocol import BAD_REQUEST, DISK_FULL, INTERNAL, NOT_FOUND

if TYPE_CHECKING:
    from typing import Any, Callable

_CANCELLED = "rank.cancelled"


class Ranks:
    """Serves `rank.start`, `rank.wait` and `rank.cancel`."""

    def __init__(self, state: State, who: Identity, phases: Phases, queue: Queue, config: Callable[[], Config]) -> None:
        self._state = state
        self._who = who
        self._phases = phases
        self._queue = queue
        self._config = config
        self._changed = threading.Condition()
        self._shares: dict[int, slots.Shares] = {}

    def phase_ended(self) -> None:
        """Wake those who wait."""
        with self._changed:
            self._changed.notify_all()

    def start(self, params: dict[str, Any]) -> None:
        """Start a phase here; once for each job and phase.

        Raises:
            Fault: The spec is wrong, the job was cancelled here, or the phase cannot be started.
        """
        fields = Fields(params, "rank.start")
        job_id = fields.whole("job_id", least=1)
        name = fields.one_of("phase", ("setup", "run"))
        script = fields.text("script")
        cwd = taskenv.working_folder(self._who.home, fields.text("workdir", None))
        gpus = float(fields.number("gpus_per_node", 0.0))
        config = self._config()
        with self._changed:
            if os.path.exists(self._state.job(job_id, _CANCELLED)):
                raise Fault(BAD_REQUEST, "job %d was cancelled on rank %d" % (job_id, self._who.rank))
            if self._phases.get(job_id, name) is not None:
                return
            task = taskenv.Task(
                job_id,
                name,
                fields.text("task_id", ""),
                fields.text("user", ""),
                fields.whole("num_nodes", 1, least=1),
                gpus,
                self._pick(job_id, gpus, config),
                {**fields.mapping("env", {}), **fields.mapping("secret_env", {})},
            )
            env = taskenv.task_env(self._who, config, task, contained=self._phases.contained)
            orders = Orders(script, [], env, cwd, name == "run", fields.number("abandon_s", None))
            try:
                self._phases.start(job_id, name, orders)
            except OSError as error:
                if is_disk_full(error):
                    raise Fault(DISK_FULL, "disk full: cannot start %s of job %d" % (name, job_id)) from error
                raise Fault(INTERNAL, "cannot start %s of job %d: %s" % (name, job_id, error)) from error

    def _pick(self, job_id: int, gpus: float, config: Config) -> slots.Shares:
        """The GPUs of a rank: on rank 0 those that the queue gave, elsewhere free ones, by the same rule."""
        job = self._queue.find(job_id)
        if job is not None:
            return job.shares
        if gpus <= 0:
            return {}
        busy = {phase.job_id for phase in self._phases.running()}
        self._shares = {one: shares for one, shares in self._shares.items() if one in busy or one == job_id}
        if job_id not in self._shares:
            free = slots.free_shares(config.gpus, list(self._shares.values()))
            picked = slots.pick_gpus(free, gpus)
            if picked is None:
                raise bad("job %d asks for %g GPUs on rank %d, which has no room" % (job_id, gpus, self._who.rank))
            self._shares[job_id] = picked
        return self._shares[job_id]

    def wait(self, params: dict[str, Any], wait_s: float) -> dict[str, Any]:
        """Whether a phase still runs; returns at once when it has ended."""
        fields = Fields(params, "rank.wait")
        job_id, name = fields.whole("job_id", least=1), fields.text("phase")
        phase = self._phases.get(job_id, name)
        if phase is None:
            raise Fault(NOT_FOUND, "the phase %s of job %d was not started on rank %d" % (name, job_id, self._who.rank))
        found = phase
        with self._changed:
            found.last_asked = time.monotonic()
            self._changed.wait_for(lambda: not found.running, wait_s)
        found.last_asked = time.monotonic()
        result = found.result
        if result is None:
            return {"running": True, "exit_code": None, "reason": None}
        return {"running": False, "exit_code": result.exit_code, "reason": result.reason}

    def cancel(self, job_id: int, grace_s: float) -> list[int]:
        """End every phase of a job here and let none start any more; returns survivors."""
        with self._changed:
            try:
                os.makedirs(self._state.job(job_id, ""), mode=0o700, exist_ok=True)
                files.write_text(self._state.job(job_id, _CANCELLED), "", 0o600)
            except OSError as error:
                note("cannot note that job %d was cancelled: %s" % (job_id, error))
        return self._phases.end(job_id, grace_s, ("setup", "run"))  # not the driver, which may be asking

    def end_abandoned(self) -> None:
        """End phases that nobody has asked after for as long as their starter said."""
        now = time.monotonic()
        for phase in self._phases.running():
            if phase.abandon_s is not None and now - phase.last_asked > phase.abandon_s:
                phase.last_asked = now
                threading.Thread(target=self._end_abandoned, args=(phase,), name="abandoned", daemon=True).start()

    def _end_abandoned(self, phase: Phase) -> None:
        note("nobody asked after job %d, %s, for %s s: ending it" % (phase.job_id, phase.name, phase.abandon_s))
        self.cancel(phase.job_id, 3.0)
