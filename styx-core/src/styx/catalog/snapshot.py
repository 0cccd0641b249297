"""Snapshots shipped with plugins: readable CSV, held to every rule of the schema.

    # as_of: 2026-11-20
    # source: https://aws.example/pricing
    cloud,instance_type,region,market,vcpus,memory_gib,usd_per_hour
    aws,m7i.large,us-east-1,on_demand,2,8,0.1008

Lines that start with `#` before the header are notes; those that name `cloud`, `market`, `as_of`, `ttl_s` or `source`
give the value for every row that does not have its own. Each row ends up with a date and a source.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from styx.catalog.schema import COLUMNS, KEY, fault_of, key_of
from styx.driver import CatalogRow
from styx.errors import PluginError
from styx.models.suggest import did_you_mean

_NOTE: Final = re.compile(r"#\s*(cloud|market|as_of|ttl_s|source)\s*:\s*(.*?)\s*$")
_REQUIRED: Final = ("instance_type", "region")


def read_snapshot(path: Path) -> list[CatalogRow]:
    """Rows of a snapshot file.

    Raises:
        PluginError: The file is wrong; the message names file and line.
    """
    if path.suffix != ".csv":
        raise PluginError(f"the catalog snapshot {path} is not a CSV file, the only format of snapshots")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginError(f"the catalog snapshot {path} can't be read: {error}") from None
    return list(parse_snapshot(text, path))


def parse_snapshot(text: str, path: Path) -> Iterator[CatalogRow]:
    """Rows of a snapshot's text; see `read_snapshot`."""
    lines = text.splitlines()
    defaults: dict[str, str] = {}
    skipped = 0
    while skipped < len(lines) and (not lines[skipped].strip() or lines[skipped].startswith("#")):
        if note := _NOTE.match(lines[skipped]):
            defaults[note[1]] = note[2]
        skipped += 1
    reader = csv.reader(lines[skipped:], strict=True)
    header = next(reader, [])
    _check_header(header, defaults, path, skipped + 1)
    first_lines: dict[tuple[Any, ...], int] = {}
    try:
        for cells in reader:
            line = skipped + reader.line_num
            if not cells:
                continue
            if len(cells) != len(header):
                raise _wrong(path, line, f"has {len(cells)} cells under {len(header)} columns")
            given = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
            row = _row({**defaults, **given}, path, line)
            earlier = first_lines.setdefault(key_of(row), line)
            if earlier != line:
                raise _wrong(path, line, f"is the same offer as line {earlier} ({', '.join(KEY)} are equal)")
            yield row
    except csv.Error as error:
        raise _wrong(path, skipped + reader.line_num, f"is no CSV: {error}") from None


def write_snapshot(rows: Iterable[CatalogRow], path: Path, notes: Iterable[str] = ()) -> int:
    """Write rows as a snapshot; returns how many.

    What reading fills in is left out: columns that are empty everywhere, values that a note gives for every row, the
    usual architecture and network, and the time of a day that begins at midnight.

    Args:
        rows: In the order to be written.
        path: The file.
        notes: Lines for the head, without the `#`; `as_of: 2026-11-20` gives every row its date.
    """
    notes = list(notes)
    given = {found[1]: found[2] for note in notes if (found := _NOTE.match(f"# {note}"))}
    written = [{name: cell for name, cell in _cells(row).items() if given.get(name) != cell} for row in rows]
    names = [name for name in COLUMNS if any(cells.get(name) for cells in written)]
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {note}\n" for note in notes)
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([cells.get(name, "") for name in names] for cells in written)
    return len(written)


def _cells(row: CatalogRow) -> dict[str, str]:
    values = row.model_dump(mode="json", exclude_none=True)
    cells: dict[str, str] = {}
    for name, value in values.items():
        if name == "features":
            features = row.features.model_dump(exclude_unset=True) if row.features else {}
            cells[name] = json.dumps(features, sort_keys=True)
        elif isinstance(value, float):
            cells[name] = f"{value:.10g}"
        else:
            cells[name] = str(value)
    for name in ("arch", "network_tier"):
        if getattr(row, name) == CatalogRow.model_fields[name].default:
            del cells[name]
    if row.as_of is not None:
        cells["as_of"] = cells["as_of"].removesuffix("T00:00:00Z")
    if row.accelerator_name is None:
        cells.pop("accelerator_count", None)
    return cells


def _check_header(header: list[str], defaults: dict[str, str], path: Path, line: int) -> None:
    if not header:
        raise PluginError(f"the catalog snapshot {path} is empty")
    for name in header:
        if name not in COLUMNS:
            near = did_you_mean(name, COLUMNS)
            raise _wrong(path, line, f"names the unknown column {name!r}{f'; {near}' if near else ''}")
    if len(set(header)) != len(header):
        raise _wrong(path, line, "names a column twice")
    for name in (*_REQUIRED, *(name for name in ("cloud", "as_of", "source") if name not in defaults)):
        if name not in header:
            note = "" if name in _REQUIRED else f", and there is no line '# {name}: ...' above it"
            raise _wrong(path, line, f"has no column {name}{note}")


def _row(values: dict[str, Any], path: Path, line: int) -> CatalogRow:
    if "features" in values:
        try:
            values["features"] = json.loads(values["features"])
        except ValueError:
            raise _wrong(path, line, "features: is no JSON") from None
    try:
        row = CatalogRow.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _wrong(path, line, f"{where}: {first['msg']} (got {first['input']!r})") from None
    if row.as_of is None or not row.source:
        raise _wrong(path, line, "needs as_of and source: when the figures were true, and where they are from")
    if row.as_of.tzinfo is None:
        row = row.model_copy(update={"as_of": row.as_of.replace(tzinfo=UTC)})
    if fault := fault_of(row):
        raise _wrong(path, line, f"{fault[0]}: {fault[1]}")
    return row


def _wrong(path: Path, line: int, what: str) -> PluginError:
    return PluginError(f"line {line} of the catalog snapshot {path}: {what}")
