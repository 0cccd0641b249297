"""Start, find, revive and end an instance: the work of the verbs `start`, `connect` and `stop`."""

from __future__ import annotations

import os
import time

from styx_agent import client, files, holder, identity, locks, processes, supervisor
from styx_agent.faults import AgentFailure
from styx_agent.lean import TYPE_CHECKING, signal
from styx_agent.paths import State, prepare_socket_folder, remove_socket

if TYPE_CHECKING:
    from typing import Any

_SHUTDOWN_S = 40.0
_LOCK_S = 60.0
_STOPPING_S = 10.0
_LEAVING_S = 3.0


def start(state: State, wanted: identity.Identity, timeout_s: float) -> dict[str, Any]:
    """Bring an instance up, or find it up; returns its `hello`.

    Raises:
        AgentFailure: It did not come up, or another instance lives in this state folder.
    """
    state.make()
    prepare_socket_folder(state.socket)
    try:
        os.makedirs(wanted.home, exist_ok=True)
    except OSError as error:
        raise AgentFailure("cannot make the home folder %s: %s" % (wanted.home, error.strerror)) from error
    deadline = time.monotonic() + timeout_s
    lock = _start_lock(state, timeout_s)
    try:
        known = identity.load(state)
        if known is not None and (known.key, known.rank) != (wanted.key, wanted.rank):
            raise AgentFailure(
                "the state folder %s belongs to %s, not to %s; stop that one first, or use another folder"
                % (state.root, known.mark, wanted.mark)
            )
        _raise_up(state, wanted)
        return await_hello(state, deadline)
    finally:
        os.close(lock)


def boot(state: State, timeout_s: float) -> dict[str, Any]:
    """Bring back the instance of a machine that was switched on again, also one that was ended; returns its `hello`.

    Raises:
        AgentFailure: There was none, or it did not come up.
    """
    known = identity.load(state)
    if known is None:
        raise AgentFailure("no agent was ever started in %s" % state.root)
    return start(state, known, timeout_s)


def revive(state: State, given: identity.Identity | None, timeout_s: float) -> None:
    """Bring back an instance that died. One that was stopped on purpose stays down.

    Raises:
        AgentFailure: It is unknown, was stopped, or did not come up.
    """
    if not os.path.isdir(state.root):
        raise AgentFailure("there is no agent: the state folder %s does not exist; use `start`" % state.root)
    deadline = time.monotonic() + timeout_s
    lock = _start_lock(state, timeout_s)
    try:
        known = identity.load(state) or given
        if known is None:
            raise AgentFailure("no agent was ever started in %s; use `start`" % state.root)
        if known.stopped is not None:
            raise AgentFailure("the agent %s was stopped (%s); use `start`" % (known.mark, known.stopped))
        state.make()
        prepare_socket_folder(state.socket)
        _raise_up(state, known)
        await_hello(state, deadline)
    finally:
        os.close(lock)


def _start_lock(state: State, timeout_s: float) -> int:
    try:
        lock = locks.take_within(state.start_lock, timeout_s)
    except OSError as error:
        raise AgentFailure("cannot lock %s: %s" % (state.start_lock, error.strerror)) from error
    if lock is None:
        raise AgentFailure("another start or stop of the agent in %s has not ended yet; try again" % state.root)
    return lock


def _raise_up(state: State, wanted: identity.Identity) -> None:
    known = identity.load(state)
    stopped = known is not None and known.stopped is not None
    # A supervisor whose agent has just ended on purpose is about to end, too.
    lock = locks.take_within(state.supervisor_lock, _STOPPING_S if stopped else 0.0)
    if lock is None:
        if known is not None and stopped:
            raise AgentFailure("the agent %s is being stopped; try again" % known.mark)
        return
    try:
        identity.save(state, wanted._replace(stopped=None, started_at=time.time()))
    except AgentFailure:
        # A full disk must not keep an agent from coming back under the identity it has.
        if known is None or known.stopped is not None:
            os.close(lock)
            raise
        wanted = known
    supervisor.launch(state, wanted, lock)


