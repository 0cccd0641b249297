"""`styx down`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from styx.api import Say
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import AllFlag, ClustersArgument, ConfigFlag, OutputFlags, YesFlag, command_app


@expands
def down(
    ctx: typer.Context,
    clusters: ClustersArgument = None,
    every: AllFlag = False,
    yes: YesFlag = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", "-p", help="Forget the record even if the cloud fails; machines may then be left."),
    ] = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """End clusters for good: machines, disks and everything made for them.

    Logs, costs and the story stay. With --json prints the names of the clusters that were ended.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.actions import act
    from styx_cli.targets import chosen

    with app.client(config) as client:

        def end(names: Sequence[str], say: Say | None) -> list[str]:
            return client.down(names, say, purge=purge)

        views = chosen(client, clusters, every=every)
        note = " for good, with its disks" if len(views) == 1 else " for good, with their disks"
        act(app, "down", "ended", views, clusters or (), end, yes=yes, as_json=as_json, note=note)


app = command_app(down)
