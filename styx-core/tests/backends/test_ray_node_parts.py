"""The parts of the node's side that need no Ray, against the real system."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.backends.ray.bundle import bundle
from styx.backends.ray.formation import Report, all_up, node_spec, split, stays
from styx.backends.ray.node import _last_line
from styx.backends.ray.onnode import keeper, launch, ports, processes
from styx.backends.ray.onnode.driver import params_of, phases_of
from styx.backends.ray.onnode.gang import Ask
from styx.backends.ray.onnode.layout import Layout, NodeFailure, private_folder, read_json, spec_digest, write_json


@pytest.fixture
def short(tmp_path, monkeypatch):
    folder = tmp_path / "short"
    monkeypatch.setenv("STYX_SOCKET_DIR", str(folder))
    return folder


# ------------------------------------------------------------------------------------------------------------- ports


@given(claimed=st.lists(st.integers(ports.FIRST, ports.LAST)), first=st.integers(0, 70000))
def test_candidates_are_every_unclaimed_block_within_the_range(claimed, first):
    order = ports.candidates(claimed, first)
    assert len(order) == len(set(order))
    assert set(order).isdisjoint(claimed)
    assert all(base in range(ports.FIRST, ports.LAST - ports.SIZE + 1) for base in order)
    assert len(order) >= 187 - len(set(claimed))


@given(st.integers(0, 60000))
def test_the_ports_of_a_block_are_all_different_and_within_it(base):
    block = ports.block(base)
    named = [block[name] for name in ports.NAMES]
    workers = range(block["worker_min"], block["worker_max"] + 1)
    assert sorted([*named, *workers]) == list(range(base, base + ports.SIZE))
    assert len(workers) == ports.WORKERS >= 50


def reserve(root):
    layout = Layout(root)
    Path(root).mkdir(parents=True, exist_ok=True)
    return ports.reserve(layout, "127.0.0.1", "key-1")["base"]


def test_nodes_of_one_host_that_start_at_once_get_different_blocks(tmp_path, short):
    roots = [str(tmp_path / f"node{rank}" / "ray") for rank in range(8)]
    with ProcessPoolExecutor(4) as pool:
        bases = list(pool.map(reserve, roots))
    assert len(set(bases)) == 8
    assert [reserve(root) for root in roots] == bases  # and each keeps its own


def listening(port):
    """Somebody who listens there; connections of an earlier Ray may linger on the port."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", port))
    taken.listen()
    return taken


def test_a_block_with_a_taken_port_is_left(tmp_path, short, monkeypatch):
    monkeypatch.setattr(ports, "OWN_S", 0.5)
    root = str(tmp_path / "ray")
    base = reserve(root)
    with listening(base + 1):
        other = reserve(root)
        assert other != base
    with listening(other + ports.SIZE - 1):
        assert reserve(root) == other  # a node does not move because of a running job
        assert ports.claims()[0].base == other
        shutil.rmtree(root)
        assert reserve(root) != other


def test_a_node_waits_for_its_block_while_what_was_killed_there_ends(tmp_path, short):
    root = str(tmp_path / "ray")
    base = reserve(root)
    taken = listening(base + 1)
    threading.Timer(1.0, taken.close).start()
    assert reserve(root) == base  # the other nodes know the head by its address


def test_what_a_removed_node_left_is_removed_by_the_next_one(tmp_path, short):
    gone = tmp_path / "gone" / "ray"
    reserve(str(gone))
    assert len(list(short.iterdir())) == 1
    shutil.rmtree(gone)
    reserve(str(tmp_path / "ray"))
    assert [claim.root for claim in ports.claims()] == [str(tmp_path / "ray")]


def test_the_last_node_to_go_takes_its_killed_sisters_folders_along(tmp_path, short):
    mine, killed, stranger = (Layout(str(tmp_path / name)) for name in ("mine", "killed", "stranger"))
    for layout, key in ((mine, "key-1"), (killed, "key-1"), (stranger, "key-2")):
        os.makedirs(layout.root)
        ports.reserve(layout, "127.0.0.1", key)
    keeper.remove_temp(mine, "key-1")
    assert [claim.root for claim in ports.claims()] == [stranger.root]
    keeper.remove_temp(stranger, "key-2")
    assert not short.exists()


# ------------------------------------------------------------------------------------------------------------ layout


def test_the_short_folder_is_private_and_a_strangers_is_refused(tmp_path, short):
    layout = Layout(str(tmp_path / "ray"))
    private_folder(layout.temp)
    for folder in (short, Path(layout.temp)):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    os.rmdir(layout.temp)
    os.symlink("/", layout.temp)
    with pytest.raises(NodeFailure, match="not a folder of this user"):
        private_folder(layout.temp)


def test_sockets_fit_into_their_107_bytes():
    layout = Layout("/a/very/long/home/of/somebody/" + "x" * 200)
    session = "session_2026-11-23_23-12-46_333496_4194304"
    assert len(f"{layout.temp}/{session}/sockets/plasma_store.123") <= 107 or "STYX_SOCKET_DIR" in os.environ


