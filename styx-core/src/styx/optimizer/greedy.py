"""The built-in planner: everything that fits, cheapest first, and why the rest does not. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from styx.driver import CatalogRow, FeatureSet, Place
from styx.optimizer.fit import Check, all_checks
from styx.optimizer.problem import Choice, Loser, Plan, Problem, Requirement
from styx.optimizer.reasons import why_none
from styx.optimizer.spots import Spots, covers


def plan(problem: Problem, rows: Sequence[CatalogRow], features_of: Callable[[CatalogRow], FeatureSet]) -> Plan:
    """Rank all offers that answer an alternative in an enabled place that is not blocked.

    Cheapest first; with `problem.ordered`, first by the order of the alternatives. An unknown price sorts behind every
    known one. Equal prices: fewer accelerators first, then the order of `rows`. An offer that answers several
    alternatives is listed once, for the first of them.
    """
    spots = Spots(problem.enabled)
    placed = [(row, spots.of(row)) for row in rows]
    open_rows = [(row, free) for row, places in placed if (free := _open(problem, places))]
    checks = [all_checks(wanted, problem.num_nodes, features_of) for wanted in problem.alternatives]
    ranked: list[tuple[tuple[float, ...], Choice]] = []
    fitting: set[tuple[int, str]] = set()
    for position, (row, _) in enumerate(open_rows):
        answered = [index for index, asked in enumerate(checks) if all(check.passes(row) for check in asked)]
        if not answered:
            continue
        fitting.update((index, row.cloud) for index in answered)
        preference = answered[0] if problem.ordered else 0
        held = {each.zone_in(row.cloud, row.region): each.label for each in _reversed(problem, answered)}
        for place, label in ((place, held[zone]) for zone in held for place in _open(problem, spots.of(row, zone))):
            choice = _choice(row, place, problem.num_nodes, label)
            ranked.append((_rank(problem, choice, preference, position), choice))
    ranked.sort(key=lambda pair: pair[0])
    losers = [
        *_unfit(problem.alternatives, checks, [row for row, _ in open_rows], fitting),
        *_refused(problem, placed, checks),
    ]
    return Plan(task=problem.task, choices=tuple(choice for _, choice in ranked), losers=tuple(losers))


def _reversed(problem: Problem, answered: Sequence[int]) -> Iterable[Requirement]:
    """Alternatives that an offer answers, the first of them last."""
    return (problem.alternatives[index] for index in reversed(answered))


def _open(problem: Problem, places: Sequence[Place]) -> list[Place]:
    return [place for place in places if not any(covers(block, place) for block in problem.blocked)]


def _rank(problem: Problem, choice: Choice, preference: int, position: int) -> tuple[float, ...]:
    """By effective price: what it costs, with wishes and remembered refusals added."""
    unknown, price = choice.usd_per_hour is None, choice.usd_per_hour or 0.0
    wishes = (each for each in problem.preferences if each.where.covers(choice.place, choice.offer))
    effective = price + sum(each.penalty(price, problem.num_nodes) for each in wishes)
    return (preference, unknown, effective, choice.offer.accelerator_count, position)


def _choice(row: CatalogRow, place: Place, num_nodes: int, label: str) -> Choice:
    price = None if row.usd_per_hour is None else row.usd_per_hour * num_nodes
    return Choice(place=place, offer=row, usd_per_hour=price, requirement=label)


def _unfit(
    alternatives: Sequence[Requirement],
    checks: Sequence[Sequence[Check]],
    rows: Sequence[CatalogRow],
    fitting: set[tuple[int, str]],
) -> Iterable[Loser]:
    """For each alternative: why nothing fits it, or else why nothing does in each cloud that lacks it."""
    for index, (wanted, asked) in enumerate(zip(alternatives, checks, strict=True)):
        if all(answered != index for answered, _ in fitting):
            yield Loser(what=wanted.label, reason=why_none(asked, rows))
            continue
        by_cloud: defaultdict[str, list[CatalogRow]] = defaultdict(list)
        for row in rows:
            if (index, row.cloud) not in fitting and wanted.cloud in (None, row.cloud):
                by_cloud[row.cloud].append(row)
        for cloud, group in by_cloud.items():
            yield Loser(what=f"{wanted.label} on {cloud}", reason=why_none(asked, group))


def _refused(
    problem: Problem, placed: Sequence[tuple[CatalogRow, Sequence[Place]]], checks: Sequence[Sequence[Check]]
) -> Iterable[Loser]:
    """Places that would do, had they not refused."""
    if not problem.blocked:
        return
    seen: dict[Place, None] = {}
    for row, places in placed:
        free = _open(problem, places)
        refused = [place for place in places if place not in free and place not in seen]
        if refused and any(all(check.passes(row) for check in asked) for asked in checks):
            seen.update(dict.fromkeys(refused))
    for place in seen:
        yield Loser(what=str(place), reason="it refused earlier in this launch")
