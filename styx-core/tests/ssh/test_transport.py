"""Commands over a real SSH server."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import paramiko
import pytest
from paramiko import common

from styx.driver import SshFailed
from styx.errors import DeadlineExceeded
from styx.transport.base import write_all
from styx.transport.ssh import scripts
from styx.transport.ssh.channel import command_line
from styx.transport.ssh.connection import Gate, Packets
from styx.transport.ssh.sockets import dial, kernel_round_trip_s
from styx.transport.ssh.transport import _Lines

pytestmark = pytest.mark.debian("openssh-server", "sshd")


def test_a_command_has_three_streams_and_an_exit_code(sshd, client):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    done = node.run(("sh", "-c", 'cat; echo "$1" >&2; exit 7', "sh", 'it\'s "quoted" $HOME *'), stdin=b"in\0put")
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"in\0put", b'it\'s "quoted" $HOME *\n')


SHELLS = ["sh", "bash", *(pytest.param(name, marks=pytest.mark.debian(name, name)) for name in ("zsh", "fish", "tcsh"))]


@pytest.mark.parametrize("shell", SHELLS)
def test_any_login_shell_passes_words_on_unchanged(shell):
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    plain = ["", "it's", "\\'", "\\\\n", "!x a!b", '$HOME `id` "q" *', "=ls", "%1", "~", "{a,b}", "#c", "\xe9"]
    for words in (plain, [*plain, "one\ntwo\\n'x'!\n", "\n"]):
        line = command_line((sys.executable, "-c", show, *words))
        done = subprocess.run([shell, "-c", line], capture_output=True, check=True)
        assert json.loads(done.stdout) == words
    done = subprocess.run(["sh", "-c", command_line(("sh", "-c", 'echo "$PPID"\nexit 7'))], capture_output=True)
    assert (done.returncode, done.stdout) == (7, b"%d\n" % os.getpid())


def test_a_killed_command_ends_with_128_and_its_signal(sshd, client):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    assert node.run(("sh", "-c", "kill -9 $$")).exit_code == 137


def test_streams_are_unbuffered(sshd, client):
    channel = client.transport(sshd.reach(host_key=sshd.host_key)).open(("cat",))
    for word in (b"one", b"two"):
        write_all(channel.stdin, word)
        assert channel.stdout.read(100) == word
    channel.stdin.close()
    assert channel.stdout.read(100) == b""
    assert channel.wait(10) == 0
    channel.close()
    channel.close()


def test_a_line_that_is_read_leaves_what_follows_it(sshd, client):
    channel = client.transport(sshd.reach(host_key=sshd.host_key)).open(("printf", "first\\nsecond\\nrest"))
    lines = _Lines(channel)
    assert (lines.next(30), lines.next(30)) == ("first", "second")
    rest = b""
    while data := channel.stdout.read(3):
        assert len(data) <= 3
        rest += data
    assert rest == b"rest"
    assert lines.next(30) is None
    channel.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what the kernel saw")
def test_a_busy_client_does_not_take_a_near_host_for_a_far_one(sshd, client, monkeypatch):
    def late(hop):
        made = dial(hop)
        time.sleep(0.2)
        return made

    monkeypatch.setattr("styx.transport.ssh.login.dial", late)
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    assert 0 < client.logins.login(node.route, "styx-a-00000001/0").round_trip_s < 0.2
    one, other = socket.socketpair()
    with one, other:
        assert kernel_round_trip_s(one) == math.inf


def test_a_write_after_the_end_of_the_command_is_an_os_error(sshd, client):
    channel = client.transport(sshd.reach(host_key=sshd.host_key)).open(("true",))
    assert channel.wait(20) == 0
    with pytest.raises(OSError):  # noqa: PT012 - the first writes may still fit
        for _ in range(1000):
            write_all(channel.stdin, b"x" * 65536)
    channel.close()


def test_the_last_of_standard_error_is_kept(sshd, client):
    channel = client.transport(sshd.reach(host_key=sshd.host_key)).open(
        ("sh", "-c", "seq 1 5000000 | head -c 30000000 >&2; echo over >&2")
    )
    assert channel.stdout.read(10) == b""
    assert channel.wait(60) == 0
    assert channel.stderr_tail().endswith("over\n")
    assert len(channel.stderr_tail()) <= 8192
    channel.close()


def test_variables_do_not_travel_in_arguments(sshd, client):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    secret = "s3cret'\n$(touch x)"
    channel = node.open(
        ("sh", "-c", 'printf %s "$TOKEN"; tr "\\0" " " < /proc/$PPID/cmdline; cat'), env={"TOKEN": secret}
    )
    write_all(channel.stdin, b"and input")
    channel.stdin.close()
    said = b""
    while data := channel.stdout.read(1000):
        said += data
    assert said.startswith(secret.encode())
    assert said.endswith(b"and input")
    assert said.count(b"s3cret") == 1
    channel.close()


def test_a_file_is_put_whole_with_its_mode(sshd, client):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    data = bytes(range(256)) * 40_000
    node.put(data, f"{node.home}/a folder/it's a file", mode=0o640)
    path = sshd.home / "a folder" / "it's a file"
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_command_that_does_not_end_meets_its_deadline(sshd, client):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    with pytest.raises(DeadlineExceeded, match=r"sleep did not end within 0\.5 s"):
        node.run(("sleep", "60"), timeout_s=0.5)
    assert node.run(("echo", "on")).stdout == b"on\n"


def test_many_commands_share_few_logins(sshd, client):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    results: list[bytes] = []

    def ask(number: int) -> None:
        results.append(node.run(("sh", "-c", f"sleep 0.3; echo {number}"), timeout_s=60).stdout)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, results)) == list(range(20))
    assert 1 <= sshd.log().count("Accepted publickey") <= 4


def test_short_commands_in_many_threads_never_lose_a_login(sshd, client):
    """Each ends while its input is written and closed: there paramiko speaks on closed channels, and sshd hangs up."""
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    problems: list[BaseException] = []

    def ask(seed: int) -> None:
        pauses = random.Random(seed)
        try:
            for _ in range(60):
                channel = node.open(("true",))
                time.sleep(pauses.random() * 0.004)
                with contextlib.suppress(OSError):
                    channel.stdin.write(b"x")
                channel.stdin.close()
                assert channel.wait(60) == 0
                channel.close()
        except BaseException as error:  # noqa: BLE001 - told by the test
            problems.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert "nonexistent channel" not in sshd.log()
    assert sshd.log().count("Accepted publickey") <= 2


def test_nothing_is_sent_on_a_channel_after_its_close():
    """One thread is about to send data when another closes: whichever comes first, the close is the last message."""
    sent: list[int] = []
    sending, go_on = threading.Event(), threading.Event()

    class Slow:
        def _send_user_message(self, message):
            kind = message.asbytes()[0]
            if kind == common.MSG_CHANNEL_DATA:
                sending.set()
                go_on.wait(30)
            sent.append(kind)

    def message(kind):
        made = paramiko.Message()
        made.add_byte(bytes([kind]))
        made.add_int(0)
        return made

    gate = Gate(Slow(), paramiko.Channel(0))
    data = threading.Thread(target=gate._send_user_message, args=(message(common.MSG_CHANNEL_DATA),))
    data.start()
    assert sending.wait(30)
    close = threading.Thread(target=gate._send_user_message, args=(message(common.MSG_CHANNEL_CLOSE),))
    close.start()
    close.join(0.2)
    assert sent == []
    go_on.set()
    data.join()
    close.join()
    for kind in (common.MSG_CHANNEL_DATA, common.MSG_CHANNEL_EOF, common.MSG_CHANNEL_WINDOW_ADJUST):
        gate._send_user_message(message(kind))
    assert sent == [common.MSG_CHANNEL_DATA, common.MSG_CHANNEL_CLOSE]


def test_a_server_that_allows_few_commands_gets_more_logins(make_sshd, client):
    sshd = make_sshd("MaxSessions 2")
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    channels = [node.open(("cat",)) for _ in range(5)]
    for number, channel in enumerate(channels):
        write_all(channel.stdin, b"%d" % number)
        assert channel.stdout.read(10) == b"%d" % number
        channel.close()
    assert sshd.log().count("Accepted publickey") == 3


def test_a_server_that_goes_away_is_named_lost(sshd, client):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    channel = node.open(("cat",))
    write_all(channel.stdin, b"x")
    assert channel.stdout.read(1) == b"x"
    sshd.stop()
    assert channel.stdout.read(1) == b""
    with pytest.raises(SshFailed) as caught:
        channel.wait(20)
    assert caught.value.reason == "lost"
    channel.close()
    began = time.monotonic()
    with pytest.raises(SshFailed) as caught:
        node.run(("true",))
    assert caught.value.reason == "refused"
    assert time.monotonic() - began < 60
    sshd.start()
    assert node.run(("echo", "back")).stdout == b"back\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make what another user has made")
def test_a_folder_that_somebody_else_has_made_for_our_agents_is_refused(tmp_path):
    """Agents are kept in /var/tmp where the home lies on a network; anybody may write there."""
    uid = 4_100_000_000 + os.getpid()
    for name, says in (("id", str(uid)), ("stat", "nfs")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / name).chmod(0o755)
    folder = Path(f"/var/tmp/styx-agent-{uid}")
    env = {"PATH": f"{tmp_path}:{os.defpath}", "HOME": str(tmp_path)}

    def probe():
        return subprocess.run(["sh", "-c", scripts.PROBE], env=env, capture_output=True, text=True)

    try:
        assert probe().stdout.splitlines()[-1] == str(folder)
        assert folder.stat().st_mode & 0o777 == 0o700
        os.chown(folder, 1, 1)
        assert (probe().returncode, probe().stdout) == (96, "")
        assert probe().stderr == f"{folder} belongs to somebody else\n"
    finally:
        folder.rmdir()


@pytest.mark.parametrize("error", [EOFError(), OSError("gone"), paramiko.SSHException("gone")])
def test_letting_go_of_a_way_that_is_lost_already_is_quiet(error: Exception) -> None:
    closed: list[bool] = []

    class Way:
        def close(self) -> None:
            closed.append(True)
            raise error

    Packets(Way()).close()
    assert closed == [True]
