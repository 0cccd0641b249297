"""`styx volumes apply|ls|delete`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import Unreachable, UsageError
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, YesFlag, new_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from styx.api import VolumeView

app = new_app("Make, list and delete named volumes, which outlive clusters.")


@app.command("apply")
@expands
def apply_volume(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A volume file.")] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Name, in place of the file's.")] = None,
    infra: Annotated[str | None, typer.Option("--infra", help="Where, such as k8s/CONTEXT.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Kind of volume.")] = None,
    size: Annotated[str | None, typer.Option("--size", help="Size, such as 100Gi.")] = None,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Make a volume from a file or from flags; one that exists already is left as it is."""
    run = app_of(ctx)
    as_json = out.wants_json(run)
    from styx.models.reader import read_volume_file, read_volume_text

    given = {"name": name, "infra": infra, "type": kind, "size": size}
    over = {key: value for key, value in given.items() if value is not None}
    if file is not None:
        spec = read_volume_file(file)
        if over:
            import json

            spec = read_volume_text(json.dumps({**spec.model_dump(mode="json", exclude_none=True), **over}))
    elif {"name", "infra", "type", "size"} <= over.keys():
        import json

        spec = read_volume_text(json.dumps(over))
    else:
        raise UsageError("say what to make: a volume file, or --name, --infra, --type and --size")
    with run.client(config) as client:
        made = client.volume_apply(spec)
    if as_json:
        from styx_cli.jsonout import to_json

        run.data(to_json(made))
    else:
        run.note(f"volume {made.name} is {made.id} in {made.place}")


@app.command("ls")
@expands
def list_volumes(
    ctx: typer.Context,
    clouds: Annotated[list[str] | None, typer.Argument(metavar="CLOUDS", help="Only these.")] = None,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """List the volumes of this installation. Exits 68 when a place could not be listed."""
    run = app_of(ctx)
    as_json = out.wants_json(run)
    with run.client(config) as client:
        found, unreadable = client.volumes(tuple(clouds or ()))
    if as_json:
        from styx_cli.jsonout import to_json

        run.data(to_json(found))
    else:
        _show(run, found)
    if unreadable:
        raise Unreachable("\n".join(f"{place} could not be listed: {reason}" for place, reason in unreadable))


@app.command("delete")
@expands
def delete_volumes(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAMES", help="Names or ids.")],
    yes: YesFlag = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Delete volumes and all that is on them."""
    run = app_of(ctx)
    as_json = out.wants_json(run)
    if not yes:
        from styx_cli.confirm import ask

        ask(run, f"Delete {', '.join(names)} and all that is on them?", what="deletion of volumes")
    with run.client(config) as client:
        done = client.volume_delete(names)
    if as_json:
        from styx_cli.jsonout import to_json

        run.data(to_json(done))
    else:
        run.note(f"deleted: {', '.join(done)}")


def _show(run: App, found: Sequence[VolumeView]) -> None:
    from styx_cli.render import show_table

    if not found:
        run.note("there are no volumes")
        return
    rows = [
        [each.name, str(each.place), f"{each.size_gib:g}" if each.size_gib else "?", each.id, each.created_at or "?"]
        for each in found
    ]
    show_table(run, ("NAME", "PLACE", "GIB", "ID", "MADE"), rows, right=("GIB",))
