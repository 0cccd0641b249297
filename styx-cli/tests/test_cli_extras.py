"""Commands of other packages, installed as metadata in a folder on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """
import typer
app = typer.Typer(add_completion=False)

@app.command()
def hello(name: str = "you") -> None:
    "Greet."
    typer.echo(f"hello {name}")
"""
CLICK = """
import click

@click.command()
@click.option("--times", default=1)
@click.argument("word")
def command(times, word):
    click.echo(word * times)
    raise SystemExit(5)
"""
HOOK = """
import typer
from styx.plugin import hookimpl

app = typer.Typer(add_completion=False)

@app.command()
def late() -> None:
    typer.echo("late but there")

@hookimpl
def styx_add_commands(group):
    group.add_command(app, "late")
"""


def package(folder: Path, name: str, code: str, group: str, *entries: str) -> None:
    (folder / f"{name}_mod.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(entries) + "\n")


def styx(folder: Path, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    env = os.environ | {
        "PYTHONPATH": str(folder),
        "STYX_HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "c"),
    }
    program = [
        sys.executable,
        "-c",
        f"import sys; from styx_cli.main import run; c = run(sys.argv[1:]); {code or 'pass'}; sys.exit(c)",
    ]
    return subprocess.run([*program, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_command_is_listed_without_being_imported_and_runs_when_called(tmp_path: Path) -> None:
    package(tmp_path, "greeter", GOOD, "styx.commands", "greet = greeter_mod:app")
    listing = styx(tmp_path, "--help", code="assert 'greeter_mod' not in sys.modules")
    assert listing.returncode == 0, listing.stderr
    assert "greet" in listing.stdout
    assert "From greeter 1.0." in listing.stdout
    ran = styx(tmp_path, "greet", "--name", "ada")
    assert (ran.returncode, ran.stdout) == (0, "hello ada\n")
    assert styx(tmp_path, "version", code="assert 'greeter_mod' not in sys.modules").returncode == 0


def test_a_click_command_works_with_its_own_flags_and_exit_code(tmp_path: Path) -> None:
    pytest.importorskip("click")
    package(tmp_path, "clicker", CLICK, "styx.commands", "shout = clicker_mod:command")
    ran = styx(tmp_path, "shout", "--times", "2", "hey")
    assert (ran.returncode, ran.stdout) == (5, "heyhey\n")
    assert "--times" in styx(tmp_path, "shout", "--help").stdout


def test_a_broken_command_hurts_nobody_else(tmp_path: Path) -> None:
    package(tmp_path, "broken", "raise RuntimeError('no')", "styx.commands", "crash = broken_mod:app")
    package(tmp_path, "notacmd", "app = 3", "styx.commands", "three = notacmd_mod:app")
    assert styx(tmp_path, "--help").returncode == 0
    assert styx(tmp_path, "version").returncode == 0
    ran = styx(tmp_path, "crash")
    assert ran.returncode == 78
    assert "broken 1.0" in ran.stderr
    assert "RuntimeError: no" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert styx(tmp_path, "three").returncode == 78


def test_built_in_verbs_cannot_be_replaced_and_rivals_are_refused(tmp_path: Path) -> None:
    package(tmp_path, "evil", GOOD, "styx.commands", "status = evil_mod:app", "twice = evil_mod:app")
    package(tmp_path, "rival", GOOD, "styx.commands", "twice = rival_mod:app")
    ran = styx(tmp_path, "status", code="assert 'evil_mod' not in sys.modules")
    assert (ran.returncode, ran.stdout) == (0, "")
    listing = styx(tmp_path, "--help").stdout
    assert "status of evil 1.0" in listing
    refused = styx(tmp_path, "twice")
    assert refused.returncode == 78
    assert "evil 1.0" in refused.stderr
    assert "rival 1.0" in refused.stderr


def test_the_hook_is_asked_for_unknown_verbs_only(tmp_path: Path) -> None:
    package(tmp_path, "hooked", HOOK, "styx", "hooked = hooked_mod")
    assert styx(tmp_path, "version", code="assert 'hooked_mod' not in sys.modules").returncode == 0
    ran = styx(tmp_path, "late")
    assert (ran.returncode, ran.stdout) == (0, "late but there\n"), ran.stderr
    unknown = styx(tmp_path, "latte")
    assert unknown.returncode == 2
    assert "styx late" in unknown.stderr
