"""A plan of one or many tasks in words, for `styx optimize`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from styx_cli.render import age, span, table, usd

if TYPE_CHECKING:
    from styx.api import OptimizedTask, OptimizeResult, OptimizeWhatIf, PlannedAlternative

_HEADERS: Final = ("TASK", "INFRA", "INSTANCE", "NODES", "GPUS", "MARKET", "$/H", "HOURS", "COST", "START", "AGE")
_RIGHT: Final = ("NODES", "$/H", "HOURS", "COST", "START", "AGE")
_ELSE: Final = ("INFRA", "INSTANCE", "GPUS", "MARKET", "$/H", "MORE")
_SHOWN: Final = 5
_NOTHING_USD: Final = 0.00005


def plan_text(result: OptimizeResult, *, explain: bool = False) -> str:
    """The whole plan: what is chosen, what else there is for a single task, why others lost, what-ifs."""
    now = datetime.now(UTC)
    rows = [_row(result, index, now) for index in range(len(result.tasks))]
    parts = [_headline(result), table(_HEADERS, rows, right=_RIGHT).rstrip("\n")]
    details = result.details
    parts += _sources(result)
    if details.usd_moved:
        parts.append(f"transfers between tasks: {usd(details.usd_moved)}")
    if len(result.tasks) == 1 or explain:
        parts += [text for task in result.tasks if (text := _otherwise(task, named=len(result.tasks) > 1))]
    several = len(result.tasks) > 1
    told = [f"not {what}{f' for {task}' if several else ''}: {why}" for task, what, why in details.losers]
    shown = told if explain else told[:_SHOWN]
    parts += shown
    if len(told) > len(shown):
        parts.append(f"... and {len(told) - len(shown)} more that lost (--explain shows all)")
    if explain:
        parts += _what_ifs(details.what_ifs)
    return "\n".join(parts)


def _headline(result: OptimizeResult) -> str:
    proof = "optimal" if result.status == "optimal" else "feasible, with no proof of how good it is"
    if result.status == "feasible" and result.gap is not None:
        proof = f"at most {result.gap:.1%} from the optimum"
    ends = "?" if result.seconds_total is None else span(result.seconds_total)
    found = f"{result.details.method}, {result.details.planning_s * 1000:.0f} ms"
    return f"plan: {usd(result.usd_total)} in all, ends after {ends}; least {result.objective}, {proof} ({found})"


def _row(result: OptimizeResult, index: int, now: datetime) -> list[str]:
    task, details = result.tasks[index], result.details
    return [
        task.name,
        _infra(task),
        task.instance_type,
        str(details.num_nodes[index]),
        task.accelerators or "-",
        _market(task),
        usd(task.usd_per_hour),
        f"{details.hours[index]:.3g}",
        usd(details.usd[index]),
        span(details.starts_s[index]),
        age(details.as_of[index], now) if details.as_of[index] else "?",
    ]


def _sources(result: OptimizeResult) -> list[str]:
    """Where the chosen prices are from, those of one source together."""
    by_source: dict[str, list[str]] = {}
    for task, source in zip(result.tasks, result.details.sources, strict=False):
        if source and task.usd_per_hour != 0:
            by_source.setdefault(source, []).append(task.name)
    if len(by_source) == 1:
        return [f"prices from {next(iter(by_source))}"]
    return [f"prices from {source}: {', '.join(names)}" for source, names in by_source.items()]


def _otherwise(task: OptimizedTask, *, named: bool) -> str | None:
    if not task.alternatives:
        return None
    shown = task.alternatives[:_SHOWN]
    rows = [
        [_infra(each), each.instance_type, each.accelerators or "-", _market(each), usd(each.usd_per_hour), _more(each)]
        for each in shown
    ]
    left = len(task.alternatives) - len(shown)
    title = (
        f"if that refuses{f' ({task.name})' if named else ''}, next in order{f' (and {left} more)' if left else ''}:"
    )
    return f"{title}\n{table(_ELSE, rows, right=('$/H', 'MORE'))}".rstrip("\n")


def _more(other: PlannedAlternative) -> str:
    return _signed(other.usd_more)


def _signed(amount: float | None) -> str:
    if amount is None:
        return "?"
    amount = 0.0 if abs(amount) < _NOTHING_USD else amount
    return f"{'-' if amount < 0 else '+'}{usd(abs(amount))}"


def _what_ifs(found: Sequence[OptimizeWhatIf]) -> list[str]:
    binding = [each for each in found if each.binds]
    rest = [each for each in found if not each.binds]
    lines = ["what holds the plan back:" if binding else "nothing that was asked for holds the plan back"]
    lines += [f"  {_what_if(each)}" for each in binding]
    if rest:
        lines += ["what would not make it better:" if binding else "what else there is:"]
        lines += [f"  {_what_if(each)}" for each in rest]
    return lines


def _what_if(one: OptimizeWhatIf) -> str:
    if not one.feasible:
        return f"{one.what}: there is no plan"
    costs = usd(one.usd_total) + (f" ({_signed(one.usd_more)})" if one.usd_more is not None else "")
    late = one.seconds_more
    shift = f", {span(abs(late))} {'later' if late > 0 else 'sooner'}" if late is not None and abs(late) >= 1 else ""
    return f"{one.what}: {costs}{shift}{f', {one.where}' if one.where else ''}"


def _infra(one: OptimizedTask | PlannedAlternative) -> str:
    return "/".join(part for part in (one.cloud, one.region, one.zone) if part)


def _market(one: OptimizedTask | PlannedAlternative) -> str:
    return "spot" if one.use_spot else "on-demand"
