"""The agent of one node: puts the parts together and keeps them going."""

from __future__ import annotations

import gc
import os
import threading
import time

from styx_agent import files, identity, instance, lease, metrics, processes, taskenv
from styx_agent.config import Config, default_config, parse_config
from styx_agent.faults import AgentFailure, Fault, is_disk_full
from styx_agent.holder import Holder
from styx_agent.jobs import Queue
from styx_agent.journal import note, note_error
from styx_agent.keeper import Keeper
from styx_agent.lean import TYPE_CHECKING, signal
from styx_agent.methods import Methods, is_slow
from styx_agent.notice import Notices
from styx_agent.paths import State, remove_socket
from styx_agent.phases import Phase, Phases
from styx_agent.protocol import DISK_FULL, INTERNAL
from styx_agent.ranks import Ranks
from styx_agent.server import Server
from styx_agent.watch import Watch

if TYPE_CHECKING:
    from typing import Any

_TICK_S = 1.0
_STRAYS_EVERY = 5
_LAST_ANSWER_S = 0.05


class Agent:
    """The parts, public for the methods; every one may be used from any thread."""

    def __init__(self, state: State, who: identity.Identity) -> None:
        self.state = state
        self.who = who
        self.started_at = time.time()
        self.read_at = 0.0
        """When output of a job was last given to somebody."""
        self._config = self._stored_config()
        self.watch = Watch()
        self.container = Holder(state, who, self.search_path, self._has_gpus, self._uses_container)
        self.phases = Phases(state, who, self._phase_ended, self.container)
        self.queue = Queue(state, who, self.phases, self.config, self.watch.poke)
        self.ranks = Ranks(state, who, self.phases, self.queue, self.config)
        self.keeper = Keeper(state, self._observe, self.end_all, self.leave, self._basic_env)
        self.notices = Notices(state, lambda: self.config().notice, self._basic_env, self.watch.poke)
        self.server = Server(state.socket, Methods(self).dispatch, is_slow)
        self._strays: list[list[object]] = []

    def run(self) -> None:
        """Take over what an earlier agent left, then serve until the instance ends."""
        self.phases.recover_all()
        self.queue.load()
        self.server.listen()
        note("agent %s serves %s" % (self.who.mark, self.state.socket))
        gc.enable()
        self.notices.watch()
        threading.Thread(target=self._guard_supervisor, name="supervisor", daemon=True).start()
        ticks = 0
        gone = 0
        while True:
            time.sleep(_TICK_S)
            ticks += 1
            gone = 0 if os.path.isdir(self.state.root) else gone + 1
            if gone > 1:
                self.end_all("its state folder was removed")
                self.leave()
            try:
                self._tick(ticks)
            except Exception:  # noqa: BLE001 - the wall around housekeeping; the agent must go on; logged in full
                note_error("housekeeping failed")

    def _tick(self, ticks: int) -> None:
        self.queue.save_unsaved()
        self.ranks.end_abandoned()
        self.keeper.judge()
        if os.path.isdir(self.state.root):
            self.server.ensure_listening()
            if ticks == _STRAYS_EVERY:
                _load_rest()
            if ticks % _STRAYS_EVERY == 0:
                self._note_strays()

    def _phase_ended(self, phase: Phase) -> None:
        self.ranks.phase_ended()
        self.watch.poke()
        self.queue.phase_ended(phase)
        self.ranks.phase_ended()

    # -- config ---------------------------------------------------------------------------------------------

    @property
    def configured(self) -> bool:
        """Whether a client has ever told the node its cluster."""
        return self._config is not None

    def config(self) -> Config:
        """The latest config."""
        return self._config or default_config()

    def configure(self, params: dict[str, Any]) -> None:
        """Take and keep a new config.

        Raises:
            Fault: It is wrong, or there is no room for it; the old one stays.
        """
        parsed = parse_config(params, self.who.rank)
        try:
            files.write_json(self.state.config, parsed._asdict(), durable=True)
        except OSError as error:
            raise Fault(DISK_FULL if is_disk_full(error) else INTERNAL, "cannot keep the config: %s" % error) from error
        self._config = parsed
        self.queue.reconsider()

    def _stored_config(self) -> Config | None:
        record = files.read_object(self.state.config)
        try:
            return parse_config(record, self.who.rank) if record else None
        except Fault as fault:
            note("the stored config is damaged: %s" % fault.message)
            return None

    def search_path(self) -> str:
        """Where programs of the node are looked for."""
        return os.pathsep.join(path for path in (self.config().env.get("PATH"), os.environ.get("PATH")) if path)

    def _has_gpus(self) -> bool:
        return bool(metrics.gpus(self.search_path()))

    def _uses_container(self) -> bool:
        return any(phase.box is not None for phase in self.phases.running())

    def _basic_env(self) -> dict[str, str]:
        return {**self.who.env, **taskenv.basics(self.who, self.config()), **self.who.marks()}

    # -- lease ----------------------------------------------------------------------------------------------

    def _observe(self, held: lease.Lease, set_at: float, renewed_at: float) -> lease.Observation:
        began = max(set_at, self.who.started_at)
        busy = self.queue.active()
        return lease.Observation(
            now=time.time(),
            rank=self.who.rank,
            busy=busy,
            ssh=held.get("wait_for") == "jobs_and_ssh" and _somebody_logged_in(),
            idle_since=max(began, self.queue.last_active),
            set_at=began,
            renewed_at=max(renewed_at, self.who.started_at),
            usd_per_hour=self.config().usd_per_hour,
            read_at=self.read_at,
        )

    # -- end ------------------------------------------------------------------------------------------------

    def end_all(self, reason: str) -> list[int]:
        """End every job and every process of the instance but the agent and its supervisor; returns survivors."""
        note("ending everything: %s" % reason)
        identity.mark_stopped(self.state, reason)
        self.queue.close(reason)
        problem = self.container.halt()
        if problem is not None:
            note("the container could not be ended: %s" % problem)
        # The bridge by which a client asked for this belongs to the node too; it ends when the socket is closed.
        bridges = {pid for pid in self.server.peers() if b"connect" in processes.command_line(pid)}
        spared = {os.getpid(), files.read_object(self.state.supervisor).get("pid"), *bridges}

        def find() -> list[processes.Process]:
            return [process for process in instance.members(self.state, self.who) if process.pid not in spared]

        return processes.end(find, grace_s=0.5)

    def leave_soon(self) -> None:
        """End the agent after the answer that is on its way."""
        threading.Timer(_LAST_ANSWER_S, self.leave).start()

    def leave(self) -> None:
        """End the agent; the supervisor sees that it was on purpose."""
        remove_socket(self.state.socket)
        note("agent %s ends" % self.who.mark)
        os._exit(0)

    # -- supervision ----------------------------------------------------------------------------------------

    def _guard_supervisor(self) -> None:
        """Start a new supervisor when ours was killed: each of the two brings back the other."""
        from styx_agent import locks, supervisor

        while True:
            lock = locks.take(self.state.supervisor_lock, block=True)
            known = identity.load(self.state)
            if lock is None or known is None or known.stopped is not None:
                return
            note("the supervisor was killed; starting another")
            try:
                supervisor.launch(self.state, known, lock)
            except AgentFailure as failure:
                note(str(failure))
            time.sleep(_TICK_S)

    def _note_strays(self) -> None:
        """Write down orphans that live under the supervisor: should it be killed, `stop` still finds them."""
        head = files.read_object(self.state.supervisor).get("pid")
        seen = processes.table()
        runners = {phase.runner.pid for phase in self.phases.running() if phase.runner is not None}
        found = processes.descendants(seen, [head] if isinstance(head, int) else [])
        found -= {os.getpid()} | runners | processes.descendants(seen, runners)
        strays: list[list[object]] = [[pid, seen[pid].start] for pid in sorted(found) if not seen[pid].dead]
        known = [[pid, start] for pid, start in self._strays if isinstance(pid, int) and _lives(seen, pid, start)]
        strays = strays + [stray for stray in known if stray not in strays]
        if strays != self._strays:
            files.write_json(self.state.strays, strays)
            self._strays = strays


def _load_rest() -> None:
    """What no start needs, but jobs and a node's end: now, for an upgrade of the node's Python may take it away."""
    import subprocess  # noqa: F401


def _lives(seen: dict[int, processes.Process], pid: int, start: object) -> bool:
    return pid in seen and seen[pid].start == start and not seen[pid].dead


def _somebody_logged_in() -> bool:
    """Whether an SSH session with a terminal is open: sshd names the process of each `sshd: user@pts/N`."""
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return False
    for pid in pids:
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as stream:
                words = stream.read(200)
        except OSError:
            continue
        if words.startswith(b"sshd") and b"@pts/" in words:
            return True
    return False


def serve(state: State, lock: int) -> int:
    """Be the agent of `state`; `lock` is the taken agent lock, held until this process ends."""
    os.set_inheritable(lock, False)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGHUP, lambda *_: None)
    who = identity.load(state)
    if who is None:
        return 0
    Agent(state, who).run()
    return 0
