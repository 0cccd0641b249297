"""`styx launch`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import UsageError
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, WaitForFlag, YesFlag, activity, command_app, complete_clusters
from styx_cli.runs import RunFlags, end_cluster, finish, reported
from styx_cli.task_flags import TaskFlags

if TYPE_CHECKING:
    from styx.api import LaunchOptions


@dataclass(frozen=True)
class LaunchFlags:
    """How to launch, beside the task itself."""

    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            "-c",
            metavar="NAME",
            help="Cluster to make, or to re-use if it exists; a fresh name when unset.",
            autocompletion=complete_clusters,
        ),
    ] = None
    dryrun: Annotated[bool, typer.Option("--dryrun", help="Show the plan and stop; nothing is created.")] = False
    yes: YesFlag = False
    fast: Annotated[bool, typer.Option("--fast", help="If the cluster is up, skip provisioning and set-up.")] = False
    no_setup: Annotated[bool, typer.Option("--no-setup", help="Skip set-up.")] = False
    idle_minutes_to_autostop: Annotated[
        int | None,
        typer.Option(
            "--idle-minutes-to-autostop", "-i", metavar="MINUTES", help="Stop the cluster after so long without work."
        ),
    ] = None
    down: Annotated[
        bool, typer.Option("--down", help="End the cluster when its job has ended (with -i: when idle for so long).")
    ] = False
    wait_for: WaitForFlag = "jobs_and_ssh"
    retry_until_up: Annotated[
        bool, typer.Option("--retry-until-up", "-r", help="When every place refuses, try again.")
    ] = False
    retry_for: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest time to try, such as 2h; implies -r.  [default: 24h]")
    ] = None
    run_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Estimated run time, such as 3h: weighs prices against moving data.  [default: 1h]"
        ),
    ] = None

    @property
    def ends_now(self) -> bool:
        """Whether the cluster ends with its job, not only after some idle time."""
        return self.down and not self.idle_minutes_to_autostop

    def options(self) -> LaunchOptions:
        """The same, as the engine takes it.

        Raises:
            UsageError: A value is wrong.
        """
        from styx.api import LaunchOptions

        if self.idle_minutes_to_autostop is not None and self.idle_minutes_to_autostop < 0:
            raise UsageError(f"--idle-minutes-to-autostop must be 0 or more, not {self.idle_minutes_to_autostop}")
        retry_for_s = _seconds("--retry-for", self.retry_for)
        run_s = _seconds("--run-time", self.run_time)
        if run_s is not None and run_s <= 0:
            raise UsageError(f"--run-time {self.run_time}: a time above 0 is needed")
        return LaunchOptions(
            cluster=self.cluster,
            fast=self.fast,
            no_setup=self.no_setup,
            retry_until_up=self.retry_until_up or self.retry_for is not None,
            idle_minutes=self.idle_minutes_to_autostop,
            down=self.down,
            wait_for=activity(self.wait_for),
            **({} if retry_for_s is None else {"retry_for_s": retry_for_s}),
            **({} if run_s is None else {"hours": run_s / 3600}),
        )


@expands
def launch(
    ctx: typer.Context,
    entrypoint: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASK",
            help="A task file (.yaml), or a shell command; words after -- are one command. None: no job.",
        ),
    ] = None,
    *,
    how: LaunchFlags,
    run: RunFlags,
    task: TaskFlags,
    config: ConfigFlag = None,
) -> int:
    """Make or re-use a cluster and run a task on it.

    Finds the cheapest place that can run the task, makes the machines (or re-uses the cluster), copies the files, runs
    set-up and the job on every node, and follows the output. The exit code is the job's. A launch that costs money
    shows the plan and asks first. Ctrl-C before the job is submitted stops the launch; after it, the job goes on.
    """
    app = app_of(ctx)
    app.json_errors = run.as_json
    with reported(app, run, how.cluster, prints_result=not how.dryrun) as state:
        from styx_cli.plan import confirm_plan, show_dryrun
        from styx_cli.progress import Progress
        from styx_cli.tasks import build_task

        options = how.options()
        built = build_task(app, entrypoint or (), task)
        with app.client(config) as client:
            plan = client.plan(built, options)
            for warning in plan.warnings:
                app.warn(warning)
            if how.dryrun:
                show_dryrun(app, plan, as_json=run.as_json)
                return 0
            state.cluster = plan.cluster
            confirm_plan(app, plan, yes=how.yes)
            with Progress(app) as progress:
                result = client.launch(built, options.model_copy(update={"cluster": plan.cluster}), progress.say)
            code = finish(app, client, result, run, state)
            if how.ends_now and result.job_id is not None and not run.detach:
                end_cluster(app, client, result.cluster)
            return code


def _seconds(flag: str, text: str | None) -> float | None:
    from styx.models.scalars import duration_s

    try:
        return None if text is None else duration_s()(text)
    except ValueError as error:
        raise UsageError(f"{flag} {error}, not {text!r}") from None


app = command_app(launch)
