"""What only the SQLite store promises: files, migrations, damage, locks, observers."""

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from styx.errors import DeadlineExceeded, LocalIOError
from styx.state import migrate
from styx.state.codec import JSON_COLUMNS, JsonColumn, Undecodable, from_columns, to_columns
from styx.state.rows import CheckRow, JobRow, Refusal
from styx.state.sqlite import WRITES, open_store, slug_of
from styx.testing.store_conformance import NOW, PLACE, attempt_row, cluster_row, event_row, rate_row

CLOCK_S = 1_795_000_000.0


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def every_write(store):
    row = cluster_row(store)
    store.insert_cluster(row)
    epoch = store.acquire(row.key, "me", 10, 0)
    store.update_cluster(row.key, epoch, {"note": "x"})
    store.renew(row.key, epoch, 20)
    store.forget_holder(row.key, "nobody")
    store.relinquish(row.key, epoch)
    store.append_event(event_row(row.key))
    store.update_attempt(store.add_attempt(attempt_row(row.key)), {"state": "made"})
    store.open_rate(rate_row(row.key))
    store.close_rates(row.key, NOW)
    store.save_job(JobRow(cluster=row.key, job_id=1, user="me", state="PENDING"))
    store.save_checks([CheckRow(cloud="fake", account=None, ok=True, checked_at=NOW)])
    store.remember_refusal(Refusal(place=PLACE, instance_type="t", market="spot", error="CapacityError", at=NOW))
    return row


# files ----------------------------------------------------------------------------------------------------------


