"""Rows of one cloud, from every source that has some: a snapshot shipped with the plugin, then live figures over it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from styx.catalog.schema import key_of
from styx.catalog.snapshot import read_snapshot
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
    """One list: a row of a later group replaces the same offer (see `schema.KEY`) of an earlier one."""
    return list({key_of(row): row for group in groups for row in group}.values())


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
