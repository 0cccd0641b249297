"""Lambda allows one request per second, and one launch in twelve; a driver must not wait. So it remembers.

A reading is used again while it is younger than a second. When Lambda says "too many", the repeat of the same verb goes
on with what the first try has read, instead of spending its one request on the same question again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from styx_lambda.errors import Throttled

FRESH_S: Final = 1.0
GRACE_S: Final = 30.0
"""How late the engine's repeat may come, after the pause that Lambda asked for."""

Read = Callable[[str], Any]


class Pace:
    """Readings by path, and how old they may be for which verb. Safe for threads: equal questions are asked once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._read: dict[str, tuple[float, Any]] = {}
        self._patience: dict[str, float] = {}

    @contextmanager
    def turn(self, verb: str, ask: Read) -> Iterator[Read]:
        """One try of a verb, told apart by its arguments; yields what asks and remembers."""
        patience_s = self._patience.pop(verb, FRESH_S)
        try:
            yield lambda path: self._answer(path, ask, patience_s)
        except Throttled as error:
            self._patience[verb] = error.retry_after_s + GRACE_S
            raise

    @contextmanager
    def changing(self, path: str) -> Iterator[None]:
        """Around a write: what was read of it holds no longer, unless the write was put off."""
        try:
            yield
        except Throttled:
            raise
        except BaseException:
            self._forget(path)
            raise
        self._forget(path)

    def _forget(self, path: str) -> None:
        with self._lock:
            self._read.pop(path, None)

    def _answer(self, path: str, ask: Read, patience_s: float) -> Any:
        with self._lock:
            at, answer = self._read.get(path, (float("-inf"), None))
            if self._clock() - at >= patience_s:
                answer = ask(path)
                self._read[path] = self._clock(), answer
            return answer
