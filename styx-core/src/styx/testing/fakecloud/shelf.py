"""Where the fake vendor keeps its books: in memory, or in a file that several processes share."""

from __future__ import annotations

import fcntl
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from styx.testing.fakecloud.world import Books, World


class Shelf(ABC):
    """Hands out the books to one caller at a time and keeps every change, also when the caller raises.

    A call that fails halfway has happened halfway, as at a real vendor.
    """

    @abstractmethod
    def books(self) -> AbstractContextManager[Books]:
        """The books, for as long as the block lasts."""


class MemoryShelf(Shelf):
    """Books of one process."""

    def __init__(self, world: World) -> None:
        self._books = Books(world=world)
        self._lock = threading.RLock()

    @contextmanager
    def books(self) -> Iterator[Books]:
        """The books themselves."""
        with self._lock:
            yield self._books


class FileShelf(Shelf):
    """Books of many processes: a JSON file, replaced whole, behind a lock that dies with its holder."""

    def __init__(self, path: Path, world: World) -> None:
        self._path = path
        self._world = world
        self._lock = threading.Lock()

    @contextmanager
    def books(self) -> Iterator[Books]:
        """A copy of the books, written back if it changed."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.with_suffix(".lock").open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            before = self._path.read_text() if self._path.exists() else ""
            books = Books.model_validate_json(before) if before else Books(world=self._world)
            try:
                yield books
            finally:
                after = books.model_dump_json()
                if after != before:
                    draft = self._path.with_suffix(".new")
                    draft.write_text(after)
                    os.replace(draft, self._path)
