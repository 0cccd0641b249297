"""Pipes of processes, used and closed by several threads at once."""

from __future__ import annotations

import io
import os
import threading
from contextlib import suppress

import pytest

from styx.transport.process import Pipe

PATIENCE_S = 20.0


class LateRaw(io.RawIOBase):
    """A pipe's end whose reader is held between looking up the descriptor's number and the system's call."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.about_to_read = threading.Event()
        self.go_on = threading.Event()

    def read(self, size: int = -1) -> bytes:
        number = self.number
        self.about_to_read.set()
        assert self.go_on.wait(PATIENCE_S)
        return os.read(number, size)

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)


def test_a_late_reader_of_a_closed_pipe_takes_nothing_from_the_next_one() -> None:
    old_end, old_source = os.pipe()
    raw = LateRaw(old_end)
    pipe = Pipe(raw)
    got: list[bytes] = []

    def read() -> None:
        with suppress(OSError):
            got.append(pipe.read(100))

    reader = threading.Thread(target=read)
    reader.start()
    assert raw.about_to_read.wait(PATIENCE_S)
    os.close(old_source)
    pipe.close()
    next_end, next_source = os.pipe()
    try:
        os.write(next_source, b"for the next line")
        raw.go_on.set()
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
        os.set_blocking(next_end, False)
        assert os.read(next_end, 100) == b"for the next line"
        assert got == [b""]
        assert raw.number == -1, "the last one to leave closes"
    finally:
        os.close(next_end)
        os.close(next_source)


def test_a_closed_pipe_lets_nobody_in() -> None:
    end, source = os.pipe()
    try:
        pipe = Pipe(io.FileIO(end))
        pipe.close()
        pipe.close()
        assert pipe.closed
        with pytest.raises(ValueError, match="closed"):
            pipe.read(1)
        with pytest.raises(ValueError, match="closed"):
            pipe.write(b"x")
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(end)
    finally:
        os.close(source)
