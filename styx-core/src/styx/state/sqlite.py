"""The state store on SQLite: one file in WAL mode, one connection per process behind a lock, short transactions.

Every write is one `BEGIN IMMEDIATE` transaction, so that what it reads first cannot change before it writes. Threads
take turns on the connection; processes take turns on the file.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from styx.driver import Value
from styx.errors import DeadlineExceeded, InternalError, LocalIOError, NotFound, WrongState
from styx.state import migrate
from styx.state.codec import RowT, Undecodable, from_columns, time_text, to_columns
from styx.state.folders import HomeFolders, make_private
from styx.state.rows import Attempt, CheckRow, ClusterRow, Event, JobRow, Rate, Refusal

if TYPE_CHECKING:
    import sqlite3

Observer = Callable[[str], None]
"""Told `commit:<operation>:before` and `:after` around each commit; an error raised in `before` undoes the write."""

WRITES: Final = frozenset(
    {
        "new_key", "insert_cluster", "update_cluster", "acquire", "renew", "relinquish", "forget_holder",
        "append_event", "add_attempt", "update_attempt", "open_rate", "close_rates", "save_job", "save_checks",
        "remember_refusal",
    }
)  # fmt: skip
"""Names of all operations that commit."""

_TABLES: Final[Mapping[type[Value], str]] = {
    ClusterRow: "clusters",
    Attempt: "attempts",
    Event: "events",
    Rate: "rates",
    JobRow: "jobs",
    CheckRow: "checks",
    Refusal: "refusals",
}
_CLAIM_FIELDS: Final = frozenset({"key", "holder", "epoch", "lease_until"})
_SLUG_LENGTH: Final = 10
_REFUSALS_KEPT: Final = timedelta(days=30)


def open_store(
    home: Path,
    clock: Callable[[], float] = time.time,
    observer: Observer | None = None,
    *,
    busy_timeout_s: float = 30.0,
) -> SqliteStore:
    """The store of `$STYX_HOME`; the folder (mode 0700) and the database are made when they are not there.

    Args:
        home: `$STYX_HOME`.
        clock: Unix seconds, for the names of backups.
        observer: Told of each commit.
        busy_timeout_s: Longest wait for other processes' writes.

    Raises:
        LocalIOError: The folder or the database can't be used; the message names it and the hint says what to do.
    """
    make_private(home)
    return SqliteStore(home, clock, observer, busy_timeout_s=busy_timeout_s)


class SqliteStore:
    """Implements `styx.state.store.Store`. See `open_store`."""

    def __init__(
        self,
        home: Path,
        clock: Callable[[], float] = time.time,
        observer: Observer | None = None,
        *,
        busy_timeout_s: float = 30.0,
    ) -> None:
        self.home = home
        self.folders = HomeFolders(home)
        self.path = home / "state.db"
        self._clock = clock
        self._observer = observer
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._db: sqlite3.Connection | None = None
        self._inherited: list[sqlite3.Connection] = []
        with self._reading() as db:
            meta = {row["name"]: row["value"] for row in db.execute("SELECT name, value FROM meta")}
            if "store_id" not in meta:
                raise migrate.damaged(self.path, "it has no store id")
        self.store_id: str = meta["store_id"]
        self._generation_start = int(meta.get("generation_start", "0"))

    def close(self) -> None:
        """Give back the connection; a later call opens a new one."""
        with self._lock:
            if self._db is not None and self._pid == os.getpid():
                self._db.close()
            self._db = None

    # transactions --------------------------------------------------------------------------------------------
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            db = self._connect()
            if db is None:
                migrate.prepare(self.path, self.folders.lock_path("migrate"), self._clock)
                db = self._connect()
            if db is None:
                raise migrate.damaged(self.path, "it disappeared while it was opened")
            self._db = db
        return self._db

    def _connect(self) -> sqlite3.Connection | None:
        """A connection to a database of today's schema; None when it must be made or migrated first."""
        if not self.path.exists():
            return None
        db = migrate.connect(self.path, busy_timeout_s=self._busy_timeout_s)
        if int(db.execute("PRAGMA user_version").fetchone()[0]) != migrate.SCHEMA_VERSION:
            db.close()
            return None
        return db

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, with SQLite's errors turned into ours."""
        import sqlite3

        if self._pid != os.getpid():  # a forked child must not use its parent's connection, nor wait for its threads
            self._lock, self._pid = threading.RLock(), os.getpid()
            self._inherited += [self._db] if self._db else []
            self._db = None
        with self._lock:
            try:
                yield self._connection()
            except sqlite3.Error as error:
                raise self._translated(error) from error
            except Undecodable as error:
                raise migrate.damaged(self.path, str(error)) from None
            except OSError as error:
                raise LocalIOError(
                    f"the state database {self.path} can't be used: {error.strerror or error}",
                    hint="free some space or make the folder writable, then run the command again",
                ) from None

    @contextmanager
    def _writing(self, operation: str) -> Iterator[sqlite3.Connection]:
        """One transaction, committed at the end of the block and undone by any error in it."""
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                if self._observer is not None:
                    self._observer(f"commit:{operation}:before")
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            if self._observer is not None:
                self._observer(f"commit:{operation}:after")

    def _translated(self, error: sqlite3.Error) -> Exception:
        import sqlite3

        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        words = str(error)
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or words.startswith("no such"):
            return migrate.damaged(self.path, words)
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return DeadlineExceeded(
                f"another process has kept the state database {self.path} locked for {self._busy_timeout_s:g} s",
                hint="look for a hanging styx process, end it, and run the command again",
            )
        if code == sqlite3.SQLITE_FULL:
            return LocalIOError(
                f"the disk is full: the state database {self.path} can't be written",
                hint="free some space and run the command again; nothing of what was recorded is lost",
            )
        return LocalIOError(
            f"the state database {self.path} can't be used: {words}",
            hint="check that the file and its folder are yours and writable, and that the disk is not full",
        )

    # rows ----------------------------------------------------------------------------------------------------
    def _select(self, model: type[RowT], rest: str = "", values: Sequence[Any] = ()) -> list[RowT]:
        with self._reading() as db:
            return self._select_in(db, model, rest, values)

    @staticmethod
    def _select_in(db: sqlite3.Connection, model: type[RowT], rest: str, values: Sequence[Any]) -> list[RowT]:
        names = ", ".join(f'"{name}"' for name in model.model_fields)
        query = f"SELECT {names} FROM {_TABLES[model]} {rest}"  # noqa: S608 - names are ours, values are bound
        return [from_columns(model, dict(row)) for row in db.execute(query, values)]

    @staticmethod
    def _insert_in(db: sqlite3.Connection, row: Value, *, leave_out: str = "", replace: bool = False) -> int:
        columns = {name: value for name, value in to_columns(row).items() if name != leave_out}
        names = ", ".join(f'"{name}"' for name in columns)
        verb = "INSERT OR REPLACE" if replace else "INSERT"
        marks = ", ".join("?" * len(columns))
        query = f"{verb} INTO {_TABLES[type(row)]} ({names}) VALUES ({marks})"
        return db.execute(query, tuple(columns.values())).lastrowid or 0

    @staticmethod
    def _update_in(db: sqlite3.Connection, old: RowT, changes: Mapping[str, Any], id_column: str) -> RowT:
        unknown = changes.keys() - type(old).model_fields.keys()
        if unknown:
            raise InternalError(f"a {type(old).__name__} has no field {', '.join(sorted(unknown))}")
        try:
            new = type(old).model_validate({**dict(old), **changes})
        except ValidationError as error:
            raise InternalError(f"bad change of a {type(old).__name__}: {error}") from None
        columns = to_columns(new, frozenset(changes))
        if columns:
            sets = ", ".join(f'"{name}" = ?' for name in columns)
            query = f"UPDATE {_TABLES[type(old)]} SET {sets} WHERE {id_column} = ?"  # noqa: S608 - names are ours
            db.execute(query, (*columns.values(), getattr(old, id_column)))
        return new

    # clusters ------------------------------------------------------------------------------------------------
    def new_key(self, name: str) -> str:
        """A fresh key; a slug whose 1296 generations are used up goes on as `<slug>-1`, `<slug>-2`, ..."""
        base = slug_of(name, self.store_id)
        with self._writing("new_key") as db:
            round_number = 0
            while True:
                tail = f"-{_base36(round_number, 1)}" if round_number else ""
                slug = f"{base[: _SLUG_LENGTH - len(tail)].rstrip('-')}{tail}"
                row = db.execute("SELECT used FROM generations WHERE slug = ?", (slug,)).fetchone()
                used = row["used"] if row else 0
                if used < migrate.GENERATIONS:
                    break
                round_number += 1
            db.execute("INSERT OR REPLACE INTO generations (slug, used) VALUES (?, ?)", (slug, used + 1))
        generation = (self._generation_start + used) % migrate.GENERATIONS
        return f"styx-{slug}-{self.store_id}{_base36(generation, 2)}"

    def insert_cluster(self, row: ClusterRow) -> None:
        """Add a cluster; WrongState when its name (among live clusters of the workspace) or its key is taken."""
        import sqlite3

        with self._writing("insert_cluster") as db:
            try:
                self._insert_in(db, row)
            except sqlite3.IntegrityError:
                raise _taken(row) from None

    def cluster(self, name: str, workspace: str = "default") -> ClusterRow | None:
        """The live cluster of that name."""
        where = "WHERE name = ? AND workspace = ? AND state <> 'TERMINATED'"
        return _first(self._select(ClusterRow, where, (name, workspace)))

    def latest(self, name: str, workspace: str = "default") -> ClusterRow | None:
        """The live cluster of that name, or else its newest ended generation."""
        where = "WHERE name = ? AND workspace = ? ORDER BY state = 'TERMINATED', id DESC LIMIT 1"
        return _first(self._select(ClusterRow, where, (name, workspace)))

    def cluster_by_key(self, key: str) -> ClusterRow | None:
        """One generation, live or ended."""
        return _first(self._select(ClusterRow, "WHERE key = ?", (key,)))

    def clusters(self, *, workspace: str | None = None, ended: bool = False) -> list[ClusterRow]:
        """Live clusters by name; with `ended`, then the ended ones, newest first."""
        where = [] if ended else ["state <> 'TERMINATED'"]
        where += [] if workspace is None else ["workspace = ?"]
        rest = f"WHERE {' AND '.join(where)} " if where else ""
        order = "ORDER BY state = 'TERMINATED', CASE WHEN state = 'TERMINATED' THEN NULL ELSE name END, id DESC"
        return self._select(ClusterRow, rest + order, () if workspace is None else (workspace,))

    def update_cluster(self, key: str, epoch: int, changes: Mapping[str, Any]) -> ClusterRow:
        """Change fields, if `epoch` is the row's; the claim has calls of its own."""
        import sqlite3

        if changes.keys() & _CLAIM_FIELDS:
            raise InternalError(f"update_cluster can't change {', '.join(sorted(changes.keys() & _CLAIM_FIELDS))}")
        with self._writing("update_cluster") as db:
            old = self._fenced(db, key, epoch)
            try:
                return self._update_in(db, old, changes, "key")
            except sqlite3.IntegrityError:
                raise _taken(old) from None

    def acquire(self, key: str, holder: str, ttl_s: float, now: float) -> int:
        """Take the cluster until `now + ttl_s`, unless another claim is still good. Not re-entrant."""
        with self._writing("acquire") as db:
            row = self._known(db, key)
            if row.holder is not None and row.lease_until > now:
                left = row.lease_until - now
                raise DeadlineExceeded(
                    f"{row.holder} is working on cluster {row.name}; its claim ends in {left:.0f} s unless renewed",
                    hint="wait for it, or end that process",
                )
            db.execute(
                "UPDATE clusters SET holder = ?, epoch = epoch + 1, lease_until = ? WHERE key = ?",
                (holder, now + ttl_s, key),
            )
            return row.epoch + 1

    def renew(self, key: str, epoch: int, lease_until: float) -> None:
        """Extend the claim."""
        with self._writing("renew") as db:
            row = self._fenced(db, key, epoch)
            if row.holder is None:
                raise WrongState(f"cluster {row.name} is held by nobody; acquire it again")
            db.execute("UPDATE clusters SET lease_until = ? WHERE key = ?", (lease_until, key))

    def relinquish(self, key: str, epoch: int) -> None:
        """Give the claim back; an old epoch is ignored."""
        with self._writing("relinquish") as db:
            query = "UPDATE clusters SET holder = NULL, lease_until = 0 WHERE key = ? AND epoch = ?"
            db.execute(query, (key, epoch))

    def forget_holder(self, key: str, holder: str) -> bool:
        """End the claim of a holder that is known to be dead; False when it does not hold the cluster any more."""
        with self._writing("forget_holder") as db:
            query = "UPDATE clusters SET holder = NULL, lease_until = 0 WHERE key = ? AND holder = ?"
            return db.execute(query, (key, holder)).rowcount == 1

    def _known(self, db: sqlite3.Connection, key: str) -> ClusterRow:
        row = _first(self._select_in(db, ClusterRow, "WHERE key = ?", (key,)))
        if row is None:
            raise NotFound(f"no cluster has the key {key}")
        return row

    def _fenced(self, db: sqlite3.Connection, key: str, epoch: int) -> ClusterRow:
        row = self._known(db, key)
        if row.epoch != epoch:
            raise WrongState(
                f"another process took cluster {row.name} over (epoch {row.epoch}, ours was {epoch})",
                hint=f"see what it did with `styx why {row.name}`",
            )
        return row

    # the story of a cluster ------------------------------------------------------------------------------------
    def append_event(self, event: Event) -> int:
        """Append and return its seq."""
        with self._writing("append_event") as db:
            return self._insert_in(db, event, leave_out="seq")

    def events(self, cluster: str, *, after: int = 0) -> list[Event]:
        """In order."""
        return self._select(Event, "WHERE cluster = ? AND seq > ? ORDER BY seq", (cluster, after))

    def add_attempt(self, attempt: Attempt, *, epoch: int | None = None) -> int:
        """Record an intent; with `epoch`, only while it is the cluster's: WrongState otherwise."""
        with self._writing("add_attempt") as db:
            if epoch is not None:
                self._fenced(db, attempt.cluster, epoch)
            return self._insert_in(db, attempt, leave_out="id")

    def update_attempt(self, attempt_id: int, changes: Mapping[str, Any]) -> None:
        """Change fields of one attempt."""
        with self._writing("update_attempt") as db:
            old = _first(self._select_in(db, Attempt, "WHERE id = ?", (attempt_id,)))
            if old is None:
                raise NotFound(f"no attempt has the number {attempt_id}")
            self._update_in(db, old, changes, "id")

    def attempts(self, cluster: str) -> list[Attempt]:
        """In order."""
        return self._select(Attempt, "WHERE cluster = ? ORDER BY id", (cluster,))

    # money -----------------------------------------------------------------------------------------------------
    def open_rate(self, rate: Rate) -> int:
        """Open an interval, and close the open one of the same (cluster, node, item) where it starts."""
        with self._writing("open_rate") as db:
            start = time_text(rate.start)
            db.execute(
                'UPDATE rates SET "end" = max(start, ?) WHERE cluster = ? AND node = ? AND item = ? AND "end" IS NULL',
                (start, rate.cluster, rate.node, rate.item),
            )
            return self._insert_in(db, rate, leave_out="id")

    def close_rates(self, cluster: str, end: datetime, *, node: str | None = None) -> None:
        """Close open intervals at `end`, or where they start if that is later. Idempotent."""
        with self._writing("close_rates") as db:
            db.execute(
                'UPDATE rates SET "end" = max(start, ?) '
                'WHERE cluster = ? AND (? IS NULL OR node = ?) AND "end" IS NULL',
                (time_text(end), cluster, node, node),
            )

    def rates(self, *, since: datetime | None = None, cluster: str | None = None) -> list[Rate]:
        """Intervals that reach beyond `since`, oldest first."""
        bound = None if since is None else time_text(since)
        where = 'WHERE (? IS NULL OR "end" IS NULL OR "end" > ?) AND (? IS NULL OR cluster = ?) ORDER BY start, id'
        return self._select(Rate, where, (bound, bound, cluster, cluster))

    # jobs, checks, refusals ------------------------------------------------------------------------------------
    def save_job(self, job: JobRow) -> None:
        """Insert or replace."""
        with self._writing("save_job") as db:
            self._insert_in(db, job, replace=True)

    def jobs(self, cluster: str) -> list[JobRow]:
        """By job id."""
        return self._select(JobRow, "WHERE cluster = ? ORDER BY job_id", (cluster,))

    def save_checks(self, checks: Iterable[CheckRow]) -> None:
        """Insert or replace by cloud, all or none."""
        with self._writing("save_checks") as db:
            for check in checks:
                self._insert_in(db, check, replace=True)

    def checks(self) -> list[CheckRow]:
        """By cloud."""
        return self._select(CheckRow, "ORDER BY cloud")

    def remember_refusal(self, refusal: Refusal) -> None:
        """Keep a capacity refusal, and forget those a month older."""
        with self._writing("remember_refusal") as db:
            self._insert_in(db, refusal)
            db.execute("DELETE FROM refusals WHERE at < ?", (time_text(refusal.at - _REFUSALS_KEPT),))

    def refusals(self, since: datetime) -> list[Refusal]:
        """Newer ones than `since`, oldest first."""
        return self._select(Refusal, "WHERE at > ? ORDER BY at, id", (time_text(since),))


def slug_of(name: str, store_id: str = "") -> str:
    """A name as part of a key: `[a-z0-9-]`, at most 10 characters, no dash at the ends, never empty.

    The store id is taken out, so that no key can be a prefix of another key.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())
    while store_id and store_id in slug:
        slug = slug.replace(store_id, "")
    return slug.strip("-")[:_SLUG_LENGTH].rstrip("-") or "c"


def _base36(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = migrate.BASE36[digit] + digits
    return digits.rjust(width, "0")


def _first(rows: Sequence[RowT]) -> RowT | None:
    return rows[0] if rows else None


def _taken(row: ClusterRow) -> WrongState:
    return WrongState(
        f"a live cluster called {row.name} (or with the key {row.key}) exists in workspace {row.workspace}",
        hint=f"see it with `styx status {row.name}`; use it with `styx exec`, or end it with `styx down {row.name}`",
    )
