"""The local cloud's own rules: what ends, what stays, what is nobody's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from styx.driver import Market, Node, NodeRequest, NodeState, Place
from styx.errors import CapacityError, CredentialsError, DriverError, QuotaError, UnsupportedError
from styx.testing.clock import ManualClock
from styx.testing.contexts import make_context
from styx_local import Local, LocalConfig

KEY = "styx-test-st0re101"
SLEEPER = "import time; print('up', flush=True); time.sleep(300)"
NASTY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork():
    os.wait()
    sys.exit()
os.setsid()
if os.fork():
    time.sleep(300)
os.chdir("/")
os.execve("/bin/sleep", ["sleep", "300"], {})
"""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(tmp_path: Path, clock: ManualClock) -> Callable[..., Local]:
    def build(**settings: object) -> Local:
        return Local(make_context(tmp_path / "styx home", clock=clock, config=LocalConfig.model_validate(settings)))

    return build


@pytest.fixture
def driver(make: Callable[..., Local]) -> Local:
    return make()


@pytest.fixture
def spawned() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


def place_of(driver: Local) -> Place:
    return next(iter(driver.check().places))


def request_for(
    driver: Local, count: int = 1, *, key: str = KEY, market: Market = Market.ON_DEMAND, ports: tuple[int, ...] = ()
) -> NodeRequest:
    offer = next(row for row in driver.fetch() if row.instance_type == "local" and row.market is market)
    token = uuid.uuid4().hex
    where = place_of(driver)
    return NodeRequest(token=token, cluster=key, store="st0re1", place=where, offer=offer, count=count, ports=ports)


def up(driver: Local, count: int = 1, *, key: str = KEY, market: Market = Market.ON_DEMAND) -> list[Node]:
    return list(driver.create(request_for(driver, count, key=key, market=market)))


def listed(driver: Local, key: str | None = KEY) -> list[Node]:
    return list(driver.nodes(place_of(driver), key))


def folder_of(node: Node) -> Path:
    return Path(node.data["folder"])


