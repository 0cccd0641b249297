"""The client that is the engine itself: every call runs in this process, over one store."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from styx.api import convert
from styx.api.catalogs import CatalogCalls
from styx.api.client import Say
from styx.api.opening import open_world
from styx.api.views import (
    CheckView,
    ClusterView,
    CostGroup,
    CostView,
    JobView,
    LaunchPlan,
    LaunchResult,
    LogLine,
    OptimizeResult,
    PermissionsView,
    Story,
    SweepReport,
)
from styx.errors import NotFound, PermissionRefused, StyxError, WrongState
from styx.parallel import in_parallel
from styx.provision import (
    budgets,
    hearing,
    leases,
    ledger,
    naming,
    nodeup,
    overdue,
    planning,
    reconcile,
    reuse,
    sshconfig,
    submit,
    teardown,
    volumes,
)
from styx.provision import follow as jobs_of
from styx.provision.options import LaunchOptions, OptimizeOptions
from styx.provision.world import World
from styx.state.ledger import cost_of
from styx.state.rows import ClusterRow, ClusterState

if TYPE_CHECKING:
    from styx.driver import Place
    from styx.models import Document, JobGroup, Pipeline, Task, VolumeSpec
    from styx.models.forwards import PortForward
    from styx.provision.sshconfig import SshSetup
    from styx.provision.volumes import VolumeView
    from styx.transport.base import Transport


class InProcess(CatalogCalls):
    """Implements `styx.api.Client`. Safe to use from several threads."""

    def __init__(self, world: World, base: Path) -> None:
        self.world = world
        self.base = base

    @classmethod
    def open(
        cls,
        *,
        home: Path | None = None,
        config: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        report: Callable[[str], None] | None = None,
        observe: Callable[[str], None] | None = None,
    ) -> InProcess:
        """The engine over one home; see `styx.api.opening.open_world`."""
        opened = open_world(home=home, config=config, environ=environ, cwd=cwd, report=report, observe=observe)
        return cls(opened.world, opened.base)

    def close(self) -> None:
        """Give back connections."""
        self.world.parts.close()
        self.world.store.close()

    def _saying(self, say: Say | None) -> World:
        return self.world if say is None else replace(self.world, say=say)

    def _for(self, task: Task, say: Say | None = None) -> World:
        """The world as one task's `config` has it."""
        world = self._saying(say)
        return replace(world, parts=world.parts.for_task(task))

    def _policy(self, action: str, task: Task | None = None) -> Task | None:
        """The task as plugins amend it.

        Raises:
            PermissionRefused: A plugin objects.
        """
        hub = self.world.hub
        amended = hub.amend_task(task) if task is not None else None
        if objections := hub.review_task(action, amended):
            raise PermissionRefused(f"{action} is refused by policy: {'; '.join(objections)}")
        return amended

    # launching ---------------------------------------------------------------------------------------------------
    def plan(self, task: Task, options: LaunchOptions) -> LaunchPlan:
        """See `Client.plan`."""
        from styx.provision.launch import lease_of

        task = self._policy("launch", task) or task
        world = self._for(task)
        name = naming.name_for(world, task, options)
        lease = lease_of(world, task, options)
        row = world.store.cluster(options.cluster, world.workspace) if options.cluster else None
        if row is not None and row.place is not None and row.state in (ClusterState.UP, ClusterState.STOPPED):
            reuse.check_fit(world, row, task)
            free = world.cloud(row.place.cloud).free
            paid = not free and row.state is ClusterState.STOPPED
            price = ledger.offered_usd_per_hour(row)
            return LaunchPlan(
                cluster=row.name,
                reuse=True,
                num_nodes=row.num_nodes,
                offers=(),
                lease=lease,
                costs_money=paid,
                warnings=tuple(budgets.check(world, row.place.cloud, price)) if paid else (),
            )
        from styx.provision.search import Search  # the planner: most commands do without

        plan = Search(world, task, options.hours, explain=True).plan()
        offers = [
            convert.planned(each, free=world.cloud(each.place.cloud).free and not each.usd_per_hour)
            for each in plan.choices
        ]
        return LaunchPlan(
            cluster=name,
            reuse=False,
            num_nodes=task.num_nodes,
            offers=tuple(offers),
            losers=tuple((loser.what, loser.reason) for loser in plan.losers),
            lease=lease,
            costs_money=not all(each.free for each in offers),
            warnings=(
                *budgets.check(world, offers[0].place.cloud, offers[0].usd_per_hour),
                *leases.foreseen(world, plan.choices[0], lease),
            ),
        )

    def optimize(
        self,
        tasks: Document | Task | Pipeline | JobGroup | Sequence[Task],
        edges: Sequence[tuple[str, str, float]] = (),
        options: OptimizeOptions | None = None,
    ) -> OptimizeResult:
        """See `Client.optimize`."""
        from styx.api.optimized import result
        from styx.provision.placing import own_warnings, place

        placed = place(self.world, tasks, edges, options)
        told = budgets.foreseen(self.world, placed.plan)
        few = None if placed.plan.found else planning.few_enabled(placed.problem.places)
        return result(placed, [*own_warnings(tasks), *told, *([few] if few else [])])

    def launch(self, task: Task, options: LaunchOptions, say: Say | None = None) -> LaunchResult:
        """See `Client.launch`."""
        from styx.provision.launch import launch  # most commands make nothing

        self._remind()
        task = self._policy("launch", task) or task
        world = self._for(task, say)
        done = launch(world, task, options, self.base, self._quiesce)
        row = done.row
        return LaunchResult(
            cluster=row.name,
            key=row.key,
            job_id=done.job_id,
            num_nodes=task.num_nodes,
            place=row.place,
            seconds=done.seconds,
        )

    def exec(self, task: Task, cluster: str, say: Say | None = None) -> LaunchResult:
        """See `Client.exec`."""
        self._remind()
        task = self._policy("exec", task) or task
        world = self._for(task, say)
        row = naming.find(world, cluster)
        seconds: dict[str, float] = {}
        job_id = submit.exec_job(world, row, teardown.operation("exec"), task, self.base, seconds)
        return LaunchResult(
            cluster=row.name,
            key=row.key,
            job_id=job_id,
            num_nodes=task.num_nodes,
            place=row.place,
            seconds=seconds,
        )

    # jobs --------------------------------------------------------------------------------------------------------
    def tail(
        self, cluster: str, job_id: int | None = None, *, follow: bool = True, tail: int = 0, ranks: Sequence[int] = ()
    ) -> Iterator[LogLine]:
        """See `Client.tail`."""
        row = self._any_generation(cluster)
        for piece in jobs_of.tail(self.world, row, job_id, follow=follow, tail=tail, ranks=ranks):
            yield LogLine.model_validate({"rank": piece.rank, "stream": piece.stream, "data": piece.data})

    def wait(self, cluster: str, job_id: int, timeout_s: float | None = None) -> JobView:
        """See `Client.wait`."""
        row = self._any_generation(cluster)
        return convert.job_view(row.name, jobs_of.wait(self.world, row, job_id, timeout_s))

    def job(self, cluster: str, job_id: int | None = None) -> JobView:
        """See `Client.job`."""
        row = self._any_generation(cluster)
        return convert.job_view(row.name, jobs_of.job(self.world, row, job_id))

    def queue(self, names: Sequence[str] = (), *, skip_finished: bool = False) -> list[JobView]:
        """See `Client.queue`."""
        self._remind()
        rows = self._rows(names)
        listed = in_parallel(lambda row: (row, jobs_of.jobs(self.world, row)), rows)
        views = [convert.job_view(row.name, job) for row, jobs in listed for job in jobs]
        return [view for view in views if not (skip_finished and jobs_of.ended(view.state))]

    def cancel(self, cluster: str, job_ids: Sequence[int] = (), *, every: bool = False) -> list[int]:
        """See `Client.cancel`."""
        self._policy("cancel")
        return jobs_of.cancel(self.world, naming.find(self.world, cluster), job_ids, every=every)

    def sync_down(self, cluster: str, job_ids: Sequence[int], target: Path) -> dict[int, Path]:
        """See `Client.sync_down`."""
        return jobs_of.sync_down(self.world, self._any_generation(cluster), job_ids, target)

    # clusters ----------------------------------------------------------------------------------------------------
    def status(self, names: Sequence[str] = (), *, refresh: bool = False) -> list[ClusterView]:
        """See `Client.status`. Clusters that may end themselves are always asked about."""
        rows = sorted(self._rows(names), key=lambda row: row.created_at, reverse=True)

        def look(row: ClusterRow) -> ClusterRow:
            if refresh:
                row, answers = reconcile.look(self.world, row)
                row = hearing.with_notices(self.world, row, answers)
                return self._held_to_its_lease(row, overdue.why(self.world, row, answers))
            row = reconcile.refresh(self.world, row) if reconcile.may_have_ended(row) else row
            reason = overdue.why(self.world, row)
            return row.model_copy(update={"note": overdue.told(row, reason)}) if reason else row

        rows = in_parallel(look, rows)
        now = self.world.now()
        live = [row for row in rows if row.state is not ClusterState.TERMINATED]
        return [convert.cluster_view(row, cost_of(self.world.store.rates(cluster=row.key), now)) for row in live]

    def _held_to_its_lease(self, row: ClusterRow, reason: str | None) -> ClusterRow:
        """The row after its lease was carried out, where that falls to us."""
        if reason is None:
            return row
        try:
            overdue.end(self.world, row, reason, self._quiesce)
        except StyxError as error:
            note = f"overdue: {reason}; it could not be ended: {error.message}"
            return row.model_copy(update={"note": note})
        self.world.hub.report(f"{row.name} was ended, as its lease has run out: {reason}")
        return self.world.store.cluster_by_key(row.key) or row

    def _remind(self) -> None:
        """Say which clusters are overdue: this command may be the only one of a long time."""
        for line in overdue.remind(self.world):
            self.world.hub.report(line)

    def stop(self, names: Sequence[str], say: Say | None = None) -> list[str]:
        """See `Client.stop`."""
        self._policy("stop")
        world = self._saying(say)
        return self._each(names, lambda row: teardown.stop(world, row, self._quiesce))

    def start(self, names: Sequence[str], say: Say | None = None, *, retry_until_up: bool = False) -> list[str]:
        """See `Client.start`."""
        from styx.provision.launch import start

        self._remind()
        self._policy("start")
        world = self._saying(say)
        retry_for_s = world.retry_for_s() if retry_until_up else 0.0
        return self._each(names, lambda row: start(world, row, retry_for_s=retry_for_s))

    def down(self, names: Sequence[str], say: Say | None = None, *, purge: bool = False) -> list[str]:
        """See `Client.down`."""
        self._policy("down")
        world = self._saying(say)
        done = self._each(names, lambda row: teardown.down(world, row, self._quiesce, purge=purge))
        jobs_of.forget_old_logs(self.world)
        return done

    def autostop(
        self, names: Sequence[str], *, idle_minutes: float | None, down: bool = False, wait_for: str = "jobs_and_ssh"
    ) -> list[str]:
        """See `Client.autostop`."""
        self._policy("autostop")
        idle_s = None if idle_minutes is None else idle_minutes * 60
        lease = {"idle_s": idle_s, "action": "down" if down else "stop", "wait_for": wait_for}
        return self._each(names, lambda row: jobs_of.set_lease(self.world, row, lease))

    def _each(self, names: Sequence[str], action: Callable[[ClusterRow], None]) -> list[str]:
        """Act on every cluster; one that fails does not keep the others, and the errors are raised at the end."""
        rows = naming.names_matching(self.world, names)
        errors: list[tuple[str, StyxError]] = []

        def named(name: str, error: StyxError) -> bool:
            return name in re.findall(r"[\w.-]*\w", error.message)

        def attempt(row: ClusterRow) -> str | None:
            try:
                action(row)
            except StyxError as error:
                errors.append((row.name, error))
                return None
            return row.name

        done = [name for name in in_parallel(attempt, rows) if name] if rows else []
        if errors:
            lines = [error.message if named(name, error) else f"{name}: {error.message}" for name, error in errors]
            lines += [f"done all the same: {', '.join(done)}"] if done else []
            raise errors[0][1].retold("\n".join(lines))
        return done

    def _quiesce(self, row: ClusterRow) -> None:
        jobs_of.quiesce(self.world, row)

    def _rows(self, names: Sequence[str]) -> list[ClusterRow]:
        if names:
            return naming.names_matching(self.world, names)
        return self.world.store.clusters(workspace=self.world.workspace)

    def _any_generation(self, name: str) -> ClusterRow:
        return self.world.store.latest(name, self.world.workspace) or naming.find(self.world, name)

    def names(self) -> list[str]:
        """See `Client.names`."""
        return [row.name for row in self.world.store.clusters(workspace=self.world.workspace)]

    def interactive(
        self,
        cluster: str,
        *,
        node: int = 0,
        argv: Sequence[str] = (),
        forwards: Sequence[PortForward] = (),
        say: Callable[[str], None] | None = None,
    ) -> int:
        """See `Client.interactive`."""
        with self._way_in(cluster, node, forwards, say) as (transport, _):
            return transport.interactive(argv)

    @contextlib.contextmanager
    def forward(
        self,
        cluster: str,
        forwards: Sequence[PortForward],
        *,
        node: int = 0,
        say: Callable[[str], None] | None = None,
    ) -> Iterator[list[PortForward]]:
        """See `Client.forward`."""
        with self._way_in(cluster, node, forwards, say) as (_, taken):
            yield taken

    @contextlib.contextmanager
    def _way_in(
        self, cluster: str, rank: int, forwards: Sequence[PortForward], say: Callable[[str], None] | None
    ) -> Iterator[tuple[Transport, list[PortForward]]]:
        row = naming.find(self.world, cluster)
        node = next((each for each in row.nodes if each.rank == rank), None)
        if node is None:
            there = f"it has nodes 0 to {row.num_nodes - 1}" if row.num_nodes > 1 else "its only node is node 0"
            raise NotFound(f"{cluster} has no node {rank}", hint=there)
        if row.state in (ClusterState.STOPPED, ClusterState.STOPPING):
            raise WrongState(f"{cluster} is {row.state}", hint=f"`styx start {cluster}` brings it back")
        with contextlib.closing(nodeup.way_to(self.world, node)) as transport, contextlib.ExitStack() as stack:
            taken: list[PortForward] = []
            if forwards:
                carried = stack.enter_context(contextlib.closing(transport.forward(forwards, say or (lambda _: None))))
                taken = carried.forwards
            yield transport, taken

    def ssh_setup(self, *, apply: bool = False) -> SshSetup:
        """See `Client.ssh_setup`."""
        return sshconfig.setup(self.world, apply=apply)

    # telling -----------------------------------------------------------------------------------------------------
    def why(self, cluster: str) -> Story:
        """See `Client.why`."""
        row = self._any_generation(cluster)
        store = self.world.store
        return Story(
            cluster=row.name,
            key=row.key,
            state=row.state,
            note=row.note,
            attempts=tuple(store.attempts(row.key)),
            events=tuple(store.events(row.key)),
        )

    def sweep(self, *, delete: bool = False, clouds: Sequence[str] = ()) -> SweepReport:
        """See `Client.sweep`."""
        from styx.provision import sweep

        world = self.world
        enabled = [place for check in world.store.checks() if check.ok for place in check.places]
        if planning.EMBEDDED in world.hub.installed_clouds():
            enabled.extend(planning.check_cloud(world, planning.EMBEDDED).places)
        places = [place for place in sweep.places_to_look(world, enabled) if not clouds or place.cloud in clouds]
        seen = sweep.survey(world, places)
        left = sweep.end(world, seen, self._quiesce) if delete else sweep.Outcome({}, {})
        now = world.now()
        return SweepReport(
            orphans=tuple(
                convert.orphan(
                    each,
                    free=world.cloud(each.place.cloud).free,
                    now=now,
                    deleted=delete,
                    error=left.things.get((each.place.cloud, each.id)),
                )
                for each in seen.found
            ),
            unended=tuple((name, error.message) for name, error in sorted(left.clusters.items())),
            unreadable=seen.unreadable,
        )

    def volume_apply(self, spec: VolumeSpec) -> VolumeView:
        """See `Client.volume_apply`."""
        return volumes.apply(self.world, spec)

    def volumes(self, clouds: Sequence[str] = ()) -> tuple[list[VolumeView], list[tuple[Place, str]]]:
        """See `Client.volumes`."""
        return volumes.listing(self.world, clouds)

    def volume_delete(self, names: Sequence[str]) -> list[str]:
        """See `Client.volume_delete`."""
        return volumes.delete(self.world, names)

    def check(self, clouds: Sequence[str] = ()) -> list[CheckView]:
        """See `Client.check`."""
        self._remind()
        from styx.models.infra import canonical_cloud

        world = self.world
        allowed = world.config.allowed_clouds
        spared = {name for name in world.hub.installed_clouds() if allowed is not None and name not in allowed}
        names = [canonical_cloud(name) for name in clouds] or [
            name for name in world.hub.installed_clouds() if name not in spared
        ]
        for name in names:
            if name not in world.hub.installed_clouds():
                world.cloud(name)  # says how to install it
        rows = in_parallel(lambda name: planning.check_cloud(world, name), names)
        world.store.save_checks(rows)
        return [convert.check_view(row) for row in rows]

    def permissions(self, clouds: Sequence[str] = ()) -> list[PermissionsView]:
        """See `Client.permissions`."""
        names = list(clouds) or [row.cloud for row in self.world.store.checks() if row.ok]

        def ask(name: str) -> PermissionsView:
            try:
                return convert.permissions_view(name, planning.permissions(self.world, name))
            except StyxError as error:
                return PermissionsView(cloud=name, checked=False, message=error.message, hint=error.hint)

        return in_parallel(ask, names) if names else []

    def enabled(self) -> list[CheckView]:
        """See `Client.enabled`."""
        return [convert.check_view(row) for row in self.world.store.checks()]

    def cost_report(self, *, days: int = 30, every: bool = False) -> list[CostView]:
        """See `Client.cost_report`."""
        self._remind()
        from styx.api.costs import Report

        return Report(self.world, days).clusters(every=every)

    def cost_groups(self, by: Literal["user", "job", "cloud"], *, days: int = 30) -> list[CostGroup]:
        """See `Client.cost_groups`."""
        from styx.api.costs import Report

        return Report(self.world, days).groups(by)
