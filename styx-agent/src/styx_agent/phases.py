"""Starts, watches, re-adopts and ends the runners of this node: one for each phase of each job."""

from __future__ import annotations

import os
import threading
import time

from styx_agent import container, files, locks, processes
from styx_agent.container import Box
from styx_agent.faults import EXIT_DISK_FULL
from styx_agent.identity import JOB_MARK, Identity
from styx_agent.journal import note
from styx_agent.lean import TYPE_CHECKING, NamedTuple, signal
from styx_agent.paths import State
from styx_agent.supervisor import own_command
from styx_agent.taskenv import job_mark, marks

if TYPE_CHECKING:
    import subprocess
    from typing import Any, Callable, Dict, List, Optional, Sequence

    from styx_agent.holder import Holder

PHASES = ("setup", "run", "driver")
ENDED = "ended"
LOST = "lost"
DISK_FULL = "disk_full"
_RUNNER_END_S = 5.0


class Orders(NamedTuple):
    """What a runner shall do. `script` is run by bash, else `argv` as it is."""

    script: Optional[str]
    argv: List[str]
    env: Dict[str, str]
    cwd: str
    end_leftovers: bool
    abandon_s: Optional[float] = None


class Result(NamedTuple):
    """How a phase ended. `kind` LOST: its runner was killed, nobody knows the exit code."""

    kind: str
    exit_code: Optional[int]
    reason: Optional[str]


class Phase:
    """One phase that was started on this node."""

    def __init__(self, job_id: int, name: str, abandon_s: float | None = None) -> None:
        self.job_id = job_id
        self.name = name
        self.abandon_s = abandon_s
        self.last_asked = time.monotonic()
        self.runner: subprocess.Popen[bytes] | None = None
        self.result: Result | None = None
        self.box: Box | None = None
        """The container it runs in."""
        self.seen_alive = True
        self.followed_up = False
        """Whether the queue has drawn its conclusion from the end of this phase."""

    @property
    def running(self) -> bool:
        """Whether its runner may still be alive."""
        return self.result is None


