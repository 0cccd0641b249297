"""What is asked of the jobs of a cluster that exists, or did: output, state, cancel, lease."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from styx.driver import Node
from styx.errors import (
    DeadlineExceeded,
    LocalIOError,
    NotFound,
    StyxError,
    Unreachable,
    UnsupportedError,
    WrongState,
)
from styx.parallel import in_parallel
from styx.provision import ledger, logs, nodeup, notices, reconcile
from styx.provision.claim import claimed
from styx.provision.jobs import job_row
from styx.provision.leases import action_of
from styx.provision.nodeup import Up
from styx.provision.world import World
from styx.state.rows import ClusterRow, ClusterState, JobRow
from styx_agent.protocol import MAX_WAIT_S, TERMINAL_STATES

REACHABLE: Final = frozenset({ClusterState.INIT, ClusterState.UP})
"""States in which agents may answer."""
TAIL_S: Final = 10.0
"""How long a node may take to answer before the others' output is shown without its."""
QUIESCE_S: Final = 5.0
"""How long a teardown tries to reach a node for its logs."""


def ended(state: str) -> bool:
    """Whether a job in that state will not change any more."""
    return state in TERMINAL_STATES


@contextmanager
def head_of(world: World, row: ClusterRow, *, deadline_s: float = 30.0) -> Iterator[Up]:
    """Rank 0, which knows the jobs.

    Raises:
        WrongState: The cluster isn't up.
        Unreachable: It does not answer.
    """
    if row.state not in REACHABLE or not row.nodes:
        raise WrongState(f"cluster {row.name} is {row.state}", hint=f"`styx why {row.name}` tells what happened")
    up = nodeup.connect(world, row.nodes[0], deadline_s=deadline_s)
    try:
        yield up
    finally:
        up.close()


def jobs(world: World, row: ClusterRow) -> list[JobRow]:
    """All jobs, newest first: from the agent when it answers, else as last seen."""
    known = {job.job_id: job for job in world.store.jobs(row.key)}
    if row.state in REACHABLE and row.nodes:
        try:
            with head_of(world, row, deadline_s=5.0) as head:
                for each in head.agent.call("job.list", {})["jobs"]:
                    seen = job_row(row.key, each)
                    if known.get(seen.job_id) != seen:
                        _remember(world, seen)
                    known[seen.job_id] = seen
        except (Unreachable, DeadlineExceeded) as error:
            world.hub.report(f"{row.name} does not answer, its jobs are shown as last seen: {error.message}")
    return sorted(known.values(), key=lambda job: job.job_id, reverse=True)


def _remember(world: World, seen: JobRow) -> None:
    """Keep what an agent says of a job. Whoever asked gets the answer even where there is no room to keep it."""
    try:
        world.store.save_job(seen)
    except LocalIOError as error:
        world.hub.report(f"the state of jobs can't be kept: {error.message}", topic="jobs are not kept")


def job(world: World, row: ClusterRow, job_id: int | None) -> JobRow:
    """One job; the newest for None.

    Raises:
        NotFound: There is no such job.
    """
    found = jobs(world, row)
    if job_id is None:
        if not found:
            raise NotFound(f"cluster {row.name} has run no job")
        return found[0]
    for each in found:
        if each.job_id == job_id:
            return each
    numbers = ", ".join(str(each.job_id) for each in found[:10])
    raise NotFound(f"cluster {row.name} has no job {job_id}", hint=f"it has {numbers}" if numbers else None)


def _known(world: World, row: ClusterRow, job_id: int | None) -> JobRow:
    """One job as last seen: how many nodes it has, and a final state, never change. Unknown ones are asked about."""
    if job_id is not None:
        for each in world.store.jobs(row.key):
            if each.job_id == job_id:
                return each
    return job(world, row, job_id)


def wait(world: World, row: ClusterRow, job_id: int, timeout_s: float | None) -> JobRow:
    """The job once it has ended. A cluster that is lost meanwhile ends its jobs with that reason.

    Raises:
        DeadlineExceeded: It goes on after `timeout_s`.
        Unreachable: The cluster exists but can't be reached.
    """
    deadline = None if timeout_s is None else world.timestamp() + timeout_s
    seen = _known(world, row, job_id) if deadline is None else job(world, row, job_id)
    while not ended(seen.state):
        left_s = MAX_WAIT_S if deadline is None else min(MAX_WAIT_S, deadline - world.timestamp())
        if left_s <= 0:
            raise DeadlineExceeded(f"job {job_id} on {row.name} is still {seen.state}")
        try:
            with head_of(world, row) as head:
                seen = _wait_on(world, row, head, seen, deadline)
        except (Unreachable, WrongState) as error:
            return _lost(world, row, seen, error)
    return seen


