"""`styx validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import OutputFlags, command_app

if TYPE_CHECKING:
    from styx.models.variables import Variables
    from styx_cli.jsonout import ValidatedFile


@expands
def validate(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILES", help="Task files.")],
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Fills a null in envs or secrets. Repeatable.")
    ] = None,
    env_file: Annotated[list[str] | None, typer.Option(metavar="FILE", help="The same, from a dotenv file.")] = None,
    secret: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=VALUE]", help="Fills a null in secrets. Repeatable.")
    ] = None,
    secret_file: Annotated[list[str] | None, typer.Option(metavar="FILE", help="The same, from a dotenv file.")] = None,
    *,
    out: OutputFlags,
) -> int:
    """Check task files; touches no network and no cloud.

    One line per fault on stderr. Exits 0 if every file is valid, else 1.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx_cli.tasks import given_variables

    given = given_variables(app, env, env_file, secret, secret_file)
    clouds = installed_clouds()
    results = [_check(app, file, given, clouds, as_json=as_json) for file in files]
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(results))
    bad = sum(not result.ok for result in results)
    if not as_json:
        app.note(f"{len(results)} file{'s' if len(results) != 1 else ''} checked, {bad} with faults")
    return 1 if bad else 0


def installed_clouds() -> frozenset[str]:
    """Names of the clouds that have a plugin, from package metadata; imports none of them."""
    from importlib.metadata import entry_points

    return frozenset(point.name for point in entry_points(group="styx.drivers"))


def _check(app: App, file: str, given: Variables, clouds: frozenset[str], *, as_json: bool) -> ValidatedFile:
    from styx.errors import InvalidInput
    from styx.models.reader import read_task_file
    from styx_cli.jsonout import ValidatedFile, fault_info

    try:
        document = read_task_file(file, env=given.env, secrets=given.secrets, installed_clouds=clouds)
    except InvalidInput as error:
        if not as_json:
            app.note("\n".join(map(str, error.faults)))
        return ValidatedFile(file=file, ok=False, errors=tuple(map(fault_info, error.faults)))
    for warning in document.warnings:
        app.warn(str(warning))
    return ValidatedFile(file=file, ok=True)


app = command_app(validate)
