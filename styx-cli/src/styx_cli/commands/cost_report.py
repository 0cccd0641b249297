"""`styx cost-report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from styx.errors import UsageError
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, command_app

if TYPE_CHECKING:
    from styx.api import CostGroup, CostItem, CostView

_BY: Final = ("cluster", "user", "job", "cloud")
_NOTES_SHOWN: Final = 8
_MONEY: Final = ("HOURS", "MACHINES", "DISKS", "TRAFFIC", "KNOWN")


@expands
def cost_report(
    ctx: typer.Context,
    by: Annotated[str, typer.Option("--by", metavar="cluster|user|job|cloud", help="What to add up by.")] = "cluster",
    every: Annotated[bool, typer.Option("--all", "-a", help="Clusters that cost nothing, too.")] = False,
    days: Annotated[int, typer.Option(min=0, metavar="N", help="What was spent in the last N days; 0 is ever.")] = 30,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Show what was spent, from the ledger.

    Rates of machines are written down as they are charged. Disks (~) are estimated from list prices, where the cloud's
    plugin knows them, for the time that a cluster was up or stopped; traffic is known where a cloud reports it, or asks
    nothing for it. ? is what nobody knows, and KNOWN is the sum of the rest; lines below the table say why, and what
    estimates were made from. By job: jobs that ran side by side on a cluster share its cost, and (no job) is what was
    paid in between.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    if by not in _BY:
        raise UsageError(f"--by must be one of {', '.join(_BY)}, not {by!r}")
    if every and by != "cluster":
        raise UsageError("--all lists clusters; it cannot be given with --by", hint="leave one of the two out")
    lines: Sequence[CostView | CostGroup]
    with app.client(config) as client:
        kind: Any = by
        lines = client.cost_report(days=days, every=every) if by == "cluster" else client.cost_groups(kind, days=days)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(lines))
    else:
        _show(app, lines, by, days)


def _show(app: App, lines: Sequence[CostView | CostGroup], by: str, days: int) -> None:
    from styx_cli.render import show_table, usd

    if not lines:
        app.note(f"nothing was spent in the last {days} days" if days else "nothing was ever spent")
        return
    names = ("CLUSTER", "INFRA", "NODES", "STATE", "USER") if by == "cluster" else (by.upper(),)
    show_table(app, (*names, *_MONEY), [[*_names(line), *_money(line)] for line in lines], right=("NODES", *_MONEY))
    known = sum(map(_known, lines))
    unknown = sum(line.usd is None for line in lines)
    tail = f", and for {unknown} {by}{'s' if unknown > 1 else ''} an unknown amount" if unknown else ""
    for note in _notes(lines):
        app.note(note)
    app.note(f"in all {usd(known)}{tail}")


def _notes(lines: Sequence[CostView | CostGroup]) -> list[str]:
    """What the signs ~ and ? in the table stand for: each reason once."""
    found: dict[str, None] = {}
    for item in (item for line in lines for item in line.items if item.note):
        what = "disks" if item.item == "disk" else "traffic"
        if item.usd is None:
            found[f"{what} ?: {item.note}"] = None
        elif item.estimated:
            found[f"{what} ~: {item.note}"] = None
    shown = list(found)[:_NOTES_SHOWN]
    more = len(found) - len(shown)
    return [*shown, *([f"... and {more} more (--json has all)"] if more else [])]


def _names(line: CostView | CostGroup) -> list[str]:
    name = getattr(line, "name", None)
    if name is not None:
        return [name]
    view: Any = line
    return [view.cluster, view.infra, str(view.nodes), view.state.value, view.user]


def _money(line: CostView | CostGroup) -> list[str]:
    from styx_cli.render import usd

    items = {each.item: each for each in line.items}
    machines = items.get("compute")
    return [
        f"{line.hours:.2f}",
        usd(machines.usd if machines else line.usd),
        _cell(items.get("disk")),
        _cell(items.get("egress")),
        usd(_known(line)),
    ]


def _cell(item: CostItem | None) -> str:
    from styx_cli.render import usd

    if item is None:
        return "-"
    return f"{'~' if item.estimated and item.usd is not None else ''}{usd(item.usd)}"


def _known(line: CostView | CostGroup) -> float:
    """All that is known of a line, estimates included."""
    return line.usd_known + sum(each.usd_known for each in line.items if each.estimated)


app = command_app(cost_report, name="cost-report")
