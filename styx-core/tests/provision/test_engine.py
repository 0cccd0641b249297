"""The whole engine on the fake cloud, whose machines are real folders with real agents."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from styx.driver import Place
from styx.errors import (
    CredentialsError,
    Interrupted,
    NoPlaceLeft,
    NotExecutable,
    NotFound,
    StyxError,
    Unreachable,
    UsageError,
    WrongState,
)
from styx.provision import launch as launching
from styx.provision import nodeup
from styx.provision.options import LaunchOptions
from styx.state.rows import ClusterState, Event
from tests.enginebench import Bench


def test_launch_to_exit_code(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    result = bench.launch()
    assert (result.cluster, result.job_id, str(result.place)) == ("c", 1, "fake/north/north-a")
    asked: list[str] = []
    connect = nodeup.connect
    monkeypatch.setattr(nodeup, "connect", lambda *args, **how: (asked.append("node"), connect(*args, **how))[1])
    assert b"".join(line.data for line in bench.client.tail("c", result.job_id)) == b"out\n"
    assert bench.client.wait("c", 1).exit_code == 3
    assert asked == ["node", "node"]  # one connection for the output, one for the end
    assert bench.client.wait("c", 1).exit_code == 3
    assert asked == ["node", "node"]  # what has ended is not asked about again
    view = bench.client.status(["c"])[0]
    assert (view.state, view.usd_per_hour) == (ClusterState.UP, 0.05)
    steps = [event.step for event in bench.events if event.phase == "done"]
    assert steps == ["intend", "attempt", "create", "reach", "bootstrap", "submit"]


def test_fails_over_in_the_plans_order_and_tells_the_story(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "out_of_stock", zone="north-a", times=None)
    bench.cloud.refuse("create_machine", "quota_exceeded", zone="north-b", times=None)
    assert str(bench.launch().place) == "fake/south/south-a"
    assert bench.outcomes() == [
        ("fake/north/north-a", "released", "out_of_stock"),
        ("fake/north/north-b", "released", "quota_exceeded"),
        ("fake/south/south-a", "made", None),
    ]


def test_a_quota_of_the_region_spares_its_other_zone_the_attempt(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "quota_exceeded", times=1)
    assert str(bench.launch().place) == "fake/south/south-a"
    assert len(bench.outcomes()) == 2


def test_all_refuse_leaves_nothing_and_lists_the_reasons(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "out_of_stock", times=None)
    with pytest.raises(NoPlaceLeft) as caught:
        bench.launch()
    for words in ("fake/north/north-a", "fake/north/north-b", "fake/south/south-a", "out_of_stock"):
        assert words in caught.value.message
    assert bench.client.status() == []
    assert bench.client.why("c").state is ClusterState.TERMINATED
    assert len(bench.client.world.store.refusals(bench.client.world.now().replace(year=2000))) >= 3


def test_retry_until_up_ends_with_its_limit(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "out_of_stock", times=None)
    with pytest.raises(NoPlaceLeft):
        bench.launch(retry_until_up=True, retry_for_s=12.0)
    assert 5.0 in bench.slept


def test_retry_until_up_lands_when_there_is_room(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "out_of_stock", times=3)
    assert bench.launch(retry_until_up=True).job_id == 1
    assert len(bench.outcomes()) == 4


def test_a_name_that_no_cluster_can_have_is_refused_before_anything(bench: Bench) -> None:
    with pytest.raises(UsageError, match="Bad Name!"):
        bench.client.plan(bench.task(), LaunchOptions(cluster="Bad Name!"))
    with pytest.raises(UsageError, match="must be letters") as refused:
        bench.launch("Bad Name!")
    assert "Bad-Name" in str(refused.value.hint)
    assert bench.client.status() == []


def test_an_unsupported_request_blocks_its_cloud_and_is_told(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "bad_request", times=None)
    with pytest.raises(NoPlaceLeft, match="every place refused") as caught:
        bench.launch(retry_until_up=True)
    assert "bad_request" in caught.value.message
    assert len(bench.outcomes()) == 1
    assert bench.slept.count(5.0) == 0  # no repeat can help
    assert bench.client.status() == []


PICKY = """
from styx.plugin import CatalogRow, Driver, Identity, Place, Scope, UnsupportedError
class Picky(Driver):
    name = "picky"
    display_name = "Picky"
    def check(self):
        places = [Place(cloud="picky", account="acct", region=region) for region in ("east", "west")]
        return Identity(account="acct", places=dict.fromkeys(places))
    def fetch(self):
        for region in ("east", "west"):
            for zone in ("1", "2"):
                yield CatalogRow(cloud="picky", instance_type="m", region=region, zone=zone, vcpus=2, usd_per_hour=0.01)
    def create(self, request):
        raise UnsupportedError(f"no such thing in {request.place}", scope=SCOPE)
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""


