"""Asking plugins for commands through the hook `styx_add_commands`."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

from styx_cli import hookspecs

if TYPE_CHECKING:
    from styx.plugins import Hub
    from styx_cli.app import App
    from styx_cli.group import LazyGroup


def hub_of(app: App) -> Hub:
    """The plugins of this home, for listing and for commands; opens no database."""
    from styx.plugins import Hub

    return Hub(app.home, environ=app.environ, store_id="", user=getpass.getuser(), report=app.warn)


def ask_for_commands(app: App, group: LazyGroup) -> None:
    """Let every hook plugin add its commands to the group.

    Raises:
        PluginError: A plugin cannot be loaded, or fails while it adds its commands.
    """
    hub_of(app).add_commands(group, hookspecs)