def await_hello(state: State, deadline: float) -> dict[str, Any]:
    """The `hello` of the agent as soon as it answers.

    Raises:
        AgentFailure: It does not answer in time; the message ends with what it last wrote.
    """
    problem = "it did not answer"
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise AgentFailure("the agent in %s does not answer: %s%s" % (state.root, problem, _last_words(state)))
        try:
            with client.connect(state.socket, timeout=min(left, 5.0)) as connection:
                return connection.hello
        except (client.AgentError, OSError) as error:
            problem = str(error)
        time.sleep(0.01)


def _last_words(state: State) -> str:
    try:
        with open(state.output, "rb") as stream:
            stream.seek(max(0, os.path.getsize(state.output) - 2000))
            lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return "; the last line of %s is: %s" % (state.output, lines[-1]) if lines else ""


def _recorded(path: str) -> tuple[int, str] | None:
    record = files.read_object(path)
    pid, start_time = record.get("pid"), record.get("start")
    return (pid, start_time) if isinstance(pid, int) and isinstance(start_time, str) else None


def _recorded_roots(state: State) -> list[tuple[int, str]]:
    """Pids that the instance left in its state folder: supervisor, agent, runners, strays."""
    paths = [state.supervisor, state.agent]
    try:
        for job in os.scandir(state.jobs):
            if job.is_dir():
                paths.extend(entry.path for entry in os.scandir(job.path) if entry.name.endswith(".pid"))
    except OSError:
        pass
    roots = [found for found in map(_recorded, paths) if found is not None]
    strays = files.read_json(state.strays)
    return roots + [
        (stray[0], str(stray[1]))
        for stray in (strays if isinstance(strays, list) else ())
        if isinstance(stray, list) and len(stray) == 2 and isinstance(stray[0], int)
    ]


def members(state: State, known: identity.Identity | None) -> list[processes.Process]:
    """Every living process of an instance, its supervisor and agent included, except a self action at work."""
    seen = processes.table()
    roots = {pid for pid, began in _recorded_roots(state) if pid in seen and seen[pid].start == began}
    if known is not None:
        roots |= processes.marked(seen, known.marks())
    roots |= processes.writing_below(seen, state.logs)
    found = roots | processes.descendants(seen, roots)
    spared = {os.getpid()} | processes.marked(found, {identity.SELF_ACTION_MARK: "1"})
    return [seen[pid] for pid in sorted(found - spared) if not seen[pid].dead]


def stop(state: State) -> list[int]:
    """End an instance and everything that descends from it. Idempotent.

    Returns:
        Pids that would not die.

    Raises:
        AgentFailure: Another start or stop is at work and does not end, or its container could not be removed.
    """
    lock = _start_lock(state, _LOCK_S) if os.path.isdir(state.root) else None
    try:
        known = identity.load(state)
        if lock is not None:
            identity.mark_stopped(state, "stopped")
        _ask_to_end(state)
        head = _recorded(state.supervisor)
        if head is not None and processes.is_alive(*head):
            # Frozen it can start no new agent, and what its children leave behind stays in its tree.
            os.kill(head[0], signal.SIGSTOP)

        def find() -> list[processes.Process]:
            return [process for process in members(state, known) if head is None or process.pid != head[0]]

        survivors = processes.end(find, grace_s=0.0)
        if head is not None and processes.is_alive(*head):
            os.kill(head[0], signal.SIGKILL)
            _await_end(head)
        remove_socket(state.socket)
        if head is not None and processes.is_alive(*head):
            survivors.append(head[0])
        problem = holder.remove(state)
        if problem is not None:
            raise AgentFailure(problem)
        return survivors
    finally:
        if lock is not None:
            os.close(lock)


def _ask_to_end(state: State) -> None:
    """The gentle way: jobs get their grace, and the agent closes its books."""
    try:
        with client.connect(state.socket, timeout=5.0) as connection:
            connection.call("shutdown", timeout=_SHUTDOWN_S)
    except (client.AgentError, OSError):
        return  # dead or deaf: the hard way follows in any case
    deadline = time.monotonic() + _LEAVING_S
    while locks.is_held(state.supervisor_lock) and time.monotonic() < deadline:
        time.sleep(0.01)


def _await_end(process: tuple[int, str]) -> None:
    deadline = time.monotonic() + 5.0
    while processes.is_alive(*process) and time.monotonic() < deadline:
        time.sleep(0.01)