@pytest.mark.parametrize(("scope", "tried"), [("None", 1), ("Scope.REGION", 2), ("Scope.ZONE", 4)])
def test_what_a_cloud_does_not_support_is_told_and_another_cloud_is_taken(bench: Bench, scope: str, tried: int) -> None:
    (bench.home / "drivers" / "picky.py").write_text(PICKY.replace("SCOPE", scope))
    sys.modules.pop("styx_private_drivers.picky", None)
    assert [each.ok for each in bench.client.check(["picky"])] == [True]
    task = bench.task(resources={"cpus": 2})
    assert str(bench.launch(task=task).place).startswith("fake/")
    refused = [each for each in bench.client.why("c").attempts if each.place.cloud == "picky"]
    assert len(refused) == tried
    assert all("no such thing in picky/" in str(each.message) for each in refused)
    assert [each.state for each in refused] == ["released"] * tried

    bench.cloud.refuse("create_machine", "out_of_stock", times=None)
    with pytest.raises(NoPlaceLeft) as caught:
        bench.launch("d", task=task)
    assert caught.value.message.count("UnsupportedError") == tried
    assert caught.value.message.count(" small  out_of_stock ") == 3


def test_bad_credentials_block_the_account(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "invalid_key", times=None)
    with pytest.raises(NoPlaceLeft, match="invalid_key"):
        bench.launch()
    assert len(bench.outcomes()) == 1


@pytest.mark.parametrize("after", [0, 1])
def test_a_lost_reply_makes_no_second_gang(bench: Bench, after: int) -> None:
    bench.cloud.lose_reply("create_machine", after=after)
    task = bench.task(num_nodes=1)
    bench.launch(task=task)
    assert len(bench.alive()) == 1


def test_throttling_is_waited_out(bench: Bench) -> None:
    bench.cloud.refuse("create_machine", "rate_limited", times=2)
    assert str(bench.launch().place) == "fake/north/north-a"
    assert len(bench.outcomes()) == 1


def test_accepted_then_failed_is_removed_before_the_next_place(bench: Bench) -> None:
    bench.cloud.doom("out_of_stock", times=1)
    bench.launch()
    assert len(bench.alive()) == 1
    assert [each[1] for each in bench.outcomes()] == ["released", "made"]


def test_ctrl_c_while_making_says_what_exists(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(launching, "bring_up", interrupted)
    with pytest.raises(Interrupted, match="styx down c"):
        bench.launch()
    assert bench.client.status()[0].state is ClusterState.INIT
    monkeypatch.undo()
    assert bench.launch().job_id == 1
    assert any("took over" in event.message for event in bench.events)
    assert len(bench.alive()) == 1


def test_sweep_removes_what_an_abandoned_launch_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "bring_up", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted):
        bench.launch()
    seen = bench.client.sweep()
    assert [(each.kind, each.cluster) for each in seen.orphans] == [("node", "c"), ("address", "c")]
    assert bench.alive()
    ended = bench.client.sweep(delete=True)
    assert all(each.deleted for each in ended.orphans)
    assert bench.alive() == []


def test_sweep_never_touches_what_is_not_ours(bench: Bench) -> None:
    foreign = bench.cloud.plant("north-a")
    other = bench.cloud.plant("south-a", name="styx-x-zzzzzz01-0", tags={"styx-store": "zzzzzz"})
    bench.launch()
    assert bench.client.sweep(delete=True).orphans == ()
    ids = {one.id for one in bench.cloud.machines() if one.status(bench.cloud.clock()).value == "active"}
    assert {foreign.id, other.id} <= ids
    for one in (foreign, other):
        bench.cloud.delete_machine("fake-key", one.id)


def test_an_unreadable_place_is_never_called_empty(bench: Bench) -> None:
    bench.launch()
    bench.cloud.refuse("list_machines", "invalid_key", times=None)
    view = bench.client.status(refresh=True)[0]
    assert view.state is ClusterState.UP
    assert "could not be read" in (view.note or "")
    assert bench.client.sweep().unreadable
    with pytest.raises(CredentialsError):
        bench.client.down(["c"])
    assert bench.client.status()[0].state is ClusterState.TERMINATING
    bench.cloud.relent()
    bench.client.down(["c"])
    assert bench.client.status() == []


def test_purge_forgets_and_says_so(bench: Bench) -> None:
    bench.launch()
    bench.cloud.refuse("delete_machine", "internal_weird", times=None)
    told: list[Event] = []
    bench.client.down(["c"], told.append, purge=True)
    assert any("may still exist" in event.message for event in told)
    assert bench.client.status() == []
    bench.cloud.relent()
    assert bench.client.sweep(delete=True).orphans
    assert bench.alive() == []


