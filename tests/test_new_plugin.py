"""`nox -s new_plugin -- NAME`: what it makes can be installed and conforms, and a bad name is refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tools import new_plugin

ROOT = Path(__file__).resolve().parents[1]


def run(*argv: str, cwd: Path, path: list[Path] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in `cwd`, with `path` as its import path beside what is installed, and nothing of this session's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV_", "STYX"))}
    env |= {"PYTHONPATH": os.pathsep.join(map(str, path or [])), "STYX_HOME": str(cwd / "home")}
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=env, capture_output=True, text=True, timeout=240, check=False
    )


def install(plugin: Path, site: Path) -> None:
    """Put a package on `site` as an installer would: its modules, and metadata with its entry points."""
    project = tomllib.loads((plugin / "pyproject.toml").read_text())["project"]
    module = next(path.parent for path in (plugin / "src").glob("*/py.typed"))
    site.mkdir()
    (site / module.name).symlink_to(module)
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = project["entry-points"]["styx.drivers"]
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[styx.drivers]\n{lines}")


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    folder = tmp_path / "plugins"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["acme", "acme-gpu-2"])
def test_new_plugin_conforms(name: str, tmp_path: Path, plugins: Path) -> None:
    made = run("-m", "tools.new_plugin", name, "--into", str(plugins), cwd=ROOT, path=[ROOT])
    assert made.returncode == 0, made.stderr
    folder = plugins / f"styx-{name}"
    assert Path(made.stdout.strip()) == folder
    assert [path.name for path in plugins.iterdir()] == [folder.name]
    left = [path for path in folder.rglob("*") if "__" in path.name.replace("__init__", "").replace("__pycache__", "")]
    assert not left, "placeholders are left in file names"
    site = tmp_path / "site"
    install(folder, site)
    tested = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder), cwd=tmp_path, path=[site])
    assert tested.returncode == 0, tested.stdout[-3000:]
    assert " passed" in tested.stdout
    assert "skipped" not in tested.stdout


def test_new_plugin_changes_no_other_file(plugins: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in plugins.parent.rglob("*")}
    folder = new_plugin.make("acme", plugins=plugins)
    changed = {path for path in plugins.parent.rglob("*") if folder not in [path, *path.parents] and path != plugins}
    assert changed == set(before) - {plugins}


def test_new_plugin_is_clean(plugins: Path) -> None:
    """It passes the checks of the workspace that it joins, however long its name."""
    folder = new_plugin.make("z" * new_plugin.LONGEST, plugins=plugins)
    ours = f"src = ['{ROOT}/styx-core/src', '{folder}/src']"
    for command in (
        ["ruff", "check", "--no-cache", "--config", str(ROOT / "pyproject.toml"), "--config", ours, str(folder)],
        [
            "mypy",
            "--config-file",
            str(ROOT / "pyproject.toml"),
            "--cache-dir",
            str(ROOT / ".mypy_cache"),
            str(folder / "src"),
        ],
    ):
        checked = run("-m", *command, cwd=plugins)
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Acme", "try 'acme'"),
        ("my_cloud", "try 'my-cloud'"),
        ("2fast", "beginning with a letter"),
        ("-acme", "try 'acme'"),
        ("acme--gpu", "try 'acme-gpu'"),
        ("../acme", "try 'acme'"),
        ("", "can't be a cloud's name"),
        ("a" * 40, "at most 32"),
        ("core", "is taken"),
        ("there", "exists"),
    ],
)
def test_bad_names_are_refused(
    name: str, said: str, plugins: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (plugins / "styx-there").mkdir()
    assert new_plugin.main([f"--into={plugins}", "--", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert repr(name) in err
    assert [path.name for path in plugins.iterdir()] == ["styx-there"]


@pytest.mark.parametrize(("name", "expected"), [("acme", "Acme"), ("acme-gpu", "AcmeGpu"), ("node", "NodeCloud")])
def test_class_names_do_not_clash(name: str, expected: str) -> None:
    assert new_plugin.words(name, new_plugin.TEMPLATE)["__CLASS__"] == expected
