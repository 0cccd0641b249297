"""What can be bought: the merged rows of all catalog sources."""

from styx.catalog.rows import merged, rows_for
from styx.catalog.snapshot import read_snapshot

__all__ = ["merged", "read_snapshot", "rows_for"]
