"""From a task, a pipeline or a job group to a placement of all of it: asks for offers, then plans. Makes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from styx.driver import CatalogRow, FeatureSet, Place
from styx.errors import PluginError, UsageError
from styx.models.accelerators import answering
from styx.models.storage import cloud_of_url
from styx.models.suggest import did_you_mean
from styx.optimizer.candidates import Gathered, gather
from styx.optimizer.explain import Explanation, explain
from styx.optimizer.graph import Data, Edge, GraphProblem, GraphTask
from styx.optimizer.plan import GraphPlan, plan_gathered
from styx.optimizer.problem import Preference, Requirement, Selector
from styx.optimizer.refusals import FORGET_S, preferences
from styx.provision import offers, planning, zones
from styx.provision.options import EVERY_TASK, OptimizeOptions
from styx.provision.unsaid import Unsaid, unsaid
from styx.provision.wishes import configured, selector
from styx.provision.world import World

if TYPE_CHECKING:
    from styx.models import Document, JobGroup, Pipeline, Task

EMBEDDED: Final = planning.EMBEDDED
ASSUMED_ACCOUNT: Final = "assumed"
"""The account of places that no check has seen."""


@dataclass(frozen=True)
class Placed:
    """A plan, what it was made for, and the answers to what-ifs if they were asked for."""

    problem: GraphProblem
    plan: GraphPlan
    explanation: Explanation | None = None


def place(
    world: World,
    tasks: Document | Task | Pipeline | JobGroup | Sequence[Task],
    edges: Sequence[tuple[str, str, float]] = (),
    options: OptimizeOptions | None = None,
) -> Placed:
    """Plan everything together.

    Args:
        world: What is enabled, and what is sold.
        tasks: A document, or tasks with names.
        edges: (task, task that follows it, GB that flows); a pipeline's own are made from its tasks.
        options: What to be good at, and what to keep to.

    Raises:
        UsageError: The graph or the options make no sense; the message says where.
        NoPlaceLeft: No cloud is enabled, or a task names a zone that there is not.
        StyxError: No offers can be had.
    """
    options = options or OptimizeOptions()
    each = tasks_of(tasks)
    if len(each) == 1:
        world = replace(world, parts=world.parts.for_task(each[0]))
    graph, links, together = graph_of(tasks, edges, options, unsaid(world, options, each))
    market = Market(world, graph, options)
    problem = problem_of(world, market.zoned(graph), links, together, market.places, options)
    answer = world.hub.plan_graph(problem)
    gathered = gather(problem, market.offers, market.features)
    plan = answer or plan_gathered(problem, gathered)
    if idle := _idle_estimates(problem, gathered):
        plan = plan.model_copy(update={"warnings": (*plan.warnings, *idle)})
    told = None
    if options.explain or not plan.found:
        told = explain(problem, gathered, plan, market.offers, market.features, lambda wanted, _: market.offers(wanted))
    return Placed(problem, plan, told)


def _idle_estimates(problem: GraphProblem, gathered: Sequence[Gathered]) -> list[str]:
    """Run times on what no task would be given: a name misspelt, mostly."""
    named = {name for task in problem.tasks for name in task.hours_on}
    rows = [row for each in gathered for row in each.candidates.rows] if named else []
    there = {name for row in rows for name in (row.instance_type, (row.accelerator_name or "").lower())}
    return [
        f"the run time on {name} counts nowhere: no machine that would do is, or has, one"
        for name in sorted(named)
        if not {name, *(each.lower() for each in (name, *answering(name)))} & there
    ]


def problem_of(
    world: World,
    tasks: Sequence[GraphTask],
    edges: Sequence[Edge],
    together: tuple[tuple[str, ...], ...],
    places: Sequence[Place],
    options: OptimizeOptions,
) -> GraphProblem:
    """The whole question.

    Raises:
        UsageError: It makes no sense; the message says where.
    """
    settings = configured(world)
    try:
        return GraphProblem(
            tasks=tuple(tasks),
            edges=tuple(edges),
            objective=options.minimize,
            deadline_s=options.deadline_s,
            budget_usd=options.budget_usd,
            max_usd_per_hour=options.max_usd_per_hour,
            limits=(*options.limits, *settings.limits),
            together=together,
            exclude=(*options.exclude, *settings.exclude),
            allow=(*options.allow, *settings.allow),
            preferences=(*options.preferences, *settings.preferences, *remembered(world)),
            reservations=(*options.reservations, *settings.reservations),
            places=tuple(places),
            blocked=options.blocked,
            time_limit_s=options.time_limit_s,
        )
    except ValueError as error:
        raise UsageError(_first_words(error)) from None


def remembered(world: World) -> tuple[Preference, ...]:
    """Refusals of the last day as price penalties, for planners."""
    now = world.now()
    return preferences(world.store.refusals(now - timedelta(seconds=FORGET_S)), now)


def steered(
    world: World, options: OptimizeOptions, tasks: Sequence[GraphTask]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What else than the price counts within one place: names of machines and accelerators, and limited amounts.

    Args:
        world: For what the configuration says, and what refused lately.
        options: What is said for this plan.
        tasks: What is planned.
    """
    settings = configured(world)
    limits = (*options.limits, *settings.limits)
    selectors: list[Selector] = [
        *(*options.exclude, *settings.exclude, *options.allow, *settings.allow),
        *(each.where for each in (*options.preferences, *settings.preferences, *remembered(world))),
        *(each.where for each in (*options.reservations, *settings.reservations)),
        *(each.where for each in limits),
    ]
    selectors += [each for task in tasks for each in (*task.exclude, *task.allow)]
    names = {name for task in tasks for name in task.hours_on}
    names |= {*(name for each in selectors for name in (each.instance_type, each.accelerator) if name)}
    keep = {alias for name in names for alias in (name, *answering(name))}
    amounts = {"vcpus": "vcpus", "accelerators": "accelerator_count"}
    return tuple(sorted(keep)), tuple(sorted({amounts[each.of] for each in limits if each.of in amounts}))


