"""The built-in planner: everything that fits, cheapest first, and why the rest does not. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from styx.driver import CatalogRow, FeatureSet, Place
from styx.optimizer.fit import Check, accelerators_text, all_checks
from styx.optimizer.problem import Choice, Loser, Plan, Problem, Requirement
from styx.units import number_text

_ANY: Final = ("", "*")
_REASONS_SHOWN: Final = 3


def plan(problem: Problem, rows: Sequence[CatalogRow], features_of: Callable[[CatalogRow], FeatureSet]) -> Plan:
    """Rank all offers that answer an alternative in an enabled place that is not blocked.

    Cheapest first; with `problem.ordered`, first by the order of the alternatives. An unknown price sorts behind every
    known one. Equal prices: fewer accelerators first, then the order of `rows`. An offer that answers several
    alternatives is listed once, for the first of them.
    """
    spots = _Spots(problem)
    open_rows = [(row, places) for row in rows if (places := spots.open(row))]
    checks = [all_checks(wanted, problem.num_nodes, features_of) for wanted in problem.alternatives]
    ranked: list[tuple[tuple[float, ...], Choice]] = []
    fitting: set[tuple[int, str]] = set()
    for position, (row, places) in enumerate(open_rows):
        answered = [index for index, asked in enumerate(checks) if all(check.passes(row) for check in asked)]
        if not answered:
            continue
        fitting.update((index, row.cloud) for index in answered)
        key = _rank(row, answered[0] if problem.ordered else 0, position)
        label = problem.alternatives[answered[0]].label
        ranked += [(key, _choice(row, place, problem.num_nodes, label)) for place in places]
    ranked.sort(key=lambda pair: pair[0])
    losers = [
        *_unfit(problem.alternatives, checks, [row for row, _ in open_rows], fitting),
        *_refused(rows, spots, checks),
    ]
    return Plan(task=problem.task, choices=tuple(choice for _, choice in ranked), losers=tuple(losers))


class _Spots:
    """Which enabled places a row stands for."""

    def __init__(self, problem: Problem) -> None:
        self._enabled: defaultdict[tuple[str, str], list[Place]] = defaultdict(list)
        for place in problem.enabled:
            self._enabled[place.cloud, place.region].append(place)
        self._blocked = problem.blocked

    def all(self, row: CatalogRow) -> list[Place]:
        """Places where it could be bought, in the order they were enabled, each once."""
        places = {
            place.model_copy(update={"zone": place.zone or row.zone}): None
            for place in self._enabled.get((row.cloud, row.region), ())
            if place.zone is None or row.zone is None or place.zone == row.zone
        }
        return list(places)

    def open(self, row: CatalogRow) -> list[Place]:
        """Those that have not refused."""
        return [place for place in self.all(row) if not self._is_blocked(place)]

    def refused(self, row: CatalogRow) -> list[Place]:
        """Those that have."""
        return [place for place in self.all(row) if self._is_blocked(place)]

    def _is_blocked(self, place: Place) -> bool:
        return any(
            block.cloud == place.cloud
            and block.account in (*_ANY, place.account)
            and block.region in (*_ANY, place.region)
            and block.zone in (None, place.zone)
            for block in self._blocked
        )


def _rank(row: CatalogRow, preference: int, position: int) -> tuple[float, ...]:
    unknown = row.usd_per_hour is None
    return (preference, unknown, row.usd_per_hour or 0.0, row.accelerator_count, position)


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
            yield Loser(what=wanted.label, reason=_why_none(asked, rows))
            continue
        by_cloud: defaultdict[str, list[CatalogRow]] = defaultdict(list)
        for row in rows:
            if (index, row.cloud) not in fitting and wanted.cloud in (None, row.cloud):
                by_cloud[row.cloud].append(row)
        for cloud, group in by_cloud.items():
            yield Loser(what=f"{wanted.label} on {cloud}", reason=_why_none(asked, group))


def _why_none(asked: Sequence[Check], rows: Sequence[CatalogRow]) -> str:
    """Which single check stands in the way; when none alone does, what the nearest offer lacks."""
    if not rows:
        return "no enabled place offers any machine"
    alone: dict[int, list[CatalogRow]] = defaultdict(list)
    nearest: tuple[int, CatalogRow, list[Check]] | None = None
    for row in rows:
        failed = [index for index, check in enumerate(asked) if not check.passes(row)]
        if len(failed) == 1:
            alone[failed[0]].append(row)
        if nearest is None or len(failed) < nearest[0]:
            nearest = (len(failed), row, [asked[index] for index in failed])
    if alone:
        shown = [asked[index].reason(alone[index]) for index in sorted(alone)[:_REASONS_SHOWN]]
        return "; or, leaving that out, ".join(shown)
    if nearest is None:
        return "no enabled place offers any machine"
    _, row, lacks = nearest
    needs = " and ".join(f"{check.need} (it has {check.has(row)})" for check in lacks)
    return f"needs {needs}; the nearest offer is {_described(row)}"


def _refused(rows: Sequence[CatalogRow], spots: _Spots, checks: Sequence[Sequence[Check]]) -> Iterable[Loser]:
    """Places that would do, had they not refused."""
    seen: dict[Place, None] = {}
    for row in rows:
        places = [place for place in spots.refused(row) if place not in seen]
        if places and any(all(check.passes(row) for check in asked) for asked in checks):
            seen.update(dict.fromkeys(places))
    for place in seen:
        yield Loser(what=str(place), reason="it refused earlier in this launch")


def _described(row: CatalogRow) -> str:
    where = "/".join(part for part in (row.cloud, row.region, row.zone) if part)
    parts = [accelerators_text(row)] if row.accelerator_count else []
    parts += [f"{number_text(row.vcpus)} vCPUs"] if row.vcpus is not None else []
    parts += [f"{number_text(row.memory_gib)} GiB"] if row.memory_gib is not None else []
    return f"{row.instance_type} in {where}" + (f" ({', '.join(parts)})" if parts else "")
