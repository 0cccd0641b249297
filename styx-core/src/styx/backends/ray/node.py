"""One node with the program that does Ray's work there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from styx.backends.base import ReadyNode
from styx.backends.ray.bundle import Bundle
from styx.errors import Unreachable

_CALL_S = 30.0
_MISSING = 96
"""Exit code of the guard when the zipapp is not on the node; no verb ends with it."""
_GUARD = '[ -f "$1" ] || exit 96; shift; exec "$@"'


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
    def wheels(self) -> str:
        """Where wheels are put for the node's installer."""
        return f"{self.ready.transport.agent_state}/ray-env/wheels"

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
        answer = _last_line(ran.stdout) if ran.exit_code == 0 else None
        if answer is None:
            said = ran.stderr.decode("utf-8", "replace").strip().splitlines()
            why = said[-1] if said else f"`{verb}` ended with exit code {ran.exit_code} and no answer"
            raise Unreachable(f"Ray on rank {self.ready.rank} of {self.key}: {why}")
        return answer


def _last_line(stdout: bytes) -> dict[str, Any] | None:
    """The JSON object at the end of what a command said, after what a login's shell may print."""
    lines = stdout.decode("utf-8", "replace").splitlines()
    try:
        value = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
