"""The zipapp: same sources, same file; runs anywhere; costs nothing the second time."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
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
