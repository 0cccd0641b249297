"""`styx why`."""

from __future__ import annotations

import typer

from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import ClusterArgument, ConfigFlag, OutputFlags, command_app


@expands
def why(ctx: typer.Context, cluster: ClusterArgument, *, out: OutputFlags, config: ConfigFlag = None) -> None:
    """Tell what happened to a cluster: every attempt, its reason, the time of each step.

    Works for clusters that ended, too: it tells of the newest one of that name.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.targets import suggesting

    with app.client(config) as client, suggesting(client, cluster):
        story = client.why(cluster)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(story))
    else:
        from styx_cli.story import story_text

        app.data(story_text(story))


app = command_app(why)
