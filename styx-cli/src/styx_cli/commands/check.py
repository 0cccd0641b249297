"""`styx check`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import CredentialsError
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, command_app

if TYPE_CHECKING:
    from styx.api import CheckView, PermissionsView


@expands
def check(
    ctx: typer.Context,
    clouds: Annotated[
        list[str] | None, typer.Argument(metavar="CLOUDS", help="Only these; default: every installed cloud.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the places of each account.")] = False,
    permissions: Annotated[
        bool, typer.Option("--permissions", help="Ask instead what the credentials may do of what Styx needs.")
    ] = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Ask each cloud who we are, and remember which are enabled.

    Costs nothing. Exits 77 when a cloud that was named refuses, or when none at all can be used, and with
    `--permissions` when one is missing.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.progress import Progress

    if permissions:
        with app.client(config) as client, Progress(app) as progress, progress.waiting("asking what is allowed"):
            found = client.permissions(tuple(clouds or ()))
        _permissions(app, found, as_json=as_json, named=bool(clouds))
        return

    with app.client(config) as client, Progress(app) as progress, progress.waiting("asking the clouds"):
        views = client.check(tuple(clouds or ()))
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(views))
    else:
        _show(app, views, verbose=verbose)
    refused = [view for view in views if not view.ok]
    if refused and (clouds or len(refused) == len(views)):
        names = ", ".join(view.cloud for view in refused)
        hint = next((view.hint for view in refused if view.hint), None) if as_json else None  # else it is there already
        raise CredentialsError(f"not usable: {names}", hint=hint)


def _permissions(app: App, found: Sequence[PermissionsView], *, as_json: bool, named: bool) -> None:
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(found))
    else:
        from styx_cli.render import show_table

        rows = []
        for one in found:
            counts = [str(one.granted), str(len(one.missing)), str(len(one.unknown))] if one.checked else ["-"] * 3
            rows.append([one.cloud, *counts, one.message or "-"])
        show_table(app, ["CLOUD", "GRANTED", "MISSING", "NOT KNOWN", "MESSAGE"], rows)
        for one in found:
            for name in one.missing:
                app.note(f"{one.cloud}: missing: {name}")
            if one.unknown:
                app.note(f"{one.cloud}: could not be asked about: {', '.join(one.unknown)}")
    lacking = [one for one in found if one.missing or (named and not one.checked)]
    if lacking:
        what = "; ".join(
            f"{one.cloud} lacks {len(one.missing)}" if one.missing else f"{one.cloud} was not checked"
            for one in lacking
        )
        policy = next((f"{one.policy} grants all that is needed" for one in lacking if one.policy), None)
        raise CredentialsError(f"permissions: {what}", hint=policy or lacking[0].hint)


def _show(app: App, views: Sequence[CheckView], *, verbose: bool) -> None:
    from styx_cli.render import show_table

    rows = [
        [view.cloud, "yes" if view.ok else "no", view.account or "-", "; ".join((view.message or "-").splitlines())]
        for view in views
    ]
    headers = ["CLOUD", "ENABLED", "ACCOUNT", "MESSAGE"]
    if verbose:
        headers.append("PLACES")
        for row, view in zip(rows, views, strict=True):
            row.append(", ".join(view.places) or "-")
    show_table(app, headers, rows)
    for view in views:
        if view.hint and not view.ok:
            app.note(f"{view.cloud}: {view.hint}")


app = command_app(check)
