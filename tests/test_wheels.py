"""Wheels of all packages build, and in an empty environment they alone give a working `styx`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Styx

ROOT = Path(__file__).resolve().parents[1]
PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("styx-*/pyproject.toml"))]
PROJECTS += sorted(path.parent for path in ROOT.glob("plugins/styx-*/pyproject.toml"))

pytestmark = [pytest.mark.wheels, pytest.mark.skipif(shutil.which("uv") is None, reason="needs uv on PATH")]


def uv(*arguments: str, cwd: Path) -> None:
    """Run uv outside of any project environment."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    argv = ["uv", *arguments, "--quiet"]
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A wheel of every package in the workspace."""
    folder = tmp_path_factory.mktemp("wheels")
    uv("build", "--all-packages", "--wheel", "--out-dir", str(folder), cwd=ROOT)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheels: our names from the files, dependencies from the index, pinned."""
    folder = tmp_path_factory.mktemp("empty")
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["constraint-dependencies"]
    (folder / "pins.txt").write_text("\n".join(pins))
    uv("venv", "--python", "3.11", "env", cwd=folder)
    install = ("pip", "install", "--python", "env/bin/python", "--constraint", "pins.txt")
    uv(*install, *map(str, wheels), cwd=folder)
    return folder / "env" / "bin"


def test_every_package_has_a_wheel(wheels: list[Path]) -> None:
    names = {tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] for project in PROJECTS}
    assert {path.name.split("-")[0].replace("_", "-") for path in wheels} == names


def test_wheels_carry_licence_types_and_nothing_else_of_the_tree(wheels: list[Path]) -> None:
    for wheel in wheels:
        files = zipfile.ZipFile(wheel).namelist()
        packages = {name.split("/")[0] for name in files if ".dist-info/" not in name}
        if wheel.name.startswith("styx-"):
            assert packages == set(), "the meta package holds no code"
            assert any(name.endswith("/LICENSE") for name in files)
        else:
            (package,) = packages
            assert f"{package}/py.typed" in files
            assert not [name for name in files if "/tests/" in name]


def test_wheels_alone_launch_hello(installed: Path, styx: Styx, tmp_path: Path) -> None:
    styx.program = (str(installed / "styx"),)
    styx.cwd = tmp_path
    shutil.copy(ROOT / "examples" / "hello.yaml", tmp_path)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert version in styx("--version").stdout
    assert "local" in {plugin["name"] for plugin in styx.json("plugins", "list")}
    launched = styx("launch", "-c", "fresh", "hello.yaml")
    assert "on rank 0 of 1" in launched.stdout
    styx("down", "--yes", "fresh")
    styx.assert_nothing_left()
