"""What real clouds do to the engine: other accounts, duplicates, notices, trouble that lasts, leftovers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from styx.api import LaunchOptions
from styx.driver import CatalogRow, FeatureSet, Node, NodeState, Place, SelfEnd
from styx.errors import CredentialsError, DriverError, NoPlaceLeft, UnsupportedError
from styx.provision import leases, overdue, sweep, volumes
from styx.provision import nodeup as leases_of_nodes
from styx.provision.world import utc_now
from styx.state.rows import ClusterRow, ClusterState
from styx.testing.fakecloud import FakeDriver
from tests.enginebench import Bench


def ids(bench: Bench) -> set[str]:
    return {one.id for one in bench.cloud.machines() if one.status(bench.cloud.clock()).value == "active"}


def duplicate(bench: Bench, zone: str) -> str:
    """A machine with the cluster's key that its record does not name, as a create that ran twice leaves it."""
    row = bench.client.world.store.cluster("c")
    assert row is not None
    known = next(one for one in bench.cloud.machines() if one.id == row.nodes[0].id)
    return bench.cloud.plant(zone, name=known.name, tags={**known.tags, "styx-token": "f" * 32}).id


def test_a_duplicate_of_a_living_cluster_is_found_and_only_it_is_ended(bench: Bench) -> None:
    bench.launch()
    own = ids(bench)
    twin, elsewhere = duplicate(bench, "north-a"), duplicate(bench, "south-a")
    assert {each.id for each in bench.client.sweep().orphans} == {twin, elsewhere}
    assert all(each.deleted for each in bench.client.sweep(delete=True).orphans)
    assert ids(bench) == own
    assert bench.client.exec(bench.task(), "c").job_id == 2


def test_credentials_of_another_account_end_nothing_and_make_nothing(bench: Bench) -> None:
    bench.launch()
    bench.client.world.accounts.clear()
    cloud = bench.client.world.cloud("fake")
    bench.client.world.accounts[cloud] = "acct-2"
    view = bench.client.status(refresh=True)[0]
    assert view.state is ClusterState.UP
    assert "acct-1" in (view.note or "")
    assert {str(place) for place, _ in bench.client.sweep().unreadable} >= {"fake/north/north-a"}
    with pytest.raises(CredentialsError, match="acct-2"):
        bench.client.down(["c"])
    assert bench.client.status()[0].state is ClusterState.TERMINATING
    with pytest.raises(NoPlaceLeft, match="acct-2"):
        bench.launch("other")
    assert len(ids(bench)) == 1
    bench.client.world.accounts.clear()


def test_a_notice_reaches_status_and_why(bench: Bench) -> None:
    bench.launch(task=bench.task('while [ ! -e "$STYX_NOTICE_FILE" ]; do sleep 0.1; done; echo saved'))
    assert bench.client.status(refresh=True)[0].note is None
    bench.cloud.warn(next(iter(ids(bench))))
    assert bench.client.wait("c", 1).exit_code == 0
    assert bench.client.status(refresh=True)[0].note == "the cloud will take node 0 away"
    bench.client.status(refresh=True)
    told = [event for event in bench.client.why("c").events if event.step == "notice"]
    assert [event.message for event in told] == ["the cloud will take node 0 away"]


