"""What was spent: sums over rate intervals. Unknown stays unknown, and the known part is told beside it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

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


class Span(NamedTuple):
    """When a job ran; an end of None is not known, and counts as still running."""

    start: datetime
    end: datetime | None


def cost_by_item(rates: Iterable[Rate], now: datetime, since: datetime | None = None) -> dict[str, Cost]:
    """`cost_of` for each kind of charge that was written down."""
    groups: defaultdict[str, list[Rate]] = defaultdict(list)
    for rate in rates:
        if hours_within(rate, now, since) is not None:
            groups[rate.item].append(rate)
    return {item: cost_of(group, now, since) for item, group in groups.items()}


def cost_by_job(
    rates: Iterable[Rate], jobs: Mapping[int, Span], now: datetime, since: datetime | None = None
) -> dict[int | None, Cost]:
    """What each job of one cluster cost, and under None what was paid while none ran.

    Jobs that ran at the same time share what the cluster cost then, in equal parts. The parts add up to `cost_of`.
    """
    costs: defaultdict[int | None, list[Cost]] = defaultdict(list)
    for rate in rates:
        if hours_within(rate, now, since) is None:
            continue
        begin = rate.start if since is None else max(rate.start, since)
        end = now if rate.end is None else min(rate.end, now)
        inside = {t for span in jobs.values() for t in (span.start, span.end) if t is not None and begin < t < end}
        edges = sorted({begin, end, *inside})
        for start, stop in pairwise(edges) if len(edges) > 1 else ((begin, end),):
            running: list[int | None] = [
                job for job, span in jobs.items() if span.start <= start and (span.end or now) >= stop
            ]
            part = cost_of([rate.model_copy(update={"start": start, "end": None if stop == now else stop})], stop)
            for job in running or [None]:
                costs[job].append(_share(part, len(running) or 1))
    return {job: added(parts) for job, parts in costs.items()}


def _share(cost: Cost, parts: int) -> Cost:
    usd = None if cost.usd is None else cost.usd / parts
    return Cost(usd=usd, usd_known=cost.usd_known / parts, hours=cost.hours / parts)


def added(costs: Iterable[Cost]) -> Cost:
    """Several costs as one; unknown when any is."""
    parts = list(costs)
    known = math.fsum(each.usd_known for each in parts)
    unknown = any(each.usd is None for each in parts)
    return Cost(usd=None if unknown else known, usd_known=known, hours=math.fsum(each.hours for each in parts))
