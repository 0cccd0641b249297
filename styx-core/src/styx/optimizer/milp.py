"""The placement as a mixed-integer program for HiGHS, tight and small.

One binary per task and choice; one continuous variable per edge, shared node of the tree of places, and tariff of the
sender ("both ends are below this node"). Each node saves the difference between the tariff of the level above it and
its own. For whole choices that gives the exact cost; for fractional ones it gives the best that any pairing of the two
fractions could, so that chains and trees come out whole without branching. See docs/explanation/optimizer.md.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from styx.optimizer.egress import Level
from styx.optimizer.model import MONEY_SLACK, Choice, Link, Model, finish_ms
from styx.optimizer.network import NOWHERE

if TYPE_CHECKING:
    import highspy

Stage = Literal["rank", "time", "cost"]
REL_GAP = 1e-6
"""Proven to one part in a million counts as optimal."""
_TIME_SLACK_S = 0.0005
"""Half of the millisecond that times are rounded to."""


@dataclass(frozen=True)
class Answer:
    """What the solver found.

    Attributes:
        picks: A choice for each task; None when there is no plan, or none was found in time.
        proven: The plan is optimal, or that there is none is certain.
        gap: Proven relative distance from the optimum; None when unknown.
        nodes: How many nodes of the search tree were looked at.
    """

    picks: list[int] | None
    proven: bool
    gap: float | None
    nodes: int = 0


@dataclass
class _Rows:
    """Constraints, in the form that HiGHS takes."""

    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, terms: dict[int, float], lower: float = -math.inf, upper: float = math.inf) -> None:
        self.starts.append(len(self.index))
        self.index.extend(terms)
        self.value.extend(terms.values())
        self.lower.append(lower)
        self.upper.append(upper)


@dataclass
class _Meeting:
    """A variable: both ends of an edge are below a node, and the sender has a tariff."""

    column: int
    link: int
    sender: int
    saves_usd: float
    saves_ms: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]


class Program:
    """The matrix of one model; stages differ in what they minimise and in what earlier ones fixed."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.timed = model.by_time or model.deadline_ms is not None
        self.rows = _Rows()
        self.columns = 0
        self.first: list[int] = []
        """By task: the column of its first choice."""
        for choices in model.tasks:
            self.first.append(self.columns)
            self.columns += len(choices)
        self.binaries = self.columns
        self.meetings: list[_Meeting] = []
        for number, link in enumerate(model.links):
            self._meet(number, link)
        self.ends = self.columns
        """First of the columns that say when a task ends."""
        self.last = self.ends + len(model.tasks)
        """The column that says when the last task ends."""
        if self.timed:
            self.columns = self.last + 1
        self.homes: list[dict[int, int]] = []
        for group in model.groups:
            self._gather(group)
        self._one_choice_each()
        if self.timed:
            self._times()
        self._at_once()
        if model.budget_usd is not None:
            self.rows.add(self.costs("usd"), upper=model.budget_usd + MONEY_SLACK)

    # ---------------------------------------------------------------------------------------------------- variables
    def _meet(self, number: int, link: Link) -> None:
        """Variables and rows for one edge."""
        network = self.model.network
        sources = self._below(link.source)
        targets = self._below(link.target)
        merged: dict[tuple[int, tuple[int, ...], tuple[int, ...]], _Meeting] = {}
        at: dict[int, dict[int, _Meeting]] = {}
        for node in sources.keys() & targets.keys() - {0}:
            level, above = network.level[node], network.level[network.parent[node]]
            by_sender: defaultdict[int, list[int]] = defaultdict(list)
            for i in sources[node]:
                by_sender[network.sender[self.model.tasks[link.source].site[i]]].append(i)
            for sender, sending in by_sender.items():
                usd = link.usd[sender][above] - link.usd[sender][level]
                ms = link.ms[above] - link.ms[level] if self.timed else 0
                if usd <= 1e-12 and ms <= 0:
                    continue
                key = (sender, tuple(sending), tuple(targets[node]))
                known = merged.setdefault(key, _Meeting(0, number, sender, 0.0, 0, key[1], key[2]))
                known.saves_usd += usd
                known.saves_ms += ms
                at.setdefault(node, {})[sender] = known
        for meeting in merged.values():
            meeting.column = self.columns
            self.columns += 1
            self.meetings.append(meeting)
            terms = {self.first[link.source] + i: -1.0 for i in meeting.sources}
            self.rows.add({meeting.column: 1.0, **terms}, upper=0.0)
        seen: set[tuple[int, ...]] = set()
        for node, meetings in at.items():
            columns = tuple(sorted(each.column for each in meetings.values()))
            if columns not in seen:
                seen.add(columns)
                terms = {self.first[link.target] + i: -1.0 for i in targets[node]}
                self.rows.add({**dict.fromkeys(columns, 1.0), **terms}, upper=0.0)
        if any(len(meetings) > 1 for meetings in at.values()):
            self._nest(at)

    def _nest(self, at: dict[int, dict[int, _Meeting]]) -> None:
        """Who meets in a region meets in its cloud: needed for tightness where senders of one node differ."""
        done: set[tuple[int, int]] = set()
        for node, meetings in at.items():
            for sender, inner in meetings.items():
                above = self.model.network.parent[node]
                while above and at.get(above, {}).get(sender, inner) is inner:
                    above = self.model.network.parent[above]
                outer = at.get(above, {}).get(sender)
                if outer is not None and (inner.column, outer.column) not in done:
                    done.add((inner.column, outer.column))
                    self.rows.add({inner.column: 1.0, outer.column: -1.0}, upper=0.0)

    def _below(self, task: int) -> dict[int, list[int]]:
        found: defaultdict[int, list[int]] = defaultdict(list)
        for i, site in enumerate(self.model.tasks[task].site):
            for node in self.model.network.paths[site]:
                if node != NOWHERE:
                    found[node].append(i)
        return found

    def _gather(self, group: Sequence[int]) -> None:
        """A group is in one region: a binary for each region that all of its tasks could have."""
        shared = set.intersection(*(set(self.model.tasks[task].home) for task in group))
        columns = {home: self.columns + n for n, home in enumerate(sorted(shared))}
        self.columns += len(columns)
        self.homes.append(columns)
        self.rows.add(dict.fromkeys(columns.values(), 1.0), lower=1.0, upper=1.0)
        for task in group:
            inside: defaultdict[int, dict[int, float]] = defaultdict(dict)
            for i, home in enumerate(self.model.tasks[task].home):
                inside[home][self.first[task] + i] = 1.0
            for home, terms in inside.items():
                extra = {columns[home]: -1.0} if home in columns else {}
                self.rows.add({**terms, **extra}, lower=0.0, upper=0.0)

    # -------------------------------------------------------------------------------------------------- constraints
    def _one_choice_each(self) -> None:
        for task, choices in enumerate(self.model.tasks):
            self.rows.add({self.first[task] + i: 1.0 for i in range(len(choices))}, lower=1.0, upper=1.0)

    def _times(self) -> None:
        model = self.model
        saved: defaultdict[int, dict[int, float]] = defaultdict(dict)
        for meeting in self.meetings:
            if meeting.saves_ms:
                saved[meeting.link][meeting.column] = meeting.saves_ms / 1000
        for task, choices in enumerate(model.tasks):
            runs = {self.first[task] + i: -ms / 1000 for i, ms in enumerate(choices.ms)}
            self.rows.add({self.ends + task: 1.0, **runs}, lower=0.0)
            self.rows.add({self.last: 1.0, self.ends + task: -1.0}, lower=0.0)
        for number, link in enumerate(model.links):
            runs = {self.first[link.target] + i: -ms / 1000 for i, ms in enumerate(model.tasks[link.target].ms)}
            terms = {self.ends + link.target: 1.0, self.ends + link.source: -1.0, **runs, **saved[number]}
            self.rows.add(terms, lower=link.ms[Level.INTERNET] / 1000)
        if model.deadline_ms is not None:
            self.rows.add({self.last: 1.0}, upper=model.deadline_ms / 1000 + _TIME_SLACK_S)

    def _at_once(self) -> None:
        model = self.model
        for tasks in model.at_once:
            columns = [(self.first[task] + i, task, i) for task in tasks for i in range(len(model.tasks[task]))]
            if model.max_usd_per_hour is not None:
                rates = {column: model.tasks[task].usd_per_hour[i] for column, task, i in columns}
                self.rows.add(rates, upper=model.max_usd_per_hour + MONEY_SLACK)
            for index, limit in enumerate(model.limits):
                used = {column: model.tasks[task].uses[i][index] for column, task, i in columns}
                self.rows.add({column: use for column, use in used.items() if use}, upper=limit.most + MONEY_SLACK)

    # --------------------------------------------------------------------------------------------------- objectives
    def costs(self, what: Literal["usd", "score"]) -> dict[int, float]:
        """Coefficients of the cost of a plan."""
        model = self.model
        found: dict[int, float] = {}
        for task, choices in enumerate(model.tasks):
            own = choices.usd if what == "usd" else choices.score
            far = [link.usd for link in model.links if link.source == task]
            for i, site in enumerate(choices.site):
                sender = model.network.sender[site]
                found[self.first[task] + i] = own[i] + sum(usd[sender][Level.INTERNET] for usd in far)
        for meeting in self.meetings:
            found[meeting.column] = -meeting.saves_usd
        return found

    def objective(self, stage: Stage) -> dict[int, float]:
        """What a stage minimises."""
        if stage == "cost":
            return self.costs("score")
        if stage == "time":
            return {self.last: 1.0}
        return {
            self.first[task] + i: float(rank)
            for task, choices in enumerate(self.model.tasks)
            for i, rank in enumerate(choices.rank)
            if rank
        }

    def start(self, picks: Sequence[int]) -> list[float]:
        """All columns for a known plan."""
        values = [0.0] * self.columns
        chosen: list[Choice] = []
        for task, pick in enumerate(picks):
            values[self.first[task] + pick] = 1.0
            chosen.append(self.model.tasks[task].get(pick))
        for meeting in self.meetings:
            link = self.model.links[meeting.link]
            meets = picks[link.source] in meeting.sources and picks[link.target] in meeting.targets
            values[meeting.column] = float(meets)
        for group, columns in zip(self.model.groups, self.homes, strict=True):
            home = chosen[group[0]].home
            if home in columns:
                values[columns[home]] = 1.0
        if self.timed:
            ends = finish_ms(self.model, chosen)
            for task, ms in enumerate(ends):
                values[self.ends + task] = ms / 1000
            values[self.last] = max(ends) / 1000
        return values


