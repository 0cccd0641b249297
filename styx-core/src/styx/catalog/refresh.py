"""`styx catalog refresh`: every cloud on its own, in parallel; one that fails keeps the rows it has."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from styx.catalog.cache import BASE, CacheFile, Damaged, FileFacts, cache_file
from styx.catalog.hosts import address_of, clouds_at, find_files, is_address, load_hosted, read_address, store
from styx.catalog.results import CatalogRefresh
from styx.catalog.stock import REFRESH_DEADLINE_S, Layer, Stock
from styx.driver import QuotesLive
from styx.errors import CatalogRefused, NotFound, StyxError, UsageError
from styx.parallel import in_parallel

if TYPE_CHECKING:
    from datetime import datetime

WORKERS: Final = 8
Said = Callable[[CatalogRefresh], None]


def refresh(
    stock: Stock, clouds: Sequence[str] = (), source: str | None = None, say: Said | None = None
) -> list[CatalogRefresh]:
    """Fetch fresh rows, from the vendors or (with `source`) from a hosted catalog; returns what became of each cloud.

    Args:
        stock: The cache.
        clouds: Only these; all that have something to be refreshed when empty.
        source: Folder, file or address of a hosted catalog.
        say: Told of each cloud as it ends.

    Raises:
        NotFound: A cloud that was named has no plugin, or `source` has no file for it.
        UsageError: One file for several clouds, or a cloud that keeps no prices.
        CatalogRefused: No cloud's file could be read from an address.
    """
    jobs = _from_vendors(stock, clouds) if source is None else _from_hosted(stock, clouds, source)

    def run(job: _Job) -> CatalogRefresh:
        result = job.run(stock)
        if say is not None:
            say(result)
        return result

    if not jobs:
        return []
    results = in_parallel(run, jobs, at_once=WORKERS)
    missing = [each for each in results if not each.ok and each.message == _ABSENT]
    if len(missing) == len(results) and source is not None:
        raise NotFound(f"{source} has none of {', '.join(each.cloud for each in results[:5])}, ...")
    if len(results) > 1 and not clouds and source is not None and is_address(source) and not any(r.ok for r in results):
        first = next(each for each in results if each.message != _ABSENT)
        raise CatalogRefused(f"nothing could be read from {source}: {first.message}", hint=first.hint)
    wanted = set(clouds)
    return [each for each in results if each.message != _ABSENT or each.cloud in wanted]


_ABSENT: Final = "the hosted catalog has no file for it"


@dataclass(frozen=True)
class _Job:
    """One cloud to be refreshed: every step gives the facts of a written file."""

    cloud: str
    source: str
    steps: tuple[Callable[[], FileFacts], ...]

    def run(self, stock: Stock) -> CatalogRefresh:
        """Do the steps; a failing one leaves its file as it was."""
        began = time.monotonic()
        written: list[FileFacts] = []
        failure: StyxError | None = None
        for step in self.steps:
            try:
                written.append(step())
            except StyxError as error:
                failure = failure or error
        facts = written or _kept(stock, self.cloud)
        as_of = min((each.as_of for each in facts if each.as_of is not None), default=None)
        return CatalogRefresh(
            cloud=self.cloud,
            ok=failure is None,
            origin=facts[0].origin if facts else None,
            source=facts[0].source if facts else self.source,
            rows=sum(each.rows for each in facts),
            dropped=sum(each.dropped for each in written),
            repaired=sum(each.repaired for each in written),
            as_of=as_of,
            newest_as_of=max((each.newest_as_of for each in facts if each.newest_as_of is not None), default=None),
            age_s=_age(as_of, stock.now()),
            seconds=round(time.monotonic() - began, 3),
            message=failure.message if failure else "",
            hint=failure.hint if failure else None,
        )


def _kept(stock: Stock, cloud: str) -> list[FileFacts]:
    """Facts of the rows that a failed refresh leaves in use."""
    found: list[FileFacts] = []
    for layer in stock.layers(cloud):
        try:
            facts = layer.file.facts()
        except Damaged:
            continue
        if facts is not None:
            found.append(facts)
    return found


def _from_vendors(stock: Stock, clouds: Sequence[str]) -> list[_Job]:
    hub = stock.hub
    installed = hub.installed_clouds()
    for name in clouds:
        if name not in installed:
            hub.cloud(name)  # says how to install it
        if not _has_a_catalog(stock, name):
            raise UsageError(
                f"{name} has no prices to be refreshed: it is asked what it has whenever something is planned"
            )
    jobs: list[_Job] = []
    for name in clouds or [name for name in installed if _has_a_catalog(stock, name)]:
        try:
            layers = [layer for layer in stock.layers(name) if layer.source is not None]
        except StyxError as error:
            jobs.append(_Job(name, "", (_raising(error),)))
            continue
        steps = tuple(_vendor_step(stock, layer) for layer in layers)
        jobs.append(_Job(name, ", ".join(layer.name for layer in layers), steps))
    return jobs


def _has_a_catalog(stock: Stock, cloud: str) -> bool:
    """Clouds that quote live, and free ones, have nothing to keep."""
    try:
        cls = stock.hub.driver_class(cloud)
    except StyxError:
        return True  # its job reports what is wrong with it
    return cls is not None and not cls.free and not issubclass(cls, QuotesLive)


def _vendor_step(stock: Stock, layer: Layer) -> Callable[[], FileFacts]:
    def step() -> FileFacts:
        try:
            return stock.load_live(layer, REFRESH_DEADLINE_S)
        except StyxError:
            if layer.file.size() == 0 and layer.snapshot() is not None:
                stock.load_snapshot(layer)
            raise

    return step


def _raising(error: StyxError) -> Callable[[], FileFacts]:
    def step() -> FileFacts:
        raise error

    return step


def _from_hosted(stock: Stock, clouds: Sequence[str], source: str) -> list[_Job]:
    if is_address(source):
        single = source.split("?")[0].endswith(".csv")
        if single and len(clouds) != 1:
            raise UsageError("an address of one file is for one cloud", hint="name it with --cloud")
        installed = [name for name in stock.hub.installed_clouds() if _has_a_catalog(stock, name)]
        names = clouds_at(clouds, installed)
        return [_Job(name, source, (_address_step(stock, address_of(source, name), name),)) for name in names]
    path = Path(source).expanduser()
    if path.is_file() and len(clouds) > 1:
        raise UsageError("one file is for one cloud", hint="name it with --cloud")
    only = clouds[0] if len(clouds) == 1 else None
    files = find_files(path, only)
    absent = [name for name in clouds if name not in files]
    if absent:
        raise NotFound(f"{path} holds no file of {', '.join(absent)}", hint=f"it has: {', '.join(files)}")
    return [
        _Job(name, str(file), (_path_step(stock, file, name),))
        for name, file in files.items()
        if not clouds or name in clouds
    ]


def _base(stock: Stock, cloud: str) -> CacheFile:
    return cache_file(stock.folder, cloud, BASE)


def _path_step(stock: Stock, path: Path, cloud: str) -> Callable[[], FileFacts]:
    def step() -> FileFacts:
        with stock.adapting:
            return load_hosted(_base(stock, cloud), path.absolute(), stock.now())

    return step


def _address_step(stock: Stock, address: str, cloud: str) -> Callable[[], FileFacts]:
    def step() -> FileFacts:
        read = stock.guard(
            f"fetch of {address}", lambda: read_address(stock.hub, address, stock.now()), REFRESH_DEADLINE_S
        )
        if read is None:
            raise CatalogRefused(_ABSENT)
        with stock.adapting:
            return store(_base(stock, cloud), read, stock.now())

    return step


def _age(as_of: datetime | None, now: datetime) -> float | None:
    return None if as_of is None else max(0.0, (now - as_of).total_seconds())
