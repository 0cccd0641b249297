"""Keeps the cache stocked: which layers a cloud has, and how each is read, made, and made again.

A cloud's base layer comes from its own plugin (its snapshot, its vendor's interface) or from a hosted file; every other
plugin that answers the catalog hook is a layer over it. Nothing here asks a network unless a layer has no rows at all,
its rows say that they have expired, or the caller asks for fresh ones; each question goes through the guard.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from styx.catalog.cache import CacheFile, Damaged, FileFacts, cache_file, frame_of
from styx.catalog.schema import SCHEMA_VERSION, fault_of, key_of
from styx.catalog.snapshot import read_snapshot
from styx.driver import CatalogRow, CatalogSource, Cloud
from styx.errors import PluginError, StyxError

if TYPE_CHECKING:
    from styx.plugins import Hub

Guard = Callable[[str, Callable[[], Any], float], Any]
"""Runs a plugin's call (name, call, deadline in seconds) behind a deadline and an error wall."""

PLAN_DEADLINE_S: Final = 20.0
"""For a source that must be asked while planning."""
REFRESH_DEADLINE_S: Final = 300.0
"""For one that is asked by `styx catalog refresh`."""
LIVE_S: Final = 3600.0
MOST_FAULTY: Final = 0.05


def unguarded(_what: str, action: Callable[[], Any], _deadline_s: float) -> Any:
    """Just call: for tests, and where the caller is guarded itself."""
    return action()


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Layer:
    """One source of a cloud's rows, and the file that keeps them."""

    file: CacheFile
    source: CatalogSource | None
    name: str
    """Of the plugin, for messages and for rows that name no source."""

    def snapshot(self) -> Path | None:
        """The file in the plugin's wheel."""
        return self.source.snapshot() if self.source is not None else None


