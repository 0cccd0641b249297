"""The one schema of every catalog: its columns, their units, and what is impossible.

The columns are `CatalogRow`'s fields, one row for each market (a machine sold on demand and as spot is two rows).
`docs/reference/catalog.md` has the table. Our own snapshots are read by `styx.catalog.snapshot` and held to every rule
here; hosted files are repaired first (`styx.catalog.adapters`), and what stays impossible is dropped and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from styx.models.accelerators import canonical_accelerator

if TYPE_CHECKING:
    import polars as pl

    from styx.driver import CatalogRow

SCHEMA_VERSION: Final = 2
"""Of the Parquet cache; a file of another version is rebuilt."""

COLUMNS: Final[Mapping[str, str]] = {
    "cloud": "text",
    "instance_type": "text",
    "region": "text",
    "zone": "text",
    "market": "text",
    "vcpus": "number",
    "memory_gib": "number",
    "arch": "text",
    "accelerator_name": "text",
    "accelerator_count": "number",
    "accelerator_memory_gib": "number",
    "accelerator_vendor": "text",
    "local_disk_gib": "number",
    "local_disk_kind": "text",
    "usd_per_hour": "number",
    "network_tier": "text",
    "features": "json",
    "ref": "text",
    "as_of": "time",
    "ttl_s": "number",
    "source": "text",
}
"""Column names, in the order of the files, and what each holds. An empty cell is *unknown*."""

KEY: Final = ("cloud", "instance_type", "region", "zone", "market", "accelerator_name", "accelerator_count")
"""What makes two rows the same offer. Accelerators belong to it: some clouds attach them to a machine type."""

TOLD_BELOW: Final = (
    "vcpus", "memory_gib", "accelerator_memory_gib", "accelerator_vendor", "local_disk_gib", "local_disk_kind",
    "features", "ref",
)  # fmt: skip
"""What a row that is laid over another one, as for its price, need not tell again: it is the same machine."""

BOUNDS: Final[Mapping[str, tuple[float, float, str]]] = {
    "vcpus": (0.0, 4096.0, "virtual processors of one machine"),
    "memory_gib": (0.0, 65536.0, "GiB of one machine; a larger figure is MiB"),
    "accelerator_count": (0.0, 16384.0, "accelerators of one machine"),
    "accelerator_memory_gib": (0.0, 1024.0, "GiB of one accelerator; a larger figure is MiB, or that of all"),
    "local_disk_gib": (0.0, 1048576.0, "GiB of all instance disks"),
    "usd_per_hour": (0.0002, 200000.0, "US dollars per hour for one machine; less is a price per second or minute"),
    "ttl_s": (0.0, 366 * 86400.0, "seconds"),
}
"""Least (excluded where 0) and largest figure, with the unit in words. Only `accelerator_count` may be 0."""


def fault_of(row: CatalogRow) -> tuple[str, str] | None:
    """The first thing about a row that can't be: the column and a sentence, or None.

    NaN never passes, because no comparison with it is true.
    """
    for column, (least, most, unit) in BOUNDS.items():
        value = getattr(row, column)
        if value is None:
            continue
        above = value > least or (value == least and least > 0) or (value == 0 and column == "accelerator_count")
        if not (above and value <= most):
            empty = "; leave the cell empty where the price is unknown" if column == "usd_per_hour" else ""
            return column, f"{value!r} is impossible ({unit}){empty}"
    if (row.accelerator_name is None) != (row.accelerator_count == 0):
        return "accelerator_count", f"{row.accelerator_count!r} does not go with the name {row.accelerator_name!r}"
    if row.accelerator_name is None and (row.accelerator_memory_gib is not None or row.accelerator_vendor is not None):
        return "accelerator_name", "is missing, but memory or vendor of the accelerator is given"
    name = row.accelerator_name
    if name is not None and name != (usual := canonical_accelerator(name)):
        return "accelerator_name", f"{name!r} is written {usual!r}"
    return None


def key_of(row: CatalogRow) -> tuple[Any, ...]:
    """The row's values of `KEY`."""
    return tuple(getattr(row, name) for name in KEY)


def polars_schema() -> dict[str, pl.DataType]:
    """Column types of the Parquet cache."""
    import polars as pl

    types: dict[str, pl.DataType] = {
        "text": pl.String(),
        "json": pl.String(),
        "number": pl.Float64(),
        "time": pl.Datetime("us", "UTC"),
    }
    return {name: types[kind] for name, kind in COLUMNS.items()}
