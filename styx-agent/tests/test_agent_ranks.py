import json
import os
import signal
import sys

import pytest

import styx_agent
from styx_agent import files, processes
from styx_agent.client import AgentError

DRIVER = """
import json, os, signal, sys, time
sys.path.insert(0, os.environ["AGENT_SOURCE"])
from styx_agent import client

spec = json.load(open(os.environ["STYX_JOB_FILE"]))
agents = [client.connect(path) for path in [os.environ["STYX_AGENT_SOCKET"], *os.environ["OTHERS"].split()]]
job_id = spec["job_id"]

def leave(state, code, reason=None):
    path = os.environ["STYX_OUTCOME_FILE"]
    with open(path + ".new", "w") as stream:
        json.dump({"state": state, "exit_code": code, "reason": reason}, stream)
    os.replace(path + ".new", path)

def cancel(*_):
    for agent in agents:
        agent = client.connect(agent._socket.getpeername())
        assert agent.call("rank.cancel", {"job_id": job_id}) == {"survivors": []}
    leave("CANCELLED", None, "asked")
    os._exit(0)

signal.signal(signal.SIGTERM, cancel)
names = ("workdir", "env", "secret_env", "num_nodes", "gpus_per_node", "task_id", "user")
common = {name: spec[name] for name in names if spec.get(name) is not None}

def phase(name):
    for agent in agents:
        agent.call("rank.start", {**common, "job_id": job_id, "phase": name, "script": spec[name], "abandon_s": 2})
    codes = {}
    while len(codes) < len(agents):
        for rank, agent in enumerate(agents):
            got = agent.call("rank.wait", {"job_id": job_id, "phase": name, "wait_s": 0.1})
            if not got["running"]:
                codes[rank] = got["exit_code"]
    return max(codes.values())

print("driver at work", flush=True)
if spec["setup"]:
    leave("SETTING_UP", None)
    code = phase("setup")
    if code:
        leave("FAILED_SETUP", code)
        sys.exit(0)
leave("RUNNING", None)
if os.environ.get("CRASH"):
    phase_code = os.kill(os.getpid(), signal.SIGKILL)
code = phase("run")
leave("FAILED" if code else "SUCCEEDED", code)
"""


@pytest.fixture
def pair(make_node):
    """A head, a worker, and what a driver for both looks like."""
    head, worker = make_node(), make_node(rank=1)
    config = {"num_nodes": 2, "ips": ["10.0.0.1", "10.0.0.2"], "cpus": 4, "gpus": 2}
    for node in (head, worker):
        node.call("node.configure", **config)
    program = head.root / "driver.py"
    program.write_text(DRIVER)
    source = os.path.dirname(os.path.dirname(styx_agent.__file__))
    driver = {
        "argv": [sys.executable, "-S", str(program)],
        "env": {"AGENT_SOURCE": source, "OTHERS": worker.state.socket},
    }
    return head, worker, driver


def test_job_on_two_nodes(pair):
    head, worker, driver = pair
    job_id = head.submit(
        'echo "$STYX_NODE_RANK of $SKYPILOT_NUM_NODES: $(echo $STYX_NODE_IPS) $CUDA_VISIBLE_DEVICES $TOKEN"'
        "; exit $STYX_NODE_RANK",
        setup="echo set up $STYX_SETUP_NODE_RANK",
        num_nodes=2,
        gpus=1,
        gpus_per_node=1,
        cpus=1,
        driver=driver,
        secret_env={"TOKEN": "s3cret"},
    )
    job = head.wait(job_id)
    assert (job["state"], job["exit_code"]) == ("FAILED", 1)
    for rank, node in enumerate((head, worker)):
        assert node.log(job_id, "setup") == f"set up {rank}\n"
        assert node.log(job_id) == f"{rank} of 2: 10.0.0.1 10.0.0.2 0 s3cret\n"
    assert head.log(job_id, "driver") == "driver at work\n"
    for node in (head, worker):
        kept = [path for path in node.state.root and node.state_folder.rglob("*.*") if "logs" not in str(path)]
        assert not [path for path in kept if path.is_file() and b"s3cret" in path.read_bytes()]


def test_states_follow_the_driver_and_a_failed_setup(pair, tmp_path):
    head, _, driver = pair
    go = tmp_path / "go"
    spec = {"num_nodes": 2, "driver": driver}
    job_id = head.submit("sleep 1000", setup=f"until [ -e {go} ]; do sleep 0.05; done", **spec)
    head.wait(job_id, "SETTING_UP")
    go.touch()
    head.wait(job_id, "RUNNING")
    head.call("job.cancel", job_ids=[job_id])
    failed = head.wait(head.submit("true", setup="exit 4", **spec))
    assert (failed["state"], failed["exit_code"]) == ("FAILED_SETUP", 4)