def solve(model: Model, *, first: Sequence[int] | None = None, seconds: float = 5.0, cost: bool = True) -> Answer:
    """The best plan that keeps all bounds.

    Args:
        model: Each of its tasks has a choice.
        first: A plan that keeps all bounds, to start from.
        seconds: When to stop searching.
        cost: Of the plans that are best in all else, look for the cheapest.

    Raises:
        ImportError: HiGHS is not installed.
    """
    until = time.monotonic() + seconds
    program = Program(model)
    ranked = any(len(set(choices.rank)) > 1 for choices in model.tasks)
    asked: dict[Stage, bool] = {"rank": ranked, "time": model.by_time, "cost": cost}
    stages = [stage for stage, wanted in asked.items() if wanted]
    best = list(first) if first is not None else None
    answer = Answer(best, proven=False, gap=None)
    nodes = 0
    proven = True
    gap: float | None = None
    for number, stage in enumerate(stages):
        left = max(0.05, until - time.monotonic())
        answer, value = _run(program, stage, best, left)
        nodes += answer.nodes
        if answer.picks is None:
            return Answer(best, answer.proven and best is None, None, nodes)
        best = answer.picks
        if gap is None or not proven or number == 0:
            gap = answer.gap if not proven or stage == "cost" or not answer.proven else None
        proven = proven and answer.proven
        slack = 0.5 if stage == "rank" else _TIME_SLACK_S
        if stage != "cost":
            program.rows.add(program.objective(stage), upper=_value(model, best, stage, value) + slack)
    return Answer(best, proven, (0.0 if gap is None else gap) if proven else gap, nodes)


