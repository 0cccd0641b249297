"""Why a host was not reached: each step fails with its own reason, in words that name the host."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from paramiko import ECDSAKey

from styx.driver import Ssh, SshFailed
from styx.errors import InvalidInput
from styx.transport.ssh.door import Door
from styx.transport.ssh.keys import host_key, public_only

pytestmark = pytest.mark.debian("openssh-server", "sshd")


def failure(client, reach: Ssh) -> SshFailed:
    with pytest.raises(SshFailed) as caught:
        client.transport(reach).run(("true",))
    assert caught.value.hint
    return caught.value


@pytest.fixture
def server():
    """Whatever listens on a port: a function that is given each connection."""
    stop = threading.Event()

    @contextlib.contextmanager
    def serve(answer):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.1)

            def accept():
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError, OSError), listener.accept()[0] as stream:
                        answer(stream)

            thread = threading.Thread(target=accept, daemon=True)
            thread.start()
            yield Ssh(host="127.0.0.1", port=listener.getsockname()[1], user="me", options={"ConnectTimeout": "1"})
            stop.set()
            thread.join()

    return serve


def test_a_name_that_does_not_resolve(client):
    error = failure(client, Ssh(host="no-such-host.invalid", user="me", options={"ConnectTimeout": "5"}))
    assert (error.reason, error.exit_code) == ("dns", 68)
    assert str(error).startswith("cannot reach me@no-such-host.invalid: its name can't be resolved")


def test_a_port_where_nothing_listens(client, sshd):
    sshd.stop()
    error = failure(client, sshd.reach())
    assert error.reason == "refused"
    assert f"port {sshd.port} refuses connections" in str(error)


def test_something_that_is_not_ssh(client, server):
    with server(lambda stream: stream.sendall(b"HTTP/1.1 400 Bad Request\r\n" * 200)) as reach:
        error = failure(client, reach)
    assert error.reason == "not_ssh"
    assert "does not speak SSH" in str(error)
    assert "HTTP/1.1 400" in str(error)


def test_something_that_hangs_up_at_once_is_asked_again(client, server):
    asked = []
    with server(asked.append) as reach:
        error = failure(client, reach)
    assert error.reason == "not_ssh"
    assert "closed the connection before it said anything" in str(error)
    assert len(asked) == 4


def test_something_that_never_says_a_word(client, server):
    over = threading.Event()
    with server(lambda stream: over.wait(30)) as reach:
        error = failure(client, reach)
        over.set()
    assert error.reason == "timeout"
    assert "no SSH greeting came within 1 s" in str(error)


def test_a_user_whom_no_key_opens(make_sshd, client):
    sshd = make_sshd(authorized="# nobody")
    error = failure(client, sshd.reach())
    assert error.reason == "auth"
    assert "accepts none of the 1 keys for user" in str(error)


def test_a_server_that_takes_no_keys_says_what_it_takes(make_sshd, client):
    sshd = make_sshd("PubkeyAuthentication no", "KbdInteractiveAuthentication yes")
    error = failure(client, sshd.reach())
    assert error.reason == "auth"
    assert "it would take keyboard-interactive" in str(error)


def test_a_pinned_host_key_is_the_only_one(sshd, client):
    other = public_only(client.transport(sshd.reach())._logins.host_key(sshd.reach()))
    node = client.transport(sshd.reach(host_key=f"{other} some comment"))
    assert node.run(("echo", "yes")).stdout == b"yes\n"
    sshd.stop()
    sshd.make_host_key()
    sshd.start()
    error = failure(client.again(), sshd.reach(host_key=other))
    assert error.reason == "host_key"
    assert "shows another host key (SHA256:" in str(error)
    assert "not that machine" in error.hint


def test_a_host_key_of_another_kind_is_refused(sshd, client):
    other = ECDSAKey.generate()
    error = failure(client, sshd.reach(host_key=f"{other.get_name()} {other.get_base64()}"))
    assert error.reason == "host_key"


def test_a_key_trusted_on_first_use_is_kept_per_cluster_and_said_once(sshd, client):
    for _ in range(2):
        client.transport(sshd.reach(), "styx-a-00000001/0").run(("true",))
    assert len(client.said) == 1
    assert "trusted on first use" in client.said[0]
    assert "SHA256:" in client.said[0]
    later = client.again()
    later.transport(sshd.reach(), "styx-a-00000001/0").run(("true",))
    assert later.said == []
    sshd.stop()
    sshd.make_host_key()
    sshd.start()
    error = failure(later.again(), sshd.reach())
    assert error.reason == "host_key"
    assert "known-styx-a-00000001.json" in error.hint
    kept = client.folders.key_path("known-styx-a-00000001.json")
    kept.write_text('{\n "before": "ssh-ed25519 AAA",\n}\n')  # its line, the last one, was removed as the hint says
    later.again().transport(sshd.reach(), "styx-a-00000001/0").run(("true",))
    kept.write_text('{\n "before": "ssh-ed25519 AAA"\n}\n')
    later = later.again()
    later.transport(sshd.reach(), "styx-b-00000002/0").run(("true",))  # another cluster got that address
    later.logins.trust.forget("styx-a-00000001")
    later.transport(sshd.reach(), "styx-a-00000001/0").run(("true",))


def test_machines_that_are_made_anew_under_the_same_key_are_trusted_anew(sshd, client):
    door = Door(client.folders, lambda: client.logins)
    node = client.transport(sshd.reach(), "styx-a-00000001/0")
    assert door.logins() is client.logins
    node.run(("true",))
    sshd.stop()
    sshd.make_host_key()
    sshd.start()
    with pytest.raises(SshFailed, match="another host key"):
        node.run(("true",))
    door.renew("styx-a-00000001")
    assert node.run(("echo", "new")).stdout == b"new\n"
    pair = host_key(client.folders, "styx-a-00000001")
    door.renew("styx-a-00000001")
    assert pair.path.exists()
    door.forget("styx-a-00000001")
    assert not pair.path.exists()
    assert not client.folders.key_path("known-styx-a-00000001.json").exists()


def test_a_driver_is_told_by_the_users_own_known_hosts(sshd, client):
    line = f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n"
    (client.user_home / ".ssh/known_hosts").write_text(f"# comment\nnonsense\nother ssh-ed25519 AAA\n\n{line}")
    assert client.logins.run(sshd.reach(), ("echo", "x")).stdout == b"x\n"
    assert client.said == []
    sshd.stop()
    sshd.make_host_key()
    sshd.start()
    with pytest.raises(SshFailed, match="another host key") as caught:
        client.again().logins.run(sshd.reach(), ("true",))
    assert "known_hosts" in caught.value.hint


def test_a_proxy_command_that_fails_says_why(client):
    reach = Ssh(host="host", user="me", options={"ProxyCommand": "sh -c 'echo no way to %h:%p >&2; exit 3'"})
    error = failure(client, reach)
    assert error.reason == "proxy"
    assert "its proxy command failed: no way to host:22" in str(error)


def test_a_proxy_command_carries_the_connection_and_ends_with_it(sshd, client):
    python = "import socket,sys,threading,os\\ns=socket.create_connection((sys.argv[1],int(sys.argv[2])))"
    pump = (
        "\\ndef up():\\n while 1:\\n  d=os.read(0,65536)\\n  if not d: os._exit(0)\\n  s.sendall(d)"
        "\\nthreading.Thread(target=up,daemon=True).start()"
        "\\nwhile 1:\\n d=s.recv(65536)\\n if not d: break\\n os.write(1,d)"
    )
    command = f"""python3 -c "exec('{python}{pump}')" %h %p"""
    reach = sshd.reach(host_key=sshd.host_key, options={"ProxyCommand": command})
    assert client.transport(reach).run(("cat",), stdin=b"y" * 300_000).stdout == b"y" * 300_000
    client.logins.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"options": {"ForwardX11": "yes"}}, "not an SSH option"),
        ({"host": "a b"}, "not a host name"),
        ({"host": "a$(b)"}, "not a host name"),
        ({"host": "-oProxyCommand=x"}, "not a host name"),
        ({"user": "ubuntu;reboot"}, "not a login name"),
        ({"options": {"ProxyCommand": "x\nHost *"}}, "holds a line end"),
        ({"jump": "user@"}, "is not [user@]host[:port]"),
        ({"options": {"ConnectTimeout": "soon"}}, "not a number"),
    ],
)
def test_a_wrong_reach_is_refused_at_once(client, wrong, words):
    with pytest.raises(InvalidInput) as caught:
        client.transport(Ssh(**{"host": "h", "user": "u", **wrong}))
    assert words in str(caught.value)
