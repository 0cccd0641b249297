"""The `ray` backend: forms a Ray cluster on the nodes, re-uses it, and takes it down.

Whether a running Ray is good enough is decided by `formation`; keeping it up is the business of each node's keeper
(`onnode.keeper`); a job is coordinated by `onnode.driver`, which the agent of rank 0 starts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from styx.backends.base import Backend, ReadyNode
from styx.backends.ray.bundle import Bundle, bundle
from styx.backends.ray.formation import Report, all_up, node_spec, stays
from styx.backends.ray.runtime import OwnRuntime, RayRuntime
from styx.errors import DeadlineExceeded, InternalError, StyxError, Unreachable

if TYPE_CHECKING:
    from styx_agent.protocol import DriverSpec

UP_S = 120.0
"""How long Ray may take to come up on all nodes."""
_CALL_S = 30.0
_MISSING = 96
"""Exit code of the guard when the zipapp is not on the node; no verb ends with it."""
_GUARD = '[ -f "$1" ] || exit 96; shift; exec "$@"'
_AT_ONCE = 32


@dataclass(frozen=True)
class Node:
    """One node with its way to the zipapp."""

    ready: ReadyNode
    bundle: Bundle
    key: str

    @property
    def root(self) -> str:
        """The folder of Ray's things on the node."""
        return f"{self.ready.transport.agent_state}/ray"

    @property
    def program(self) -> str:
        """The zipapp on the node."""
        return f"{self.root}/{self.bundle.name}"

    def ask(
        self, verb: str, *, python: str | None = None, wait_s: float = _CALL_S, order: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run a verb of the zipapp, putting it on the node first where it is missing.

        Args:
            verb: See `onnode.main`.
            python: The interpreter; without one the node's own, in its leanest mode.
            wait_s: How long the verb may wait for what it is asked.
            order: What the verb reads.

        Raises:
            Unreachable: The node does not answer, or the verb failed there; the message carries what it said.
        """
        transport, program = self.ready.transport, self.program
        interpreter = (python, "-s") if python else (transport.python, "-I", "-S")
        argv = ("sh", "-c", _GUARD, "sh", program, *interpreter, program, verb, "--root", self.root)
        stdin = json.dumps(order).encode("utf-8") if order is not None else b""
        for _ in range(2):
            ran = transport.run((*argv, "--timeout", f"{wait_s:g}"), stdin=stdin, timeout_s=wait_s + 15.0)
            if ran.exit_code != _MISSING:
                break
            transport.put(self.bundle.build(), program, mode=0o600)
        lines = ran.stdout.decode("utf-8", "replace").splitlines()
        if ran.exit_code != 0 or not lines:
            said = ran.stderr.decode("utf-8", "replace").strip().splitlines()
            why = said[-1] if said else f"`{verb}` ended with exit code {ran.exit_code}"
            raise Unreachable(f"Ray on rank {self.ready.rank} of {self.key}: {why}")
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer


@dataclass(frozen=True)
class RayBackend(Backend):
    """See the module."""

    name: ClassVar[str] = "ray"
    runtime: RayRuntime = field(default_factory=OwnRuntime)

    def require(self) -> None:
        """Refuse when Ray is not installed here or too old."""
        self.runtime.version()

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
            DeadlineExceeded: It did not come up on some node; the message names the first and says why.
            Unreachable: A node does not answer.
        """
        version = self.runtime.version()
        built = bundle()
        members = [Node(ready, built, key) for ready in sorted(nodes, key=lambda node: node.rank)]
        head = members[0]
        python = self.runtime.python(head.ready)
        spec: DriverSpec = {"argv": [python, "-s", head.program, "drive", "--root", head.root], "env": {}}
        with ThreadPoolExecutor(min(_AT_ONCE, len(members) + 1), "ray") as pool:
            reports = list(pool.map(lambda node: Report.parse(node.ask("status")), members))
            formation = Formation(self.runtime, version, members)
            if not all_up(reports, formation.specs(reports[0].cluster, reports[0].address)):
                say(f"starting Ray on {len(members)} nodes")
                formation.start(reports[0], pool.map)
        return spec

    def teardown(self, key: str, nodes: Sequence[ReadyNode]) -> None:
        """End Ray on the nodes that answer and remove what it made, the short temporary folder too.

        Raises:
            InternalError: Processes of Ray survive being killed on some node.
        """
        built = bundle()
        members = [Node(ready, built, key) for ready in nodes]
        if not members:
            return
        with ThreadPoolExecutor(min(_AT_ONCE, len(members)), "ray") as pool:
            survivors = [found for found in pool.map(_down, members) if found]
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

    runtime: RayRuntime
    version: str
    members: Sequence[Node]

    def specs(self, cluster: str | None, address: str | None) -> list[dict[str, Any]]:
        """What each node shall run, when rank 0's Ray listens on `address`."""
        return [self._spec(node, cluster, address) for node in self.members]

    def _spec(self, node: Node, cluster: str | None, address: str | None) -> dict[str, Any]:
        rank = node.ready.rank
        return node_spec(
            node.key,
            node.ready,
            cluster=cluster or "",
            head=address if rank else None,
            python=self.runtime.python(node.ready),
            version=self.version,
        )

    def start(self, seen: Report, each: Callable[..., Any]) -> None:
        """Start what is not as it should be: rank 0 first, then the others at the same time, then wait for all.

        Args:
            seen: What rank 0 reported; when its Ray can stay, the others join it.
            each: `map`, but for all at the same time.
        """
        head, *others = self.members
        if stays(seen, self._spec(head, seen.cluster, None)):
            token, cluster = str(head.ask("secret")["token"]), seen.cluster
        else:
            token, cluster = secrets.token_hex(32), secrets.token_hex(8)
        begun = self._ensure(head, self._spec(head, cluster, None), token)
        if begun.address is None:
            raise self._failed(head, begun)
        list(each(lambda node: self._ensure(node, self._spec(node, cluster, begun.address), token), others))
        for node, report in zip(self.members, each(self._await, self.members), strict=True):
            if report.state != "up":
                raise self._failed(node, report)

    def _ensure(self, node: Node, spec: dict[str, Any], token: str) -> Report:
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
