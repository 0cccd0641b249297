"""The command line of the zipapp."""

from __future__ import annotations

import gc
import os
import sys

from styx_agent.faults import AgentFailure
from styx_agent.lean import TYPE_CHECKING, dumps

if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Callable, Dict, Sequence

    from styx_agent.identity import Identity


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments[:1] == ["runner"]:  # before the parser: one is started for every phase of every job
            from styx_agent import runner

            return runner.main(arguments[1])
        return _parse(arguments)
    except AgentFailure as failure:
        sys.stderr.write("styx-agent: %s\n" % failure)
        return 1
    except KeyboardInterrupt:
        return 130


def _parse(arguments: list[str]) -> int:
    if arguments[:1] != ["sync"]:
        gc.disable()  # a start makes no garbage; an agent switches it on again
    quick = _quick_connect(arguments)
    if quick is not None:
        return _connect(quick)
    import argparse

    parser = argparse.ArgumentParser(prog="agent.pyz", description="The Styx node agent.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")

    def verb(name: str, run: Callable[[Namespace], int], text: str | None) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text) if text else verbs.add_parser(name)
        made.set_defaults(run=run)
        if name != "version":
            made.add_argument("--state", required=True, help="state folder of the instance, on a local disk")
        return made

    start = verb("start", _start, "start the agent unless it runs; prints its hello")
    connect = verb("connect", _connect, "put the agent's socket on standard input and output; revives a dead agent")
    for made, needed in ((start, True), (connect, False)):
        made.add_argument("--home", required=needed, help="home folder of the node")
        made.add_argument("--key", required=needed, help="cluster key")
        made.add_argument("--rank", required=needed, type=int, help="rank of the node")
        made.add_argument("--timeout", type=float, default=20.0, help="seconds to wait for the agent")
    boot = verb("boot", _boot, "start the instance of a machine that was switched on again; prints its hello")
    boot.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for the agent")
    sync = verb("sync", _sync, "receive file trees on standard input")
    sync.add_argument("--home", required=True, help="home folder of the node")
    verb("stop", _stop, "end every job, everything that descends from them, and the agent")
    verb("version", _version, "print the version")
    supervise = verb("supervise", _supervise, None)
    supervise.add_argument("--lock-fd", required=True, type=int)

    options = parser.parse_args(arguments)
    if options.verb is None:
        parser.print_help(sys.stderr)
        return 2
    run: Callable[[Namespace], int] = options.run
    return run(options)


class _Quick:
    """What the parser would make of a client's `connect`."""

    def __init__(self, given: Dict[str, str]) -> None:
        self.state, self.home, self.key = given["--state"], given["--home"], given["--key"]
        self.rank, self.timeout = int(given["--rank"]), float(given["--timeout"])


def _quick_connect(arguments: Sequence[str]) -> _Quick | None:
    """A `connect` as clients write it; the parser, which takes longer to load, sees everything else."""
    names, values = arguments[1::2], arguments[2::2]
    if arguments[:1] != ["connect"] or sorted(names) != ["--home", "--key", "--rank", "--state", "--timeout"]:
        return None
    try:
        return _Quick(dict(zip(names, values)))  # noqa: B905 - new in Python 3.10
    except (KeyError, ValueError):
        return None


def _identity(options: Namespace | _Quick) -> Identity | None:
    import time

    from styx_agent import identity

    home, key, rank = options.home, options.key, options.rank
    if home is None or key is None or rank is None:
        return None
    if not key or "/" in key or rank < 0:
        raise AgentFailure("the key %r and the rank %r do not name an instance" % (key, rank))
    return identity.Identity(key, rank, os.path.abspath(home), identity.inherited_env(), time.time())


def _start(options: Namespace) -> int:
    from styx_agent import instance
    from styx_agent.paths import State

    wanted = _identity(options)
    assert wanted is not None  # argparse insists on all three
    hello = instance.start(State(options.state), wanted, options.timeout)
    _print(hello)
    return 0


def _connect(options: Namespace | _Quick) -> int:
    from styx_agent import bridge
    from styx_agent.paths import State

    state = State(options.state)
    stream = bridge.open_socket(state.socket)
    if stream is None:
        from styx_agent import instance

        instance.revive(state, _identity(options), options.timeout)
        stream = bridge.open_socket(state.socket)
    if stream is None:
        raise AgentFailure("the agent in %s ended right after its start" % state.root)
    code = bridge.bridge(stream)
    sys.stdout.flush()
    os._exit(code)  # a thread may still be reading standard input


def _boot(options: Namespace) -> int:
    from styx_agent import instance
    from styx_agent.paths import State

    _print(instance.boot(State(options.state), options.timeout))
    return 0


def _sync(options: Namespace) -> int:
    from styx_agent import sync
    from styx_agent.paths import State

    return sync.serve(State(options.state), options.home, sys.stdin.buffer, sys.stdout.buffer)


def _stop(options: Namespace) -> int:
    from styx_agent import instance
    from styx_agent.paths import State

    survivors = instance.stop(State(options.state))
    _print({"survivors": survivors})
    return 1 if survivors else 0


def _version(_: Namespace) -> int:
    from styx_agent import __version__

    sys.stdout.write(__version__ + "\n")
    return 0


def _supervise(options: Namespace) -> int:
    # Everything the agent needs is imported here, so that the zipapp may be replaced while it runs.
    from styx_agent import agent, supervisor
    from styx_agent.paths import State

    return supervisor.supervise(State(options.state), options.lock_fd, agent.serve)


def _print(value: object) -> None:
    sys.stdout.write(dumps(value) + "\n")
