"""A job's output, from the nodes while they answer, and from the kept copy for ever after.

Every byte that is read from a node is kept under the store's log folder at the offset where it stood on the node, so
that a second reader, or a reader after `down`, starts from what is there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from styx.errors import DeadlineExceeded, StyxError, Unreachable
from styx.provision.world import World
from styx.state.rows import ClusterRow
from styx_agent.protocol import FAILED_DRIVER, PENDING, SETTING_UP, TERMINAL_STATES

if TYPE_CHECKING:
    from styx.provision.nodeup import Up
    from styx.transport.agent import Caller

STREAMS: Final = ("setup", "run")
"""In the order they are shown."""
KEEP_BYTES: Final = 64 * 1024 * 1024
"""Most that `keep` fetches of one stream before a node goes away."""
_PIECE_BYTES: Final = 1 << 20
HEAD_SILENT_S: Final = 20.0
"""How long rank 0 may say nothing, while other ranks answer, before it counts as lost."""
_SILENT_S: Final = 10.0
"""How long another rank may have said nothing when the job has ended; while it lives it is heard every second."""
_WATCH_S: Final = 5.0
"""How long one question for the job's state is held."""


@dataclass(frozen=True)
class Output:
    """Some output of one rank."""

    rank: int
    stream: str
    data: bytes


