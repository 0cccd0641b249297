"""Following logs through a real agent, and cutting them into lines."""

from __future__ import annotations

import base64
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.errors import DeadlineExceeded, NotFound, Unreachable
from styx.testing.processes import marked
from styx.transport.agent import AgentConnection
from styx.transport.base import NodeGone
from styx.transport.logs import HeldLines, Source, follow, follow_all

KEY = f"styx-w{os.getpid():x}-st0re101"
Connected = Callable[..., AgentConnection]
Submit = Callable[[AgentConnection, str], int]

SLOW = "for i in $(seq 1 400); do printf 'line %04d é\\n' $i; [ $((i % 10)) = 0 ] && sleep 0.02; done; printf end"


def kill_bridges(stop: threading.Event, times: list[int]) -> None:
    while not stop.wait(0.15):
        for pid in marked("STYX_NODE", f"{KEY}/0"):
            try:
                if b"\0connect\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    times.append(pid)
            except OSError:
                continue


def test_every_byte_once_while_connections_drop(connected: Connected, submit: Submit) -> None:
    connection = connected()
    stop, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_bridges, args=(stop, killed), daemon=True)
    killer.start()
    try:
        job = submit(connection, SLOW)
        pieces = list(follow(connection, job, "run"))
    finally:
        stop.set()
        killer.join(10)
    expected = "".join(f"line {number:04d} é\n" for number in range(1, 401)).encode() + b"end"
    assert b"".join(data for _, data in pieces) == expected
    assert [offset for offset, _ in pieces] == [
        sum(len(data) for _, data in pieces[:index]) for index in range(len(pieces))
    ]
    assert killed


def test_from_an_offset_from_the_tail_and_without_waiting(connected: Connected, submit: Submit) -> None:
    connection = connected()
    job = submit(connection, "printf 'one\\ntwo\\nthree\\n'; read line < gate")
    os.mkfifo(Path(connection.hello["home"]) / "gate")
    first = follow(connection, job, "run")
    seen = b""
    while seen != b"one\ntwo\nthree\n":
        seen += next(first)[1]
    assert list(follow(connection, job, "run", wait=False)) == [(0, seen)]
    assert list(follow(connection, job, "run", 4, wait=False)) == [(4, b"two\nthree\n")]
    assert list(follow(connection, job, "run", -1, wait=False)) == [(8, b"three\n")]
    connection.call("job.cancel", {"job_ids": [job]})
    assert list(first) == []
    with pytest.raises(NotFound):
        next(follow(connection, 99, "run"))


def test_ranks_are_merged_by_whole_lines(connected: Connected, submit: Submit) -> None:
    connection = connected()
    scripts = [
        f"for i in $(seq 1 60); do printf 'rank {rank} '; sleep 0.002; echo $i; done; printf last" for rank in (0, 1)
    ]
    sources = [Source(rank, connection, submit(connection, script), "run") for rank, script in enumerate(scripts)]
    sources.append(Source(2, connection, 99, "run"))
    pieces = list(follow_all(sources))
    for rank in (0, 1):
        mine = [piece for piece in pieces if piece.rank == rank]
        text = b"".join(piece.data for piece in mine).decode()
        assert text == "".join(f"rank {rank} {number}\n" for number in range(1, 61)) + "last"
        assert all(piece.data.endswith(b"\n") for piece in mine[:-1])
        assert [piece.offset for piece in mine] == [
            sum(len(piece.data) for piece in mine[:index]) for index in range(len(mine))
        ]
    (failed,) = [piece for piece in pieces if piece.rank == 2]
    assert isinstance(failed.error, NotFound)


def test_a_reader_that_stops_early_leaves_no_thread(connected: Connected, submit: Submit) -> None:
    connection = connected()
    job = submit(connection, "while :; do echo yes; done")
    before = threading.active_count()
    pieces = follow_all([Source(rank, connection, job, "run") for rank in range(3)])
    assert next(pieces).data.startswith(b"yes\n")
    pieces.close()
    end = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.01)
    assert threading.active_count() <= before
    connection.call("job.cancel", {"job_ids": [job]})


class FlakyAgent:
    """Serves one log and raises what it is told to in between."""

    def __init__(self, text: bytes, moods: list[Exception | int]) -> None:
        self.text, self.moods = text, moods

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 30.0) -> dict[str, Any]:
        assert params is not None
        mood = self.moods.pop(0) if self.moods else len(self.text)
        if isinstance(mood, Exception):
            raise mood
        data = self.text[params["offset"] : params["offset"] + mood]
        end = params["offset"] + len(data)
        return {"offset": params["offset"], "data": base64.b64encode(data).decode(), "eof": end == len(self.text)}


def test_an_agent_that_stays_away_is_given_up() -> None:
    for error in (Unreachable("away"), DeadlineExceeded("away")):
        with pytest.raises(type(error), match="away"):
            list(follow(FlakyAgent(b"abc", [1, *[error] * 1000]), 1, "run", patience_s=0.6))
    with pytest.raises(NodeGone):
        list(follow(FlakyAgent(b"abc", [1, NodeGone("gone")]), 1, "run"))


def test_patience_begins_anew_after_each_answer() -> None:
    moods: list[Exception | int] = [1, Unreachable("away"), 1, Unreachable("away"), 1]
    assert b"".join(data for _, data in follow(FlakyAgent(b"abc", moods), 1, "run", patience_s=0.7)) == b"abc"


@given(st.lists(st.text("ab\r\né", max_size=8).map(str.encode), max_size=20))
def test_lines_are_whole_and_nothing_is_lost(parts: list[bytes]) -> None:
    held = HeldLines()
    offset, pieces = 0, list[tuple[int, bytes]]()
    for part in parts:
        pieces += held.add(offset, part)
        offset += len(part)
    assert all(data.endswith((b"\n", b"\r")) for _, data in pieces)
    pieces += held.rest()
    assert b"".join(data for _, data in pieces) == b"".join(parts)
    assert [start for start, _ in pieces] == [sum(len(data) for _, data in pieces[:i]) for i in range(len(pieces))]
    # a carriage return before a line feed is half of one line end
    assert not any(one.endswith(b"\r") and two.startswith(b"\n") for (_, one), (_, two) in itertools.pairwise(pieces))


def test_a_line_without_end_is_not_held_for_ever() -> None:
    held = HeldLines()
    assert held.add(5, b"x" * 65536) == []
    assert held.add(65541, b"y") == [(5, b"x" * 65536 + b"y")]
    assert held.add(65542, b"z\n") == [(65542, b"z\n")]
    assert held.rest() == []


@pytest.mark.parametrize(("patience_s", "lost"), [(0.3, None), (600.0, lambda: True)], ids=["silent", "lost"])
def test_a_rank_that_is_silent_after_the_jobs_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, patience_s: float, lost: Callable[[], bool] | None
) -> None:
    monkeypatch.setattr("styx.transport.logs.AFTER_END_S", patience_s)
    asleep = threading.Event()

    class Silent:
        def call(self, *_: Any, **__: Any) -> dict[str, Any]:
            asleep.wait(60)
            raise Unreachable("at last")

    ended = threading.Event()
    sources = [
        Source(0, FlakyAgent(b"first\n", []), 1, "run", 0, ended.is_set),
        Source(1, Silent(), 1, "run", 0, ended.is_set, lost),
    ]
    pieces = follow_all(sources)
    assert next(pieces).data == b"first\n"
    ended.set()
    (last,) = list(pieces)
    asleep.set()
    assert last.rank == 1
    assert isinstance(last.error, Unreachable)
    assert "rank 1 no longer answers" in str(last.error)
