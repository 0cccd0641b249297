"""The verbs that ship with Styx, as data: help and completion list them without importing any of them."""

from __future__ import annotations

from typing import Final, NamedTuple


class Verb(NamedTuple):
    """One built-in verb."""

    name: str
    """As typed."""
    section: str
    """Heading in the help."""
    summary: str
    """One line for the help."""

    @property
    def module(self) -> str:
        """The module that holds its Typer app, in an attribute called `app`."""
        return f"styx_cli.commands.{self.name.replace('-', '_')}"


_RUN: Final = "Run"
_LOOK: Final = "Look"
_PRICES: Final = "Plan and prices"
_CHANGE: Final = "Change"
_SETUP: Final = "Set up"

VERBS: Final[dict[str, Verb]] = {
    name: Verb(name, section, summary)
    for name, section, summary in (
        ("launch", _RUN, "Make or re-use a cluster and run a task on it."),
        ("exec", _RUN, "Run a task on a cluster that is up: no provisioning, no set-up."),
        ("ssh", _RUN, "Open a shell, or run a command, on a node."),
        ("status", _LOOK, "List clusters: state, price, cost, lease."),
        ("queue", _LOOK, "List the jobs of clusters."),
        ("logs", _LOOK, "Show or follow the output of a job."),
        ("why", _LOOK, "Tell what happened to a cluster: every attempt, its reason, the time of each step."),
        ("cost-report", _LOOK, "Show what was spent, from the ledger."),
        (
            "optimize",
            _PRICES,
            "Plan a task, a pipeline or a job group: where, at what cost, and why; launches nothing.",
        ),
        ("gpus", _PRICES, "List accelerators for sale: where, in which numbers, at which prices."),
        ("show-gpus", _PRICES, "The same as `styx gpus list`."),
        ("catalog", _PRICES, "Show how old prices are, and fetch fresh ones."),
        ("cancel", _CHANGE, "Cancel jobs and everything they started."),
        ("stop", _CHANGE, "Stop clusters and keep their disks."),
        ("start", _CHANGE, "Start stopped clusters."),
        ("autostop", _CHANGE, "Set or cancel the idle limit of clusters."),
        ("down", _CHANGE, "End clusters for good."),
        ("sweep", _CHANGE, "Find, and with --delete end, machines of ours that nobody remembers."),
        ("volumes", _CHANGE, "Make, list and delete named volumes, which outlive clusters."),
        ("check", _SETUP, "Ask each cloud who we are, and remember which are enabled."),
        ("validate", _SETUP, "Check task files; touches no network and no cloud."),
        ("config", _SETUP, "Show the configuration and where each value comes from."),
        ("plugins", _SETUP, "List installed plugins."),
        ("version", _SETUP, "Show the versions of Styx and its packages."),
    )
}
"""Every built-in verb, in the order of the help."""
