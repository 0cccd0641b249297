"""Which keys open a host: the installation's, key files, the user's agent; and what is said when none does."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from styx.driver import SshFailed

pytestmark = pytest.mark.debian("openssh-server", "sshd")


def make_key(path: Path, passphrase: str = "", kind: str = "ed25519") -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)], check=True)
    return Path(f"{path}.pub").read_text().strip()


@pytest.fixture
def agent(tmp_path: Path):
    """A key agent; gives its socket and a function that hands it a key."""
    place = tmp_path / "agent.sock"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not place.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    environ = {"SSH_AUTH_SOCK": str(place)}

    def add(path: Path) -> None:
        subprocess.run(["ssh-add", "-q", str(path)], env=environ, check=True, stdin=subprocess.DEVNULL)

    yield environ, add
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_file_that_the_pool_names_is_tried_first(make_sshd, client, tmp_path, kind):
    sshd = make_sshd("LogLevel VERBOSE", authorized=make_key(tmp_path / "k", kind=kind))
    reach = sshd.reach(host_key=sshd.host_key, options={"IdentityFile": str(tmp_path / "k")})
    assert client.logins.run(reach, ("echo", "in")).stdout == b"in\n"
    assert "Failed publickey" not in sshd.log()


def test_the_keys_of_the_users_config_and_home_are_tried_after_our_own(make_sshd, client, tmp_path):
    sshd = make_sshd(authorized=make_key(client.user_home / ".ssh" / "id_ed25519"))
    assert client.logins.run(sshd.reach(), ("echo", "in")).stdout == b"in\n"
    (client.user_home / ".ssh/config").write_text("Host *\n  IdentityFile ~/.ssh/other\n")
    with pytest.raises(SshFailed, match="accepts none of the 1 keys"):
        client.again().logins.run(sshd.reach(), ("true",))
    (client.user_home / ".ssh/id_ed25519").rename(client.user_home / ".ssh/other")
    later = client.again()
    assert later.logins.run(sshd.reach(), ("echo", "in")).stdout == b"in\n"
    later.logins.close()


def test_the_agent_opens_a_host_and_the_next_login_begins_with_its_key(make_sshd, client, tmp_path, agent):
    environ, add = agent
    sshd = make_sshd("MaxSessions 1", "LogLevel VERBOSE", authorized=make_key(tmp_path / "mine"))
    add(tmp_path / "mine")
    (tmp_path / "mine").unlink()
    mine = client.again(**environ)
    node = mine.transport(sshd.reach(host_key=sshd.host_key))
    channels = [node.open(("cat",)) for _ in range(2)]
    assert sshd.log().count("Accepted publickey") == 2
    assert sshd.log().count("Failed publickey") == 1  # our own key, once
    for channel in channels:
        channel.close()
    mine.logins.close()


def test_more_keys_than_a_host_takes_on_one_connection(make_sshd, client, tmp_path, agent):
    environ, add = agent
    for number in range(9):
        make_key(tmp_path / f"wrong{number}")
        add(tmp_path / f"wrong{number}")
    sshd = make_sshd("MaxAuthTries 3", authorized=make_key(tmp_path / "right"))
    add(tmp_path / "right")
    mine = client.again(**environ)
    assert mine.logins.run(sshd.reach(host_key=sshd.host_key), ("echo", "in"), timeout_s=60).stdout == b"in\n"
    mine.logins.close()


def test_a_locked_key_file_is_named_unless_the_agent_holds_it(make_sshd, client, tmp_path, agent):
    environ, add = agent
    public = make_key(tmp_path / "locked", passphrase="secret words")
    sshd = make_sshd(authorized=public)
    options = {"IdentityFile": str(tmp_path / "locked"), "IdentitiesOnly": "yes"}
    reach = sshd.reach(host_key=sshd.host_key, options=options)
    mine = client.again(**environ)
    with pytest.raises(SshFailed, match=r"locked is locked by a passphrase: `ssh-add` it") as caught:
        mine.logins.run(reach, ("true",))
    assert caught.value.reason == "auth"
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "secret words", "-N", "", "-f", str(tmp_path / "locked")], check=True
    )
    add(tmp_path / "locked")
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret words", "-f", str(tmp_path / "locked")], check=True
    )
    assert mine.logins.run(reach, ("echo", "in")).stdout == b"in\n"
    mine.logins.close()


def test_a_key_file_that_does_not_exist_is_named(sshd, client, tmp_path):
    (sshd.folder / "authorized").write_text("")
    with pytest.raises(SshFailed, match=f"the key file {tmp_path}/none does not exist"):
        client.logins.run(sshd.reach(options={"IdentityFile": f"{tmp_path}/none"}), ("true",))
