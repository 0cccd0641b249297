"""`styx exec`."""

from __future__ import annotations

from typing import Annotated

import typer

from styx.errors import UsageError
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, command_app, complete_clusters
from styx_cli.runs import RunFlags, finish, reported
from styx_cli.task_flags import TaskFlags


@expands
def exec_(
    ctx: typer.Context,
    cluster: Annotated[
        str | None, typer.Argument(metavar="CLUSTER", help="A cluster that is up.", autocompletion=complete_clusters)
    ] = None,
    entrypoint: Annotated[
        list[str] | None,
        typer.Argument(metavar="TASK", help="A task file (.yaml), or a shell command; words after -- are one command."),
    ] = None,
    cluster_option: Annotated[
        str | None, typer.Option("--cluster", "-c", hidden=True, help="The cluster, as a flag.")
    ] = None,
    *,
    run: RunFlags,
    task: TaskFlags,
    config: ConfigFlag = None,
) -> int:
    """Run a task on a cluster that is up: no provisioning, no set-up.

    Copies the working folder if the task has one, submits the job, and follows its output. The exit code is the job's.
    Ctrl-C only detaches: the job goes on.
    """
    app = app_of(ctx)
    words = list(entrypoint or ())
    if cluster_option is not None and cluster is not None:
        words.insert(0, cluster)
    target = cluster_option or cluster
    if target is None:
        raise UsageError("no cluster was named", hint="styx exec CLUSTER 'COMMAND', or styx exec CLUSTER task.yaml")
    if not words:
        raise UsageError(f"nothing to run on {target} was given", hint="name a task file, or give a command in quotes")
    with reported(app, run, target) as state:
        from styx_cli.progress import Progress
        from styx_cli.tasks import build_task

        built = build_task(app, words, task)
        with app.client(config) as client:
            _require(target, client.names())
            with Progress(app) as progress:
                result = client.exec(built, target, progress.say)
            return finish(app, client, result, run, state)


def _require(name: str, known: list[str]) -> None:
    if name not in known:
        from styx_cli.targets import no_cluster

        raise no_cluster(name, known)


app = command_app(exec_, name="exec")
