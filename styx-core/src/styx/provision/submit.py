"""The last steps of a launch, and all of an exec: files to every node, the job into rank 0's queue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from styx.driver import FeatureSet, NodeState
from styx.errors import NotExecutable, Unreachable, WrongState
from styx.parallel import in_parallel
from styx.provision import contain, hearing, jobs, nodeup, reconcile, reuse
from styx.provision.claim import claimed
from styx.provision.ledger import offer_of
from styx.provision.removal import quietly
from styx.provision.steps import step
from styx.provision.world import World
from styx.state.rows import ClusterRow, ClusterState, JobRow

if TYPE_CHECKING:
    from styx.models import Task
    from styx.provision.claim import Claim
    from styx.provision.nodeup import Up
    from styx_agent.protocol import DriverSpec


def submit(
    claim: Claim, op: str, task: Task, ups: Sequence[Up], base: Path, *, setup: bool, seconds: dict[str, float]
) -> int | None:
    """Sync and submit for a launch; None when the task has neither set-up nor run."""
    world, row = claim.world, claim.row()
    sync(world, row, op, task, ups, base, seconds)
    if not (task.run or (setup and task.setup)):
        return None
    claim.check()
    return enqueue(world, row, op, task, ups, setup=setup, seconds=seconds)


def exec_job(world: World, row: ClusterRow, op: str, task: Task, base: Path, seconds: dict[str, float]) -> int:
    """Run a task on a cluster that is up: no provisioning, no set-up.

    Raises:
        WrongState: The cluster is not up, or not what the task asks for.
        NotExecutable: The task has nothing to run.
    """
    if reconcile.may_have_ended(row):
        row = reconcile.refresh(world, row)
    if row.state is not ClusterState.UP:
        because = f": {row.note}" if row.note else ""
        raise WrongState(f"cluster {row.name} is {row.state}, not UP{because}", hint=_what_then(row))
    if task.num_nodes > row.num_nodes:
        there = f"{row.num_nodes} node{'s' if row.num_nodes > 1 else ''}"
        raise WrongState(f"cluster {row.name} has {there}, the task asks for {task.num_nodes}")
    reuse.check_fit(world, row, task, hint="ask for no more than it has, or make another one with `styx launch`")
    if not task.run:
        raise NotExecutable("the task has no `run` to execute", hint="`styx launch` runs `setup`")
    needed = jobs.uploads(task, base, features_of(world, row))
    nodes = row.nodes if needed or task.num_nodes > 1 else row.nodes[:1]
    try:
        ups = in_parallel(lambda node: nodeup.connect(world, node), nodes)
    except Unreachable:
        now = reconcile.refresh(world, row)
        if now.state is not ClusterState.UP:
            raise WrongState(f"cluster {row.name} is {now.state}: {now.note}", hint=_what_then(now)) from None
        raise
    _note_answer(world, row, ups)
    try:
        if needed:
            sync(world, row, op, task, ups, base, seconds)
        return enqueue(world, row, op, task, ups, setup=False, seconds=seconds)
    finally:
        nodeup.close_all(ups)


def _note_answer(world: World, row: ClusterRow, ups: Sequence[Up]) -> None:
    """Take back that nodes do not answer, when all have just done so."""
    if len(ups) < row.num_nodes or all(node.state is not NodeState.UNREACHABLE for node in row.nodes):
        return

    def write() -> None:
        with claimed(world, row, wait_s=1.0) as claim:
            if claim.row().state is ClusterState.UP and (answered := hearing.all_answer(claim)):
                claim.update(note=None, seen_at=world.now(), **answered)

    quietly(write)


def sync(
    world: World, row: ClusterRow, op: str, task: Task, ups: Sequence[Up], base: Path, seconds: dict[str, float]
) -> None:
    """Bring the workdir and the file mounts to every node; what is there already is not sent again."""
    wanted = jobs.uploads(task, base, features_of(world, row))
    if not wanted:
        return
    contain.require_shown(ups, wanted)
    from styx.transport.sync import SyncSummary
    from styx.transport.sync import sync as upload
    from styx.transport.tree import SyncItem, scan

    with step(world, row.key, op, "sync", ", ".join(wanted), seconds):
        items = [SyncItem(source=path, dest=target) for target, path in wanted.items()]
        trees = [scan(item) for item in items]
        told: set[str] = set()

        def say(line: str) -> None:
            if line not in told:
                told.add(line)
                world.tell(row.key, op, "sync", "note", line)

        def send(up: Up) -> SyncSummary:
            return upload(up.transport, up.agent.agent_path, items, say, trees=trees)

        for summary in in_parallel(send, ups):
            for line in summary.skipped:
                say(line)
            say(
                f"{summary.files} files; {summary.written} sent ({summary.sent_bytes} bytes), {summary.removed} removed"
            )


def enqueue(
    world: World, row: ClusterRow, op: str, task: Task, ups: Sequence[Up], *, setup: bool, seconds: dict[str, float]
) -> int:
    """Put the job into rank 0's queue. Idempotent: a repeat of the same operation finds the same job."""
    driver: DriverSpec | None = None
    if task.num_nodes > 1:
        with step(world, row.key, op, "backend", f"{row.backend} on {len(ups)} nodes", seconds):
            backend = world.backend(row.backend)
            cache = world.store.folders.cache_dir(row.backend)

            def say(line: str) -> None:
                world.tell(row.key, op, "backend", "note", line)

            driver = backend.prepare(row.key, nodeup.ready_nodes(row, ups), cache, say)
    with step(world, row.key, op, "submit", task.name or "", seconds):
        spec = jobs.job_spec(task, row, op, setup=setup, user=world.user, now=world.now(), driver=driver)
        head = next(up for up in ups if up.node.rank == 0)
        job_id = int(head.agent.call("job.submit", spec)["job_id"])
        world.store.save_job(
            JobRow(
                cluster=row.key,
                job_id=job_id,
                name=task.name,
                user=world.user,
                task_id=spec["task_id"],
                state="PENDING",
                num_nodes=task.num_nodes,
                submitted_at=world.now(),
            )
        )
    return job_id


def features_of(world: World, row: ClusterRow) -> FeatureSet:
    """What the cluster's machines can do."""
    offer = offer_of(row)
    if offer is not None and offer.features is not None:
        return offer.features
    return world.cloud(row.place.cloud).features if row.place else FeatureSet()


def _what_then(row: ClusterRow) -> str:
    if row.state is ClusterState.STOPPED:
        return f"`styx start {row.name}` first, or `styx launch -c {row.name}`"
    if row.state is ClusterState.TERMINATED:
        return f"`styx launch -c {row.name}` makes it anew, `styx why {row.name}` tells what happened"
    return f"`styx why {row.name}` tells what happened, `styx down {row.name}` ends it"
