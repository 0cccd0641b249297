"""Asking plugins for commands through the hook `styx_add_commands`: the only place here that touches pluggy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy
from styx import discovery, hookspecs
from styx.errors import PluginError, StyxError
from styx.plugins import register_hook_plugin

from styx_cli import hookspecs as cli_hookspecs

if TYPE_CHECKING:
    from styx_cli.group import LazyGroup


def ask_for_commands(group: LazyGroup) -> None:
    """Let every hook plugin add its commands to the group.

    Raises:
        PluginError: A plugin cannot be loaded, or fails while it adds its commands.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.add_hookspecs(cli_hookspecs)
    for name in discovery.names(discovery.HOOKS):
        register_hook_plugin(manager, name, lambda _what, _error: None)
    try:
        manager.hook.styx_add_commands(group=group)
    except StyxError:
        raise
    except Exception as error:
        raise PluginError(
            f"a plugin failed in styx_add_commands: {type(error).__name__}: {error}",
            hint="`styx plugins list` shows the installed plugins",
        ) from error
