"""Leases on hosts: who is busy, who is away, what is told, and what is cleaned up. Hosts are folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from styx.driver import Node, NodeRequest, NodeState, OfferQuery, SshFailed
from styx.errors import CapacityError, CredentialsError, DriverError, TransientError
from styx.testing.conformance.harness import cluster_key, order
from styx.testing.contexts import OTHER_STORE, STORE, make_context
from styx.testing.folders import FolderDoor
from styx.testing.processes import kill_marked, marked
from styx.transport.agentfile import agent_file
from styx.transport.ssh import scripts as core_scripts
from styx_ssh import SshConfig, SshPools, scripts
from styx_ssh.scripts import parse
from styx_ssh.shapes import nominal_gib

HOSTS = ("one", "two", "gpu")


@pytest.fixture
def door(tmp_path: Path) -> FolderDoor:
    door = FolderDoor(tmp_path / "hosts")
    for host in HOSTS:
        (door.add(host) / "lease").mkdir()
        door.program(host, "nproc", "echo 8")
        door.program(host, "hostname", "echo 10.0.0.9")
    door.program("gpu", "nvidia-smi", "echo 'NVIDIA H100 80GB HBM3, 81559'; echo 'NVIDIA H100 80GB HBM3, 81559'")
    return door


def driver(door: FolderDoor, store: str = STORE, pools: object = None) -> SshPools:
    home = door.root.parent / store
    home.mkdir(exist_ok=True)
    if pools is not None or not (home / "ssh_node_pools.yaml").exists():
        pools = pools or {"lab": {"user": "me", "hosts": list(HOSTS)}}
        (home / "ssh_node_pools.yaml").write_text(json.dumps(pools))
    return SshPools(make_context(home, store=store, config=SshConfig(lease_folder="lease"), ssh=door))


def request(ours: SshPools, count: int = 1, slug: str = "job", accelerator: str | None = None) -> NodeRequest:
    row = next(row for row in ours.fetch() if row.accelerator_name == accelerator)
    place = next(place for place in ours.check().places if place.region == row.region)
    return order(ours, row, place, count, slug=slug)


def test_shapes_are_rows(door: FolderDoor) -> None:
    plain, gpu = driver(door).fetch()
    assert (plain.region, plain.vcpus, plain.accelerator_name, plain.usd_per_hour) == ("lab", 8, None, 0)
    assert (gpu.accelerator_name, gpu.accelerator_count, gpu.accelerator_memory_gib) == ("H100", 2, 80)
    assert gpu.instance_type.endswith("-2xH100")


def test_a_price_is_part_of_the_shape(door: FolderDoor) -> None:
    ours = driver(door, pools={"lab": {"user": "me", "hosts": ["one", {"ip": "two", "usd_per_hour": 0.5}]}})
    assert [row.usd_per_hour for row in ours.fetch()] == [0, 0.5]
    row = list(ours.fetch())[1]
    node = next(iter(ours.create(order(ours, row, next(iter(ours.check().places))))))
    assert (node.id, node.usd_per_hour) == ("lab/two", 0.5)


def test_busy_hosts_are_refused_by_the_holders_name(door: FolderDoor) -> None:
    ours, theirs = driver(door), driver(door, OTHER_STORE)
    theirs.create(request(theirs, 2, "theirs"))
    with pytest.raises(CapacityError) as caught:
        ours.create(request(ours, 1))
    for word in ("lab/one is held by tester for styx-theirs-", "since 20", "UTC", "lab/two"):
        assert word in caught.value.message
    assert "gpu" not in caught.value.message  # another shape
    assert not caught.value.created
    notes = ours.check().notes
    assert len(notes) == 2
    assert "remove lease/styx.lease there" in notes[0]


def test_quotes_are_of_free_hosts_unless_none_is(door: FolderDoor) -> None:
    ours = driver(door)
    assert len(ours.offers(OfferQuery(), 10)) == 2
    ours.create(request(ours, 1, "gpu", "H100"))
    assert [row.accelerator_name for row in ours.offers(OfferQuery(), 10)] == [None]
    assert [row.accelerator_name for row in ours.offers(OfferQuery(accelerator_name="H100"), 10)] == ["H100"]
    assert not ours.offers(OfferQuery(region="elsewhere"), 10)


def test_hosts_that_do_not_answer_are_told_one_by_one(door: FolderDoor) -> None:
    door.down = {"one"}
    ours = driver(door)
    identity = ours.check()
    assert list(identity.places.values()) == [None]
    assert identity.notes == ["lab/one: one did not answer"]
    door.down = set(HOSTS)
    problem = next(iter(ours.check().places.values()))
    assert isinstance(problem, DriverError)
    assert all(f"lab/{host}: {host} did not answer" in problem.message for host in HOSTS)
    with pytest.raises(DriverError, match="did not answer"):
        ours.fetch()


def test_refused_logins_are_a_matter_of_credentials(door: FolderDoor) -> None:
    def refuse(host: str, argv: Sequence[str]) -> None:
        raise SshFailed(f"{host} refuses the key", "auth", hint="add it")

    door.before = refuse
    with pytest.raises(CredentialsError, match="refuses the key"):
        driver(door).check()


def test_a_host_that_lacks_python_is_not_leased(door: FolderDoor) -> None:
    for host in ("one", "two"):
        for name in ("python3", "python"):
            door.program(host, name, "exit 1")
    ours = driver(door)
    looks = ours.check()
    if any("no Python" in note for note in looks.notes):  # unless /usr/bin has one
        assert [row.accelerator_name for row in ours.fetch()] == ["H100"]


def test_one_hung_host_does_not_keep_the_others(door: FolderDoor) -> None:
    ours, asked, released = driver(door), [], threading.Event()
    wanted = request(ours)

    def hang(host: str, _: Sequence[str]) -> None:
        if host == "one":
            asked.append(host)
            released.wait(60)

    door.before = hang
    plain = [row for row in ours.offers(OfferQuery(region="lab"), 2.0) if row.accelerator_name is None]
    assert len(plain) == 1
    (node,) = ours.create(wanted)
    assert (node.id, asked) == ("lab/two", ["one"])  # it is not asked again so soon
    door.down = {"two", "gpu"}
    with pytest.raises(DriverError, match=r"lab/one: no answer within 0\.8 s"):
        driver(door).offers(OfferQuery(region="lab"), 1.0)
    released.set()


def test_a_leased_host_that_is_away_is_unreachable_and_not_forgotten(door: FolderDoor) -> None:
    ours = driver(door)
    wanted = request(ours, 2)
    ours.create(wanted)
    door.down = {"one"}
    seen = {node.id: node.state for node in driver(door).nodes(wanted.place, None)}
    assert seen == {"lab/one": NodeState.UNREACHABLE, "lab/two": NodeState.RUNNING}
    nodes = ours.nodes(wanted.place, wanted.cluster)
    door.down = {"one", "two"}
    with pytest.raises(DriverError, match="lab/one: one did not answer; lab/two: two did not answer") as caught:
        ours.terminate(nodes)
    assert "--purge" in (caught.value.hint or "")
    door.down = set()
    ours.terminate(nodes)
    assert not ours.nodes(wanted.place, None)


def test_a_host_taken_out_of_the_file_is_still_listed(door: FolderDoor) -> None:
    ours = driver(door)
    wanted = request(ours)
    ours.create(wanted)
    later = driver(door, pools={"lab": {"user": "me", "hosts": ["gpu"]}})
    nodes = later.nodes(wanted.place, wanted.cluster)
    assert [node.id for node in nodes] == ["lab/one"]
    later.terminate(nodes)
    assert not later.nodes(wanted.place, None)


def test_a_lost_reply_from_a_host_that_stays_away_names_it(door: FolderDoor) -> None:
    ours = driver(door)
    wanted = request(ours)

    def lose(host: str, argv: Sequence[str]) -> None:
        if "styx.new" in argv[2]:
            door.down = {host}
            raise SshFailed("the connection was lost", "lost")

    door.after = lose
    with pytest.raises(TransientError):
        ours.create(wanted)
    with pytest.raises(DriverError, match="no longer answers") as caught:
        ours.create(wanted)
    assert [(node.id, node.state) for node in caught.value.created] == [("lab/one", NodeState.UNREACHABLE)]


def test_one_machine_under_two_names_is_leased_once(door: FolderDoor) -> None:
    (door.root / "alias").symlink_to(door.root / "one")
    ours = driver(door, pools={"lab": {"user": "me", "hosts": ["one", "alias"]}})
    wanted = request(ours)
    ours.create(wanted)
    assert [node.id for node in ours.nodes(wanted.place, None)] == ["lab/one"]
    with pytest.raises(CapacityError):
        ours.create(request(ours, slug="second"))


def test_a_lease_that_is_no_lease_is_left_alone(door: FolderDoor) -> None:
    (door.root / "one" / "lease" / "styx.lease").mkdir()
    (door.root / "two" / "lease" / "styx.lease").symlink_to("/nonexistent")
    os.mkfifo(door.root / "gpu" / "lease" / "styx.lease")  # nobody waits for what is never written into it
    ours = driver(door)
    with pytest.raises(CapacityError, match="cannot be read"):
        ours.create(request(ours))
    node = Node.model_validate(
        {"id": "lab/gpu", "cluster": cluster_key("job", STORE), "rank": 0, "state": "running", "token": "0" * 32,
         "place": next(iter(ours.check().places)), "reach": {"kind": "ssh", "host": "gpu", "user": "me"}}
    )  # fmt: skip
    ours.terminate([node])
    assert ours.nodes(node.place, node.cluster) == []


def agent(door: FolderDoor, node: Node, *verb: str) -> subprocess.CompletedProcess[str]:
    """Put the agent where the transport puts it, and run a verb of it as that login."""
    home = door.root / node.id.rpartition("/")[2]
    state = home / ".styx-agent" / node.cluster / str(node.rank)
    state.mkdir(parents=True, exist_ok=True)
    file = agent_file(door.root.parent / "cache")
    (state / file.name).write_bytes(file.read())
    argv = [sys.executable, "-I", "-S", str(state / file.name), *verb, "--state", str(state)]
    if verb == ("start",):
        argv += ["--home", str(home), "--key", node.cluster, "--rank", str(node.rank)]
    env = {"HOME": str(home), "PATH": os.defpath, "STYX_SOCKET_DIR": str(door.root.parent / "s")}
    return subprocess.run(argv, capture_output=True, text=True, env=env, check=True, timeout=60)


@pytest.fixture
def no_agents_left() -> Iterator[None]:
    yield
    for slug in ("job", "keep"):
        kill_marked("STYX_NODE", f"{cluster_key(slug, STORE)}/0")


@pytest.mark.usefixtures("no_agents_left")
def test_giving_back_ends_the_agent_and_removes_what_is_ours(door: FolderDoor) -> None:
    ours = driver(door)
    node = next(iter(ours.create(request(ours))))
    home = door.root / "one"
    agent(door, node, "start")
    (home / "sky_workdir").mkdir()
    (home / "theirs").write_text("")
    mark = ("STYX_NODE", f"{node.cluster}/0")
    assert len(marked(*mark)) == 2  # agent and supervisor
    ours.terminate([node])
    assert not marked(*mark)
    left = sorted(path.name for path in home.iterdir())
    assert left == [".ssh", "bin", "lease", "theirs"]
    assert not list((home / "lease").iterdir())


def test_a_workdir_that_was_there_before_stays(door: FolderDoor) -> None:
    ours = driver(door)
    (door.root / "one" / "sky_workdir").mkdir()
    node = next(iter(ours.create(request(ours))))
    ours.terminate([node])
    assert (door.root / "one" / "sky_workdir").is_dir()


def test_terminate_never_touches_a_lease_of_somebody_else(door: FolderDoor) -> None:
    ours, theirs = driver(door), driver(door, OTHER_STORE)
    node = next(iter(ours.create(request(ours))))
    ours.terminate([node])
    his = next(iter(theirs.create(request(theirs))))
    assert his.id == node.id
    ours.terminate([node])
    assert [each.id for each in theirs.nodes(his.place, None)] == [his.id]


@pytest.mark.parametrize("field", ["cluster", "token", "store"])
def test_a_lease_with_a_path_in_it_is_nobodys(door: FolderDoor, field: str) -> None:
    """Any user of the host may have written it, with our installation's id."""
    ours = driver(door)
    (node,) = ours.create(request(ours))
    path = door.root / node.id.partition("/")[2] / "lease" / "styx.lease"
    lease = json.loads(path.read_text())
    path.write_text(json.dumps({**lease, field: "../../../../tmp/x"}, separators=(",", ":")))
    assert [one.state for one in ours.nodes(node.place, None) if one.cluster != node.cluster] == []
    assert "cannot be read" in "".join(ours.check().notes)


