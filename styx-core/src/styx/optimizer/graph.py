"""What the graph planner is asked: tasks, what flows between them, what must hold, and what is wished. Frozen."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, model_validator

from styx.driver import CatalogRow, Place, Value
from styx.optimizer.egress import Tariff
from styx.optimizer.problem import Limit, Preference, Requirement, Reservation, Selector

__all__ = [
    "Candidates", "Data", "Edge", "GraphProblem", "GraphTask", "Limit", "Preference", "Requirement", "Reservation",
    "Selector",
]  # fmt: skip


class Data(Value):
    """Data outside the graph that a task reads or writes."""

    gb: float = Field(ge=0)
    cloud: str | None = None
    """None is somewhere on the internet, from which sending is free of charge to us."""
    region: str | None = None
    """None is a region that is not known: the same cloud, but no nearer."""


class GraphTask(Value):
    """One task to place."""

    name: str
    num_nodes: int = Field(default=1, ge=1)
    alternatives: tuple[Requirement, ...] = Field(min_length=1)
    ordered: bool = False
    """An earlier alternative is taken before a later one whatever it costs; otherwise the best wins."""
    hours: float = Field(default=1.0, gt=0)
    """Estimated run time."""
    hours_on: dict[str, float] = Field(default_factory=dict)
    """Estimates that differ, by accelerator name or instance type."""
    inputs: tuple[Data, ...] = ()
    """Read before it runs."""
    outputs: tuple[Data, ...] = ()
    """Written after it ran."""
    exclude: tuple[Selector, ...] = ()
    """For this task, beside what holds for all."""
    allow: tuple[Selector, ...] = ()
    """When not empty, only these for this task."""


class Edge(Value):
    """`target` runs after `source` and reads what it wrote."""

    source: str
    target: str
    gb: float = Field(default=0.0, ge=0)


class GraphProblem(Value):
    """A task graph to place."""

    tasks: tuple[GraphTask, ...] = Field(min_length=1)
    edges: tuple[Edge, ...] = ()
    objective: Literal["cost", "time"] = "cost"
    """`time`: earliest end of the last task, and the cheapest among those; `cost`: the cheapest."""
    deadline_s: float | None = None
    """The last task must have ended by then, counted from the start of the first."""
    budget_usd: float | None = None
    """Machines and transfers together."""
    max_usd_per_hour: float | None = None
    """For all tasks that may run at the same time."""
    limits: tuple[Limit, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    """Groups of tasks that must share cloud, account and region."""
    exclude: tuple[Selector, ...] = ()
    allow: tuple[Selector, ...] = ()
    """When not empty, only these."""
    preferences: tuple[Preference, ...] = ()
    """Soft: they steer the choice and are in no total."""
    reservations: tuple[Reservation, ...] = ()
    places: tuple[Place, ...]
    """Where machines may be made."""
    blocked: tuple[Selector, ...] = ()
    """What refused in this launch."""
    tariffs: tuple[Tariff, ...] = ()
    """Instead of the built-in ones, such as negotiated prices for traffic."""
    time_limit_s: float = Field(default=5.0, gt=0)
    """For the search; what it found until then is returned with its proven gap."""

    @model_validator(mode="after")
    def _is_a_graph(self) -> GraphProblem:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"two tasks have the same name: {sorted(n for n in names if names.count(n) > 1)[0]}")
        asked = [(f"edge {e.source} -> {e.target}", n) for e in self.edges for n in (e.source, e.target)]
        asked += [("a group", name) for group in self.together for name in group]
        for what, name in asked:
            if name not in names:
                raise ValueError(f"{what} names {name!r}, which is not a task")
        placed = [name for group in self.together for name in group]
        if len(set(placed)) < len(placed):
            raise ValueError("a task is in two groups")
        order(names, [(edge.source, edge.target) for edge in self.edges])
        return self

    @property
    def kind(self) -> Literal["single", "chain", "dag", "group"]:
        """The shape, for messages."""
        if len(self.tasks) == 1:
            return "single"
        if not self.edges:
            return "group"
        sources, targets = [e.source for e in self.edges], [e.target for e in self.edges]
        path = len(self.edges) == len(self.tasks) - 1 and len({*sources}) == len(sources) == len({*targets})
        return "chain" if path else "dag"


def order(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[str]:
    """The tasks so that each comes after those it waits for.

    Raises:
        ValueError: There is a cycle; the message names it.
    """
    before: dict[str, set[str]] = {name: set() for name in names}
    for source, target in edges:
        before[target].add(source)
    done: dict[str, None] = {}
    while len(done) < len(before):
        ready = [name for name in before if name not in done and before[name] <= done.keys()]
        if not ready:
            walk = [next(name for name in before if name not in done)]
            while walk.count(walk[-1]) == 1:
                walk.append(next(name for name in sorted(before[walk[-1]]) if name not in done))
            cycle = walk[walk.index(walk[-1]) :]
            raise ValueError(f"the tasks wait for each other in a circle: {' -> '.join(reversed(cycle))}")
        done.update(dict.fromkeys(ready))
    return list(done)


@dataclass(slots=True)
class Candidates:
    """What one task may be given, as parallel arrays; an entry is one row in one place.

    Attributes:
        rows: The offers.
        places: Where each is.
        usd_per_hour: For all nodes; NaN is unknown.
        rank: Which alternative it answers, first one first; all 0 when the order does not matter.
        answers: Which alternative it answers.
    """

    rows: list[CatalogRow] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    usd_per_hour: array[float] = field(default_factory=lambda: array("d"))
    rank: array[int] = field(default_factory=lambda: array("i"))
    answers: array[int] = field(default_factory=lambda: array("i"))

    def add(self, row: CatalogRow, place: Place, num_nodes: int, rank: int, answers: int) -> None:
        """Append one."""
        self.rows.append(row)
        self.places.append(place)
        self.usd_per_hour.append(math.nan if row.usd_per_hour is None else row.usd_per_hour * num_nodes)
        self.rank.append(rank)
        self.answers.append(answers)

    def __len__(self) -> int:
        return len(self.rows)
