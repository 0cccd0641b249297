"""Two clients at once, each a process of its own: the same name, and down against launch. One result comes out."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chaos.conftest import AT_ONCE
from tests.chaos.survival import DEADLINE_S, Case, Life
from tests.chaos.targets import Target

if TYPE_CHECKING:
    import subprocess

    from tests.conftest import Styx

RACES = {
    ("launch", "launch"): (),
    ("launch", "sweep"): (),
    ("down", "launch"): ("launch",),
    ("down", "down"): ("launch",),
    ("stop", "down"): ("launch",),
    ("start", "down"): ("launch", "stop"),
    ("start", "launch"): ("launch", "stop"),
}
"""Who runs against whom, and what was done before."""
HEADSTARTS_S = (0.0, 0.4, 1.2)
WELL_ENDED = {0, 66, 67}
"""Done; the name is gone, or somebody else has changed the state."""


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


def race(target: Target, folder: Path, pair: tuple[str, str], headstart_s: float) -> None:
    """Two clients at one cluster; whatever comes out, the database and the cloud agree on it."""
    name = f"{target.name}: {pair[0]} against {pair[1]}, {headstart_s} s later"
    with ExitStack() as stack:
        home = stack.enter_context(target.home(folder))
        life = Life(target, folder, home)
        stack.callback(life.client.close)
        for verb in RACES[pair]:
            done = life.run(Case(verb))
            assert done.returncode == 0, f"{name}: {done.stderr}"
        first = stack.enter_context(life.begin(Case(pair[0])))
        time.sleep(headstart_s)
        second = stack.enter_context(life.begin(Case(pair[1])))
        said = [each.communicate(timeout=DEADLINE_S)[1] for each in (first, second)]
        codes = {first.returncode, second.returncode}
        assert codes <= WELL_ENDED, f"{name}: {first.returncode} and {second.returncode}: {said}"
        assert 0 in codes, f"{name}: {said}"
        assert "Traceback" not in "".join(said), f"{name}: {said}"
        life.check(name)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("cloud", "pair"), [("aws", ("down", "launch")), ("lambda", ("launch", "launch"))])
def test_two_clients_on_a_simulated_cloud(
    cloud: str, pair: tuple[str, str], target_of: Callable[[str], Target], tmp_path: Path
) -> None:
    race(target_of(cloud), tmp_path / "race", pair, 0.2)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cloud", ["local", "aws", "lambda", "runpod", "ssh"])
def test_every_race(cloud: str, target_of: Callable[[str], Target], tmp_path: Path) -> None:
    target = target_of(cloud)
    known = {*target.verbs, "sweep"}
    rows = [(pair, headstart) for pair, headstart in product(RACES, HEADSTARTS_S) if known >= set(pair)]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        futures = [pool.submit(race, target, tmp_path / str(number), *row) for number, row in enumerate(rows)]
    errors = [str(error) for future in futures if (error := future.exception()) is not None]
    assert errors == []
