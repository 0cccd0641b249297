"""`styx sweep`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import StyxError, Unreachable
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, YesFlag, command_app

if TYPE_CHECKING:
    from styx.api import Orphan, SweepReport


@expands
def sweep(
    ctx: typer.Context,
    clouds: Annotated[
        list[str] | None, typer.Argument(metavar="CLOUDS", help="Only these; default: every enabled cloud.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="End what was found.")] = False,
    yes: YesFlag = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Find, and with --delete end, machines of ours that nobody remembers, or whose lease has run out.

    Compares the clouds with the database. Only what carries this installation's key counts as ours. Asks before it ends
    machines that cost money. Exits 68 when a place could not be listed, or something could not be ended.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.confirm import ask
    from styx_cli.progress import Progress

    names = tuple(clouds or ())
    with app.client(config) as client:
        with Progress(app) as progress, progress.waiting("listing the clouds"):
            report = client.sweep(clouds=names)
        paid = [orphan for orphan in report.orphans if not orphan.free]
        if delete and report.orphans:
            if paid and not yes:
                _show(app, report, to_stderr=True)
                what = f"removal of {len(paid)} thing{'s' if len(paid) > 1 else ''} that cost money"
                ask(app, f"End {len(report.orphans)} of these for good?", what=what)
            with Progress(app) as progress, progress.waiting("ending what was found"):
                report = client.sweep(delete=True, clouds=names)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(report))
    else:
        _show(app, report)
    failure = _failure(report)
    if failure is not None:
        raise failure


def _failure(report: SweepReport) -> StyxError | None:
    problems = [f"{place} could not be listed: {reason}" for place, reason in report.unreadable]
    problems += [f"{name} was not ended: {reason}" for name, reason in report.unended]
    problems += [
        f"{orphan.kind} {orphan.id} was not removed: {orphan.error}" for orphan in report.orphans if orphan.error
    ]
    if not problems:
        return None
    return Unreachable("\n".join(problems), hint="what is there may cost money: run `styx sweep` again")


def _show(app: App, report: SweepReport, *, to_stderr: bool = False) -> None:
    from styx_cli.render import show_table, table

    if not report.orphans:
        app.note("nothing of ours is left behind" if not report.unreadable else "nothing found where listing worked")
        return
    headers = ("ID", "KIND", "PLACE", "CLUSTER", "$/H", "COST", "AGE", "WHY", "RESULT")
    rows = [_row(orphan) for orphan in report.orphans]
    if to_stderr:
        app.note(table(headers, rows, right=("$/H", "COST", "AGE")).rstrip("\n"))
    else:
        show_table(app, headers, rows, right=("$/H", "COST", "AGE"))


def _row(orphan: Orphan) -> list[str]:
    from styx_cli.render import age, usd

    result = "removed" if orphan.deleted else "not removed" if orphan.error else "found"
    owner = orphan.cluster or orphan.cluster_key or "?"
    price = "free" if orphan.free else usd(orphan.usd_per_hour)
    cost = "free" if orphan.free else usd(orphan.usd_so_far)
    return [orphan.id, orphan.kind, str(orphan.place), owner, price, cost, age(orphan.created_at), orphan.why, result]


app = command_app(sweep)
