"""`styx cost-report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, command_app

if TYPE_CHECKING:
    from styx.api import CostView


@expands
def cost_report(
    ctx: typer.Context,
    every: Annotated[bool, typer.Option("--all", "-a", help="Clusters that cost nothing, too.")] = False,
    days: Annotated[int, typer.Option(min=0, metavar="N", help="Clusters used in the last N days; 0 is ever.")] = 30,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Show what was spent, from the ledger.

    Rates are written down as they are charged. A cluster of which any rate is unknown costs ?, with what is known
    beside it.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    with app.client(config) as client:
        views = client.cost_report(days=days, every=every)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(views))
    else:
        _show(app, views, days)


def _show(app: App, views: Sequence[CostView], days: int) -> None:
    from styx_cli.render import show_table, usd

    if not views:
        app.note(f"nothing was spent in the last {days} days" if days else "nothing was ever spent")
        return
    headers = ("CLUSTER", "INFRA", "NODES", "STATE", "USER", "HOURS", "COST", "KNOWN")
    rows = [
        [
            view.cluster,
            view.infra,
            str(view.nodes),
            view.state.value,
            view.user,
            f"{view.hours:.2f}",
            usd(view.usd),
            usd(view.usd_known),
        ]
        for view in views
    ]
    show_table(app, headers, rows, right=("NODES", "HOURS", "COST", "KNOWN"))
    known = sum(view.usd_known for view in views)
    unknown = sum(view.usd is None for view in views)
    tail = f", and of {unknown} cluster{'s' if unknown > 1 else ''} an unknown amount" if unknown else ""
    app.note(f"in all {usd(known)}{tail}")


app = command_app(cost_report, name="cost-report")
