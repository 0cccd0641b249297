"""Which Python hosts Ray on the nodes, and which Ray."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from styx.errors import PluginError

if TYPE_CHECKING:
    from styx.backends.ray.formation import Report
    from styx.backends.ray.node import Node

OLDEST = (2, 52)
"""The first Ray whose servers can ask for a token."""
TESTED = "2.60.0"
"""Installed on nodes when nothing else is asked for."""

_INSTALL = "`uv sync --extra ray` in the clone, or `pip install 'styx-core[ray] @ WHEEL'` with the path of its wheel"


class RayRuntime(Protocol):
    """A way to have Ray on nodes."""

    def version(self) -> str:
        """The version of Ray.

        Raises:
            PluginError: It is missing or too old; with the install command.
        """

    def pythons(
        self, members: Sequence[Node], reports: Sequence[Report], each: Callable[..., Any], say: Callable[[str], None]
    ) -> list[str]:
        """The interpreter on each node that can import that Ray, in the order of `members`; installed if need be.

        Args:
            members: The nodes.
            reports: What each said of itself.
            each: `map`, but for all at the same time.
            say: Progress lines for the user.
        """


@dataclass(frozen=True)
class OwnRuntime:
    """The interpreter that Styx itself runs in: right for nodes that share this machine."""

    def version(self) -> str:
        """The Ray of this environment, checked without importing it."""
        if importlib.util.find_spec("ray") is None:
            raise PluginError(
                "clusters of several nodes on this machine need Ray, which is not installed", hint=f"run {_INSTALL}"
            )
        try:
            found = importlib.metadata.version("ray")
        except importlib.metadata.PackageNotFoundError:
            raise PluginError("the `ray` found here is no installed package", hint=f"run {_INSTALL}") from None
        return accepted(found, f"run {_INSTALL}")

    def pythons(
        self,
        members: Sequence[Node],
        reports: Sequence[Report],  # noqa: ARG002
        each: Callable[..., Any],  # noqa: ARG002
        say: Callable[[str], None],  # noqa: ARG002
    ) -> list[str]:
        """This interpreter."""
        return [sys.executable] * len(members)


def accepted(version: str, hint: str) -> str:
    """The version, if it is new enough.

    Raises:
        PluginError: It is not.
    """
    if numbers(version) < OLDEST:
        wanted = ".".join(str(part) for part in OLDEST)
        raise PluginError(f"Ray {version} is too old: {wanted} or newer is needed", hint=hint)
    return version


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
