"""Over real hosts: an agent on a bare one, its return after a reboot, cut cables, changed keys, jump hosts."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from styx.driver import NodeRequest, SshFailed
from styx.driver import Ssh as SshReach
from styx.transport.agent import ensure_agent
from styx.transport.agentfile import agent_file
from styx.transport.base import NodeGone, Unusable, write_all
from styx.transport.revive import boot_script
from styx.transport.ssh import keys
from styx.userdata import cloud_config

pytestmark = pytest.mark.debian("openssh-server", "sshd")
KEY = "styx-m-st0re101"


@pytest.fixture
def boot(machines, client):
    def one(name="one", **more):
        host = machines.boot(name, **{"authorized_keys": [keys.login_key(client.folders).public], **more})
        host.wait_for_ssh()
        return host

    return one


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    return agent_file(tmp_path_factory.mktemp("agentfile"))


def reach(host, **more) -> SshReach:
    return SshReach(**{"host": host.host, "user": host.user, "host_key": host.host_key, **more})


def test_a_bare_host_gets_an_agent_with_one_login_and_few_commands(boot, client, agent):
    host = boot(user="ubuntu")
    node = client.transport(reach(host), f"{KEY}/0")
    connection = ensure_agent(node, KEY, 0, agent)
    assert connection.call("ping")["time"] > 0
    assert connection.agent_path == f"/home/ubuntu/.styx-agent/{KEY}/0/{agent.name}"
    assert (node.home, node.python) == ("/home/ubuntu", "/usr/bin/python3")
    state = host.root / "home/ubuntu/.styx-agent" / KEY / "0"
    assert state.stat().st_mode & 0o777 == 0o700
    lines = host.run(["ps", "-eo", "args"]).stdout.decode().splitlines()
    assert sum(" supervise --state " in line for line in lines) == 2  # the supervisor, and the agent that it forked
    assert ensure_agent(node, KEY, 0, agent).hello["pid"] == connection.hello["pid"]
    connection.shutdown()


def test_a_machine_that_was_switched_off_brings_its_agent_back_by_itself(boot, client, agent):
    row = {"cloud": "x", "instance_type": "y", "region": "z"}
    request = NodeRequest.model_validate(
        {
            "token": "0" * 32,
            "cluster": KEY,
            "store": "st0re1",
            "place": {"cloud": "x", "account": "a", "region": "z"},
            "offer": row,
            "ssh_public_key": keys.login_key(client.folders).public,
            "host_key": keys.host_key(client.folders, KEY).private(),
            "boot_script": boot_script(),
        }
    )
    host = boot(user="ubuntu", authorized_keys=[], user_data=cloud_config(request))
    assert keys.public_only(host.host_key) == keys.public_only(keys.host_key(client.folders, KEY).public)
    connection = ensure_agent(client.transport(reach(host), f"{KEY}/0"), KEY, 0, agent)
    client.transport(reach(host), f"{KEY}/0").put(
        b'#!/bin/sh\nid -un >>/tmp/who\nexec /usr/bin/python3 "$@"\n',
        "/home/ubuntu/.styx-agent/python/bin/python3",
        mode=0o755,
    )
    connection.close()
    client.logins.close()
    trap = f"/var/tmp/styx-agent-7/{KEY}/9"  # root's own folder, by a link, and a program that is not root's
    script = f"""
    mkdir -p {trap[:-2]} && ln -s /tmp {trap} && cd /tmp && touch identity.json
    echo 'open("/tmp/caught", "w")' >__main__.py && python3 -m zipfile -c agent-x.pyz __main__.py
    chown ubuntu identity.json agent-x.pyz
    """
    assert host.run(["sh", "-c", script]).returncode == 0
    host.kill()
    host.start()
    assert comes_true(lambda: b"styx-agent" in host.run(["ps", "-eo", "comm"]).stdout)
    assert set(host.run(["cat", "/tmp/who"]).stdout.split()) == {b"ubuntu"}  # never as root, who runs the script
    assert host.run(["ls", "/tmp/caught"]).returncode != 0
    owner = host.run(["ps", "-o", "user=", "-C", "styx-agent"]).stdout.decode().split()
    assert owner == ["ubuntu"]


def comes_true(ask, timeout_s: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if ask():
            return True
        time.sleep(0.1)
    return False


def test_a_host_without_python_is_unusable_until_one_is_put_there(boot, client, agent):
    host = boot(hide_python=True)
    node = client.transport(reach(host), f"{KEY}/0")
    with pytest.raises(Unusable, match=r"has no Python 3\.8 or newer") as caught:
        ensure_agent(node, KEY, 0, agent)
    assert ".styx-agent/python" in caught.value.hint
    with pytest.raises(Unusable):
        _ = node.python
    system = Path("/usr/bin/python3").resolve().read_bytes()  # finds its library where it was built for
    node.put(system, "/root/.styx-agent/python/bin/python3", mode=0o755)
    connection = ensure_agent(node, KEY, 0, agent)
    assert node.python == "/root/.styx-agent/python/bin/python3"
    connection.shutdown()


def test_an_agent_that_was_removed_is_not_begun_again_by_a_connection_that_heals(boot, client, agent):
    host = boot(files={"/root/.bashrc": "printf 'a title without a line end'\n"})
    node = client.transport(reach(host), f"{KEY}/0")
    with pytest.raises(NodeGone, match="has no agent"):
        ensure_agent(node, KEY, 0, agent, anew=False)
    connection = ensure_agent(node, KEY, 0, agent)
    state = f"/root/.styx-agent/{KEY}/0"
    assert host.run(["sh", "-c", f"pkill -9 -f [s]upervise; sleep 0.2; mv {state}/*.pyz /srv"]).returncode == 0
    assert connection.call("node.info", {})  # it died, and was one of another version: it is revived
    host.run(["sh", "-c", f"python3 -I -S {state}/*.pyz stop --state {state}; rm -rf /root/.styx-agent"])
    with pytest.raises(NodeGone, match="has no agent"):
        connection.call("node.info", {})
    assert host.run(["ls", "/root/.styx-agent"]).returncode != 0
    assert host.run(["pgrep", "-f", "supervise"]).returncode == 1


@pytest.mark.parametrize(
    ("mount", "words"),
    [("-t tmpfs -o size=4k x", "No space left"), ("-o bind,ro /root/.styx-agent", "Read-only file system")],
    ids=["full", "read-only"],
)
def test_a_home_that_takes_no_file_is_told_at_once(boot, client, agent, mount, words):
    host = boot()
    make = f"mkdir /root/.styx-agent && mount {mount} /root/.styx-agent"
    assert host.run(["sh", "-c", make]).returncode == 0
    with pytest.raises(Unusable, match=f"cannot write /root/.styx-agent/.*: {words}"):
        ensure_agent(client.transport(reach(host), f"{KEY}/0"), KEY, 0, agent)


@pytest.mark.parametrize("jumps", [0, 1])
def test_a_cut_cable_is_noticed_in_bounded_time(boot, client, jumps):
    host = boot("far")
    more = {"options": {"ServerAliveInterval": "1", "ServerAliveCountMax": "2"}}
    if jumps:
        (client.user_home / ".ssh/config").write_text("Host *\n  ServerAliveInterval 1\n  StrictHostKeyChecking no\n")
        more["jump"] = f"root@{boot('near').host}"
    channel = client.transport(reach(host, **more)).open(("cat",))
    write_all(channel.stdin, b"x")
    assert channel.stdout.read(1) == b"x"
    host.cut()
    began = time.monotonic()
    assert channel.stdout.read(1) == b""
    assert time.monotonic() - began < 60
    with pytest.raises(SshFailed, match="nothing was heard for") as caught:
        channel.wait(5)
    assert caught.value.reason == "lost"
    channel.close()


def test_a_stalled_upload_over_a_cut_cable_ends_too(boot, client):
    host = boot()
    node = client.transport(reach(host, options={"ServerAliveInterval": "1", "ServerAliveCountMax": "2"}))
    channel = node.open(("sh", "-c", "cat > /dev/null"))
    threading.Timer(0.3, host.cut).start()
    began = time.monotonic()
    with pytest.raises(OSError):  # noqa: PT012
        while time.monotonic() - began < 60:
            write_all(channel.stdin, b"x" * 65536)
    channel.close()


def test_a_hung_host_is_told_from_a_dead_one(boot, client):
    host = boot()
    host.hang()
    options = {"ConnectTimeout": "2"}
    with pytest.raises(SshFailed, match="no SSH greeting came within 2 s") as caught:
        client.transport(reach(host, options=options)).run(("true",))
    assert caught.value.reason == "timeout"
    host.resume()
    host.cut()
    with pytest.raises(SshFailed, match=r"no answer within 2 s|no route to host") as caught:
        client.transport(reach(host, options=options)).run(("true",))
    assert caught.value.reason in ("timeout", "no_route")


def test_jump_hosts_are_gone_through_and_named_when_they_fail(boot, client):
    near, next_one, far = boot("near"), boot("next"), boot("far")
    jump = f"root@{near.host},root@{next_one.host}:22"
    node = client.transport(reach(far, jump=jump))
    assert node.run(("hostname",)).stdout == b"far\n"
    peers = far.run(["sh", "-c", "grep -c . /proc/net/tcp"]).stdout
    assert int(peers) >= 2
    assert len(client.said) == 2  # both jump hosts were trusted on first use
    shut = client.transport(reach(far, jump=f"root@{near.host}", port=1))
    with pytest.raises(SshFailed, match=r"its jump host root@[\d.]+ says: Connection refused") as caught:
        shut.run(("true",))
    assert caught.value.reason == "refused"
    near.kill()
    client.logins.end_logins("styx-a-00000001")
    (client.user_home / ".ssh/config").write_text(f"Host {near.host}\n  ConnectTimeout 3\n")
    again = client.again()
    with pytest.raises(SshFailed, match=rf"its jump host root@{near.host} failed") as caught:
        again.transport(reach(far, jump=jump, options={"ConnectTimeout": "3"})).run(("true",))
    assert caught.value.reason == "proxy"
    again.logins.close()