def _first_words(error: ValueError) -> str:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        words = str(first["msg"]).removeprefix("Value error, ")
        return f"{where}: {words}" if where else words
    return str(error)


# ------------------------------------------------------------------------------------------------------- the market


class Market:
    """Offers by requirement, each asked for once.

    Args:
        world: What is enabled, and what is sold.
        tasks: What is planned.
        options: Which clouds count as enabled.
    """

    def __init__(self, world: World, tasks: Sequence[GraphTask], options: OptimizeOptions) -> None:
        self._world = world
        self._nodes = tuple({task.num_nodes > 1: task.num_nodes for task in tasks}.values())  # one, several, or both
        self._keep, self._apart = steered(world, options, tasks)
        self._assumed = tuple(dict.fromkeys(options.assume_enabled))
        self._features: dict[str, FeatureSet] = {}
        self._rows: dict[Requirement, list[CatalogRow]] = {}
        self._emptied: set[str] = set()
        self._more = 0
        wanted = [each for task in tasks for each in task.alternatives]
        self.places: tuple[Place, ...] = self._assumed_places() if self._assumed else self._enabled_places(wanted)

    def zoned(self, tasks: Sequence[GraphTask]) -> list[GraphTask]:
        """The tasks, with the clouds' own names of the zones that they ask for."""
        ask, places = not self._assumed, self.places
        return [
            task.model_copy(update={"alternatives": zones.named(self._world, task.alternatives, places, ask=ask)})
            if any(each.zone for each in task.alternatives)
            else task
            for task in tasks
        ]

    def offers(self, wanted: Requirement) -> list[CatalogRow]:
        """Rows that answer a requirement, or come near where none does."""
        if wanted not in self._rows:
            if self._assumed:
                rows = offers.from_catalog(
                    self._world, self.places, [wanted], self._nodes, self._keep, self._apart, more=self._more
                )
            else:
                rows, features = offers.gather(
                    self._world, self.places, [wanted], self._nodes, keep=self._keep, apart=self._apart, more=self._more
                )
                self._features.update(features)
            before = len(rows)
            self._world.hub.amend_offers(offers.query([wanted]), rows)
            if before and not rows and wanted.label not in self._emptied:
                self._emptied.add(wanted.label)
                self._world.hub.report(f"plugins that amend offers left none of {before} for {wanted.label}")
            self._rows[wanted] = rows
        return self._rows[wanted]

    def look_for(self, more: int) -> None:
        """From now on, ask for so many offers of each place beside the cheapest few."""
        if more != self._more:
            self._more = more
            self._rows.clear()

    def features(self, row: CatalogRow) -> FeatureSet:
        """What a row can do."""
        if row.features is not None:
            return row.features
        if row.cloud not in self._features:
            try:
                self._features[row.cloud] = self._world.cloud(row.cloud).features
            except PluginError:
                self._features[row.cloud] = FeatureSet()  # assumed to be enabled, and no plugin is there to ask
        return self._features[row.cloud]

    def _assumed_places(self) -> tuple[Place, ...]:
        known = self._world.catalog().clouds()
        priced = f"there are prices of {', '.join(known)}; others" if known else "prices"
        for name in self._assumed:
            if name not in known:
                live = name in self._world.hub.installed_clouds()
                raise UsageError(
                    f"{name} has no price list to plan with: it is asked what it has, which needs `styx check {name}`"
                    if live
                    else f"nothing is known of what {name} sells",
                    hint=did_you_mean(name, known) or f"{priced} come with a cloud's plugin, or `styx catalog refresh`",
                )
        regions = self._world.catalog().regions(self._assumed)
        missing = [name for name in self._assumed if name not in {cloud for cloud, _ in regions}]
        if missing:
            raise UsageError(
                f"nothing is known of what {', '.join(missing)} sells",
                hint="`styx catalog list` shows what is known; `styx catalog refresh` reads more",
            )
        return tuple(Place(cloud=cloud, account=ASSUMED_ACCOUNT, region=region) for cloud, region in regions)

    def _enabled_places(self, wanted: Sequence[Requirement]) -> tuple[Place, ...]:
        return planning.candidate_places(self._world, wanted)


