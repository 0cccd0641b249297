import base64
import os
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx_agent import logs, watch


@given(text=st.lists(st.sampled_from([b"a", b"bc", b"\n"]), max_size=40).map(b"".join), lines=st.integers(1, 8))
def test_start_of_the_last_lines(tmp_path_factory, text, lines):
    path = tmp_path_factory.getbasetemp() / "lines.log"
    path.write_bytes(text)
    start = logs.start_of_last_lines(str(path), lines)
    assert text[start:] == b"".join(text.splitlines(keepends=True)[-lines:])


def test_start_of_the_last_lines_crosses_blocks(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\n" % n for n in range(50_000)))
    start = logs.start_of_last_lines(str(path), 20_000)
    assert path.read_bytes()[start:].startswith(b"line 30000\n")


def test_follow_is_byte_for_byte_over_dropped_connections(node):
    """Random bytes, many writes; the connection is dropped after every chunk and the agent is killed now and then."""
    source = node.root / "source"
    source.write_bytes(os.urandom(1_500_000))
    script = f"for i in $(seq 0 99); do dd if={source} bs=15000 skip=$i count=1 status=none; sleep 0.01; done"
    job_id = node.submit(script)
    received = b""
    for turn in range(10_000):
        size = 1 + (turn * 7919) % 60_000
        chunk = node.call("log.read", job_id=job_id, stream="run", offset=len(received), max_bytes=size, wait_s=5)
        data = base64.b64decode(chunk["data"])
        assert chunk["offset"] == len(received)
        assert len(data) <= size
        received += data
        if chunk["eof"]:
            break
        if turn in (5, 20):
            node.kill("agent")
    assert received == source.read_bytes()


def test_follow_through_the_bridge_survives_its_death(shared):
    job_id = shared.submit("for i in $(seq 20); do echo $i; sleep 0.05; done")
    hello = b'{"id": 1, "method": "hello", "params": {"versions": [1]}}\n'
    for _ in range(2):
        with subprocess.Popen(
            shared.argv("connect"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=shared.env
        ) as bridge:
            bridge.stdin.write(hello + b'{"id": 2, "method": "log.read", "params": {"job_id": %d, ' % job_id)
            bridge.stdin.write(b'"stream": "run", "offset": 0, "wait_s": 9}}\n')
            bridge.stdin.flush()
            bridge.stdout.readline()
            bridge.stdout.readline()
            bridge.kill()
    assert shared.log(job_id) == "".join(f"{n}\n" for n in range(1, 21))


def test_tail_and_reading_beyond_the_end(shared):
    job, _ = shared.run("seq 100; printf last")
    ask = {"job_id": job["job_id"], "stream": "run"}
    chunk = shared.call("log.read", **ask, offset=-2)
    assert (base64.b64decode(chunk["data"]), chunk["eof"]) == (b"100\nlast", True)
    assert chunk["offset"] == len("".join(f"{n}\n" for n in range(1, 100)))
    beyond = shared.call("log.read", **ask, offset=10_000)
    assert (beyond["offset"], beyond["data"], beyond["eof"]) == (10_000, "", True)


def test_reader_that_waits_gets_a_line_when_it_is_written_and_eof_when_the_job_ends(shared, tmp_path):
    go = tmp_path / "go"
    job_id = shared.submit(f"while [ ! -e {go} ]; do sleep 0.02; done; echo now; sleep 0.1")
    shared.wait(job_id, "RUNNING")
    got = []
    reader = threading.Thread(target=lambda: got.append(shared.log(job_id)))
    reader.start()
    go.touch()
    reader.join(30)
    assert got == ["now\n"]


def test_streams_that_never_come_are_at_their_end(shared):
    job, _ = shared.run("true")
    for stream in ("setup", "driver"):
        assert shared.log(job["job_id"], stream) == ""


@pytest.mark.parametrize("with_inotify", [True, False])
def test_waker_wakes_on_growth_on_poke_and_not_without(tmp_path, monkeypatch, with_inotify):
    if not with_inotify:
        monkeypatch.setattr(watch, "_open_inotify", lambda: None)
    watched = watch.Watch()
    folder = tmp_path / "logs"
    with watched.subscribe(str(folder)) as waker:
        waker.clear()  # the folder does not exist yet: then it is looked at now and then
        waker.wait(0.01)
        folder.mkdir()
        waker.clear()
        assert (waker.number is not None) == with_inotify
        assert not waker.event.is_set()
        if with_inotify:
            threading.Timer(0.05, (folder / "run.log").write_bytes, [b"x"]).start()
            waker.wait(20)
            assert waker.event.is_set()
            waker.clear()
        watched.poke()
        assert waker.event.is_set()
