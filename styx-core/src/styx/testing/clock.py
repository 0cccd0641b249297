"""A clock that moves only when a test says so."""

from __future__ import annotations

import threading


class ManualClock:
    """Unix seconds on demand: pass it wherever a `Callable[[], float]` clock is asked for."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self._now = now
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The present moment."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass. It never runs backwards."""
        if seconds < 0:
            raise ValueError(f"time runs forwards; cannot advance by {seconds} s")
        with self._lock:
            self._now += seconds
