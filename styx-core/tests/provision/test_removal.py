"""Taking machines away on clouds whose listings are late."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from styx.driver import Node, NodeState, Place
from styx.errors import DriverError
from styx.provision import removal
from styx.testing.fakecloud import FakeDriver
from tests.enginebench import Bench

LISTED, TERMINATED = FakeDriver.nodes, FakeDriver.terminate


def test_what_the_cloud_has_agreed_to_end_is_not_waited_for_as_if_it_were_new(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clouds drop ended machines from the list, and a driver may take a young one that is missing for a late one."""
    bench.launch()
    row = bench.client.world.store.cluster("c")
    assert row is not None
    assert row.place is not None
    young = [node.model_copy(update={"state": NodeState.PENDING}) for node in row.nodes]

    def nodes(self: FakeDriver, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        found = [node for node in LISTED(self, place, cluster) if node.state is not NodeState.TERMINATED]
        there = {node.id for node in found}
        return [*found, *(node for node in known if node.id not in there)]

    monkeypatch.setattr(FakeDriver, "nodes", nodes)
    removal.remove(bench.client.world, row.place, row.key, known=young, deadline_s=5.0)
    assert bench.alive() == []


def test_a_machine_that_was_too_new_to_be_ended_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.launch()
    row = bench.client.world.store.cluster("c")
    assert row is not None
    assert row.place is not None
    asked: list[list[str]] = []

    def terminate(self: FakeDriver, nodes: Sequence[Node]) -> None:
        """The first time the cloud does not know the machine yet, which the contract calls no error."""
        asked.append([node.id for node in nodes])
        if len(asked) > 1:
            TERMINATED(self, nodes)

    monkeypatch.setattr(FakeDriver, "terminate", terminate)
    monkeypatch.setattr(removal, "ASK_AGAIN_S", 0.2)
    removal.remove(bench.client.world, row.place, row.key, deadline_s=20.0)
    assert asked == [[row.nodes[0].id]] * 2
    assert bench.alive() == []


def test_what_is_still_there_is_asked_of_the_cloud_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.launch()
    row = bench.client.world.store.cluster("c")
    assert row is not None
    assert row.place is not None
    away = row.nodes[0].model_copy(update={"id": "away", "state": NodeState.UNREACHABLE})

    def nodes(self: FakeDriver, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        return [away, *LISTED(self, place, cluster)]

    def terminate(self: FakeDriver, nodes: Sequence[Node]) -> None:
        TERMINATED(self, [node for node in nodes if node.id != "away"])
        raise DriverError("away does not answer")

    with monkeypatch.context() as failing:
        failing.setattr(FakeDriver, "nodes", nodes)
        failing.setattr(FakeDriver, "terminate", terminate)
        with pytest.raises(DriverError, match=r"still there: away \(unreachable\)$"):
            removal.remove(bench.client.world, row.place, row.key, deadline_s=20.0)
    assert bench.alive() == []
