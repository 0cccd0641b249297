"""`sync`: receives file trees on standard input. See `serve` for the conversation.

The client sends a manifest, is told which entries are needed, and sends those as one tar stream. Frames are a 4-byte
big-endian length and as many bytes. Needs no running agent.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import tarfile
import zlib
from typing import Any, BinaryIO

from styx_agent import locks
from styx_agent.faults import is_disk_full
from styx_agent.paths import State
from styx_agent.trees import Tree, TreeError, parse_manifest

_LENGTH = struct.Struct(">I")
_LARGEST_MANIFEST_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 14
_LOCK_S = 600.0


class _Ended(Exception):
    """The client closed the stream."""


def serve(state: State, home: str, source: BinaryIO, sink: BinaryIO) -> int:
    """Receive trees until the client closes; returns the exit code.

    Each: the client's frame is a gzip'ed JSON manifest `{dest, delete, entries}` with entries
    `[path, "f" | "d" | "l", mode, size, mtime_ns, link target | null]`; the answer is `{"need": [indices]}`; the client
    sends a gzip'ed tar stream in frames, the last one empty, also when nothing is needed; the answer is
    `{"ok": true, "written", "removed", "bytes", "missing"}`. A file that the client could not send after all is
    `missing`, and needed again the next time. Instead of either answer there may be `{"ok": false, "error"}`; then the
    conversation is over, so that a client does not go on sending to a full disk.
    """
    state.make()
    try:
        while True:
            frame = _read_frame(source)
            if frame and not _one_tree(state, home, frame, source, sink):
                return 1
    except _Ended:
        return 0
    except BrokenPipeError:
        return 1


def _one_tree(state: State, home: str, frame: bytes, source: BinaryIO, sink: BinaryIO) -> bool:
    """Whether it was brought about; if not, the reason has been answered."""
    tree = None
    lock = None
    try:
        tree = Tree(home, state.sync, parse_manifest(_unpack(frame)))
        lock = locks.take_within(tree.lock_path, _LOCK_S)
        if lock is None:
            raise TreeError("another sync of %s has not ended" % tree.dest)
        _answer(sink, {"need": tree.compare()})
        tree.prepare()
        stream = _TarFrames(source)
        _extract(tree, stream)
        stream.drain()
        _answer(sink, {"ok": True, **tree.finish()})
    except BrokenPipeError:
        raise
    except (TreeError, OSError, tarfile.TarError, zlib.error, EOFError) as error:
        _answer(sink, {"ok": False, "error": _explain(error, tree)})
        return False
    finally:
        if lock is not None:
            os.close(lock)
    return True


def _extract(tree: Tree, stream: _TarFrames) -> None:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK_BYTES) as archive:  # type: ignore[call-overload]
        for member in archive:
            body = archive.extractfile(member) if member.isreg() else None
            tree.write(member.name, member.size, body)


def _explain(error: BaseException, tree: Tree | None) -> str:
    where = "" if tree is None else " in %s" % tree.dest
    if is_disk_full(error):
        return "disk full: no space left%s" % where
    if isinstance(error, TreeError):
        return str(error)
    if isinstance(error, PermissionError):
        return "permission denied: %s" % (error.filename or (tree and tree.dest))
    if isinstance(error, OSError):
        return "cannot write %s: %s" % (error.filename or (tree and tree.dest), error.strerror or error)
    return "the tar stream is damaged: %s" % error


def _unpack(frame: bytes) -> Any:
    try:
        return json.loads(gzip.decompress(frame).decode("utf-8"))
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise TreeError("the manifest cannot be read: %s" % error) from error


def _read_exactly(source: BinaryIO, size: int) -> bytes:
    parts = []
    while size:
        data = source.read(min(size, 1 << 20))
        if not data:
            raise _Ended
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


def _read_frame(source: BinaryIO) -> bytes:
    size = _LENGTH.unpack(_read_exactly(source, _LENGTH.size))[0]
    if size > _LARGEST_MANIFEST_BYTES:
        raise _Ended  # not this conversation
    return _read_exactly(source, size)


def _answer(sink: BinaryIO, value: dict[str, Any]) -> None:
    data = json.dumps(value).encode("ascii")
    sink.write(_LENGTH.pack(len(data)) + data)
    sink.flush()


class _TarFrames:
    """The frames of one packed tar stream as an unpacked file to read from.

    Unpacks a little at a time: tarfile's own unpacking copies all that a frame unpacks to for each header it reads.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._unpack = zlib.decompressobj(31)
        self._packed = b""
        self._ended = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            EOFError: The stream ends before its packing does.
        """
        while not self._unpack.eof:
            if not self._packed:
                self._packed = self._frame()
                if self._ended:
                    raise EOFError("it ends early")
            data = self._unpack.decompress(self._packed, size)
            self._packed = self._unpack.unconsumed_tail
            if data:
                return data
        return b""

    def _frame(self) -> bytes:
        frame = b"" if self._ended else _read_frame(self._source)
        self._ended = not frame
        return frame

    def drain(self) -> None:
        """Read to the end, so that the next tree can follow."""
        while not self._ended:
            self._frame()
