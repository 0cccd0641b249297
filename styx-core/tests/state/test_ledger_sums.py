from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.driver import Place
from styx.state.ledger import (
    Span,
    added,
    cost_by_cluster,
    cost_by_item,
    cost_by_job,
    cost_of,
    hours_within,
    usd_per_hour_now,
)
from styx.state.rows import Rate

ZERO = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Place(cloud="fake", account="a", region="r")


def at(minutes):
    return ZERO + timedelta(minutes=minutes)


def rate(start, end, usd=6.0, **changes):
    values = {"cluster": "k", "node": "n", "rank": 0, "place": PLACE, "usd_per_hour": usd, "start": at(start)}
    return Rate.model_validate(values | {"end": None if end is None else at(end)} | changes)


minutes = st.integers(0, 10_000)
prices = st.none() | st.integers(0, 1000).map(lambda cents: cents / 100)


@st.composite
def rates(draw):
    start = draw(minutes)
    end = draw(st.none() | st.integers(start, 10_000))
    item = draw(st.sampled_from(["compute", "disk"]))
    return rate(start, end, draw(prices), cluster=draw(st.sampled_from("abc")), item=item)


def test_an_hour_of_two_nodes():
    cost = cost_of([rate(0, 60), rate(0, 60, 3.0), rate(0, 30, 1.0, item="disk")], at(600))
    assert cost.usd == cost.usd_known == pytest.approx(9.5)
    assert cost.hours == pytest.approx(2)


def test_an_open_interval_lasts_until_now():
    assert cost_of([rate(0, None)], at(90)).usd == pytest.approx(9)


def test_unknown_is_unknown_and_the_known_part_is_told():
    cost = cost_of([rate(0, 60), rate(0, 60, None)], at(60))
    assert (cost.usd, cost.usd_known, cost.hours) == (None, 6.0, 2.0)


def test_only_what_overlaps_counts():
    unknown_before = rate(0, 10, None)
    assert cost_of([unknown_before, rate(10, 70)], at(100), since=at(10)).usd == pytest.approx(6)
    assert cost_of([rate(50, None, None)], at(40)).usd == 0  # it has not begun
    assert cost_of([rate(40, None, None)], at(40)).usd is None  # it has, just now


def test_the_present_rate():
    assert usd_per_hour_now([rate(0, None, 1.5), rate(0, 5, None), rate(3, None, 2.0)]) == 3.5
    assert usd_per_hour_now([rate(0, None, 1.5), rate(0, None, None)]) is None
    assert usd_per_hour_now([]) == 0


@given(st.lists(rates(), max_size=12), minutes)
def test_clusters_add_up(group, now):
    parts = cost_by_cluster(group, at(now))
    whole = cost_of(group, at(now))
    assert whole.usd_known == pytest.approx(sum(part.usd_known for part in parts.values()))
    assert whole.hours == pytest.approx(sum(part.hours for part in parts.values()))
    assert (whole.usd is None) == any(part.usd is None for part in parts.values())
    assert whole.usd in (None, whole.usd_known)


@given(st.lists(rates(), max_size=12), minutes, minutes)
def test_time_only_adds(group, now, more):
    assert cost_of(group, at(now + more)).usd_known >= cost_of(group, at(now)).usd_known


@given(rates(), minutes, st.integers(0, 10_000))
def test_windows_add_up(one, cut, now):
    whole = cost_of([one], at(now)).usd_known
    cut = min(cut, now)
    assert cost_of([one], at(cut)).usd_known + cost_of([one], at(now), since=at(cut)).usd_known == pytest.approx(whole)


@given(rates(), minutes, minutes)
def test_hours_are_never_negative(one, now, since):
    assert (hours_within(one, at(now), at(since)) or 0) >= 0


@st.composite
def spans(draw):
    begin = draw(minutes)
    return Span(at(begin), draw(st.none() | st.integers(begin, 10_000).map(at)))


@given(st.lists(rates()), st.dictionaries(st.integers(1, 5), spans()), st.none() | minutes.map(at))
def test_jobs_and_the_time_between_add_up_to_the_whole(intervals, jobs, since):
    now = at(10_000)
    parts = cost_by_job(intervals, jobs, now, since)
    whole = cost_of(intervals, now, since)
    together = added(parts.values())
    assert set(parts) <= {None, *jobs}
    assert together.usd_known == pytest.approx(whole.usd_known)
    assert together.hours == pytest.approx(whole.hours)
    assert (together.usd is None) == (whole.usd is None)


def test_jobs_that_run_at_the_same_time_share_the_cost():
    jobs = {1: Span(at(10), at(40)), 2: Span(at(30), None)}
    parts = cost_by_job([rate(0, 60, 60.0)], jobs, at(600))
    assert {job: cost.usd for job, cost in parts.items()} == {
        None: pytest.approx(10), 1: pytest.approx(25), 2: pytest.approx(25),
    }  # fmt: skip


def test_a_job_is_charged_nothing_unknown_that_it_did_not_run_in():
    parts = cost_by_job([rate(0, 10, None), rate(10, 20, 6.0)], {1: Span(at(10), at(20))}, at(600))
    assert parts[None].usd is None
    assert parts[1].usd == pytest.approx(1.0)


def test_items_apart():
    parts = cost_by_item([rate(0, 60), rate(0, 60, None, item="disk"), rate(0, 60, 1.0, item="egress")], at(60))
    assert {item: cost.usd for item, cost in parts.items()} == {"compute": 6.0, "disk": None, "egress": 1.0}
