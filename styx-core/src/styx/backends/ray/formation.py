"""Decides, from what each node reports, where Ray must be started. No I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from styx.backends.base import ReadyNode
from styx.backends.ray.onnode.layout import spec_digest
from styx.errors import WrongState

LAYOUT_VERSION = 1
"""Raised when a running Ray of an older Styx can no longer be used."""


@dataclass(frozen=True)
class Report:
    """What a node says of its Ray.

    Attributes:
        state: `absent`, `starting`, `up` or `failed`.
        digest: Of the spec it was started with.
        address: Where its Ray listens for the others; meant for rank 0.
        cluster: Which life of the Ray cluster it belongs to.
        error: Why it failed, or what it is struggling with.
        launched_s: How long the last start of its Ray took.
        python: Major and minor version of the node's own Python.
        machine: As `uname -m` says it.
        environments: The interpreters that have Ray there, by Ray's version.
        wheels: Sizes of the wheels that were put there, by name.
    """

    state: str
    digest: str | None = None
    address: str | None = None
    cluster: str | None = None
    error: str | None = None
    launched_s: float | None = None
    python: str = ""
    machine: str = ""
    environments: Mapping[str, str] = field(default_factory=dict)
    wheels: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, said: Mapping[str, Any]) -> Report:
        """From the JSON of the zipapp's verbs; unknown fields are ignored."""
        names = ("digest", "address", "cluster", "error", "launched_s")
        known: dict[str, Any] = {name: said.get(name) for name in names}
        known |= {name: said[name] for name in ("python", "machine", "environments", "wheels") if name in said}
        return cls(str(said.get("state")), **known)


def node_spec(
    key: str, node: ReadyNode, *, cluster: str, head: str | None, python: str, version: str
) -> dict[str, Any]:
    """All that decides how Ray runs on a node. Equal specs mean that a running one can stay.

    Args:
        key: The cluster key.
        node: The node.
        cluster: The life of the Ray cluster; new whenever rank 0 is started from nothing.
        head: Rank 0's address, None on rank 0 itself.
        python: The interpreter that hosts Ray there.
        version: The version of Ray.
    """
    return {
        "layout": LAYOUT_VERSION,
        "key": key,
        "rank": node.rank,
        "cluster": cluster,
        "address": head,
        "ip": node.ip,
        "loopback": ipaddress.ip_address(node.ip).is_loopback,
        "home": node.transport.home,
        "cpus": node.cpus,
        "gpus": node.gpus,
        "env": dict(node.env),
        "python": python,
        "ray": version,
    }


def stays(report: Report, spec: Mapping[str, Any]) -> bool:
    """Whether the Ray of a node is, or will soon be, the one that `spec` asks for."""
    return report.state in ("starting", "up") and report.digest == spec_digest(dict(spec))


def all_up(reports: Sequence[Report], specs: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing is left to do."""
    return all(report.state == "up" and stays(report, spec) for report, spec in zip(reports, specs, strict=True))


def the_python(key: str, reports: Sequence[Report]) -> str:
    """The version of Python that all nodes have, by rank.

    Raises:
        WrongState: They differ, and no Ray cluster can span them.
    """
    ranks: dict[str, list[str]] = {}
    for rank, report in enumerate(reports):
        ranks.setdefault(report.python, []).append(str(rank))
    if len(ranks) > 1:
        shown = "; ".join(f"{python or 'unknown'} on rank {', '.join(each)}" for python, each in sorted(ranks.items()))
        raise WrongState(
            f"the nodes of {key} have different versions of Python: {shown}",
            hint="Ray needs the same one on all nodes: use one image for all of them",
        )
    return next(iter(ranks))


def split(reports: Sequence[Report], took_s: float) -> str:
    """How long Ray took to start, for the timeline: ` (rank 0 in 4.0 s, the slowest other in 3.1 s)`.

    What took longer than all of it was up before.
    """
    times = (report.launched_s for report in reports)
    head, *others = [seconds if seconds is not None and seconds <= took_s else None for seconds in times]
    slowest = max((seconds for seconds in others if seconds is not None), default=None)
    parts = [f"rank 0 in {head:.1f} s"] if head is not None else []
    parts += [f"the slowest other in {slowest:.1f} s"] if slowest is not None else []
    return f" ({', '.join(parts)})" if parts else ""
