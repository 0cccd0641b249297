"""The view of a graph's plan. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from styx.api.convert import accelerators_of
from styx.api.views import OptimizeDetails, OptimizedTask, OptimizeResult, OptimizeWhatIf, PlannedAlternative
from styx.optimizer.fit import SPOT_MARKETS
from styx.optimizer.problem import Choice
from styx.provision.placing import Placed


def result(placed: Placed, warnings: Sequence[str] = ()) -> OptimizeResult:
    """What `Client.optimize` returns; `warnings` are those of budgets."""
    plan, told = placed.plan, placed.explanation
    found = plan.tasks if plan.found else ()
    return OptimizeResult(
        status=plan.status,
        objective=plan.objective,
        usd_total=plan.usd_total,
        seconds_total=plan.seconds_total,
        gap=plan.gap,
        tasks=tuple(
            OptimizedTask(
                name=task.name, **_where(task.chosen), alternatives=tuple(_alternative(c) for c in task.choices[1:])
            )
            for task in found
        ),
        details=OptimizeDetails(
            num_nodes=tuple(task.num_nodes for task in found),
            hours=tuple(task.hours for task in found),
            usd=tuple(task.chosen.usd for task in found),
            starts_s=tuple(task.starts_s for task in found),
            as_of=tuple(task.chosen.offer.as_of for task in found),
            sources=tuple(task.chosen.offer.source for task in found),
            usd_moved=plan.usd_moved,
            method=plan.method,
            planning_s=plan.planning_s,
            losers=tuple((task.name, loser.what, loser.reason) for task in plan.tasks for loser in task.losers),
            what_ifs=tuple(OptimizeWhatIf(**each.model_dump()) for each in told.what_ifs) if told else (),
            infeasible=tuple((each.what, each.reason) for each in told.infeasible) if told else (),
            warnings=(*plan.warnings, *warnings),
        ),
    )


def _alternative(choice: Choice) -> PlannedAlternative:
    return PlannedAlternative(**_where(choice), usd_more=choice.more_usd)


def _where(choice: Choice) -> dict[str, object]:
    offer, place = choice.offer, choice.place
    return {
        "cloud": place.cloud,
        "region": place.region,
        "zone": place.zone or offer.zone,
        "instance_type": offer.instance_type,
        "accelerators": accelerators_of(offer),
        "use_spot": offer.market in SPOT_MARKETS,
        "usd_per_hour": choice.usd_per_hour,
    }
