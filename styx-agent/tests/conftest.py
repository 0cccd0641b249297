import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
import zipapp
from pathlib import Path

import pytest

import styx_agent
from styx_agent import client, files, processes
from styx_agent.paths import State

PYTHON = os.environ.get("STYX_TEST_AGENT_PYTHON", sys.executable)
"""The interpreter of the nodes; set it to try an older one."""
SOURCE = Path(styx_agent.__file__).parent


MEASURED_MAIN = """
import sys
sys.path[:0] = [{source!r}, {library!r}]
import coverage
measure = coverage.Coverage(
    data_file={data_file!r}, data_suffix=True, auto_data=True, source_pkgs=["styx_agent"], config_file=False
)
measure.set_option("run:patch", ["_exit", "fork"])
measure.start()
from styx_agent.main import main
raise SystemExit(main())
"""


def measured_app(measure):
    """The zipapp's main program for a run that measures coverage: our processes inherit nothing to do it by."""
    import coverage

    return MEASURED_MAIN.format(
        source=str(SOURCE.parent),
        library=str(Path(coverage.__file__).parents[1]),
        data_file=os.path.abspath(measure.config.data_file),
    )


@pytest.fixture(scope="session")
def pyz(tmp_path_factory):
    """The agent as nodes get it."""
    root = tmp_path_factory.mktemp("zipapp")
    coverage = sys.modules.get("coverage")
    measure = coverage.Coverage.current() if coverage else None
    if measure is not None:
        (root / "app").mkdir()
        (root / "app" / "__main__.py").write_text(measured_app(measure))
        zipapp.create_archive(root / "app", root / "agent.pyz")
        return root / "agent.pyz"
    shutil.copytree(SOURCE, root / "app" / "styx_agent", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "app" / "__main__.py").write_text("from styx_agent.main import main\n\nraise SystemExit(main())\n")
    zipapp.create_archive(root / "app", root / "agent.pyz", compressed=True)
    return root / "agent.pyz"


class Node:
    """One instance on this machine, driven as the engine drives it: by the verbs and the socket."""

    def __init__(self, pyz, root, rank=0):
        self.pyz = pyz
        self.root = root
        self.rank = rank
        self.key = f"styx-t-{uuid.uuid4().hex[:8]}"
        self.home = root / "home"
        self.state_folder = root / "state"
        self.sockets = Path(tempfile.mkdtemp(prefix="sxt-", dir="/tmp")) / "k"
        self.env = {
            "PATH": os.environ["PATH"],
            "STYX_HOME": str(root),
            "STYX_SOCKET_DIR": str(self.sockets),
            "SECRET_OF_THE_CLIENT": "leaked",
        }
        self._tokens = itertools.count()

    @property
    def state(self):
        with _environ(STYX_SOCKET_DIR=str(self.sockets)):
            return State(str(self.state_folder))

    def argv(self, verb, *more):
        return [PYTHON, "-I", "-S", str(self.pyz), verb, "--state", str(self.state_folder), *more]

    def who(self):
        return ["--home", str(self.home), "--key", self.key, "--rank", str(self.rank)]

    def verb(self, verb, *more, **options):
        return subprocess.run(
            self.argv(verb, *more), env=self.env, capture_output=True, text=True, timeout=60, check=False, **options
        )

    def start(self):
        done = self.verb("start", *self.who())
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def stop(self):
        done = self.verb("stop")
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def connect(self):
        """A connection; an agent that is being started anew gets its time."""

        def attempt():
            with contextlib.suppress(ConnectionError, FileNotFoundError, client.AgentError):
                return client.connect(self.state.socket)

        return until(attempt)

    def call(self, method, timeout=60.0, **params):
        with self.connect() as connection:
            return connection.call(method, params, timeout)

    def submit(self, run=None, **spec):
        return self.call("job.submit", **{"token": f"t{next(self._tokens)}", "run": run, **spec})["job_id"]

    def wait(self, job_id, *states, timeout=40.0):
        """The job once it is in one of `states`; by default once it has ended."""
        deadline = time.monotonic() + timeout
        job = self.call("job.get", job_id=job_id)
        while not (job["state"] in states if states else job["ended_at"] is not None):
            assert job["ended_at"] is None, f"ended as {job}"
            assert time.monotonic() < deadline, f"still {job}"
            job = self.call("job.wait", job_id=job_id, not_state=job["state"], wait_s=5)
        return job

    def log(self, job_id, stream="run"):
        data, offset = b"", 0
        with self.connect() as connection:
            while True:
                asked = {"job_id": job_id, "stream": stream, "offset": offset, "wait_s": 10}
                chunk = connection.call("log.read", asked)
                data += base64.b64decode(chunk["data"])
                offset = len(data)
                if chunk["eof"]:
                    return data.decode()

    def peek(self, job_id, stream="run"):
        """What is in the log now."""
        path = Path(self.state.log(job_id, stream))
        return path.read_text() if path.exists() else ""

    def run(self, script, **spec):
        """The ended job and its log."""
        job = self.wait(self.submit(script, **spec))
        return job, self.log(job["job_id"])

    def processes(self):
        """Living processes of this instance."""
        seen = processes.table()
        found = processes.marked(seen, {"STYX_NODE": f"{self.key}/{self.rank}"})
        return {pid for pid in found | processes.descendants(seen, found) if not seen[pid].dead}

    def pid_of(self, name):
        return files.read_object(getattr(self.state, name))["pid"]

    def kill(self, *names):
        for name in names:
            os.kill(self.pid_of(name), signal.SIGKILL)

    def close(self):
        self.verb("stop")
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.sockets.parent, ignore_errors=True)
        assert not left, f"processes survived the stop: {left}"


@contextlib.contextmanager
def _environ(**values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def make_node(pyz, tmp_path):
    made = []

    def make(rank=0, start=True):
        node = Node(pyz, tmp_path / f"node{len(made)}", rank)
        made.append(node)
        node.root.mkdir()
        if start:
            node.start()
        return node

    yield make
    for node in made:
        node.close()


@pytest.fixture
def node(make_node):
    """A fresh instance."""
    return make_node()


@pytest.fixture(scope="module")
def shared(pyz, tmp_path_factory):
    """An instance that the tests of a module share; it has room for many jobs at once.

    It is started as in the background of a script, where SIGQUIT is ignored.
    """
    node = Node(pyz, tmp_path_factory.mktemp("shared"))
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        node.start()
        signal.signal(signal.SIGQUIT, before)
        yield node
    finally:
        signal.signal(signal.SIGQUIT, before)
        node.close()


def until(condition, timeout=20.0):
    """Poll until `condition` holds; returns its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return value


@pytest.fixture(name="until")
def until_fixture():
    return until


def alive(pid):
    process = processes.lookup(int(pid))
    return process is not None and not process.dead


@pytest.fixture(name="alive")
def alive_fixture():
    return alive
