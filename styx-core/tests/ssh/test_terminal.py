"""A terminal on a host: raw keys, size, resizes, exit codes; pipes where there is none."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

pytestmark = pytest.mark.debian("openssh-server", "sshd")

_PROGRAM = """
import sys
from pathlib import Path
from styx.driver import Ssh
from styx.state.folders import HomeFolders
from styx.transport.ssh.logins import Logins
from styx.transport.ssh.target import UserConfig
from styx.transport.ssh.transport import SshTransport
home, reach, *argv = sys.argv[1:]
logins = Logins(HomeFolders(Path(home)), UserConfig(Path(home) / "user", {}, user="me"), print)
raise SystemExit(SshTransport(Ssh.model_validate_json(reach), logins, "styx-a/0").interactive(argv))
"""


class Terminal:
    """A terminal of 80 x 24 in which a process runs."""

    def __init__(self, argv: list[str]) -> None:
        self.master, slave = pty.openpty()
        self.resize(80, 24)
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env={**os.environ, "TERM": "vt100"}
        )
        self.slave = slave
        self.said = b""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def expect(self, words: bytes, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while words not in self.said:
            left = deadline - time.monotonic()
            assert left > 0, self.said
            if select.select([self.master], [], [], left)[0]:
                self.said += os.read(self.master, 65536)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def close(self) -> int:
        code = self.process.wait(60)
        os.close(self.master)
        os.close(self.slave)
        return code


def argv(sshd, client, *command: str) -> list[str]:
    reach = sshd.reach(host_key=sshd.host_key).model_dump_json()
    return [sys.executable, "-c", _PROGRAM, str(client.folders.home), reach, *command]


def test_a_shell_knows_the_window_and_gets_every_key(sshd, client):
    terminal = Terminal(argv(sshd, client, "sh", "-i"))
    before = termios.tcgetattr(terminal.slave)
    terminal.type(b"stty size; echo term=$TERM\r")
    terminal.expect(b"24 80")
    terminal.expect(b"term=vt100")
    assert not termios.tcgetattr(terminal.slave)[3] & termios.ECHO
    terminal.resize(132, 50)
    os.kill(terminal.process.pid, signal.SIGWINCH)
    terminal.type(b"sleep 1; stty size\r")
    terminal.expect(b"50 132")
    terminal.type(b"sleep 100\r")
    time.sleep(0.5)
    terminal.type(b"\x03")  # Ctrl-C is the host's
    terminal.type(b"echo still $((40 + 2))\r")
    terminal.expect(b"still 42")
    terminal.type(b"exit 7\r")
    process_end = terminal.process.wait(60)
    assert termios.tcgetattr(terminal.slave)[3] == before[3]
    assert process_end == terminal.close() == 7


def test_a_login_shell_is_what_runs_without_a_command(sshd, client):
    terminal = Terminal(argv(sshd, client))
    terminal.type(b"echo in $((1 + 1)); exit 3\r")
    terminal.expect(b"in 2")
    assert terminal.close() == 3


def test_without_a_terminal_bytes_pass_unchanged(sshd, client):
    data = bytes(range(256)) * 5000
    done = subprocess.run(
        argv(sshd, client, "sh", "-c", "cat; echo oops >&2; exit 9"), input=data, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, data, b"oops\n")


def test_a_reader_that_has_enough_ends_it(sshd, client):
    command = argv(sshd, client, "sh", "-c", "yes | head -c 500000000")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(4) == b"y\ny\n"
        process.stdout.close()
        assert process.wait(60) != 0
