"""A lower bound for graphs of any shape, and with it fewer choices: messages along edges, sequentially, as in TRW-S.

Costs are shifted between tasks and edges without changing any plan's total, so that what is left is nowhere below
zero; what was taken out is a lower bound of every plan, and with what is left at a choice, of every plan that uses it.
A choice whose bound is above a known plan is cut. On trees the bound is exact; elsewhere it comes close to that of the
linear relaxation of `milp` in a fraction of the time, and mostly what remains to be searched is small or nothing.

A message takes time in proportion to the choices (not to their pairs), because of the tree of places. Needs NumPy,
which comes with HiGHS.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from styx.optimizer.egress import Level
from styx.optimizer.model import Model
from styx.optimizer.network import NOWHERE

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Ints = np.ndarray[Any, np.dtype[np.intp]]

PROVEN = 1e-6
"""Relative distance from the bound that counts as optimal."""
_MAX_PASSES = 200
_COMPACT_BELOW = 0.7
_STALLED_PASSES = 6
_STALLED = 1e-5
_EARLY = 8
"""Passes after which plans are looked for less often."""
_SETTLE_ROUNDS = 20


@dataclass
class Bounds:
    """What came out.

    Attributes:
        lower: No plan costs less (bounds of the problem not even looked at).
        picks: The best plan known that keeps all bounds, as indexes into the model's choices.
        upper: What it costs.
        kept: For each task, the choices that a better plan may use.
    """

    lower: float
    picks: list[int] | None
    upper: float
    kept: list[list[int]]

    @property
    def gap(self) -> float:
        """Proven relative distance."""
        return gap_of(self.lower, self.upper)

    @property
    def proven(self) -> bool:
        """The plan is optimal."""
        return self.picks is not None and self.gap <= PROVEN


def gap_of(lower: float, upper: float) -> float:
    """Relative distance of a plan from a bound."""
    return max(0.0, upper - lower) / max(abs(upper), 1e-9)


def bound(model: Model, first: Sequence[int] | None, upper: float, seconds: float, *, decode: bool) -> Bounds:
    """Raise the bound, cut choices, and (with `decode`) look for better plans, until proven or no longer worth it.

    Args:
        model: Each of its tasks has a choice.
        first: A plan that keeps all bounds.
        upper: Its score; infinity without one.
        seconds: When to stop.
        decode: Plans need keep no bounds, so any plan found on the way counts.
    """
    run = _Run(model, first, upper)
    until = time.monotonic() + seconds
    if decode:
        run.settle([int(theta.argmin()) for theta in run.theta])
    stalled = 0
    for number in range(_MAX_PASSES):
        before = run.lower
        run.sweep(forward=number % 2 == 0)
        if decode and number % 2 == 1 and (number < _EARLY or number % _EARLY == 1):
            run.decode()
        if run.proven or all(len(kept) == 1 for kept in run.alive) or time.monotonic() > until:
            break
        stalled = stalled + 1 if run.lower - before < _STALLED * max(abs(run.lower), 1e-9) else 0
        if stalled >= _STALLED_PASSES:
            break
        if number % 2 == 1:
            run.compact(_COMPACT_BELOW)
    run.compact()
    kept = [set(alive.tolist()) for alive in run.alive]
    for task, pick in enumerate(run.picks or ()):
        kept[task].add(pick)  # rounding must not cut the plan that is known
    return Bounds(run.lower, run.picks, run.upper, [sorted(each) for each in kept])


class _Edge:
    """One edge over the choices that are left; `ends[0]` sends."""

    def __init__(self, run: _Run, number: int) -> None:
        import numpy as np

        link = run.model.links[number]
        self.ends = (link.source, link.target)
        costs = np.array(link.usd, dtype=np.float64)[:, run.levels]  # senders x levels
        self.out = np.ascontiguousarray(costs[run.senders[link.source]].T)
        """Levels x choices of the sender."""
        self.gather = tuple(run.meeting(here, there) for here, there in (self.ends, self.ends[::-1]))
        """For messages from the sender, and from the receiver."""

    def least(self, run: _Run, side: int, values: Floats) -> Floats:
        """For each choice at the other end: the least of `values` at this end plus the cost of the edge."""
        import numpy as np

        task = self.ends[side]
        levels, size = self.out.shape[0], len(values)
        spread = values + self.out if side == 0 else np.broadcast_to(values, (levels, size))
        groups = np.minimum.reduceat(spread.ravel(), run.starts[task])
        found = np.append(groups, np.inf)[self.gather[side]]
        if side == 1:
            found = found + self.out
        result: Floats = found.min(axis=0)
        return result

    def row(self, run: _Run, side: int, pick: int) -> Floats:
        """Cost of the edge for each choice at the other end, when this end takes `pick`."""
        import numpy as np

        own = run.groups[self.ends[side]][:, pick]
        meets = self.gather[side] == own[:, None]
        costs = self.out[:, pick][:, None] if side == 0 else self.out
        result: Floats = np.where(meets, costs, np.inf).min(axis=0)
        return result


class _Run:
    """The state: shifted costs of tasks, what each edge was given, and the constant taken out."""

    def __init__(self, model: Model, first: Sequence[int] | None, upper: float) -> None:
        import numpy as np

        self.model = model
        self.lower = 0.0
        self.picks = list(first) if first is not None else None
        self.upper = upper
        self.levels = _useful_levels(model)
        paths = np.array(model.network.paths, dtype=np.intp)
        sender = np.array(model.network.sender, dtype=np.intp)
        self.alive: list[Ints] = []
        """By task: the choices that are left, by their index in the model."""
        self.kept: list[Any] = []
        """Which of them are not cut yet."""
        self.score: list[Floats] = []
        self.theta: list[Floats] = []
        self._paths: list[Any] = []
        self.senders: list[Ints] = []
        for choices in model.tasks:
            sites = np.array(choices.site, dtype=np.intp)
            here = paths[sites]
            order = np.lexsort(here.T)  # the last column, the internet, is the first key
            self.alive.append(order)
            self._paths.append(here[order])
            self.senders.append(sender[sites[order]])
            self.score.append(np.array(choices.score, dtype=np.float64)[order])
            least = self.score[-1].min()  # may be below zero, by a wish: a bound without it would be none
            self.lower += float(least)
            self.theta.append(self.score[-1] - least)
            self.kept.append(np.ones(len(order), dtype=bool))
        self.given: list[list[Floats]] = [
            [np.zeros(len(self.alive[link.source])), np.zeros(len(self.alive[link.target]))] for link in model.links
        ]
        self.around: list[list[tuple[int, int, int]]] = [[] for _ in model.tasks]
        """By task: (edge, side, other task)."""
        for number, link in enumerate(model.links):
            self.around[link.source].append((number, 0, link.target))
            self.around[link.target].append((number, 1, link.source))
        self.position = {task: at for at, task in enumerate(model.order)}
        self._index()

    def _index(self) -> None:
        """Groups of choices by node at each level; they are contiguous as choices are sorted along the tree."""
        import numpy as np

        self.starts: list[Ints] = []
        self.groups: list[Ints] = []
        self._of_node: list[list[Ints]] = []
        nodes = len(self.model.network.level) + 1
        for paths in self._paths:
            starts, groups, of_node, count, size = [], [], [], 0, len(paths)
            for slot, level in enumerate(self.levels):
                above = paths[:, level:]
                first = np.ones(size, dtype=bool)
                first[1:] = (above[1:] != above[:-1]).any(axis=1)
                begins = np.flatnonzero(first)
                starts.append(begins + slot * size)
                number = np.cumsum(first) - 1 + count
                groups.append(number)
                lookup = np.full(nodes, -1, dtype=np.intp)
                lookup[paths[begins, level]] = number[begins]
                lookup[NOWHERE] = -1  # the last place: choices without a node at this level meet nobody there
                of_node.append(lookup)
                count += len(begins)
            self.starts.append(np.concatenate(starts))
            self.groups.append(np.array(groups))
            self._of_node.append(of_node)
        self.edges = [_Edge(self, number) for number in range(len(self.model.links))]

    def meeting(self, here: int, there: int) -> Ints:
        """Levels x choices of `there`: the group of `here` below the same node; -1 where there is none."""
        import numpy as np

        paths = self._paths[there]
        return np.array(
            [lookup[paths[:, level]] for lookup, level in zip(self._of_node[here], self.levels, strict=True)]
        )

    # ------------------------------------------------------------------------------------------------------ bounds
    def sweep(self, forward: bool) -> None:
        """One pass over all tasks: take from edges to tasks passed, note the bound, share with edges to come."""
        order = self.model.order if forward else self.model.order[::-1]
        for task in order:
            ahead = []
            behind = 0
            theta = self.theta[task]
            for number, side, other in self.around[task]:
                passed = (self.position[other] < self.position[task]) == forward
                if not passed:
                    ahead.append((number, side))
                    continue
                behind += 1
                given = self.given[number]
                taken = self.edges[number].least(self, 1 - side, -given[1 - side]) - given[side]
                given[side] += taken
                theta += taken
            least = float(theta.min())
            self.lower += least
            theta -= least
            self.kept[task] &= theta <= self.upper - self.lower + self.slack
            if not self.kept[task].any():  # each was cut by a bound of its own: nothing is better than what is known
                self.lower = max(self.lower, self.upper)
                return
            if ahead:
                share = theta / max(len(ahead), behind)
                for number, side in ahead:
                    self.given[number][side] -= share
                    theta -= share

    @property
    def slack(self) -> float:
        """Above rounding, below what is worth telling apart."""
        return 1e-9 * max(1.0, abs(self.lower))

    @property
    def proven(self) -> bool:
        """The plan is as good as the bound."""
        return gap_of(self.lower, self.upper) <= PROVEN

    def compact(self, below: float = 1.0) -> None:
        """Leave out what was cut, if less than this part is left."""
        left = sum(int(kept.sum()) for kept in self.kept)
        if left >= below * sum(map(len, self.alive)):
            return
        for number, link in enumerate(self.model.links):
            for side, task in enumerate((link.source, link.target)):
                self.given[number][side] = self.given[number][side][self.kept[task]]
        for task, kept in enumerate(self.kept):
            for parts in (self.alive, self.theta, self.score, self.senders, self._paths):
                parts[task] = parts[task][kept]
            self.kept[task] = kept[kept]
        self._index()

    # ------------------------------------------------------------------------------------------------------- plans
    def decode(self) -> None:
        """Look for a better plan: first along what the messages say, then task by task until nothing gets better."""
        picks: list[int] = [-1] * len(self.theta)
        for task in self.model.order:
            value = self.theta[task].copy()
            for number, side, other in self.around[task]:
                if picks[other] >= 0:
                    value += self.edges[number].row(self, 1 - side, picks[other]) - self.given[number][side]
            picks[task] = int(value.argmin())
        self.settle(picks)

    def settle(self, picks: list[int]) -> None:
        """Move one task at a time while that helps; keep the plan if it is the best so far."""
        for _ in range(_SETTLE_ROUNDS):
            moved = False
            for task in self.model.order:
                value = self.score[task].copy()
                for number, side, other in self.around[task]:
                    value += self.edges[number].row(self, 1 - side, picks[other])
                best = int(value.argmin())
                if value[best] < value[picks[task]] - self.slack:
                    picks[task], moved = best, True
            if not moved:
                break
        total = sum(float(self.score[task][pick]) for task, pick in enumerate(picks))
        for edge in self.edges:
            total += float(edge.row(self, 0, picks[edge.ends[0]])[picks[edge.ends[1]]])
        if total < self.upper:
            self.upper = total
            self.picks = [int(self.alive[task][pick]) for task, pick in enumerate(picks)]


def _useful_levels(model: Model) -> list[int]:
    """Levels at which some sender's price differs from that of the next level that every place has."""
    everywhere = {int(Level.REGION), int(Level.CLOUD), int(Level.INTERNET)}
    kept = [int(Level.INTERNET)]
    anchor = kept[0]
    for level in reversed(range(int(Level.INTERNET))):
        if any(costs[level] < costs[anchor] for link in model.links for costs in link.usd):
            kept.append(level)
            anchor = level if level in everywhere else anchor
    return sorted(kept)
