"""The catalog as planners and listings ask it: all clouds at once, held in columns, answered in milliseconds.

Rows of one side of the market are read from the Parquet files when they are first asked for, and kept for the life of
the object; a file that was replaced meanwhile is read again. Text is categorical, so 220,000 offers take about 40 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import SequenceMatcher
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from styx.catalog import listing
from styx.catalog.cache import BASE, CacheFile, Damaged, cached_clouds, frame_of, in_order, numbered, rows_of
from styx.catalog.filters import Condition, all_of, conditions, on_market, one_of
from styx.catalog.results import AcceleratorQuery, AcceleratorView, CatalogInfo
from styx.catalog.schema import KEY, TOLD_BELOW
from styx.catalog.stock import PLAN_DEADLINE_S, Guard, Stock, unguarded, utc_now
from styx.driver import CatalogRow, FeatureSet, HasZones, OfferQuery, Place, QuotesLive
from styx.errors import PluginError, StyxError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl

    from styx.optimizer.problem import Requirement
    from styx.plugins import Hub
    from styx.state.store import Folders

PER_PLACE: Final = 4
"""How many offers of a kind are kept in one place: the cheapest wins, the others are for when it refuses."""
_NAMED: Final = {"accelerator": "accelerator_name"} | {
    name: name for name in ("cloud", "region", "zone", "instance_type")
}
"""Conditions that a name meets, and the column with the name."""
NEAR_MISSES: Final = 3
_LOOK: Final = timedelta(seconds=1)

_Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class _Held:
    """Rows of some clouds on one side of the market, and the files they were read from."""

    stamp: _Stamp
    rows: pl.DataFrame
    places: tuple[tuple[int, str, str, str | None], ...]
    """Number, cloud, region and zone of each."""
    features: tuple[str, ...]
    made: dict[int, CatalogRow] = field(default_factory=dict)
    """Rows that were handed out, by number: plans ask for the same ones again and again."""

    def take(self, numbers: Sequence[int]) -> list[CatalogRow]:
        """Rows as objects."""
        missing = [number for number in numbers if number not in self.made]
        if missing:
            self.made.update(zip(missing, rows_of(self.rows[missing]), strict=True))
        return [self.made[number] for number in numbers]


@dataclass(frozen=True)
class _Looked:
    """The files of some clouds as they were found."""

    at: datetime
    folder: int | None
    files: list[list[CacheFile]]


class Catalog:
    """What all clouds sell.

    Args:
        folders: Where the cache is.
        hub: Plugins: sources of rows, and what clouds can do.
        guard: Runs each plugin's call behind a deadline.
        now: Aware UTC time.
    """

    def __init__(
        self, folders: Folders, hub: Hub, *, guard: Guard = unguarded, now: Callable[[], datetime] = utc_now
    ) -> None:
        self.hub = hub
        self.stock = Stock(folders.catalog_dir(), hub, guard, now)
        self._looked: dict[tuple[str, ...], _Looked] = {}
        self._held: dict[tuple[tuple[str, ...], bool], _Held] = {}
        self._known_features: dict[str, FeatureSet] = {}

    # for planners --------------------------------------------------------------------------------------------------
    def candidates(
        self,
        wanted: Requirement,
        places: Sequence[Place],
        *,
        num_nodes: int = 1,
        per_place: int = PER_PLACE,
        keep: Collection[str] = (),
        apart: Collection[str] = (),
    ) -> list[CatalogRow]:
        """Offers that answer the requirement in these places, cheapest first, unknown prices last.

        All machine types compete. Dominated ones are pruned: those that `per_place` others in the same zone, on the
        same market, undercut.

        Args:
            wanted: One alternative of a task.
            places: Where machines may be made; one without a zone stands for all zones of its region.
            num_nodes: Of the cluster.
            per_place: How many offers are kept in each zone.
            keep: Accelerators and machine types that are kept beside the cheapest others, where something else than the
                price counts (run times, wishes, reservations) or they may not be taken at all.
            apart: Columns of amounts that are limited: what takes less than all that is cheaper is kept, too.

        Raises:
            StyxError: No rows can be had of any of these clouds.
        """
        import polars as pl

        found = self._matching(wanted, places, num_nodes)
        if found is None:
            return []
        held, asked, open_places = found
        number = pl.int_range(pl.len(), dtype=pl.UInt32)
        needed = dict.fromkeys([*_needed(asked), *apart])
        rows = held.rows.lazy().select(*needed, "place", "accelerator_name", "instance_type", nr=number)
        if len(open_places) < len(held.places):
            rows = rows.filter(pl.col("place").is_in(open_places))
        by: list[pl.Expr] = [_kind()]
        if keep:
            by.append(pl.when(one_of("instance_type", keep)).then("instance_type").alias("kept"))
        fitting = rows.filter(all_of(asked))
        picked = fitting.group_by(by).agg(pl.col("nr").head(per_place)).explode("nr").select("nr")
        if apart:
            picked = pl.concat([picked, fitting.filter(_lean(apart, by)).select("nr")]).unique()
        numbers = picked.collect().get_column("nr")
        chosen = _cheapest_first(held.rows[numbers].with_columns(nr=numbers))
        first = pl.int_range(pl.len()).over("place") < per_place
        if keep:
            special = (one_of("accelerator_name", keep) | one_of("instance_type", keep)).fill_null(False)
            first = special | ((~special).cast(pl.UInt32).cum_sum().over("place") <= per_place)
        winners = chosen.filter(first | _lean(apart, ["place"]) if apart else first)
        return held.take(winners.get_column("nr").to_list())

    def near_misses(self, wanted: Requirement, places: Sequence[Place], *, num_nodes: int = 1) -> list[CatalogRow]:
        """Offers that answer all of the requirement but one condition, the nearest of each: for saying what kills it.

        When no offer lacks just one, those in these places that lack the fewest.
        """
        import polars as pl

        results: list[pl.DataFrame] = []
        for relaxed in (None, "market"):
            found = self._matching(wanted, places, num_nodes, other_market=relaxed == "market")
            if found is None:
                continue
            held, asked, open_places = found
            here = held.rows.filter(pl.col("place").is_in(open_places))
            if relaxed == "market":
                results.append(_cheapest_first(here.filter(all_of(asked))).head(NEAR_MISSES))
                continue
            for index, condition in enumerate(asked):
                others = here.filter(all_of([*asked[:index], *asked[index + 1 :]]))
                results.append(_nearest(others, condition, wanted))
            if all(each.is_empty() for each in results):
                met = pl.sum_horizontal(each.holds.fill_null(False).cast(pl.UInt32) for each in asked)
                results.append(here.with_columns(met=met).sort("met", descending=True).head(NEAR_MISSES).drop("met"))
        merged = {row.model_dump_json(): row for frame in results for row in rows_of(frame)}
        return list(merged.values())

    def regions(self, clouds: Iterable[str]) -> list[tuple[str, str]]:
        """Every cloud and region that these clouds sell something in."""
        named = tuple(sorted(set(clouds)))
        found: dict[tuple[str, str], None] = {}
        for spot in (False, True) if named else ():
            found.update(dict.fromkeys((cloud, region) for _, cloud, region, _ in self._rows(named, spot).places))
        return list(found)

    def _matching(
        self, wanted: Requirement, places: Sequence[Place], num_nodes: int, *, other_market: bool = False
    ) -> tuple[_Held, list[Condition], list[int]] | None:
        """Rows on the market asked for, what is asked of them, and the numbers of the open places."""
        clouds = tuple(sorted({place.cloud for place in places if wanted.cloud in (None, place.cloud)}))
        if not clouds:
            return None
        held = self._rows(clouds, wanted.use_spot != other_market)
        may = {cloud: self._features(cloud) for cloud in clouds}
        asked = conditions(wanted, may, held.features, num_nodes)
        return held, asked, list(_numbers_of(held.places, places))

    def _features(self, cloud: str) -> FeatureSet:
        if cloud not in self._known_features:
            try:
                self._known_features[cloud] = self.hub.cloud(cloud).features
            except PluginError:
                self._known_features[cloud] = FeatureSet()
        return self._known_features[cloud]

    # for people ------------------------------------------------------------------------------------------------------
    def accelerators(self, query: AcceleratorQuery) -> list[AcceleratorView]:
        """What is sold with accelerators: by name, number and cloud (or region), with price ranges and ages.

        Raises:
            NotFound: Nothing sold goes by that name; the message says which one is meant.
            UsageError: The question can't be read.
        """
        asked = listing.parsed(query)
        clouds = self._listed_clouds(asked.cloud)
        zoned = self._zoned(clouds, asked)
        frames = [self._rows(clouds, spot).rows for spot in (False, True)] if clouds else []
        if asked.cloud is not None and not clouds:
            frames = self._quoted(asked.cloud)
        return listing.accelerators(frames, asked, zoned)

    def _zoned(self, clouds: Iterable[str], asked: listing.Asked) -> list[str]:
        """Clouds whose rows without a zone sell the zone that is asked for, as far as can be said without asking them.

        Raises:
            UsageError: The only cloud asked for has no such zone.
        """
        found: list[str] = []
        for name in clouds if asked.zone and asked.region else ():
            cls = self.hub.driver_class(name)
            if cls is None or not issubclass(cls, HasZones):
                continue
            cloud = self.hub.cloud(name)
            assert isinstance(cloud, HasZones)
            region = Place(cloud=name, account="", region=str(asked.region))
            ask = partial(cloud.zone_named, region, str(asked.zone), ask=False)
            try:
                self.stock.guard(f"{name}.zone_named", ask, PLAN_DEADLINE_S)
            except UnsupportedError as error:
                if asked.cloud:
                    raise UsageError(error.message) from None
            else:
                found.append(name)
        return found

    def _quoted(self, cloud: str) -> list[pl.DataFrame]:
        """What a cloud without a catalog offers just now. It is asked only when it is named: an answer takes a while.

        Raises:
            StyxError: It gave no answer.
        """
        cls = self.hub.driver_class(cloud)
        if cls is None or not issubclass(cls, QuotesLive):
            return []
        source = self.hub.cloud(cloud)
        assert isinstance(source, QuotesLive)
        asked = partial(source.offers, OfferQuery(), PLAN_DEADLINE_S)
        rows = self.stock.guard(f"{cloud}.offers", asked, PLAN_DEADLINE_S)
        return [frame_of(rows)] if rows else []

    def info(self) -> list[CatalogInfo]:
        """Every layer of every cloud, as it is now; asks no network and makes no file."""
        return [line for cloud in self._listed_clouds(None, stocked=False) for line in self._info(cloud)]

    def _info(self, cloud: str) -> list[CatalogInfo]:
        try:
            return listing.info(self.stock, cloud)
        except StyxError as error:  # a plugin that breaks is one line of the listing
            return [CatalogInfo(cloud=cloud, layer=BASE, origin=None, note=error.message)]

    def clouds(self) -> list[str]:
        """Clouds that have rows, or whose plugin could give some."""
        return list(self._listed_clouds(None, stocked=False))

    def _listed_clouds(self, only: str | None, *, stocked: bool = True) -> tuple[str, ...]:
        names = dict.fromkeys(cached_clouds(self.stock.folder))
        for name in self.hub.installed_clouds():
            if self._is_kept(name):
                names[name] = None
        wanted = sorted(name for name in names if only in (None, name))
        return tuple(name for name in wanted if self._has_rows(name)) if stocked else tuple(wanted)

    def _is_kept(self, cloud: str) -> bool:
        try:
            cls = self.hub.driver_class(cloud)
        except StyxError:
            return False
        return cls is not None and not cls.free and not issubclass(cls, QuotesLive)

    def _has_rows(self, cloud: str) -> bool:
        try:
            return bool(self.stock.files(cloud))
        except StyxError as error:
            self.hub.report(f"{cloud} is not listed: {error.message}")
            return False

    # rows ------------------------------------------------------------------------------------------------------------
    def _rows(self, clouds: tuple[str, ...], spot: bool) -> _Held:
        """Rows of these clouds on one side of the market; a damaged file is made again, once.

        Raises:
            StyxError: None of them has any.
        """
        import polars as pl

        files = self._files(clouds)
        held = self._held.get((clouds, spot))
        if held is not None and held.stamp == _stamp(files):
            return held
        try:
            held = _read(files, spot)
        except (OSError, pl.exceptions.PolarsError):
            held = _read(self._look_for(clouds, self._mended(clouds)), spot)
        self._held[clouds, spot] = held
        return held

    def _mended(self, clouds: Iterable[str]) -> dict[str, StyxError]:
        """Make damaged files again; clouds of which one can't be made are told, with the reason."""
        lost: dict[str, StyxError] = {}
        for layer in (layer for cloud in clouds for layer in self.stock.layers(cloud)):
            try:
                layer.file.check() if layer.file.size() else None
            except Damaged as damage:
                try:
                    self.stock.mend(layer, damage.reason)
                except StyxError as error:
                    lost[layer.file.cloud] = error
        return lost

    def _files(self, clouds: tuple[str, ...]) -> list[list[CacheFile]]:
        """Their files. A plan asks often: they are looked for again after a second, or when the folder has changed."""
        now = self.stock.now()
        known = self._looked.get(clouds)
        if known is not None and known.folder == _changed(self.stock.folder) and timedelta() <= now - known.at < _LOOK:
            return known.files
        files = self._look_for(clouds)
        self._looked[clouds] = _Looked(now, _changed(self.stock.folder), files)
        return files

    def _look_for(
        self, clouds: Iterable[str], lost: Mapping[str, StyxError] = MappingProxyType({})
    ) -> list[list[CacheFile]]:
        files: list[list[CacheFile]] = []
        failures: dict[str, StyxError] = {}
        for cloud in clouds:
            try:
                files.append(self.stock.files(cloud))
            except StyxError as error:
                failures[cloud] = lost.get(cloud, error)
        if failures and not files:
            raise next(iter(failures.values()))
        for cloud, failed in failures.items():
            self.hub.report(f"{cloud} is left out of the plan, as its prices can't be had: {failed.message}")
        return files


