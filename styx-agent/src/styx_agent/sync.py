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

from styx_agent import locks
from styx_agent.faults import is_disk_full
from styx_agent.lean import TYPE_CHECKING
from styx_agent.paths import State
from styx_agent.trees import Tree, TreeError, parse_manifest

if TYPE_CHECKING:
    from typing import Any, BinaryIO

_LENGTH = struct.Struct(">I")
_LARGEST_MANIFEST_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 14
_UNPACKED_BYTES = 1 << 18
_END = bytes(tarfile.BLOCKSIZE)
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
    """Write every file of the stream. `tarfile` would take several times as long over small files."""
    path: str | None = None
    size: int | None = None
    while True:
        header = stream.exactly(tarfile.BLOCKSIZE)
        if header == _END:
            return
        kind = header[156:157]
        length = _octal(header[124:136])
        if header[257:262] != b"ustar":
            raise tarfile.ReadError("no header is where one must be")
        if kind == b"x":
            path, size = _extended(stream.exactly(length))
            stream.exactly(-length % tarfile.BLOCKSIZE)
            continue
        if kind != b"0" or header[345:346] != b"\0":
            raise TreeError("the tar stream holds %r, which was not asked for" % header[:100])
        name = path if path is not None else header[:100].rstrip(b"\0").decode("utf-8", "surrogateescape")
        body = _Body(stream, length if size is None else size)
        tree.write(name, body.left, body)
        body.skip()
        stream.exactly(-(length if size is None else size) % tarfile.BLOCKSIZE)
        path = size = None


def _octal(field: bytes) -> int:
    try:
        return int(field.rstrip(b" \0") or b"0", 8)
    except ValueError as error:
        raise tarfile.ReadError("a header holds no number: %r" % field) from error


def _extended(records: bytes) -> tuple[str | None, int | None]:
    """Path and size of a pax header, which is sent for long or unusual names and for large files."""
    found = {}
    while records:
        length, _, rest = records.partition(b" ")
        record = rest[: int(length) - len(length) - 1]
        name, _, value = record[:-1].partition(b"=")
        found[name] = value
        records = records[int(length) :]
    path, size = found.get(b"path"), found.get(b"size")
    return None if path is None else path.decode("utf-8", "surrogateescape"), None if size is None else int(size)


class _Body:
    """What one file holds, as a file to read from."""

    def __init__(self, stream: _TarFrames, size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, size: int) -> bytes:
        data = self._stream.read(min(size, self.left)) if self.left else b""
        if self.left and not data:
            raise EOFError("it ends within a file")
        self.left -= len(data)
        return data

    def skip(self) -> None:
        while self.left:
            self.read(_BLOCK_BYTES)


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
    """The frames of one packed tar stream as an unpacked file to read from, unpacked a little at a time."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._unpack = zlib.decompressobj(31)
        self._packed = b""
        self._unpacked = b""
        self._at = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end.

        Raises:
            EOFError: The stream ends before its packing does.
        """
        if self._at == len(self._unpacked):
            self._unpacked, self._at = self._more(), 0
        data = self._unpacked[self._at : self._at + size]
        self._at += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        """So many bytes.

        Raises:
            EOFError: The stream ends before.
        """
        data = self.read(size)
        while len(data) < size:
            more = self.read(size - len(data))
            if not more:
                raise EOFError("it ends early")
            data += more
        return data

    def _more(self) -> bytes:
        while not self._unpack.eof:
            if not self._packed:
                self._packed = self._frame()
                if self._ended:
                    raise EOFError("it ends early")
            data = self._unpack.decompress(self._packed, _UNPACKED_BYTES)
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
