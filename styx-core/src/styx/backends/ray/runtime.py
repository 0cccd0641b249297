"""Which Python hosts Ray on a node, and whether it does."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
from dataclasses import dataclass
from typing import Protocol

from styx.backends.base import ReadyNode
from styx.errors import PluginError

OLDEST = (2, 52)
"""The first Ray whose servers can ask for a token."""

_INSTALL = "`uv sync --extra ray` in the clone, or `pip install 'styx-core[ray] @ WHEEL'` with the path of its wheel"


class RayRuntime(Protocol):
    """A way to have Ray on nodes."""

    def version(self) -> str:
        """The version of Ray, checked without importing it.

        Raises:
            PluginError: It is missing or too old; with the install command.
        """

    def python(self, node: ReadyNode) -> str:
        """The interpreter on the node that can import Ray."""


@dataclass(frozen=True)
class OwnRuntime:
    """The interpreter that Styx itself runs in: right for nodes that share this machine."""

    def version(self) -> str:
        """The Ray of this environment."""
        if importlib.util.find_spec("ray") is None:
            raise PluginError("clusters of several nodes need Ray, which is not installed", hint=f"run {_INSTALL}")
        try:
            found = importlib.metadata.version("ray")
        except importlib.metadata.PackageNotFoundError:
            raise PluginError("the `ray` found here is no installed package", hint=f"run {_INSTALL}") from None
        if numbers(found) < OLDEST:
            wanted = ".".join(str(part) for part in OLDEST)
            raise PluginError(f"Ray {found} is too old: {wanted} or newer is needed", hint=f"run {_INSTALL}")
        return found

    def python(self, node: ReadyNode) -> str:  # noqa: ARG002
        """This interpreter."""
        return sys.executable


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group().split(".")) if found else ()
