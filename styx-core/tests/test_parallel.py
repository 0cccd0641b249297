"""Many things at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from subprocess import PIPE

import pytest

from styx.parallel import in_parallel, within


def test_results_are_in_the_order_of_the_items_and_errors_wait_for_the_rest() -> None:
    ended: list[int] = []
    barrier = threading.Barrier(3, timeout=20)

    def act(number: int) -> int:
        barrier.wait()
        ended.append(number)
        if number == 1:
            raise ValueError(str(number))
        return number * 2

    with pytest.raises(ValueError, match="1"):
        in_parallel(act, [0, 1, 2])
    assert sorted(ended) == [0, 1, 2]
    assert in_parallel(lambda number: number * 2, [3, 1, 2], at_once=2) == [6, 2, 4]
    assert in_parallel(lambda number: number, []) == []


def test_what_is_not_there_in_time_is_none() -> None:
    never = threading.Event()
    try:
        found = within(lambda number: number if number != 1 else int(never.wait(60)), [0, 1, 2], timeout_s=0.5)
        assert found == [0, None, 2]
    finally:
        never.set()


WAITING = """
import threading, polars
from styx.parallel import in_parallel

def act(number):
    print(number, flush=True)
    threading.Event().wait(60)

in_parallel(act, [0, 1, 2, 3], at_once=2)
"""


def test_ctrl_c_ends_the_wait_for_what_is_under_way() -> None:
    """Also where Polars was imported, whose own handler makes the system go on with a wait."""
    process = subprocess.Popen([sys.executable, "-c", WAITING], stdout=PIPE, stderr=PIPE, text=True)
    assert process.stdout is not None
    begun = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    try:
        more, err = process.communicate(timeout=40)
    finally:
        process.kill()
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert (sorted(begun), more) == (["0\n", "1\n"], "")  # the others are not begun
