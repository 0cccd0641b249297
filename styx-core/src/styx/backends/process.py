"""The backend for clusters of one node: the agent runs the job by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from styx.backends.base import Backend, ReadyNode

if TYPE_CHECKING:
    from styx_agent.protocol import DriverSpec


class ProcessBackend(Backend):
    """Needs nothing beside the agent, so there is nothing to prepare or to take down."""

    name: ClassVar[str] = "process"

    def require(self, *, shares_host: bool) -> None:
        """Nothing is needed."""

    def prepare(
        self,
        key: str,  # noqa: ARG002
        nodes: Sequence[ReadyNode],  # noqa: ARG002
        cache: Path,  # noqa: ARG002
        say: Callable[[str], None],  # noqa: ARG002
    ) -> DriverSpec | None:
        """None: the agent coordinates the job."""
        return None

    def teardown(self, key: str, nodes: Sequence[ReadyNode]) -> None:
        """Nothing was made."""
