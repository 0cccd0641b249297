"""The page of hosted catalogs: each cloud's file and where it departs from the plain layout."""

from __future__ import annotations

from typing import Final

from styx.catalog.adapters import ADAPTERS, PLAIN
from styx.catalog.hosted import MOST_FAULTY, OPTIONAL, REQUIRED

INTRODUCTION: Final = f"""# Hosted catalogs

`styx catalog refresh --from PATH_OR_URL` reads `<cloud>/vms.csv` files in the layout of the public repository
skypilot-org/skypilot-catalog: one row per machine type and place, with the columns
{", ".join(f"`{name}`" for name in REQUIRED)}, and, where a cloud has them,
{", ".join(f"`{name}`" for name in OPTIONAL)}.
Columns may be in any order, and others are passed over.

In every file a price of 0 is unknown, `SizeInMiB` in `GpuInfo` is the memory of one accelerator, a figure below 1024
there is GiB, memory near the maker's figure becomes that figure, names of accelerators become the usual ones, and of
several rows for the same offer the cheapest counts. A row without a price for a market is not sold there. Impossible
rows are left out and counted; a file is refused whole when its structure is broken or when more than {MOST_FAULTY:.0%}
of its rows are impossible. Files of clouds that are not listed are read the same way.

## What is peculiar about each file

| cloud | how its file differs |
|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [
        f"| {cloud} | {'nothing: the plain layout' if adapter.note == PLAIN.note else adapter.note} |"
        for cloud, adapter in sorted(ADAPTERS.items())
    ]
    return INTRODUCTION + "\n".join(rows) + "\n"
