"""What can be bought: the schema, the cache of all clouds' rows, and the questions it answers.

Importing this loads no Polars: `Catalog` does, when it is first asked.
"""

from styx.catalog.rows import merged, rows_for
from styx.catalog.snapshot import read_snapshot, write_snapshot

__all__ = ["merged", "read_snapshot", "rows_for", "write_snapshot"]
