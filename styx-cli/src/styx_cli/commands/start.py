"""`styx start`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from styx.api import Say
from styx.errors import UsageError
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import (
    AllFlag,
    ClustersArgument,
    ConfigFlag,
    OutputFlags,
    WaitForFlag,
    YesFlag,
    activity,
    command_app,
)


@expands
def start(
    ctx: typer.Context,
    clusters: ClustersArgument = None,
    every: AllFlag = False,
    yes: YesFlag = False,
    retry_until_up: Annotated[
        bool, typer.Option("--retry-until-up", "-r", help="When the cloud has no room, try again.")
    ] = False,
    idle_minutes_to_autostop: Annotated[
        int | None,
        typer.Option("--idle-minutes-to-autostop", "-i", metavar="MINUTES", help="Set the idle limit, too.", min=0),
    ] = None,
    down: Annotated[bool, typer.Option("--down", help="End it when idle, rather than stop it; needs -i.")] = False,
    wait_for: WaitForFlag = "jobs_and_ssh",
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Start stopped clusters.

    With --json prints the names of the clusters that were started.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    if down and idle_minutes_to_autostop is None:
        raise UsageError("--down needs --idle-minutes-to-autostop")
    from styx_cli.actions import act
    from styx_cli.targets import chosen

    with app.client(config) as client:

        def begin(names: Sequence[str], say: Say | None) -> list[str]:
            started = client.start(names, say, retry_until_up=retry_until_up)
            if idle_minutes_to_autostop is not None and started:
                client.autostop(started, idle_minutes=idle_minutes_to_autostop, down=down, wait_for=activity(wait_for))
            return started

        views = chosen(client, clusters, every=every)
        if every:
            views = [view for view in views if view.state.value == "STOPPED"]
        act(app, "start", "started", views, clusters or (), begin, yes=yes, as_json=as_json)


app = command_app(start)
