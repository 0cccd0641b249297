"""When a client that follows a gang counts rank 0 as lost."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from styx.errors import Unreachable
from styx.provision.logs import HEAD_SILENT_S, JobWatch


class Agent:
    """Answers until it is silenced."""

    def __init__(self, state: str = "RUNNING") -> None:
        self.state = state
        self.silent = threading.Event()
        self.asked = threading.Event()

    def call(self, method: str, params: Any = None, *, timeout_s: float = 30.0) -> dict[str, Any]:
        self.asked.set()
        if self.silent.wait(0.01):
            threading.Event().wait(5)
            raise Unreachable("gone")
        return {"state": self.state}


def watch_of(*agents: Agent) -> tuple[JobWatch, list[float], list[Any]]:
    now = [0.0]
    ups: Any = [SimpleNamespace(node=SimpleNamespace(rank=rank), agent=agent) for rank, agent in enumerate(agents)]
    return JobWatch(1, ups, lambda: now[0]), now, [None, *ups[1:]]


def settle(watch: JobWatch) -> None:
    threading.Event().wait(0.1)


def test_rank_0_alone_being_silent_is_a_loss_and_all_being_silent_is_not() -> None:
    head, other = Agent(), Agent()
    watch, now, ups = watch_of(head, other)
    head.asked.wait(10)
    over = watch.over("run")
    settle(watch)
    assert not over()
    head.silent.set()
    settle(watch)
    now[0] = HEAD_SILENT_S + 100
    assert not over()  # perhaps this machine has lost its network
    assert not watch.lost
    watch.listening(ups[1]).call("log.read")
    assert over()
    assert watch.lost
    assert not watch.ended


def test_a_job_that_ended_is_over_whatever_is_silent_later() -> None:
    head, other = Agent("SUCCEEDED"), Agent()
    watch, now, ups = watch_of(head, other)
    for _ in range(200):
        if watch.ended:
            break
        settle(watch)
    now[0] = 1000
    watch.listening(ups[1]).call("log.read")
    assert watch.over("setup")()
    assert watch.over("run")()
    assert watch.ended
    assert not watch.lost
    assert not watch.silent(0)()
    assert not watch.silent(1)()  # it has just answered
    now[0] += 60
    assert watch.silent(1)()