class Phases:
    """All phases of this node. `on_end` is called, on a thread of its own, when one has ended.

    Set-up and run go into the container of `holder`, where there is one.
    """

    def __init__(self, state: State, who: Identity, on_end: Callable[[Phase], None], holder: Holder) -> None:
        self._state = state
        self._who = who
        self._on_end = on_end
        self._holder = holder
        self._lock = threading.Lock()
        self._phases: dict[tuple[int, str], Phase] = {}

    @property
    def contained(self) -> bool:
        """Whether set-up and run go into a container."""
        return self._holder.contained

    def get(self, job_id: int, name: str) -> Phase | None:
        """A phase that was started here."""
        with self._lock:
            return self._phases.get((job_id, name))

    def of_job(self, job_id: int) -> list[Phase]:
        """All phases of a job that were started here."""
        with self._lock:
            return [phase for phase in self._phases.values() if phase.job_id == job_id]

    def running(self) -> list[Phase]:
        """All phases that have not ended."""
        with self._lock:
            return [phase for phase in self._phases.values() if phase.running]

    def start(self, job_id: int, name: str, orders: Orders) -> Phase:
        """Start a phase. The caller sees to it that each is started once.

        Raises:
            OSError: It could not be started, and was not.
        """
        path = self._file(job_id, name)
        for folder in (self._state.job(job_id, ""), os.path.dirname(self._state.log(job_id, name))):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        argv, env, box = orders.argv, orders.env, None
        inside: Dict[str, Any] = {}
        if orders.script is not None:
            box = self._holder.box()
            files.write_text(path("sh"), orders.script, 0o700)
            import shutil

            found = shutil.which("bash", path=orders.env.get("PATH"))
            argv = ["bash" if found else "sh", path("sh")]  # the smallest images have no bash
        if box is not None and orders.script is not None:
            job = job_mark(self._who, job_id)
            program = container.program(job, name, orders.env, orders.script, orders.cwd)
            files.write_text(path("in"), program, 0o600)
            argv, env = container.inside(box, "sh"), {**os.environ, **marks(self._who, job_id)}
            inside = {"box": box.record(), "image": self._holder.image, "job": job, "phase": name, "stdin": path("in")}
        lock = locks.take(path("lock"), block=False)
        if lock is None:
            raise OSError("the phase %s of job %d runs already" % (name, job_id))
        try:
            written = {
                "argv": argv,
                "env": env,
                "inside": inside,
                "cwd": orders.cwd,
                "home": self._who.home,
                "end_leftovers": orders.end_leftovers,
                "abandon_s": orders.abandon_s,
                "log": self._state.log(job_id, name),
                "outcome": path("exit"),
                "pid": path("pid"),
            }
            files.write_json(path("orders"), written)
            phase = Phase(job_id, name, orders.abandon_s)
            phase.box = box
            phase.runner = self._spawn(path("orders"), lock)
        except BaseException:
            files.remove(path("orders"))
            files.remove(path("in"))
            raise
        finally:
            os.close(lock)
        with self._lock:
            self._phases[(job_id, name)] = phase
        self._watch(phase)
        return phase

    def _spawn(self, orders_path: str, lock: int) -> subprocess.Popen[bytes]:
        import subprocess

        return subprocess.Popen(
            [*own_command(), "runner", orders_path],
            stdin=subprocess.DEVNULL,
            cwd=self._state.root,
            env=self._who.process_env(),
            start_new_session=True,
            pass_fds=(lock,),
        )

    def recover(self, job_id: int, name: str) -> Phase | None:
        """A phase that an earlier agent started: running, ended or lost. None when it never began."""
        path = self._file(job_id, name)
        result = self._read_result(job_id, name)
        unread = os.path.exists(path("orders")) or not os.path.exists(path("pid"))
        if result is None and unread and not locks.is_held(path("lock")):
            files.remove(path("orders"))  # never read by a runner: the command was not started
            files.remove(path("in"))
            return None
        record = files.read_object(path("pid"))
        phase = Phase(job_id, name, record.get("abandon_s"))
        phase.box = container.box_of(record.get("box"))
        phase.result = result
        phase.seen_alive = locks.is_held(path("lock"))
        with self._lock:
            self._phases[(job_id, name)] = phase
        if result is None:
            self._watch(phase)
        else:
            files.remove(path("in"))
        return phase

    def recover_all(self) -> None:
        """Take over every phase in the state folder."""
        for job_id in job_ids(self._state):
            for name in PHASES:
                self.recover(job_id, name)

    def _watch(self, phase: Phase) -> None:
        name = "%s-%d" % (phase.name, phase.job_id)
        threading.Thread(target=self._await_end, args=(phase,), name=name, daemon=True).start()

    def _await_end(self, phase: Phase) -> None:
        locks.wait_free(self._file(phase.job_id, phase.name)("lock"))
        files.remove(self._file(phase.job_id, phase.name)("in"))  # it holds secrets, and may not have been read
        code = phase.runner.wait() if phase.runner is not None else None
        result = self._read_result(phase.job_id, phase.name) or self._explain_loss(phase, code)
        if result.kind == LOST:
            note("the runner of job %d, %s, was lost: %s" % (phase.job_id, phase.name, result.reason))
            if phase.box is not None:
                container.end(phase.box, job_mark(self._who, phase.job_id), None, 0.5)
            processes.end(lambda: self._members(phase.job_id), grace_s=0.5)
        phase.result = result
        self._on_end(phase)

    def _explain_loss(self, phase: Phase, code: int | None) -> Result:
        full = files.full_folder([self._state.root, self._who.home])
        if code == EXIT_DISK_FULL or (full is not None and code is not None and code >= 0):
            return Result(DISK_FULL, None, "disk full: no space left under %s" % (full or self._state.root))
        boot = files.read_object(self._file(phase.job_id, phase.name)("pid")).get("boot")
        if boot is not None and boot != processes.boot_id():
            return Result(LOST, None, "the machine was restarted while the job ran")
        if code is not None and code > 0:
            return Result(LOST, None, "the runner failed with exit code %d; see %s" % (code, self._state.output))
        return Result(LOST, None, "the process that watched over the job was killed; its exit code is not known")

    def _read_result(self, job_id: int, name: str) -> Result | None:
        record = files.read_object(self._file(job_id, name)("exit"))
        if "exit_code" not in record:
            return None
        reason = None if record.get("reason") is None else str(record["reason"])
        if record.get("survivors"):
            reason = "%s; could not end pids %s" % (reason or "ended", record["survivors"])
        code = record["exit_code"]
        kind = DISK_FULL if record.get("disk_full") else ENDED
        return Result(kind, int(code) if isinstance(code, int) else None, reason)

    def _file(self, job_id: int, name: str) -> Callable[[str], str]:
        return lambda suffix: self._state.job(job_id, "%s.%s" % (name, suffix))

    def _runner_pids(self, job_id: int, names: Sequence[str] = PHASES) -> list[int]:
        """Pids of the runners of these phases of a job that are alive."""
        found = []
        for phase in self.of_job(job_id):
            if not phase.running or phase.name not in names:
                continue
            if phase.runner is not None:
                found.append(phase.runner.pid)
                continue
            record = files.read_object(self._file(job_id, phase.name)("pid"))
            pid, start = record.get("pid"), record.get("start")
            if isinstance(pid, int) and isinstance(start, str) and processes.is_alive(pid, start):
                found.append(pid)
        return found

    def _members(self, job_id: int, names: Sequence[str] = PHASES) -> list[processes.Process]:
        """Every living process of a job on this node, without its runners and without phases that are not in `names`.

        Besides what descends from the runners these are the processes that carry the job's mark or write its logs.
        """
        seen = processes.table()
        runners = self._runner_pids(job_id)
        found = processes.descendants(seen, runners)
        mark = {JOB_MARK: job_mark(self._who, job_id)}
        others = [pid for pid in seen if pid not in found and pid not in runners]
        logs = os.path.dirname(self._state.log(job_id, "run"))
        strangers = processes.marked(others, mark) | processes.writing_below(others, logs)
        for phase in self.of_job(job_id):
            child = files.read_object(self._file(job_id, phase.name)("pid")).get("child")
            # Only while nobody can have got the pid anew, as after a restart of the machine.
            if phase.running and phase.seen_alive and isinstance(child, int):
                strangers |= {pid for pid, one in seen.items() if one.session == child}
        found |= strangers | processes.descendants(seen, strangers)
        spared = self._runner_pids(job_id, [name for name in PHASES if name not in names])
        found -= {os.getpid(), *runners} | processes.descendants(seen, spared)
        return [seen[pid] for pid in found if not seen[pid].dead]

    def end(self, job_id: int, grace_s: float, names: Sequence[str] = PHASES) -> list[int]:
        """End everything of a job on this node, or these phases of it, and verify; returns the pids of survivors."""
        left = self._end_inside(job_id, grace_s, names)
        deadline = time.monotonic() + grace_s + 15.0
        survivors = processes.end(lambda: self._members(job_id, names), grace_s=grace_s)
        while self._unfinished(job_id, names) and time.monotonic() < deadline:
            # A runner that was about to start its command when we looked: look again until it is through.
            survivors = processes.end(lambda: self._members(job_id, names), grace_s=0.0, deadline_s=_RUNNER_END_S)
            time.sleep(0.01)
        for pid in self._runner_pids(job_id, names):
            processes.end(lambda pid=pid: _alive([pid]), grace_s=0.0, deadline_s=1.0)  # type: ignore[misc]
        if left and self._end_inside(job_id, 0.0, names):  # a phase that was about to go into the container
            survivors = survivors or left
        return survivors or [process.pid for process in self._members(job_id, names)]

    def _end_inside(self, job_id: int, grace_s: float, names: Sequence[str]) -> list[int]:
        """End what these phases run in the container; pids there that are left, 0 where they are not known."""
        boxes = {
            phase.name: phase.box for phase in self.of_job(job_id) if phase.box is not None and phase.name in names
        }
        if not boxes:
            return []
        left = container.end(next(iter(boxes.values())), job_mark(self._who, job_id), None, grace_s)
        for text in left:
            note("job %d: could not end %s" % (job_id, text))
        return [int(word) for text in left for word in text.split() if word.isdigit()] or ([0] if left else [])

    def _unfinished(self, job_id: int, names: Sequence[str]) -> bool:
        return any(phase.running and phase.name in names for phase in self.of_job(job_id))

    def ask_to_end(self, job_id: int, name: str, grace_s: float) -> None:
        """SIGTERM to the command of one phase alone, and wait for its end."""
        phase = self.get(job_id, name)
        deadline = time.monotonic() + grace_s
        told = False
        while phase is not None and phase.running and time.monotonic() < deadline:
            child = files.read_object(self._file(job_id, name)("pid")).get("child")
            process = processes.lookup(child) if isinstance(child, int) else None
            if not told and process is not None and process.ppid in self._runner_pids(job_id):
                processes.send(process, signal.SIGTERM)
                told = True
            time.sleep(0.02)


def _alive(pids: list[int]) -> list[processes.Process]:
    seen = (processes.lookup(pid) for pid in pids)
    return [process for process in seen if process is not None and not process.dead]


def job_ids(state: State) -> list[int]:
    """The jobs that have a folder, in order."""
    try:
        return sorted(int(name) for name in os.listdir(state.jobs) if name.isdigit())
    except OSError:
        return []


def read_record(state: State, job_id: int, name: str) -> dict[str, Any]:
    """A JSON record in the folder of a job."""
    return files.read_object(state.job(job_id, name))
