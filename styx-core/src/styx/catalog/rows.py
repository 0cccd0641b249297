"""Rows of one cloud, from every source that has some: a snapshot shipped with the plugin, then live figures over it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from styx.driver import CatalogRow, CatalogSource
from styx.errors import CloudError, PluginError

if TYPE_CHECKING:
    from styx.driver import Context
    from styx.plugins import Hub


def rows_for(cloud: str, hub: Hub, context: Context | None = None) -> list[CatalogRow]:
    """All rows of a cloud. Asks the vendors' interfaces, so the caller puts a deadline around it.

    A source whose live figures can't be had is represented by its snapshot, and `hub.report` says so; one without a
    snapshot fails the call.

    Raises:
        CloudError: The vendor's interface failed, and there is nothing older to go by.
        PluginError: A source broke, gave wrong rows, or there is none.
    """
    sources = hub.catalog_sources(cloud, context)
    if not sources:
        hub.cloud(cloud, context)  # says how to install a missing plugin
        raise PluginError(f"no plugin says what can be bought at {cloud}")
    return merged(_rows_of(cloud, source, hub) for source in sources)


def merged(groups: Iterable[Iterable[CatalogRow]]) -> list[CatalogRow]:
    """One list: a row of a later group replaces the same offer (type, region, zone, market) of an earlier one."""
    rows: dict[tuple[str, str, str, str | None, str], CatalogRow] = {}
    for group in groups:
        for row in group:
            rows[row.cloud, row.instance_type, row.region, row.zone, row.market] = row
    return list(rows.values())


def read_snapshot(path: Path) -> list[CatalogRow]:
    """Rows of a CSV file: a header of field names, an empty cell for an unknown figure, JSON in `features`.

    Raises:
        PluginError: The file, or a row of it, is wrong; the message names the line.
    """
    if path.suffix != ".csv":
        raise PluginError(f"the catalog snapshot {path} is not a CSV file, the only format that this version reads")
    rows = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            for cells in reader:
                given = {name: text for name, text in cells.items() if text}
                values = {name: json.loads(text) if name == "features" else text for name, text in given.items()}
                try:
                    rows.append(CatalogRow.model_validate(values))
                except ValidationError as error:
                    first = error.errors(include_url=False)[0]
                    where = ".".join(str(part) for part in first["loc"])
                    message = f"line {reader.line_num} of the catalog snapshot {path}: {where}: {first['msg']}"
                    raise PluginError(message) from None
    except (OSError, ValueError, csv.Error) as error:
        raise PluginError(f"the catalog snapshot {path} can't be read: {error}") from None
    return rows


def _rows_of(cloud: str, source: CatalogSource, hub: Hub) -> list[CatalogRow]:
    path = source.snapshot()
    old = [] if path is None else read_snapshot(path)
    try:
        live = list(source.fetch())
    except CloudError as error:
        if not old:
            raise
        hub.report(f"{cloud}'s live prices can't be had, so those shipped with its plugin are used: {error.message}")
        live = []
    for row in live:
        if not isinstance(row, CatalogRow) or row.cloud != cloud:
            raise PluginError(f"the catalog of {cloud} gave something that is not a row of it: {row!r}")
    return merged([old, live])