def test_a_launch_that_fails_late_says_how_to_remove_what_exists(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise Unreachable("no answer", hint="check the firewall")

    monkeypatch.setattr(nodeup, "connect", refuse)
    with pytest.raises(Unreachable) as failed:
        bench.launch()
    assert str(failed.value.hint).startswith("check the firewall; cluster c still exists")
    assert "`styx down c`" in str(failed.value.hint)


def test_a_bug_in_ending_the_work_does_not_keep_machines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from styx.provision import follow

    def broken(*_: Any) -> Any:
        raise ValueError("no JSON")

    bench.launch()
    monkeypatch.setattr(follow, "_keep_logs", broken)
    bench.client.down(["c"])
    assert bench.alive() == []


def test_a_failing_down_names_each_cluster_and_what_is_still_there(bench: Bench) -> None:
    bench.launch("c")
    bench.launch("d")
    bench.cloud.refuse("delete_machine", "internal_weird", times=None)
    with pytest.raises(StyxError) as failed:
        bench.client.down(["c", "d"])
    lines = sorted(failed.value.message.splitlines())
    assert [line[:3] for line in lines] == ["c: ", "d: "]
    for line, one in zip(lines, bench.client.status(), strict=True):
        assert "still there: " in line
        assert "still there: " in (one.note or "")
    assert str(failed.value) == failed.value.message
    bench.cloud.relent()
    assert sorted(bench.client.down(["c", "d"])) == ["c", "d"]


def test_preemption_is_seen_and_a_relaunch_replaces_it(bench: Bench) -> None:
    bench.launch()
    bench.cloud.preempt(bench.cloud.machines()[0].id)
    view = bench.client.status(refresh=True)[0]
    assert view.state is ClusterState.LOST
    assert "preempted" in (view.note or "")
    assert bench.client.wait("c", 1).state in ("FAILED", "FAILED_DRIVER")
    again = bench.launch()
    assert (again.job_id, len(bench.alive())) == (1, 1)


def test_a_loss_that_nobody_saw_yet(bench: Bench) -> None:
    bench.launch()
    bench.cloud.preempt(bench.cloud.machines()[0].id)
    with pytest.raises(WrongState, match="preempted"):
        bench.client.exec(bench.task(), "c")
    bench.launch()
    bench.cloud.preempt(next(one.id for one in bench.cloud.machines() if one.name in bench.alive()))
    assert (bench.launch().job_id, len(bench.alive())) == (1, 1)


def test_reuse_needs_a_fit(bench: Bench) -> None:
    bench.launch()
    with pytest.raises(WrongState, match="16"):
        bench.launch(task=bench.task(resources={"infra": "fake", "cpus": "16+"}))
    with pytest.raises(WrongState, match="2 nodes"):
        bench.launch(task=bench.task(num_nodes=2))
    assert bench.launch().job_id == 2
    assert len(bench.alive()) == 1


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"accelerators": "H100:8"}, "needs 8 x H100; the cluster has no accelerator"),
        ({"infra": "local"}, "needs cloud local; the cluster has cloud fake"),
        ({"cpus": "512+"}, "needs 512 vCPUs; the cluster has 2 vCPUs"),
    ],
)
def test_exec_refuses_what_the_cluster_is_not(bench: Bench, asked: dict[str, Any], says: str) -> None:
    bench.launch()
    with pytest.raises(WrongState, match=f"cluster c does not fit: {says}") as caught:
        bench.client.exec(bench.task(resources=asked), "c")
    assert "styx launch" in str(caught.value.hint)
    assert bench.client.exec(bench.task(resources={"cpus": "1+"}), "c").job_id == 2
    with pytest.raises(NotFound) as missing, bench.client.forward("c", [], node=3):
        pass
    assert missing.value.hint == "its only node is node 0"


def test_stop_start_and_exec(bench: Bench) -> None:
    bench.launch(task=bench.task("echo kept > ~/file"))
    bench.client.wait("c", 1)
    bench.client.stop(["c"])
    assert bench.client.status()[0].state is ClusterState.STOPPED
    with pytest.raises(WrongState, match="STOPPED"):
        bench.client.exec(bench.task(), "c")
    bench.client.start(["c"])
    job = bench.client.exec(bench.task("cat ~/file"), "c").job_id
    assert b"".join(line.data for line in bench.client.tail("c", job)) == b"kept\n"
    rates = bench.client.world.store.rates()
    assert len(rates) == 2
    assert rates[0].end is not None
    assert rates[1].start >= rates[0].end  # not charged again for the time before the stop

    (machine,) = bench.cloud.machines()
    bench.cloud.end_from_within(machine.id, "stop")  # as its lease does, of which this client knows nothing yet
    bench.client.start(["c"])
    assert bench.client.status(refresh=True)[0].state is ClusterState.UP


def test_refusals_before_anything_is_made(bench: Bench) -> None:
    with pytest.raises(NotExecutable, match="service"):
        bench.launch(task=bench.task(service={"readiness_probe": "/", "replicas": 1}))
    with pytest.raises(NoPlaceLeft, match="fake/nowhere"):
        bench.launch(task=bench.task(resources={"infra": "fake/nowhere"}))
    with pytest.raises(NotFound):
        bench.client.exec(bench.task(), "nosuch")
    assert bench.cloud.machines() == []
    assert bench.client.status() == []


def test_places_carry_the_account(bench: Bench) -> None:
    place = bench.launch().place
    assert place == Place(cloud="fake", account="acct-1", region="north", zone="north-a")
