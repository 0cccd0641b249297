"""Progress on stderr: every step that takes over a second is shown, with its elapsed time.

On a terminal a Rich spinner appears when something has taken half a second (Rich is not imported before); elsewhere a
step says a line when it has taken a second, another every half minute, and one when it ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from styx_cli.render import elapsed

if TYPE_CHECKING:
    from styx.api import Event
    from styx_cli.app import App

_SPINNER_AFTER_S: Final = 0.5
_LINE_AFTER_S: Final = 1.0
_REPEAT_EVERY_S: Final = 30.0
_TICK_S: Final = 0.1
_TITLES: Final = {
    "create": "making machines",
    "reach": "reaching the nodes",
    "bootstrap": "starting the agents",
    "contain": "making the containers",
    "backend": "preparing the nodes",
    "sync": "copying files",
    "submit": "submitting the job",
    "quiesce": "ending jobs, keeping logs",
    "stop": "stopping machines",
    "start": "starting machines",
    "remove": "removing machines",
}
"""Steps in words; others are shown by their own name."""


@dataclass
class Step:
    """One step under way."""

    title: str
    since: float
    said_at: float | None = None
    """When a line was last written about it."""


@dataclass
class Steps:
    """Which steps are under way, and what is to be said about them: no I/O, no clock of its own."""

    running: dict[tuple[str, str], Step] = field(default_factory=dict)

    def event(self, key: tuple[str, str], phase: str, message: str, now: float) -> list[str]:
        """Take in one event; returns the lines to write."""
        title = _title(key, message)
        if phase == "started":
            self.running[key] = Step(title, now)
            return []
        if phase == "note":
            if key in self.running and message:
                self.running[key].title = title
            return [f"  {message}"] if message else []
        step = self.running.pop(key, None)
        if phase == "failed":
            first = message.partition("\n")[0].rstrip(":")  # the rest of a table is the command's to say, once
            return [f"  {key[1]} failed: {first}" if first else f"  {key[1]} failed"]
        took = now - step.since if step else 0.0
        if step is None or took < _LINE_AFTER_S:
            return []
        return [f"  {step.title} ({elapsed(took)})"]

    def due(self, now: float) -> list[str]:
        """Lines about steps that have been silent for too long."""
        lines = []
        for step in self.running.values():
            quiet_since = step.said_at if step.said_at is not None else step.since
            pause = _REPEAT_EVERY_S if step.said_at is not None else _LINE_AFTER_S
            if now - quiet_since >= pause:
                step.said_at = now
                lines.append(f"  {step.title} ... {elapsed(now - step.since)}")
        return lines

    def spinner(self, now: float) -> str | None:
        """The text of the spinner, once something has taken long enough."""
        waiting = [step for step in self.running.values() if now - step.since >= _SPINNER_AFTER_S]
        if not waiting:
            return None
        step = waiting[-1]
        return f"{step.title} ({elapsed(now - step.since)})"


def _title(key: tuple[str, str], message: str) -> str:
    operation, step = key
    if not operation:
        return step
    words = _TITLES.get(step, step)
    return f"{words}: {message}" if message else words


class Progress:
    """Shows the events of one operation; its `say` may be called from any thread."""

    def __init__(self, app: App, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._steps = Steps()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._terminal = app.is_terminal("stderr") and app.environ.get("TERM") != "dumb"
        self._status: Any = None
        self._ticker: threading.Thread | None = None

    def say(self, event: Event) -> None:
        """Take in one event of the engine."""
        self._take((event.operation, event.step), event.phase, event.message)

    @contextmanager
    def waiting(self, title: str) -> Iterator[None]:
        """Show that something which reports no events is under way."""
        self._take(("", title), "started", title)
        try:
            yield
        finally:
            with self._lock:
                self._steps.running.pop(("", title), None)
                self._draw()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._ticker is not None:
            self._ticker.join(timeout=2)
        with self._lock:
            self._hide()

    def _take(self, key: tuple[str, str], phase: str, message: str) -> None:
        with self._lock:
            lines = self._steps.event(key, phase, message, self._clock())
            self._write(lines)
            if self._ticker is None and not self._done.is_set():
                self._ticker = threading.Thread(target=self._tick, name="styx-progress", daemon=True)
                self._ticker.start()

    def _tick(self) -> None:
        while not self._done.wait(_TICK_S):
            with self._lock:
                if self._terminal:
                    self._draw()
                else:
                    self._write(self._steps.due(self._clock()))

    def _write(self, lines: list[str]) -> None:
        if not lines:
            return
        if self._status is not None:
            for line in lines:
                self._status.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            self._app.note("\n".join(lines))

    def _draw(self) -> None:
        text = self._steps.spinner(self._clock())
        if not self._terminal or self._done.is_set():
            return
        if text is None:
            self._hide()
            return
        if self._status is None:
            from rich.console import Console
            from rich.text import Text

            self._text = Text
            self._status = Console(stderr=True).status(Text(text))
            self._status.start()
        else:
            self._status.update(self._text(text))

    def _hide(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
