"""The client's half of sync: manifest, the agent says what it lacks, one packed tar stream. See `styx_agent.sync`."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
import struct
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from styx.errors import LocalIOError, Unreachable
from styx.transport.base import Channel, Transport, write_all
from styx.transport.packing import worthwhile_level
from styx.transport.tree import Entry, SyncItem, Tree, heavy_folders, scan, unreadable

LARGE_BYTES = 64 * 1000 * 1000
LARGE_FILES = 10_000
_CHUNK_BYTES = 1 << 18
_PACKED_BYTES = 1 << 16
_PASSES = 3
_USTAR = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)[257:]
"""The end of every header, which says what kind of tar it is."""
_LENGTH = struct.Struct(">I")
_LONGEST_ANSWER = 1 << 28


@dataclass(frozen=True)
class SyncSummary:
    """What one upload did.

    Attributes:
        files: Files and links in the trees.
        bytes: Their size.
        written: Files and links that the node lacked and got.
        sent_bytes: Size of the files sent.
        removed: What went away on the node because it went away here.
        skipped: Sentences for the user: what was left out, what kept changing.
        seconds: How long it took.
    """

    files: int = 0
    bytes: int = 0
    written: int = 0
    sent_bytes: int = 0
    removed: int = 0
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0


def sync(
    transport: Transport,
    agent_path: str,
    items: Sequence[SyncItem],
    say: Callable[[str], None],
    *,
    trees: Sequence[Tree] | None = None,
    stall_s: float = 300.0,
) -> SyncSummary:
    """Make the node's copy of each item equal to this machine's. Sends nothing when nothing changed.

    Args:
        transport: The way to the node.
        agent_path: Where the agent's zipapp lies on the node (`AgentConnection.agent_path`).
        items: What goes where.
        say: Gets one line before a large upload.
        trees: The items as `scan` walked them, to share one walk among nodes.
        stall_s: Give up when the node takes no byte and sends none for so long.

    Raises:
        LocalIOError: The node cannot store it (its disk is full, a file is where a folder must be), or this machine
            cannot read it.
        Unreachable: The connection broke, or stalled.
    """
    began = time.monotonic()
    walked = list(trees) if trees is not None else [scan(item) for item in items]
    written = sent_bytes = removed = 0
    changed: list[str] = []
    for attempt in range(_PASSES):
        if attempt:
            walked = [scan(tree.item) for tree in walked]
        changed = []
        with _Wire(transport, agent_path, stall_s) as wire:
            for tree in walked:
                done = _upload(wire, tree, say if not attempt else _silent, transport.compress_level)
                written += done.written
                sent_bytes += done.sent_bytes
                removed += done.removed
                changed += done.changed
        if not changed:
            break
    files = [entry for tree in walked for entry in tree.entries if entry.kind != "d"]
    notes = [note for tree in walked for note in tree.skipped]
    notes += [f"{path} kept changing while it was uploaded; the node has one state of it" for path in changed]
    return SyncSummary(
        len(files),
        sum(entry.size for entry in files),
        written,
        sent_bytes,
        removed,
        tuple(notes),
        time.monotonic() - began,
    )


def _silent(line: str) -> None:
    """The second and third pass only carry what changed meanwhile."""


@dataclass(frozen=True)
class _Done:
    written: int
    sent_bytes: int
    removed: int
    changed: tuple[str, ...]


def _upload(wire: _Wire, tree: Tree, say: Callable[[str], None], level: int) -> _Done:
    manifest = {"dest": tree.dest, "delete": True, "entries": tree.entries}
    wire.send_message(gzip.compress(json.dumps(manifest).encode("ascii"), compresslevel=1))
    need = [tree.entries[index] for index in wire.answer("need")["need"]]
    if line := large_upload_line(tree, need):
        say(line)
    stream = TarStream(tree, need)
    files = [(tree.local_path(entry), entry.size) for entry in need if entry.kind == "f"]
    packer = zlib.compressobj(worthwhile_level(files, level), zlib.DEFLATED, 31)
    held = bytearray()
    try:
        for data in stream:
            held += data
            if len(held) >= _PACKED_BYTES:
                wire.send_chunk(packer.compress(held))
                held.clear()
        wire.send_chunk(packer.compress(held) + packer.flush())
        wire.end_chunks()
    except (OSError, ValueError) as error:
        wire.raise_reason(error)
    result = wire.answer("ok")
    return _Done(int(result.get("written", 0)), stream.sent_bytes, int(result.get("removed", 0)), tuple(stream.changed))


def large_upload_line(tree: Tree, need: Sequence[Entry]) -> str | None:
    """One line for the user when much is about to be sent, naming folders that are seldom meant to be."""
    size = sum(entry.size for entry in need)
    files = sum(entry.kind == "f" for entry in need)
    if size <= LARGE_BYTES and files <= LARGE_FILES:
        return None
    line = f"Uploading {files:,} files, {size / 1e6:,.0f} MB, from {tree.item.source}"
    heavy = heavy_folders([Tree(tree.item, tree.source, tree.dest, tuple(need), ())])
    if heavy:
        named = ", ".join(f"{name} ({count:,} files, {share / 1e6:,.0f} MB)" for name, count, share in heavy[:3])
        line += f"; of these {named}: list them in .styxignore to leave them out"
    return line


class TarStream:
    """The needed files of a tree as an unpacked tar stream, read one by one as it is consumed.

    Folders and links need no content: the manifest says all of them.
    """

    def __init__(self, tree: Tree, need: Sequence[Entry]) -> None:
        self._tree = tree
        self._need = need
        self.sent_bytes = 0
        self.changed: list[str] = []
        """Files that are not, or no longer, what the manifest says."""

    def __iter__(self) -> Iterator[bytes]:
        """Blocks of any size."""
        for entry in self._need:
            yield from self._file(entry)
        yield b"\0" * (2 * tarfile.BLOCKSIZE)

    def _file(self, entry: Entry) -> Iterator[bytes]:
        path = self._tree.local_path(entry)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if isinstance(error, PermissionError):
                raise unreadable(path, error) from error
            self.changed.append(path)  # gone, or a link now: the next walk sees it
            return
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode) or (info.st_size, info.st_mtime_ns) != (entry.size, entry.mtime_ns):
                self.changed.append(path)
                return
            yield from self._content(entry, handle, path)
        except OSError as error:
            raise unreadable(path, error) from error
        finally:
            os.close(handle)

    def _content(self, entry: Entry, handle: int, path: str) -> Iterator[bytes]:
        head, left = _header(entry), entry.size
        while left and (data := os.read(handle, min(left, _CHUNK_BYTES))):
            left -= len(data)
            yield head + data
            head = b""
        if left or os.fstat(handle).st_mtime_ns != entry.mtime_ns:
            self.changed.append(path)
        self.sent_bytes += entry.size
        # Zeros for what is missing where it shrank: the header has promised so many bytes.
        yield head + bytes(left + -entry.size % tarfile.BLOCKSIZE)


def _header(entry: Entry) -> bytes:
    name = os.fsencode(entry.path or "file")
    if (
        len(name) <= 100 and name.isascii() and entry.size < 8 << 30
    ):  # what `tarfile` makes of it, at a tenth of its time
        head = b"%b%07o\x000000000\x000000000\x00%011o\x00%011o\x00        0" % (
            name.ljust(100, b"\0"),
            entry.mode,
            entry.size,
            entry.mtime_ns // 1_000_000_000,
        )
        head = head.ljust(257, b"\0") + _USTAR
        return b"%b%06o\x00 %b" % (head[:148], sum(head), head[156:])
    info = tarfile.TarInfo(entry.path or "file")
    info.size = entry.size
    info.mode = entry.mode
    info.mtime = entry.mtime_ns // 1_000_000_000
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


class _Wire:
    """The `sync` verb's two pipes, with a watchdog that ends the command when nothing moves any more."""

    def __init__(self, transport: Transport, agent_path: str, stall_s: float) -> None:
        where = ("--state", transport.agent_state, "--home", transport.home)
        self._channel: Channel = transport.open((transport.python, "-I", "-S", agent_path, "sync", *where))
        self._stall_s = stall_s
        self._moved = time.monotonic()
        self._stalled = False
        self._over = threading.Event()
        self._pending = bytearray()
        threading.Thread(target=self._watch, name="sync-watch", daemon=True).start()

    def __enter__(self) -> _Wire:
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._channel.close()

    def _watch(self) -> None:
        while not self._over.wait(min(5.0, self._stall_s)):
            if time.monotonic() - self._moved > self._stall_s:
                self._stalled = True
                self._channel.close()
                return

    def send_message(self, data: bytes) -> None:
        """A length and so many bytes."""
        try:
            self._send(_LENGTH.pack(len(data)) + data)
        except (OSError, ValueError) as error:
            self.raise_reason(error)

    def send_chunk(self, data: bytes) -> None:
        """A part of the tar stream; nothing for no bytes, because an empty chunk ends it."""
        self._pending += data
        if len(self._pending) >= _CHUNK_BYTES:
            self._flush()

    def end_chunks(self) -> None:
        """The tar stream is complete."""
        self._flush()
        self._send(_LENGTH.pack(0))

    def _flush(self) -> None:
        if self._pending:
            self._send(_LENGTH.pack(len(self._pending)) + self._pending)
            self._pending.clear()

    def _send(self, data: bytes | bytearray) -> None:
        for start in range(0, len(data), _CHUNK_BYTES):
            write_all(self._channel.stdin, bytes(data[start : start + _CHUNK_BYTES]))
            self._moved = time.monotonic()

    def answer(self, key: str) -> dict[str, Any]:
        """The agent's next answer, which has `key`.

        Raises:
            LocalIOError: The agent refused; its words.
            Unreachable: It is gone.
        """
        try:
            (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
            if length > _LONGEST_ANSWER:
                raise ValueError("an answer is too long")
            answer = json.loads(self._read(length))
        except (OSError, ValueError) as error:
            raise self._broken(error) from error
        if isinstance(answer, dict) and "error" in answer:
            raise LocalIOError(f"the node could not store the files: {answer['error']}")
        if not isinstance(answer, dict) or key not in answer:
            raise self._broken(ValueError(f"an answer lacks {key!r}"))
        return answer

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._channel.stdout.read(size - len(data))
            if not more:
                raise ConnectionError("the sync command ended early")
            self._moved = time.monotonic()
            data += more
        return data

    def raise_reason(self, error: Exception) -> None:
        """After a failed write: the agent's own words if it left some, else that the connection broke."""
        with contextlib.suppress(Unreachable):
            self.answer("error")
        raise self._broken(error) from error

    def _broken(self, error: Exception) -> Unreachable:
        if self._stalled:
            return Unreachable(f"the upload stalled: nothing moved for {self._stall_s:g} s")
        said = self._channel.stderr_tail().strip()
        return Unreachable(f"the upload broke off: {said.splitlines()[-1] if said else error}")
