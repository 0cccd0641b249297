"""Settings under `clouds.local`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from styx.plugin import DriverConfig


class LocalConfig(DriverConfig):
    """Settings of the embedded cloud; none is needed."""

    max_nodes: int = Field(default=64, ge=1)
    """Most nodes that may exist at once on this machine, stopped ones included."""
    spot_trace: Path | None = None
    """A recorded spot trace, absolute: `{"metadata": {"gap_seconds": 600}, "data": [4, 4, 2, 0]}`. Each number is how
    many spot nodes can exist in its time slice; spot nodes beyond it are preempted, the newest first. Without a trace
    spot nodes are never taken away."""
