"""Reads pieces of append-only logs."""

from __future__ import annotations

import os

_BLOCK_BYTES = 1 << 16


def size(path: str) -> int:
    """Bytes in the log; a log that does not exist yet is empty."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def read(path: str, offset: int, max_bytes: int) -> bytes:
    """At most `max_bytes` from `offset`."""
    try:
        with open(path, "rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(max_bytes) or b""
    except OSError:
        return b""


def start_of_last_lines(path: str, lines: int) -> int:
    """The offset at which the last `lines` lines begin; an unfinished last line counts as one."""
    try:
        stream = open(path, "rb", buffering=0)  # noqa: SIM115 - closed below, opening alone may fail
    except OSError:
        return 0
    with stream:
        position = stream.seek(0, os.SEEK_END)
        if position == 0 or lines <= 0:
            return position
        position -= 1  # the newline that ends the last line does not begin another
        while position > 0:
            start = max(0, position - _BLOCK_BYTES)
            stream.seek(start)
            block = stream.read(position - start) or b""
            newline = block.rfind(b"\n")
            while newline >= 0:
                lines -= 1
                if lines == 0:
                    return start + newline + 1
                newline = block.rfind(b"\n", 0, newline)
            position = start
    return 0
