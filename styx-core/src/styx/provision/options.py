"""How a launch is asked for, beside the task itself."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from styx.driver import Value
from styx.optimizer.problem import Limit, Preference, Reservation, Selector

EVERY_TASK: Final = "*"
"""Stands for a task's name where something is said of all of them."""


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
    hours: float = Field(default=1.0, gt=0)
    """Estimated run time: what the price per hour weighs against the transfer of `inputs` and `outputs`."""


class OptimizeOptions(Value):
    """What a plan of one or many tasks should be good at, and what it must keep to."""

    minimize: Literal["cost", "time"] = "cost"
    deadline_s: float | None = Field(default=None, gt=0)
    """The last task must have ended by then."""
    budget_usd: float | None = Field(default=None, ge=0)
    """For machines and transfers together."""
    max_usd_per_hour: float | None = Field(default=None, ge=0)
    """For all tasks that may run at the same time."""
    assume_enabled: tuple[str, ...] = ()
    """Plan as if these clouds were enabled, in every region of their catalogs; asks for no credentials."""
    hours: dict[str, float] = Field(default_factory=dict)
    """Estimated run time by task name; `*` is for every task without one of its own. One hour where nothing is said."""
    hours_on: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Estimates that differ, by task name (or `*`) and then by accelerator name or instance type."""
    limits: tuple[Limit, ...] = ()
    exclude: tuple[Selector, ...] = ()
    allow: tuple[Selector, ...] = ()
    preferences: tuple[Preference, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    blocked: tuple[Selector, ...] = ()
    explain: bool = False
    """Ask what every bound costs; takes a few more plans."""
    time_limit_s: float = Field(default=5.0, gt=0)
    """For the search."""
