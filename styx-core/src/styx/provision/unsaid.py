"""What a task gets that says nothing of it: processors, and the least size of a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from styx.driver import QuotesLive
from styx.errors import StyxError
from styx.optimizer.problem import Least, Requirement
from styx.provision.offers import EMBEDDED

if TYPE_CHECKING:
    from styx.models import Resources, Task
    from styx.models.placement import PlacementSettings
    from styx.provision.options import OptimizeOptions
    from styx.provision.world import World


@dataclass(frozen=True)
class Unsaid:
    """The settings for it, and where they count.

    Attributes:
        settings: Of the installation.
        chosen: Whether there is anything but this machine to choose from.
        spared: Clouds that are not held to a least size.
    """

    settings: PlacementSettings
    chosen: bool = True
    spared: tuple[str, ...] = ()

    def completed(self, wanted: Requirement, asked: Resources, own: PlacementSettings | None = None) -> Requirement:
        """A requirement with what its alternative leaves open.

        Args:
            wanted: The alternative in the planner's terms.
            asked: The alternative.
            own: The task's own settings, where they are not in those of the installation already.
        """
        if wanted.cloud == EMBEDDED:
            return wanted
        update: dict[str, object] = {}
        if self.chosen and asked.instance_type is None and wanted.accelerator_name is None:
            arch = self._said("arch", own)
            update["arch"] = None if arch == "any" else arch
        if _names_no_size(asked) and wanted.cloud not in self.spared:
            vcpus, memory_gib = self._said("default_cpus", own), self._said("default_memory", own)
            if vcpus or memory_gib:
                update["least"] = Least(vcpus=vcpus or None, memory_gib=memory_gib or None, spared=self.spared)
        return wanted.model_copy(update=update)

    def _said(self, key: str, own: PlacementSettings | None) -> object:
        return getattr(own if own is not None and key in own.model_fields_set else self.settings, key)


def unsaid(world: World, options: OptimizeOptions, tasks: Sequence[Task]) -> Unsaid:
    """What tasks of this plan get that say nothing of it. On this machine alone everything goes, as it is what it is.

    Hosts that exist already and offers made to measure are not judged by their size: their drivers know what they give
    to a task that names none.
    """
    enabled = options.assume_enabled or [each.cloud for each in world.store.checks() if each.ok]
    sizeless = [each for task in tasks for each in task.resources.alternatives() if _names_no_size(each)]
    named = {each.infra.cloud if each.infra else None for each in sizeless}
    looked_at = {*(name for name in named if name), *(enabled if None in named else ())}
    spared = {EMBEDDED, *(name for name in looked_at if _made_to_measure(world, name))}
    return Unsaid(world.config.placement, any(name != EMBEDDED for name in enabled), tuple(sorted(spared)))


def _names_no_size(asked: Resources) -> bool:
    return all(each is None for each in (asked.instance_type, asked.accelerators, asked.cpus, asked.memory))


def _made_to_measure(world: World, cloud: str) -> bool:
    try:
        cls = world.hub.driver_class(cloud)
    except StyxError:
        return False  # whoever asks it for offers tells why
    return cls is not None and (cls.free or issubclass(cls, QuotesLive))
