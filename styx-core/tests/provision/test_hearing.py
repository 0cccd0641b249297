"""What nodes say, laid over what their cloud says."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from styx.api.convert import cluster_view
from styx.driver import Node, NodeState, Place
from styx.provision.hearing import ALIVE, STEP, Answer, merged, silent_of
from styx.state.rows import ClusterRow, ClusterState, Event

PLACE = Place(cloud="c", account="a", region="r")
NOW = datetime(2026, 11, 1, 12, 30, tzinfo=UTC)
T = NOW.timestamp()


def node(rank: int, state: NodeState = NodeState.RUNNING) -> Node:
    return Node(id=f"n{rank}", cluster="styx-x-abc12301", rank=rank, place=PLACE, state=state)


def test_a_node_that_does_not_answer_is_unreachable_since_then_until_it_answers() -> None:
    nodes = [node(0), node(1)]
    first = merged(nodes, [Answer(0), Answer(1, "no answer within 15 s")], {}, T)
    assert [each.state for each in first.nodes] == [NodeState.RUNNING, NodeState.UNREACHABLE]
    assert first.silent == {1: T}
    assert first.note == "node 1 has not answered since 2026-11-01 12:30:00 UTC: no answer within 15 s"
    second = merged(nodes, [Answer(0), Answer(1, "refused")], first.silent, T + 60)
    assert second.silent == {1: T}  # since the first time
    unasked = merged(nodes, [], second.silent, T + 90)
    assert [each.state for each in unasked.nodes] == [NodeState.RUNNING, NodeState.UNREACHABLE]
    again = merged(nodes, [Answer(0), Answer(1)], second.silent, T + 120)
    assert (again.silent, again.note) == ({}, None)
    assert all(each.state is NodeState.RUNNING for each in again.nodes)


def test_what_answers_is_reachable_whatever_its_cloud_calls_it() -> None:
    assert merged([node(0, NodeState.UNREACHABLE)], [Answer(0)], {}, T).nodes[0].state is NodeState.RUNNING


def test_many_silent_nodes_are_told_in_few_words() -> None:
    heard = merged([node(rank) for rank in range(9)], [Answer(rank, "off") for rank in range(9)], {}, T)
    assert (heard.note or "").endswith("node 2 has not answered since 2026-11-01 12:30:00 UTC: off; and 6 more nodes")


NODES = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(list(NodeState))), max_size=4, unique_by=lambda each: each[0]
).map(lambda rows: [node(rank, state) for rank, state in rows])
ANSWERS = st.dictionaries(st.integers(0, 3), st.sampled_from([None, "off"])).map(
    lambda said: [Answer(rank, silence) for rank, silence in said.items()]
)


@given(NODES, ANSWERS, st.dictionaries(st.integers(0, 3), st.just(T - 5)))
def test_only_machines_that_may_answer_are_judged(
    nodes: list[Node], answers: list[Answer], before: dict[int, float]
) -> None:
    heard = merged(nodes, answers, before, T)
    assert [each.rank for each in heard.nodes] == [each.rank for each in nodes]
    for given_node, shown in zip(nodes, heard.nodes, strict=True):
        assert shown.state is given_node.state or {shown.state, given_node.state} <= ALIVE
        assert shown.rank not in heard.silent or shown.state is NodeState.UNREACHABLE
    assert bool(heard.note) == bool(heard.silent)


def test_who_is_silent_is_read_from_the_last_word_on_it() -> None:
    def event(step: str, **data: object) -> Event:
        return Event(cluster="k", operation="o", step=step, phase="note", at=NOW, data=data)

    assert silent_of([]) == {}
    told = [event(STEP, silent={"1": T}), event("seen")]
    assert silent_of(told) == {1: T}
    assert silent_of([*told, event(STEP, silent={})]) == {}


def test_only_what_is_up_is_shown_as_unreachable() -> None:
    row = ClusterRow(
        key="styx-x-abc12301", name="x", owner="me", state=ClusterState.UP, num_nodes=1, place=PLACE,
        nodes=(node(0, NodeState.UNREACHABLE),), created_at=NOW, last_use_at=NOW,
    )  # fmt: skip
    assert cluster_view(row, None).state is ClusterState.UNREACHABLE
    stopped = row.model_copy(update={"state": ClusterState.STOPPED})
    assert cluster_view(stopped, None).state is ClusterState.STOPPED