def _value(model: Model, picks: Sequence[int], stage: Stage, value: float) -> float:
    chosen = [choices.get(pick) for choices, pick in zip(model.tasks, picks, strict=True)]
    if stage == "rank":
        return float(sum(each.rank for each in chosen))
    return max(finish_ms(model, chosen)) / 1000 if stage == "time" else value


def _run(program: Program, stage: Stage, first: Sequence[int] | None, seconds: float) -> tuple[Answer, float]:
    import highspy

    solver = _silent()
    solver.setOptionValue("time_limit", seconds)
    solver.setOptionValue("mip_rel_gap", REL_GAP)
    solver.setOptionValue("mip_abs_gap", 1e-7)
    solver.setOptionValue("presolve", "off")  # finds nothing here, and takes most of the time
    solver.setOptionValue("mip_detect_symmetry", False)
    solver.passModel(_lp(program, stage))
    if first is not None:
        values = program.start(first)
        solver.setSolution(len(values), _ints(range(len(values))), _floats(values))
    solver.run()
    status = solver.getModelStatus()
    info = solver.getInfo()
    infeasible = status in (highspy.HighsModelStatus.kInfeasible, highspy.HighsModelStatus.kUnboundedOrInfeasible)
    if infeasible or info.primal_solution_status != 2 or not math.isfinite(info.objective_function_value):
        return Answer(None, proven=infeasible, gap=None, nodes=max(0, info.mip_node_count)), math.nan
    values = list(solver.getSolution().col_value)
    picks = [
        max(range(len(choices)), key=lambda i, at=at: values[at + i])  # type: ignore[misc]
        for at, choices in zip(program.first, program.model.tasks, strict=True)
    ]
    gap = float(info.mip_gap) if math.isfinite(info.mip_gap) else None
    proven = status == highspy.HighsModelStatus.kOptimal
    return Answer(picks, proven, gap, max(0, info.mip_node_count)), float(info.objective_function_value)


