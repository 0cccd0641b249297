"""What the CLI, the TUI, add-ons and programs call. Arguments and results are JSON-serialisable.

`connect()` returns the in-process engine; later also a client of a team server. Nothing heavy is imported until a call
needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from styx.api.client import Client, Say
from styx.api.views import (
    AcceleratorQuery,
    AcceleratorView,
    CatalogInfo,
    CatalogRefresh,
    CheckView,
    ClusterView,
    CostGroup,
    CostItem,
    CostView,
    JobView,
    LaunchPlan,
    LaunchResult,
    LogLine,
    OptimizedTask,
    OptimizeResult,
    OptimizeWhatIf,
    Orphan,
    PermissionsView,
    PlannedAlternative,
    PlannedOffer,
    PriceRange,
    Story,
    SweepReport,
)
from styx.provision.options import LaunchOptions, OptimizeOptions
from styx.provision.volumes import VolumeView
from styx.state.rows import Attempt, ClusterState, Event, Rate

__all__ = [
    "AcceleratorQuery",
    "AcceleratorView",
    "Attempt",
    "CatalogInfo",
    "CatalogRefresh",
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
    "OptimizeOptions",
    "OptimizeResult",
    "OptimizeWhatIf",
    "OptimizedTask",
    "Orphan",
    "PermissionsView",
    "PlannedAlternative",
    "PlannedOffer",
    "PriceRange",
    "Rate",
    "Say",
    "Story",
    "SweepReport",
    "VolumeView",
    "connect",
]


def connect(
    *,
    home: Path | None = None,
    config: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    report: Callable[[str], None] | None = None,
) -> Client:
    """The in-process engine over `$STYX_HOME` (default `~/.styx`).

    Args:
        home: Instead of `$STYX_HOME`.
        config: `--config` values: paths or `a.b=v` pairs.
        environ: Instead of the process environment.
        report: Told what a call goes on in spite of, such as a node that does not answer; unset, Python's log `styx`
            gets it as a warning.
    """
    from styx.api.inprocess import InProcess

    if report is None:
        import logging

        report = logging.getLogger("styx").warning
    return InProcess.open(home=home, config=config, environ=environ, report=report)
