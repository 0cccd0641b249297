"""The Parquet cache: one file for each cloud and layer, replaced as a whole or not at all.

`<cloud>.parquet` holds the cloud's base rows; `<cloud>+<plugin>.parquet` holds what another plugin lays over them. What
a file is and where it came from is written in it (`FileFacts`), and once more beside it, so that a damaged file can be
made again from the same source.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from styx.atomic import drafted, write_atomically
from styx.catalog.results import Origin
from styx.catalog.schema import COLUMNS, SCHEMA_VERSION, polars_schema
from styx.driver import CatalogRow, Value
from styx.errors import LocalIOError

if TYPE_CHECKING:
    import polars as pl

BASE: Final = "base"
"""The layer under all others: the cloud's own plugin, or a hosted file in its place."""
_ROW_GROUP: Final = 32_768
_FACTS: Final = "styx"


class FileFacts(Value):
    """What a cache file holds."""

    schema_version: int = SCHEMA_VERSION
    cloud: str
    layer: str = BASE
    origin: Origin
    source: str
    """Path or address of the file that was read, or the name of the plugin that was asked."""
    rows: int
    dropped: int = 0
    repaired: int = 0
    as_of: datetime | None = None
    """When the oldest row was true."""
    newest_as_of: datetime | None = None
    expires_at: datetime | None = None
    """When the first row is to be asked for again."""
    written_at: datetime
    features: tuple[str, ...] = ()
    """Every feature set that rows of the file have of their own, as JSON."""


@dataclass(frozen=True)
class CacheFile:
    """One file of the cache; it need not exist."""

    path: Path
    cloud: str
    layer: str

    @property
    def note_path(self) -> Path:
        """Where the facts are written once more."""
        return self.path.with_suffix(".json")

    def facts(self) -> FileFacts | None:
        """What the file says it is; None when there is none.

        Raises:
            Damaged: It can't be read, or is of another version.
        """
        import polars as pl

        try:
            found = pl.read_parquet_metadata(self.path)
        except FileNotFoundError:
            return None
        except (OSError, pl.exceptions.PolarsError) as error:
            raise Damaged(self, _first_line(error)) from None
        try:
            facts = FileFacts.model_validate_json(found.get(_FACTS, ""))
        except ValidationError:
            raise Damaged(self, "it does not say what it holds, or is of another version of Styx") from None
        if facts.schema_version != SCHEMA_VERSION:
            raise Damaged(self, f"its schema is version {facts.schema_version}, not {SCHEMA_VERSION}")
        return facts

    def noted(self) -> FileFacts | None:
        """What was written beside the file; for making a damaged one again."""
        try:
            return FileFacts.model_validate_json(self.note_path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            return None

    def size(self) -> int:
        """Bytes; 0 when there is none."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def scan(self) -> pl.LazyFrame:
        """The rows, to be read as far as a query needs them: text is categorical, `place` numbers region and zone.

        Sorted by market, accelerator and price, so that the first rows of a kind are its cheapest.
        """
        import polars as pl

        return pl.scan_parquet(self.path, glob=False).select(*COLUMNS, "place")

    def check(self) -> None:
        """Read everything.

        Raises:
            Damaged: Something in it can't be read.
        """
        import polars as pl

        try:
            self.scan().collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise Damaged(self, _first_line(error)) from None

    def write(
        self, rows: pl.DataFrame, origin: Origin, source: str, now: datetime, *, dropped: int = 0, repaired: int = 0
    ) -> FileFacts:
        """Replace the file: whoever reads meanwhile sees the old one or the new one.

        Raises:
            LocalIOError: The disk refuses; the old file stays.
        """
        import polars as pl

        times = rows.select(
            oldest=pl.col("as_of").min(),
            newest=pl.col("as_of").max(),
            expires=(pl.col("as_of") + pl.duration(milliseconds=pl.col("ttl_s") * 1000)).min(),
        ).row(0)
        facts = FileFacts(
            cloud=self.cloud,
            layer=self.layer,
            origin=origin,
            source=source,
            rows=len(rows),
            dropped=dropped,
            repaired=repaired,
            as_of=times[0],
            newest_as_of=times[1],
            expires_at=times[2],
            written_at=now,
            features=tuple(sorted(rows.get_column("features").drop_nulls().unique())),
        )
        ordered = in_order(numbered(rows.select(pl.col(pl.String).cast(pl.Categorical()), pl.exclude(pl.String))))
        text = facts.model_dump_json()

        how: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "row_group_size": _ROW_GROUP}
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with drafted(self.path, durable=True) as draft:
                ordered.write_parquet(draft, metadata={_FACTS: text}, **how)
            write_atomically(self.note_path, text, durable=True)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise LocalIOError(
                f"the catalog {self.path} can't be written: {_first_line(error)}", hint="free some space"
            ) from None
        return facts

    def remove(self) -> None:
        """Forget the rows."""
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


class Damaged(Exception):
    """A cache file that can't be used, and why. It is made again; nobody outside the catalog sees this."""

    def __init__(self, file: CacheFile, reason: str) -> None:
        super().__init__(reason)
        self.file = file
        self.reason = reason


def cache_file(folder: Path, cloud: str, layer: str = BASE) -> CacheFile:
    """The file of one layer of a cloud."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", layer)
    name = cloud if layer == BASE else f"{cloud}+{plain}"
    return CacheFile(folder / f"{name}.parquet", cloud, layer)


def cached_clouds(folder: Path) -> list[str]:
    """Clouds that have base rows in the cache."""
    return sorted(path.stem for path in folder.glob("*.parquet") if "+" not in path.stem)


def numbered(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows with `place`: one number for each region and zone."""
    import polars as pl

    return frame.with_columns(place=pl.struct("region", "zone").rank("dense").cast(pl.UInt32))


def in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows as the files have them: by market and accelerator, then cheapest first, then smallest first."""
    by = ("market", "accelerator_name", "usd_per_hour", "accelerator_count", "vcpus", "memory_gib", "instance_type")
    return frame.sort(*by, nulls_last=True)


def frame_of(rows: Iterable[CatalogRow]) -> pl.DataFrame:
    """Rows as columns of the cache."""
    import polars as pl

    listed = list(rows)
    columns: dict[str, list[object]] = {name: [getattr(row, name) for row in listed] for name in COLUMNS}
    columns["market"] = [row.market.value for row in listed]
    columns["features"] = [
        None if row.features is None else json.dumps(row.features.model_dump(exclude_unset=True), sort_keys=True)
        for row in listed
    ]
    columns["as_of"] = [None if row.as_of is None else _in_utc(row.as_of) for row in listed]
    return pl.DataFrame(columns, schema=polars_schema(), strict=False)


def rows_of(frame: pl.DataFrame) -> Iterator[CatalogRow]:
    """Columns of the cache as rows. The cache was checked when it was written, so they are not checked again."""
    from styx.driver import FeatureSet, Market

    markets = {market.value: market for market in Market}
    kept: dict[str | None, FeatureSet | None] = {None: None}
    columns = {name: frame.get_column(name).to_list() for name in COLUMNS}
    for text in set(columns["features"]) - kept.keys():
        kept[text] = FeatureSet.model_validate_json(text)
    columns["features"] = [kept[text] for text in columns["features"]]
    columns["market"] = [markets[text] for text in columns["market"]]
    fields = set(COLUMNS)
    names = tuple(columns)
    for values in zip(*columns.values(), strict=True):
        yield CatalogRow.model_construct(_fields_set=fields, **dict(zip(names, values, strict=True)))


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
