"""How a launch is asked for, beside the task itself."""

from __future__ import annotations

from typing import Literal

from styx.driver import Value


class LaunchOptions(Value):
    """How to launch, beside the task itself."""

    cluster: str | None = None
    """Name of the cluster to make or re-use; None means a fresh name."""
    fast: bool = False
    """Skip provisioning and set-up when the cluster is up."""
    no_setup: bool = False
    """Skip set-up."""
    retry_until_up: bool = False
    """When every place refuses, try again with growing pauses."""
    retry_for_s: float | None = None
    """Longest time for `retry_until_up`; None takes `launch.retry_for` of the config, or 24 hours."""
    idle_minutes: float | None = None
    """Idle minutes to autostop (or autodown with `down`)."""
    down: bool = False
    """End the cluster when idle; with idle_minutes None, as soon as the job ends."""
    wait_for: Literal["jobs", "jobs_and_ssh", "none"] = "jobs_and_ssh"
    """What counts as activity."""
