"""Ports that lead to a host, and the config file for plain `ssh`."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from styx.errors import DeadlineExceeded, LocalIOError, NotExecutable, UsageError
from styx.models.forwards import PortForward, parse_forward
from styx.transport.local import LocalTransport
from styx.transport.ssh import configfile
from styx.transport.ssh.forward import Forwarder
from styx.transport.ssh.keys import login_key

pytestmark = pytest.mark.debian("openssh-server", "sshd")


@pytest.fixture
def echo():
    """A port that answers each connection with what it gets, in capitals, once its input has ended."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                threading.Thread(target=answer, args=(stream,), daemon=True).start()

    def answer(stream):
        with stream:
            data = b""
            while more := stream.recv(65536):
                data += more
            stream.sendall(data.upper())

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def ask(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as stream:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        said = b""
        while more := stream.recv(65536):
            said += more
    return said


def test_connections_are_carried_side_by_side_on_one_login(sshd, client, echo):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    with contextlib.closing(node.forward([PortForward(0, echo), PortForward(0, 1)], client.said.append)) as carried:
        port, shut = (each.local for each in carried.forwards)
        answers: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=lambda n=n: answers.update({n: ask(port, b"%d " % n + b"x" * 200_000)}))
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {n: b"%d " % n + b"X" * 200_000 for n in range(6)}
        with contextlib.suppress(OSError):
            assert ask(shut, b"x") == b""
        assert "127.0.0.1:1 of the node" in client.said[-1]
        assert "Connection refused" in client.said[-1]
        assert "jump host" not in client.said[-1]
    with pytest.raises(OSError):
        ask(port, b"x")
    assert sshd.log().count("Accepted publickey") == 1


def test_a_connection_that_no_login_carries_ends_and_says_why():
    def busy():
        raise DeadlineExceeded("waited 120 s for other logins to that host")

    said: list[str] = []
    carried = Forwarder([PortForward(0, 80)], busy, said.append)
    with contextlib.closing(carried), contextlib.suppress(OSError):
        assert ask(carried.forwards[0].local, b"x") == b""
    assert "waited 120 s" in said[0]


def test_a_port_in_use_is_named_and_nothing_is_left_open(sshd, client, echo):
    node = client.transport(sshd.reach(host_key=sshd.host_key))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    with pytest.raises(LocalIOError, match=f"port {echo} of this machine can't be used"):
        node.forward([PortForward(number, 1), PortForward(echo, 1)], client.said.append)
    with pytest.raises(OSError):
        ask(number, b"x")


def test_a_local_node_carries_no_ports():
    with pytest.raises(NotExecutable, match="only to nodes that are reached over SSH"):
        LocalTransport.forward(None, [], print)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80", (80, 80, "127.0.0.1", "127.0.0.1")),
        ("8080:80", (8080, 80, "127.0.0.1", "127.0.0.1")),
        ("0:db.internal:5432", (0, 5432, "db.internal", "127.0.0.1")),
        ("0.0.0.0:1:[2001:db8::1]:2", (1, 2, "2001:db8::1", "0.0.0.0")),
    ],
)
def test_forms_of_a_forward(text, found):
    each = parse_forward(text)
    assert (each.local, each.remote, each.host, each.bind) == found
    with pytest.raises(UsageError, match="is not a port to forward"):
        parse_forward(f"{text}:x")


def entry(client, reach, host_key) -> configfile.Entry:
    return configfile.Entry(("dev", "dev-0"), client.logins.route(reach), "styx-dev-00000001-0", host_key)


@pytest.mark.parametrize("jump", [False, True])
def test_openssh_logs_in_with_the_file(sshd, client, tmp_path, jump):
    reach, local = sshd.reach(host_key=sshd.host_key), ""
    if jump:
        local = f"Host edge\n HostName 127.0.0.1\n Port {sshd.port}\n IdentityFile {login_key(client.folders).path}\n"
        (client.user_home / ".ssh/config").write_text(local)
        reach = sshd.reach(host_key=sshd.host_key, jump="edge")
    config = configfile.write(tmp_path / "ssh dir", [entry(client, reach, sshd.host_key)], client.logins.own_key())
    user = tmp_path / "user/.ssh/plain"
    configfile.include(user, config)
    extra = f"Match all\n  IdentityFile {login_key(client.folders).path}\n  StrictHostKeyChecking no\n"
    user.write_text(user.read_text() + local + extra + "  UserKnownHostsFile /dev/null\n")
    done = subprocess.run(
        [shutil.which("ssh") or "ssh", "-F", str(user), "-o", "BatchMode=yes", "dev", "echo $STYX_SOCKET_DIR"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{sshd.folder}/s\n"), done.stderr


def test_a_changed_host_key_is_refused_by_openssh_too(sshd, client, tmp_path):
    reach = sshd.reach(host_key=sshd.host_key)
    config = configfile.write(tmp_path / "ssh", [entry(client, reach, sshd.host_key)], client.logins.own_key())
    sshd.stop()
    sshd.make_host_key()
    sshd.start()
    done = subprocess.run(
        ["ssh", "-F", str(config), "-o", "BatchMode=yes", "dev", "true"], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 255
    assert b"verification failed" in done.stderr


def test_the_users_file_is_kept_byte_for_byte(tmp_path: Path):
    user, ours = tmp_path / ".ssh/config", tmp_path / "styx/ssh/config"
    configfile.include(user, ours)
    assert user.read_text() == f"Include {ours}\n\n"
    assert user.stat().st_mode & 0o777 == 0o600
    before = b"# caf\xe9 \r\nHost *\n\tUser me"
    user.write_bytes(before)
    user.chmod(0o640)
    assert not configfile.is_included(user, ours)
    for _ in range(2):
        configfile.include(user, ours)
        assert user.read_bytes() == f"Include {ours}\n\n".encode() + before
    assert user.stat().st_mode & 0o777 == 0o640
    user.write_text(f"Host *\n  User me\nInclude {ours}\n")
    assert not configfile.is_included(user, ours)  # there it would hold for hosts that match only


def test_the_file_goes_through_a_link_of_the_users(tmp_path: Path):
    dotfiles = tmp_path / "dotfiles"
    dotfiles.write_text("Host x\n")
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").symlink_to(dotfiles)
    configfile.include(tmp_path / ".ssh/config", tmp_path / "ours")
    assert (tmp_path / ".ssh/config").is_symlink()
    assert dotfiles.read_text().startswith("Include")
