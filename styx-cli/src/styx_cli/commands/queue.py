"""`styx queue`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import ClustersArgument, ConfigFlag, OutputFlags, command_app

if TYPE_CHECKING:
    from styx.api import JobView


@expands
def queue(
    ctx: typer.Context,
    clusters: ClustersArgument = None,
    skip_finished: Annotated[bool, typer.Option("--skip-finished", "-s", help="Leave out jobs that ended.")] = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """List the jobs of clusters (all clusters, when none is named)."""
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.progress import Progress
    from styx_cli.render import show_table
    from styx_cli.targets import matching

    with app.client(config) as client, Progress(app) as progress, progress.waiting("asking the clusters"):
        if clusters:
            matching(client, clusters)
        jobs = client.queue(tuple(clusters or ()), skip_finished=skip_finished)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(jobs))
        return
    if not jobs:
        app.note("no jobs")
        return
    headers = ("CLUSTER", "ID", "NAME", "USER", "STATE", "EXIT", "NODES", "SUBMITTED", "TOOK", "REASON")
    show_table(app, headers, [_row(job) for job in jobs], right=("ID", "EXIT", "NODES"))


def _row(job: JobView) -> list[str]:
    from styx_cli.render import age

    code = "-" if job.exit_code is None else str(job.exit_code)
    submitted = f"{age(job.submitted_at)} ago" if job.submitted_at else "-"
    took = age(job.started_at, job.ended_at) if job.started_at else "-"
    return [
        job.cluster,
        str(job.job_id),
        job.name or "-",
        job.user,
        job.state,
        code,
        str(job.num_nodes),
        submitted,
        took,
        job.reason or "-",
    ]


app = command_app(queue)
