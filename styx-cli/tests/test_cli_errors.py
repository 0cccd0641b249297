"""The error wall: one message, one exit code, never a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from styx.errors import Fault, InvalidInput, StyxError


def every_error() -> list[type[StyxError]]:
    found, left = [], [StyxError]
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if kind is not StyxError and kind is not InvalidInput and kind.__module__ == "styx.errors":
            found.append(kind)
    return found


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_keeps_its_exit_code(client: Any, cli: Any, kind: type[StyxError]) -> None:
    client.fails = kind("it broke")
    ran = cli("launch", "x")
    assert ran.code == kind.exit_code
    assert "error: it broke\n" in ran.err


def test_every_fault_is_told(client: Any, cli: Any) -> None:
    client.fails = InvalidInput([Fault("is wrong", file="a.yaml", line=3), Fault("is missing", field="run")])
    ran = cli("launch", "x")
    assert ran.code == 65
    assert "a.yaml:3: is wrong" in ran.err
    assert "run: is missing" in ran.err
    assert len(json.loads(cli("launch", "--json", "x").out)["error"]["faults"]) == 2


def test_a_bug_leaves_its_traceback_in_a_file_and_no_secret(client: Any, cli: Any, tmp_path: Path) -> None:
    client.fails = ZeroDivisionError("one by zero")
    ran = cli("launch", "--secret", "KEY=hush", "x")
    assert ran.code == 70
    assert "Traceback" not in ran.err
    (crash,) = (tmp_path / "home" / "logs").glob("crash-*.log")
    assert str(crash) in ran.err
    text = crash.read_text()
    assert "ZeroDivisionError: one by zero" in text
    assert "hush" not in text
    assert crash.stat().st_mode & 0o077 == 0


def test_a_bug_with_nowhere_to_write_is_still_told(client: Any, cli: Any, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    client.fails = ZeroDivisionError("one by zero")
    ran = cli("launch", "x")
    assert ran.code == 70
    assert "could not be written" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(28, "No space left on device", "/x"), 74),
        (PermissionError(13, "Permission denied", "/x"), 77),
        (KeyboardInterrupt(), 72),
    ],
)
def test_errors_of_the_machine(client: Any, cli: Any, error: BaseException, code: int) -> None:
    client.fails = error
    ran = cli("launch", "x")
    assert ran.code == code
    assert "Traceback" not in ran.err


def test_a_closed_pipe_is_silent(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "styx_cli"]
    for arguments in (["--help"], ["launch", "--help"]):
        with subprocess.Popen(
            [*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"STYX_HOME": str(tmp_path)}
        ) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            assert process.stderr.read() == b""
        assert process.returncode == 141