def test_a_cloud_in_lasting_trouble_is_left_for_the_next_with_a_line_now_and_then(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from styx.provision import attempts, gang

    monkeypatch.setattr(gang, "TROUBLE_S", 1.0)
    monkeypatch.setattr(attempts, "FIRST_NOTE_S", 0.2)
    bench.cloud.refuse("create_machine", "internal", zone="north-a", times=None)
    assert str(bench.launch().place) == "fake/south/south-a"  # a region in trouble is left as a whole
    first = bench.client.why("c").attempts[0]
    assert (first.error, first.scope, first.vendor_code, first.state) == (
        "DriverError", "region", "internal", "released",
    )  # fmt: skip
    assert any(event.phase == "note" and "not now" in event.message for event in bench.events)


def test_one_dead_cloud_keeps_no_other_waiting(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.launch()
    bench.launch("d")
    store = bench.client.world.store
    for name in ("c", "d"):
        row = store.cluster(name)
        assert row is not None
        epoch = store.acquire(row.key, "gone", 0.0, bench.client.world.timestamp())
        place = Place(cloud="nosuch", account="x", region="y") if name == "d" else row.place
        store.update_cluster(row.key, epoch, {"state": ClusterState.TERMINATING, "place": place})
        store.relinquish(row.key, epoch)
    began = time.monotonic()
    report = bench.client.sweep(delete=True)
    assert time.monotonic() - began < 60
    assert [str(place) for place, _ in report.unreadable] == ["nosuch/y"]
    assert [row.name for row in store.clusters()] == ["d"]
    assert len(ids(bench)) == 1  # what belongs to d is not ended while one of its places can't be seen
    bench.client.down(["d"], purge=True)
    bench.client.sweep(delete=True)
    assert ids(bench) == set()


def test_leftovers_that_no_release_removes_are_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.launch()
    monkeypatch.setattr(FakeDriver, "release", lambda *_: None)
    bench.client.down(["c"])
    (left,) = bench.client.sweep(delete=True).orphans
    assert left.kind == "address"
    assert not left.deleted
    assert "still lists" in (left.error or "")
    monkeypatch.undo()
    (gone,) = bench.client.sweep(delete=True).orphans
    assert gone.deleted
    assert bench.client.sweep().orphans == ()


def test_a_plan_says_what_the_lease_comes_to(bench: Bench) -> None:
    plan = bench.client.plan(bench.task(), LaunchOptions(cluster="c"))
    assert any("until `styx down`" in warning for warning in plan.warnings)
    leased = bench.client.plan(bench.task(), LaunchOptions(cluster="c", idle_minutes=5))
    assert leased.lease["idle_s"] == 300
    assert leased.warnings == ()


def test_a_later_launch_may_ask_for_more_ports(bench: Bench) -> None:
    with_ports = {"infra": "fake", "cpus": 2, "ports": [8080, 9090]}
    bench.launch(task=bench.task(resources={**with_ports, "ports": 8080}))
    bench.launch(task=bench.task(resources=with_ports))
    (machine,) = [one for one in bench.cloud.machines() if one.id in ids(bench)]
    assert set(machine.ports) == {8080, 9090}
    row = bench.client.world.store.cluster("c")
    assert row is not None
    assert set(row.ports) == {8080, 9090}


PLACE = Place(cloud="c", account="a", region="r")


@pytest.mark.parametrize(
    ("wanted", "stop", "saves", "can_stop", "action"),
    [
        ("stop", True, True, True, "stop"),
        (None, True, True, True, "stop"),
        ("stop", False, True, True, "down"),
        ("stop", True, False, True, "down"),
        ("stop", True, True, False, "down"),
        ("down", True, True, True, "down"),
    ],
)
def test_what_ending_comes_to(wanted: str | None, stop: bool, saves: bool, can_stop: bool, action: str) -> None:
    features = FeatureSet(stop=stop, stop_saves_money=saves)
    assert leases.action_of({"action": wanted}, features, can_stop=can_stop) == action


def test_notes_on_leases() -> None:
    limited: dict[str, Any] = {"idle_s": 60.0, "action": "stop"}
    billing = SelfEnd(kind="poweroff", stops_billing=False)
    good = SelfEnd(kind="poweroff", stops_billing=True)
    assert leases.notes({}, "X", "stop", good, free=True) == ()
    assert "gives them back" in leases.notes(limited, "X", "down", good, free=True)[0]
    assert leases.notes({**limited, "action": "down"}, "X", "down", good, free=True) == ()
    assert "no lease" in leases.notes({}, "X", "stop", good, free=False)[0]
    assert leases.notes(limited, "X", "stop", good, free=False) == ()
    assert "removes them" in leases.notes(limited, "X", "down", good, free=False)[0]
    assert "goes on costing" in leases.notes(limited, "X", "stop", billing, free=False)[0]
    assert (
        "ends the billing by itself"
        in leases.notes({"max_age_s": 9, "action": "down"}, "X", "down", billing, free=False)[0]
    )
    (told,) = leases.notes(limited, "X", "stop", SelfEnd(kind="none"), free=False)
    assert "ends the billing by itself: when the lease runs out, jobs and machines go on" in told
    assert leases.notes(limited, "X", "stop", None, free=False) == ()


def test_autostop_never_removes_a_disk_that_it_was_asked_to_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.launch()
    row = bench.client.world.store.cluster("c")
    assert row is not None
    offer = CatalogRow.model_validate(row.offer)
    stuck = offer.model_copy(update={"features": FeatureSet(stop=False)})
    epoch = bench.client.world.store.acquire(row.key, "test", 5.0, bench.client.world.timestamp())
    bench.client.world.store.update_cluster(row.key, epoch, {"offer": stuck.model_dump(mode="json")})
    bench.client.world.store.relinquish(row.key, epoch)
    with pytest.raises(UnsupportedError) as caught:
        bench.client.autostop(["c"], idle_minutes=5)
    assert "--down" in (caught.value.hint or "")
    bench.client.autostop(["c"], idle_minutes=5, down=True)


def row_of(nodes: tuple[Node, ...], state: ClusterState = ClusterState.UP) -> ClusterRow:
    from datetime import UTC, datetime

    now = datetime(2030, 1, 1, tzinfo=UTC)
    return ClusterRow(
        key="k",
        name="n",
        owner="o",
        state=state,
        place=PLACE,
        num_nodes=1,
        nodes=nodes,
        created_at=now,
        last_use_at=now,
    )


def test_strays() -> None:
    def node(id: str, rank: int = 0, place: Place = PLACE) -> Node:
        return Node(id=id, cluster="k", rank=rank, place=place, state=NodeState.RUNNING)

    own = node("own")
    row = row_of((own,))
    elsewhere = PLACE.model_copy(update={"region": "s"})
    assert not sweep.is_stray(own, row, {"own"})
    assert sweep.is_stray(node("twin"), row, {"own", "twin"})
    assert sweep.is_stray(node("far", place=elsewhere), row, {"far"})
    assert not sweep.is_stray(node("new-id-after-a-start"), row, {"new-id-after-a-start"})
    assert not sweep.is_stray(node("zoned", place=PLACE.model_copy(update={"zone": "z"})), row, {"zoned"})
    for state in set(ClusterState) - {ClusterState.UP, ClusterState.STOPPED}:
        assert not sweep.is_stray(node("twin"), row_of((own,), state), {"own", "twin"})


def test_what_a_dying_client_asked_for_last_is_waited_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch that was killed late: the machine of its last call shows up after the first listing of the down."""
    bench.launch()
    store = bench.client.world.store
    row = store.cluster("c")
    assert row is not None
    made = next(one for one in bench.cloud.machines() if one.id == row.nodes[0].id)
    bench.client.down(["c"])
    epoch = store.acquire(row.key, "gone", 0.0, bench.client.world.timestamp())
    store.update_cluster(row.key, epoch, {"state": ClusterState.INIT, "ended_at": None, "nodes": ()})
    store.relinquish(row.key, epoch)
    (attempt,) = store.attempts(row.key)
    began = bench.client.world.now() - timedelta(minutes=10)
    store.update_attempt(attempt.id, {"state": "intended", "started_at": began, "ended_at": None})
    driver = type(bench.client.world.hub.provisioner("fake"))
    monkeypatch.setattr(driver, "limits", driver.limits.model_copy(update={"listing_lag_s": 3.0}))
    listing, late = FakeDriver.nodes, list[str]()

    def nodes(self: FakeDriver, *asked: Any) -> Any:
        found = listing(self, *asked)
        if not late:
            late.append(bench.cloud.plant("north-a", name=made.name, tags=made.tags).id)
        return found

    monkeypatch.setattr(FakeDriver, "nodes", nodes)

    bench.client.down(["c"])
    assert late
    assert ids(bench) == set()


def test_a_half_ended_cluster_that_can_not_be_ended_is_told_though_nothing_of_it_is_listed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise DriverError("the address book is locked")

    bench.launch()
    monkeypatch.setattr(FakeDriver, "release", broken)
    monkeypatch.setattr(FakeDriver, "leftovers", lambda *_: ())
    with pytest.raises(DriverError):
        bench.client.down(["c"])
    report = bench.client.sweep(delete=True)
    assert report.orphans == ()
    ((name, reason),) = report.unended
    assert (name, "address book" in reason) == ("c", True)
    monkeypatch.undo()
    assert bench.client.sweep(delete=True).unended == ()
    assert bench.client.status() == []


def unable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines that can't end themselves, such as Lambda's."""
    monkeypatch.setattr(FakeDriver, "self_action", lambda *_: SelfEnd(kind="none"))


def outlive(bench: Bench) -> None:
    """Make the cluster older than its lease of an hour."""
    world = bench.client.world
    bench.client.world = replace(world, now=lambda: utc_now() + timedelta(hours=1, seconds=1))


LEASED = LaunchOptions(cluster="c", idle_minutes=600, down=True)


def test_a_cluster_that_its_lease_can_not_end_is_told_of_by_every_command_and_ended_when_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    unable(monkeypatch)
    told: list[str] = []
    bench.client.world.hub.report = told.append
    leased = bench.task("true", config={"lease": {"max_age": "1h"}})
    plan = bench.client.plan(leased, LEASED)
    assert any("`styx status --refresh`, `styx sweep --delete`" in warning for warning in plan.warnings)
    bench.client.launch(leased, LEASED)
    assert bench.client.status(refresh=True)[0].note is None
    assert bench.client.sweep().orphans == ()
    outlive(bench)
    (view,) = bench.client.status()
    assert (view.state, "overdue: it is older than 1h" in (view.note or "")) == (ClusterState.UP, True)
    bench.client.queue()
    assert any("c is overdue" in line and "styx sweep --delete" in line for line in told)
    assert len(ids(bench)) == 1  # nothing but a look at it ends it
    assert bench.client.status(refresh=True) == []
    assert any("c was ended, as its lease has run out: it is older than 1h" in line for line in told)
    assert ids(bench) == set()


def test_a_sweep_finds_and_ends_what_a_node_says_is_overdue(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    unable(monkeypatch)
    monkeypatch.setattr(leases_of_nodes, "LEAST_IDLE_S", 0.0)
    bench.client.launch(bench.task("true"), LaunchOptions(cluster="c", idle_minutes=0.001, down=True))
    bench.client.wait("c", 1)
    until(lambda: bool(bench.client.sweep().orphans))
    (found,) = bench.client.sweep().orphans
    assert found.why.startswith("overdue: a node says: idle for")
    assert len(ids(bench)) == 1
    (gone,) = bench.client.sweep(delete=True).orphans
    assert gone.deleted
    assert (ids(bench), bench.client.status()) == (set(), [])
    assert "c is overdue" in " ".join(event.message for event in bench.client.why("c").events)


def test_nodes_that_can_end_themselves_get_time_to_do_so(bench: Bench) -> None:
    bench.client.launch(bench.task("true", config={"lease": {"max_age": "1h"}}), LEASED)
    outlive(bench)
    assert bench.client.sweep().orphans == ()
    world = bench.client.world
    bench.client.world = replace(world, now=lambda: utc_now() + timedelta(hours=1, seconds=overdue.GRACE_S + 1))
    (found,) = bench.client.sweep().orphans
    assert found.why == "overdue: it is older than 1h"


def until(condition: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def test_a_cluster_that_was_taken_up_after_the_survey_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from styx.errors import Interrupted
    from styx.provision import launch as launching

    monkeypatch.setattr(launching, "bring_up", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted):
        bench.launch()
    monkeypatch.undo()
    world = bench.client.world
    seen = sweep.survey(world, sweep.places_to_look(world, ()))
    assert [row.name for row in seen.abandoned] == ["c"]
    bench.launch()
    errors = sweep.end(world, seen, lambda _: None).things
    assert {error.message for error in errors.values()} == {
        "c was left as it is: another client took it up, and it is UP now"
    }
    assert len(ids(bench)) == 1
    assert bench.client.exec(bench.task(), "c").job_id == 2


def test_ctrl_c_waits_for_the_create_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    from styx.provision import guard

    ended = []
    joined = guard.threading.Thread.join
    waits: list[float | None] = []

    def join(self: Any, timeout: float | None = None) -> None:
        waits.append(timeout)
        if len(waits) == 1:
            raise KeyboardInterrupt
        joined(self, timeout)

    monkeypatch.setattr(guard.threading.Thread, "join", join)
    with pytest.raises(KeyboardInterrupt):
        guard.call("x.create", lambda: ended.append(time.sleep(0.1)), 5.0, lambda _: None, interrupted_s=30.0)
    assert (len(ended), waits) == (1, [5.0, 30.0])


def test_a_create_that_is_not_waited_for_is_not_called_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C twice: no listing shows yet what the call, which goes on, is about to make."""
    from styx.errors import Interrupted
    from styx.provision import guard
    from styx.testing.fakecloud import FakeDriver

    real, joined, go, made = FakeDriver.create, guard.threading.Thread.join, threading.Event(), threading.Event()

    def create(self: FakeDriver, request: Any) -> Any:
        go.wait(30)
        try:
            return real(self, request)
        finally:
            made.set()

    def join(self: Any, timeout: float | None = None) -> None:
        if self.name == "styx fake.create" and not made.is_set():
            raise KeyboardInterrupt
        joined(self, timeout)

    with monkeypatch.context() as impatient:
        impatient.setattr(FakeDriver, "create", create)
        impatient.setattr(guard.threading.Thread, "join", join)
        with pytest.raises(Interrupted, match="machines in fake/north/north-a may exist"):
            bench.launch()
        go.set()
        assert made.wait(30)
    (seen,) = bench.client.status()
    assert seen.state is ClusterState.INIT
    assert len(bench.alive()) == 1
    bench.client.down(["c"])
    assert bench.alive() == []


def test_no_verb_acts_with_the_credentials_of_another_account(bench: Bench) -> None:
    bench.launch()
    world = bench.client.world
    row = world.store.cluster("c")
    assert row is not None
    driver = world.provisioner("fake")
    world.accounts[world.cloud("fake")] = "acct-2"
    acts = (driver.terminate, driver.stop, driver.start, lambda nodes: driver.open_ports(nodes, [80]))
    for act in acts:
        with pytest.raises(CredentialsError, match="acct-2"):
            act(row.nodes)
    with pytest.raises(CredentialsError, match="acct-2"):
        volumes._call(world, row.nodes[0].place, "delete_volume", lambda: None)
    world.accounts.clear()
    assert len(ids(bench)) == 1


def test_ctrl_c_before_any_machine_leaves_no_key(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from styx.errors import Interrupted
    from styx.provision import attempts

    def interrupted(*_: Any) -> Any:
        assert list((bench.home / "keys").glob("host-*"))
        raise KeyboardInterrupt

    monkeypatch.setattr(attempts, "_drive", interrupted)
    with pytest.raises(Interrupted, match="nothing was created"):
        bench.launch()
    assert not list((bench.home / "keys").glob("host-*"))
