"""The way to a node over SSH. Nothing is asked of the node before the first command."""

from __future__ import annotations

import secrets
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from styx.driver import Ssh
from styx.errors import DeadlineExceeded, LocalIOError, Unreachable
from styx.transport.base import (
    CANNOT_WRITE,
    MISSING_FILE,
    ROOM,
    AgentProgram,
    Completed,
    Transport,
    Unusable,
    no_agent,
    write_all,
)
from styx.transport.ssh import scripts
from styx.transport.ssh.channel import SshChannel, command_line
from styx.transport.ssh.logins import Logins

if TYPE_CHECKING:
    from styx.models.forwards import PortForward
    from styx.transport.ssh.forward import Forwarder

PROBE_S = 30.0
_PUT_S = 300.0
_LINE_BYTES = 4096
_NEAR_S = 0.005
"""A host with a shorter round trip is on a network where bytes cost less than packing them."""


@dataclass(frozen=True)
class Facts:
    """What a node says of itself."""

    home: str
    python: str
    state: str


class SshTransport(Transport):
    """Runs the node's commands on logins that all transports of the process share."""

    def __init__(self, reach: Ssh, logins: Logins, instance: str, *, own_logins: bool = False) -> None:
        """`instance` is `<cluster key>/<rank>`; with `own_logins`, closing this ends the logins.

        Raises:
            InvalidInput: The reach, or the user's SSH config, is wrong.
        """
        self._logins = logins
        self._instance = instance
        self._own_logins = own_logins
        self.route = logins.route(reach)
        self._facts: Facts | None = None
        self._lock = threading.Lock()

    # what the node says ---------------------------------------------------------------------------------------
    def facts(self) -> Facts:
        """Asked once, with one command, unless a launch has brought the answer along."""
        with self._lock:
            if self._facts is None:
                done = self.run(("sh", "-c", scripts.PROBE), timeout_s=PROBE_S)
                said = done.stdout.decode("utf-8", "surrogateescape")
                if done.exit_code or f"{scripts.MARK}\n" not in said:
                    problem = last_line(done.stderr) if done.exit_code else "it did not answer the first question"
                    raise Unreachable(f"{self.route[-1]} runs no `sh`: {problem}")
                self._facts = self.facts_from(said.rpartition(f"{scripts.MARK}\n")[2].splitlines())
            return self._facts

    def facts_from(self, lines: Sequence[str]) -> Facts:
        """From the three lines after the mark.

        Raises:
            Unusable: There is no Python.
        """
        home, python, state = (*lines, "", "", "")[:3]
        if not python:
            raise no_python(str(self.route[-1]))
        return Facts(home, python, f"{state}/{self._instance}")

    @property
    def home(self) -> str:  # type: ignore[override] # asked when needed
        """The login's home folder."""
        return self.facts().home

    @property
    def python(self) -> str:  # type: ignore[override]
        """The first Python >= 3.8 that was found."""
        return self.facts().python

    @property
    def agent_state(self) -> str:  # type: ignore[override]
        """In the home folder, or in /var/tmp where that is on a network."""
        return self.facts().state

    # commands -------------------------------------------------------------------------------------------------
    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> SshChannel:
        """Start `argv` in the login's home. Variables go before the command's input: arguments can be seen by all."""
        if not env:
            return self._logins.open(self.route, self._instance, command_line(argv))
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
        data = lines.encode("utf-8", "surrogateescape")
        channel = self._logins.open(
            self.route, self._instance, command_line(("sh", "-c", scripts.WITH_ENV, "sh", str(len(data)), *argv))
        )
        write_all(channel.stdin, data)
        return channel

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` in the login's home to its end."""
        channel = self._logins.open(self.route, self._instance, command_line(argv), whole_stderr=True)
        return channel.run(stdin, timeout_s, argv[0])

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file through `cat`."""
        done = self.run(
            ("sh", "-c", scripts.PUT, "sh", path, f"{mode:o}", secrets.token_hex(4)), stdin=data, timeout_s=_PUT_S
        )
        if done.exit_code:
            raise LocalIOError(f"cannot write {path} on {self.route[-1]}: {last_line(done.stderr)}")

    def launch(self, program: AgentProgram, verb: str, identity: Sequence[str], *, anew: bool = True) -> SshChannel:
        """Find a Python, put the program if it is missing, and start it: one command, for a node seen the first time.

        Raises:
            NodeGone: There is no such agent, and none is to be begun.
            Unusable: There is no Python, or the program cannot be written.
            Unreachable: The node runs no `sh`, or does not answer.
        """
        script = scripts.LAUNCH if anew else scripts.REJOIN
        argv = ("sh", "-c", script, "sh", self._instance, program.name, scripts.RECEIVE, verb, *identity)
        channel = self._logins.open(self.route, self._instance, command_line(argv))
        try:
            self._greet(channel, program)
        except BaseException:
            channel.close()
            raise
        return channel

    def _greet(self, channel: SshChannel, program: AgentProgram) -> None:
        lines = _Lines(channel)
        while (line := lines.next(PROBE_S)) is not None and not line.endswith(scripts.MARK):
            pass  # what a login shell's start-up files print, perhaps without a line end
        if line is None:
            raise Unreachable(f"{self.route[-1]} runs no `sh`: {lines.problem()}")
        facts = self.facts_from([lines.next(PROBE_S) or "" for _ in range(3)])
        with self._lock:
            self._facts = facts
        answer, _, magic = (lines.next(PROBE_S) or "").partition(" ")
        self.compress_level = 0 if channel.round_trip_s < _NEAR_S else 1
        if answer == "need":
            # Compiled modules spare the node some 50 ms, and are three times as many bytes.
            data = program.read_for(magic) if channel.round_trip_s < _NEAR_S else program.read()
            channel.bound(_PUT_S)
            try:
                write_all(channel.stdin, b"%d\n" % len(data) + data)
            except TimeoutError:
                raise DeadlineExceeded(f"{self.route[-1]} did not take the agent's program in {_PUT_S:g} s") from None
            except OSError:
                raise self._not_put(channel, lines.problem()) from None
            channel.bound(None)
        elif answer != "have":
            raise self._not_put(channel, lines.problem())

    def _not_put(self, channel: SshChannel, problem: str) -> Unreachable:
        code = channel.wait(PROBE_S)
        if code == CANNOT_WRITE:
            return Unusable(f"{self.route[-1]}: {problem}", hint=ROOM)
        if code == MISSING_FILE:
            return no_agent(str(self.route[-1]))
        return Unreachable(f"{self.route[-1]}: the agent's program did not start: {problem}")

    def interactive(self, argv: Sequence[str]) -> int:
        """A command, or a login shell, on this terminal."""
        from styx.transport.ssh.terminal import interact

        login, channel = self._logins.terminal(self.route, self._instance)
        return interact(login, channel, command_line(argv) if argv else None)

    def forward(self, forwards: Sequence[PortForward], say: Callable[[str], None]) -> Forwarder:
        """Ports of this machine, through the shared login."""
        from styx.transport.ssh.forward import Forwarder

        self._logins.login(self.route, self._instance)  # says at once why it can't be reached
        return Forwarder(forwards, lambda: self._logins.login(self.route, self._instance), say)

    def close(self) -> None:
        """The logins stay, for others."""
        if self._own_logins:
            self._logins.close()


class _Lines:
    """The first lines of a command's output, read so that the bytes after them stay in the channel."""

    def __init__(self, channel: SshChannel) -> None:
        self._channel = channel

    def next(self, timeout_s: float) -> str | None:
        """The next line; None at the end of the output."""
        self._channel.bound(timeout_s)
        said = b""
        try:
            while b"\n" not in said:
                more = self._channel.stdout.read(_LINE_BYTES)
                if not more:
                    return None
                said += more
        except TimeoutError:
            raise DeadlineExceeded(f"the first command got no answer within {timeout_s:g} s") from None
        finally:
            self._channel.bound(None)
        line, _, rest = said.partition(b"\n")
        self._channel.unread(rest)
        return line.decode("utf-8", "surrogateescape")

    def problem(self) -> str:
        """What the command that ended early said."""
        said = self._channel.stderr_tail().strip().splitlines()
        if said:
            return said[-1]
        return f"it ended with exit code {self._channel.wait(1.0)}"


def no_python(host: str) -> Unusable:
    """For a host without an interpreter."""
    return Unusable(
        f"{host} has no Python 3.8 or newer, which the agent needs",
        hint="install python3 there, or unpack one into ~/.styx-agent/python; see docs/how-to/ssh.md",
    )


def last_line(stderr: bytes) -> str:
    """The last thing a command said."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
