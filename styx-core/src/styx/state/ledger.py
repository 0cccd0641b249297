"""What was spent: sums over rate intervals. Unknown stays unknown, and the known part is told beside it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from styx.driver import Value
from styx.state.rows import Rate


class Cost(Value):
    """The cost of some intervals within a window of time."""

    usd: float | None
    """None when any interval's rate is unknown."""
    usd_known: float
    """Sum over the intervals whose rate is known."""
    hours: float
    """Machine hours: of `compute` intervals only."""


def hours_within(rate: Rate, now: datetime, since: datetime | None = None) -> float | None:
    """Hours of the interval between `since` and `now`; None when it lies outside. An open interval lasts until `now`.

    An interval that has only just opened counts with 0 hours: it will cost something.
    """
    start = rate.start if since is None else max(rate.start, since)
    end = now if rate.end is None else min(rate.end, now)
    if start > end or (start == end and rate.end is not None):
        return None
    return (end - start).total_seconds() / 3600


def cost_of(rates: Iterable[Rate], now: datetime, since: datetime | None = None) -> Cost:
    """What these intervals cost between `since` and `now`."""
    known: list[float] = []
    hours: list[float] = []
    unknown = False
    for rate in rates:
        lasted = hours_within(rate, now, since)
        if lasted is None:
            continue
        if rate.item == "compute":
            hours.append(lasted)
        if rate.usd_per_hour is None:
            unknown = True
        else:
            known.append(rate.usd_per_hour * lasted)
    total = math.fsum(known)
    return Cost(usd=None if unknown else total, usd_known=total, hours=math.fsum(hours))


def cost_by_cluster(rates: Iterable[Rate], now: datetime, since: datetime | None = None) -> dict[str, Cost]:
    """`cost_of` for each cluster key, in the order in which the keys appear."""
    groups: defaultdict[str, list[Rate]] = defaultdict(list)
    for rate in rates:
        groups[rate.cluster].append(rate)
    return {cluster: cost_of(group, now, since) for cluster, group in groups.items()}


def usd_per_hour_now(rates: Iterable[Rate]) -> float | None:
    """The sum of the open intervals' rates; None when any of them is unknown, 0 when none is open."""
    figures = [rate.usd_per_hour for rate in rates if rate.end is None]
    known = [figure for figure in figures if figure is not None]
    return math.fsum(known) if len(known) == len(figures) else None
