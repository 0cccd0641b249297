from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.driver import Place
from styx.state.ledger import cost_by_cluster, cost_of, hours_within, usd_per_hour_now
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