def test_a_note_beside_it_does_not_end_a_living_lease(door: FolderDoor) -> None:
    ours = driver(door)
    (node,) = ours.create(request(ours))
    lease = door.root / node.id.partition("/")[2] / "lease" / "styx.lease"
    lease.with_name(f"styx.ended.{node.cluster}-0").write_text(lease.read_text())
    assert [one.state for one in ours.nodes(node.place, node.cluster)] == [NodeState.RUNNING]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make what another user has made")
def test_what_another_user_has_put_beside_an_agent_is_not_run(door: FolderDoor, tmp_path: Path) -> None:
    ours = driver(door)
    (node,) = ours.create(request(ours))
    host = node.id.partition("/")[2]
    uid = 4_000_000_000 + os.getpid()
    base = Path(f"/var/tmp/styx-agent-{uid}")
    state = base / node.cluster / "0"
    state.mkdir(parents=True)
    try:
        (state / "agent-x.pyz").write_text(f"open({str(tmp_path / 'caught')!r}, 'w')\n")
        os.chown(base, 1, 1)
        door.program(host, "id", f"echo {uid}")
        (door.root / host / "sky_workdir").mkdir()
        lease = door.root / host / "lease" / "styx.lease"
        os.chown(lease, 1, 1)
        ours.terminate([node.model_copy(update={"data": {"keep_workdir": False}})])
        assert not (tmp_path / "caught").exists()
        assert state.exists()
        assert (door.root / host / "sky_workdir").exists()
    finally:
        shutil.rmtree(base)


