"""FakeCloud as other tests lean on it: one file for many processes, real homes, processes that die with a machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from styx.driver import Local, NodeState, OfferQuery, capabilities
from styx.errors import CapacityError, CredentialsError
from styx.testing.clock import ManualClock
from styx.testing.conformance.harness import order
from styx.testing.contexts import make_context
from styx.testing.fakecloud import ApiError, FakeCloud, FakeConfig, FakeDriver, Status, World
from styx.testing.fakecloud.cloud import MARKER
from styx.testing.processes import kill_marked, marked

KEY = "fake-key"


def driver(home, **settings):
    return FakeDriver(make_context(home, config=FakeConfig(**settings), secrets={"FAKE_API_KEY": KEY}))


def request(of, count=1):
    return order(of, next(iter(of.fetch())), next(iter(of.check().places)), count)


def child(code, *argv):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, argv)])


def alive(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


CREATE = """
import sys, pathlib
from styx.testing.fakecloud import FakeCloud
cloud = FakeCloud(path=pathlib.Path(sys.argv[1]))
for number in range(10):
    cloud.create_machine("fake-key", zone="north-a", type="small", name=f"{sys.argv[2]}-{number}", tags={})
"""


def test_processes_share_one_cloud(tmp_path):
    path = tmp_path / "books.json"
    children = [child(CREATE, path, name) for name in "abc"]
    assert [each.wait(timeout=60) for each in children] == [0, 0, 0]
    cloud = FakeCloud(path=path)
    assert len({one.id for one in cloud.machines()}) == 30
    assert {one.name for one in cloud.machines()} == {f"{name}-{number}" for name in "abc" for number in range(10)}


def test_books_survive_a_killed_client(tmp_path):
    """Whatever the moment of death, the file is whole and its lock is free."""
    path = tmp_path / "books.json"
    cloud = FakeCloud(World(machines_per_region=10**6), path=path)
    cloud.plant("north-a")
    for pause_s in (0.0, 0.013, 0.031):
        before = len(cloud.machines())
        victim = child(CREATE.replace("range(10)", "range(10**6)"), path, "x")
        deadline = time.monotonic() + 60
        while len(cloud.machines()) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(pause_s)
        victim.kill()
        victim.wait(timeout=10)
        assert len(cloud.machines()) > before
        json.loads(path.read_text())


def test_the_file_decides_over_the_world_given(tmp_path):
    path = tmp_path / "books.json"
    FakeCloud(World(page_size=2), path=path).machines()
    first = FakeCloud(World(page_size=2), path=path)
    first.plant("north-a")
    assert FakeCloud(World(page_size=99), path=path).world.page_size == 2


def test_scripted_failures_reach_other_clients(tmp_path):
    path = tmp_path / "books.json"
    FakeCloud(path=path).refuse("create_machine", "out_of_stock", times=None, zone="north-a")
    client = driver(tmp_path, state_path=str(path))
    with pytest.raises(CapacityError):
        client.create(request(client))
    FakeCloud(path=path).relent()
    assert len(client.create(request(client))) == 1


def test_driver_needs_only_a_home_and_a_key(tmp_path):
    client = driver(tmp_path)
    client.create(request(client))
    assert len(FakeCloud(path=tmp_path / "fakecloud" / "books.json").machines()) == 1
    assert len(capabilities(FakeDriver)) == 9
    assert client.offers(OfferQuery(accelerator_name="H100"), 5)
    with pytest.raises(CredentialsError, match="no API key"):
        FakeDriver(make_context(tmp_path, config=FakeConfig())).check()


FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
tree = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)]
tree.append(subprocess.Popen(["sleep", "300"], env={}))
print(*[one.pid for one in tree], flush=True)
time.sleep(300)
"""


def start_family(node):
    """A process on a node that ignores SIGTERM, with a child in its own session and one without an environment."""
    env = {**os.environ, **node.reach.env}
    leader = subprocess.Popen([sys.executable, "-c", FAMILY], env=env, stdout=subprocess.PIPE, text=True)
    return leader, [leader.pid, *map(int, leader.stdout.readline().split())]


