"""A cloud has only a part of what is asked for, and the client lives: all or nothing, and never both places at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.survival import Case, Life
from tests.chaos.targets import Aws, Lambda, Target

SLOW_END_S = 1.5
"""How long machines take to go; a place asked too early would see them."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("cloud", ["aws", "lambda"])
def test_a_part_of_a_gang_is_gone_before_the_next_place_is_asked(
    cloud: str, target_of: Callable[[str], Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = target_of(cloud)
    assert isinstance(target, Aws | Lambda)
    monkeypatch.setattr(target.cloud, "terminate_s", SLOW_END_S)
    case = Case("launch", fault="second_refused", nodes=2, anywhere=True)
    with ExitStack() as stack:
        home = stack.enter_context(target.home(tmp_path / "case"))
        life = Life(target, tmp_path / "case", home)
        stack.callback(life.client.close)
        there: list[int] = []
        unwatch = target.watch(life.store, lambda: there.append(len(target.machines(home, life.store))))
        stack.callback(unwatch)
        stack.callback(life.stage(case))
        done = life.run(case)
        assert done.returncode == 0, done.stderr
        assert there == [0, 1, 0, 1], done.stderr
        attempts = life.client.world.store.attempts(life.client.world.store.clusters()[0].key)
        assert [each.state for each in attempts] == ["released", "made"]
        assert len({each.place for each in attempts}) == 2
        assert len(target.machines(home, life.store)) == 2
        life.check(f"{cloud}: part of a gang")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("cloud", ["aws", "lambda"])
def test_a_part_of_a_gang_and_no_other_place_is_nothing(
    cloud: str, target_of: Callable[[str], Target], tmp_path: Path
) -> None:
    target = target_of(cloud)
    case = Case("launch", fault="second_refused", nodes=2)
    with ExitStack() as stack:
        home = stack.enter_context(target.home(tmp_path / "case"))
        life = Life(target, tmp_path / "case", home)
        stack.callback(life.client.close)
        stack.callback(life.stage(case))
        done = life.run(case)
        assert done.returncode == 69, done.stderr
        assert "every place refused" in done.stderr
        assert target.machines(home, life.store) == {}
        assert target.things(home, life.store) == []
        assert life.client.world.store.clusters() == []
        life.check(f"{cloud}: part of a gang")
