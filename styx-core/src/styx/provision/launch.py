"""A launch: from a task to a submitted job, on a new cluster or on one that exists. Resumable at every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from styx.driver import CatalogRow, FeatureSet, NodeState, Place
from styx.errors import (
    CapacityError,
    Interrupted,
    NoPlaceLeft,
    QuotaError,
    StyxError,
    WrongState,
)
from styx.parallel import in_parallel
from styx.provision import (
    attempts,
    contain,
    gang,
    hearing,
    jobs,
    ledger,
    naming,
    nodeup,
    planning,
    reconcile,
    reuse,
    submit,
    teardown,
)
from styx.provision.claim import TTL_S, Claim, claimed
from styx.provision.options import LaunchOptions
from styx.provision.removal import hidden_until, patiently, quietly, remove
from styx.provision.request import Wanted, forget_keys
from styx.provision.steps import step
from styx.provision.world import World
from styx.state.rows import ClusterRow, ClusterState

if TYPE_CHECKING:
    from styx.models import Task
    from styx.provision.nodeup import Up
    from styx.provision.teardown import Quiesce

PORTS_S = 60.0
"""How long a cloud may take to open ports."""
RETRY_PAUSES_S = (5.0, 300.0)
"""First and longest pause of `--retry-until-up`."""


@dataclass
class Launched:
    """What a launch came to.

    Attributes:
        row: The cluster.
        job_id: None when there was nothing to run.
        seconds: Time spent in each step.
    """

    row: ClusterRow
    job_id: int | None
    seconds: dict[str, float] = field(default_factory=dict)


def launch(world: World, task: Task, options: LaunchOptions, base: Path, quiesce: Quiesce) -> Launched:
    """Make or re-use the cluster and submit the job.

    Args:
        task: Already amended and reviewed by the organisation's policy.
        options: How.
        base: Folder that relative local paths start from.
        quiesce: Ends what an older generation left, before it is removed.

    Raises:
        Interrupted: Ctrl-C before the job was submitted; the message says what exists.
        NoPlaceLeft: Every place refused; nothing is left.
        StyxError: Anything else; the cluster, if one exists, is named by the hint.
    """
    name = naming.name_for(world, task, options)
    row = _settled(world, name, quiesce)
    fresh = row is None
    if row is None:
        from styx.provision.search import Search  # the planner: most commands do without

        plan = Search(world, task, options.hours).plan()
        _check_uploads(world, task, plan.choices[0].place.cloud, base)
        row = _intend(world, name, task, options, cloud=plan.choices[0].place.cloud)
    else:
        reuse.check_fit(world, row, task)
        _check_uploads(world, task, row.place.cloud if row.place else None, base)
    op = teardown.operation("launch")
    with claimed(world, row, fresh=fresh) as claim:
        try:
            return _run(claim, op, task, options, base)
        except KeyboardInterrupt:
            raise Interrupted(_what_exists(claim)) from None
        except StyxError as error:
            _note_failure(claim, error)
            raise


def _settled(world: World, name: str, quiesce: Quiesce) -> ClusterRow | None:
    """The cluster of that name once nothing old is in the way; None when a new one must be made."""
    row = _as_seen(world, name)
    if row is None:
        return None
    if row.state in (ClusterState.TERMINATING, ClusterState.LOST):
        teardown.down(world, row, quiesce)
        return None
    if row.state is ClusterState.STOPPING:
        teardown.stop(world, row, quiesce)
    return world.store.cluster(name, world.workspace)


def _as_seen(world: World, name: str) -> ClusterRow | None:
    """The live cluster of that name, as the cloud shows it now: machines may have gone since it was last seen."""
    row = world.store.cluster(name, world.workspace)
    if row is not None and row.state in (ClusterState.UP, ClusterState.STOPPED):
        row = reconcile.refresh(world, row)
    return row if row is not None and row.state is not ClusterState.TERMINATED else None


def _intend(world: World, name: str, task: Task, options: LaunchOptions, *, cloud: str) -> ClusterRow:
    now = world.now()
    row = ClusterRow(
        key=world.store.new_key(name),
        name=name,
        workspace=world.workspace,
        owner=world.user,
        state=ClusterState.INIT,
        num_nodes=task.num_nodes,
        backend="process" if task.num_nodes == 1 else "ray",
        resources=task.resources.model_dump(mode="json"),
        task=jobs.for_record(task),
        lease=lease_of(world, task, options),
        ports=task.resources.port_numbers(),
        created_at=now,
        last_use_at=now,
        holder=world.holder,
        epoch=1,
        lease_until=now.timestamp() + TTL_S,
    )
    if row.backend != "process":
        world.backend(row.backend).require(shares_host=not world.cloud(cloud).features.absolute_paths)
    world.store.insert_cluster(row)
    return row


def lease_of(world: World, task: Task, options: LaunchOptions) -> dict[str, Any]:
    """The lease that the flags, the task and the config ask for, in this order of strength."""
    lease: dict[str, Any] = {key: value for key, value in world.config.lease.items() if value is not None}
    autostop = task.resources.autostop
    if autostop is not None and autostop.enabled:
        lease |= {"idle_s": autostop.idle_minutes * 60, "wait_for": autostop.wait_for}
        lease["action"] = "down" if autostop.down else "stop"
    elif autostop is not None:
        lease.pop("idle_s", None)
    if options.idle_minutes is not None:
        lease |= {"idle_s": options.idle_minutes * 60, "action": "down" if options.down else "stop"}
        lease["wait_for"] = options.wait_for
    elif options.down:
        lease |= {"idle_s": lease.get("idle_s", 60.0), "action": "down", "wait_for": options.wait_for}
    return lease


def _check_uploads(world: World, task: Task, cloud: str | None, base: Path) -> None:
    features = world.cloud(cloud).features if cloud else FeatureSet()
    jobs.uploads(task, base, features)


def _run(claim: Claim, op: str, task: Task, options: LaunchOptions, base: Path) -> Launched:
    world, seconds = claim.world, dict[str, float]()
    row = claim.row()
    with step(world, row.key, op, "intend", f"launch {row.name}", seconds):
        lease = lease_of(world, task, options)
        row = claim.update(task=jobs.for_record(task), last_use_at=world.now(), note=None, lease=row.lease | lease)
    fresh = row.state is ClusterState.INIT
    _machines(claim, op, task, options, seconds)
    _open_more_ports(claim, op, task)
    ups = bring_up(claim, op, seconds)
    try:
        contain.contain(claim, op, task, ups, base, submit.features_of(world, claim.row()), seconds)
        setup = not options.no_setup and not (options.fast and not fresh)
        job_id = submit.submit(claim, op, task, ups, base, setup=setup, seconds=seconds)
        nodeup.set_lease(world, claim.row(), ups)
        return Launched(claim.update(last_use_at=world.now()), job_id, seconds)
    finally:
        nodeup.close_all(ups)


def _open_more_ports(claim: Claim, op: str, task: Task) -> None:
    """Open ports that this task asks for and the cluster was not made with.

    Raises:
        WrongState: Its cloud opens ports only when machines are made.
    """
    world, row = claim.world, claim.row()
    more = sorted(set(task.resources.port_numbers()) - set(row.ports))
    if not more or row.place is None:
        return
    driver = world.provisioner(row.place.cloud)
    offer = ledger.offer_of(row)
    told = ", ".join(map(str, more))
    if ((offer.features if offer else None) or driver.cloud.features).ports != "any_time":
        raise WrongState(
            f"{row.name} was made without port {told}, and {driver.cloud.display_name} opens none afterwards",
            hint=f"`styx down {row.name}`, then launch it again",
        )
    patiently(world, world.timestamp() + PORTS_S, lambda: driver.open_ports(row.nodes, more))
    claim.update(ports=(*row.ports, *more))
    world.tell(row.key, op, "create", "note", f"opened port {told}")


def _machines(claim: Claim, op: str, task: Task, options: LaunchOptions, seconds: dict[str, float]) -> None:
    """Leave the cluster with running machines on record, whatever state it was found in."""
    world, row = claim.world, claim.row()
    if row.state is ClusterState.UP:
        return
    if row.state in (ClusterState.STOPPED, ClusterState.STARTING):
        teardown.start_nodes(claim, op)
        return
    if row.state is not ClusterState.INIT:
        raise WrongState(f"cluster {row.name} is {row.state}", hint=f"`styx down {row.name}` ends it")
    if _adopt(claim, op):
        return
    with step(world, row.key, op, "create", "", seconds):
        _create(claim, op, task, options)


def _create(claim: Claim, op: str, task: Task, options: LaunchOptions) -> None:
    from styx.provision.search import Search

    world = claim.world
    deadline = world.timestamp() + world.retry_for_s(options.retry_for_s)
    pause_s = RETRY_PAUSES_S[0]
    asked = {planning.label(each): each for each in reversed(task.resources.alternatives())}
    wanted = Wanted(operation=op, count=task.num_nodes, asked=asked, volumes=task.named_volumes)

    while True:
        try:
            search = Search(world, task, options.hours)
            attempts.make_nodes(claim, search.choices(()), wanted, search.choices)
            return
        except NoPlaceLeft as error:
            if error.lasting or not options.retry_until_up or world.timestamp() + pause_s > deadline:
                raise
            world.tell(
                claim.key, op, "create", "note", f"again in {pause_s:g} s: {error.message.splitlines()[0].rstrip(':')}"
            )
        world.sleep(pause_s)
        pause_s = min(pause_s * 2, RETRY_PAUSES_S[1])


def _adopt(claim: Claim, op: str) -> bool:
    """Take over what an interrupted launch made, if it is whole; remove it, if it is not."""
    world, row = claim.world, claim.row()
    for place in teardown.places_tried(world, row):
        driver = world.provisioner(place.cloud)
        nodes = [node for node in driver.nodes(place, row.key, row.nodes) if node.state is NodeState.RUNNING]
        ordered = gang.whole(nodes, row.num_nodes)
        if ordered is not None and len(nodes) == row.num_nodes:
            made = next(each for each in reversed(world.store.attempts(row.key)) if each.place == place)
            offer = CatalogRow.model_validate(made.offer)
            price = None if offer.usd_per_hour is None else offer.usd_per_hour * row.num_nodes
            row = claim.update(
                place=place,
                nodes=ordered,
                offer=made.offer,
                seen_at=world.now(),
                usd_per_hour=price,
                resources=ledger.as_made(row, ordered),
            )
            ledger.follow(world, row, ordered)
            world.store.update_attempt(made.id, {"state": "made", "ended_at": world.now()})
            world.tell(row.key, op, "create", "done", f"took over {len(nodes)} machines of the interrupted launch")
            return True
        _clear(claim, place)
    return False


def _clear(claim: Claim, place: Place) -> None:
    world, row = claim.world, claim.row()
    lag_s = world.cloud(place.cloud).limits.listing_lag_s
    tried = [each for each in world.store.attempts(row.key) if each.place == place and each.state != "released"]
    not_before = hidden_until(world, tried, lag_s)
    remove(world, place, row.key, known=row.nodes, not_before=not_before, check=claim.check)
    for each in tried:
        world.store.update_attempt(each.id, {"state": "released"})


def bring_up(claim: Claim, op: str, seconds: dict[str, float]) -> list[Up]:
    """Reach every node and have its agent configured; the cluster is UP afterwards. The caller closes the result."""
    world, row = claim.world, claim.row()
    with step(world, row.key, op, "reach", f"{row.num_nodes} node{'s' if row.num_nodes > 1 else ''}", seconds):
        deadline_s = world.config.launch.ready_timeout or nodeup.REACH_DEADLINE_S
        ups = in_parallel(lambda node: nodeup.connect(world, node, deadline_s=deadline_s, anew=True), row.nodes)
    try:
        with step(world, row.key, op, "bootstrap", "", seconds):
            nodeup.configure(world, row, ups)
            claim.update(state=ClusterState.UP, note=None, seen_at=world.now(), **hearing.all_answer(claim))
    except BaseException:
        nodeup.close_all(ups)
        raise
    return ups


def start(world: World, row: ClusterRow, *, retry_for_s: float = 0.0) -> None:
    """Start a stopped cluster and bring its agents up; with `retry_for_s`, wait for capacity that long."""
    op = teardown.operation("start")
    deadline = world.timestamp() + retry_for_s
    pause_s = RETRY_PAUSES_S[0]
    if row.state is ClusterState.UP:  # as far as is known here: its lease may have stopped it
        row = reconcile.refresh(world, row)
    with claimed(world, row) as claim:
        row = claim.row()
        if row.state is ClusterState.UP:
            return
        if row.state not in (ClusterState.STOPPED, ClusterState.STARTING):
            raise WrongState(f"{row.name} is {row.state} and cannot be started", hint=f"see `styx why {row.name}`")
        while True:
            try:
                teardown.start_nodes(claim, op)
                break
            except (CapacityError, QuotaError) as error:
                if world.timestamp() + pause_s > deadline:
                    raise
                world.tell(row.key, op, "start", "note", f"again in {pause_s:g} s: {error.message}")
            except KeyboardInterrupt:
                raise Interrupted(f"the start of {row.name} was stopped; `styx start {row.name}` goes on") from None
            world.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_PAUSES_S[1])
        try:
            nodeup.close_all(bring_up(claim, op, {}))
        except KeyboardInterrupt:
            raise Interrupted(f"the start of {row.name} was stopped; `styx start {row.name}` goes on") from None


def _what_exists(claim: Claim) -> str:
    """What an interrupted launch leaves, in one sentence; nothing made means nothing kept."""
    row = claim.row()
    world = claim.world
    if not teardown.places_tried(world, row):
        claim.update(state=ClusterState.TERMINATED, ended_at=world.now(), note="stopped by the user before any machine")
        quietly(lambda: forget_keys(world, row.key))
        return f"launch of {row.name} stopped; nothing was created"
    where = f"{len(row.nodes) or 'its'} machines in {row.place}" if row.place else "machines"
    return (
        f"launch of {row.name} stopped before its job was submitted; {where} may exist: "
        f"`styx launch -c {row.name} ...` goes on with them, `styx down {row.name}` removes them"
    )


def _note_failure(claim: Claim, error: StyxError) -> None:
    """Leave a record that says why; a cluster of which nothing exists gives its name back."""
    row = claim.row()
    first = error.message.splitlines()[0].rstrip(":") if error.message else type(error).__name__
    if row.state is ClusterState.INIT and not teardown.places_tried(claim.world, row):
        note: dict[str, Any] = {"state": ClusterState.TERMINATED, "ended_at": claim.world.now(), "note": error.message}
        quietly(lambda: claim.update(**note))
        quietly(lambda: forget_keys(claim.world, row.key))
        return
    quietly(lambda: claim.update(note=f"launch failed: {first}"))
    if f"styx down {row.name}" not in (error.hint or ""):
        left = f"cluster {row.name} still exists: `styx why {row.name}` tells more, `styx down {row.name}` removes it"
        error.hint = f"{error.hint}; {left}" if error.hint else left