def _changed(folder: Path) -> int | None:
    """When a file was last put into a folder, or taken from it."""
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None


def _stamp(files: Iterable[Iterable[CacheFile]]) -> _Stamp:
    stats = ((str(file.path), file.path.stat()) for layers in files for file in layers)
    return tuple((path, stat.st_mtime_ns, stat.st_ino) for path, stat in stats)


def _read(files: Sequence[Sequence[CacheFile]], spot: bool) -> _Held:
    """Layers of each cloud merged, clouds below each other, places numbered through."""
    import polars as pl

    stamp = _stamp(files)
    parts = pl.collect_all([_merged(layers, spot) for layers in files])
    offset = 0
    shifted: list[pl.DataFrame] = []
    for part in parts:
        shifted.append(part.with_columns(place=pl.col("place") + offset))
        offset += int(part.select(pl.col("place").max().fill_null(0)).item()) + 1
    rows = pl.concat(shifted, rechunk=True)
    places = rows.select("place", "cloud", "region", "zone").unique("place")
    features = rows.get_column("features").drop_nulls().unique().cast(pl.String)
    named = places.with_columns(pl.col(pl.Categorical).cast(pl.String))
    return _Held(stamp, rows, tuple(named.iter_rows()), tuple(features))


def _merged(layers: Sequence[CacheFile], spot: bool) -> pl.LazyFrame:
    """A cloud's rows: those of a later layer in place of the same offer of an earlier one.

    What they leave out of the machine (`TOLD_BELOW`) is taken from that.
    """
    import polars as pl

    side = on_market(spot)
    rows = layers[0].scan().filter(side)
    for layer in layers[1:]:
        above = layer.scan()
        below = rows.select(*KEY, **{f"{name}_below": name for name in TOLD_BELOW})
        told = [pl.coalesce(name, f"{name}_below") for name in TOLD_BELOW]
        known = above.filter(side).join(below, on=KEY, how="left", nulls_equal=True).with_columns(told)
        whole = known.select(rows.collect_schema().names())
        rows = pl.concat([rows.join(above, on=KEY, how="anti", nulls_equal=True), whole])
    if len(layers) > 1:
        return rows.map_batches(lambda frame: in_order(numbered(frame)))
    return rows


