"""Two clients at once, each a process of its own: the same name, and down against launch. One result comes out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Styx


def finished(client: subprocess.Popen[bytes]) -> tuple[int, str]:
    out, err = client.communicate(timeout=150)
    return client.returncode, (out + err).decode()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_launches_of_one_name_make_one_cluster(styx: Styx) -> None:
    pair = [styx.begin("launch", "-c", "twin", "--infra", "local", "--", f"echo job {number}") for number in (1, 2)]
    codes = [finished(client) for client in pair]
    # Both may find the name free; then one makes the cluster, and the other is told so or puts its job there.
    assert all(code in (0, 67) for code, _ in codes), codes
    assert any(code == 0 for code, _ in codes)
    (view,) = styx.json("status", "--refresh")
    assert (view["name"], view["state"], view["nodes"]) == ("twin", "UP", 1)
    assert len(styx.json("queue", "twin")) == sum(code == 0 for code, _ in codes)
    assert len(styx.node_folders()) == 1
    styx("down", "twin", "--yes")
    assert styx.json("sweep")["orphans"] == []
    styx.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_down_against_launch_ends_in_one_of_both(styx: Styx) -> None:
    styx("launch", "-c", "torn", "--infra", "local", "--", "true")
    ending = styx.begin("down", "torn", "--yes")
    time.sleep(0.3)
    making = styx.begin("launch", "-c", "torn", "--infra", "local", "--", "true")
    down, launch = finished(ending), finished(making)
    assert down[0] == 0, down
    assert launch[0] in (0, 67), launch
    views = styx.json("status", "--refresh")
    # The launch came first and was ended, or came second and made a new one; never half of either.
    assert [view["state"] for view in views] in ([], ["UP"]), (views, down, launch)
    assert len(styx.node_folders()) == len(views)
    if views:
        assert styx.json("queue", "torn")
    styx("down", "--all", "--yes")
    assert styx.json("sweep")["orphans"] == []
    styx.assert_nothing_left()
