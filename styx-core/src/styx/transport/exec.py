"""The way to a node through a command of this machine, such as `docker exec -i NAME` or `kubectl exec -i POD --`."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Mapping, Sequence

from styx.driver import Exec
from styx.errors import LocalIOError, Unreachable
from styx.transport.base import Completed, Transport
from styx.transport.process import ProcessChannel, run_on_terminal, run_process

_PROBE = r"""
for python in python3 /usr/bin/python3 /usr/local/bin/python3 python; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && break
    python=
done
home=$1; case $home in "~") home=$HOME;; "~/"*) home=$HOME/${home#??};; esac
state=$home/.styx-agent
case $(stat -f -c %T "$home" 2>/dev/null) in
    nfs*|lustre|fuse*|smb*|cifs|beegfs|gpfs|ceph|afs)
        state=/var/tmp/styx-agent-$(id -u)
        mkdir -m 700 "$state" 2>/dev/null
        [ -O "$state" ] && [ ! -L "$state" ] || { echo "$state belongs to somebody else" >&2; exit 96; };;
esac
printf '%s\n' "$home" "$(command -v "$python")" "$state"
"""
_PUT = 'mkdir -p "$(dirname "$1")" && umask 077 && cat > "$1.$3" && chmod "$2" "$1.$3" && mv -f "$1.$3" "$1"'
_IN_HOME = 'cd "$1" || exit 97; shift; exec "$@"'
_WITH_ENV = '. "$1"; rm -f "$1"; shift; exec "$@"'
_TERMINAL_FLAG = frozenset({"docker", "podman", "nerdctl", "kubectl"})


class ExecTransport(Transport):
    """Runs the node's commands through a prefix; what the prefix reaches needs `sh`, `cat` and a Python."""

    def __init__(self, reach: Exec, instance: str) -> None:
        """`instance` (`<key>/<rank>`) names the agent's state folder, because several may share a home.

        Raises:
            Unreachable: The command cannot be run, or there is no Python >= 3.8 behind it.
        """
        self._prefix = tuple(reach.argv)
        done = self._bare(("sh", "-c", _PROBE, "sh", reach.home))
        lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
        if done.exit_code or len(lines) != 3:
            raise Unreachable(f"{shlex.join(self._prefix)} failed ({done.exit_code}): {_last_line(done.stderr)}")
        self.home, self.python, state = lines
        if not self.python:
            raise Unreachable(
                f"no Python 3.8 or newer was found behind {shlex.join(self._prefix)}",
                hint="install python3 in the image",
            )
        self.agent_state = f"{state}/{instance}"

    def _bare(self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        return run_process((*self._prefix, *argv), env=os.environ, cwd=None, stdin=stdin, timeout_s=timeout_s)

    def _argv(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """Through the prefix, in the node's home. Variables travel in a private file: arguments can be seen by all."""
        with_env: tuple[str, ...] = ()
        if env:
            path = f"{self.agent_state}/env-{secrets.token_hex(8)}"
            lines = [f"export {name}={shlex.quote(value)}\n" for name, value in env.items()]
            self.put("".join(lines).encode("utf-8", "surrogateescape"), path, mode=0o600)
            with_env = ("sh", "-c", _WITH_ENV, "sh", path)
        return (*self._prefix, "sh", "-c", _IN_HOME, "sh", self.home, *with_env, *argv)

    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> ProcessChannel:
        """Start `argv` in the node's home."""
        return ProcessChannel(self._argv(argv, env), env=os.environ, cwd=None)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` in the node's home to its end."""
        return run_process(self._argv(argv), env=os.environ, cwd=None, stdin=stdin, timeout_s=timeout_s)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file through `cat`."""
        done = self._bare(("sh", "-c", _PUT, "sh", path, f"{mode:o}", secrets.token_hex(4)), data, 300.0)
        if done.exit_code:
            raise LocalIOError(f"cannot write {path} on the node: {_last_line(done.stderr)}")

    def interactive(self, argv: Sequence[str]) -> int:
        """A command, or a login shell, on this terminal."""
        command = self._argv(argv or ("sh", "-c", 'exec "${SHELL:-sh}" -l'))
        program = os.path.basename(self._prefix[0])
        if program in _TERMINAL_FLAG and "-i" in self._prefix and sys.stdin.isatty():
            place = command.index("-i")
            command = (*command[:place], "-t", *command[place:])
        return run_on_terminal(command, env=os.environ, cwd=None)


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
