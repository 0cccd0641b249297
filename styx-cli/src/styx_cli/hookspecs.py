"""The hook that lets a plugin add commands by code rather than by entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from styx_cli.group import LazyGroup

hookspec = pluggy.HookspecMarker("styx")


@hookspec
def styx_add_commands(group: LazyGroup) -> None:
    """Add commands to `group`, the one lazy group of `styx`, with `group.add_command(command, name)`.

    Asked only when a verb is typed that neither Styx nor the entry-point group `styx.commands` knows, because asking
    imports the plugin; such verbs are therefore not listed by `styx --help`. Built-in verbs and those of entry points
    cannot be replaced. Prefer the entry point; use this hook for verbs whose names are known only at run time.
    """
