import os
import signal
import subprocess

import pytest

from styx_agent import files, processes

SLOW = 'for i in $(seq 40); do echo "line $i"; sleep 0.05; done; exit 9'
SLOW_LOG = "".join(f"line {n}\n" for n in range(1, 41))


def pid_started(node, name, old, until):
    return until(lambda: (pid := node.pid_of(name)) != old and processes.lookup(pid) and pid)


def test_agent_killed_mid_job_loses_neither_output_nor_exit_code(node, until):
    node.call("node.configure", cpus=1)
    job_id, behind = node.submit(SLOW, cpus=1), node.submit("echo behind", setup="echo before", cpus=1)
    until(lambda: "line 3" in node.peek(job_id))
    for _ in range(3):
        old = node.pid_of("agent")
        node.kill("agent")
        pid_started(node, "agent", old, until)
    job = node.wait(job_id)
    assert (job["state"], job["exit_code"]) == ("FAILED", 9)
    assert node.log(job_id) == SLOW_LOG
    assert node.wait(behind)["state"] == "SUCCEEDED"
    assert (node.log(behind, "setup"), node.log(behind)) == ("before\n", "behind\n")


def test_job_that_ends_while_no_agent_lives_is_known_after_revival(node, until):
    job_id = node.submit(SLOW)
    until(lambda: "line 3" in node.peek(job_id))
    node.kill("supervisor", "agent")
    until(lambda: "line 40" in node.peek(job_id))
    hello = b'{"id": 1, "method": "hello", "params": {"versions": [1]}}\n'
    asked = b'{"id": 2, "method": "job.wait", "params": {"job_id": %d, "not_state": "RUNNING", "wait_s": 9}}\n' % job_id
    done = subprocess.run(
        node.argv("connect"), input=hello + asked, env=node.env, stdout=subprocess.PIPE, timeout=30, check=False
    )
    assert done.returncode == 0
    assert b'"exit_code": 9' in done.stdout
    assert node.log(job_id) == SLOW_LOG


def test_supervisor_killed_is_replaced_by_the_agent(node, until):
    old, agent = node.pid_of("supervisor"), node.pid_of("agent")
    node.kill("supervisor")
    pid_started(node, "supervisor", old, until)
    assert node.call("hello", versions=[1])["pid"] == agent
    node.kill("agent")
    pid_started(node, "agent", agent, until)
    assert node.run("echo on")[1] == "on\n"


def test_killed_runner_is_a_driver_failure_and_leaves_nothing(node, until, alive):
    job_id = node.submit("(env -i setsid sleep 1000 &) ; echo $$; sleep 1000")
    pid = int(until(lambda: node.peek(job_id)))
    record = until(lambda: files.read_object(node.state.job(job_id, "run.pid")).get("child") and node.state)
    os.kill(files.read_object(record.job(job_id, "run.pid"))["pid"], signal.SIGKILL)
    job = node.wait(job_id)
    assert (job["state"], job["exit_code"]) == ("FAILED_DRIVER", None)
    assert "killed" in job["reason"]
    until(lambda: not alive(pid))
    assert node.run("echo on")[1] == "on\n"


def test_everything_killed_at_once_as_by_a_power_failure(node, until):
    node.call("node.configure", cpus=1)
    job_id, pending = node.submit("echo $$; sleep 1000", cpus=1), node.submit("echo later", cpus=1)
    until(lambda: node.peek(job_id))
    for number in (signal.SIGSTOP, signal.SIGKILL):  # frozen first, or they bring each other back
        for pid in node.processes():
            os.kill(pid, number)
    assert until(lambda: not node.processes())
    node.start()
    assert node.wait(job_id)["state"] == "FAILED_DRIVER"
    assert node.wait(pending)["state"] == "SUCCEEDED"


def test_damaged_record_costs_that_job_only(node, until):
    good, bad = node.run("echo one")[0]["job_id"], node.run("echo two")[0]["job_id"]
    with open(node.state.job(bad, "job.json"), "w") as stream:
        stream.write('{"state": "RUN')
    with open(node.state.lease, "w") as stream:
        stream.write("[]")
    old = node.pid_of("agent")
    node.kill("agent")
    pid_started(node, "agent", old, until)
    node.start()
    assert node.call("job.get", job_id=good)["state"] == "SUCCEEDED"
    assert node.call("job.get", job_id=bad)["reason"] == "the record of the job is damaged"
    assert node.submit("true") == bad + 1


def test_socket_that_was_tidied_away_comes_back(node, until):
    os.unlink(node.state.socket)
    os.rmdir(node.sockets)
    until(lambda: os.path.exists(node.state.socket))
    assert node.call("ping")["time"] > 0


@pytest.mark.parametrize("victims", [("agent",), ("supervisor", "agent")])
def test_start_again_keeps_jobs_running(node, until, victims):
    job_id = node.submit(SLOW)
    until(lambda: "line 3" in node.peek(job_id))
    node.kill(*victims)
    node.start()
    assert node.wait(job_id)["exit_code"] == 9
    assert node.log(job_id) == SLOW_LOG