def _needed(asked: Sequence[Condition]) -> list[str]:
    names = {name for each in asked for name in each.holds.meta.root_names()}
    return sorted(names - {"place", "accelerator_name", "instance_type"})


def _numbers_of(table: Iterable[tuple[int, str, str, str | None]], places: Sequence[Place]) -> Iterator[int]:
    whole = {(place.cloud, place.region) for place in places if place.zone is None}
    zones = {(place.cloud, place.region, place.zone) for place in places if place.zone is not None}
    regions = {(cloud, region) for cloud, region, _ in zones}
    for number, cloud, region, zone in table:
        here = (cloud, region)
        if here in whole or (cloud, region, zone) in zones or (zone is None and here in regions):
            yield number


def _lean(amounts: Iterable[str], by: Sequence[pl.Expr | str]) -> pl.Expr:
    """Whether a row takes less than all cheaper ones of its group; rows are in the order of their prices."""
    import polars as pl

    less = [pl.col(name) < pl.col(name).cum_min().shift(1).over(*by) for name in amounts]
    return pl.any_horizontal(*less).fill_null(False)


def _kind() -> pl.Expr:
    """One number for each place and accelerator: it is quicker to group by than the two."""
    import polars as pl

    none = (1 << 32) - 1
    accelerator = pl.col("accelerator_name").to_physical().cast(pl.UInt64).fill_null(none)
    return (pl.col("place").cast(pl.UInt64) * (1 << 32) + accelerator).alias("kind")


