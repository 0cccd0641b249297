"""`styx optimize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from styx.errors import NoPlaceLeft, UsageError
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, command_app
from styx_cli.task_flags import TaskFlags

if TYPE_CHECKING:
    from styx.api import OptimizeOptions, OptimizeResult


@dataclass(frozen=True)
class PlanFlags:
    """What the plan should be good at, and what it must keep to."""

    minimize: Annotated[str, typer.Option(metavar="cost|time", help="What to keep low.")] = "cost"
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="All must have ended by then, such as 6h, transfers included.")
    ] = None
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="What all of it may cost, transfers included.")
    ] = None
    max_hourly_cost: Annotated[
        float | None, typer.Option(metavar="USD", help="What all that runs at the same time may cost per hour.")
    ] = None
    run_time: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TASK[@GPU]=]TIME",
            help="Estimated run time, such as 3h, train=3h, or train@H100=1h. Repeatable.  [default: 1h]",
        ),
    ] = None
    assume_enabled: Annotated[
        str | None,
        typer.Option(
            metavar="CLOUD,...",
            help="Plan as if these clouds were enabled: needs their prices, but no credentials.",
        ),
    ] = None

    def options(self, *, explain: bool) -> OptimizeOptions:
        """The same, as the planner takes it.

        Raises:
            UsageError: A value is wrong.
        """
        from styx.api import OptimizeOptions

        if self.minimize not in ("cost", "time"):
            raise UsageError(f"--minimize must be cost or time, not {self.minimize!r}")
        for flag, amount in (("--budget", self.budget), ("--max-hourly-cost", self.max_hourly_cost)):
            if amount is not None and not 0 <= amount < float("inf"):
                raise UsageError(f"{flag} must be an amount of US dollars, 0 or more, not {amount:g}")
        hours, hours_on = _run_times(self.run_time or ())
        values: dict[str, Any] = {
            "minimize": self.minimize,
            "deadline_s": None if self.deadline is None else _above_0("--deadline", self.deadline),
            "budget_usd": self.budget,
            "max_usd_per_hour": self.max_hourly_cost,
            "assume_enabled": _clouds(self.assume_enabled),
            "hours": hours,
            "hours_on": hours_on,
            "explain": explain,
        }
        return OptimizeOptions(**values)


@expands
def optimize(
    ctx: typer.Context,
    entrypoint: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK", help="A task file (.yaml): one task, a pipeline, or a job group. None: flags."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Tell which limit holds the plan back, and what giving it up would change."),
    ] = False,
    *,
    plan: PlanFlags,
    task: TaskFlags,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Plan a task, a pipeline or a job group: where, at what cost, and why; launches nothing.

    All tasks are placed together: machines, data that flows between them, and the time all of it takes. The tasks of a
    pipeline follow each other and hand on their `outputs`; those of a connected job group share a region. Run times are
    estimates (--run-time). Exits 69 when there is no plan, and says which requirement stands in the way.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.optimized import plan_text
    from styx_cli.progress import Progress
    from styx_cli.tasks import build_tasks

    options = plan.options(explain=explain)
    wanted = build_tasks(app, entrypoint or (), task)
    with app.client(config) as client, Progress(app) as progress, progress.waiting("planning"):
        result = client.optimize(wanted, options=options)
    for warning in result.details.warnings:
        app.warn(warning)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(result.model_dump(mode="json", exclude=None if explain else {"details"})))
    elif result.tasks:
        app.data(plan_text(result, explain=explain))
    if not result.tasks:
        raise _no_plan(result)


def _no_plan(result: OptimizeResult) -> NoPlaceLeft:
    reasons = [f"{what}: {why}" for what, why in result.details.infeasible]
    reasons = reasons or [f"{what}: {why}" for _, what, why in result.details.losers]
    found = "no plan was found in time" if result.status == "unknown" else "there is no plan"
    helps = [each for each in result.details.what_ifs if each.binds and each.usd_total is not None]
    hint = None
    if helps and not any(helps[0].what in reason for reason in reasons):
        from styx_cli.render import usd

        hint = f"{helps[0].what} there is one for {usd(helps[0].usd_total)}: {helps[0].where}"
    return NoPlaceLeft("\n".join([f"{found}:" if reasons else found, *reasons]), hint=hint)


def _run_times(given: Sequence[str]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Hours by task, and by task and accelerator; the task `*` is every one."""
    from styx.models.accelerators import canonical_accelerator

    hours: dict[str, float] = {}
    hours_on: dict[str, dict[str, float]] = {}
    for each in given:
        left, equals, text = each.rpartition("=")
        task, _, kind = left.partition("@")
        if equals and not task and not kind:
            raise UsageError(f"--run-time {each}: a time, or TASK=TIME, or TASK@GPU=TIME is needed")
        seconds = _above_0("--run-time", text, each)
        if kind:
            hours_on.setdefault(task or "*", {})[canonical_accelerator(kind)] = seconds / 3600
        else:
            hours[task or "*"] = seconds / 3600
    return hours, hours_on


def _above_0(flag: str, text: str, whole: str | None = None) -> float:
    """Seconds of the time that a flag gives, as a part of `whole`."""
    seconds = _seconds(flag, text)
    if seconds <= 0:
        raise UsageError(f"{flag} {whole or text}: a time above 0 is needed")
    return seconds


def _seconds(flag: str, text: str) -> float:
    from styx.models.scalars import duration_s

    try:
        return duration_s()(text)
    except ValueError as error:
        raise UsageError(f"{flag} {error}, not {text!r}") from None


def _clouds(text: str | None) -> tuple[str, ...]:
    from styx.models.infra import canonical_cloud

    if text is None:
        return ()
    names = [canonical_cloud(name.strip()) for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--assume-enabled needs the names of clouds, with commas between them")
    return tuple(dict.fromkeys(names))


app = command_app(optimize)
