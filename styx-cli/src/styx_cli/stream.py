"""A job's output on this terminal: `run` to stdout, set-up and driver to stderr, bytes as they came."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from styx.api import LogLine


class LineWriter:
    """Writes pieces of output; with several ranks, whole lines that begin with `(rank N) `.

    Args:
        label: Whether to name the rank: when the job has more than one.
        run_to_stderr: Keep stdout free for one JSON object.
    """

    def __init__(self, *, label: bool, run_to_stderr: bool = False) -> None:
        self._label = label
        self._run_to_stderr = run_to_stderr
        self._partial: dict[tuple[int, str], bytes] = {}
        self.setup_seen = False

    def write(self, piece: LogLine) -> None:
        """Write one piece, or keep the part of it that is not a whole line yet."""
        self.setup_seen = self.setup_seen or piece.stream == "setup"
        if not self._label:
            self._send(piece.stream, piece.data)
            return
        key = (piece.rank, piece.stream)
        *whole, rest = (self._partial.pop(key, b"") + piece.data).split(b"\n")
        if rest:
            self._partial[key] = rest
        if whole:
            self._send(piece.stream, b"".join(self._labelled(piece.rank, line) for line in whole))

    def finish(self) -> None:
        """Write lines that never got their end."""
        for (rank, stream), rest in sorted(self._partial.items()):
            self._send(stream, self._labelled(rank, rest))
        self._partial.clear()

    def _labelled(self, rank: int, line: bytes) -> bytes:
        return b"(rank %d) %s\n" % (rank, line)

    def _send(self, stream: str, data: bytes) -> None:
        to_stdout = stream == "run" and not self._run_to_stderr
        target = _binary(sys.stdout if to_stdout else sys.stderr)
        target.write(data)
        target.flush()


class JsonLineWriter:
    """Writes each line of output as one JSON object."""

    def __init__(self) -> None:
        self._partial: dict[tuple[int, Any], bytes] = {}
        self.setup_seen = False

    def write(self, piece: LogLine) -> None:
        """Write the lines that this piece ends."""
        key = (piece.rank, piece.stream)
        *whole, rest = (self._partial.pop(key, b"") + piece.data).split(b"\n")
        if rest:
            self._partial[key] = rest
        self._send(piece.rank, piece.stream, whole)

    def finish(self) -> None:
        """Write lines that never got their end."""
        for (rank, stream), rest in sorted(self._partial.items()):
            self._send(rank, stream, [rest])
        self._partial.clear()

    def _send(self, rank: int, stream: Any, lines: Iterable[bytes]) -> None:
        from styx_cli.jsonout import LogText, to_json

        for line in lines:
            text = LogText(rank=rank, stream=stream, text=line.decode(errors="replace"))
            sys.stdout.write(to_json(text, indent=None) + "\n")
        sys.stdout.flush()


def _binary(stream: Any) -> IO[bytes]:
    stream.flush()
    target: IO[bytes] = stream.buffer
    return target