def _wait_on(world: World, row: ClusterRow, head: Up, seen: JobRow, deadline: float | None) -> JobRow:
    while not ended(seen.state):
        left_s = MAX_WAIT_S if deadline is None else min(MAX_WAIT_S, deadline - world.timestamp())
        if left_s <= 0:
            return seen
        asked = {"job_id": seen.job_id, "not_state": seen.state, "wait_s": left_s}
        answer = head.agent.call("job.wait", asked, timeout_s=left_s + 30.0)
        seen = job_row(row.key, answer)
        notices.note(world, row, 0, answer.get("notice_at"))
        _remember(world, seen)
    return seen


def _lost(world: World, row: ClusterRow, seen: JobRow, error: StyxError) -> JobRow:
    """The job of a cluster that no longer answers: lost with it, if the cloud says that it is gone."""
    now = reconcile.refresh(world, world.store.cluster_by_key(row.key) or row)
    if now.state in REACHABLE:
        raise error
    reason = f"the cluster is {now.state}: {now.note or error.message}"
    lost = seen.model_copy(update={"state": "FAILED_DRIVER", "reason": reason, "ended_at": world.now()})
    world.store.save_job(lost)
    return lost


def tail(
    world: World, row: ClusterRow, job_id: int | None, *, follow: bool, tail: int, ranks: Sequence[int]
) -> Iterator[logs.Output]:
    """Output of a job, from the nodes, or from the kept copy when there are none any more."""
    if row.state not in REACHABLE or not row.nodes:
        yield from _kept(world, row, job_id, tail, ranks)
        return
    chosen = _known(world, row, job_id)
    nodes = [node for node in row.nodes if node.rank < chosen.num_nodes and (not ranks or node.rank in ranks)]
    failed: list[StyxError] = []

    def attempt(node: Node) -> Up | None:
        try:
            return nodeup.connect(world, node, deadline_s=TAIL_S)
        except (Unreachable, DeadlineExceeded) as error:
            failed.append(error)
            return None

    ups = [up for up in in_parallel(attempt, nodes) if up is not None]
    try:
        if ups:
            yield from logs.live(world, row, chosen.job_id, ups, follow=follow, tail=tail, patience_s=60.0)
    finally:
        nodeup.close_all(ups)
    if failed:
        kept, there = logs.Kept(world, row.key, chosen.job_id), {up.node.rank for up in ups}
        for stream in logs.STREAMS:
            yield from kept.read(stream, [node.rank for node in nodes if node.rank not in there], tail)
        if not ended(job(world, row, chosen.job_id).state):
            raise failed[0]
        world.hub.report(f"the output of job {chosen.job_id} may be incomplete: {failed[0].message}")


def _kept(world: World, row: ClusterRow, job_id: int | None, tail: int, ranks: Sequence[int]) -> Iterator[logs.Output]:
    chosen = job(world, row, job_id)
    kept = logs.Kept(world, row.key, chosen.job_id)
    for stream in logs.STREAMS:
        yield from kept.read(stream, ranks, tail)


def cancel(world: World, row: ClusterRow, job_ids: Sequence[int], *, every: bool) -> list[int]:
    """Cancel jobs and see that no process of theirs is left.

    Raises:
        NotFound: A job does not exist, or none is running.
        WrongState: Processes survived; the message lists them.
    """
    with head_of(world, row) as head:
        listed = [job_row(row.key, each) for each in head.agent.call("job.list", {})["jobs"]]
        running = [each.job_id for each in listed if not ended(each.state)]
        unknown = sorted(set(job_ids) - {each.job_id for each in listed})
        if unknown:
            raise NotFound(f"cluster {row.name} has no job {', '.join(map(str, unknown))}")
        if not job_ids and not every:
            if not running:
                raise NotFound(f"no job is running on {row.name}")
            job_ids = running[:1]
        wanted = None if every else list(job_ids)
        answer = head.agent.call("job.cancel", {"job_ids": wanted}, timeout_s=90.0)
        for each in head.agent.call("job.list", {})["jobs"]:
            world.store.save_job(job_row(row.key, each))
    if answer.get("survivors"):
        raise WrongState(f"processes {answer['survivors']} of {row.name} could not be killed")
    return [int(number) for number in answer["cancelled"]]


