"""`styx stop`."""

from __future__ import annotations

import typer

from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import AllFlag, ClustersArgument, ConfigFlag, OutputFlags, YesFlag, command_app


@expands
def stop(
    ctx: typer.Context,
    clusters: ClustersArgument = None,
    every: AllFlag = False,
    yes: YesFlag = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Stop clusters and keep their disks; `styx start` brings them back.

    Running jobs end. With --json prints the names of the clusters that were stopped.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.actions import act
    from styx_cli.targets import chosen

    with app.client(config) as client:
        views = chosen(client, clusters, every=every)
        act(app, "stop", "stopped", views, clusters or (), client.stop, yes=yes, as_json=as_json)


app = command_app(stop)