def start(
    spawned: list[subprocess.Popen[str]], program: str, *, env: dict[str, str], cwd: Path, stdin: object = None
) -> subprocess.Popen[str]:
    """A process of its own session; it has said `up` when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=env,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stdin=stdin,  # type: ignore[arg-type]
        text=True,
        start_new_session=True,
    )
    spawned.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def tree_of(pid: int) -> list[int]:
    found = [pid]
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += tree_of(int(child))
    return found


def eventually(check: Callable[[], bool], deadline_s: float = 10.0) -> bool:
    end = time.monotonic() + deadline_s
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class TestProcesses:
    def test_stop_ends_a_tree_that_resists(self, driver: Local, spawned: list[subprocess.Popen[str]]) -> None:
        (node,) = up(driver)
        assert node.reach is not None
        env = {**node.reach.env, "PATH": os.environ["PATH"]}  # type: ignore[union-attr]
        program = f"print('up', flush=True)\n{NASTY}"
        process = start(spawned, program, env=env, cwd=folder_of(node))
        assert eventually(lambda: len(tree_of(process.pid)) == 3)
        tree = tree_of(process.pid)
        driver.stop([node])
        assert [pid for pid in tree if alive(pid)] == []
        assert [one.state for one in listed(driver)] == [NodeState.STOPPED]

    def test_an_orphan_that_shed_all_but_its_log(self, driver: Local, spawned: list[subprocess.Popen[str]]) -> None:
        (node,) = up(driver)
        log = folder_of(node) / "agent" / "run.log"
        program = f"import os; os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT)\n{SLEEPER}"
        process = start(spawned, program, env={}, cwd=Path("/"))
        driver.terminate([node])
        assert not alive(process.pid)
        assert not folder_of(node).exists()

    def test_lookers_on_are_spared(self, driver: Local, spawned: list[subprocess.Popen[str]]) -> None:
        nodes = up(driver) + up(driver, key="styx-other-st0re101")
        home, mark = str(driver.context.home), f"{KEY}/0"
        log = folder_of(nodes[0]) / "agent" / "run.log"
        log.write_text("text")
        reads = f"import os; os.open({str(log)!r}, os.O_RDONLY)\n{SLEEPER}"
        spared = [
            start(spawned, SLEEPER, env={}, cwd=folder_of(nodes[0])),
            start(spawned, reads, env={}, cwd=Path("/")),
            start(spawned, SLEEPER, env={"STYX_HOME": home}, cwd=Path("/")),
            start(spawned, SLEEPER, env={"STYX_HOME": home, "STYX_NODE": f"{mark}0"}, cwd=Path("/")),
            start(spawned, SLEEPER, env={"STYX_HOME": "/elsewhere", "STYX_NODE": mark}, cwd=Path("/")),
            start(spawned, SLEEPER, env=dict(nodes[1].reach.env), cwd=folder_of(nodes[1])),  # type: ignore[union-attr]
        ]
        worker = start(spawned, SLEEPER, env={"STYX_HOME": home}, cwd=folder_of(nodes[0]) / "home")
        driver.terminate(nodes[:1])
        assert not alive(worker.pid)
        assert [alive(process.pid) for process in spared] == [True] * len(spared)

    def test_the_client_may_stand_in_the_folder(self, driver: Local, tmp_path: Path) -> None:
        (node,) = up(driver)
        home = driver.context.home
        script = (
            "import sys; from pathlib import Path; from styx.driver import Node; "
            "from styx.testing.contexts import make_context; from styx_local import Local, LocalConfig; "
            f"driver = Local(make_context(Path({str(home)!r}), config=LocalConfig())); "
            "driver.terminate([Node.model_validate_json(sys.argv[1])]); print('done')"
        )
        command = ["sh", "-c", '"$@"; echo shell', "sh", sys.executable, "-c", script, node.model_dump_json()]
        env = {**os.environ, "STYX_HOME": str(home)}
        where = folder_of(node) / "home"
        done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout, done.stderr) == ("done\nshell\n", "")
        assert not folder_of(node).exists()


class TestEnds:
    def test_terminate_leaves_nothing(self, driver: Local) -> None:
        nodes = up(driver, 3)
        stubborn = folder_of(nodes[1]) / "home" / "a" / "b"
        stubborn.mkdir(parents=True)
        (stubborn / "file").write_text("x")
        stubborn.chmod(0)
        stubborn.parent.chmod(0o500)
        driver.terminate(nodes)
        assert listed(driver, None) == []
        assert not (driver.context.home / "local").exists()

    def test_stop_keeps_files_and_start_brings_the_node_back(self, driver: Local) -> None:
        (node,) = up(driver)
        (folder_of(node) / "home" / "result").write_text("42")
        driver.stop([node])
        (stopped,) = listed(driver)
        assert stopped.reach is None
        (again,) = driver.start([stopped])
        assert (folder_of(again) / "home" / "result").read_text() == "42"
        assert again.reach == node.reach

    @pytest.mark.parametrize(("action", "state"), [("stop", NodeState.STOPPED), ("down", NodeState.TERMINATED)])
    def test_a_node_ends_itself(
        self, driver: Local, spawned: list[subprocess.Popen[str]], action: str, state: NodeState
    ) -> None:
        nodes = up(driver, 2)
        end = driver.self_action(nodes[1], action)  # type: ignore[arg-type]
        worker = start(spawned, SLEEPER, env=dict(nodes[1].reach.env), cwd=Path("/"))  # type: ignore[union-attr]
        assert end.kind == "command"
        assert end.stops_billing
        subprocess.run(end.argv, check=True, env={}, timeout=10)
        seen = listed(driver)
        assert [one.state for one in seen] == [NodeState.RUNNING, state]
        assert not alive(worker.pid)
        if action == "down":
            assert seen[1].ended is not None
            assert seen[1].ended.cause == "requested"
            assert os.listdir(folder_of(nodes[1])) == ["machine.json"]
            with pytest.raises(DriverError, match="does not exist any more"):
                driver.start(nodes)
        else:
            assert [one.state for one in driver.start(nodes)] == [NodeState.RUNNING] * 2
            assert [one.state for one in listed(driver)] == [NodeState.RUNNING] * 2
        driver.terminate(nodes)
        driver.release(nodes[0].place, KEY)
        assert not (driver.context.home / "local").exists()

    def test_preemption_keeps_the_reason_until_release(self, driver: Local) -> None:
        nodes = up(driver, 2)
        driver.preempt(nodes[1:])
        for _ in range(2):
            seen = listed(driver)
            assert [one.state for one in seen] == [NodeState.RUNNING, NodeState.TERMINATED]
            assert seen[1].ended is not None
            assert seen[1].ended.cause == "preempted"
            assert not (folder_of(nodes[1]) / "home").exists()
        driver.release(nodes[0].place, KEY)
        assert [one.rank for one in listed(driver)] == [0]

    def test_an_end_cut_short_is_finished_by_the_next_listing(
        self, driver: Local, spawned: list[subprocess.Popen[str]]
    ) -> None:
        (node,) = up(driver)
        worker = start(spawned, SLEEPER, env=dict(node.reach.env), cwd=Path("/"))  # type: ignore[union-attr]
        record = folder_of(node) / "machine.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "state": "terminated"}))
        assert [one.state for one in listed(driver)] == [NodeState.TERMINATED]
        assert not alive(worker.pid)
        assert not (folder_of(node) / "home").exists()


class TestRecords:
    @pytest.mark.parametrize("text", [None, "", "{", '{"version": 2}', "\0\0\0"])
    def test_damage_is_a_failed_node_that_can_be_removed(self, driver: Local, text: str | None) -> None:
        nodes = up(driver, 2)
        record = folder_of(nodes[0]) / "machine.json"
        record.unlink()
        if text is not None:
            record.write_text(text)
        broken, sound = listed(driver)
        assert (broken.state, sound.state) == (NodeState.FAILED, NodeState.RUNNING)
        assert broken.problem is not None
        assert str(record) in broken.problem.message
        driver.terminate([broken, sound])
        assert not (driver.context.home / "local").exists()

    def test_a_home_shared_with_another_machine(self, driver: Local) -> None:
        (node,) = up(driver)
        record = folder_of(node) / "machine.json"
        record.write_text(record.read_text().replace(node.place.account, "0123456789ab-0"))
        assert listed(driver, None) == []
        elsewhere = node.place.model_copy(update={"account": "0123456789ab-0"})
        with pytest.raises(CredentialsError, match="another machine"):
            driver.nodes(elsewhere, None)
        with pytest.raises(CredentialsError, match="another machine"):
            driver.terminate([node.model_copy(update={"place": elsewhere})])
        assert record.exists()

    @pytest.mark.parametrize("key", ["../../etc", "", "a/b", "UPPER", "-lead"])
    def test_no_key_leads_out_of_the_folder(self, driver: Local, key: str) -> None:
        request = request_for(driver).model_copy(update={"cluster": key})
        with pytest.raises(UnsupportedError, match="does not name a node"):
            driver.create(request)
        driver.release(request.place, key)
        assert listed(driver, key) == []

    def test_another_request_does_not_take_over_a_living_node(self, driver: Local) -> None:
        (node,) = up(driver)
        with pytest.raises(DriverError, match="exists already") as caught:
            up(driver, 2)
        assert [one.token for one in caught.value.created] == [node.token]
        driver.preempt([node])
        assert [one.state for one in up(driver, 2)] == [NodeState.RUNNING] * 2

    def test_ports_of_the_request_have_endpoints(self, driver: Local) -> None:
        (node,) = driver.create(request_for(driver, ports=(8888, 80)))
        assert {port: (end.host, end.port, end.public) for port, end in node.endpoints.items()} == {
            80: ("127.0.0.1", 80, False),
            8888: ("127.0.0.1", 8888, False),
        }

    def test_an_unknown_shape_names_those_there_are(self, driver: Local) -> None:
        request = request_for(driver)
        offer = request.offer.model_copy(update={"instance_type": "p5.48xlarge"})
        with pytest.raises(UnsupportedError, match=r"no p5\.48xlarge .*it has local"):
            driver.create(request.model_copy(update={"offer": offer}))


class TestLimits:
    def test_max_nodes(self, make: Callable[..., Local]) -> None:
        driver = make(max_nodes=2)
        up(driver)
        with pytest.raises(QuotaError, match=r"max_nodes \(2\); 1 exist"):
            up(driver, 2, key="styx-more-st0re101")
        assert [one.cluster for one in listed(driver, None)] == [KEY]

    def test_a_trace_takes_the_newest_and_refuses_what_has_no_room(
        self, make: Callable[..., Local], clock: ManualClock, tmp_path: Path
    ) -> None:
        trace = tmp_path / "trace.json"
        trace.write_text(json.dumps({"metadata": {"gap_seconds": 60, "zone": "somewhere"}, "data": [3, 2, 0]}))
        driver = make(spot_trace=str(trace))
        old = up(driver, 2, market=Market.SPOT)
        clock.advance(1)
        up(driver, key="styx-new-st0re101", market=Market.SPOT)
        steady = up(driver, key="styx-steady-st0re101")
        with pytest.raises(CapacityError, match="room for 3 nodes now: 3 exist, 1 more"):
            up(driver, key="styx-late-st0re101", market=Market.SPOT)
        clock.advance(60)
        states = {f"{one.cluster}/{one.rank}": one.state.value for one in listed(make(spot_trace=str(trace)), None)}
        assert states == {
            "styx-new-st0re101/0": "terminated",
            "styx-steady-st0re101/0": "running",
            f"{KEY}/0": "running",
            f"{KEY}/1": "running",
        }
        clock.advance(60)
        assert [one.state for one in listed(driver)] == [NodeState.TERMINATED] * 2
        assert [one.ended.cause for one in listed(driver) if one.ended] == ["preempted"] * 2
        clock.advance(60)  # the trace begins again
        driver.terminate(old)
        assert [one.state for one in up(driver, 3, market=Market.SPOT)] == [NodeState.RUNNING] * 3
        assert [one.state for one in driver.nodes(steady[0].place, "styx-steady-st0re101")] == [NodeState.RUNNING]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (None, "cannot read"),
            ("[]", "trace.json"),
            ('{"metadata": {"gap_seconds": 0}, "data": [1]}', "gap_seconds"),
            ('{"metadata": {"gap_seconds": 5}, "data": []}', "data"),
            ('{"metadata": {"gap_seconds": 5}, "data": [1, -1]}', r"data\.1"),
        ],
    )
    def test_a_bad_trace_is_named(
        self, make: Callable[..., Local], tmp_path: Path, text: str | None, words: str
    ) -> None:
        trace = tmp_path / "trace.json"
        if text is not None:
            trace.write_text(text)
        with pytest.raises(UnsupportedError, match=words):
            up(make(spot_trace=str(trace)), market=Market.SPOT)


class TestAccelerators:
    @pytest.fixture
    def two(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A machine whose `nvidia-smi` reports two of them."""
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nprintf '0, NVIDIA L4, 23034\\n1, NVIDIA L4, 23034\\n'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def launch(self, driver: Local, shape: str, key: str) -> str:
        offer = next(row for row in driver.fetch() if row.instance_type == shape)
        request = request_for(driver, key=key).model_copy(update={"offer": offer})
        (node,) = driver.create(request)
        return self.devices(node)

    def devices(self, node: Node) -> str:
        assert node.reach is not None
        return node.reach.env["CUDA_VISIBLE_DEVICES"]  # type: ignore[union-attr]

    @pytest.mark.usefixtures("two")
    def test_each_node_sees_its_own(self, driver: Local) -> None:
        assert self.launch(driver, "local-1gpu", "styx-a-st0re101") == "0"
        assert self.launch(driver, "local-0.5gpu", "styx-b-st0re101") == "1"
        assert self.launch(driver, "local-0.5gpu", "styx-c-st0re101") == "1"
        with pytest.raises(CapacityError, match=r"not enough of this machine's L4 is free for local-0\.25gpu"):
            self.launch(driver, "local-0.25gpu", "styx-d-st0re101")
        first = listed(driver, "styx-a-st0re101")
        driver.stop(first)
        assert self.launch(driver, "local-1gpu", "styx-d-st0re101") == "0"
        with pytest.raises(CapacityError, match="other local clusters hold it"):
            driver.start(first)
        driver.terminate(listed(driver, "styx-b-st0re101") + listed(driver, "styx-c-st0re101"))
        assert [self.devices(node) for node in driver.start(first)] == ["1"]
        assert "CUDA_VISIBLE_DEVICES" not in up(driver)[0].reach.env  # type: ignore[union-attr]
