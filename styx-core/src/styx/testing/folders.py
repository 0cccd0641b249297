"""Folders of this machine that act as hosts: an `SshDoor` for tests of drivers, without a network and without sshd."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from styx.driver import Completed, Ssh, SshFailed
from styx.errors import DeadlineExceeded

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"


class FolderDoor:
    """Each host is a folder below `root`: the login's home. Programs in its `bin` go before the machine's own.

    Attributes:
        down: Hosts that do not answer.
        before: Called with the host and the command before each; may raise.
        after: Called likewise when the command has run; may raise, as when a reply is lost.
        serial: One command at a time, with its `before` and `after`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.down: set[str] = set()
        self.before: Callable[[str, Sequence[str]], None] = _nothing
        self.after: Callable[[str, Sequence[str]], None] = _nothing
        self.serial = False
        self._lock = threading.Lock()

    def add(self, host: str) -> Path:
        """Make a host; its home."""
        home = self.root / host
        (home / "bin").mkdir(parents=True)
        (home / ".ssh").mkdir()
        (home / ".ssh" / "authorized_keys").write_text("")
        return home

    def program(self, host: str, name: str, script: str) -> None:
        """Give a host a program, a shell script."""
        path = self.root / host / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def run(self, reach: Ssh, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """See `SshDoor.run`."""
        self._answering(reach)
        with self._lock if self.serial else contextlib.nullcontext():
            self.before(reach.host, argv)
            done = self._run(reach, argv, stdin, timeout_s)
            self.after(reach.host, argv)
        return Completed(done.returncode, done.stdout, done.stderr)

    def _run(
        self, reach: Ssh, argv: Sequence[str], stdin: bytes, timeout_s: float
    ) -> subprocess.CompletedProcess[bytes]:
        home = self.root / reach.host
        env = {"HOME": str(home), "PATH": f"{home / 'bin'}:{os.defpath}:/usr/local/bin:/usr/bin:/bin"}
        try:
            return subprocess.run(
                argv, input=stdin, capture_output=True, cwd=home, env=env, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(f"{reach.host}: the command did not end within {timeout_s:g} s") from error

    def host_key(self, reach: Ssh) -> str:
        """See `SshDoor.host_key`."""
        self._answering(reach)
        return f"{HOST_KEY}{reach.host}"

    def _answering(self, reach: Ssh) -> None:
        if reach.host in self.down:
            raise SshFailed(f"{reach.host} did not answer", "timeout")
        if not (self.root / reach.host).is_dir():
            raise SshFailed(f"the name {reach.host} is not known", "dns")


def _nothing(host: str, argv: Sequence[str]) -> None:
    """What is done around a command unless a test says otherwise."""
