"""The gang state machine: pure, so it is driven by hypothesis without a cloud."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from styx.driver import Local, Node, NodeState, Place, Problem, Waiting
from styx.errors import (
    AmbiguousError,
    CapacityError,
    DeadlineExceeded,
    DriverError,
    QuotaError,
    Scope,
    TransientError,
    VendorDetail,
)
from styx.provision.gang import (
    LONGEST_BACKOFF_S,
    TROUBLE_S,
    Create,
    Fail,
    Gang,
    List,
    Listed,
    Made,
    Raised,
    Ready,
    decide,
)

PLACE = Place(cloud="c", account="a", region="r")
REACH = Local(home="/h", state="/s")
START = 1000.0


def gang(count: int = 2) -> Gang:
    return Gang(count, deadline=START + 100, limit=START + 1000, poll_s=1.0)


def node(rank: int = 0, state: NodeState = NodeState.RUNNING, **fields: object) -> Node:
    values = {"id": f"n{rank}", "cluster": "k", "rank": rank, "place": PLACE, "state": state, "reach": REACH}
    return Node.model_validate(values | fields)


def test_first_action_is_create() -> None:
    assert decide(gang(), None, START)[1] == Create()


def test_all_running_is_ready_in_rank_order() -> None:
    _, action = decide(gang(), Made((node(1), node(0))), START)
    assert isinstance(action, Ready)
    assert [each.rank for each in action.nodes] == [0, 1]


def test_of_two_nodes_of_a_rank_one_is_taken() -> None:
    twin = node(0, id="twin")
    _, action = decide(gang(), Made((node(0), twin, node(1))), START)
    assert isinstance(action, Ready)
    assert [each.id for each in action.nodes] == ["n0", "n1"]
    _, action = decide(gang(), Made((node(0), twin)), START)
    assert isinstance(action, Create)  # two of them are no two ranks


def test_running_without_a_way_to_it_is_not_ready() -> None:
    _, action = decide(gang(1), Made((node(0, reach=None),)), START)
    assert action == Create(1.0)


def test_pending_is_asked_again_and_patience_extends_the_deadline() -> None:
    waiting = Waiting(kind="queued", reason="line", patience_s=500)
    state, action = decide(gang(1), Made((node(0, NodeState.PENDING, waiting=waiting),)), START + 99)
    assert action == Create(1.0)
    assert state.deadline == START + 99 + 500


def test_patience_never_passes_the_limit() -> None:
    waiting = Waiting(kind="queued", patience_s=1e9)
    state, _ = decide(gang(1), Made((node(0, NodeState.PENDING, waiting=waiting),)), START)
    assert state.deadline == START + 1000


def test_failed_after_acceptance_carries_the_clouds_reason() -> None:
    problem = Problem(error="QuotaError", message="no more", code="Q1")
    _, action = decide(gang(), Made((node(0), node(1, NodeState.FAILED, problem=problem))), START)
    assert isinstance(action, Fail)
    assert isinstance(action.error, QuotaError)
    assert action.error.vendor.code == "Q1"


def test_lost_reply_lists_until_settled_before_making_again() -> None:
    state, action = decide(gang(), Raised(AmbiguousError("lost", settle_s=10)), START)
    assert action == List()
    state, action = decide(state, Listed(()), START + 5)
    assert action == List(1.0)
    state, action = decide(state, Listed((node(0),)), START + 9)
    assert action == List(1.0)
    state, action = decide(state, Listed((node(0),)), START + 11)
    assert isinstance(action, Create)
    assert state.settle_until is None


def test_lost_reply_is_adopted_as_soon_as_all_are_listed() -> None:
    state, _ = decide(gang(), Raised(AmbiguousError("lost", settle_s=10)), START)
    _, action = decide(state, Listed((node(0), node(1))), START + 1)
    assert isinstance(action, Ready)


def test_a_cloud_that_loses_every_reply_is_left_with_its_words() -> None:
    lost = AmbiguousError("it says 500", settle_s=10, vendor=VendorDetail(code="E500"))
    state, now = gang(), START
    state = replace(state, deadline=START + 10 * TROUBLE_S, limit=START + 10 * TROUBLE_S)
    while True:
        state, action = decide(state, Raised(lost), now)
        if isinstance(action, Fail):
            break
        state, action = decide(state, Listed(()), now + 11)
        assert isinstance(action, Create)
        now += 12
    assert TROUBLE_S < now - START < TROUBLE_S + 20
    assert isinstance(action.error, DriverError)
    assert action.error.vendor.code == "E500"
    assert "it says 500" in str(action.error)
    state, _ = decide(gang(), Raised(lost), START)
    state, _ = decide(state, Listed((node(0),)), START + 5)  # some of the gang came
    state, action = decide(state, Raised(lost), START + TROUBLE_S + 50)
    assert action == List()


def test_transient_waits_as_asked_then_gives_up_at_the_deadline() -> None:
    error = TransientError("busy", retry_after_s=30)
    assert decide(gang(), Raised(error), START)[1] == Create(30)
    _, action = decide(gang(), Raised(error), START + 90)
    assert isinstance(action, Fail)
    assert isinstance(action.error, DeadlineExceeded)
    assert "busy" in str(action.error)


def test_a_refusal_ends_the_attempt() -> None:
    error = CapacityError("none left")
    assert decide(gang(), Raised(error), START)[1] == Fail(error)


STATES = st.sampled_from([NodeState.PENDING, NodeState.RUNNING, NodeState.FAILED, NodeState.TERMINATED])
NODES = st.lists(st.tuples(st.integers(0, 2), STATES, st.booleans()), max_size=3, unique_by=lambda each: each[0]).map(
    lambda rows: tuple(node(rank, state, reach=REACH if way else None) for rank, state, way in rows)
)
SEEN = st.one_of(
    NODES.map(Made),
    NODES.map(Listed),
    st.floats(0.1, 50).map(lambda s: Raised(AmbiguousError("lost", settle_s=s))),
    st.floats(0.0, 50).map(lambda s: Raised(TransientError("busy", retry_after_s=s))),
)


@given(st.lists(st.tuples(SEEN, st.floats(0.0, 30.0)), min_size=1, max_size=200))
def test_whatever_the_cloud_says(story: list[tuple[object, float]]) -> None:
    """Never ready without the whole gang; never made again while a lost reply may still settle; always ends in time."""
    state, now = gang(3), START
    for seen, lag in story:
        now += lag
        before = state.settle_until
        state, action = decide(state, seen, now)  # type: ignore[arg-type]
        if isinstance(action, Ready):
            assert [each.rank for each in action.nodes] == [0, 1, 2]
            assert all(each.state is NodeState.RUNNING and each.reach for each in action.nodes)
            return
        if isinstance(action, Fail):
            return
        assert now + action.after_s <= START + 1000
        if isinstance(action, Create) and isinstance(seen, Listed) and before is not None:
            assert now >= before or len(seen.nodes) >= 3
        if isinstance(action, Create) and isinstance(seen, Raised):
            assert isinstance(seen.error, TransientError)
            assert before is None
        now += action.after_s
    _, last = decide(state, Made((node(0, NodeState.PENDING),)), START + 1001)
    assert isinstance(last, Fail)


def test_trouble_backs_off_and_ends_in_the_next_region() -> None:
    state, now, pauses = gang(1), START, list[float]()
    state = replace(state, deadline=START + 5000, limit=START + 5000)
    error = TransientError("503", retry_after_s=0.0, vendor=VendorDetail(code="Unavailable"))
    while True:
        state, action = decide(state, Raised(error), now)
        if not isinstance(action, Create):
            break
        pauses.append(action.after_s)
        now += action.after_s + 0.5
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_BACKOFF_S
    assert TROUBLE_S < now - START < TROUBLE_S + 30
    assert isinstance(action, Fail)
    assert isinstance(action.error, DriverError)
    assert (action.error.scope, action.error.vendor.code) == (Scope.REGION, "Unavailable")


def test_one_good_answer_ends_the_trouble() -> None:
    state, _ = decide(gang(1), Raised(TransientError("busy")), START)
    assert state.troubles == 1
    state, _ = decide(state, Made((node(0, NodeState.PENDING),)), START + 10)
    assert (state.troubles, state.trouble_since) == (0, None)
