"""The store protocol: everything Styx remembers goes through it. SQLite answers it today, PostgreSQL later.

A call is one transaction: when it returns, it is durable. No call talks to a network. Stores are safe to use from
several threads and several processes at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from styx.state.rows import Attempt, CheckRow, ClusterRow, Event, JobRow, Rate, Refusal


class Folders(Protocol):
    """Where files live; nobody else builds such paths."""

    def log_dir(self, cluster_key: str) -> Path:
        """Folder of a cluster's kept logs (`$STYX_HOME/logs/<key>`), made on demand, mode 0700."""

    def key_path(self, name: str) -> Path:
        """A key file (`$STYX_HOME/keys/<name>`); its folder is made with mode 0700."""

    def cache_dir(self, name: str) -> Path:
        """A folder that may be deleted at any time (`$STYX_HOME/cache/<name>`)."""

    def catalog_dir(self) -> Path:
        """`$STYX_HOME/catalogs`."""

    def lock_path(self, name: str) -> Path:
        """A file to lock (`$STYX_HOME/locks/<name>.lock`)."""


class Store(Protocol):
    """One small store. Times given as `now` are aware datetimes in UTC."""

    store_id: str
    """Six lower-case base-36 characters, made once; part of every cluster key."""
    home: Path
    """`$STYX_HOME`."""

    @property
    def folders(self) -> Folders:
        """Where files live."""

    def close(self) -> None:
        """Give back connections."""

    # clusters ------------------------------------------------------------------------------------------------
    def new_key(self, name: str) -> str:
        """A fresh cluster key `styx-<slug up to 10>-<store id><generation, 2>`; generations never repeat for a name."""

    def insert_cluster(self, row: ClusterRow) -> None:
        """Add a cluster.

        Raises:
            WrongState: A live cluster of that name exists in the workspace.
        """

    def cluster(self, name: str, workspace: str = "default") -> ClusterRow | None:
        """The live cluster of that name."""

    def latest(self, name: str, workspace: str = "default") -> ClusterRow | None:
        """The live cluster of that name, or else its newest ended generation."""

    def cluster_by_key(self, key: str) -> ClusterRow | None:
        """One generation, live or ended."""

    def clusters(self, *, workspace: str | None = None, ended: bool = False) -> list[ClusterRow]:
        """Live clusters by name; with `ended`, the ended ones too, newest first."""

    def update_cluster(self, key: str, epoch: int, changes: Mapping[str, Any]) -> ClusterRow:
        """Change fields and return the new row.

        Raises:
            WrongState: `epoch` is not the row's epoch: another process took the cluster over.
        """

    def acquire(self, key: str, holder: str, ttl_s: float, now: float) -> int:
        """Take the cluster: epoch + 1, if nobody holds it or the claim has ended. Returns the epoch.

        Raises:
            DeadlineExceeded: Another holder's claim is still good; the message names it.
        """

    def renew(self, key: str, epoch: int, lease_until: float) -> None:
        """Extend the claim; WrongState when the epoch is old."""

    def relinquish(self, key: str, epoch: int) -> None:
        """Give the claim back; an old epoch is ignored."""

    def forget_holder(self, key: str, holder: str) -> bool:
        """End the claim of a holder that is known to be dead; False when it does not hold the cluster any more."""

    # the story of a cluster ------------------------------------------------------------------------------------
    def append_event(self, event: Event) -> int:
        """Append and return its seq."""

    def events(self, cluster: str, *, after: int = 0) -> list[Event]:
        """In order."""

    def add_attempt(self, attempt: Attempt, *, epoch: int | None = None) -> int:
        """Record an intent before the cloud is called; returns its id.

        Raises:
            WrongState: `epoch` was given and is not the cluster's: another process took the cluster over.
        """

    def update_attempt(self, attempt_id: int, changes: Mapping[str, Any]) -> None:
        """Change fields of one attempt."""

    def attempts(self, cluster: str) -> list[Attempt]:
        """In order."""

    # money -------------------------------------------------------------------------------------------------------
    def open_rate(self, rate: Rate) -> int:
        """Open an interval; an open interval of the same (cluster, node, item) is closed at `rate.start` first."""

    def close_rates(self, cluster: str, end: datetime, *, node: str | None = None) -> None:
        """Close the open intervals of a cluster, or of one of its nodes. Idempotent."""

    def rates(self, *, since: datetime | None = None, cluster: str | None = None) -> list[Rate]:
        """Intervals that overlap `since`..now, oldest first."""

    # jobs, checks, refusals --------------------------------------------------------------------------------------
    def save_job(self, job: JobRow) -> None:
        """Insert or replace."""

    def jobs(self, cluster: str) -> list[JobRow]:
        """By job id."""

    def save_checks(self, checks: Iterable[CheckRow]) -> None:
        """Insert or replace by cloud."""

    def checks(self) -> list[CheckRow]:
        """By cloud."""

    def remember_refusal(self, refusal: Refusal) -> None:
        """Keep a capacity refusal."""

    def refusals(self, since: datetime) -> list[Refusal]:
        """Newer ones than `since`."""
