"""A node behind a command: here a shell that knows nothing of this client but what the prefix gives it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.driver import Exec
from styx.errors import LocalIOError, Unreachable
from styx.transport.agent import ensure_agent
from styx.transport.agentfile import AgentFile
from styx.transport.exec import ExecTransport
from styx.transport.factory import make_transport
from styx.transport.local import base_python
from styx.transport.sync import sync
from styx.transport.tree import SyncItem

KEY = f"styx-x{os.getpid():x}-st0re101"

WITHOUT_PYTHON = """exec sh -c "$(printf %s "$3" | sed 's/python3/absent/g; s/ python;/ absent;/')" sh '~'"""


@pytest.fixture
def prefix(tmp_path: Path) -> tuple[str, ...]:
    """Something like `docker exec -i NAME`: its own home, its own environment, another working folder."""
    home = tmp_path / "the home"
    home.mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(base_python())
    program = tmp_path / "enter"
    program.write_text(
        f'#!/bin/sh\ncd / && exec env -i PATH={tmp_path}/bin:/usr/bin:/bin HOME="{home}" '
        f'STYX_SOCKET_DIR=/tmp/sxt-{os.getpid()}-x "$@"\n'
    )
    program.chmod(0o755)
    return (str(program),)


@pytest.fixture
def transport(prefix: tuple[str, ...]) -> Iterator[ExecTransport]:
    made = make_transport(Exec(argv=prefix), instance=f"{KEY}/0")
    assert isinstance(made, ExecTransport)
    yield made
    for file in Path(made.agent_state).glob("agent-*.pyz"):
        made.run((made.python, str(file), "stop", "--state", made.agent_state), timeout_s=60)


def test_it_finds_its_way(transport: ExecTransport, tmp_path: Path) -> None:
    assert transport.home == f"{tmp_path}/the home"
    assert transport.python == f"{tmp_path}/bin/python3"
    assert transport.agent_state == f"{transport.home}/.styx-agent/{KEY}/0"


def test_commands_run_in_the_home_without_this_environment(
    transport: ExecTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "sings")
    done = transport.run(("sh", "-c", 'pwd; echo "$CANARY"; cat; exit 4'), stdin=b"input")
    assert (done.exit_code, done.stdout) == (4, f"{transport.home}\n\ninput".encode())
    assert transport.interactive(("sh", "-c", "exit 9")) == 9


def test_variables_travel_in_a_file_that_is_gone_afterwards(transport: ExecTransport) -> None:
    value = 'it\'s a "secret" $HOME\nof two lines'
    channel = transport.open(
        ("sh", "-c", 'printf %s "$TOKEN"; tr "\\0" " " < /proc/$PPID/cmdline'), env={"TOKEN": value}
    )
    output = b""
    while data := channel.stdout.read(65536):
        output += data
    channel.close()
    assert output.startswith(value.encode())
    assert output.count(b"secret") == 1
    assert os.listdir(transport.agent_state) == []


def test_put(transport: ExecTransport) -> None:
    path = Path(transport.home) / "new folder" / "it's"
    transport.put(b"\0\1\2" * 1000, str(path), mode=0o640)
    assert path.read_bytes() == b"\0\1\2" * 1000
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(LocalIOError, match=r"cannot write .*below on the node: .*"):
        transport.put(b"", str(path / "below"))


def test_an_agent_and_a_sync_behind_the_command(transport: ExecTransport, agent: AgentFile, tmp_path: Path) -> None:
    connection = ensure_agent(transport, KEY, 0, agent)
    assert connection.call("ping")["time"] > 0
    (tmp_path / "data").write_text("1,2")
    assert sync(transport, connection.agent_path, [SyncItem(tmp_path / "data", "in/")], print).written == 1
    assert (Path(transport.home) / "in" / "data").read_text() == "1,2"
    connection.close()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no such container >&2; exit 125", r"failed \(125\): no such container"),
        ("exit 1", r"failed \(1\): it said nothing"),
        (WITHOUT_PYTHON, "no Python 3.8 or newer was found behind"),
    ],
)
def test_a_node_that_cannot_be_used_says_why(tmp_path: Path, script: str, words: str) -> None:
    program = tmp_path / "enter"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    with pytest.raises(Unreachable, match=words):
        ExecTransport(Exec(argv=(str(program),)), "k/0")


def test_a_home_of_its_own_choice(prefix: tuple[str, ...], tmp_path: Path) -> None:
    def chosen(home: str) -> str:
        return ExecTransport(Exec(argv=prefix, home=home), "k/0").home

    assert chosen("~/deep") == f"{tmp_path}/the home/deep"
    assert chosen(str(tmp_path)) == str(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make what another user has made")
def test_a_folder_that_somebody_else_has_made_for_our_agents_is_refused(tmp_path: Path) -> None:
    """Agents are kept in /var/tmp where the home lies on a network; anybody may write there."""
    uid = 4_200_000_000 + os.getpid()
    for name, says in (("id", str(uid)), ("stat", "nfs")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / name).chmod(0o755)
    folder = Path(f"/var/tmp/styx-agent-{uid}")
    reach = Exec(argv=("env", f"PATH={tmp_path}:{os.defpath}", f"HOME={tmp_path}"))
    try:
        assert ExecTransport(reach, "k/0").agent_state == f"{folder}/k/0"
        os.chown(folder, 1, 1)
        with pytest.raises(Unreachable, match="belongs to somebody else"):
            ExecTransport(reach, "k/0")
    finally:
        folder.rmdir()
