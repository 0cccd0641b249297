"""`styx status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import NotFound, UsageError
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ClustersArgument, ConfigFlag, OutputFlags, command_app

if TYPE_CHECKING:
    from styx.api import ClusterView


@expands
def status(
    ctx: typer.Context,
    clusters: ClustersArgument = None,
    refresh: Annotated[bool, typer.Option("--refresh", "-r", help="Ask the clouds, too.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show user, key, last use, note.")] = False,
    ip: Annotated[bool, typer.Option("--ip", help="Print only the address of the first node of one cluster.")] = False,
    endpoints: Annotated[bool, typer.Option("--endpoints", help="Print only the open ports of one cluster.")] = False,
    endpoint: Annotated[
        int | None, typer.Option("--endpoint", metavar="PORT", help="Print only where this port of one cluster is.")
    ] = None,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """List clusters: state, price, cost, lease.

    What nobody knows is shown as ?, never as 0. Without --refresh the list is what was last seen.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    questions = sum((ip, endpoints, endpoint is not None))
    if questions > 1:
        raise UsageError("--ip, --endpoints and --endpoint exclude each other")
    if questions and len(clusters or ()) != 1:
        raise UsageError("--ip, --endpoints and --endpoint need exactly one cluster")
    from styx_cli.progress import Progress
    from styx_cli.targets import matching

    with app.client(config) as client, Progress(app) as progress:
        if refresh:
            with progress.waiting("asking the clouds"):
                views = matching(client, clusters or (), refresh=True)
        else:
            views = matching(client, clusters or ())
    if questions:
        _answer(app, views, ip=ip, port=endpoint, as_json=as_json)
    elif as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(views))
    else:
        show_clusters(app, views, verbose=verbose)


def show_clusters(app: App, views: Sequence[ClusterView], *, verbose: bool = False) -> None:
    """Print the table of clusters; notes that explain a state go to stderr."""
    from styx_cli.render import age, lease_text, show_table, usd

    if not views:
        app.note("no clusters; `styx launch TASK` makes one")
        return
    headers = ["NAME", "INFRA", "NODES", "RESOURCES", "STATE", "$/H", "COST", "LEASE", "AGE"]
    rows = [
        [
            view.name,
            view.infra,
            str(view.nodes),
            view.resources or "-",
            view.state.value,
            usd(view.usd_per_hour),
            usd(view.usd_so_far),
            lease_text(view.lease),
            age(view.created_at),
        ]
        for view in views
    ]
    if verbose:
        headers += ["USER", "KEY", "LAST USE", "SEEN", "NOTE"]
        for row, view in zip(rows, views, strict=True):
            row += [view.user, view.key, age(view.last_use_at), age(view.seen_at), view.note or "-"]
    show_table(app, headers, rows, right=("NODES", "$/H", "COST", "AGE"))
    if not verbose:
        for view in views:
            if view.note:
                app.note(f"{view.name}: {view.note}")


def _answer(app: App, views: Sequence[ClusterView], *, ip: bool, port: int | None, as_json: bool) -> None:
    from styx_cli.jsonout import to_json
    from styx_cli.render import table

    if len(views) != 1:
        raise UsageError(f"{len(views)} clusters match; --ip, --endpoints and --endpoint need exactly one")
    view = views[0]
    if ip:
        if not view.ips:
            raise NotFound(f"{view.name} has no address: it is {view.state.value}")
        app.data(to_json(view.ips[:1]) if as_json else view.ips[0])
        return
    if port is not None:
        if port not in view.endpoints:
            known = ", ".join(map(str, sorted(view.endpoints))) or "none"
            raise NotFound(f"port {port} of {view.name} is not open; open ports: {known}")
        app.data(to_json({port: view.endpoints[port]}) if as_json else view.endpoints[port])
        return
    rows = [[str(number), url] for number, url in sorted(view.endpoints.items())]
    app.data(to_json(view.endpoints) if as_json else table(("PORT", "ENDPOINT"), rows))


app = command_app(status)
