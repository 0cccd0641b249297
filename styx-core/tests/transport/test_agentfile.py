"""The zipapp: same sources, same file; runs anywhere; costs nothing the second time."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from styx.errors import LocalIOError, PluginError
from styx.transport.agentfile import AgentFile, agent_file, zip_sources


def test_same_sources_same_bytes(tmp_path: Path) -> None:
    first, second = agent_file(tmp_path / "a"), agent_file(tmp_path / "b")
    assert first.name == second.name
    assert first.read() == second.read()
    names = zipfile.ZipFile(first.path).namelist()
    assert names == sorted(names)
    assert {"__main__.py", "styx_agent/main.py", "styx_agent/protocol.py"} <= set(names)


def test_order_and_time_do_not_matter() -> None:
    contents = [("b.py", b"2"), ("a.py", b"1")]
    assert zip_sources(contents) == zip_sources(contents[::-1])


def test_it_runs_without_its_package(tmp_path: Path) -> None:
    built = agent_file(tmp_path)
    command = [sys.executable, "-I", "-S", str(built.path), "version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={}, cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


_WHERE = """
import sys, traceback
sys.path.insert(0, sys.argv[1])
from styx_agent import client, files, main
print(*(type(module.__spec__.loader).__name__ for module in (client, files, main)))
print(main.__file__, main.__doc__)
try:
    files.write_json("/nowhere/x", 1)
except OSError:
    traceback.print_exc()
"""


def _where_it_comes_from(archive: Path) -> tuple[list[str], str, str]:
    """The loaders of three modules, the place and docstring of one, and the traceback of an error in another."""
    command = [sys.executable, "-I", "-S", "-c", _WHERE, str(archive)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={}, cwd="/")
    loaders, place, *_ = done.stdout.splitlines()
    return loaders.split(), place, done.stderr


def test_compiled_modules_come_in_one_piece(tmp_path: Path) -> None:
    built = agent_file(tmp_path / "cache")
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(built.read_for(MAGIC_NUMBER.hex()))
    loaders, place, trace = _where_it_comes_from(archive)
    assert loaders == ["Modules"] * 3
    assert place == f"{archive}/styx_agent/main.py None"
    assert "fd = os.open(temporary" in trace  # the line is shown, from the source beside it
    command = [sys.executable, "-I", "-S", str(archive), "version"]
    assert subprocess.run(command, capture_output=True, timeout=60, check=True, cwd="/").stdout.strip()


def test_another_python_takes_the_sources(tmp_path: Path) -> None:
    built = agent_file(tmp_path / "cache")
    assert built.read_for("00000000") == built.read()
    archive = tmp_path / "agent.pyz"
    data = built.read_for(MAGIC_NUMBER.hex())
    assert data.count(MAGIC_NUMBER + b"\1\0\0\0") == 2
    archive.write_bytes(data.replace(MAGIC_NUMBER + b"\1\0\0\0", b"\0\0\r\n\1\0\0\0"))
    loaders, _, trace = _where_it_comes_from(archive)
    assert loaders == ["zipimporter"] * 3
    assert "fd = os.open(temporary" in trace


def test_what_is_loaded_later_does_not_need_the_file(tmp_path: Path) -> None:
    built = agent_file(tmp_path / "cache")
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(built.read_for(MAGIC_NUMBER.hex()))
    code = "import os, sys; sys.path.insert(0, sys.argv[1]); import styx_agent; os.unlink(sys.argv[1]); "
    command = [sys.executable, "-I", "-S", "-c", f"{code} from styx_agent import agent", str(archive)]
    subprocess.run(command, timeout=60, check=True, cwd="/")


def test_a_second_call_builds_nothing(tmp_path: Path) -> None:
    first = agent_file(tmp_path)
    os.utime(first.path, (1, 1))
    assert agent_file(tmp_path) == first
    assert first.path.stat().st_mtime == 1


@pytest.mark.parametrize("damage", ["pointer", "file"])
def test_a_damaged_cache_is_built_again(tmp_path: Path, damage: str) -> None:
    first = agent_file(tmp_path)
    if damage == "file":
        first.path.unlink()
    else:
        next(tmp_path.glob("built-*")).write_bytes(b"\xff\xfe nonsense")
    again = agent_file(tmp_path)
    assert again == first
    assert again.read().startswith(b"#!/usr/bin/env python3\n")


def test_a_changed_source_is_another_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = agent_file(tmp_path / "cache")
    spec = importlib.util.find_spec("styx_agent")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    copy = tmp_path / "styx_agent"
    shutil.copytree(spec.submodule_search_locations[0], copy, ignore=shutil.ignore_patterns("__pycache__"))
    spec.submodule_search_locations[:] = [str(copy)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert agent_file(tmp_path / "cache").name == before.name  # another place, the same sources
    with (copy / "main.py").open("a") as stream:
        stream.write("# changed\n")
    assert agent_file(tmp_path / "cache").name != before.name


def test_an_absent_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PluginError, match="styx-agent is not installed"):
        agent_file(tmp_path)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalIOError, match="cannot keep the agent file in"):
        agent_file(tmp_path / "file" / "cache")
    with pytest.raises(LocalIOError, match="cannot read the agent file"):
        AgentFile("agent-0.pyz", tmp_path / "absent").read()
