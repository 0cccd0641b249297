"""What every store must do. A store's tests subclass `StoreConformance` and say how to open one.

    class TestSqlite(StoreConformance):
        opener = "styx.state.sqlite:open_store"

Child processes open the same home by the same name, so the store must really be shared.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest

from styx.driver import Node, NodeState, Place
from styx.errors import DeadlineExceeded, NotFound, StyxError, WrongState
from styx.state.rows import Attempt, CheckRow, ClusterRow, ClusterState, Event, JobRow, Rate, Refusal
from styx.state.store import Store

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
PLACE = Place(cloud="fake", account="acct", region="north", zone="a")
CHILD_DEADLINE_S = 60

_CHILD = """
import importlib, json, sys
from pathlib import Path
opener, home, body = sys.argv[1:]
module, _, name = opener.partition(":")
store = getattr(importlib.import_module(module), name)(Path(home))
exec(body)
"""


def cluster_row(store: Store, name: str = "dev", **changes: Any) -> ClusterRow:
    """A cluster with a fresh key and a filled-in value in every kind of column."""
    node = Node(id="n-1", cluster="k", rank=0, place=PLACE, state=NodeState.RUNNING, data={"ü": [1, None, {"x": 1.5}]})
    values: dict[str, Any] = {
        "key": store.new_key(name),
        "name": name,
        "owner": "me",
        "state": ClusterState.INIT,
        "place": PLACE,
        "num_nodes": 2,
        "nodes": (node,),
        "seen_at": NOW,
        "offer": {"instance_type": "big", "usd_per_hour": None},
        "resources": {"cpus": "4+"},
        "task": {"run": "echo 'ünï' \"quoted\"\n"},
        "lease": {"idle_s": 60.0},
        "ports": (80, 8080),
        "usd_per_hour": 1.25,
        "created_at": NOW,
        "last_use_at": NOW + timedelta(microseconds=1),
    }
    return ClusterRow.model_validate(values | changes)


def attempt_row(cluster: str, **changes: Any) -> Attempt:
    """An intent."""
    values = {
        "cluster": cluster, "operation": "launch-1", "token": "0" * 32, "place": PLACE, "offer": {"a": 1}, "count": 2,
        "started_at": NOW,
    }  # fmt: skip
    return Attempt.model_validate(values | changes)


def event_row(cluster: str, message: str = "") -> Event:
    """A step."""
    return Event(
        cluster=cluster, operation="launch-1", step="create", phase="started", at=NOW, message=message, data={"n": [1]}
    )


def rate_row(cluster: str, **changes: Any) -> Rate:
    """An open interval."""
    values = {"cluster": cluster, "node": "n-1", "rank": 0, "place": PLACE, "usd_per_hour": 2.0, "start": NOW}
    return Rate.model_validate(values | changes)


class StoreConformance:
    """Subclass it and set `opener`."""

    opener: ClassVar[str]
    """`module:function`, called with the home folder."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        """A private `$STYX_HOME` that does not exist yet."""
        return tmp_path / "home"

    @pytest.fixture
    def store(self, home: Path) -> Any:
        """An open store."""
        store = self.open(home)
        yield store
        store.close()

    def open(self, home: Path) -> Store:
        """Another store over the same home, as another process would open it."""
        module, _, name = self.opener.partition(":")
        opened: Store = getattr(import_module(module), name)(home)
        return opened

    def child(self, home: Path, body: str) -> subprocess.Popen[str]:
        """A process that runs `body` with `store` open; prints are its answer."""
        argv = [sys.executable, "-c", _CHILD, self.opener, str(home), body]
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answers(self, children: list[subprocess.Popen[str]]) -> list[str]:
        """What the children printed, once all have ended well."""
        outputs = [child.communicate(timeout=CHILD_DEADLINE_S)[0].strip() for child in children]
        assert [child.returncode for child in children] == [0] * len(children)
        return outputs

    # identity ---------------------------------------------------------------------------------------------------
    def test_store_id_is_made_once(self, store: Store, home: Path) -> None:
        """Six base-36 characters, the same for everybody who opens the home."""
        assert len(store.store_id) == 6
        assert set(store.store_id) <= set("0123456789abcdefghijklmnopqrstuvwxyz")
        assert self.open(home).store_id == store.store_id

    def test_racing_processes_agree_on_a_new_home(self, home: Path) -> None:
        """Opened by several processes at once, a home gets one store."""
        assert len(set(self.answers([self.child(home, "print(store.store_id)") for _ in range(4)]))) == 1

    @pytest.mark.parametrize(
        ("name", "slug"),
        [
            ("dev", "dev"),
            ("My_Cluster.01", "my-cluster"),
            ("training-x-y-z", "training-x"),
            ("abcdefghi-jkl", "abcdefghi"),
            ("--a--b--", "a-b"),
            ("日本", "c"),
            ("9lives", "9lives"),
        ],
    )
    def test_key_shape(self, store: Store, name: str, slug: str) -> None:
        """`styx-<slug>-<store id><generation>`, at most 24 characters."""
        key = store.new_key(name)
        assert key[:-2] == f"styx-{slug}-{store.store_id}"
        assert len(key) <= 24

    def test_keys_never_repeat(self, store: Store, home: Path) -> None:
        """Names that share a slug share its generations; several processes and threads never get the same."""
        body = "print('\\n'.join(store.new_key('dev') for _ in range(25)))"
        children = [self.child(home, body) for _ in range(2)]
        with ThreadPoolExecutor(4) as pool:
            mine = list(pool.map(store.new_key, ["dev", "DEV", "dev!", "dev"] * 10))
        theirs = [line for answer in self.answers(children) for line in answer.splitlines()]
        assert len(set(mine + theirs)) == len(mine) + len(theirs) == 90

    def test_no_key_is_a_prefix_of_another(self, store: Store) -> None:
        """A cloud without tags finds machines by name prefix."""
        short = store.new_key("a")
        crafted = store.new_key(short.removeprefix("styx-"))
        assert not crafted.startswith(short)

    # clusters ---------------------------------------------------------------------------------------------------
    def test_cluster_round_trip(self, store: Store, home: Path) -> None:
        """Every field comes back equal, in another process's eyes too."""
        row = cluster_row(store)
        store.insert_cluster(row)
        assert store.cluster("dev") == row == self.open(home).cluster_by_key(row.key)
        assert store.cluster("dev", "other") is None
        assert store.cluster_by_key("styx-no-aaaaaa00") is None

    def test_name_is_unique_among_live_clusters_of_a_workspace(self, store: Store) -> None:
        """A generation that has ended does not hold its name."""
        first = cluster_row(store)
        store.insert_cluster(first)
        with pytest.raises(WrongState, match="dev"):
            store.insert_cluster(cluster_row(store))
        store.insert_cluster(cluster_row(store, workspace="other"))
        store.update_cluster(first.key, 0, {"state": ClusterState.TERMINATED, "ended_at": NOW})
        second = cluster_row(store)
        store.insert_cluster(second)
        assert store.latest("dev") == second == store.cluster("dev")
        with pytest.raises(WrongState):
            store.update_cluster(first.key, 0, {"state": ClusterState.UP})

    def test_latest_falls_back_to_the_newest_ended(self, store: Store) -> None:
        """`why` and `logs` work after `down`."""
        rows = [cluster_row(store) for _ in range(3)]
        for row in rows:
            store.insert_cluster(row)
            store.update_cluster(row.key, 0, {"state": ClusterState.TERMINATED})
        assert store.cluster("dev") is None
        latest = store.latest("dev")
        assert latest is not None
        assert latest.key == rows[-1].key

    def test_listing_order(self, store: Store) -> None:
        """Live ones by name, then ended ones, newest first."""
        for name in ("old", "older", "b", "a"):
            row = cluster_row(store, name)
            store.insert_cluster(row)
            if name.startswith("old"):
                store.update_cluster(row.key, 0, {"state": ClusterState.TERMINATED})
        store.insert_cluster(cluster_row(store, "x", workspace="other"))
        assert [row.name for row in store.clusters()] == ["a", "b", "x"]
        assert [row.name for row in store.clusters(workspace="default", ended=True)] == ["a", "b", "older", "old"]

    def test_update_returns_what_is_stored(self, store: Store) -> None:
        """Only the named fields change."""
        row = cluster_row(store)
        store.insert_cluster(row)
        new = store.update_cluster(row.key, 0, {"state": "UP", "nodes": (), "place": None, "note": "why"})
        assert new == row.model_copy(update={"state": ClusterState.UP, "nodes": (), "place": None, "note": "why"})
        assert store.cluster_by_key(row.key) == new

    @pytest.mark.parametrize("changes", [{"colour": "red"}, {"num_nodes": "many"}, {"epoch": 9}, {"holder": "me"}])
    def test_bad_updates_change_nothing(self, store: Store, changes: dict[str, Any]) -> None:
        """Unknown fields, wrong values, and the claim, which has calls of its own."""
        row = cluster_row(store)
        store.insert_cluster(row)
        with pytest.raises(StyxError):
            store.update_cluster(row.key, 0, changes)
        assert store.cluster_by_key(row.key) == row

    def test_update_of_nothing(self, store: Store) -> None:
        """A key that nobody made."""
        with pytest.raises(NotFound, match="styx-no"):
            store.update_cluster("styx-no-aaaaaa00", 0, {"note": "x"})

    # claims -----------------------------------------------------------------------------------------------------
    def test_a_claim_excludes_others_until_it_ends(self, store: Store) -> None:
        """Each acquisition raises the epoch."""
        row = cluster_row(store)
        store.insert_cluster(row)
        assert store.acquire(row.key, "a", ttl_s=10, now=100) == 1
        with pytest.raises(DeadlineExceeded, match=r"\ba\b"):
            store.acquire(row.key, "b", ttl_s=10, now=109)
        store.renew(row.key, 1, lease_until=120)
        with pytest.raises(DeadlineExceeded):
            store.acquire(row.key, "b", ttl_s=10, now=119)
        assert store.acquire(row.key, "b", ttl_s=10, now=120) == 2
        held = store.cluster_by_key(row.key)
        assert held is not None
        assert (held.holder, held.epoch, held.lease_until) == ("b", 2, 130)

    def test_old_epochs_are_refused(self, store: Store) -> None:
        """A holder that slept too long can write nothing, and giving back what it lost is harmless."""
        row = cluster_row(store)
        store.insert_cluster(row)
        old = store.acquire(row.key, "a", ttl_s=10, now=100)
        new = store.acquire(row.key, "b", ttl_s=10, now=200)
        for write in (
            lambda: store.update_cluster(row.key, old, {"note": "stale"}),
            lambda: store.renew(row.key, old, lease_until=999),
            lambda: store.add_attempt(attempt_row(row.key), epoch=old),
        ):
            with pytest.raises(WrongState):
                write()
        store.relinquish(row.key, old)
        held = store.cluster_by_key(row.key)
        assert held is not None
        assert (held.holder, held.note, held.lease_until) == ("b", None, 210)
        assert store.attempts(row.key) == []
        assert store.add_attempt(attempt_row(row.key), epoch=new) > 0

    def test_relinquished_clusters_are_free(self, store: Store) -> None:
        """At once, without waiting for the claim to end; and a claim given back can't be renewed."""
        row = cluster_row(store)
        store.insert_cluster(row)
        epoch = store.acquire(row.key, "a", ttl_s=1000, now=0)
        store.relinquish(row.key, epoch)
        with pytest.raises(WrongState):
            store.renew(row.key, epoch, 2000)
        assert store.acquire(row.key, "b", ttl_s=10, now=1) == 2

    def test_a_dead_holder_is_forgotten_once(self, store: Store) -> None:
        """Only if it still is the holder."""
        row = cluster_row(store)
        store.insert_cluster(row)
        store.acquire(row.key, "dead", ttl_s=1000, now=0)
        assert store.forget_holder(row.key, "dead")
        assert store.acquire(row.key, "b", ttl_s=1000, now=1) == 2
        assert not store.forget_holder(row.key, "dead")
        with pytest.raises(DeadlineExceeded):
            store.acquire(row.key, "c", ttl_s=10, now=2)

    def test_unknown_clusters_cannot_be_claimed(self, store: Store) -> None:
        """NotFound, and relinquishing one is nothing."""
        with pytest.raises(NotFound):
            store.acquire("styx-no-aaaaaa00", "a", 10, 0)
        store.relinquish("styx-no-aaaaaa00", 1)

    # the story --------------------------------------------------------------------------------------------------
    def test_events_in_order(self, store: Store) -> None:
        """Seqs rise; `after` continues."""
        seqs = [store.append_event(event_row("k1", text)) for text in ("a", "b", "c")]
        store.append_event(event_row("k2", "other"))
        assert seqs == sorted(set(seqs))
        assert store.events("k1") == [
            event_row("k1", text).model_copy(update={"seq": seq}) for seq, text in zip(seqs, "abc", strict=True)
        ]
        assert [event.message for event in store.events("k1", after=seqs[1])] == ["c"]

    def test_attempts(self, store: Store) -> None:
        """Recorded, changed, listed in order."""
        first, second = store.add_attempt(attempt_row("k")), store.add_attempt(attempt_row("k", token="1" * 32))
        store.update_attempt(first, {"state": "failed", "ended_at": NOW, "error": "CapacityError", "message": "none"})
        assert [(each.id, each.state, each.error) for each in store.attempts("k")] == [
            (first, "failed", "CapacityError"),
            (second, "intended", None),
        ]
        with pytest.raises(NotFound):
            store.update_attempt(10_000, {"state": "made"})

    # money ------------------------------------------------------------------------------------------------------
    def test_a_new_rate_closes_the_old_one(self, store: Store) -> None:
        """Of the same node and item only; unknown stays None."""
        later = NOW + timedelta(hours=1)
        store.open_rate(rate_row("k"))
        store.open_rate(rate_row("k", item="disk"))
        store.open_rate(rate_row("k", node="n-2", rank=1))
        store.open_rate(rate_row("k", start=later, usd_per_hour=None))
        found = {(rate.node, rate.item, rate.start): (rate.end, rate.usd_per_hour) for rate in store.rates()}
        assert found == {
            ("n-1", "compute", NOW): (later, 2.0),
            ("n-1", "disk", NOW): (None, 2.0),
            ("n-2", "compute", NOW): (None, 2.0),
            ("n-1", "compute", later): (None, None),
        }

    def test_closing_rates(self, store: Store) -> None:
        """Idempotent, of one node or all, never before the start."""
        store.open_rate(rate_row("k"))
        store.open_rate(rate_row("k", node="n-2", start=NOW + timedelta(hours=2)))
        store.open_rate(rate_row("other"))
        end = NOW + timedelta(hours=1)
        store.close_rates("k", end, node="n-1")
        store.close_rates("k", end)
        store.close_rates("k", end + timedelta(hours=9))
        assert [(rate.node, rate.end) for rate in store.rates(cluster="k")] == [
            ("n-1", end),
            ("n-2", NOW + timedelta(hours=2)),
        ]
        assert [rate.end for rate in store.rates(cluster="other")] == [None]

    def test_rates_since(self, store: Store) -> None:
        """Those that reach beyond the bound, oldest first, whatever the time zone of the bound."""
        store.open_rate(rate_row("late", start=NOW + timedelta(hours=5)))
        store.open_rate(rate_row("early"))
        store.close_rates("early", NOW + timedelta(hours=1, microseconds=1))
        zone = datetime.fromisoformat("2026-11-23T15:00:00+02:00")
        assert [rate.cluster for rate in store.rates(since=zone)] == ["early", "late"]
        assert [rate.cluster for rate in store.rates(since=zone + timedelta(seconds=1))] == ["late"]

    # jobs, checks, refusals ---------------------------------------------------------------------------------------
    def test_jobs(self, store: Store) -> None:
        """Replaced by id, listed by id."""
        for job_id in (10, 2):
            store.save_job(JobRow(cluster="k", job_id=job_id, user="me", state="RUNNING"))
        done = JobRow(cluster="k", job_id=2, name="n", user="me", state="FAILED", exit_code=7, ended_at=NOW)
        store.save_job(done)
        assert [job.job_id for job in store.jobs("k")] == [2, 10]
        assert store.jobs("k")[0] == done
        assert store.jobs("other") == []

    def test_checks(self, store: Store) -> None:
        """Replaced by cloud."""
        bad = CheckRow(cloud="b", account=None, ok=False, message="no key", hint="set one", checked_at=NOW)
        good = CheckRow(cloud="a", account="acct", ok=True, places=(PLACE,), checked_at=NOW)
        store.save_checks([bad, good.model_copy(update={"ok": False})])
        store.save_checks([good])
        assert store.checks() == [good, bad]

    def test_refusals(self, store: Store) -> None:
        """Newer ones than the bound."""
        for minutes in (0, 10):
            at = NOW + timedelta(minutes=minutes)
            refusal = Refusal(place=PLACE, instance_type="big", market="spot", error="CapacityError", at=at)
            store.remember_refusal(refusal)
        assert [each.at for each in store.refusals(NOW)] == [NOW + timedelta(minutes=10)]
        assert len(store.refusals(NOW - timedelta(seconds=1))) == 2

    # folders ----------------------------------------------------------------------------------------------------
    def test_folders(self, store: Store, home: Path) -> None:
        """Under the home, private, and never outside it."""
        folders = store.folders
        assert folders.log_dir("k") == home / "logs" / "k"
        assert folders.key_path("id") == home / "keys" / "id"
        assert folders.lock_path("k") == home / "locks" / "k.lock"
        made = [
            home,
            folders.log_dir("k"),
            folders.key_path("id").parent,
            folders.cache_dir("c"),
            folders.catalog_dir(),
        ]
        assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * len(made)
        for make in (folders.log_dir, folders.key_path, folders.cache_dir, folders.lock_path):
            for name in ("", "..", "a/b"):
                with pytest.raises(StyxError):
                    make(name)

    # concurrency ------------------------------------------------------------------------------------------------
    def race(self, contenders: int, body: Callable[[int], Any]) -> list[Any]:
        """What `body(n)` returned, or the error it raised, with all started together."""
        gate = threading.Barrier(contenders)

        def run(number: int) -> Any:
            gate.wait(30)
            try:
                return body(number)
            except StyxError as error:
                return error

        with ThreadPoolExecutor(contenders) as pool:
            return list(pool.map(run, range(contenders)))

    def test_racing_threads_insert_one(self, store: Store) -> None:
        """One wins, the others are told so."""
        results = self.race(6, lambda _: store.insert_cluster(cluster_row(store)))
        assert results.count(None) == 1
        assert sum(isinstance(result, WrongState) for result in results) == 5
        assert len(store.clusters()) == 1

    def test_racing_threads_with_their_own_stores_acquire_one(self, store: Store, home: Path) -> None:
        """As several clients in one process would."""
        row = cluster_row(store)
        store.insert_cluster(row)
        stores = [self.open(home) for _ in range(4)]
        results = self.race(4, lambda number: stores[number].acquire(row.key, f"h{number}", 60, 1000))
        assert results.count(1) == 1
        assert sum(isinstance(result, DeadlineExceeded) for result in results) == 3
        for each in stores:
            each.close()

    def test_racing_processes_acquire_one(self, store: Store, home: Path) -> None:
        """Every process wins in its turn, and no epoch is given twice."""
        row = cluster_row(store)
        store.insert_cluster(row)
        body = f"""
import time
from styx.errors import DeadlineExceeded
won = []
while len(won) < 10:
    try:
        epoch = store.acquire({row.key!r}, "me", 60, 1000)
    except DeadlineExceeded:
        time.sleep(0.002)
        continue
    seen = store.cluster_by_key({row.key!r})
    store.update_cluster({row.key!r}, epoch, {{"num_nodes": seen.num_nodes + 1}})
    won.append(epoch)
    store.relinquish({row.key!r}, epoch)
print(json.dumps(won))
"""
        won = [json.loads(answer) for answer in self.answers([self.child(home, body) for _ in range(3)])]
        assert sorted(epoch for epochs in won for epoch in epochs) == list(range(1, 31))
        after = store.cluster_by_key(row.key)
        assert after is not None
        assert after.num_nodes == row.num_nodes + 30  # no update was lost

    def test_threads_and_processes_append_without_loss(self, store: Store, home: Path) -> None:
        """Every event is there once, in the order of its seq."""
        body = """
from styx.testing.store_conformance import event_row
for number in range(30):
    store.append_event(event_row("k", f"child {number}"))
"""
        children = [self.child(home, body) for _ in range(2)]
        self.race(4, lambda number: [store.append_event(event_row("k", f"{number}-{n}")) for n in range(20)])
        self.answers(children)
        events = store.events("k")
        assert len(events) == 2 * 30 + 4 * 20
        assert [event.message for event in events if event.message.startswith("2-")] == [f"2-{n}" for n in range(20)]

    def test_a_killed_writer_loses_nothing_that_returned(self, store: Store, home: Path) -> None:
        """SIGKILL in the middle of writing: all that was acknowledged is there, and others go on at once."""
        body = """
from styx.testing.store_conformance import event_row
number = 0
while True:
    store.append_event(event_row("k", str(number)))
    print(number, flush=True)
    number += 1
"""
        for _ in range(3):
            before = len(store.events("k"))
            child = self.child(home, body)
            assert child.stdout is not None
            acknowledged = 0
            for _ in range(15):
                acknowledged = int(child.stdout.readline()) + 1
            child.send_signal(signal.SIGKILL)
            rest = child.communicate(timeout=CHILD_DEADLINE_S)[0].splitlines()
            acknowledged += len(rest)
            messages = [event.message for event in store.events("k")][before:]
            assert messages[:acknowledged] == [str(number) for number in range(acknowledged)]
            assert len(messages) - acknowledged in (0, 1)
            store.append_event(event_row("k", "still writable"))
            store.close()  # the next round opens the file anew, as the next command would

    def test_closing_is_not_the_end(self, store: Store) -> None:
        """Idempotent; a later call opens the store again."""
        store.insert_cluster(cluster_row(store))
        store.close()
        store.close()
        assert len(store.clusters()) == 1
