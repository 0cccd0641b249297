"""Places as leaves of a tree (zone < region < area < bloc < cloud < clouds < internet), and what moving data costs.

The tree is what makes the model small: what two tasks pay for an edge depends on the lowest node above both of them and
on the tariff of the sender, never on the pair of places.
"""

from __future__ import annotations

from collections.abc import Sequence

from styx.optimizer.egress import OWN, Level, Tariff, area_of, seconds, tariff_for

NOWHERE = -1
"""In a path: the place has no node at that level."""


class Network:
    """Sites are numbered as they are met; so are the nodes above them, and the tariffs of senders."""

    def __init__(self, own: Sequence[Tariff] = ()) -> None:
        self._own = tuple(own)
        self._sites: dict[tuple[str, str, str | None], int] = {}
        self._nodes: dict[tuple[object, ...], int] = {("internet",): 0}
        self._senders: dict[Tariff, int] = {}
        self._seen: dict[int, tuple[int, Tariff]] = {}
        self._shared: dict[tuple[int, int], Level] = {}
        self.paths: list[tuple[int, ...]] = []
        """By site: its node at each level."""
        self.sender: list[int] = []
        """By site: its tariff's number."""
        self.parent: dict[int, int] = {}
        """By node: the next one above."""
        self.level: dict[int, Level] = {0: Level.INTERNET}
        """By node."""

    @property
    def tariffs(self) -> tuple[Tariff, ...]:
        """By sender number."""
        return tuple(self._senders)

    def site(self, cloud: str, region: str, zone: str | None = None) -> int:
        """The number of a place."""
        key = (cloud, region, zone)
        found = self._sites.get(key)
        if found is not None:
            return found
        area, bloc = area_of(cloud, region)
        names: tuple[tuple[object, ...] | None, ...] = (
            ("zone", *key) if zone is not None else None,
            ("region", cloud, region),
            ("area", cloud, area) if area else None,
            ("bloc", cloud, bloc) if bloc else None,
            ("cloud", cloud),
            None if cloud in OWN else ("clouds",),
            ("internet",),
        )
        self.paths.append(self._path(names))
        self.sender.append(self._number(tariff_for(cloud, region, self._own)))
        self._sites[key] = len(self.paths) - 1
        return self._sites[key]

    def _path(self, names: Sequence[tuple[object, ...] | None]) -> tuple[int, ...]:
        """The node of each name, made where there is none; lowest level first, and the last one is the internet."""
        nodes, path = self._nodes, [NOWHERE] * len(names)
        below = NOWHERE
        for level, name in enumerate(names):
            if name is None:
                continue
            node = nodes.get(name)
            if below != NOWHERE:
                self.parent[below] = len(nodes) if node is None else node
                below = NOWHERE
            if node is None:
                node = below = nodes[name] = len(nodes)
                self.level[node] = Level(level)
            path[level] = node
        return tuple(path)

    def _number(self, tariff: Tariff) -> int:
        """Of a sender. Equal tariffs are one; the same object, as most are, needs no comparison."""
        known = self._seen.get(id(tariff))
        if known is None:
            number = self._senders.setdefault(tariff, len(self._senders))
            known = self._seen[id(tariff)] = (number, tariff)  # kept, so that no other object gets its id
        return known[0]

    def shared(self, one: int, other: int) -> Level:
        """The lowest level at which two sites meet."""
        found = self._shared.get((one, other))
        if found is None:
            pairs = zip(self.paths[one], self.paths[other], strict=True)
            met = next(level for level, (mine, theirs) in enumerate(pairs) if mine == theirs != NOWHERE)
            found = self._shared[one, other] = Level(met)  # at the internet, all do
        return found

    def usd(self, gb: float) -> list[tuple[float, ...]]:
        """By sender and level: what `gb` cost."""
        return [tariff.usd(gb) for tariff in self._senders]

    def ms(self, gb: float) -> tuple[int, ...]:
        """By level: how long `gb` take, in whole milliseconds, never less for a farther one."""
        return tuple(round(seconds(gb, level) * 1000) for level in Level)
