"""What each command imports before it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from styx_cli import __version__
from styx_cli.toplevel import help_text
from styx_cli.verbs import VERBS

pytestmark = pytest.mark.unmeasured

PROBE = """
import json, sys
from styx_cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""
HEAVY = {
    "rich",
    "polars",
    "highspy",
    "sqlalchemy",
    "paramiko",
    "ray",
    "textual",
    "httpx",
    "stevedore",
    "pydantic",
    "styx_local",
}


def probe(tmp_path: Path, *arguments: str) -> tuple[int, set[str], str]:
    env = os.environ | {"STYX_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, {name.split(".")[0] for name in modules} | set(modules), done.stdout


@pytest.mark.parametrize("flag", ["--help", "-h", "--version", "-v"])
def test_help_and_version_import_neither_typer_nor_anything_heavy(tmp_path: Path, flag: str) -> None:
    code, modules, out = probe(tmp_path, flag)
    assert code == 0
    assert out in (f"styx {__version__}\n", help_text())
    assert not modules & (HEAVY | {"typer", "click", "yaml", "importlib.metadata", "dataclasses"})


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_of_a_verb_imports_only_its_own_module(tmp_path: Path, verb: str) -> None:
    code, modules, out = probe(tmp_path, verb, "--help")
    assert code == 0
    assert out.startswith(f"Usage: styx {verb}")
    assert not modules & (HEAVY - {"pydantic"})
    commands = {name for name in modules if name.startswith("styx_cli.commands.")}
    assert commands == {f"styx_cli.commands.{verb.replace('-', '_')}"}


def test_a_plain_table_needs_no_rich(tmp_path: Path) -> None:
    _, modules, out = probe(tmp_path, "version")
    assert out.startswith("styx ")
    assert not modules & {"rich", "styx_local", "polars", "httpx"}


def test_version_is_the_packages_version() -> None:
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'version = "{__version__}"' in text
