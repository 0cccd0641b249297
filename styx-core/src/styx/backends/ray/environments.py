"""Ray on nodes with file systems of their own: a private virtual environment on each, made in parallel."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from styx.backends.ray.formation import Report, the_python
from styx.backends.ray.node import Node
from styx.backends.ray.runtime import TESTED, accepted, numbers
from styx.backends.ray.wheels import Wheel, missing, wheels_in
from styx.errors import PluginError, Unreachable
from styx.models.settings import RaySettings

_HINT = (
    "nodes that reach no package index are served by `ray.wheels` or `ray.find_links` in the config: see "
    "docs/how-to/nodes-without-internet.md"
)
INSTALL_S = 600.0
"""How long one node may take to download and unpack Ray."""


@dataclass(frozen=True)
class NodeEnvironments:
    """See the module; the settings say where packages come from."""

    settings: RaySettings = field(default_factory=RaySettings.model_construct)

    def version(self) -> str:
        """The Ray that the settings name, else the newest of the wheel folder, else the tested one.

        Raises:
            PluginError: It is too old.
            InvalidInput: The wheel folder is none, or holds no Ray.
        """
        offered = {wheel.version for wheel in self._wheels() if wheel.name == "ray"}
        version = self.settings.version or (max(offered, key=numbers) if offered else TESTED)
        if offered and version not in offered:
            raise PluginError(
                f"ray.version is {version}, but {self.settings.wheels} holds Ray {', '.join(sorted(offered))}",
                hint="change one of the two settings",
            )
        return accepted(version, "set ray.version to a newer one, or leave it out")

    def pythons(
        self, members: Sequence[Node], reports: Sequence[Report], each: Callable[..., Any], say: Callable[[str], None]
    ) -> list[str]:
        """See `RayRuntime.pythons`.

        Raises:
            WrongState: The nodes have different Pythons.
            Unreachable: The installation failed on some node; the message says why.
        """
        version = self.version()
        the_python(members[0].key, reports)
        lacking = [rank for rank, report in enumerate(reports) if version not in report.environments]
        found = {rank: report.environments.get(version, "") for rank, report in enumerate(reports)}
        if lacking:
            say(f"installing Ray {version} on {len(lacking)} nodes")
            began = time.monotonic()
            wheels = self._wheels()
            made = list(each(lambda rank: self._install(members[rank], reports[rank], version, wheels), lacking))
            for rank, answer in zip(lacking, made, strict=True):
                found[rank] = answer["interpreter"]
            tools = sorted({str(answer["by"]) for answer in made if answer["by"]})
            by = f" by {' and '.join(tools)}" if tools else ""
            say(f"installed Ray {version} on {len(lacking)} nodes in {time.monotonic() - began:.1f} s{by}")
        return [found[rank] for rank in range(len(members))]

    def _install(self, node: Node, report: Report, version: str, wheels: list[Wheel]) -> dict[str, Any]:
        for wheel in missing(wheels, report.python, report.machine, report.wheels):
            node.ready.transport.put(wheel.path.read_bytes(), f"{node.wheels}/{wheel.path.name}")
        order = {
            "ray": version,
            "find_links": list(self.settings.find_links or ()),
            "index": self.settings.index,
            "uploaded": bool(wheels),
            "within_s": INSTALL_S - 30.0,
        }
        try:
            return node.ask("install", wait_s=INSTALL_S, order=order)
        except Unreachable as error:
            error.hint = error.hint or _HINT
            raise

    def _wheels(self) -> list[Wheel]:
        return wheels_in(self.settings.wheels) if self.settings.wheels else []
