"""The plan of a launch, shown and confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from styx_cli.confirm import ask
from styx_cli.render import age, lease_text, table, usd

if TYPE_CHECKING:
    from styx.api import LaunchPlan, PlannedOffer
    from styx_cli.app import App

_SHOWN: Final = 5
_HEADERS: Final = ("", "INFRA", "INSTANCE", "VCPUS", "MEM GB", "GPUS", "MARKET", "$/H", "AGE")
_RIGHT: Final = ("VCPUS", "MEM GB", "$/H", "AGE")


def confirm_plan(app: App, plan: LaunchPlan, *, yes: bool) -> None:
    """Tell what is about to happen, and ask if it costs money.

    Raises:
        NotConfirmed: It was declined, or could not be asked.
    """
    if not plan.costs_money:
        app.note(_headline(plan))
        return
    app.note(plan_text(plan))
    if not yes:
        ask(app, f"Launch {plan.cluster}?", what=f"launch of {plan.cluster}, which costs money,")


def show_dryrun(app: App, plan: LaunchPlan, *, as_json: bool) -> None:
    """Print the plan to stdout: with `--dryrun` it is what was asked for."""
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(plan))
    else:
        app.data(plan_text(plan))


def plan_text(plan: LaunchPlan) -> str:
    """The plan as a table, best place first, and why others lost."""
    parts = [_headline(plan)]
    if plan.offers:
        rows = [_row(offer, chosen=index == 0) for index, offer in enumerate(plan.offers[:_SHOWN])]
        parts.append(table(_HEADERS, rows, right=_RIGHT).rstrip("\n"))
        if len(plan.offers) > _SHOWN:
            parts.append(f"... and {len(plan.offers) - _SHOWN} more places to fall back on")
    source = _price_source(plan)
    if source:
        parts.append(source)
    if plan.lease:
        parts.append(f"lease: {lease_text(plan.lease)}")
    parts += [f"not {what}: {why}" for what, why in plan.losers[:_SHOWN]]
    if len(plan.losers) > _SHOWN:
        parts.append(f"... and {len(plan.losers) - _SHOWN} more that lost")
    return "\n".join(parts)


def _headline(plan: LaunchPlan) -> str:
    nodes = f"{plan.num_nodes} node{'s' if plan.num_nodes != 1 else ''}"
    where = f" on {plan.offers[0].place}" if plan.offers else ""
    if plan.reuse:
        return f"cluster {plan.cluster}: re-used ({nodes}{where})"
    return f"cluster {plan.cluster}: new ({nodes}{where})"


def _row(offer: PlannedOffer, *, chosen: bool) -> list[str]:
    return [
        "*" if chosen else "",
        str(offer.place),
        offer.instance_type,
        "?" if offer.vcpus is None else f"{offer.vcpus:g}",
        "?" if offer.memory_gib is None else f"{offer.memory_gib:g}",
        offer.accelerators or "-",
        offer.market.replace("_", "-"),
        "free" if offer.free else usd(offer.usd_per_hour),
        "-" if offer.free else age(offer.as_of) if offer.as_of else "?",
    ]


def _price_source(plan: LaunchPlan) -> str | None:
    """Where the chosen price is from, and how old it is."""
    first = plan.offers[0] if plan.offers else None
    if first is None or first.free or not (first.source or first.as_of):
        return None
    when = f"{age(first.as_of)} old" if first.as_of else "of unknown age"
    return f"the price is {when}, from {first.source or 'an unknown source'}"