def test_a_damaged_file_reads_as_empty_and_a_new_one_is_private(tmp_path):
    path = str(tmp_path / "status.json")
    Path(path).write_text('{"state": "u')
    assert read_json(path) == {}
    write_json(path, {"state": "up"})
    assert read_json(path) == {"state": "up"}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["status.json"]


# --------------------------------------------------------------------------------------------------------- processes


@pytest.fixture
def sleeper():
    with subprocess.Popen(
        [sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '300'])"],
        env={"STYX_RAY": "some-key/0"},
        start_new_session=True,
    ) as child:
        give_up = time.monotonic() + 20
        while not psutil.Process(child.pid).children():
            assert time.monotonic() < give_up
            time.sleep(0.02)
        yield child
        for one in [*psutil.Process(child.pid).children(), child] if child.poll() is None else []:
            one.kill()


def test_a_process_is_known_by_its_birth(sleeper):
    pid, born = processes.identity(sleeper.pid)
    assert processes.alive(pid, born)
    assert not processes.alive(pid, "1")
    assert not processes.alive(pid, None)
    (child,) = psutil.Process(pid).children()
    assert set(processes.marked("STYX_RAY", "some-key/0")) == {pid, child.pid}
    assert processes.marked("STYX_RAY", "some-key/1") == []
    assert set(processes.in_session(pid, born)) == {pid, child.pid}
    assert processes.in_session(pid, "1") == []
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert not processes.alive(pid, born)
    assert processes.in_session(pid, born) == [child.pid]  # the session outlives its leader
    assert processes.end(lambda: processes.in_session(pid, born)) == []
    psutil.wait_procs([child], timeout=10)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_does_not_die_is_reported():
    left = processes.end(lambda: [2**22 + 1], deadline_s=0.1)
    assert left == [2**22 + 1]


def test_leftovers_of_an_earlier_life_are_ended(tmp_path, short, sleeper):
    layout = Layout(str(tmp_path / "ray"))
    os.makedirs(layout.root)
    stranger = processes.identity(os.getppid())
    write_json(layout.status, {"keeper": list(processes.identity(sleeper.pid)), "processes": [[stranger[0], "1"]]})
    assert keeper.remove_leftovers(layout, {"key": "some-key", "rank": 0}) == []
    assert sleeper.wait(10) == -signal.SIGKILL
    assert processes.alive(*stranger)


def test_short_lives_are_followed_by_longer_pauses():
    pauses = [keeper.backoff_s(failures) for failures in range(12)]
    assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30.0


# --------------------------------------------------------------------------------------- what Ray is started with


def node(rank=1, **changes):
    fields = {"rank": rank, "ip": "127.0.0.1", "cpus": 0.5, "gpus": 0.0, "env": {"STYX_HOME": "/h"}, **changes}
    return SimpleNamespace(transport=SimpleNamespace(home="/h/node"), **fields)


def spec_of(one, **changes):
    fields = {"cluster": "c1", "head": "127.0.0.1:20000", "python": "/py", "version": "2.60.0", **changes}
    return node_spec("key-1", one, **fields)


def test_a_worker_joins_and_a_head_opens():
    block = ports.block(20000)
    worker = launch.arguments(spec_of(node(2, cpus=1.5, gpus=0.5)), block, "/tmp/t")
    assert "--address=127.0.0.1:20000" in worker
    assert "--head" not in worker
    assert {"--num-cpus=2", "--num-gpus=1", '--resources={"styx_rank_2": 1}'} <= set(worker)
    head = launch.arguments(spec_of(node(0), head=None), block, "/tmp/t")
    assert {"--head", "--port=20000", "--num-cpus=1", "--include-dashboard=false"} <= set(head)
    assert len({word for word in head if "-port=" in word}) == 9
    for arguments in (worker, head):
        assert "--node-ip-address=127.0.0.1" in arguments


def test_the_keepers_environment_is_built_not_inherited(tmp_path):
    layout = Layout(str(tmp_path / "ray"))
    inherited = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "RAY_ADDRESS": "elsewhere:1", "VIRTUAL_ENV": "/v"}
    env = keeper.keeper_environment(layout, spec_of(node(1)), inherited)
    assert {"AWS_SECRET_ACCESS_KEY", "RAY_ADDRESS", "VIRTUAL_ENV"}.isdisjoint(env)
    assert (env["HOME"], env["STYX_HOME"], env["STYX_NODE"], env["STYX_RAY"]) == ("/h/node", "/h", "key-1/1", "key-1/1")
    assert env["RAY_AUTH_MODE"] == "token"
    assert env["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "0"  # or nothing works below `uv run`
    assert "token" not in {name for name, value in env.items() if len(value) == 64}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"cpus": 1.0}, False),
        ({"gpus": 1.0}, False),
        ({"env": {}}, False),
        ({"ip": "10.0.0.7"}, False),
    ],
)
def test_a_running_ray_stays_only_for_the_same_node(changed, same):
    report = Report("up", spec_digest(spec_of(node())))
    assert stays(report, spec_of(node(**changed))) is same


