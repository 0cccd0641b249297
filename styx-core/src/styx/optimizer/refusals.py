"""Refusals of earlier launches as small, fading price penalties. Pure.

A place that had no capacity this morning is still the first choice when it is much cheaper, and is passed over when
something else costs about as much. Each refusal weighs 1 when it happens and half of that every `HALF_LIFE_S`; weights
of the same offer in the same place add up; each unit of weight counts as `FRACTION` of the price, up to `MOST`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Final, Protocol

from styx.driver import Place
from styx.optimizer.problem import Preference, Selector

HALF_LIFE_S: Final = 6 * 3600.0
FRACTION: Final = 0.10
MOST: Final = 0.50
FORGET_S: Final = 4 * HALF_LIFE_S
"""Older refusals are not looked at."""


class Refused(Protocol):
    """What the store remembers of a refusal."""

    @property
    def place(self) -> Place:
        """Where."""

    @property
    def instance_type(self) -> str:
        """What was asked for."""

    @property
    def market(self) -> str:
        """How it would have been sold."""

    @property
    def at(self) -> datetime:
        """When, aware."""


def weight(age_s: float) -> float:
    """What one refusal weighs at an age; 0 when it is forgotten."""
    return 0.5 ** (max(0.0, age_s) / HALF_LIFE_S) if age_s < FORGET_S else 0.0


def preferences(refusals: Iterable[Refused], now: datetime) -> tuple[Preference, ...]:
    """One for each offer that refused, to be planned with."""
    weights: defaultdict[Selector, float] = defaultdict(float)
    for each in refusals:
        where = Selector(
            cloud=each.place.cloud,
            account=each.place.account,
            region=each.place.region,
            zone=each.place.zone,
            instance_type=each.instance_type,
            market=each.market,
        )
        weights[where] += weight((now - each.at).total_seconds())
    return tuple(
        Preference(where=where, fraction=min(MOST, FRACTION * total), why="it had no capacity lately")
        for where, total in weights.items()
        if total > 0
    )
