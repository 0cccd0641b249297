"""`styx autostop`."""

from __future__ import annotations

from typing import Annotated

import typer

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
def autostop(
    ctx: typer.Context,
    clusters: ClustersArgument = None,
    idle_minutes: Annotated[
        int | None,
        typer.Option(
            "--idle-minutes", "-i", metavar="MINUTES", help="Idle time; -1 cancels, like --cancel.  [default: 5]"
        ),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="No idle limit any more.")] = False,
    down: Annotated[bool, typer.Option("--down", help="End the cluster when idle, rather than stop it.")] = False,
    wait_for: WaitForFlag = "jobs_and_ssh",
    every: AllFlag = False,
    yes: YesFlag = False,  # noqa: ARG001 - accepted because scripts of this format pass it; nothing is asked here
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Set or cancel the idle limit of clusters.

    With --json prints the names of the clusters it changed.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    if cancel and (down or (idle_minutes or -1) >= 0):
        raise UsageError("--cancel stands alone: it takes no --idle-minutes and no --down")
    if idle_minutes is not None and idle_minutes < -1:
        raise UsageError(f"--idle-minutes must be 0 or more (or -1 to cancel), not {idle_minutes}")
    minutes = 5 if idle_minutes is None else idle_minutes
    limit = None if cancel or minutes < 0 else float(minutes)
    from styx_cli.targets import chosen

    with app.client(config) as client:
        names = [view.name for view in chosen(client, clusters, every=every)]
        changed = client.autostop(names, idle_minutes=limit, down=down, wait_for=activity(wait_for)) if names else []
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(changed))
    elif not changed:
        app.note("no clusters to change")
    elif limit is None:
        app.note(f"no idle limit any more: {', '.join(changed)}")
    else:
        app.note(f"{'end' if down else 'stop'} after {minutes} idle minutes: {', '.join(changed)}")


app = command_app(autostop)
