"""`styx ssh`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from styx_cli.app import app_of
from styx_cli.options import ConfigFlag, YesFlag, command_app, complete_clusters

if TYPE_CHECKING:
    from styx.api import Client
    from styx.models.forwards import PortForward
    from styx_cli.app import App


def ssh(
    ctx: typer.Context,
    cluster: Annotated[
        str | None, typer.Argument(metavar="CLUSTER", help="Its name.", autocompletion=complete_clusters)
    ] = None,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="COMMAND", help="Run this, after --, in place of a shell.")
    ] = None,
    node: Annotated[int, typer.Option("--node", min=0, metavar="RANK", help="Which node; 0 is the head.")] = 0,
    forward: Annotated[
        list[str] | None,
        typer.Option(
            "--forward",
            "-L",
            metavar="LOCAL:[HOST:]REMOTE",
            help="Let a port of this machine lead to one of the node, such as 8080:8080; one number stands for both. "
            "Repeatable.",
        ),
    ] = None,
    no_command: Annotated[bool, typer.Option("--no-command", "-N", help="Only forward ports, until Ctrl-C.")] = False,
    setup: Annotated[
        bool,
        typer.Option("--setup", help="Let plain `ssh CLUSTER` work: put one Include line into ~/.ssh/config, once."),
    ] = False,
    yes: YesFlag = False,
    config: ConfigFlag = None,
) -> int:
    """Open a shell, or run a command, on a node.

    The exit code is that of the shell or the command.
    """
    from styx.errors import UsageError
    from styx.models.forwards import parse_forward

    app = app_of(ctx)
    forwards = [parse_forward(each) for each in forward or ()]
    if setup:
        if cluster is not None or forwards:
            raise UsageError("--setup takes no cluster and no forwards")
        with app.client(config) as client:
            return _set_up(app, client, yes=yes)
    if cluster is None:
        raise UsageError("which cluster?", hint="`styx status` lists them")
    if no_command and (command or not forwards):
        raise UsageError("-N only forwards ports: it takes -L, and no command")
    with app.client(config) as client:
        known = client.names()
        if cluster not in known:
            from styx_cli.targets import no_cluster

            raise no_cluster(cluster, known)
        if no_command:
            return _only_forward(client, cluster, node, forwards)
        return client.interactive(cluster, node=node, argv=_argv(command or ()), forwards=forwards, say=_tell)


def _argv(words: Sequence[str]) -> tuple[str, ...]:
    """One quoted line is the shell's, as it is for `ssh` and `styx exec`; several words are passed on as they are."""
    import shlex

    return ("sh", "-c", words[0]) if len(words) == 1 and shlex.quote(words[0]) != words[0] else tuple(words)


def _tell(line: str) -> None:
    sys.stderr.write(f"styx: {line}\r\n" if sys.stderr.isatty() else f"styx: {line}\n")
    sys.stderr.flush()


def _only_forward(client: Client, cluster: str, node: int, forwards: Sequence[PortForward]) -> int:
    import threading

    with client.forward(cluster, forwards, node=node, say=_tell) as taken:
        for each in taken:
            sys.stderr.write(f"forwarding {each} of {cluster}\n")
        sys.stderr.write("Ctrl-C ends it\n")
        sys.stderr.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


def _set_up(app: App, client: Client, *, yes: bool) -> int:
    found = client.ssh_setup()
    if found.included:
        sys.stdout.write(f"{found.user_config} includes {found.config}: `ssh CLUSTER` works\n")
        return 0
    if not yes:
        from styx_cli.confirm import ask

        question = f"Put this line at the top of {found.user_config}?\n  {found.line}\n"
        ask(app, question, what=f"a change of {found.user_config}")
    client.ssh_setup(apply=True)
    sys.stdout.write(f"{found.user_config} now includes {found.config}: `ssh CLUSTER` works\n")
    return 0


app = command_app(ssh)
