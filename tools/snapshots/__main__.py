r"""`python -m tools.snapshots CLOUD FILE --as-of DATE --source TEXT`: make a plugin's snapshot from a hosted file.

    python -m tools.snapshots gcp skypilot-catalog/catalogs/v8/gcp/vms.csv --as-of 2026-11-20 \
        --source "skypilot-catalog v8 (8427bbf)" --types '(n2|c3|g2|a2|a3)-.*' --one-zone

The rows of the file take the place of the same offers in the present snapshot, and the others stay unless `--only` is
given. `tests/contracts/test_snapshots_cover.py` then tells what is covered that was missing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from styx.catalog.cache import rows_of
from styx.catalog.hosted import adapted
from styx.catalog.schema import key_of
from styx.catalog.snapshot import read_snapshot, write_snapshot
from styx.driver import CatalogRow
from styx.errors import StyxError

ROOT: Final = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Read, merge, write."""
    parser = argparse.ArgumentParser(prog="tools.snapshots", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cloud")
    parser.add_argument("file", type=Path, help="a vms.csv in the hosted layout")
    parser.add_argument("--as-of", required=True, help="the day the file was true, such as 2026-11-20")
    parser.add_argument("--source", required=True, help="where it is from, for every row")
    parser.add_argument("--regions", help="only these, with commas between them")
    parser.add_argument("--types", help="only machine types that match this pattern whole")
    parser.add_argument("--one-zone", action="store_true", help="the cheapest zone of each region, without its name")
    parser.add_argument("--only", action="store_true", help="drop the rows of the present snapshot")
    parser.add_argument("--output", type=Path, help="instead of the plugin's file")
    given = parser.parse_args(arguments)
    target = ROOT / "plugins" / f"styx-{given.cloud}" / "src" / f"styx_{given.cloud.replace('-', '_')}" / "snapshot.csv"
    try:
        as_of = datetime.fromisoformat(given.as_of).replace(tzinfo=UTC)
        read = adapted(given.file.read_bytes(), given.cloud, given.source, as_of=as_of)
        found = chosen(rows_of(read.rows), given.regions, given.types, one_zone=given.one_zone)
        present = [] if given.only or not target.exists() else read_snapshot(target)
    except (OSError, ValueError, StyxError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    merged = {key_of(row): row for row in [*present, *found]}
    written = write_snapshot(in_order(merged.values()), given.output or target, notes_of(target, given.cloud))
    print(f"{len(found)} rows of {given.file}, {written} in the snapshot, {read.dropped} left out")
    return 0


def chosen(rows: Iterable[CatalogRow], regions: str | None, types: str | None, *, one_zone: bool) -> list[CatalogRow]:
    """The rows that are asked for."""
    wanted = set(regions.split(",")) if regions else None
    kept = [
        row
        for row in rows
        if (wanted is None or row.region in wanted) and (types is None or re.fullmatch(types, row.instance_type))
    ]
    if not one_zone:
        return kept
    cheapest: dict[tuple[object, ...], CatalogRow] = {}
    for row in kept:
        plain = row.model_copy(update={"zone": None})
        other = cheapest.setdefault(key_of(plain), plain)
        if plain.usd_per_hour is not None and (other.usd_per_hour is None or plain.usd_per_hour < other.usd_per_hour):
            cheapest[key_of(plain)] = plain
    return list(cheapest.values())


def in_order(rows: Iterable[CatalogRow]) -> list[CatalogRow]:
    """By kind of machine, region, market and size, so that a new snapshot is a readable difference."""
    return sorted(
        rows,
        key=lambda row: (
            row.instance_type.partition(".")[0].partition("-")[0],
            row.region,
            row.market,
            row.accelerator_name or "",
            row.accelerator_count,
            row.vcpus or 0.0,
            row.instance_type,
            row.zone or "",
        ),
    )


def notes_of(path: Path, cloud: str) -> list[str]:
    """The remarks above the present snapshot: whoever rebuilds it edits them."""
    if not path.exists():
        return [f"cloud: {cloud}"]
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#").strip() for line in lines if line.startswith("#")]


if __name__ == "__main__":
    raise SystemExit(main())
