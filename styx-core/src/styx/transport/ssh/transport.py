"""The way to a node over SSH. Nothing is asked of the node before the first command."""

from __future__ import annotations

import secrets
import shlex
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from styx.driver import Ssh
from styx.errors import LocalIOError, Unreachable
from styx.transport.base import Completed, Transport, Unusable
from styx.transport.ssh.channel import SshChannel, command_line
from styx.transport.ssh.logins import Logins

PROBE_S = 30.0
_PUT_S = 300.0

# One line and single quotes only: the login shell of the host passes it on to `sh`, whatever it is itself.
FIND = (
    "h=${HOME:-$(pwd)}; s=$h/.styx-agent; p=; "
    'for c in "$s"/python/bin/python3 python3 /usr/bin/python3 /usr/local/bin/python3 /opt/*/bin/python3 '
    "python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python; do "
    'case $("$c" -V 2>&1) in "Python 3."[89]*|"Python 3."[1-9][0-9]*) p=$(command -v "$c"); break;; esac; done; '
    'case $(stat -f -c %T "$h" 2>/dev/null) in '
    "nfs*|lustre|fuse*|smb*|cifs|beegfs|gpfs|ceph|afs) s=/var/tmp/styx-agent-$(id -u);; esac; "
)
_MARK = "styx-node-1"
_PROBE = FIND + f'printf \'%s\\n\' {_MARK} "$h" "$p" "$s"'
_PUT = 'mkdir -p "${1%/*}" && umask 077 && cat > "$1.$3" && chmod "$2" "$1.$3" && mv -f "$1.$3" "$1"'
_WITH_ENV = 'eval "$(dd bs=1 count="$1" 2>/dev/null)"; shift; exec "$@"'


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
        """Asked once, with one command."""
        with self._lock:
            if self._facts is None:
                done = self.run(("sh", "-c", _PROBE), timeout_s=PROBE_S)
                said = done.stdout.decode("utf-8", "surrogateescape")
                if done.exit_code or f"{_MARK}\n" not in said:
                    problem = last_line(done.stderr) if done.exit_code else "it did not answer the first question"
                    raise Unreachable(f"{self.route[-1]} runs no `sh`: {problem}")
                self._facts = self.facts_from(said.rpartition(f"{_MARK}\n")[2].splitlines())
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
            self.route, self._instance, command_line(("sh", "-c", _WITH_ENV, "sh", str(len(data)), *argv))
        )
        from styx.transport.base import write_all

        write_all(channel.stdin, data)
        return channel

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` in the login's home to its end."""
        channel = self._logins.open(self.route, self._instance, command_line(argv), whole_stderr=True)
        return channel.run(stdin, timeout_s, argv[0])

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file through `cat`."""
        done = self.run(("sh", "-c", _PUT, "sh", path, f"{mode:o}", secrets.token_hex(4)), stdin=data, timeout_s=_PUT_S)
        if done.exit_code:
            raise LocalIOError(f"cannot write {path} on {self.route[-1]}: {last_line(done.stderr)}")

    def interactive(self, argv: Sequence[str]) -> int:
        """A command, or a login shell, on this terminal."""
        from styx.transport.ssh.terminal import interact

        login, channel = self._logins.terminal(self.route, self._instance)
        return interact(login, channel, command_line(argv) if argv else None)

    def close(self) -> None:
        """The logins stay, for others."""
        if self._own_logins:
            self._logins.close()


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
