"""What the catalog says of itself: frozen, JSON-serialisable; the API hands these on as they are."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from styx.driver import Value

Origin = Literal["snapshot", "live", "hosted"]
"""Where a cloud's rows came from: its plugin's file, its vendor's interface, a hosted file."""


class CatalogRefresh(Value):
    """How the refresh of one cloud ended."""

    cloud: str
    ok: bool
    origin: Origin | None = None
    """What was read; None when nothing could be."""
    source: str = ""
    """Path, address, or the plugin that was asked."""
    rows: int = 0
    """Rows now in use: the new ones, or the old ones when the refresh failed."""
    dropped: int = 0
    """Rows of the file that were impossible and left out."""
    repaired: int = 0
    """Rows with a figure that an adapter put right (a price of 0, memory in another unit)."""
    as_of: datetime | None = None
    """When the rows in use were true: the oldest of them."""
    newest_as_of: datetime | None = None
    """And the newest."""
    age_s: float | None = None
    """How long ago that was."""
    seconds: float = 0.0
    """How long the refresh took."""
    message: str = ""
    """Why it failed, or what it found wrong; the old rows stay in use."""
    hint: str | None = None


class CatalogInfo(Value):
    """One cloud's catalog as it is now; one line for each layer of it."""

    cloud: str
    layer: str
    """`base`, or the plugin whose rows lie over it."""
    origin: Origin | None
    """None when nothing was read yet."""
    source: str = ""
    rows: int = 0
    dropped: int = 0
    as_of: datetime | None = None
    """When the oldest row was true."""
    newest_as_of: datetime | None = None
    written_at: datetime | None = None
    """When it was read."""
    age_s: float | None = None
    """Since `as_of`."""
    file_bytes: int = 0
    note: str | None = None
    """What is wrong: a damaged file, no source."""


class AcceleratorQuery(Value):
    """What `styx gpus list` asks."""

    wanted: str | None = None
    """`A100`, `A100:8`, `80GB+`, `nvidia:80GB+:4`; None lists all."""
    infra: str | None = None
    """Only there: `cloud[/region[/zone]]`."""
    every_region: bool = False
    """One answer for each region; otherwise one for each cloud."""


class PriceRange(Value):
    """Least and largest known price of one machine, in US dollars per hour; None where all are unknown."""

    least: float | None
    most: float | None


class AcceleratorView(Value):
    """One accelerator in one number per machine at one cloud (and in one region, when asked for each)."""

    name: str
    vendor: str | None
    memory_gib: float | None
    """Of one accelerator."""
    count: float
    """Per machine."""
    cloud: str
    region: str | None = None
    """None: all regions together."""
    regions: int
    """In how many it is sold."""
    instance_types: tuple[str, ...]
    """Cheapest first."""
    vcpus: float | None = None
    """Of the cheapest of them, as is `host_memory_gib`."""
    host_memory_gib: float | None = None
    on_demand: PriceRange | None = None
    """None: not sold so."""
    spot: PriceRange | None = None
    as_of: datetime | None = None
    """When the oldest of these figures was true."""
    sources: tuple[str, ...] = ()
