"""What `launch`, `exec` and `logs` share: following a job, its exit code, the final JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import Interrupted, NotFound, StyxError
from styx_cli.app import App
from styx_cli.outcome import ENDED, outcome
from styx_cli.progress import Progress
from styx_cli.wall import as_styx_error

if TYPE_CHECKING:
    from styx.api import Client, JobView, LaunchResult
    from styx_cli.stream import JsonLineWriter, LineWriter

_SETUP_LINES = 20


@dataclass(frozen=True)
class RunFlags:
    """Flags of the verbs that submit a job."""

    detach_run: Annotated[
        bool, typer.Option("--detach-run", "-d", help="Return once the job is submitted; do not follow it.")
    ] = False
    no_follow: Annotated[bool, typer.Option("--no-follow", help="The same.")] = False
    tail: Annotated[int, typer.Option(min=0, metavar="N", help="Follow from the last N lines of output; 0 is all.")] = 0
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end; output goes to stderr.")
    ] = False

    @property
    def detach(self) -> bool:
        """Whether not to wait for the job."""
        return self.detach_run or self.no_follow


@dataclass
class RunState:
    """How far a run has come, for the final JSON object."""

    cluster: str | None
    job_id: int | None = None
    state: str | None = None


@contextmanager
def reported(app: App, run: RunFlags, cluster: str | None, *, prints_result: bool = True) -> Iterator[RunState]:
    """Make sure that `--json` prints its one object on failure, too; the error itself goes on to the wall."""
    state = RunState(cluster)
    if not (run.as_json and prints_result):
        yield state
        return
    app.json_errors = False  # the object on stdout carries the error; stderr tells it in words
    try:
        yield state
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        from styx_cli.jsonout import error_info

        failure = as_styx_error(app, error)
        _print_result(app, state, failure.exit_code, "styx", error_info(failure))
        raise failure from error


def finish(app: App, client: Client, result: LaunchResult, run: RunFlags, state: RunState) -> int:
    """Follow the job unless detached, and turn its end into the exit code."""
    from styx_cli.stream import LineWriter

    state.cluster, state.job_id = result.cluster, result.job_id
    if result.job_id is None:
        app.note(f"cluster {result.cluster} is up; there was nothing to run")
        if run.as_json:
            _print_result(app, state, 0, "styx", None)
        return 0
    if run.detach:
        job = client.job(result.cluster, result.job_id)
        state.state = job.state
        app.note(f"job {result.job_id} is submitted\n{_reach(result.cluster, result.job_id)}")
        if run.as_json:
            _print_result(app, state, 0, "styx", None)
        return 0
    writer = LineWriter(label=result.num_nodes > 1, run_to_stderr=run.as_json)
    job = _follow(app, client, result.cluster, result.job_id, writer, tail=run.tail)
    state.state = job.state
    return _end(app, job, run, state)


def end_cluster(app: App, client: Client, cluster: str) -> None:
    """End a cluster whose job was followed to its end, unless other jobs are at work on it.

    The nodes do the same by themselves a moment later; this only is sooner, and keeps every log.
    """
    try:
        busy = [job.job_id for job in client.queue([cluster]) if job.state not in ENDED]
        if busy:
            app.note(f"{cluster} ends when its other jobs have ended: {', '.join(map(str, sorted(busy)))}")
            return
        with Progress(app) as progress:
            client.down([cluster], progress.say)
    except NotFound:
        pass  # its nodes were quicker
    except StyxError as error:
        app.warn(f"{cluster} could not be ended from here: {error.message}\nIts nodes end by themselves when idle")
        return
    app.note(f"ended: {cluster}")


def _follow(app: App, client: Client, cluster: str, job_id: int, writer: LineWriter, *, tail: int) -> JobView:
    follow_output(app, client, cluster, job_id, writer, tail=tail)
    try:
        job = client.wait(cluster, job_id)
    except KeyboardInterrupt:
        raise detached(cluster, job_id) from None
    if job.state == "FAILED_SETUP" and not writer.setup_seen:
        for piece in client.tail(cluster, job_id, follow=False, tail=_SETUP_LINES):
            if piece.stream == "setup":
                writer.write(piece)
        writer.finish()
    return job


def follow_output(
    app: App,
    client: Client,
    cluster: str,
    job_id: int,
    writer: LineWriter | JsonLineWriter,
    *,
    follow: bool = True,
    tail: int = 0,
) -> None:
    """Write a job's output as it comes.

    Raises:
        Interrupted: Ctrl-C; the job goes on.
    """
    try:
        pieces = iter(client.tail(cluster, job_id, follow=follow, tail=tail))
        with Progress(app) as progress, progress.waiting(f"waiting for the output of job {job_id}"):
            piece = next(pieces, None)
        while piece is not None:
            writer.write(piece)
            piece = next(pieces, None)
    except KeyboardInterrupt:
        writer.finish()
        raise detached(cluster, job_id) from None
    writer.finish()


def detached(cluster: str, job_id: int) -> Interrupted:
    """What Ctrl-C means once a job is submitted."""
    return Interrupted(f"stopped following; job {job_id} of {cluster} goes on", hint=_reach(cluster, job_id))


def _end(app: App, job: JobView, run: RunFlags, state: RunState) -> int:
    result = outcome(job)
    if result.error is not None:
        raise result.error
    if job.state not in ENDED:
        app.note(f"job {job.job_id} of {job.cluster} is {job.state}")
    elif job.state != "SUCCEEDED":
        because = f": {job.reason}" if job.reason else ""
        part = "set-up of job" if job.state == "FAILED_SETUP" else "job"
        app.note(f"{part} {job.job_id} of {job.cluster} ended as {job.state}, exit code {result.exit_code}{because}")
    if run.as_json:
        _print_result(app, state, result.exit_code, result.source, None)
    return result.exit_code


def _reach(cluster: str, job_id: int) -> str:
    return (
        f"`styx logs {cluster} {job_id}` follows it, `styx cancel {cluster} {job_id}` ends it, "
        f"`styx down {cluster}` ends the cluster"
    )


def _print_result(app: App, state: RunState, code: int, source: str, error: object) -> None:
    from styx_cli.jsonout import RunResult, to_json

    result = RunResult.model_validate(
        {
            "cluster": state.cluster,
            "job_id": state.job_id,
            "state": state.state,
            "exit_code": code,
            "exit_code_source": source,
            "error": error,
        }
    )
    app.data(to_json(result))
