"""`styx check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import CredentialsError
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, command_app

if TYPE_CHECKING:
    from styx.api import CheckView


@expands
def check(
    ctx: typer.Context,
    clouds: Annotated[
        list[str] | None, typer.Argument(metavar="CLOUDS", help="Only these; default: every installed cloud.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the places of each account.")] = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Ask each cloud who we are, and remember which are enabled.

    Costs nothing. Exits 77 when a cloud that was named refuses, or when none at all can be used.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.progress import Progress

    with app.client(config) as client, Progress(app) as progress, progress.waiting("asking the clouds"):
        views = client.check(tuple(clouds or ()))
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(views))
    else:
        _show(app, views, verbose=verbose)
    refused = [view for view in views if not view.ok]
    if refused and (clouds or len(refused) == len(views)):
        names = ", ".join(view.cloud for view in refused)
        raise CredentialsError(f"not usable: {names}", hint=next((view.hint for view in refused if view.hint), None))


def _show(app: App, views: Sequence[CheckView], *, verbose: bool) -> None:
    from styx_cli.render import show_table

    rows = [[view.cloud, "yes" if view.ok else "no", view.account or "-", view.message or "-"] for view in views]
    headers = ["CLOUD", "ENABLED", "ACCOUNT", "MESSAGE"]
    if verbose:
        headers.append("PLACES")
        for row, view in zip(rows, views, strict=True):
            row.append(", ".join(view.places) or "-")
    show_table(app, headers, rows)
    for view in views:
        if view.hint and not view.ok:
            app.note(f"{view.cloud}: {view.hint}")


app = command_app(check)
