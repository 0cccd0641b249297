"""Following logs: every byte once and in order, whatever happens to the connection."""

from __future__ import annotations

import base64
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from styx.errors import DeadlineExceeded, StyxError, Unreachable
from styx.transport.agent import Caller
from styx.transport.base import NodeGone
from styx_agent.protocol import MAX_WAIT_S

_CHUNK_BYTES = 1 << 18
_TOLD_WAIT_S = 1.0
"""How long a read is held where the end is not known to the agent that holds it."""
_LONGEST_HELD_LINE = 1 << 16
AFTER_END_S = 4.0
"""How long a rank may say nothing after all streams should have ended: then its node is not waited for any more."""


def follow(
    agent: Caller,
    job_id: int,
    stream: str,
    offset: int = 0,
    *,
    wait: bool = True,
    wait_s: float = 20.0,
    patience_s: float = 60.0,
    ended: Callable[[], bool] | None = None,
) -> Iterator[tuple[int, bytes]]:
    """Yield `(offset, bytes)` of one rank's stream until its writer has ended.

    Args:
        agent: The node's agent; an `AgentConnection` heals itself, and what it cannot heal is tried again here.
        job_id: The job.
        stream: `setup`, `run` or `driver`.
        offset: Where to begin; -N begins at the last N lines.
        wait: False ends at the present end of the stream.
        wait_s: How long one request is held by the agent.
        patience_s: How long an unreachable agent is tried again before the error is raised.
        ended: Whether nothing more will be written, for agents that cannot know it themselves: only rank 0 knows that
            a job has no set-up, or ended before its turn. Asked before a read, so that what it wrote last is read.
    """
    held_s = min(wait_s, MAX_WAIT_S) if wait else 0.0
    if ended is not None:
        held_s = min(held_s, _TOLD_WAIT_S)
    give_up: float | None = None
    while True:
        params = {"job_id": job_id, "stream": stream, "offset": offset, "max_bytes": _CHUNK_BYTES, "wait_s": held_s}
        over = ended is not None and ended()
        try:
            chunk = agent.call("log.read", params, timeout_s=held_s + 30.0)
        except (Unreachable, DeadlineExceeded) as error:
            give_up = give_up or time.monotonic() + patience_s
            if isinstance(error, NodeGone) or time.monotonic() > give_up:
                raise
            time.sleep(0.5)
            continue
        give_up = None
        data = base64.b64decode(chunk["data"])
        offset = int(chunk["offset"])
        if data:
            yield offset, data
            offset += len(data)
        if chunk.get("eof") or ((over or not wait) and not data):
            return


@dataclass(frozen=True)
class Source:
    """One rank's stream, for `follow_all`."""

    rank: int
    agent: Caller
    job_id: int
    stream: str
    offset: int = 0
    ended: Callable[[], bool] | None = None
    lost: Callable[[], bool] | None = None
    """Whether its node is known to be lost: then nothing more is waited for."""


@dataclass(frozen=True)
class Piece:
    """Whole lines of one rank.

    Attributes:
        rank: Whose.
        offset: Where `data` begins in that rank's stream.
        data: Ends with a line end, except for a line over 64 KiB and for a last line without one.
        error: Set, with no data, when that rank's log could not be read to its end.
    """

    rank: int
    offset: int
    data: bytes
    error: StyxError | None = None


def follow_all(sources: Sequence[Source], *, wait: bool = True, patience_s: float = 60.0) -> Iterator[Piece]:
    """Merge several ranks' streams as they come, never cutting a line of one by a line of another.

    A rank whose log cannot be read yields one piece with `error`; the others go on. So does a rank that is silent
    although its stream has ended: its node was lost, which its connection may not know for a long time.
    """
    funnel = _Funnel()
    for source in sources:
        arguments = (source, funnel, wait, patience_s)
        threading.Thread(target=_pump, args=arguments, name=f"log-{source.rank}", daemon=True).start()
    running = {source.rank: source for source in sources}
    quiet_since: float | None = None
    try:
        while running:
            try:
                rank, piece = funnel.get(timeout_s=0.5)
            except queue.Empty:
                over = all(source.ended is not None and source.ended() for source in running.values())
                lost = all(source.lost is not None and source.lost() for source in running.values())
                quiet_since = (quiet_since or time.monotonic()) if over else None
                if quiet_since is not None and (lost or time.monotonic() - quiet_since > AFTER_END_S):
                    yield from (_unheard(rank) for rank in sorted(running))
                    return
                continue
            quiet_since = None
            if piece is None:
                running.pop(rank, None)
            else:
                yield piece
    finally:
        funnel.close()


class _Funnel:
    """What several threads read, in one line; None of a rank is its end. Once closed it swallows everything."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[tuple[int, Piece | None]] = queue.Queue(maxsize=256)
        self._closed = threading.Event()

    def put(self, rank: int, piece: Piece | None) -> bool:
        """Hand a piece over, waiting for room; False when nobody wants it any more."""
        while not self._closed.is_set():
            try:
                self._pieces.put((rank, piece), timeout=0.5)
            except queue.Full:
                continue
            return True
        return False

    def get(self, timeout_s: float) -> tuple[int, Piece | None]:
        """The next piece; `queue.Empty` when none came in time."""
        return self._pieces.get(timeout=timeout_s)

    def close(self) -> None:
        """Let the writers end."""
        self._closed.set()


def _pump(source: Source, funnel: _Funnel, wait: bool, patience_s: float) -> None:
    """Read one rank's stream to its end, into the funnel."""
    rank, held = source.rank, HeldLines()
    read = follow(
        source.agent,
        source.job_id,
        source.stream,
        source.offset,
        wait=wait,
        patience_s=patience_s,
        ended=source.ended,
    )
    try:
        for offset, data in read:
            for start, lines in held.add(offset, data):
                if not funnel.put(rank, Piece(rank, start, lines)):
                    return
        for start, lines in held.rest():
            funnel.put(rank, Piece(rank, start, lines))
    except StyxError as error:
        for start, lines in held.rest():
            funnel.put(rank, Piece(rank, start, lines))
        funnel.put(rank, Piece(rank, 0, b"", error))
    finally:
        funnel.put(rank, None)


def _unheard(rank: int) -> Piece:
    return Piece(rank, 0, b"", Unreachable(f"rank {rank} no longer answers; the end of its output may be missing"))


class HeldLines:
    """Keeps back the unfinished last line of a stream. A carriage return ends a line too: progress bars."""

    def __init__(self) -> None:
        self._held = b""
        self._start = 0

    def add(self, offset: int, data: bytes) -> list[tuple[int, bytes]]:
        """The whole lines that are ready now, with their offset."""
        if not self._held:
            self._start = offset
        text = self._held + data
        # A carriage return at the very end may be the first half of a line end.
        end = 1 + max(text.rfind(b"\n"), text.rfind(b"\r", 0, len(text) - 1))
        if end == 0 and len(text) > _LONGEST_HELD_LINE:
            end = len(text)
        ready = [(self._start, text[:end])] if end else []
        self._held = text[end:]
        self._start += end
        return ready

    def rest(self) -> list[tuple[int, bytes]]:
        """The last line without its end."""
        held, self._held = self._held, b""
        return [(self._start, held)] if held else []