def test_a_running_ray_stays_only_for_the_same_cluster_and_ray():
    report = Report("up", spec_digest(spec_of(node())))
    for change in ({"cluster": "c2"}, {"head": "127.0.0.1:1"}, {"python": "/other"}, {"version": "2.61.0"}):
        assert not stays(report, spec_of(node(), **change))
    assert stays(Report("starting", report.digest), spec_of(node()))
    assert not stays(Report("failed", report.digest), spec_of(node()))
    assert not stays(Report("absent"), spec_of(node()))
    assert all_up([report], [spec_of(node())])
    assert not all_up([Report("starting", report.digest)], [spec_of(node())])


def test_an_address_that_is_not_loopback_is_known():
    assert spec_of(node())["loopback"] is True
    assert spec_of(node(ip="10.1.2.3"))["loopback"] is False


# ------------------------------------------------------------------------------------------------- what agents are told


def test_a_rank_gets_its_script_and_what_all_share():
    job = {
        "job_id": 7,
        "setup": "make",
        "run": "./go",
        "env": {"A": "1"},
        "secret_env": {"S": "2"},
        "num_nodes": 2,
        "task_id": "t",
        "user": "u",
        "workdir": "w",
        "cpus": 1.0,
        "driver": {"argv": []},
        "token": "x",
    }
    assert phases_of(job) == ("setup", "run")
    assert phases_of({"run": None, "setup": ""}) == ()
    said = params_of(job, Ask(1, 1, "start", "setup"))
    assert said["script"] == "make"
    assert said["abandon_s"] > 60
    assert {"driver", "token", "run"}.isdisjoint(said)
    assert params_of(job, Ask(2, 1, "wait", "run")) == {"job_id": 7, "phase": "run", "wait_s": 2.0}
    assert params_of(job, Ask(3, 1, "cancel", "run"))["job_id"] == 7


# ---------------------------------------------------------------------------------------------------------- the zipapp


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / bundle().name
    path.write_bytes(bundle().build())
    return str(path)


def verb(program, name, root, **options):
    argv = [sys.executable, "-I", "-S", program, name, "--root", str(root)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, **options)


def test_the_zipapp_is_named_after_what_it_holds(program):
    assert bundle() == bundle()
    assert bundle().build() == Path(program).read_bytes()
    assert bundle().name.startswith("styx-ray-")


def test_a_node_without_ray_reports_so_and_has_nothing_to_take_down(program, tmp_path):
    seen = verb(program, "status", tmp_path / "ray")
    assert json.loads(seen.stdout)["state"] == "absent"
    down = verb(program, "down", tmp_path / "ray")
    assert json.loads(down.stdout) == {"survivors": []}
    assert down.stdout.startswith("\n")  # on a line of its own, whatever a login's shell has printed before


def test_a_dead_keeper_is_seen_through(program, tmp_path):
    layout = Layout(str(tmp_path / "ray"))
    os.makedirs(layout.root)
    mine = list(processes.identity(os.getpid()))
    for status, expected in (
        ({"state": "up", "keeper": [os.getpid(), "1"], "processes": []}, "absent"),
        ({"state": "up", "keeper": mine, "processes": [[os.getpid(), "1"]]}, "starting"),
        ({"state": "up", "keeper": mine, "processes": [mine]}, "up"),
        ({"state": "ended", "keeper": mine, "processes": []}, "absent"),
        ({"state": "failed", "error": "why", "keeper": [1, "1"], "processes": []}, "failed"),
    ):
        write_json(layout.status, status)
        assert json.loads(verb(program, "status", layout.root).stdout)["state"] == expected


def test_a_verb_that_fails_says_one_clear_line(program, tmp_path):
    ran = verb(program, "secret", tmp_path / "ray")
    assert ran.returncode == 1
    assert len(ran.stderr.strip().splitlines()) == 1
    assert "No such file" in ran.stderr


def test_a_start_is_split_into_the_starts_that_belong_to_it():
    reports = [Report("up", launched_s=seconds) for seconds in (10.1, 4.0, None, 3.0)]
    assert split(reports, 12.0) == " (rank 0 in 10.1 s, the slowest other in 4.0 s)"
    assert split(reports, 5.1) == " (the slowest other in 4.0 s)"  # rank 0 was up before
    assert split(reports, 1.0) == ""


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b'noise\n{"state": "up"}\n', {"state": "up"}),
        (b'a title\n{"a": 1}\n', {"a": 1}),
        (b'title{"a": 1}\n', None),
        (b"[1]\n", None),
        (b"", None),
    ],
)
def test_an_answer_is_the_last_line_of_what_a_login_prints(said, answer):
    assert _last_line(said) == answer
