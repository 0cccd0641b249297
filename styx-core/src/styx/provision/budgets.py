"""Budgets: what was spent and what a plan would add, against the limits of the config. Looked at when planning.

A plan is expected to run until the cluster's `max_age`, else for as long as its run time is estimated, else an hour,
and to cost no more than the lease's `max_cost`. Days and months are those of UTC; a plan that runs on into the next
one must fit there as well. What is free is never refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from styx.driver import Value
from styx.errors import BudgetExceeded
from styx.optimizer.problem import Choice, Loser, Plan
from styx.state.ledger import cost_of

if TYPE_CHECKING:
    from styx.models.settings import Budget
    from styx.optimizer.plan import GraphPlan
    from styx.provision.world import World
    from styx.state.rows import Rate

WARN_AT: Final = 0.8
"""The share of a budget from which on there is a warning."""
ASSUMED_HOURS: Final = 1.0
"""How long a task is expected to run when nothing says it."""
_SLACK: Final = 1e-9
_WHEN: Final = {"day": "today", "month": "this month", "total": "so far"}


class Outlook(Value):
    """What a plan is expected to cost, and for how long it runs."""

    usd_per_hour: float | None
    """For all nodes; None is unknown."""
    hours: float = ASSUMED_HOURS
    usd_once: float = 0.0
    """What does not depend on time, such as transfers."""
    max_usd: float | None = None
    """The lease ends it there."""

    def usd(self, hours: float, *, first: bool) -> float | None:
        """What some of its hours cost; `first` ones pay for what is paid once."""
        once = self.usd_once if first else 0.0
        if self.usd_per_hour is None:
            return None if self.max_usd is None else self.max_usd + once
        usd = self.usd_per_hour * hours
        return (usd if self.max_usd is None else min(usd, self.max_usd)) + once


class Standing(Value):
    """How one budget stands, with a plan added to what was spent."""

    name: str
    usd: float
    """The limit."""
    per: Literal["day", "month", "total"]
    scope: str
    on_limit: Literal["warn", "refuse"]
    usd_spent: float
    """As far as it is known, in the window where the plan weighs most."""
    spent_is_partial: bool
    """There were rates that nobody knows."""
    usd_planned: float | None
    """What the plan adds in that window; None is unknown."""
    later: bool = False
    """That window is the next one, not the present one."""

    @property
    def over(self) -> bool:
        """Whether the limit would be passed, or nobody can tell."""
        return self.usd_planned is None or self.usd_spent + self.usd_planned > self.usd + _SLACK

    @property
    def near(self) -> bool:
        """Whether it comes to `WARN_AT` of the limit or more."""
        return self.over or self.usd_spent + (self.usd_planned or 0.0) >= WARN_AT * self.usd - _SLACK

    def __str__(self) -> str:
        limit = f"${self.usd:,.2f}" + ("" if self.per == "total" else f" per {self.per}")
        who = {"all": "", "user": " for each user"}.get(self.scope, f" at {self.scope.removeprefix('cloud:')}")
        unknown = ", not counting what nobody knows," if self.spent_is_partial else ""
        when = f"next {self.per}" if self.later else _WHEN[self.per]
        adds = "an unknown amount" if self.usd_planned is None else f"about ${self.usd_planned:,.2f}"
        spent = f"${self.usd_spent:,.2f}{unknown} {'is' if self.later else 'was'} spent {when}"
        return f'budget "{self.name}" is {limit}{who}: {spent}, and this would add {adds}'


def window_of(per: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Begin and end of the day or month that `now` lies in; None where there is none."""
    if per == "total":
        return None, None
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if per == "day":
        return day, day + timedelta(days=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def standing(budget: Budget, rates: Sequence[Rate], now: datetime, outlook: Outlook) -> Standing:
    """How a budget stands with a plan that begins now; of the windows it runs in, the one where it weighs most.

    Args:
        budget: The budget.
        rates: The ledger's intervals that count for it.
        now: When.
        outlook: The plan.
    """
    begin, end = window_of(budget.per, now)
    cost = cost_of(rates, now, begin)
    left = outlook.hours if end is None else min(outlook.hours, (end - now).total_seconds() / 3600)
    found = Standing(
        name=budget.name,
        usd=budget.usd,
        per=budget.per,
        scope=budget.scope,
        on_limit=budget.on_limit,
        usd_spent=cost.usd_known,
        spent_is_partial=cost.usd is None,
        usd_planned=outlook.usd(left, first=True),
    )
    if end is None or outlook.hours <= left:
        return found
    _, after = window_of(budget.per, end)
    whole = (after - end).total_seconds() / 3600 if after is not None else outlook.hours
    usd = outlook.usd(min(outlook.hours - left, whole), first=False)
    later = found.model_copy(update={"usd_spent": 0.0, "spent_is_partial": False, "usd_planned": usd, "later": True})
    return later if (usd or 0.0) > found.usd_spent + (found.usd_planned or 0.0) else found


class Ledger:
    """What was spent, by budget; the store is read once, and not at all where no budget is set."""

    def __init__(self, world: World) -> None:
        self.budgets = world.config.budgets
        self.now = world.now()
        self._user = world.user
        self._rates = world.store.rates() if self.budgets else []
        rows = world.store.clusters(ended=True) if any(each.scope == "user" for each in self.budgets) else []
        self._owners: Mapping[str, str] = {row.key: row.owner for row in rows}

    def rates_of(self, budget: Budget) -> list[Rate]:
        """The intervals that count for a budget."""
        if budget.scope == "user":
            return [rate for rate in self._rates if self._owners.get(rate.cluster) == self._user]
        cloud = budget.scope.partition(":")[2]
        return [rate for rate in self._rates if not cloud or rate.place.cloud == cloud]

    def judge(self, outlook_at: Mapping[str, Outlook]) -> list[Standing]:
        """How each budget stands with a plan, given its outlook at each cloud it uses. Free plans touch none."""
        found = []
        for budget in self.budgets:
            cloud = budget.scope.partition(":")[2]
            parts = [outlook for name, outlook in outlook_at.items() if not cloud or name == cloud]
            paid = [each for each in parts if each.usd_per_hour != 0 or each.usd_once]
            if paid:
                found.append(standing(budget, self.rates_of(budget), self.now, together(paid)))
        return found


def together(outlooks: Sequence[Outlook]) -> Outlook:
    """Several as one: their money over the longest of their times."""
    if len(outlooks) == 1:
        return outlooks[0]
    hours = max(each.hours for each in outlooks)
    usd = [each.usd(each.hours, first=True) for each in outlooks]
    known = [each for each in usd if each is not None]
    return Outlook(usd_per_hour=sum(known) / hours if len(known) == len(usd) else None, hours=hours)


def outlook_of(world: World, usd_per_hour: float | None, hours: float = ASSUMED_HOURS) -> Outlook:
    """What a cluster of that price is expected to cost, under the lease of the config."""
    lease = world.config.lease
    age_s, max_usd = lease.get("max_age_s"), lease.get("max_usd")
    return Outlook(usd_per_hour=usd_per_hour, hours=age_s / 3600 if age_s else hours, max_usd=max_usd)


def refusal(standings: Iterable[Standing]) -> Standing | None:
    """The first budget that refuses."""
    return next((each for each in standings if each.over and each.on_limit == "refuse"), None)


def warnings(standings: Iterable[Standing]) -> list[str]:
    """What is to be said of budgets that are nearly used up, or that only warn."""
    return [f"{each}{_tail(each)}" for each in standings if each.near]


def _tail(one: Standing) -> str:
    if one.usd_planned is None:
        return "; nobody can tell whether that is within it"
    return "; that is over it" if one.over else ""


def within(world: World, plan: Plan, hours: float = ASSUMED_HOURS) -> Plan:
    """The plan without the choices that a budget refuses; those are among its losers.

    Raises:
        BudgetExceeded: No choice is left.
    """
    if not world.config.budgets or not plan.choices:
        return plan
    ledger = Ledger(world)
    kept: list[Choice] = []
    losers: dict[str, Loser] = {}
    first: Standing | None = None
    for choice in plan.choices:
        refused = refusal(ledger.judge({choice.place.cloud: outlook_of(world, choice.usd_per_hour, hours)}))
        if refused is None:
            kept.append(choice)
            continue
        first = first or refused
        losers.setdefault(choice.place.cloud, Loser(what=choice.place.cloud, reason=str(refused)))
    if not kept and first is not None:
        raise exceeded(first)
    return plan.model_copy(update={"choices": tuple(kept), "losers": (*plan.losers, *losers.values())})


def check(world: World, cloud: str, usd_per_hour: float | None) -> list[str]:
    """Refuse what a budget refuses; returns the warnings of the others.

    Raises:
        BudgetExceeded: A budget would be passed.
    """
    if not world.config.budgets:
        return []
    found = Ledger(world).judge({cloud: outlook_of(world, usd_per_hour)})
    refused = refusal(found)
    if refused is not None:
        raise exceeded(refused)
    return warnings(found)


def foreseen(world: World, plan: GraphPlan) -> list[str]:
    """Warnings about a plan of several tasks, of which nothing is launched yet."""
    if not world.config.budgets or not plan.found:
        return []
    at: dict[str, list[Outlook]] = {}
    clouds = {}
    for task in plan.tasks:
        clouds[task.name] = cloud = task.chosen.place.cloud
        usd = task.chosen.usd
        rate = None if usd is None else usd / task.hours
        at.setdefault(cloud, []).append(Outlook(usd_per_hour=rate, hours=task.hours))
    for transfer in plan.transfers:
        if transfer.usd:
            at[clouds[transfer.source]].append(Outlook(usd_per_hour=0.0, usd_once=transfer.usd))
    found = Ledger(world).judge({cloud: together(parts) for cloud, parts in at.items()})
    refused = " and it refuses launches that go over it"
    return [
        f"{each}{_tail(each)}{refused if each.over and each.on_limit == 'refuse' else ''}"
        for each in found
        if each.near
    ]


def exceeded(refused: Standing) -> BudgetExceeded:
    """The error of a budget that refuses."""
    return BudgetExceeded(
        str(refused),
        hint="raise the budget in the configuration, limit the cluster with lease.max_age or lease.max_cost, "
        "or let it warn only (on_limit: warn)",
    )
