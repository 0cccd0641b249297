"""`styx plugins`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import OutputFlags, new_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from styx.plugins import PluginInfo

app = new_app("List installed plugins.")


@app.callback(invoke_without_command=True)
@expands
def plugins(ctx: typer.Context, *, out: OutputFlags) -> None:
    """List installed plugins."""
    if ctx.invoked_subcommand is None:
        _list(app_of(ctx), out)


@app.command("list")
@expands
def list_plugins(ctx: typer.Context, *, out: OutputFlags) -> None:
    """List installed plugins: what each adds, its version, what its driver can do, and why it cannot be loaded.

    Imports every plugin.
    """
    _list(app_of(ctx), out)


def _list(run: App, out: OutputFlags) -> None:
    as_json = out.wants_json(run)
    from styx_cli.hooks import hub_of

    infos = hub_of(run).plugins()
    if as_json:
        from styx_cli.jsonout import to_json

        run.data(to_json(infos))
    else:
        _show(run, infos)


def _show(run: App, infos: Sequence[PluginInfo]) -> None:
    from styx_cli.render import show_table

    if not infos:
        run.note("no plugins are installed")
        return
    rows = [
        [
            info.name,
            info.kind,
            info.package or "-",
            info.version or "-",
            ", ".join((*info.capabilities, *info.hooks)) or "-",
            "failed" if info.error else "ok",
        ]
        for info in infos
    ]
    show_table(run, ("NAME", "KIND", "PACKAGE", "VERSION", "CAN", "STATE"), rows)
    for info in infos:
        if info.error:
            run.note(f"{info.kind} {info.name}: {info.error}")