@dataclass
class Stock:
    """The cache of one home, and who fills it.

    Attributes:
        folder: `$STYX_HOME/catalogs`.
        hub: Plugins.
        guard: Around every call of a plugin.
        now: Aware UTC time.
        adapting: Held while a hosted file is read in: several at once need more memory, and no less time.
    """

    folder: Path
    hub: Hub
    guard: Guard = unguarded
    now: Callable[[], datetime] = utc_now
    retry_after_s: float = 300.0
    """A source that failed while planning is not asked again for so long (by this process)."""
    _failed_at: dict[str, datetime] = field(default_factory=dict)
    _known: dict[Path, tuple[tuple[int, int, int], FileFacts]] = field(default_factory=dict)
    """What files say of themselves, as long as they are not replaced."""
    adapting: Lock = field(default_factory=Lock, repr=False)

    def layers(self, cloud: str) -> list[Layer]:
        """Lowest first. A cloud whose plugin is not installed has its base layer still."""
        found = self.hub.catalog_sources(cloud)
        base = next((source for source in found if isinstance(source, Cloud)), None)
        layers = [Layer(cache_file(self.folder, cloud), base, f"the plugin of {cloud}")]
        names: dict[str, int] = {}
        for source in found:
            if source is base:
                continue
            name = f"{type(source).__module__}.{type(source).__qualname__}"
            names[name] = names.get(name, 0) + 1
            layer = name if names[name] == 1 else f"{name}.{names[name]}"
            layers.append(Layer(cache_file(self.folder, cloud, layer), source, layer))
        return layers

    def files(self, cloud: str) -> list[CacheFile]:
        """Files that hold the cloud's rows, lowest layer first, made where they are missing, damaged or expired.

        Raises:
            StyxError: There are no rows, and none can be had.
        """
        ready: list[CacheFile] = []
        failure: StyxError | None = None
        layers = self.layers(cloud)
        for layer in layers:
            try:
                if self._ready(layer):
                    ready.append(layer.file)
            except StyxError as error:
                failure = failure or error
                if len(layers) > 1:
                    self.hub.report(f"the catalog of {cloud} lacks the rows of {layer.name}: {error.message}")
        if ready:
            return ready
        if failure is not None:
            raise failure
        self.hub.cloud(cloud)  # says how to install a missing plugin
        raise PluginError(
            f"no plugin says what can be bought at {cloud}",
            hint=f"give it rows: styx catalog refresh --from PATH_OR_URL --cloud {cloud}",
        )

    def _ready(self, layer: Layer) -> bool:
        """Whether the layer has rows, after making them where they are missing."""
        try:
            facts = self._facts(layer.file)
        except Damaged as damage:
            self.mend(layer, damage.reason)
            return True
        if facts is None:
            return layer.source is not None and self._first_rows(layer)
        if self._is_old_snapshot(layer, facts):
            self.load_snapshot(layer)
        elif self._is_expired(layer, facts) and self._may_ask(layer):
            self._renew(layer)
        return True

    def _facts(self, file: CacheFile) -> FileFacts | None:
        """See `CacheFile.facts`; a file is read again when it is another one."""
        try:
            stat = os.stat(file.path)
        except OSError:
            return file.facts()
        stamp = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        known = self._known.get(file.path)
        if known is not None and known[0] == stamp:
            return known[1]
        facts = file.facts()
        if facts is not None:
            self._known[file.path] = (stamp, facts)
        return facts

    def _is_expired(self, layer: Layer, facts: FileFacts) -> bool:
        """Rows say themselves how long to believe them.

        Those of a source without a snapshot are live by nature: they are asked for again after `LIVE_S`, and when the
        plugin's code changed.
        """
        if facts.expires_at is not None and facts.expires_at <= self.now():
            return True
        if facts.origin != "live" or layer.source is None or layer.snapshot() is not None:
            return False
        old = facts.expires_at is None and self.now() - facts.written_at > timedelta(seconds=LIVE_S)
        return old or _code_changed(layer.source, facts.written_at)

    def _first_rows(self, layer: Layer) -> bool:
        if layer.snapshot() is not None:
            self.load_snapshot(layer)
        else:
            self.load_live(layer, PLAN_DEADLINE_S)
        return True

    def _renew(self, layer: Layer) -> None:
        try:
            self.load_live(layer, PLAN_DEADLINE_S)
        except StyxError as error:
            self._failed_at[layer.file.path.name] = self.now()
            self.hub.report(f"expired rows of {layer.name} stay in use, as fresh ones can't be had: {error.message}")

    def _may_ask(self, layer: Layer) -> bool:
        failed = self._failed_at.get(layer.file.path.name)
        asked = failed is not None and self.now() - failed < timedelta(seconds=self.retry_after_s)
        return layer.source is not None and not asked

    def _is_old_snapshot(self, layer: Layer, facts: FileFacts) -> bool:
        """Whether the plugin's snapshot is another one than that which was read."""
        if facts.origin != "snapshot":
            return False
        path = layer.snapshot()
        if path is None:
            return False
        try:
            changed = path.stat().st_mtime > facts.written_at.timestamp()
        except OSError:
            return False
        return changed or facts.source != str(path)

    def mend(self, layer: Layer, reason: str) -> FileFacts:
        """Make a damaged file again: from the hosted file it came from, the plugin's snapshot, or its vendor.

        Raises:
            StyxError: From none of them.
        """
        noted = layer.file.noted()
        again = "from where it came"
        if (found := self._hosted_again(layer, noted)) is not None:
            facts = found
        elif layer.snapshot() is not None:
            again = "from the snapshot of its plugin"
            facts = self.load_snapshot(layer)
        elif layer.source is not None:
            facts = self.load_live(layer, PLAN_DEADLINE_S)
        else:
            layer.file.remove()
            raise PluginError(
                f"the catalog of {layer.file.cloud} was damaged ({reason}), and there is nothing to make it again from",
                hint=f"styx catalog refresh --from PATH_OR_URL --cloud {layer.file.cloud}",
            )
        outdated = noted is not None and noted.schema_version != SCHEMA_VERSION
        if not (outdated and noted is not None and noted.origin == facts.origin):  # as after any upgrade
            what = "is of another version of Styx" if outdated else f"was damaged ({reason})"
            self.hub.report(f"the catalog file {layer.file.path} {what}; it was made again {again}")
        return facts

    def _hosted_again(self, layer: Layer, noted: FileFacts | None) -> FileFacts | None:
        """Rows of the hosted file that a damaged one was made from, where that is still there and still good."""
        if noted is None or noted.origin != "hosted" or not Path(noted.source).is_file():
            return None
        from styx.catalog.hosts import load_hosted

        try:
            return load_hosted(layer.file, Path(noted.source), self.now())
        except StyxError as error:
            self.hub.report(f"{layer.file.cloud}: its prices can't be read again from where they came: {error.message}")
            return None

    # sources -----------------------------------------------------------------------------------------------------
    def load_snapshot(self, layer: Layer) -> FileFacts:
        """Read the snapshot in the plugin's wheel.

        Raises:
            PluginError: There is none, or it is wrong.
        """
        path = layer.snapshot()
        if path is None:
            raise PluginError(f"{layer.name} has no snapshot")
        rows = [row for row in read_snapshot(path) if row.cloud == layer.file.cloud]
        return layer.file.write(frame_of(rows), "snapshot", str(path), self.now())

    def load_live(self, layer: Layer, deadline_s: float) -> FileFacts:
        """Ask the vendor's interface.

        Where the answer covers a market of a region, the snapshot's rows there are forgotten; elsewhere they stay.

        Raises:
            StyxError: It failed, or gave rows that can't be.
        """
        source, cloud = layer.source, layer.file.cloud
        if source is None:
            raise PluginError(f"no plugin for {cloud} is installed that could be asked for prices")
        now = self.now()
        fetched = self.guard(f"{cloud}.fetch", lambda: list(source.fetch()), deadline_s)
        live, dropped = _checked(fetched, cloud, layer.name, now)
        path = layer.snapshot()
        old = read_snapshot(path) if path is not None else []
        rows = list(_completed(live, old))
        if not rows:
            raise PluginError(f"{layer.name} gave no rows")
        return layer.file.write(frame_of(rows), "live", layer.name, now, dropped=dropped)