# -------------------------------------------------------------------------------------------------------- the graph


def graph_of(
    given: Document | Task | Pipeline | JobGroup | Sequence[Task],
    edges: Sequence[tuple[str, str, float]],
    options: OptimizeOptions,
    rest: Unsaid,
) -> tuple[list[GraphTask], list[Edge], tuple[tuple[str, ...], ...]]:
    """Tasks, what flows between them, and which of them must be together."""
    from styx.models.dag import JobGroup, Pipeline
    from styx.models.reader import Document

    root = given.root if isinstance(given, Document) else given
    tasks = tasks_of(given)
    names = _names(tasks)
    unknown = sorted({*options.hours, *options.hours_on} - {*names, EVERY_TASK})
    if unknown:
        raise UsageError(f"an estimate is for {unknown[0]!r}, which is not a task", hint=f"tasks: {', '.join(names)}")
    links = [Edge(source=source, target=target, gb=gb) for source, target, gb in edges]
    if isinstance(root, Pipeline):
        links += [
            Edge(source=before, target=after, gb=sum((task.outputs or {}).values()))
            for before, after, task in zip(names, names[1:], tasks, strict=False)
        ]
    fed: dict[str, set[str]] = {name: set() for name in names}
    for link in links:
        if link.source in fed and link.target in fed:  # names that are no task are refused with the problem
            fed[link.target].update(tasks[names.index(link.source)].outputs or {})
    feeds = {link.source for link in links}
    alone = len(tasks) == 1
    made = [
        _task(name, task, options, fed[name], name in feeds, rest, alone)
        for name, task in zip(names, tasks, strict=True)
    ]
    connected = isinstance(root, JobGroup) and root.inter_connection and len(names) > 1
    return made, links, ((tuple(names),) if connected else ())


def tasks_of(given: Document | Task | Pipeline | JobGroup | Sequence[Task]) -> tuple[Task, ...]:
    """The tasks, in their order."""
    from styx.models.dag import JobGroup, Pipeline
    from styx.models.reader import Document
    from styx.models.task import Task

    root = given.root if isinstance(given, Document) else given
    if isinstance(root, Task):
        return (root,)
    return tuple(root.tasks if isinstance(root, (Pipeline, JobGroup)) else root)


def own_warnings(given: Document | Task | Pipeline | JobGroup | Sequence[Task]) -> list[str]:
    """What a launch of these tasks would refuse, and what of their own settings a plan of several passes over."""
    from styx.models.executed import unexecuted

    tasks = tasks_of(given)
    told: list[str] = []
    for name, task in zip(_names(tasks), tasks, strict=True):
        told += [f"a launch of {name} would be refused: {fault}" for fault in unexecuted(task)]
        placement = task.config.placement if task.config and len(tasks) > 1 else None
        passed = [key for key in ("prefer", "reserved", "quotas") if placement and getattr(placement, key)]
        told += [f"placement.{key} of {name} is passed over: it holds for plans of {name} alone" for key in passed]
    return told


def _names(tasks: Iterable[Task]) -> list[str]:
    names: list[str] = []
    for number, task in enumerate(tasks, 1):
        name = task.name or ("task" if number == 1 else f"task-{number}")
        while name in names:
            name = f"{name}-{number}"
        names.append(name)
    if not names:
        raise UsageError("there is no task to plan")
    return names


def _task(
    name: str, task: Task, options: OptimizeOptions, fed: set[str], feeds: bool, rest: Unsaid, alone: bool
) -> GraphTask:
    """In the planner's terms. What flows along an edge is not read from, or written to, a bucket as well."""
    inputs = [_data(url, gb) for url, gb in (task.inputs or {}).items() if url not in fed]
    placement = task.config.placement if task.config and not alone else None  # one task's is in the world's settings
    outputs = [] if feeds else [_data(url, gb) for url, gb in (task.outputs or {}).items()]
    return GraphTask(
        name=name,
        num_nodes=task.num_nodes,
        alternatives=tuple(
            rest.completed(planning.requirement(each, volumes=bool(task.volumes)), each, placement)
            for each in task.resources.alternatives()
        ),
        ordered=task.resources.is_ordered,
        hours=options.hours.get(name, options.hours.get(EVERY_TASK, 1.0)),
        hours_on={**options.hours_on.get(EVERY_TASK, {}), **options.hours_on.get(name, {})},
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        exclude=tuple(map(selector, (placement and placement.exclude) or ())),
        allow=tuple(map(selector, (placement and placement.only) or ())),
    )


def _data(url: str, gb: float) -> Data:
    """Where a bucket URL is. Its region is in the name of no scheme, so the same cloud is all that is assumed."""
    return Data(gb=gb, cloud=cloud_of_url(url))
