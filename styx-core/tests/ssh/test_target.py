"""The user's own SSH config, as a reach is resolved with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from styx.driver import Ssh
from styx.errors import InvalidInput
from styx.transport.ssh.target import UserConfig, route_to


@pytest.fixture
def config(tmp_path: Path):
    (tmp_path / ".ssh").mkdir()

    def make(text: str, **environ: str) -> UserConfig:
        (tmp_path / ".ssh/config").write_text(text)
        return UserConfig(tmp_path, environ, user="me")

    return make


def test_an_alias_brings_address_port_user_and_keys(config, tmp_path):
    found = route_to(
        Ssh(host="box", user=""), config("Host box\n HostName 10.0.0.9\n Port 2200\n User root\n IdentityFile ~/k\n")
    )
    (hop,) = found
    assert (hop.name, hop.host, hop.port, hop.user) == ("box", "10.0.0.9", 2200, "root")
    assert hop.keys == (str(tmp_path / "k"),)
    assert str(hop) == "root@10.0.0.9:2200"


def test_what_the_cloud_says_goes_before_the_config(config):
    text = "Host *\n User nobody\n Port 2200\n ServerAliveInterval 60\n"
    (hop,) = route_to(
        Ssh(host="10.0.0.1", port=2222, user="ubuntu", options={"serveraliveinterval": "7"}), config(text)
    )
    assert (hop.port, hop.user, hop.alive_s) == (2222, "ubuntu", 7)


def test_without_a_config_the_defaults_hold(tmp_path):
    (hop,) = route_to(Ssh(host="h", user=""), UserConfig(tmp_path, {"SSH_AUTH_SOCK": "/a"}, user="me"))
    assert (hop.user, hop.port, hop.agent) == ("me", 22, "/a")
    assert [Path(each).name for each in hop.keys] == ["id_ed25519", "id_ecdsa", "id_rsa"]


def test_jump_hosts_are_resolved_too_and_only_the_first_by_its_own_jump(config):
    text = """
Host far
  ProxyJump admin@inner:2022,edge2
Host inner
  HostName 10.0.0.2
  ProxyJump outer
Host edge2
  HostName 10.0.0.3
  ProxyJump ignored
  User e2
"""
    hops = route_to(Ssh(host="far", user="me"), config(text))
    assert [str(hop) for hop in hops] == ["me@outer", "admin@10.0.0.2:2022", "e2@10.0.0.3", "me@far"]


def test_jump_hosts_in_a_circle_are_told(config):
    with pytest.raises(InvalidInput, match="circle"):
        route_to(Ssh(host="a", user="me"), config("Host a\n ProxyJump b\nHost b\n ProxyJump a\n"))


def test_a_given_jump_replaces_the_users_proxy_command(config):
    text = "Host 10.*\n ProxyCommand nc %h %p\n"
    assert route_to(Ssh(host="10.0.0.1", user="u", port=99), config(text))[0].command == "nc 10.0.0.1 99"
    hops = route_to(Ssh(host="10.0.0.1", user="u", jump="[2001:db8::1]:22"), config(text))
    assert [hop.host for hop in hops] == ["2001:db8::1", "10.0.0.1"]
    assert hops[1].command is None
    none = route_to(Ssh(host="10.0.0.1", user="u", options={"ProxyCommand": "none"}), config(text))
    assert none[0].command is None


def test_the_key_that_is_named_for_a_host_is_tried_at_its_jump_hosts_too(config):
    text = "Host gate\n IdentityFile /own\nHost last\n IdentitiesOnly yes\n"
    far = Ssh(host="10.0.0.1", user="u", jump="gate,last", options={"IdentityFile": "/pool"})
    gate, last, host = route_to(far, config(text))
    assert (gate.first_keys, gate.keys, last.keys[0]) == ((), ("/own", "/pool"), "/pool")
    assert host.first_keys == ("/pool",)
    assert "/pool" not in host.keys


def test_included_files_count_and_the_block_goes_on_after_them(config, tmp_path):
    (tmp_path / ".ssh/conf.d").mkdir()
    (tmp_path / ".ssh/conf.d/one").write_text("Host one\n User first\n")
    (tmp_path / ".ssh/conf.d/two").write_text("Host two\n User second\n")
    made = config("Host box\n Include conf.d/* ~/.ssh/none\n Port 7\nHost *\n User rest\n")
    assert route_to(Ssh(host="one", user=""), made)[0].user == "first"
    assert route_to(Ssh(host="two", user=""), made)[0].user == "second"
    assert [(hop.port, hop.user) for hop in route_to(Ssh(host="box", user=""), made)] == [(7, "rest")]
    (tmp_path / ".ssh/conf.d/one").write_text("Include conf.d/one\n")
    with pytest.raises(InvalidInput, match="included by itself"):
        route_to(Ssh(host="one", user=""), config("Include conf.d/*\n"))


def test_a_broken_config_is_named(config, tmp_path):
    with pytest.raises(InvalidInput, match=str(tmp_path / ".ssh/config")):
        route_to(Ssh(host="x", user=""), config("Host x\n !!\n"))


def test_the_agent_can_be_chosen_or_refused(config):
    made = config(
        "Host a\n IdentityAgent none\nHost b\n IdentityAgent ~/agent\n IdentitiesOnly yes\n", SSH_AUTH_SOCK="/s"
    )
    assert route_to(Ssh(host="a", user=""), made)[0].agent is None
    (hop,) = route_to(Ssh(host="b", user=""), made)
    assert hop.agent == str(made.home / "agent")
    assert (hop.only_keys, hop.keys) == (True, ())
    assert route_to(Ssh(host="c", user=""), made)[0].agent == "/s"
