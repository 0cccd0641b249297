"""What the CLI, the TUI, add-ons and programs call. Arguments and results are JSON-serialisable.

`connect()` returns the in-process engine; later also a client of a team server. Nothing heavy is imported until a call
needs it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from styx.api.client import Client, Say
from styx.api.views import (
    CheckView,
    ClusterView,
    CostGroup,
    CostItem,
    CostView,
    JobView,
    LaunchPlan,
    LaunchResult,
    LogLine,
    Orphan,
    PlannedOffer,
    Story,
    SweepReport,
)
from styx.provision.options import LaunchOptions
from styx.state.rows import Attempt, ClusterState, Event, Rate

__all__ = [
    "Attempt",
    "CheckView",
    "Client",
    "ClusterState",
    "ClusterView",
    "CostGroup",
    "CostItem",
    "CostView",
    "Event",
    "JobView",
    "LaunchOptions",
    "LaunchPlan",
    "LaunchResult",
    "LogLine",
    "Orphan",
    "PlannedOffer",
    "Rate",
    "Say",
    "Story",
    "SweepReport",
    "connect",
]


def connect(
    *, home: Path | None = None, config: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Client:
    """The in-process engine over `$STYX_HOME` (default `~/.styx`).

    Args:
        home: Instead of `$STYX_HOME`.
        config: `--config` values: paths or `a.b=v` pairs.
        environ: Instead of the process environment.
    """
    from styx.api.inprocess import InProcess

    return InProcess.open(home=home, config=config, environ=environ)
