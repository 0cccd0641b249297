"""Progress: what is said, and when."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime

import pytest

from styx.api import Event
from styx_cli.app import App
from styx_cli.progress import Progress, Steps

KEY = ("launch-1", "create")


def test_short_steps_are_silent_and_long_ones_say_their_time() -> None:
    steps = Steps()
    assert steps.event(KEY, "started", "2 machines", 0.0) == []
    assert steps.due(0.5) == []
    assert steps.event(KEY, "done", "", 0.9) == []
    steps.event(KEY, "started", "2 machines", 10.0)
    assert steps.due(11.1) == ["  making machines: 2 machines ... 1.1s"]
    assert steps.due(12.0) == []
    assert steps.due(41.2) == ["  making machines: 2 machines ... 31.2s"]
    assert steps.event(KEY, "done", "", 50.0) == ["  making machines: 2 machines (40.0s)"]
    assert steps.due(99.0) == []


def test_failures_and_notes_are_always_said() -> None:
    steps = Steps()
    steps.event(KEY, "started", "", 0.0)
    assert steps.event(KEY, "note", "eu-1 has no room", 0.1) == ["  eu-1 has no room"]
    assert steps.event(KEY, "failed", "no place is left", 0.2) == ["  create failed: no place is left"]
    table = "every place refused:\n  aws  NoCapacity\n  gcp  NoQuota"  # the error that ends the command tells the rest
    assert steps.event(KEY, "failed", table, 0.3) == ["  create failed: every place refused"]
    assert steps.event(("x", "y"), "failed", "", 0.2) == ["  y failed"]


def test_the_spinner_waits_half_a_second_and_shows_the_newest_step() -> None:
    steps = Steps()
    steps.event(KEY, "started", "a", 0.0)
    steps.event(("launch-1", "sync"), "started", "b", 0.1)
    assert steps.spinner(0.4) is None
    assert steps.spinner(2.0) == "copying files: b (1.9s)"


def test_without_a_terminal_lines_go_to_stderr_and_rich_is_not_imported(capfd: pytest.CaptureFixture[str]) -> None:
    before = "rich" in sys.modules
    with Progress(App(is_terminal=lambda _: False)) as progress:
        progress.say(
            Event(
                cluster="k",
                operation="launch-1",
                step="reach",
                phase="started",
                at=datetime.now(UTC),
                message="one node",
            )
        )
        deadline = time.monotonic() + 10
        said = ""
        while "one node" not in said and time.monotonic() < deadline:
            time.sleep(0.05)
            captured = capfd.readouterr()
            assert captured.out == ""
            said += captured.err
    assert "reaching the nodes: one node ... 1." in said
    assert ("rich" in sys.modules) == before
