"""A job's output: bytes as they came, or whole labelled lines."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from styx.api import LogLine
from styx_cli.stream import JsonLineWriter, LineWriter

PIECES = st.lists(
    st.tuples(st.integers(0, 2), st.text(st.sampled_from("ab\r\n\xff"), max_size=6)), min_size=0, max_size=20
)
capture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def line(rank: int, data: bytes, stream: str = "run") -> LogLine:
    return LogLine(rank=rank, stream=stream, data=data)  # type: ignore[arg-type]


@given(PIECES)
@capture
def test_one_rank_passes_every_byte(capfdbinary: pytest.CaptureFixture[bytes], pieces: list[tuple[int, str]]) -> None:
    writer = LineWriter(label=False)
    for _, text in pieces:
        writer.write(line(0, text.encode("latin-1")))
    writer.finish()
    assert capfdbinary.readouterr().out == b"".join(text.encode("latin-1") for _, text in pieces)


@given(PIECES)
@capture
def test_several_ranks_give_whole_lines(
    capfdbinary: pytest.CaptureFixture[bytes], pieces: list[tuple[int, str]]
) -> None:
    writer = LineWriter(label=True)
    whole: dict[int, bytes] = {}
    for rank, text in pieces:
        data = text.encode("latin-1")
        whole[rank] = whole.get(rank, b"") + data
        writer.write(line(rank, data))
    writer.finish()
    shown = capfdbinary.readouterr().out.split(b"\n")
    assert shown.pop() == b""
    for rank, data in whole.items():
        label = b"(rank %d) " % rank
        mine = [each.removeprefix(label) for each in shown if each.startswith(label)]
        expected = data.split(b"\n")
        if expected[-1] == b"":
            expected.pop()
        assert mine == expected


def test_setup_and_driver_go_to_stderr(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    writer = LineWriter(label=False)
    writer.write(line(0, b"installing\n", "setup"))
    writer.write(line(0, b"out\n"))
    writer.write(line(0, b"ray\n", "driver"))
    assert writer.setup_seen
    assert capfdbinary.readouterr() == (b"out\n", b"installing\nray\n")


def test_json_lines_are_whole_and_parse(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    writer = JsonLineWriter()
    for data in (b"a\nb", b"\xff\nlast"):
        writer.write(line(1, data))
    writer.finish()
    rows = [json.loads(row) for row in capfdbinary.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["a", "b�", "last"]
    assert {row["rank"] for row in rows} == {1}
