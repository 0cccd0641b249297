"""The process above the agent: it starts the agent anew whenever it dies, and adopts orphans meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time

from styx_agent import files, identity, locks, processes
from styx_agent.faults import AgentFailure
from styx_agent.journal import note, note_error
from styx_agent.lean import TYPE_CHECKING, signal
from styx_agent.paths import State

if TYPE_CHECKING:
    from typing import Callable

_FIRST_DELAY_S = 0.05
_LONGEST_DELAY_S = 15.0
_SETTLED_S = 30.0
_LARGEST_OUTPUT_BYTES = 1 << 20


def own_command() -> list[str]:
    """How this program is started: as the zipapp it was started from, or from its source folder."""
    command = [sys.executable or "python3", "-I", "-S"]
    program = os.path.abspath(sys.argv[0])
    if program.endswith(".pyz"):
        return [*command, program]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    starter = "import sys; sys.path.insert(0, sys.argv.pop(1)); from styx_agent.main import main; sys.exit(main())"
    return [*command, "-c", starter, root]


def launch(state: State, known: identity.Identity, lock: int) -> None:
    """Start the supervisor, cut loose from this process; `lock` is the taken supervisor lock, closed here.

    A process that carries the instance's mark already is forked, which spares an interpreter's start and the reading
    of all modules; another one starts a new program, for only that can be given a new environment that `/proc` shows.

    Raises:
        AgentFailure: It cannot be started.
    """
    try:
        if os.path.exists(state.output) and os.path.getsize(state.output) > _LARGEST_OUTPUT_BYTES:
            os.replace(state.output, state.output + ".1")
        output = os.open(state.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.environ.get(identity.NODE_MARK) == known.mark and threading.active_count() == 1:
                _fork(state, known, lock, output)
                return
            import subprocess

            subprocess.Popen(
                [*own_command(), "supervise", "--state", state.root, "--lock-fd", str(lock)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=state.root,
                env=known.process_env(),
                start_new_session=True,
                pass_fds=(lock,),
            )
        finally:
            os.close(output)
    except OSError as error:
        raise AgentFailure("cannot start the agent's supervisor: %s" % error) from error
    finally:
        os.close(lock)


def _fork(state: State, known: identity.Identity, lock: int, output: int) -> None:
    """The supervisor as a child that keeps nothing of this process but its code."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        return
    code = 1
    try:
        os.setsid()
        source = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in ((0, source), (1, output), (2, output)):
            os.dup2(descriptor, number)
        for number in _open_descriptors():
            if number > 2 and number != lock:
                with contextlib.suppress(OSError):
                    os.close(number)
        os.chdir(state.root)
        os.environ.clear()
        os.environ.update(known.process_env())
        processes.set_command_line([*own_command(), "supervise", "--state", state.root])
        from styx_agent import agent

        code = supervise(state, lock, agent.serve)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happened
        note_error("the supervisor failed")
    finally:
        os._exit(code)


def _open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return list(range(3, 256))


def supervise(state: State, lock: int, serve: Callable[[State, int], int]) -> int:
    """Run `serve` in a child process, again and again, until the instance is stopped or its folder is gone."""
    os.set_inheritable(lock, False)
    os.umask(0o077)
    processes.set_name("styx-supervisor")
    processes.become_subreaper()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGCHLD, lambda *_: processes.reap())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    record_self(state.supervisor)
    delay = _FIRST_DELAY_S
    while True:
        # Held by a living agent, also by one that an earlier supervisor started: then this waits for its end.
        try:
            agent_lock = locks.take(state.agent_lock, block=True)
        except OSError:
            return 0  # the state folder was removed
        known = identity.load(state)
        if agent_lock is None or known is None or known.stopped is not None:
            return 0
        began = time.monotonic()
        _start_agent(state, lock, agent_lock, serve)
        locks.wait_free(state.agent_lock)
        lived = time.monotonic() - began
        delay = _FIRST_DELAY_S if lived > _SETTLED_S else min(delay * 2, _LONGEST_DELAY_S)
        known = identity.load(state)
        if known is not None and known.stopped is None:
            note("the agent ended after %.1f s; starting it again in %.1f s" % (lived, delay))
            time.sleep(delay)


def _start_agent(state: State, lock: int, agent_lock: int, serve: Callable[[State, int], int]) -> None:
    """Fork: everything is imported by now, so an agent comes back in milliseconds even if its file was removed."""
    gc.freeze()  # a collection in either process would copy every page that they share
    if os.fork():
        os.close(agent_lock)
        gc.enable()
        return
    code = 1
    try:
        os.close(lock)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        processes.set_name("styx-agent")
        record_self(state.agent)
        code = serve(state, agent_lock)
    except BaseException:  # noqa: BLE001 - the child must end here, whatever happened
        note_error("the agent failed")
    finally:
        os._exit(code)


def record_self(path: str) -> None:
    """Leave this process's pid and start time, for `stop`."""
    me = processes.lookup(os.getpid())
    try:
        files.write_json(path, {"pid": os.getpid(), "start": me.start if me else ""})
    except OSError as error:
        note("cannot write %s: %s" % (path, error))