def sync_down(world: World, row: ClusterRow, job_ids: Sequence[int], target: Path) -> dict[int, Path]:
    """Copy whole logs to `target/<cluster>/job-<id>/`; returns the folder of each job."""
    numbers = list(job_ids) or [job(world, row, None).job_id]
    folders: dict[int, Path] = {}
    for number in numbers:
        for _ in tail(world, row, number, follow=False, tail=0, ranks=()):
            pass  # reading keeps it
        kept = logs.Kept(world, row.key, number)
        folders[number] = target / row.name / f"job-{number}"
        try:
            folders[number].mkdir(parents=True, exist_ok=True)
            if kept.folder.is_dir():
                shutil.copytree(kept.folder, folders[number], dirs_exist_ok=True)
        except OSError as error:
            raise LocalIOError(f"cannot write {folders[number]}: {error}") from error
    return folders


def set_lease(world: World, row: ClusterRow, lease: Mapping[str, Any]) -> None:
    """Change a cluster's lease, on record and on its nodes.

    Raises:
        WrongState: It is not up.
        UnsupportedError: It asks for a stop, which there is none of.
    """
    if row.state is not ClusterState.UP:
        raise WrongState(f"cluster {row.name} is {row.state}, not UP", hint="a lease is set on a running cluster")
    _require_stop(world, row, lease)
    with claimed(world, row) as claim:
        row = claim.update(lease=row.lease | dict(lease))
        ups = in_parallel(lambda node: nodeup.connect(world, node), row.nodes)
        try:
            nodeup.set_lease(world, row, ups)
        finally:
            nodeup.close_all(ups)


def _require_stop(world: World, row: ClusterRow, lease: Mapping[str, Any]) -> None:
    """Whoever sets a lease that stops, on a cluster that exists, must not find its disks removed."""
    if row.place is None or lease.get("idle_s") is None or lease.get("action") != "stop":
        return
    driver = world.provisioner(row.place.cloud)
    offer = ledger.offer_of(row)
    features = (offer.features if offer else None) or driver.cloud.features
    if action_of(lease, features, can_stop=driver.can_stop) == "down":
        raise UnsupportedError(
            f"{driver.cloud.display_name} cannot stop {row.name}'s machines in a way that saves money",
            hint=f"`styx autostop --down {row.name}` removes them when idle",
        )


def quiesce(world: World, row: ClusterRow) -> None:
    """Before machines go away: keep the logs of their jobs, end the backend and the agents. Never raises."""
    if row.place is None or not row.nodes:
        return
    ups = nodeup.answering(world, row, QUIESCE_S)
    if not ups:
        return
    try:
        _keep_logs(world, row, ups)
        world.backend(row.backend).teardown(row.key, nodeup.ready_nodes(row, ups))
        in_parallel(lambda up: up.agent.shutdown(timeout_s=30.0), ups)
    except StyxError as error:
        world.hub.report(f"{row.name} did not end its work in order: {error.message}")
    except Exception as error:  # noqa: BLE001 - a bug here, or in a backend, must not keep machines that cost money
        world.hub.report(f"{row.name} did not end its work in order: {type(error).__name__}: {error}")
    finally:
        nodeup.close_all(ups)


def _keep_logs(world: World, row: ClusterRow, ups: Sequence[Up]) -> None:
    head = next((up for up in ups if up.node.rank == 0), None)
    if head is None:
        return
    numbers = []
    for each in head.agent.call("job.list", {})["jobs"]:
        seen = job_row(row.key, each)
        if not ended(seen.state):
            seen = seen.model_copy(
                update={"state": "CANCELLED", "reason": "the cluster was stopped or ended", "ended_at": world.now()}
            )
        world.store.save_job(seen)
        numbers.append(seen.job_id)
    logs.keep(world, row, ups, numbers[:100])


def forget_old_logs(world: World) -> None:
    """Remove kept logs of clusters that ended longer ago than `logs.keep_for` of the config; for ever when unset."""
    keep_for_s = world.config.logs.keep_for
    if keep_for_s is None:
        return
    for row in world.store.clusters(ended=True):
        if row.ended_at is not None and (world.now() - row.ended_at).total_seconds() > keep_for_s:
            shutil.rmtree(world.store.folders.log_dir(row.key), ignore_errors=True)