@pytest.fixture
def real(tmp_path):
    client = driver(tmp_path, real_nodes=True)
    yield client
    client.terminate(client.nodes(next(iter(client.check().places)), None))


def test_real_nodes_die_with_their_machine(real):
    [node, other] = real.create(request(real, 2))
    assert isinstance(node.reach, Local)
    assert os.path.isdir(node.reach.home)
    assert os.path.isdir(node.reach.state)
    assert node.reach.env["STYX_HOME"] == str(real.context.home)
    leader, family = start_family(node)
    survivor, others = start_family(other)
    assert set(family) <= marked(MARKER, node.reach.env[MARKER])
    real.terminate([node])
    leader.wait(timeout=10)
    assert not any(alive(pid) for pid in family)
    assert not os.path.exists(node.reach.home)
    assert all(alive(pid) for pid in others)
    real.terminate([other])
    survivor.wait(timeout=10)
    assert not any(alive(pid) for pid in others)


def test_stop_keeps_files_and_preemption_does_not(real):
    [node] = real.create(request(real))
    Path(node.reach.home, "file").write_text("kept")
    leader, family = start_family(node)
    real.stop([node])
    leader.wait(timeout=10)
    assert not any(alive(pid) for pid in family)
    [started] = real.start([node])
    assert started.id != node.id
    assert Path(started.reach.home, "file").read_text() == "kept"
    probe = list(real.notice_probe(started))
    assert subprocess.run(probe).returncode != 0
    real._cloud.warn(started.id)
    assert subprocess.run(probe).returncode == 0
    real._cloud.preempt(started.id)
    [gone] = real.nodes(node.place, node.cluster)
    assert gone.state is NodeState.TERMINATED
    assert gone.ended.cause == "preempted"
    assert not os.path.exists(started.reach.home)


def test_a_node_ends_itself(real):
    """The command works without credentials, from a process of the node itself."""
    [node] = real.create(request(real))
    end = real.self_action(node, "down")
    assert end.stops_billing
    leader, family = start_family(node)
    done = subprocess.run(end.argv, env={**os.environ, **node.reach.env}, timeout=60)
    leader.wait(timeout=10)
    assert done.returncode == 0
    assert not any(alive(pid) for pid in family)
    assert real.nodes(node.place, node.cluster) == []


def test_time_is_the_clocks():
    clock = ManualClock()
    cloud = FakeCloud(World(boot_s=30, listing_lag_s=5, terminate_s=10), clock=clock)
    machine = cloud.create_machine(KEY, zone="north-a", type="small", name="a", tags={})
    assert machine.status(clock()) is Status.BOOTING
    assert cloud.list_machines(KEY, region="north").machines == []
    clock.advance(30)
    assert [one.status(clock()) for one in cloud.list_machines(KEY, region="north").machines] == [Status.ACTIVE]
    cloud.delete_machine(KEY, machine.id)
    assert [one.status(clock()) for one in cloud.list_machines(KEY, region="north").machines] == [Status.DELETING]
    clock.advance(10)
    assert cloud.list_machines(KEY, region="north").machines == []
    with pytest.raises(ApiError, match="not_found"):
        cloud.get_machine(KEY, machine.id)
    with pytest.raises(ValueError, match="forwards"):
        clock.advance(-1)


def test_kill_marked_spares_the_caller(monkeypatch):
    sleeper = subprocess.Popen(["sleep", "300"], env={"STYX_TEST_MARK": "x1"})
    try:
        assert sleeper.pid in marked("STYX_TEST_MARK", "x1")
        assert not marked("STYX_TEST_MARK", "x")
        assert kill_marked("STYX_TEST_MARK", "x1")
        assert sleeper.wait(timeout=10) == -9
    finally:
        sleeper.kill()
