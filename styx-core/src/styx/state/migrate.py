"""Bring a state database to today's schema: made whole and renamed into place, or migrated step by step after a backup.

The caller has found that the file is missing or of another version; everything here happens under a file lock.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from styx.errors import DeadlineExceeded, LocalIOError

if TYPE_CHECKING:
    import sqlite3

SCHEMA_VERSION: Final = 1
"""The number of the last migration; known without looking at the folder, because every command asks."""

BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
GENERATIONS: Final = len(BASE36) ** 2
"""How many keys one slug has."""

_STORE_ID: Final = re.compile(r"[0-9a-z]{6}")


@dataclass(frozen=True)
class Migration:
    """One numbered step."""

    number: int
    sql: str


def built_in_migrations() -> tuple[Migration, ...]:
    """The steps shipped with this version, in order."""
    files = sorted((Path(__file__).parent / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql"))
    return tuple(Migration(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files)


def connect(path: Path, *, busy_timeout_s: float, create: bool = False) -> sqlite3.Connection:
    """Open a database file that exists, or may be made (`create`). Transactions are begun by hand."""
    import sqlite3

    mode = "rwc" if create else "rw"
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA cell_size_check = ON")
    return db


def prepare(
    path: Path,
    lock: Path,
    clock: Callable[[], float],
    *,
    migrations: Sequence[Migration] | None = None,
    lock_timeout_s: float = 60.0,
) -> None:
    """Make or migrate the database, unless another process has just done so.

    Raises:
        LocalIOError: The file is damaged, or was written by a newer Styx.
        DeadlineExceeded: Another process holds the lock for too long.
    """
    from filelock import FileLock, Timeout

    steps = built_in_migrations() if migrations is None else tuple(migrations)
    try:
        with FileLock(lock, timeout=lock_timeout_s):
            if path.exists():
                _migrate(path, steps, clock)
            else:
                _make(path, steps)
    except Timeout:
        raise DeadlineExceeded(
            f"another process has been migrating the state database {path} for over {lock_timeout_s:g} s",
            hint=f"wait for it to end; the lock is {lock}",
        ) from None


def _make(path: Path, steps: Sequence[Migration]) -> None:
    """A whole new database under another name, then renamed: no half-made file is ever seen."""
    draft = path.with_name(f"{path.name}.new")
    for stale in (draft, *(draft.with_name(draft.name + tail) for tail in ("-wal", "-shm", "-journal"))):
        stale.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    db = connect(draft, busy_timeout_s=5.0)
    try:
        _apply(db, steps, 0)
        _name_store(db, path.with_name("store_id"))
        db.execute("PRAGMA journal_mode = WAL")
    finally:
        db.close()
    for orphan in ("-wal", "-shm"):  # of a database that was moved away: SQLite would replay it into the new one
        path.with_name(path.name + orphan).unlink(missing_ok=True)
    os.replace(draft, path)


def _name_store(db: sqlite3.Connection, id_file: Path) -> None:
    """Give the store its id, the one that this home had before, if it had one.

    A home whose database was lost keeps its id, so that `sweep` still knows its machines. Its generations then start
    at a random place, because the ones that were used are forgotten.
    """
    former = id_file.read_text(encoding="ascii").strip() if id_file.exists() else ""
    if _STORE_ID.fullmatch(former):
        store_id, start = former, secrets.randbelow(GENERATIONS)
    else:
        store_id, start = "".join(secrets.choice(BASE36) for _ in range(6)), 0
        id_file.write_text(f"{store_id}\n", encoding="ascii")
    db.executemany(
        "INSERT INTO meta (name, value) VALUES (?, ?)",
        [("store_id", store_id), ("generation_start", str(start))],
    )


def _migrate(path: Path, steps: Sequence[Migration], clock: Callable[[], float]) -> None:
    db = connect(path, busy_timeout_s=30.0)
    try:
        have = int(db.execute("PRAGMA user_version").fetchone()[0])
        newest = steps[-1].number
        if have == newest:
            return
        if have == 0:
            raise damaged(path, "it is empty, though it is only ever seen whole")
        if have > newest:
            raise newer(path, db, have, newest)
        when = datetime.fromtimestamp(clock(), UTC).strftime("%Y%m%dT%H%M%SZ")
        _back_up(db, path.with_name(f"{path.name}.v{have}-{when}.bak"))
        _apply(db, steps, have)
    finally:
        db.close()


def _back_up(db: sqlite3.Connection, target: Path) -> None:
    """A consistent copy, write-ahead log included; whole or absent."""
    draft = target.with_name(f"{target.name}.new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    copy = connect(draft, busy_timeout_s=5.0)
    try:
        db.backup(copy)
    finally:
        copy.close()
    os.replace(draft, target)


def _apply(db: sqlite3.Connection, steps: Sequence[Migration], have: int) -> None:
    """Each step is one transaction with its number."""
    for step in steps:
        if step.number <= have:
            continue
        try:
            db.executescript(f"BEGIN IMMEDIATE;\n{step.sql}")
            db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('written_by', ?)", (_styx_version(),))
            db.execute(f"PRAGMA user_version = {step.number}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def _styx_version() -> str:
    try:
        return version("styx-core")
    except PackageNotFoundError:
        return "unknown"


def newer(path: Path, db: sqlite3.Connection, have: int, newest: int) -> LocalIOError:
    """The error for a database of a newer schema."""
    row = db.execute("SELECT value FROM meta WHERE name = 'written_by'").fetchone()
    return LocalIOError(
        f"the state database {path} was written by Styx {row[0] if row else 'of a newer version'} (schema {have}); "
        f"this one reads schemas up to {newest}",
        hint="upgrade Styx to that version, or set STYX_HOME to another folder",
    )


def damaged(path: Path, words: str) -> LocalIOError:
    """The error for a database that can't be read."""
    backups = sorted(path.parent.glob(f"{path.name}.v*.bak"), key=lambda file: file.stat().st_mtime)
    move = f"move it away (mv {path} {path}.damaged) and run the command again"
    back = f"; the newest backup is {backups[-1]}" if backups else ""
    return LocalIOError(
        f"the state database {path} is damaged: {words}",
        hint=f"{move}: Styx starts an empty one, and `styx sweep` shows the machines of the lost one{back}",
    )
