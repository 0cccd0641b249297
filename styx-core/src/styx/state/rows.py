"""The rows of the state database, as frozen values. Persisted: a change needs a migration."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from styx.driver import Node, Place, Value


class ClusterState(StrEnum):
    """Where a cluster stands, as far as this store knows."""

    INIT = "INIT"
    """Being launched, or left half-made by a client that died."""
    UP = "UP"
    """Nodes run and their agents answered when last seen."""
    STOPPING = "STOPPING"
    """A stop was intended and has not been seen to finish."""
    STOPPED = "STOPPED"
    """Nodes are stopped; disks are kept."""
    STARTING = "STARTING"
    """A start was intended and has not been seen to finish."""
    TERMINATING = "TERMINATING"
    """A down was intended and has not been seen to finish."""
    UNREACHABLE = "UNREACHABLE"
    """Shown, never stored: UP for the cloud, but a node did not answer when it was last asked; `note` says why."""
    LOST = "LOST"
    """Its nodes ended without being asked to (preempted, deleted behind our back); `note` says why."""
    TERMINATED = "TERMINATED"
    """Gone; kept for `why`, `logs` and `cost-report`."""


LIVE_STATES = frozenset(set(ClusterState) - {ClusterState.TERMINATED})
"""States of clusters that hold their name."""


class ClusterRow(Value):
    """One generation of one cluster. `key` is unique for ever; `name` is unique among live clusters of a workspace."""

    key: str
    name: str
    workspace: str = "default"
    owner: str
    """The user who made it."""
    state: ClusterState
    note: str | None = None
    """Why it is in this state, when that needs saying."""
    place: Place | None = None
    """Where its nodes are; None until one was made."""
    num_nodes: int
    backend: str = "process"
    nodes: tuple[Node, ...] = ()
    """Last observation; `seen_at` says when."""
    seen_at: datetime | None = None
    offer: dict[str, Any] | None = None
    """The CatalogRow it was made from, as JSON."""
    resources: dict[str, Any] = Field(default_factory=dict)
    """The resources that the task asked for, as JSON; `disk_size` and `disk_tier` as they were made."""
    task: dict[str, Any] = Field(default_factory=dict)
    """The last task launched there, as JSON, without secrets."""
    lease: dict[str, Any] = Field(default_factory=dict)
    """idle_s, max_age_s, max_usd, dead_man_s, action, as set."""
    ports: tuple[int, ...] = ()
    usd_per_hour: float | None = None
    """Sum over nodes; None is unknown."""
    created_at: datetime
    last_use_at: datetime
    ended_at: datetime | None = None
    holder: str | None = None
    """The process that acts on it now (host:pid:nonce)."""
    epoch: int = 0
    """Rises with each acquisition; a write with an older epoch is refused."""
    lease_until: float = 0.0
    """Unix time until which the holder's claim is good."""


class Attempt(Value):
    """One try to make the nodes in one place. Written before the cloud is called; the place must be released."""

    id: int = 0
    """Given by the store."""
    cluster: str
    """Cluster key."""
    operation: str
    """The operation it belongs to."""
    token: str
    place: Place
    offer: dict[str, Any]
    count: int
    state: Literal["intended", "made", "failed", "released"] = "intended"
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None
    """Name of the error class."""
    scope: str | None = None
    message: str | None = None
    vendor_code: str | None = None
    vendor_message: str | None = None
    request_id: str | None = None


class Event(Value):
    """One step of one operation, in the order it happened."""

    seq: int = 0
    """Given by the store."""
    cluster: str
    """Cluster key."""
    operation: str
    """`launch-<hex>`, `stop-<hex>`, ..."""
    step: str
    """intend, create, reach, bootstrap, sync, submit, setup, ... see `styx.provision.steps`."""
    phase: Literal["started", "done", "failed", "note"]
    at: datetime
    message: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class Rate(Value):
    """One interval of the ledger: a node was charged so much per hour from `start` to `end`."""

    id: int = 0
    cluster: str
    node: str
    rank: int
    place: Place
    item: Literal["compute", "disk", "egress", "other"] = "compute"
    usd_per_hour: float | None
    """Frozen when the interval opens; None is unknown, never 0."""
    start: datetime
    end: datetime | None = None
    reported: bool = False
    """True when the cloud itself reported the figure."""


class JobRow(Value):
    """What this client last saw of a job; enough for `logs` and `queue` after the machine is gone."""

    cluster: str
    """Cluster key."""
    job_id: int
    name: str | None = None
    user: str
    task_id: str = ""
    state: str
    exit_code: int | None = None
    reason: str | None = None
    num_nodes: int = 1
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None


class CheckRow(Value):
    """The last `styx check` of one cloud."""

    cloud: str
    account: str | None
    ok: bool
    message: str = ""
    hint: str | None = None
    places: tuple[Place, ...] = ()
    checked_at: datetime


class Refusal(Value):
    """A capacity refusal that planning remembers; its weight decays with age."""

    place: Place
    instance_type: str
    market: str
    error: str
    at: datetime
