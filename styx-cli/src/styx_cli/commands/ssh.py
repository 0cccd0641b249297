"""`styx ssh`."""

from __future__ import annotations

from typing import Annotated

import typer

from styx_cli.app import app_of
from styx_cli.options import ClusterArgument, ConfigFlag, command_app


def ssh(
    ctx: typer.Context,
    cluster: ClusterArgument,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Run this, after --, in place of a shell.")
    ] = None,
    node: Annotated[int, typer.Option("--node", min=0, metavar="RANK", help="Which node; 0 is the head.")] = 0,
    config: ConfigFlag = None,
) -> int:
    """Open a shell, or run a command, on a node.

    The exit code is that of the shell or the command.
    """
    app = app_of(ctx)
    with app.client(config) as client:
        known = client.names()
        if cluster not in known:
            from styx_cli.targets import no_cluster

            raise no_cluster(cluster, known)
        return client.interactive(cluster, node=node, argv=tuple(command or ()))


app = command_app(ssh)
