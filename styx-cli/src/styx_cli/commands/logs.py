"""`styx logs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import UsageError
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ClusterArgument, ConfigFlag, OutputFlags, command_app

if TYPE_CHECKING:
    from styx.api import Client


@expands
def logs(
    ctx: typer.Context,
    cluster: ClusterArgument,
    job_ids: Annotated[
        list[int] | None, typer.Argument(metavar="JOB_IDS", help="Default: the newest job.", min=1)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on until the job ends.")] = True,
    tail: Annotated[int, typer.Option(min=0, metavar="N", help="Begin with the last N lines; 0 is all.")] = 0,
    status: Annotated[
        bool, typer.Option("--status", help="Print only the state; the exit code is the job's, 75 while it has none.")
    ] = False,
    sync_down: Annotated[
        bool, typer.Option("--sync-down", "-s", help="Copy the whole logs into a folder and print where.")
    ] = False,
    to: Annotated[str, typer.Option(metavar="DIR", help="Folder for --sync-down.")] = "styx-logs",
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> int:
    """Show or follow the output of a job.

    Works after the cluster is gone, too, from the kept copy. Output of run goes to stdout as it is, that of set-up to
    stderr; with several nodes each line begins with its rank. The exit code is the job's, or 0 when the job still runs
    and --no-follow was given. Ctrl-C only stops looking. --json prints one object per line.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    if status and sync_down:
        raise UsageError("--status and --sync-down exclude each other")
    from styx_cli.targets import suggesting

    with app.client(config) as client, suggesting(client, cluster):
        if sync_down:
            return _sync_down(app, client, cluster, job_ids or (), Path(to), as_json=as_json)
        if status:
            return _status(app, client, cluster, job_ids or (), as_json=as_json)
        codes = [
            _show(app, client, cluster, job_id, follow=follow, tail=tail, as_json=as_json)
            for job_id in job_ids or (None,)
        ]
    return next((code for code in codes if code), 0)


def _show(app: App, client: Client, cluster: str, job_id: int | None, *, follow: bool, tail: int, as_json: bool) -> int:
    from styx_cli.outcome import ENDED, outcome
    from styx_cli.runs import follow_output
    from styx_cli.stream import JsonLineWriter, LineWriter

    job = client.job(cluster, job_id)
    writer = JsonLineWriter() if as_json else LineWriter(label=job.num_nodes > 1)
    follow_output(app, client, cluster, job.job_id, writer, follow=follow, tail=tail)
    job = client.wait(cluster, job.job_id) if follow else client.job(cluster, job.job_id)
    if job.state not in ENDED:
        return 0
    result = outcome(job)
    if result.error is not None:
        raise result.error
    return result.exit_code


def _status(app: App, client: Client, cluster: str, job_ids: Sequence[int], *, as_json: bool) -> int:
    from styx_cli.jsonout import to_json
    from styx_cli.outcome import ENDED, outcome, pending

    jobs = [client.job(cluster, job_id) for job_id in job_ids] if job_ids else [client.job(cluster)]
    app.data(to_json(jobs) if as_json else "\n".join(f"{job.job_id} {job.state}" for job in jobs))
    for job in jobs:
        if job.state not in ENDED:
            raise pending(job)
        result = outcome(job)
        if result.error is not None:
            raise result.error
        if result.exit_code:
            return result.exit_code
    return 0


def _sync_down(app: App, client: Client, cluster: str, job_ids: Sequence[int], to: Path, *, as_json: bool) -> int:
    from styx_cli.jsonout import to_json
    from styx_cli.progress import Progress

    wanted = list(job_ids) or [client.job(cluster).job_id]
    with Progress(app) as progress, progress.waiting(f"copying the logs of {cluster}"):
        folders = client.sync_down(cluster, wanted, to)
    app.data(
        to_json({job_id: str(path) for job_id, path in folders.items()})
        if as_json
        else "\n".join(str(path) for path in folders.values())
    )
    return 0


app = command_app(logs)
