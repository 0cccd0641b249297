"""The queue of a cluster, kept by rank 0: admits jobs, runs their phases one after the other, cancels them."""

from __future__ import annotations

import os
import threading
import time

from styx_agent import files, jobrecord, protocol, slots, taskenv
from styx_agent.config import Config
from styx_agent.faults import Fault, is_disk_full
from styx_agent.identity import Identity
from styx_agent.jobrecord import Job, Step
from styx_agent.journal import note
from styx_agent.lean import TYPE_CHECKING
from styx_agent.paths import State
from styx_agent.phases import Orders, Phase, Phases, job_ids, read_record

if TYPE_CHECKING:
    from typing import Any, Callable

DRIVER_GRACE_S = 15.0
_PROGRESS_LOOK_S = 1.0


class Queue:
    """All methods may be called from any thread. `poke` is called after every change, `config` gives the latest."""

    def __init__(
        self, state: State, who: Identity, phases: Phases, config: Callable[[], Config], poke: Callable[[], None]
    ) -> None:
        self._state = state
        self._who = who
        self._phases = phases
        self._config = config
        self._poke = poke
        self._changed = threading.Condition(threading.RLock())
        self._jobs: dict[int, Job] = {}
        self._tokens: dict[str, int] = {}
        self._unsaved: set[int] = set()
        self._closed: str | None = None
        self.last_active = 0.0
        """When the queue was last seen busy."""

    def load(self) -> None:
        """Read the records of an earlier agent and go on with what was under way. Call after phases are recovered."""
        with self._changed:
            for job_id in job_ids(self._state):
                path = self._state.job(job_id, "job.json")
                if not os.path.exists(path):
                    continue  # a submit that never ended
                job = jobrecord.from_record(job_id, files.read_object(path))
                self._jobs[job_id] = job
                self._tokens[str(job.spec["token"])] = job_id
                self.last_active = max(self.last_active, job.ended_at or job.submitted_at)
            for job in list(self._jobs.values()):
                if not job.ended and job.state != protocol.PENDING:
                    self._resume(job)
            self._admit()
        leftover = [job.job_id for job in self._jobs.values() if job.cancelled and not job.ended]
        if leftover:
            threading.Thread(target=self._finish_cancel, args=(leftover, 0.0), daemon=True).start()

    def _resume(self, job: Job) -> None:
        if job.cancelled:
            return
        order = ("driver",) if job.coordinated else ("run", "setup")
        for name in order:
            phase = self._phases.get(job.job_id, name)
            if phase is not None:
                if phase.running:
                    self._follow_driver(job, phase)
                else:
                    self._advance(job, phase)
                return
        self._take(job, jobrecord.first_step(job.spec))

    def submit(self, params: dict[str, Any]) -> int:
        """Accept a job; its id. The same token gives the same job.

        Raises:
            Fault: The spec is wrong, or the disk is full; then nothing was accepted.
        """
        spec, secret_env = jobrecord.parse(params)
        with self._changed:
            known = self._tokens.get(spec["token"])
            if known is not None:
                return known
            if self._closed is not None:
                raise Fault(protocol.BAD_REQUEST, "the node is ending (%s) and takes no more jobs" % self._closed)
            job = Job(max(self._jobs, default=0) + 1, spec, time.time())
            folder = self._state.job(job.job_id, "")
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
                if secret_env:
                    files.write_json(self._state.job(job.job_id, "secrets.json"), secret_env)
                files.write_json(self._state.job(job.job_id, "job.json"), job.record(), durable=True)
            except OSError as error:
                import shutil  # here, as elsewhere: a start does without its packers

                shutil.rmtree(folder, ignore_errors=True)
                if is_disk_full(error):
                    raise Fault(protocol.DISK_FULL, "the job was not accepted: no space left on the node") from error
                raise Fault(protocol.INTERNAL, "cannot keep the job: %s" % error) from error
            self._jobs[job.job_id] = job
            self._tokens[spec["token"]] = job.job_id
            self._admit()
            self._announce()
            return job.job_id

    def find(self, job_id: int) -> Job | None:
        """The job with this id."""
        with self._changed:
            return self._jobs.get(job_id)

    def newest(self, limit: int) -> list[protocol.Job]:
        """Views of the latest jobs, newest first."""
        with self._changed:
            return [self._jobs[job_id].view() for job_id in sorted(self._jobs, reverse=True)[:limit]]

    def wait(self, job: Job, not_state: str | None, wait_s: float) -> protocol.Job:
        """The view of a job as soon as its state differs from `not_state`, is final, or the time has passed."""
        with self._changed:
            self._changed.wait_for(lambda: job.state != not_state or job.ended, wait_s)
            return job.view()

    def active(self) -> bool:
        """Whether any job is pending, setting up or running."""
        with self._changed:
            busy = any(not job.ended for job in self._jobs.values())
            if busy:
                self.last_active = time.time()
            return busy

    def save_unsaved(self) -> None:
        """Try again to write records for which there was no room."""
        with self._changed:
            for job_id in sorted(self._unsaved):
                self._save(self._jobs[job_id])

    def reconsider(self) -> None:
        """Look at the queue again: the config has changed."""
        with self._changed:
            self._admit()
            self._announce()

    # -- what moves a job; all with the lock held -------------------------------------------------------------

    def _announce(self) -> None:
        self._changed.notify_all()
        self._poke()

    def _save(self, job: Job) -> None:
        try:
            files.write_json(self._state.job(job.job_id, "job.json"), job.record(), durable=job.ended)
            self._unsaved.discard(job.job_id)
        except OSError as error:
            if job.job_id not in self._unsaved:
                note("cannot write the record of job %d, will try again: %s" % (job.job_id, error))
            self._unsaved.add(job.job_id)

    def _admit(self) -> None:
        if self._closed is not None:
            return
        config = self._config()
        capacity = slots.Capacity(config.num_nodes, config.cpus, config.gpus)
        held, waiting = [], []
        for job_id in sorted(self._jobs):
            job = self._jobs[job_id]
            spec = job.spec
            if job.state == protocol.PENDING and not job.cancelled:
                waiting.append(slots.Need(job_id, spec["num_nodes"], spec["cpus"], spec["gpus"]))
            elif not job.ended and job.state != protocol.PENDING:
                held.append(slots.Held(spec["cpus"], job.shares))
        admission = slots.admit(capacity, held, waiting)
        for job_id, reason in admission.rejects:
            self._finish(self._jobs[job_id], Step(None, protocol.FAILED_DRIVER, None, reason))
        for job_id, shares in admission.starts:
            job = self._jobs[job_id]
            job.shares = shares
            job.started_at = time.time()
            self._take(job, jobrecord.first_step(job.spec))

    def _take(self, job: Job, step: Step) -> None:
        """Do one step; steps that cannot be done end the job with the reason."""
        if step.phase is None:
            self._finish(job, step)
            return
        job.state = step.state
        self._save(job)
        try:
            phase = self._phases.start(job.job_id, step.phase, self._orders(job, step.phase))
        except OSError as error:
            failed = protocol.FAILED_SETUP if step.phase == "setup" else protocol.FAILED
            if is_disk_full(error):
                self._finish(job, Step(None, failed, None, "disk full: cannot start the job: %s" % error))
            else:
                why = "cannot start the phase %s: %s" % (step.phase, error)
                self._finish(job, Step(None, protocol.FAILED_DRIVER, None, why))
            return
        self._follow_driver(job, phase)

    def _finish(self, job: Job, step: Step) -> None:
        job.state, job.exit_code, job.reason = step.state, step.exit_code, step.reason
        job.ended_at = self.last_active = time.time()
        job.shares = {}
        self._save(job)
        for name in ("secrets.json", "driver.json"):
            files.remove(self._state.job(job.job_id, name))
        self._announce()

    def phase_ended(self, phase: Phase) -> None:
        """The next step of the job that `phase` belongs to."""
        outcome = read_record(self._state, phase.job_id, "outcome.json") if phase.name == "driver" else {}
        if phase.name == "driver":
            # Whatever the driver did not end on this node ends with it; other nodes notice by `abandon_s`.
            self._phases.end(phase.job_id, 1.0)
        with self._changed:
            job = self._jobs.get(phase.job_id)
            mine = job is not None and job.coordinated == (phase.name == "driver")
            if job is not None and mine and not job.ended and not job.cancelled:
                self._advance(job, phase, outcome)
            self._admit()
            self._announce()

    def _advance(self, job: Job, phase: Phase, outcome: dict[str, Any] | None = None) -> None:
        assert phase.result is not None
        if phase.followed_up:
            return
        phase.followed_up = True
        if outcome is None:
            outcome = read_record(self._state, job.job_id, "outcome.json")
        self._take(job, jobrecord.next_step(job.spec, phase.name, phase.result, outcome))

    def _orders(self, job: Job, phase: str) -> Orders:
        spec, config = job.spec, self._config()
        secrets = read_record(self._state, job.job_id, "secrets.json")
        if phase == "driver":
            return self._driver_orders(job, secrets)
        task = taskenv.Task(
            job.job_id,
            phase,
            spec["task_id"],
            spec["user"],
            1,
            spec["gpus_per_node"],
            job.shares,
            {**spec["env"], **secrets},
        )
        cwd = taskenv.working_folder(self._who.home, spec["workdir"])
        env = taskenv.task_env(self._who, config, task, contained=self._phases.contained)
        return Orders(spec[phase], [], env, cwd, phase != "setup")

    def _driver_orders(self, job: Job, secrets: dict[str, str]) -> Orders:
        job_file = self._state.job(job.job_id, "driver.json")
        outcome_file = self._state.job(job.job_id, "outcome.json")
        files.remove(outcome_file)
        files.write_json(job_file, {**job.spec, "secret_env": secrets, "job_id": job.job_id})
        env = {
            **taskenv.basics(self._who, self._config()),
            **job.spec["driver"]["env"],
            **taskenv.marks(self._who, job.job_id),
            "STYX_JOB_FILE": job_file,
            "STYX_AGENT_SOCKET": self._state.socket,
            "STYX_OUTCOME_FILE": outcome_file,
        }
        return Orders(None, job.spec["driver"]["argv"], env, self._who.home, True)

    def _follow_driver(self, job: Job, phase: Phase) -> None:
        if phase.name == "driver" and job.state != protocol.RUNNING:
            threading.Thread(target=self._follow, args=(job, phase), name="driver", daemon=True).start()

    def _follow(self, job: Job, phase: Phase) -> None:
        """Show what a driver says of its progress, until it says that the job runs."""
        pause = 0.05
        while phase.running and job.state != protocol.RUNNING:
            said = read_record(self._state, job.job_id, "outcome.json").get("state")
            with self._changed:
                if said == protocol.RUNNING and not job.ended and not job.cancelled:
                    job.state = protocol.RUNNING
                    self._save(job)
                    self._announce()
            time.sleep(pause)
            pause = min(pause * 1.5, _PROGRESS_LOOK_S)

    # -- cancel ---------------------------------------------------------------------------------------------

    def close(self, reason: str) -> list[int]:
        """Take and start nothing any more; end every job. Returns survivors."""
        with self._changed:
            self._closed = reason
        return self.cancel(None, 3.0, reason)[1]

    def cancel(self, wanted: list[int] | None, grace_s: float, why: str = "cancelled") -> tuple[list[int], list[int]]:
        """End jobs (None: all that have not ended), verify, and only then call them CANCELLED.

        Returns:
            Ids of the jobs that this call cancelled, and pids that would not die.
        """
        with self._changed:
            chosen = [
                job
                for job_id, job in sorted(self._jobs.items())
                if not job.ended and (wanted is None or job_id in wanted)
            ]
            for job in chosen:
                job.cancelled = job.cancelled or why
                if job.state == protocol.PENDING:
                    self._finish(job, Step(None, protocol.CANCELLED, None, why))
                else:
                    self._save(job)
        running = [job.job_id for job in chosen if not job.ended]
        survivors = self._finish_cancel(running, grace_s)
        return [job.job_id for job in chosen], survivors

    def _finish_cancel(self, ids: list[int], grace_s: float) -> list[int]:
        survivors: list[int] = []
        threads = [threading.Thread(target=self._end_job, args=(i, grace_s, survivors), daemon=True) for i in ids]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with self._changed:
            self._admit()
            self._announce()
        return sorted(survivors)

    def _end_job(self, job_id: int, grace_s: float, survivors: list[int]) -> None:
        job = self._jobs[job_id]
        if job.coordinated:
            self._phases.ask_to_end(job_id, "driver", DRIVER_GRACE_S)
        left = self._phases.end(job_id, grace_s)
        survivors.extend(left)
        with self._changed:
            if job.ended:
                return
            phase = self._phases.get(job_id, "run") or self._phases.get(job_id, "setup")
            code = phase.result.exit_code if phase is not None and phase.result is not None else None
            why = job.cancelled or "cancelled"
            if left:
                why += "; could not end pids %s" % left
            self._finish(job, Step(None, protocol.CANCELLED, code, why))
