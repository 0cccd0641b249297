"""What can be bought: the merged rows of all catalog sources."""

from styx.catalog.rows import merged, read_snapshot, rows_for

__all__ = ["merged", "read_snapshot", "rows_for"]
