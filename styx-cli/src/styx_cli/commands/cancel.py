"""`styx cancel`."""

from __future__ import annotations

from typing import Annotated

import typer

from styx.errors import UsageError
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import ClusterArgument, ConfigFlag, OutputFlags, YesFlag, command_app


@expands
def cancel(
    ctx: typer.Context,
    cluster: ClusterArgument,
    job_ids: Annotated[
        list[int] | None, typer.Argument(metavar="JOB_IDS", help="Default: the newest job that has not ended.", min=1)
    ] = None,
    every: Annotated[bool, typer.Option("--all", "-a", help="Every job of the cluster.")] = False,
    yes: YesFlag = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Cancel jobs and everything they started.

    Returns when every process of those jobs is gone. With --json prints the ids of the jobs it cancelled.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    if every and job_ids:
        raise UsageError("name jobs or give --all, not both")
    from styx_cli.confirm import ask
    from styx_cli.progress import Progress
    from styx_cli.targets import suggesting

    with app.client(config) as client, suggesting(client, cluster):
        if every and not yes and app.is_terminal("stdin") and app.is_terminal("stderr"):
            ask(app, f"Cancel every job of {cluster}?", what=f"cancel of every job of {cluster}")
        with Progress(app) as progress, progress.waiting(f"cancelling on {cluster}"):
            cancelled = client.cancel(cluster, tuple(job_ids or ()), every=every)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(cancelled))
    elif cancelled:
        app.note(f"cancelled job {', '.join(map(str, cancelled))} of {cluster}")
    else:
        app.note(f"no job of {cluster} was running")


app = command_app(cancel)
