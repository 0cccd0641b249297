"""The `ray` backend: forms a Ray cluster on the nodes, re-uses it, and takes it down.

Whether a running Ray is good enough is decided by `formation`; keeping it up is the business of each node's keeper
(`onnode.keeper`); a job is coordinated by `onnode.driver`, which the agent of rank 0 starts.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from styx.backends.base import Backend, ReadyNode
from styx.backends.ray.bundle import bundle
from styx.backends.ray.environments import NodeEnvironments
from styx.backends.ray.formation import Report, all_up, node_spec, split, stays
from styx.backends.ray.node import Node
from styx.backends.ray.runtime import OwnRuntime, RayRuntime
from styx.errors import DeadlineExceeded, InternalError, StyxError
from styx.parallel import in_parallel

if TYPE_CHECKING:
    from styx.config import Settings
    from styx_agent.protocol import DriverSpec

UP_S = 120.0
"""How long Ray may take to come up on all nodes."""


@dataclass(frozen=True)
class RayBackend(Backend):
    """See the module."""

    name: ClassVar[str] = "ray"
    own: RayRuntime = field(default_factory=OwnRuntime)
    remote: RayRuntime = field(default_factory=NodeEnvironments)

    def with_settings(self, settings: Settings) -> RayBackend:
        """Installs Ray on nodes as `ray` of the config says."""
        return replace(self, remote=NodeEnvironments(settings.ray)) if settings.ray is not None else self

    def require(self, *, shares_host: bool) -> None:
        """Refuse when Ray is not installed here and nodes would need it, or when the settings name none to install."""
        self._runtime(shares_host=shares_host).version()

    def _runtime(self, *, shares_host: bool) -> RayRuntime:
        return self.own if shares_host else self.remote

    def prepare(
        self,
        key: str,
        nodes: Sequence[ReadyNode],
        cache: Path,  # noqa: ARG002 - a dozen small files need none
        say: Callable[[str], None],
    ) -> DriverSpec | None:
        """Bring up Ray on all nodes. When all of it is up this costs one short command on each node, in parallel.

        Raises:
            PluginError: Ray is missing or too old.
            WrongState: The nodes have different Pythons.
            DeadlineExceeded: It did not come up on some node; the message names the first and says why.
            Unreachable: A node does not answer, or Ray could not be installed there.
        """
        built = bundle()
        members = [Node(ready, built, key) for ready in sorted(nodes, key=lambda node: node.rank)]
        runtime = self._runtime(shares_host=all(node.ready.shares_host for node in members))
        version = runtime.version()
        reports = in_parallel(lambda node: Report.parse(node.ask("status")), members)
        pythons = runtime.pythons(members, reports, in_parallel, say)
        formation = Formation(version, members, pythons)
        if not all_up(reports, formation.specs(reports[0].cluster, reports[0].address)):
            say(f"starting Ray {version} on {len(members)} nodes")
            began = time.monotonic()
            up = formation.start(reports[0], in_parallel)
            took_s = time.monotonic() - began
            say(f"Ray is up on {len(members)} nodes after {took_s:.1f} s{split(up, took_s)}")
        head = members[0]
        return {"argv": [pythons[0], "-s", head.program, "drive", "--root", head.root], "env": {}}

    def teardown(self, key: str, nodes: Sequence[ReadyNode]) -> None:
        """End Ray on the nodes that answer and remove what it made, the short temporary folder too.

        Raises:
            InternalError: Processes of Ray survive being killed on some node.
        """
        built = bundle()
        members = [Node(ready, built, key) for ready in nodes]
        survivors = [found for found in in_parallel(_down, members) if found]
        if survivors:
            raise InternalError(f"Ray of {key} does not end: processes {survivors} survive being killed")


def _down(node: Node) -> list[int]:
    try:
        return list(node.ask("down")["survivors"])
    except StyxError:
        return []  # a node that does not answer is ended by its cloud


@dataclass(frozen=True)
class Formation:
    """One attempt to have Ray on all nodes."""

    version: str
    members: Sequence[Node]
    pythons: Sequence[str]

    def specs(self, cluster: str | None, address: str | None) -> list[dict[str, Any]]:
        """What each node shall run, when rank 0's Ray listens on `address`."""
        return [self._spec(place, cluster, address) for place in range(len(self.members))]

    def _spec(self, place: int, cluster: str | None, address: str | None) -> dict[str, Any]:
        node = self.members[place]
        return node_spec(
            node.key,
            node.ready,
            cluster=cluster or "",
            head=address if place else None,
            python=self.pythons[place],
            version=self.version,
        )

    def start(self, seen: Report, each: Callable[..., Any]) -> list[Report]:
        """Start what is not as it should be: rank 0 first, then the others at the same time, then wait for all.

        Args:
            seen: What rank 0 reported; when its Ray can stay, the others join it.
            each: `map`, but for all at the same time.

        Returns:
            What each node says now that it is up.
        """
        head = self.members[0]
        if stays(seen, self._spec(0, seen.cluster, None)):
            token, cluster = str(head.ask("secret")["token"]), seen.cluster
        else:
            token, cluster = secrets.token_hex(32), secrets.token_hex(8)
        begun = self._ensure(0, self._spec(0, cluster, None), token)
        if begun.address is None:
            raise self._failed(head, begun)
        others = range(1, len(self.members))
        list(each(lambda place: self._ensure(place, self._spec(place, cluster, begun.address), token), others))
        reports = list(each(self._await, self.members))
        for node, report in zip(self.members, reports, strict=True):
            if report.state != "up":
                raise self._failed(node, report)
        return reports

    def _ensure(self, place: int, spec: dict[str, Any], token: str) -> Report:
        node = self.members[place]
        order = {**spec, "token": token, "agent_path": node.ready.agent_path}
        return Report.parse(node.ask("ensure", python=spec["python"], order=order))

    def _await(self, node: Node) -> Report:
        return Report.parse(node.ask("await", wait_s=UP_S))

    def _failed(self, node: Node, report: Report) -> DeadlineExceeded:
        why = report.error or f"it is {report.state} after {UP_S:g} s"
        return DeadlineExceeded(
            f"Ray did not come up on rank {node.ready.rank} of {node.key}: {why}",
            hint=f"its log is {node.root}/keeper.log on that node",
        )
