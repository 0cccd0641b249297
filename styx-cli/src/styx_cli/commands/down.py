"""`styx down`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from styx.api import Say
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import AllFlag, ClustersArgument, ConfigFlag, OutputFlags, YesFlag, command_app

if TYPE_CHECKING:
    from styx.api import Event


@expands
def down(
    ctx: typer.Context,
    clusters: ClustersArgument = None,
    every: AllFlag = False,
    yes: YesFlag = False,
    purge: Annotated[
        bool,
        typer.Option("--purge", "-p", help="Forget the record even if the cloud fails; machines may then be left."),
    ] = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """End clusters for good: machines, disks and everything made for them.

    Logs, costs and the story stay. With --json prints the names of the clusters that were ended.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.actions import act
    from styx_cli.targets import chosen

    with app.client(config) as client:
        forgotten: set[str] = set()

        def end(names: Sequence[str], say: Say | None) -> list[str]:
            def told(event: Event) -> None:
                if (event.step, event.phase) == ("forget", "note"):
                    forgotten.update(view.name for view in views if view.key == event.cluster)
                if say is not None:
                    say(event)

            return [name for name in client.down(names, told, purge=purge) if name not in forgotten]

        views = chosen(client, clusters, every=every)
        note = " for good, with its disks" if len(views) == 1 else " for good, with their disks"
        act(app, "down", "ended", views, clusters or (), end, yes=yes, as_json=as_json, note=note)
        if forgotten:
            app.note(f"forgotten: {', '.join(sorted(forgotten))}; `styx sweep` finds what may be left of it")


app = command_app(down)
