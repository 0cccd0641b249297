"""`styx catalog`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from styx.errors import CatalogRefused, NotFound, StyxError, Unreachable
from styx_cli.app import App, app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, new_app

if TYPE_CHECKING:
    from styx.api import CatalogInfo, CatalogRefresh

app = new_app("Show how old prices are, and fetch fresh ones.")


@app.callback()
def catalog() -> None:
    """Show how old prices are, and fetch fresh ones."""


@app.command("list")
@expands
def list_catalogs(ctx: typer.Context, *, out: OutputFlags, config: ConfigFlag = None) -> None:
    """List the catalogs: how many rows of each cloud, from where, how old.

    Asks nobody. A plugin that overrides prices of a cloud is a line of its own.
    """
    run = app_of(ctx)
    as_json = out.wants_json(run)
    from styx_cli.render import show_table

    with run.client(config) as client:
        lines = client.catalog_info()
    if as_json:
        return _json(run, lines)
    if not lines:
        run.note("no installed plugin has a catalog; `styx catalog refresh --from PATH_OR_URL` reads a hosted one")
        return None
    now = datetime.now(UTC)
    rows = [
        [
            line.cloud if line.layer == "base" else f"{line.cloud} + {line.layer}",
            str(line.rows) if line.origin else "-",
            line.origin or "-",
            _ages(line, now),
            line.source or "-",
            line.note or "",
        ]
        for line in lines
    ]
    show_table(run, ("CLOUD", "ROWS", "KIND", "AGE", "SOURCE", "NOTE"), rows, right=("ROWS", "AGE"))
    return None


@app.command()
@expands
def info(
    ctx: typer.Context,
    clouds: Annotated[list[str] | None, typer.Argument(metavar="CLOUDS", help="Only these; default: all.")] = None,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Show all that is known of catalogs: source, dates, rows that were left out, size. Asks nobody."""
    run = app_of(ctx)
    as_json = out.wants_json(run)
    with run.client(config) as client:
        lines = client.catalog_info()
    unknown = sorted({*(clouds or ())} - {line.cloud for line in lines})
    if unknown:
        raise NotFound(f"there is no catalog of {', '.join(unknown)}", hint="`styx catalog list` lists them")
    lines = [line for line in lines if not clouds or line.cloud in clouds]
    if as_json:
        return _json(run, lines)
    run.data("\n".join(map(_told, lines)))
    return None


def _told(line: CatalogInfo) -> str:
    from styx_cli.render import clock, table

    layer = "" if line.layer == "base" else f", rows of {line.layer} over it"
    size = f"{line.file_bytes / 1024:.0f} KiB"
    facts = [
        (
            "rows",
            f"{line.rows}, and {line.dropped} left out because they cannot be" if line.dropped else str(line.rows),
        ),
        ("kind", line.origin or "not read yet"),
        ("source", line.source or "-"),
        ("oldest row true at", clock(line.as_of)),
        ("newest row true at", clock(line.newest_as_of)),
        ("read at", clock(line.written_at)),
        ("size on disk", size),
        *([("note", line.note)] if line.note else []),
    ]
    return table((f"{line.cloud}{layer}", ""), [[f"  {name}", value] for name, value in facts])


@app.command()
@expands
def refresh(
    ctx: typer.Context,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PATH_OR_URL",
            help="Read a hosted catalog (a folder or address with CLOUD/vms.csv, or one file) instead of asking the "
            "vendors.",
        ),
    ] = None,
    cloud: Annotated[
        list[str] | None, typer.Option("--cloud", metavar="CLOUD", help="Only this cloud. Repeatable.")
    ] = None,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Fetch fresh prices, all clouds in parallel.

    A cloud that fails keeps the rows it has, and the table shows their age. Rows that cannot be are left out and
    counted; a file with a broken structure, or with more than 5 % of such rows, is refused. Fails when a cloud that was
    named, or every cloud, could not be refreshed.
    """
    run = app_of(ctx)
    as_json = out.wants_json(run)
    from styx_cli.progress import Progress

    with run.client(config) as client, Progress(run) as progress, progress.waiting("fetching prices"):
        results = client.catalog_refresh(tuple(cloud or ()), source=source)
    if as_json:
        _json(run, results)
    else:
        _show_refresh(run, results)
    failed = [each for each in results if not each.ok]
    if failed and (cloud or len(failed) == len(results)):
        raise _failure(failed, hosted=source is not None)
    for each in failed:
        run.warn(_reason(each))


def _show_refresh(run: App, results: Sequence[CatalogRefresh]) -> None:
    from styx_cli.render import elapsed, show_table

    if not results:
        run.note("no installed plugin has prices to fetch; `--from PATH_OR_URL` reads a hosted catalog")
        return
    now = datetime.now(UTC)
    rows = [
        [
            each.cloud,
            "fresh" if each.ok else "kept old rows" if each.rows else "failed",
            str(each.rows),
            str(each.dropped),
            str(each.repaired),
            _ages(each, now),
            elapsed(each.seconds),
            each.source or "-",
        ]
        for each in results
    ]
    headers = ("CLOUD", "RESULT", "ROWS", "LEFT OUT", "REPAIRED", "AGE", "TIME", "SOURCE")
    show_table(run, headers, rows, right=("ROWS", "LEFT OUT", "REPAIRED", "AGE", "TIME"))


def _ages(one: CatalogInfo | CatalogRefresh, now: datetime) -> str:
    """`4s`, or `4s to 312d` where not all rows are of one time: some are the vendor's, some came with the plugin."""
    from styx_cli.render import age

    newest, oldest = (age(when, now) if when else "?" for when in (one.newest_as_of or one.as_of, one.as_of))
    return oldest if newest == oldest else f"{newest} to {oldest}"


def _failure(failed: Sequence[CatalogRefresh], *, hosted: bool) -> StyxError:
    message = "\n".join(map(_reason, failed))
    hint = failed[0].hint
    return CatalogRefused(message, hint=hint) if hosted else Unreachable(message, hint=hint)


def _reason(one: CatalogRefresh) -> str:
    return f"the prices of {one.cloud} were not refreshed: {one.message}"


def _json(run: App, lines: Sequence[CatalogInfo] | Sequence[CatalogRefresh]) -> None:
    from styx_cli.jsonout import to_json

    run.data(to_json(lines))