def test_files_are_private_and_in_wal_mode(home):
    store = open_store(home)
    every_write(store)
    assert home.stat().st_mode & 0o777 == 0o700
    assert {name: (home / name).stat().st_mode & 0o777 for name in ("state.db", "state.db-wal", "state.db-shm")} == {
        "state.db": 0o600,
        "state.db-wal": 0o600,
        "state.db-shm": 0o600,
    }
    assert sqlite3.connect(home / "state.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert not list(home.glob("*.new*"))


@pytest.mark.unmeasured
def test_importing_the_module_loads_no_sqlite():
    code = "import sys, styx.state.sqlite; print([m for m in sys.modules if m in ('sqlite3', 'filelock', 'pluggy')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_opening_an_existing_store_takes_no_file_lock(home):
    open_store(home).close()
    code = (
        "import sys; from pathlib import Path; from styx.state.sqlite import open_store\n"
        f"open_store(Path({str(home)!r})).clusters(); print('filelock' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("where", ["home", "parent", "database"])
def test_things_in_the_way_are_named(home, where):
    if where == "home":
        home.write_text("a file")
    elif where == "parent":
        (home.parent / "file").write_text("")
        home = home.parent / "file" / "home"
    else:
        (home / "state.db").mkdir(parents=True)
    with pytest.raises(LocalIOError, match=str(home)) as caught:
        open_store(home)
    assert caught.value.hint


# migrations -------------------------------------------------------------------------------------------------------


def test_schema_version_is_the_last_migrations_number():
    numbers = [step.number for step in migrate.built_in_migrations()]
    assert numbers == list(range(1, migrate.SCHEMA_VERSION + 1))


def test_owned_rows_carry_the_claim_from_the_first_migration():
    db = sqlite3.connect(":memory:")
    db.executescript(migrate.built_in_migrations()[0].sql)
    columns = {row[1] for row in db.execute("PRAGMA table_info(clusters)")}
    assert columns >= {"owner", "workspace", "holder", "epoch", "lease_until"}


def next_schema(home, sql="ALTER TABLE clusters ADD COLUMN colour TEXT NOT NULL DEFAULT 'red';"):
    steps = (*migrate.built_in_migrations(), migrate.Migration(migrate.SCHEMA_VERSION + 1, sql))
    migrate.prepare(home / "state.db", home / "lock", lambda: CLOCK_S, migrations=steps)


def test_a_migration_keeps_the_rows_and_a_backup_of_the_old_file(home):
    store = open_store(home)
    row = every_write(store)  # still in the write-ahead log: the backup must have it too
    next_schema(home)
    db = sqlite3.connect(home / "state.db")
    assert db.execute("SELECT key, colour FROM clusters").fetchall() == [(row.key, "red")]
    assert db.execute("PRAGMA user_version").fetchone() == (migrate.SCHEMA_VERSION + 1,)
    (backup,) = home.glob("state.db.v1-*.bak")
    assert backup.stat().st_mode & 0o777 == 0o600
    store.close()
    for file in home.glob("state.db*"):
        if file != backup:
            file.unlink()
    backup.rename(home / "state.db")
    restored = open_store(home)
    assert restored.cluster("dev") == row.model_copy(update={"epoch": 1, "note": "x"})


def test_a_failing_migration_changes_nothing(home):
    open_store(home).close()
    with pytest.raises(sqlite3.OperationalError):
        next_schema(home, "ALTER TABLE clusters ADD COLUMN colour TEXT; DROP TABLE no_such_table;")
    store = open_store(home)
    assert store.clusters() == []
    assert len(list(home.glob("*.bak"))) == 1


def test_a_newer_schema_is_refused(home):
    open_store(home).close()
    next_schema(home)
    with pytest.raises(LocalIOError, match=r"written by Styx .* \(schema 2\).* up to 1") as caught:
        open_store(home)
    assert "upgrade" in caught.value.hint


def test_processes_that_find_an_old_schema_migrate_once(home):
    open_store(home).close()
    script = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_sqlite_store as here
here.next_schema(Path({str(home)!r}))
"""
    children = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len(list(home.glob("*.bak"))) == 1


# damage -----------------------------------------------------------------------------------------------------------


def smash(home, how):
    path = home / "state.db"
    for tail in ("-wal", "-shm"):
        (home / f"state.db{tail}").unlink(missing_ok=True)
    if how == "text":
        path.write_text("this is not a database, whatever its name says\n" * 20)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "pages":
        data = bytearray(path.read_bytes())
        data[4096:] = os.urandom(len(data) - 4096)
        path.write_bytes(data)
    elif how == "cut":
        with path.open("r+b") as file:
            file.truncate(4096)
    elif how == "table":
        db = sqlite3.connect(path)
        db.executescript("DROP TABLE clusters; DROP TABLE meta;")
        db.close()


@pytest.mark.parametrize("how", ["text", "empty", "pages", "cut", "table"])
def test_a_damaged_database_says_what_to_do(home, how):
    store = open_store(home)
    every_write(store)
    store.close()
    smash(home, how)
    with pytest.raises(LocalIOError, match="damaged") as caught:
        open_store(home).clusters(ended=True)
    assert str(home / "state.db") in str(caught.value)
    assert f"mv {home / 'state.db'}" in caught.value.hint
    shutil.move(home / "state.db", home / "state.db.damaged")
    again = open_store(home)
    assert again.clusters() == []
    assert again.store_id == store.store_id  # so that sweep still knows the machines


def test_a_store_that_lost_its_database_does_not_start_its_keys_over(home, monkeypatch):
    monkeypatch.setattr(migrate.secrets, "randbelow", lambda limit: limit - 1)
    store = open_store(home)
    assert store.new_key("dev").endswith("00")
    store.close()
    (home / "state.db").unlink()
    again = open_store(home)
    assert [again.new_key("dev")[-2:] for _ in range(3)] == ["zz", "00", "01"]


def test_a_stale_log_of_a_lost_database_is_not_replayed(home):
    store = open_store(home)
    every_write(store)
    os.rename(home / "state.db", home / "moved")  # its log stays behind, as after a careless mv
    again = open_store(home)
    assert again.clusters() == []
    again.insert_cluster(cluster_row(again))
    assert len(open_store(home).clusters()) == 1


def test_a_row_of_a_newer_shape_is_refused(home):
    store = open_store(home)
    row = every_write(store)
    db = sqlite3.connect(home / "state.db")
    db.execute("UPDATE clusters SET lease = ?", (json.dumps({"v": 2, "d": {}}),))
    db.commit()
    with pytest.raises(LocalIOError, match="column lease of a ClusterRow: its version is 2"):
        store.cluster_by_key(row.key)


def test_a_full_disk_is_told_and_loses_nothing(home):
    store = open_store(home)
    row = every_write(store)
    pages = store._connection().execute("PRAGMA page_count").fetchone()[0]
    store._connection().execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LocalIOError, match="disk is full"):
        store.append_event(event_row(row.key, "x" * 100_000))
    assert len(store.events(row.key)) == 1
    store._connection().execute("PRAGMA max_page_count = 100000")
    store.append_event(event_row(row.key, "x" * 100_000))


def test_a_lock_that_lasts_too_long_is_named(home):
    store = open_store(home, busy_timeout_s=0.05)
    other = sqlite3.connect(home / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DeadlineExceeded, match="locked"):
        store.new_key("a")
    assert store.clusters() == []  # readers do not wait
    other.execute("ROLLBACK")
    store.new_key("a")


# observers --------------------------------------------------------------------------------------------------------


def test_every_commit_is_observed(home):
    seen = []
    every_write(open_store(home, observer=seen.append))
    assert {name.split(":")[1] for name in seen} == WRITES
    assert seen[::2] == [name.replace(":after", ":before") for name in seen[1::2]]


def test_an_observer_can_undo_a_write(home):
    def refuse(moment):
        if moment == "commit:append_event:before":
            raise KeyboardInterrupt

    store = open_store(home, observer=refuse)
    with pytest.raises(KeyboardInterrupt):
        store.append_event(event_row("k"))
    assert store.events("k") == []
    store.add_attempt(attempt_row("k"))


@pytest.mark.parametrize(("moment", "kept"), [("before", 0), ("after", 1)])
def test_a_client_killed_at_a_commit(home, moment, kept):
    script = f"""
import os, signal
from pathlib import Path
from styx.state.sqlite import open_store
from styx.testing.store_conformance import attempt_row
die = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == "commit:add_attempt:{moment}" else None
open_store(Path({str(home)!r}), observer=die).add_attempt(attempt_row("k"))
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -signal.SIGKILL
    assert len(open_store(home).attempts("k")) == kept


def _in_a_fork(store, queue):
    store.append_event(event_row("k", "child"))
    queue.put(len(store.events("k")))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_uses_its_own_connection(home):
    store = open_store(home)
    store.append_event(event_row("k", "parent"))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_a_fork, args=(store, queue))
    child.start()
    assert queue.get(timeout=30) == 2
    child.join(30)
    store.append_event(event_row("k", "parent again"))
    assert [event.message for event in store.events("k")] == ["parent", "child", "parent again"]


# keys -------------------------------------------------------------------------------------------------------------


def test_a_slug_with_no_generation_left_goes_on_under_another(home):
    store = open_store(home)
    store.new_key("abcdefghij")
    db = sqlite3.connect(home / "state.db")
    db.execute("UPDATE generations SET used = ?", (migrate.GENERATIONS - 1,))
    db.commit()
    keys = [store.new_key("abcdefghij") for _ in range(3)]
    tails = [key.replace(store.store_id, "") for key in keys]
    assert tails == ["styx-abcdefghij-zz", "styx-abcdefgh-1-00", "styx-abcdefgh-1-01"]
    assert all(len(key) <= 24 for key in keys)


def test_a_slug_never_contains_the_store_id():
    assert slug_of("x-abc123-y", "abc123") == "x--y"
    assert slug_of("abc123", "abc123") == "c"


# columns ----------------------------------------------------------------------------------------------------------


def test_older_json_is_upgraded_step_by_step():
    column = JsonColumn(version=3, upgrades={1: lambda data: [*data, "two"], 2: lambda data: [*data, "three"]})
    assert column.load('{"v": 1, "d": ["one"]}') == ["one", "two", "three"]
    assert column.load(column.dump(["now"])) == ["now"]
    for text in ("[]", "{}", "nonsense", '{"v": 4, "d": 1}', '{"v": 0, "d": 1}'):
        with pytest.raises(Undecodable):
            column.load(text)


def test_every_nested_field_is_versioned_json(home):
    row = cluster_row(open_store(home))
    columns = to_columns(row)
    assert {name for name, text in columns.items() if str(text).startswith('{"v":1,')} == set(JSON_COLUMNS[type(row)])
    assert all(isinstance(value, (str, int, float, type(None))) for value in columns.values())
    assert from_columns(type(row), columns) == row


def test_times_without_a_zone_are_refused(home):
    with pytest.raises(ValueError, match="zone"):
        to_columns(rate_row("k", start=NOW.replace(tzinfo=None)))