def _cheapest_first(frame: pl.DataFrame) -> pl.DataFrame:
    by = ("usd_per_hour", "accelerator_count", "vcpus", "memory_gib", "instance_type", "cloud", "region", "zone")
    return frame.sort(*by, nulls_last=True)


def _nearest(frame: pl.DataFrame, condition: Condition, wanted: Requirement) -> pl.DataFrame:
    """Rows that lack just this, the nearest first, each kind of thing once; of names those spelled most alike."""
    lacking = frame.filter(~condition.holds.fill_null(False))
    named = _NAMED.get(condition.what)
    asked = getattr(wanted, named) if named else None
    if named and asked is not None:
        each = _cheapest_first(lacking).unique(named, keep="first", maintain_order=True).drop_nulls(named)
        like = [SequenceMatcher(None, asked.lower(), name.lower()).ratio() for name in each.get_column(named)]
        alike = sorted(range(len(like)), key=lambda index: -like[index])
        return each[alike[:NEAR_MISSES]] if alike else _cheapest_first(lacking).head(NEAR_MISSES)
    if condition.nearest is None:
        return _cheapest_first(lacking).unique("instance_type", keep="first", maintain_order=True).head(NEAR_MISSES)
    return lacking.sort(condition.nearest, descending=True, nulls_last=True).head(NEAR_MISSES)