def test_a_node_that_ends_itself_frees_the_host_and_says_so(door: FolderDoor) -> None:
    ours = driver(door)
    node = next(iter(ours.create(request(ours))))
    home = door.root / "one"
    (home / ".styx-agent" / node.cluster / "0").mkdir(parents=True)
    (home / "sky_workdir").mkdir()
    action = ours.self_action(node, "down")
    assert action.stops_billing
    script = 'trap "exit 0" TERM; "$@"; echo done; while :; do sleep 0.1; done'
    env = {"HOME": str(home), "PATH": os.defpath}
    agent = subprocess.Popen(["sh", "-c", script, "sh", *action.argv], cwd=home, env=env, stdout=subprocess.PIPE)
    assert agent.stdout is not None
    assert agent.stdout.readline() == b"done\n"
    assert [each.state for each in ours.nodes(node.place, node.cluster)] == [NodeState.RUNNING]  # its agent lives
    agent.send_signal(signal.SIGTERM)
    agent.wait(timeout=30)
    deadline = time.monotonic() + 30
    while ours.nodes(node.place, node.cluster)[0].state is NodeState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.05)
    ended = ours.nodes(node.place, node.cluster)
    assert [(each.state, each.ended.cause if each.ended else None) for each in ended] == [
        (NodeState.TERMINATED, "requested")
    ]
    assert not (home / ".styx-agent").exists()
    assert not (home / "sky_workdir").exists()
    again = next(iter(driver(door, OTHER_STORE).create(request(driver(door, OTHER_STORE)))))
    assert again.id == "lab/one"
    ours.release(node.place, node.cluster)
    assert not ours.nodes(node.place, node.cluster)


