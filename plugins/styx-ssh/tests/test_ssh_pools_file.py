"""The file with the pools: what it may say, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from styx.plugin import CredentialsError
from styx_ssh.pools import read_pools

GOOD = """
lab:
  user: ubuntu
  identity_file: key
  port: 2222
  proxy_jump: admin@gate
  labels: {rack: a}
  network: 10.0.0.0/24
  hosts:
    - 10.0.0.11
    - ip: gpu-box
      name: gpu
      user: root
      port: 22
      labels: {gpu: "yes"}
      usd_per_hour: 1.5
      accelerators: MI300X:8
desk:
  hosts: [workstation]
"""


def faults(folder: Path, text: str) -> list[str]:
    path = folder / "pools.yaml"
    path.write_text(text)
    with pytest.raises(CredentialsError) as caught:
        read_pools(path, folder)
    assert caught.value.hint
    return [line.removeprefix(f"{path}") for line in caught.value.message.splitlines()]


def test_pools_give_the_defaults_of_their_hosts(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    (tmp_path / "pools.yaml").write_text(GOOD)
    pools = read_pools(tmp_path / "pools.yaml", tmp_path)
    first, second = pools["lab"]
    assert first.id == "lab/10.0.0.11"
    assert first.reach.model_dump(exclude_defaults=True) == {
        "host": "10.0.0.11",
        "port": 2222,
        "user": "ubuntu",
        "jump": "admin@gate",
        "options": {"IdentityFile": str(tmp_path / "key")},
    }
    assert (second.id, second.address, second.user, second.port) == ("lab/gpu", "gpu-box", "root", 22)
    assert second.labels == {"rack": "a", "gpu": "yes"}
    assert (second.usd_per_hour, second.accelerators) == (1.5, ("MI300X", 8))
    assert pools["desk"][0].reach.user == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ": must map names of pools to their hosts (got 'NoneType')"),
        ("lab: [a]", ":1: lab: must have `hosts`, a list of addresses (got \"['a']\")"),
        ("lab:\n  user: me", ":1: lab.hosts: must be a list of addresses, names or `{ip: ...}`"),
        ("lab:\n  usr: me\n  hosts: [a]", ":2: lab.usr: is not a setting here; did you mean user?"),
        ("lab:\n  hosts:\n    - {ip: a, password: hunter2}", ":3: lab.hosts[0].password: passwords are never kept"),
        (
            "lab:\n  hosts:\n    - {ip: a, port: 99999}",
            ":3: lab.hosts[0].port: must be a port, 1 to 65535 (got '99999')",
        ),
        ("lab:\n  identity_file: nowhere\n  hosts: [a]", ":2: lab.identity_file: must be the path of a private key"),
        ("lab:\n  hosts: [a, b, a]", ":2: lab.hosts[2]: is in the pool already"),
        ("lab:\n  hosts: ['-oProxyCommand=x']", "lab.hosts[0].ip: must be an address"),
        ("lab:\n  hosts: [a]\n  usd_per_hour: cheap", ":3: lab.usd_per_hour: must be dollars for an hour"),
        ("../x:\n  hosts: [a]", ":1: ../x: a pool's name has up to 63"),
        ("lab: [", ":1: is not YAML"),
        ("lab:\n  hosts: [a]\nlab:\n  hosts: [b]", ":3: lab: stands there twice"),
        ("lab:\n  hosts: [me@a]", ":2: lab.hosts[0].ip: must be an address alone; write `{ip: ADDRESS, user: NAME"),
        ("lab:\n  hosts: ['[fd00::1]:22']", ":2: lab.hosts[0].ip: must be an address alone"),
        ("lab:\n  hosts: ['10.0.0.1:22']", ":2: lab.hosts[0].ip: must be an address alone"),
    ],
)
def test_mistakes_are_told_with_file_line_field_and_value(tmp_path: Path, text: str, expected: str) -> None:
    said = faults(tmp_path, text)
    assert len(said) == 1
    assert expected in said[0]
    assert "hunter2" not in said[0]


def test_addresses_of_every_kind_are_names_too(tmp_path: Path) -> None:
    addresses = ["fd00::", "[fd00::1]", "fe80::1%eth0", "a_b"]
    (tmp_path / "pools.yaml").write_text(f"lab:\n  hosts: {addresses}\n")
    found = read_pools(tmp_path / "pools.yaml", tmp_path)["lab"]
    assert [host.address for host in found] == [host.name for host in found] == [each.strip("[]") for each in addresses]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    said = faults(tmp_path, "lab:\n  prot: 22\n  hosts: [a, 7]\nb: 3\n")
    assert len(said) == 3


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="there is no file") as caught:
        read_pools(tmp_path / "none.yaml", tmp_path)
    assert "hosts" in (caught.value.hint or "")
    theirs = tmp_path / ".sky" / "ssh_node_pools.yaml"
    theirs.parent.mkdir()
    theirs.write_text("x")
    with pytest.raises(CredentialsError) as caught:
        read_pools(tmp_path / "none.yaml", tmp_path)
    assert f"cp {theirs}" in (caught.value.hint or "")
