"""What a record should say, given what the cloud shows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.driver import Ended, Node, NodeState, Place, Problem
from styx.provision import world
from styx.provision.reconcile import SETTLED, judge
from styx.state.rows import ClusterRow, ClusterState

PLACE = Place(cloud="c", account="a", region="r")
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def row(state: ClusterState, num_nodes: int = 2, note: str | None = None) -> ClusterRow:
    return ClusterRow(
        key="styx-x-abc12301",
        name="x",
        owner="me",
        state=state,
        num_nodes=num_nodes,
        place=PLACE,
        note=note,
        created_at=NOW,
        last_use_at=NOW,
    )


def node(rank: int, state: NodeState, **fields: object) -> Node:
    values = {"id": f"n{rank}", "cluster": "styx-x-abc12301", "rank": rank, "place": PLACE, "state": state}
    return Node.model_validate(values | fields)


def both(state: NodeState, **fields: object) -> list[Node]:
    return [node(0, state, **fields), node(1, state, **fields)]


def test_up_stays_up_and_keeps_its_note() -> None:
    verdict = judge(row(ClusterState.UP, note="n"), both(NodeState.RUNNING), abandoned=True)
    assert (verdict.state, verdict.note) == (ClusterState.UP, "n")


def test_stopped_behind_our_back() -> None:
    verdict = judge(row(ClusterState.UP), both(NodeState.STOPPED), abandoned=True)
    assert verdict.state is ClusterState.STOPPED
    assert verdict.note


def test_started_behind_our_back() -> None:
    assert judge(row(ClusterState.STOPPED), both(NodeState.RUNNING), abandoned=True).state is ClusterState.UP


def test_preempted_node_is_named_with_the_clouds_words() -> None:
    gone = node(1, NodeState.TERMINATED, ended=Ended(cause="preempted", message="capacity needed back"))
    verdict = judge(row(ClusterState.UP), [node(0, NodeState.RUNNING), gone], abandoned=True)
    assert verdict.state is ClusterState.LOST
    assert verdict.note == "node 1 was preempted: capacity needed back"
    assert not verdict.finish


def test_a_failed_node_is_named_with_its_problem() -> None:
    failed = node(0, NodeState.FAILED, problem=Problem(error="DriverError", message="disk died"))
    verdict = judge(row(ClusterState.UP), [failed, node(1, NodeState.RUNNING)], abandoned=True)
    assert verdict.note == "node 0 failed: disk died"


def test_all_gone_without_a_word_is_lost() -> None:
    verdict = judge(row(ClusterState.UP), [], abandoned=True)
    assert verdict.state is ClusterState.LOST
    assert not verdict.finish


@pytest.mark.parametrize(
    ("lease", "seen", "finish"),
    [
        ({"action": "down", "idle_s": 60.0}, [], True),
        ({"action": "stop", "idle_s": 60.0}, [], False),
        ({"action": "down"}, [], False),
        ({}, [], False),
        ({"action": "down", "idle_s": 60.0}, [node(0, NodeState.TERMINATED, ended=Ended(cause="preempted"))], False),
    ],
)
def test_gone_without_a_word_is_what_a_lease_may_do(lease: dict[str, object], seen: list[Node], finish: bool) -> None:
    verdict = judge(row(ClusterState.UP).model_copy(update={"lease": lease}), seen, abandoned=True)
    assert (verdict.state, verdict.finish) == (ClusterState.LOST, finish)


def test_ended_by_its_own_lease_can_be_released() -> None:
    verdict = judge(row(ClusterState.UP), both(NodeState.TERMINATED, ended=Ended(cause="requested")), abandoned=True)
    assert verdict.finish


def test_a_stop_whose_client_died_is_finished_by_looking() -> None:
    verdict = judge(row(ClusterState.STOPPING), both(NodeState.STOPPED), abandoned=True)
    assert verdict.state is ClusterState.STOPPED


@pytest.mark.parametrize(
    "state", [ClusterState.INIT, ClusterState.STOPPING, ClusterState.STARTING, ClusterState.TERMINATING]
)
def test_somebody_at_work_is_left_alone(state: ClusterState) -> None:
    assert judge(row(state, note="busy"), both(NodeState.RUNNING), abandoned=False).note == "busy"
    verdict = judge(row(state), both(NodeState.RUNNING), abandoned=True)
    assert verdict.state is state
    assert "interrupted" in (verdict.note or "")
    assert "2 running" in (verdict.note or "")


NODES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(list(NodeState))), max_size=4, unique_by=lambda each: each[0]
).map(lambda rows: [node(rank, state) for rank, state in rows])


@given(st.sampled_from(sorted(SETTLED)), NODES)
def test_never_up_unless_every_node_runs(state: ClusterState, nodes: list[Node]) -> None:
    verdict = judge(row(state, num_nodes=3), nodes, abandoned=True)
    states = {each.rank: each.state for each in nodes}
    alive = {NodeState.RUNNING, NodeState.UNREACHABLE}
    assert (verdict.state is ClusterState.UP) == all(states.get(rank) in alive for rank in range(3))
    if verdict.state is ClusterState.LOST:
        assert verdict.note
    if verdict.finish:
        assert all(states.get(rank, NodeState.TERMINATED) is NodeState.TERMINATED for rank in range(3))


@given(st.sampled_from(list(ClusterState)), NODES, st.booleans())
def test_an_answer_for_everything(state: ClusterState, nodes: list[Node], abandoned: bool) -> None:
    if state not in (ClusterState.TERMINATED, ClusterState.UNREACHABLE):
        judge(row(state, num_nodes=3), nodes, abandoned=abandoned)


def test_a_process_of_another_container_is_never_called_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers may share the home and the host name, and do not see each other's processes."""
    mine = world.new_holder()
    host, pid, _, nonce = mine.split(":")
    gone = f"{host}:{pid}:1:{nonce}"
    assert not world.holder_is_dead(mine)
    assert world.holder_is_dead(gone)
    monkeypatch.setattr(world.os, "readlink", lambda _: "pid:[17]")
    assert not world.holder_is_dead(gone)
