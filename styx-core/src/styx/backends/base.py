"""The backend contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from styx.transport.base import Transport

if TYPE_CHECKING:
    from styx.config import Settings
    from styx_agent.protocol import DriverSpec


@dataclass(frozen=True)
class ReadyNode:
    """A node whose agent answers.

    Attributes:
        rank: Its rank.
        ip: Its address inside the cluster.
        transport: The way to it.
        agent_path: Where the agent's zipapp lies on the node.
        cpus: Processors for jobs.
        gpus: Accelerators for jobs.
        env: Variables that every process of the node carries.
        shares_host: It is a folder of this machine, and runs the programs that this process can run.
    """

    rank: int
    ip: str
    transport: Transport
    agent_path: str
    cpus: float
    gpus: float
    env: dict[str, str]
    shares_host: bool = False


class Backend(ABC):
    """Runs jobs on ready nodes. `prepare` and `teardown` are idempotent; a client may have died in either before."""

    name: ClassVar[str]

    def with_settings(self, settings: Settings) -> Backend:  # noqa: ARG002
        """The same backend, as the config wants it. One that has no settings is the same."""
        return self

    @abstractmethod
    def require(self, *, shares_host: bool) -> None:
        """Refuse before anything is created when this machine lacks what the backend needs.

        Args:
            shares_host: The nodes will be folders of this machine.

        Raises:
            PluginError: With the install command.
        """

    @abstractmethod
    def prepare(
        self, key: str, nodes: Sequence[ReadyNode], cache: Path, say: Callable[[str], None]
    ) -> DriverSpec | None:
        """Bring up what jobs need on all nodes, in parallel; re-use what is up.

        Args:
            key: The cluster key.
            nodes: All nodes, by rank.
            cache: A folder of this machine for built files.
            say: Progress lines for the user.

        Returns:
            How rank 0's agent coordinates a job, or None when the agent runs it by itself.
        """

    @abstractmethod
    def teardown(self, key: str, nodes: Sequence[ReadyNode]) -> None:
        """Take down what `prepare` made, on the nodes that still answer. Called before stop and down."""