@pytest.mark.parametrize(
    ("seen", "sold"), [(0.94, 0.94), (3.8, 4), (7.7, 8), (15.6, 16), (31.3, 32), (31.6, 32), (251.5, 256), (503.3, 512)]
)
def test_memory_is_what_was_sold(seen: float, sold: float) -> None:
    assert nominal_gib(seen) == sold


def test_answers_are_found_among_greetings() -> None:
    answer = parse(b"Welcome!\nlease=no\n<<styx-ssh\nlease={}\ngpu=a\ngpu=b\nstyx-ssh>>\nbye\n")
    assert answer is not None
    assert answer.lines == (("lease", "{}"), ("gpu", "a"), ("gpu", "b"))
    assert parse(b"<<styx-ssh\nlease={}\n") is None
    assert parse(b"Permission denied") is None


def test_a_python_that_can_start_an_agent_counts_and_ends_it_too() -> None:
    found = re.search(r"for c in (.*?); do", core_scripts.PROBE)
    assert found is not None
    names = found[1].replace('"$s"', '"$HOME"/.styx-agent').split()
    assert "/opt/*/bin/python3" in names
    for script in (scripts.DETECT, scripts.GIVE_BACK, scripts.END_ITSELF):
        listed = re.search(r"for python in (.*?); do", script)
        assert listed is not None
        assert set(listed[1].split()) == set(names)
