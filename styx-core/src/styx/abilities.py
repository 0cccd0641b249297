"""What a cloud can do beside making and unmaking machines: mixins of its driver class, each with its own checks.

Everybody imports them from `styx.driver`, plugins from `styx.plugin`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from styx.values import (
    CatalogRow,
    Leftover,
    Node,
    OfferQuery,
    Place,
    PluginReach,
    SelfEnd,
)

if TYPE_CHECKING:
    from styx.transport.base import Transport


class Stoppable(ABC):
    """Machines can be stopped with their disks kept."""

    @abstractmethod
    def stop(self, nodes: Sequence[Node]) -> None:
        """Stop these machines. Idempotent; returns without waiting."""

    @abstractmethod
    def start(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Start these machines and return their replacements (ids may change; ranks do not). Idempotent."""


class OpensPorts(ABC):
    """Inbound ports can be opened after creation."""

    @abstractmethod
    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Open these ports on these nodes. Idempotent."""

    @abstractmethod
    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Close these ports. One that is closed already is not an error."""


class QuotesLive(ABC):
    """Offers are made to measure or vanish: ask when planning."""

    @abstractmethod
    def offers(self, query: OfferQuery, deadline_s: float) -> Sequence[CatalogRow]:
        """Rows that can be had now, within `deadline_s` seconds.

        A query without a size is of a task that names none: what suits such tasks is the driver's to say, and no least
        size of the configuration is held against it.
        """


class ReportsQuota(ABC):
    """The account's quotas can be asked for."""

    @abstractmethod
    def quota(self, place: Place, row: CatalogRow) -> float | None:
        """How many machines of this row the account may still make; None is unknown."""


class HasVolumes(ABC):
    """Named volumes live apart from machines."""

    @abstractmethod
    def volumes(self, place: Place) -> Sequence[Leftover]:
        """Volumes of this installation."""

    @abstractmethod
    def create_volume(self, place: Place, name: str, size_gib: float, options: Mapping[str, str]) -> str:
        """Make a volume and return its id. Idempotent on the name."""

    @abstractmethod
    def delete_volume(self, place: Place, volume: str) -> None:
        """Delete it. Absent is not an error."""


class MakesImages(ABC):
    """A stopped machine's disk can become an image."""

    @abstractmethod
    def make_image(self, node: Node, name: str) -> str:
        """Make an image and return its id. Idempotent on the name."""


class WarnsBeforeEnd(ABC):
    """Nodes learn of their preemption in advance."""

    @abstractmethod
    def notice_probe(self, node: Node) -> Sequence[str]:
        """Command that the agent polls on the node; exit code 0 means that the end is near."""


class EndsItself(ABC):
    """Nodes can stop or terminate themselves."""

    def prepare_self_action(self, nodes: Sequence[Node], action: Literal["stop", "down"]) -> None:  # noqa: B027
        """Called before nodes are told to end themselves with `action`, each time that this may have changed.

        For clouds where a node can't choose between the two, and what its power-off means is set from outside: a new
        machine is made with "down". Idempotent.
        """

    @abstractmethod
    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:
        """What the node runs to end itself."""


class HasZones(ABC):
    """Regions have zones, and machines can be held to one: rows without a zone stand for any zone of their region."""

    @abstractmethod
    def zone_named(self, place: Place, name: str, *, ask: bool) -> str:
        """The zone of `place`'s region that a user means by `name`, as rows and nodes of this cloud name it.

        Args:
            place: A region.
            name: As the user wrote it; a name that rows use is its own answer.
            ask: Whether the cloud may be asked; otherwise say what is known without it.

        Raises:
            UnsupportedError: The region has no such zone; the message says what it has, or how its zones are named.
            CloudError: The cloud gave no answer.
        """


class MakesTransport(ABC):
    """Nodes are reached in the cloud's own way: they have a `PluginReach`."""

    @abstractmethod
    def transport(self, reach: PluginReach) -> Transport:
        """A `styx.transport.base.Transport` to the node.

        Raises:
            Unreachable: It could not be reached.
        """


CAPABILITIES: tuple[type, ...] = (
    Stoppable,
    OpensPorts,
    QuotesLive,
    ReportsQuota,
    HasVolumes,
    MakesImages,
    WarnsBeforeEnd,
    EndsItself,
    HasZones,
    MakesTransport,
)
"""Every capability mixin."""


def capabilities(driver: type | object) -> frozenset[str]:
    """Names of the capability mixins among the bases of a driver class or instance: nothing to keep in step."""
    cls = driver if isinstance(driver, type) else type(driver)
    return frozenset(mixin.__name__ for mixin in CAPABILITIES if issubclass(cls, mixin))
