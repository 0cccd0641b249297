"""The cost report: what the ledger says, by cluster, user, job or cloud, with disk and traffic as lines of their own.

Machine time is what was written down as it was charged. Disks are estimated (`styx.api.estimates`); traffic is known
only where a cloud reports it, or asks nothing for it. What nobody knows is None and says why, and what is free is 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from styx.api import estimates
from styx.api.views import CostGroup, CostItem, CostView
from styx.errors import PluginError
from styx.state.ledger import Cost, Span, added, cost_by_item, cost_by_job, cost_of

if TYPE_CHECKING:
    from styx.driver import Cloud
    from styx.provision.world import World
    from styx.state.rows import ClusterRow, Rate

By = Literal["user", "job", "cloud"]


@dataclass(frozen=True)
class Spending:
    """One cluster's part of the report.

    Attributes:
        row: The cluster.
        rates: Its intervals within the report's time.
        items: Its lines.
        jobs: When its jobs ran, by id.
        names: What they are called.
    """

    row: ClusterRow
    rates: Sequence[Rate]
    items: tuple[CostItem, ...]
    jobs: dict[int, Span]
    names: dict[int, str | None]


class Report:
    """The ledger of one workspace, over the last `days` (0: all time)."""

    def __init__(self, world: World, days: int) -> None:
        self._world = world
        self.now = world.now()
        self.since = self.now - timedelta(days=days) if days else None
        self._clouds: dict[str, Cloud | None] = {}

    def clusters(self, *, every: bool = False) -> list[CostView]:
        """One line for each cluster that was charged for anything; with `every`, for all."""
        return [self._view(each) for each in self._spending(every=every)]

    def groups(self, by: By) -> list[CostGroup]:
        """The same, added up; the largest known amount first."""
        found = [group for each in self._spending() for group in self._parts(each, by)]
        together: defaultdict[str, list[CostGroup]] = defaultdict(list)
        for group in found:
            together[group.name].append(group)
        merged = [_merged(groups) for groups in together.values()]
        return sorted(merged, key=lambda group: (-group.usd_known, group.name))

    def _spending(self, *, every: bool = False) -> Iterable[Spending]:
        store = self._world.store
        for row in store.clusters(workspace=self._world.workspace, ended=True):
            rates = store.rates(since=self.since, cluster=row.key)
            if rates or every:
                jobs = [job for job in store.jobs(row.key) if job.started_at is not None]
                yield Spending(
                    row=row,
                    rates=rates,
                    items=tuple(self._items(row, rates)),
                    jobs={job.job_id: Span(job.started_at, job.ended_at) for job in jobs if job.started_at},
                    names={job.job_id: job.name for job in jobs},
                )

    def _view(self, one: Spending) -> CostView:
        cost = cost_of(one.rates, self.now, self.since)
        return CostView(
            cluster=one.row.name,
            key=one.row.key,
            user=one.row.owner,
            infra=str(one.row.place) if one.row.place else "-",
            state=one.row.state,
            nodes=one.row.num_nodes,
            hours=cost.hours,
            usd=cost.usd,
            usd_known=cost.usd_known,
            rates=tuple(one.rates),
            items=one.items,
        )

    def _parts(self, one: Spending, by: By) -> Iterable[CostGroup]:
        """A cluster's share of each group it belongs to; lines beside machine time go to the first."""
        row = one.row
        if by == "user":
            yield _group(by, row.owner, cost_of(one.rates, self.now, self.since), one.items)
        elif by == "cloud":
            clouds = list(dict.fromkeys(rate.place.cloud for rate in one.rates))
            for cloud in clouds:
                cost = cost_of([rate for rate in one.rates if rate.place.cloud == cloud], self.now, self.since)
                items = one.items if cloud == (row.place.cloud if row.place else clouds[0]) else ()
                yield _group(by, cloud, cost, items, own=cost)
        else:
            yield from self._jobs(one)

    def _jobs(self, one: Spending) -> Iterable[CostGroup]:
        row = one.row
        costs = cost_by_job([rate for rate in one.rates if rate.item == "compute"], one.jobs, self.now, self.since)
        beside = [item for item in one.items if item.item != "compute"]
        for job, cost in sorted(costs.items(), key=lambda pair: pair[0] or 0):
            if job is not None:
                name = one.names.get(job)
                label = f"{row.name}/{job}" + (f" {name}" if name and name != row.name else "")
                group = _group("job", label, cost, ())
                yield group.model_copy(update={"cluster": row.name, "job_id": job})
        idle = costs.get(None, Cost(usd=0.0, usd_known=0.0, hours=0.0))
        paid = added([idle, cost_of([rate for rate in one.rates if rate.item != "compute"], self.now, self.since)])
        group = _group("job", f"{row.name} (no job)", paid, beside, own=idle)
        yield group.model_copy(update={"cluster": row.name})

    # lines -----------------------------------------------------------------------------------------------------
    def _items(self, row: ClusterRow, rates: Sequence[Rate]) -> Iterable[CostItem]:
        written = cost_by_item(rates, self.now, self.since)
        free = bool(rates) and all(self._is_free(rate.place.cloud) for rate in rates)
        for item in ("compute", "disk", "egress", "other"):
            cost = written.get(item)
            if cost is not None:
                yield CostItem(item=item, usd=cost.usd, usd_known=cost.usd_known)
            elif free and item in ("disk", "egress"):
                yield CostItem(item=item, usd=0.0)
            elif item == "disk":
                yield estimates.disk(self._cloud(row), row, rates, self.now, self.since)
            elif item == "egress":
                yield estimates.traffic(row)

    def _is_free(self, name: str) -> bool:
        cloud = self._named(name)
        return cloud is not None and cloud.free

    def _cloud(self, row: ClusterRow) -> Cloud | None:
        return self._named(row.place.cloud) if row.place else None

    def _named(self, name: str) -> Cloud | None:
        if name not in self._clouds:
            try:
                self._clouds[name] = self._world.cloud(name)
            except PluginError:  # its plugin is gone or broken: what it asks for disks is not known any more
                self._clouds[name] = None
        return self._clouds[name]


def _group(by: By, name: str, cost: Cost, items: Sequence[CostItem], *, own: Cost | None = None) -> CostGroup:
    """One line; with `own`, that is its machine time, whatever the lines of its cluster say."""
    if own is not None or not items:
        machine = own or cost
        compute = CostItem(item="compute", usd=machine.usd, usd_known=machine.usd_known)
        items = (compute, *(each for each in items if each.item != "compute"))
    return CostGroup(by=by, name=name, hours=cost.hours, usd=cost.usd, usd_known=cost.usd_known, items=tuple(items))


def _merged(groups: Sequence[CostGroup]) -> CostGroup:
    if len(groups) == 1:
        return groups[0]
    lines: dict[str, list[CostItem]] = {}
    for group in groups:
        for each in group.items:
            lines.setdefault(each.item, []).append(each)
    total = added(Cost(usd=each.usd, usd_known=each.usd_known, hours=each.hours) for each in groups)
    return groups[0].model_copy(
        update={
            "usd": total.usd,
            "usd_known": total.usd_known,
            "hours": total.hours,
            "items": tuple(_line(each) for each in lines.values()),
        }
    )


def _line(items: Sequence[CostItem]) -> CostItem:
    total = added(Cost(usd=each.usd, usd_known=each.usd_known, hours=0.0) for each in items)
    notes = dict.fromkeys(each.note for each in items if each.note)
    return CostItem(
        item=items[0].item,
        usd=total.usd,
        usd_known=total.usd_known,
        estimated=any(each.estimated for each in items),
        note="; ".join(notes) or None,
    )