class Kept:
    """The kept copies of one job's streams."""

    def __init__(self, world: World, key: str, job_id: int) -> None:
        self.folder: Path = world.store.folders.log_dir(key) / f"job-{job_id}"

    def path(self, stream: str, rank: int) -> Path:
        """The copy of one stream."""
        return self.folder / f"{stream}-{rank}.log"

    def size(self, stream: str, rank: int) -> int:
        """How much of it is kept."""
        try:
            return self.path(stream, rank).stat().st_size
        except FileNotFoundError:
            return 0

    def write(self, stream: str, rank: int, offset: int, data: bytes) -> None:
        """Keep bytes at their offset; nothing is written beyond a hole, and writing the same again changes nothing."""
        if offset > self.size(stream, rank):
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(self.path(stream, rank), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(handle, data, offset)
        finally:
            os.close(handle)

    def ranks(self, stream: str) -> list[int]:
        """Ranks of which anything is kept."""
        found = self.folder.glob(f"{stream}-*.log") if self.folder.is_dir() else iter(())
        return sorted(int(path.stem.rpartition("-")[2]) for path in found)

    def read(self, stream: str, ranks: Sequence[int], tail: int) -> Iterator[Output]:
        """What is kept of a stream, rank by rank; the last `tail` lines of each, or all for 0."""
        for rank in self.ranks(stream):
            if ranks and rank not in ranks:
                continue
            size = self.size(stream, rank)
            start = _start_of_last_lines(self.path(stream, rank), tail) if tail and size else 0
            yield from self.between(stream, rank, start, size)

    def between(self, stream: str, rank: int, start: int, end: int) -> Iterator[Output]:
        """A part of a copy, in pieces that are small enough for any memory."""
        if start >= end:
            return
        with self.path(stream, rank).open("rb") as file:
            file.seek(start)
            while start < end and (data := file.read(min(_PIECE_BYTES, end - start))):
                start += len(data)
                yield Output(rank, stream, data)


def _start_of_last_lines(path: Path, count: int) -> int:
    """Where the last `count` lines begin: lines end with a newline, as the agent counts them, the last one may not."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = len(text)
        end = start - 1 if text[start - 1 :] == b"\n" else start
        for _ in range(count):
            start = text.rfind(b"\n", 0, end) + 1
            if start == 0:
                break
            end = start - 1
        return start


def live(
    world: World, row: ClusterRow, job_id: int, ups: Sequence[Up], *, follow: bool, tail: int, patience_s: float
) -> Iterator[Output]:
    """Output from the nodes: set-up of all ranks, then run of all ranks, each in the order it comes.

    What is kept already is not fetched again.

    Raises:
        StyxError: A node's log could not be read to its end; all others were. Of a job that ended it is only reported.
    """
    from styx.transport.logs import Source, follow_all

    kept = Kept(world, row.key, job_id)
    failed: StyxError | None = None
    watch = JobWatch(job_id, ups) if follow and len(ups) > 1 else None
    for stream in STREAMS:
        sources = []
        for up in ups:
            rank = up.node.rank
            size = kept.size(stream, rank)
            if size and not tail:
                yield from kept.between(stream, rank, 0, size)
            start = -tail if tail else size
            if watch is None:
                sources.append(Source(rank, up.agent, job_id, stream, start))
            else:
                over, lost = watch.over(stream), watch.silent(rank)
                sources.append(Source(rank, watch.listening(up), job_id, stream, start, over, lost))
        for piece in follow_all(sources, wait=follow, patience_s=patience_s):
            if piece.error is not None:
                failed = failed or piece.error
                continue
            try:
                kept.write(stream, piece.rank, piece.offset, piece.data)
            except OSError as error:
                world.hub.report(f"the output of job {job_id} can't be kept in {kept.folder}: {error.strerror}")
            yield Output(piece.rank, stream, piece.data)
    if watch is not None and watch.lost:
        raise Unreachable(
            f"node 0 of {row.name} was lost: it does not answer, while others do",
            hint=f"`styx status --refresh` asks the cloud; `styx down {row.name}` ends the rest",
        )
    if failed is not None and watch is not None and watch.ended:
        world.hub.report(f"the output of job {job_id} is incomplete: {failed.message}")  # its end says more
    elif failed is not None:
        raise failed


class Listening:
    """A rank's agent; each of its answers is noted."""

    def __init__(self, agent: Caller, note: Callable[[], None]) -> None:
        self._agent, self._note = agent, note

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Ask the agent."""
        answer = self._agent.call(method, params, timeout_s=timeout_s)
        self._note()
        return answer


class JobWatch:
    """Follows a job's state on rank 0, for the streams of ranks whose agents do not know the job's end.

    Attributes:
        lost: Rank 0 was silent for too long while another rank answered: without it no rank goes on.
        ended: Rank 0 said that the job has ended.
    """

    def __init__(self, job_id: int, ups: Sequence[Up], clock: Callable[[], float] = time.monotonic) -> None:
        self._job_id, self._clock = job_id, clock
        self._head = next((up for up in ups if up.node.rank == 0), None)
        self._state = ""
        self._heard = dict.fromkeys((up.node.rank for up in ups), clock())
        self.lost = self.ended = False
        if self._head is not None:
            threading.Thread(target=self._follow, name="styx job watch", daemon=True).start()

    def listening(self, up: Up) -> Caller:
        """The agent of a rank, as the streams shall ask it."""
        return Listening(up.agent, lambda: self._hear(up.node.rank))

    def _hear(self, rank: int) -> None:
        self._heard[rank] = self._clock()

    def _follow(self) -> None:
        assert self._head is not None
        agent = self.listening(self._head)
        try:
            while self._state not in TERMINAL_STATES:
                asked = {"job_id": self._job_id, "not_state": self._state, "wait_s": _WATCH_S}
                with contextlib.suppress(DeadlineExceeded):
                    self._state = str(agent.call("job.wait", asked, timeout_s=_WATCH_S + 30.0)["state"])
                    self.ended = self._state in TERMINAL_STATES
        except StyxError:
            self._state = FAILED_DRIVER  # its own stream says why

    def over(self, stream: str) -> Callable[[], bool]:
        """Whether a stream has ended, as far as the job's state tells."""
        if stream == "setup":
            return lambda: self._gone() or self._state not in ("", PENDING, SETTING_UP)
        return lambda: self._gone() or self._state in TERMINAL_STATES

    def silent(self, rank: int) -> Callable[[], bool]:
        """Whether a rank whose streams are over had said nothing for long: its node was lost, and is not waited for."""
        if rank == 0:
            return lambda: self.lost
        return lambda: self.ended and self._clock() - self._heard[rank] > _SILENT_S

    def _gone(self) -> bool:
        if self._head is None or self._state in TERMINAL_STATES:
            return self.lost
        now = self._clock()
        others = [heard for rank, heard in self._heard.items() if rank]
        if now - self._heard[0] > HEAD_SILENT_S and any(now - heard < _WATCH_S for heard in others):
            self.lost = True
        return self.lost


def keep(world: World, row: ClusterRow, ups: Sequence[Up], job_ids: Sequence[int], *, patience_s: float = 2.0) -> None:
    """Fetch what is not yet kept of these jobs. Best effort: what can't be had is left."""
    for job_id in job_ids:
        total = 0
        with contextlib.suppress(StyxError, OSError):
            for output in live(world, row, job_id, ups, follow=False, tail=0, patience_s=patience_s):
                total += len(output.data)
                if total > KEEP_BYTES:
                    break