def _code_changed(source: CatalogSource, since: datetime) -> bool:
    """Whether the file that a source is written in is newer than the rows it gave."""
    path = getattr(sys.modules.get(type(source).__module__), "__file__", None)
    try:
        return path is not None and os.stat(path).st_mtime > since.timestamp()
    except OSError:
        return False


def _checked(rows: Iterable[object], cloud: str, name: str, now: datetime) -> tuple[list[CatalogRow], int]:
    """Rows that can be, dated and with a source, and how many can't."""
    kept: dict[tuple[Any, ...], CatalogRow] = {}
    faults: list[str] = []
    total = 0
    for row in rows:
        total += 1
        if not isinstance(row, CatalogRow) or row.cloud != cloud:
            raise PluginError(f"the catalog of {cloud} gave something that is not a row of it: {row!r}")
        if fault := fault_of(row):
            faults.append(f"{row.instance_type} in {row.region}: {fault[0]}: {fault[1]}")
            continue
        missing: Mapping[str, object] = {
            **({} if row.as_of else {"as_of": now}),
            **({} if row.source else {"source": name}),
        }
        kept[key_of(row)] = row.model_copy(update=missing) if missing else row
    if len(faults) > MOST_FAULTY * total:
        raise PluginError(f"{len(faults)} of {total} rows of {name} are impossible, so none is believed: {faults[0]}")
    return list(kept.values()), len(faults)


def _completed(live: list[CatalogRow], old: list[CatalogRow]) -> Iterator[CatalogRow]:
    covered = {(row.region, row.market) for row in live}
    yield from live
    yield from (row for row in old if (row.region, row.market) not in covered)
