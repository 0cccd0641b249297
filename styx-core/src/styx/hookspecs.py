"""Every hook of Styx, grouped by the moment it is asked. Plugins implement them with `styx.plugin.hookimpl`.

Implementations may leave out arguments they do not need. `context` is always last. See `docs/reference/hooks.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from styx.backends.base import Backend
    from styx.driver import CatalogRow, CatalogSource, Cloud, Context, OfferQuery, Provisioner, Reach
    from styx.models import Task
    from styx.objectstore import ObjectStore
    from styx.optimizer.graph import GraphProblem
    from styx.optimizer.plan import GraphPlan
    from styx.optimizer.problem import Plan, Problem
    from styx.state.rows import Event
    from styx.transport.base import Transport

PROJECT = "styx"
"""Entry-point group of hook plugins, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(PROJECT)


# ---------------------------------------------------------------------------------------------------------- drivers


@hookspec(firstresult=True)
def styx_cloud(name: str, context: Context) -> Cloud | None:
    """The identity of the cloud called `name`.

    Asked when a cloud is first needed in a process. The first answer that is not None wins; loaded driver classes
    answer for their own name.
    """


@hookspec
def styx_catalog(cloud: str, context: Context) -> CatalogSource | None:
    """A source of catalog rows for `cloud`.

    All answers are merged, so a plugin may add rows or override prices (a negotiated discount); later registrations
    override earlier ones row by row, and the plan names the source.
    """


@hookspec(firstresult=True)
def styx_provisioner(cloud: str, context: Context) -> Provisioner | None:
    """What makes and unmakes machines at `cloud`.

    The first answer wins: an organisation may replace how machines are made without replacing the cloud.
    """


@hookspec(firstresult=True)
def styx_backend(name: str, context: Context) -> Backend | None:
    """What runs jobs on a cluster: `process` and `ray` are built in; the first answer wins."""


@hookspec(firstresult=True)
def styx_store(scheme: str, context: Context) -> ObjectStore | None:
    """The object store for URLs of `scheme`; the first answer wins."""


# --------------------------------------------------------------------------------------------------------- planning


@hookspec
def styx_amend_offers(query: OfferQuery, offers: list[CatalogRow], context: Context) -> None:
    """Change `offers` in place before planning: allow-lists, reservations, own prices."""


@hookspec(firstresult=True)
def styx_plan(problem: Problem, context: Context) -> Plan | None:
    """A plan for `problem`. The first answer that is not None replaces the built-in planner's."""


@hookspec(firstresult=True)
def styx_plan_graph(problem: GraphProblem, context: Context) -> GraphPlan | None:
    """A placement of a whole task graph. The first answer that is not None replaces the built-in planner's."""


# ----------------------------------------------------------------------------------------------------------- policy


@hookspec
def styx_amend_task(task: Task, context: Context) -> Task | None:
    """The task as the organisation wants it, or None to leave it.

    Asked on every launch and exec before planning, in registration order; each sees the task that the one before it
    returned.
    """


@hookspec
def styx_review_task(action: str, task: Task | None, context: Context) -> str | None:
    """An objection to `action` (launch, exec, start, stop, down, autostop, cancel) in one sentence, or None.

    Asked on every mutation, autostop included; any objection refuses the action with exit code 77.
    """


# -------------------------------------------------------------------------------------------------------- execution


@hookspec(firstresult=True)
def styx_make_transport(reach: Reach, context: Context) -> Transport | None:
    """A transport to a node reached by `reach`; SSH, exec and local are built in."""


@hookspec(firstresult=True)
def styx_resolve_secret(ref: str, context: Context) -> str | None:
    """The value of the secret called `ref`.

    The process environment is the built-in answer; it stays silent when `context.remote` is true.
    """


# ----------------------------------------------------------------------------------------------------------- events


@hookspec
def styx_event(event: Event, context: Context) -> None:
    """Called after each event is stored: notifications, metrics. A failing listener never stops a launch."""