def test_cancel_lets_the_driver_end_the_other_ranks(pair, until, alive):
    head, worker, driver = pair
    script = "trap '' TERM; (setsid sleep 1000 &); echo $$; while :; do sleep 0.1; done"
    job_id = head.submit(script, num_nodes=2, driver=driver)
    pids = [int(until(lambda node=node: node.peek(job_id))) for node in (head, worker)]
    assert head.call("job.cancel", job_ids=[job_id]) == {"cancelled": [job_id], "survivors": []}
    assert not any(map(alive, pids)), head.log(job_id, "driver")
    assert head.call("job.get", job_id=job_id)["state"] == "CANCELLED"
    for node in (head, worker):
        assert not [pid for pid in node.processes() if b"sleep" in processes.command_line(pid)]
    with pytest.raises(AgentError, match="was cancelled"):
        worker.call("rank.start", job_id=job_id, phase="setup", script="true")


def test_driver_that_dies_is_a_driver_failure_and_ranks_are_not_left_alone(pair, until, alive):
    head, worker, driver = pair
    job_id = head.submit("echo $$; sleep 1000", num_nodes=2, driver=driver)
    pids = [int(until(lambda node=node: node.peek(job_id))) for node in (head, worker)]
    os.kill(files.read_object(head.state.job(job_id, "driver.pid"))["child"], signal.SIGKILL)
    job = head.wait(job_id)
    assert job["state"] == "FAILED_DRIVER"
    assert "SIGKILL" in job["reason"]
    until(lambda: not any(map(alive, pids)))


def test_driver_killed_agent_comes_back_and_the_job_goes_on(pair, until):
    head, worker, driver = pair
    job_id = head.submit("sleep 1; echo done", num_nodes=2, driver=driver)
    until(lambda: os.path.exists(worker.state.job(job_id, "run.pid")))
    assert head.call("job.get", job_id=job_id)["state"] == "RUNNING" or head.wait(job_id, "RUNNING")
    head.kill("agent")
    # This driver does not connect again, so the job fails; but the agent knows that it did.
    job = head.wait(job_id)
    assert job["state"] == "FAILED_DRIVER"
    assert "before it left an outcome" in job["reason"]


def test_rank_start_is_idempotent_and_gpus_are_given_by_rank(make_node, until):
    node = make_node(rank=1)
    node.call("node.configure", num_nodes=2, ips=["a", "b"], cpus=4, gpus=2)
    for job_id in (1, 2, 3):
        spec = {"job_id": job_id, "phase": "run", "script": "echo x$CUDA_VISIBLE_DEVICES; sleep 1000", "num_nodes": 2}
        spec["gpus_per_node"] = [1, 0.5, 0.5][job_id - 1]
        assert node.call("rank.start", **spec) == {}
        assert node.call("rank.start", **spec) == {}
    with pytest.raises(AgentError, match="no room"):
        node.call("rank.start", job_id=4, phase="run", script="true", gpus_per_node=1)
    assert node.call("rank.wait", job_id=1, phase="run") == {"running": True, "exit_code": None, "reason": None}
    for job_id in (1, 2, 3):
        until(lambda job_id=job_id: node.peek(job_id))
        assert node.call("rank.cancel", job_id=job_id) == {"survivors": []}
    assert [node.log(job_id).split()[0] for job_id in (1, 2, 3)] == ["x0", "x1", "x1"]
    ended = node.call("rank.wait", job_id=1, phase="run", wait_s=5)
    assert (ended["running"], ended["exit_code"]) == (False, 143)


def test_driver_gets_its_files_and_they_are_private(make_node, until):
    node = make_node()
    node.call("node.configure", num_nodes=2, ips=["a", "b"])
    script = "stat -c %a $STYX_JOB_FILE; cat $STYX_JOB_FILE; test -S $STYX_AGENT_SOCKET"
    driver = {"argv": ["bash", "-c", script + '; echo \'{"state": "SUCCEEDED", "exit_code": 0}\' >$STYX_OUTCOME_FILE']}
    job_id = node.submit("true", num_nodes=2, driver={**driver, "env": {"A": "b"}}, secret_env={"TOKEN": "s3cret"})
    assert node.wait(job_id)["state"] == "SUCCEEDED"
    mode, _, spec = node.log(job_id, "driver").partition("\n")
    assert mode == "600"
    assert json.loads(spec)["secret_env"] == {"TOKEN": "s3cret"}
    assert json.loads(spec)["job_id"] == job_id
    assert not os.path.exists(node.state.job(job_id, "driver.json"))