def _silent() -> highspy.Highs:
    """A solver that prints nothing: stdout is for data.

    Since 1.16 the constructor of `highspy.Highs` switches callbacks on, which prints a banner before any option can be
    set; its base class's does not, and callbacks are not used here.
    """
    import highspy

    class Silent(highspy.Highs):
        def __init__(self) -> None:
            super(highspy.Highs, self).__init__()
            self.setOptionValue("output_flag", False)

    return Silent()


def _lp(program: Program, stage: Stage) -> highspy.HighsLp:
    import highspy

    rows, columns = program.rows, program.columns
    costs = program.objective(stage)
    upper = [1.0] * columns
    if program.timed:
        upper[program.ends : program.last + 1] = [math.inf] * (program.last + 1 - program.ends)
    whole = {column for homes in program.homes for column in homes.values()}
    kinds = [
        highspy.HighsVarType.kInteger if at < program.binaries or at in whole else highspy.HighsVarType.kContinuous
        for at in range(columns)
    ]
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = columns, len(rows.lower)
    lp.col_cost_ = _floats(costs.get(at, 0.0) for at in range(columns))
    lp.col_lower_, lp.col_upper_ = _floats([0.0] * columns), _floats(upper)
    lp.row_lower_, lp.row_upper_ = _floats(rows.lower), _floats(rows.upper)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = _ints([*rows.starts, len(rows.index)])
    lp.a_matrix_.index_ = _ints(rows.index)
    lp.a_matrix_.value_ = _floats(rows.value)
    lp.integrality_ = kinds
    return lp


def _floats(values: Any) -> Any:
    import numpy

    return numpy.fromiter(values, dtype=numpy.float64)


def _ints(values: Any) -> Any:
    import numpy

    return numpy.fromiter(values, dtype=numpy.int32)
