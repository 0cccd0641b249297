"""The page of the command line, rendered by the command line itself."""

from __future__ import annotations

from styx_cli import reference


def page() -> str:
    """The whole page."""
    return reference.markdown()
