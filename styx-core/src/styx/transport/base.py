"""What the engine needs of a way to a node: run a command with its three streams, and put a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import BinaryIO, Protocol

from styx.driver import Completed as Completed
from styx.errors import NotExecutable, Unreachable
from styx.models.forwards import PortForward


class NodeGone(Unreachable):
    """The node itself is no more: trying again is pointless."""


class Unusable(Unreachable):
    """The node answers, but lacks what no waiting will bring, such as a Python: trying again is pointless."""


class Channel(Protocol):
    """One running command on the node. Closing it ends the command's connection, not necessarily the command.

    Both streams are unbuffered: `stdout.read(n)` returns as soon as there is anything, at most n bytes, and `b""` at
    the end; `stdin.write` may take a part only (use `write_all`) and raises OSError when the command is gone.
    """

    stdin: BinaryIO
    stdout: BinaryIO

    def stderr_tail(self) -> str:
        """The last 8 KiB that the command wrote to its standard error."""

    def wait(self, timeout_s: float) -> int:
        """Exit code (signals as 128 + n).

        Raises:
            DeadlineExceeded: It is still running.
        """

    def close(self) -> None:
        """Close the streams and let go. Idempotent."""


def write_all(stream: BinaryIO, data: bytes | memoryview) -> None:
    """Write every byte to an unbuffered stream."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


class AgentProgram(Protocol):
    """The agent as a file; see `styx.transport.agentfile.AgentFile`."""

    @property
    def name(self) -> str:
        """Equal names mean equal programs."""

    def read(self) -> bytes:
        """Its bytes."""

    def read_for(self, magic: str) -> bytes:
        """Its bytes for an interpreter with that magic number of compiled code."""


class Forwarding(Protocol):
    """Ports that are being forwarded."""

    forwards: list[PortForward]
    """With the local ports that were really taken."""

    def close(self) -> None:
        """End it. Idempotent."""


MISSING_FILE = 96
"""Exit code of `launch` when the agent's file is not on the node; no Python or agent ends with it."""
CANNOT_WRITE = 95
"""Exit code of `launch` when the program cannot be written on the node."""
ROOM = "the home folder on the node must be writable, and have some room"
"""What to do about that."""
_LAUNCH = '[ -f "$1" ] || exit 96; shift; exec "$@"'


def no_agent(who: str) -> NodeGone:
    """For a node that has no agent of ours."""
    said = f"{who} has no agent: its lease is over, or its launch has not come that far"
    return NodeGone(said, hint="`styx status --refresh` tells more; `styx launch -c` begins one anew")


class Transport(ABC):
    """A way to one node. Safe to use from several threads; every call has a deadline.

    Raises of every method: Unreachable when the node does not answer (the message names the diagnosis).
    """

    home: str
    """The node's home folder as an absolute path on the node."""
    python: str
    """A Python >= 3.8 on the node."""
    code_magic: str = ""
    """That Python's magic number of compiled code (hexadecimal), where it is known."""
    agent_state: str
    """The agent's state folder on the node, absolute, not on a network file system."""
    job_env: Mapping[str, str] = MappingProxyType({})
    """Basics such as PATH that jobs need, where the agent's own environment is not what they should see."""
    compress_level: int = 1
    """How hard uploads are packed (zlib's levels); 0 where bytes cost nothing to move."""

    @abstractmethod
    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Channel:
        """Start `argv` on the node."""

    @abstractmethod
    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` to its end."""

    @abstractmethod
    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file on the node, atomically; its folders are made."""

    @abstractmethod
    def interactive(self, argv: Sequence[str]) -> int:
        """Give the user's terminal to a command on the node (a login shell for no arguments); returns its exit code."""

    def launch(
        self,
        program: AgentProgram,
        verb: str,
        identity: Sequence[str],
        *,
        anew: bool = True,  # noqa: ARG002 - here
    ) -> Channel:
        """Start a verb of the agent's program with this node's folders.

        The command ends with `MISSING_FILE` where the program is not on the node; a transport that can put it there
        with the same command does so instead.

        Args:
            program: The agent's file.
            verb: `connect` or `start`.
            identity: Further arguments.
            anew: An agent may be begun where there is none. False when one that ran is looked for: a node without one
                has ended itself, and may be somebody else's by now. Transports to machines that outlive a cluster then
                raise `NodeGone`.
        """
        path = f"{self.agent_state}/{program.name}"
        where = ("--state", self.agent_state, "--home", self.home)
        return self.open(("sh", "-c", _LAUNCH, "sh", path, self.python, "-I", "-S", path, verb, *where, *identity))

    def forward(self, forwards: Sequence[PortForward], say: Callable[[str], None]) -> Forwarding:  # noqa: ARG002 - here
        """Let ports of this machine lead to ports that the node can reach, until the result is closed.

        Args:
            forwards: Which.
            say: Told of connections that could not be carried.

        Raises:
            NotExecutable: This way to a node carries no ports.
        """
        raise NotExecutable(
            "ports can be forwarded only to nodes that are reached over SSH",
            hint="a node of `infra: local` listens on this machine itself",
        )

    def close(self) -> None:  # noqa: B027 - transports without a connection have nothing to close
        """Give back the connection. Idempotent."""
