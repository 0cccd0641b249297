"""The Python API: `styx.launch`, `styx.exec`, ... Each opens the engine for one call and closes it again.

Where several clusters may be named, `styx.down("a", "b-*")` and `styx.down(["a", "b-*"])` mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from styx.api import Client, ClusterView, JobView, LaunchOptions, LaunchResult, Say, connect
from styx.errors import UsageError
from styx.models import Task

Names = str | Sequence[str]
"""A cluster's name or a glob, or several of them."""


@contextmanager
def _engine() -> Iterator[Client]:
    client = connect()
    try:
        yield client
    finally:
        client.close()


def _each(given: Sequence[Names]) -> list[str]:
    return [name for names in given for name in ([names] if isinstance(names, str) else names)]


def _some(given: Sequence[Names]) -> list[str]:
    """The same for verbs that act.

    Raises:
        UsageError: None was named; that never means all.
    """
    if names := _each(given):
        return names
    raise UsageError("no cluster was named", hint='"*" names all of them')


def launch(
    task: Task, cluster: str | None = None, *, options: LaunchOptions | None = None, say: Say | None = None
) -> LaunchResult:
    """Make or re-use a cluster and submit the task's job; returns once it is submitted.

    Args:
        task: What to run; `Task.from_yaml` reads one.
        cluster: Name of the cluster; None takes a fresh one, which the result names.
        options: Everything else, such as autostop.
        say: Called with each event as it happens.

    Raises:
        StyxError: See `styx.errors`; nothing is left behind that `styx.status` does not show.
    """
    chosen = options or LaunchOptions()
    with _engine() as client:
        return client.launch(task, chosen.model_copy(update={"cluster": cluster or chosen.cluster}), say)


def exec(task: Task, cluster: str, *, say: Say | None = None) -> LaunchResult:
    """Submit the task's `run` to a cluster that is up; no provisioning, no set-up."""
    with _engine() as client:
        return client.exec(task, cluster, say)


def status(*names: Names, refresh: bool = False) -> list[ClusterView]:
    """These clusters, or all, newest first; `refresh` asks the clouds."""
    with _engine() as client:
        return client.status(_each(names), refresh=refresh)


def queue(*names: Names, skip_finished: bool = False) -> list[JobView]:
    """Jobs of these clusters, or of all."""
    with _engine() as client:
        return client.queue(_each(names), skip_finished=skip_finished)


def logs(cluster: str, job_id: int | None = None, *, follow: bool = True, tail: int = 0) -> Iterator[bytes]:
    """Output of a job (default: the newest) as it comes; ends when the job has ended."""
    with _engine() as client:
        for line in client.tail(cluster, job_id, follow=follow, tail=tail):
            yield line.data


def wait(cluster: str, job_id: int, timeout_s: float | None = None) -> JobView:
    """The job once it has ended; its `exit_code` is the job's own."""
    with _engine() as client:
        return client.wait(cluster, job_id, timeout_s)


def cancel(cluster: str, job_ids: Sequence[int] = (), *, every: bool = False) -> list[int]:
    """Cancel jobs; returns those that were cancelled, all their processes dead."""
    with _engine() as client:
        return client.cancel(cluster, job_ids, every=every)


def stop(*names: Names, say: Say | None = None) -> list[str]:
    """Stop clusters, disks kept."""
    with _engine() as client:
        return client.stop(_some(names), say)


def start(*names: Names, say: Say | None = None, retry_until_up: bool = False) -> list[str]:
    """Start stopped clusters."""
    with _engine() as client:
        return client.start(_some(names), say, retry_until_up=retry_until_up)


def down(*names: Names, say: Say | None = None, purge: bool = False) -> list[str]:
    """End clusters for good."""
    with _engine() as client:
        return client.down(_some(names), say, purge=purge)


def autostop(
    *names: Names, idle_minutes: float | None, down: bool = False, wait_for: str = "jobs_and_ssh"
) -> list[str]:
    """Set the idle limit of clusters; None cancels it."""
    with _engine() as client:
        return client.autostop(_some(names), idle_minutes=idle_minutes, down=down, wait_for=wait_for)
