"""The calls about prices: refresh, what is there, and which accelerators are for sale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from styx.catalog.results import AcceleratorQuery, AcceleratorView, CatalogInfo, CatalogRefresh

if TYPE_CHECKING:
    from styx.provision.world import World


class CatalogCalls:
    """Part of the in-process client. See `styx.api.Client`."""

    world: World

    def catalog_refresh(
        self,
        clouds: Sequence[str] = (),
        *,
        source: str | None = None,
        say: Callable[[CatalogRefresh], None] | None = None,
    ) -> list[CatalogRefresh]:
        """See `Client.catalog_refresh`."""
        from styx.catalog.refresh import refresh

        return refresh(self.world.catalog().stock, clouds, source, say)

    def catalog_info(self) -> list[CatalogInfo]:
        """See `Client.catalog_info`."""
        return self.world.catalog().info()

    def accelerators(self, query: AcceleratorQuery | None = None) -> list[AcceleratorView]:
        """See `Client.accelerators`."""
        return self.world.catalog().accelerators(query or AcceleratorQuery())
