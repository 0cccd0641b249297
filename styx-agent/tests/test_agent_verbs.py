import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

import styx_agent
from styx_agent import client


def test_version_is_the_packages(pyz):
    project = tomllib.loads((Path(styx_agent.__file__).parents[2] / "pyproject.toml").read_text())
    done = subprocess.run([sys.executable, str(pyz), "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == project["project"]["version"]


def test_start_is_idempotent_even_in_parallel(make_node):
    node = make_node(start=False)
    hellos = []
    threads = [threading.Thread(target=lambda: hellos.append(node.start())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hellos) == 4
    assert len({hello["pid"] for hello in hellos}) == 1
    assert (hellos[0]["key"], hellos[0]["rank"], hellos[0]["configured"]) == (node.key, 0, False)
    assert hellos[0]["home"] == str(node.home)


def test_processes_carry_their_marks_and_no_secret_of_the_client(node):
    for pid in node.processes():
        with open(f"/proc/{pid}/environ") as stream:
            env = dict(item.split("=", 1) for item in stream.read().split("\0") if item)
        assert env["STYX_NODE"] == f"{node.key}/0"
        assert env["STYX_HOME"] == str(node.root)
        assert "SECRET_OF_THE_CLIENT" not in env
        assert os.readlink(f"/proc/{pid}/cwd") == str(node.state_folder)


def test_socket_is_private(node):
    assert stat.S_IMODE(os.stat(node.state.socket).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(node.sockets).st_mode) == 0o700


def test_foreign_socket_folder_is_refused(make_node):
    node = make_node(start=False)
    node.sockets.symlink_to(node.root)
    done = node.verb("start", *node.who())
    assert done.returncode == 1
    assert "is not a folder of this user" in done.stderr
    assert done.stderr.count("\n") == 1


def test_too_long_socket_path_is_refused(make_node, monkeypatch):
    node = make_node(start=False)
    node.env["STYX_SOCKET_DIR"] = "/tmp/" + "x" * 100
    done = node.verb("start", *node.who())
    assert done.returncode == 1
    assert "STYX_SOCKET_DIR" in done.stderr


def test_state_folder_of_another_instance_is_refused(node):
    done = node.verb("start", "--home", str(node.home), "--key", "other", "--rank", "0")
    assert done.returncode == 1
    assert f"belongs to {node.key}/0" in done.stderr
    assert node.call("ping")


def test_start_that_cannot_serve_says_why(make_node):
    node = make_node(start=False)
    node.sockets.mkdir(mode=0o700)
    Path(node.state.socket).mkdir()
    done = node.verb("start", *node.who(), "--timeout", "1.5")
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    shutil.rmtree(node.state.socket)


def test_stop_ends_everything_and_is_idempotent(node, until):
    job_id = node.submit("trap '' TERM; (setsid env -i sleep 1000 &); sleep 1000", setup="nohup sleep 1000 &")
    node.wait(job_id, "RUNNING")
    assert node.stop() == {"survivors": []}
    assert not node.processes()
    assert not node.sockets.exists()
    assert node.stop() == {"survivors": []}
    node.start()
    job = node.call("job.get", job_id=job_id)
    assert (job["state"], job["reason"]) == ("CANCELLED", "shut down")
    assert node.run("echo again")[1] == "again\n"


def test_stop_of_a_deaf_agent(node):
    job_id = node.submit("sleep 1000")
    node.wait(job_id, "RUNNING")
    node.kill("supervisor", "agent")
    assert node.stop() == {"survivors": []}
    assert not node.processes()


def test_stop_without_an_instance(make_node):
    node = make_node(start=False)
    assert node.stop() == {"survivors": []}
    assert not node.state_folder.exists()


def test_stopped_agent_is_not_revived_by_connect(node):
    node.stop()
    done = node.verb("connect", *node.who(), stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "was stopped" in done.stderr
    assert not node.processes()


def test_connect_without_an_instance_says_so(make_node):
    node = make_node(start=False)
    done = node.verb("connect", *node.who(), stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert "use `start`" in done.stderr
    assert not node.state_folder.exists()


def test_shutdown_over_the_bridge_answers_and_ends_all(node, until):
    node.wait(node.submit("sleep 1000"), "RUNNING")
    # As on a local node, the bridge itself carries the mark of the node.
    env = {**node.env, "STYX_NODE": f"{node.key}/0"}
    lines = [{"id": 1, "method": "hello", "params": {"versions": [1]}}, {"id": 2, "method": "shutdown"}]
    with subprocess.Popen(node.argv("connect"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as bridge:
        for line in lines:
            bridge.stdin.write(json.dumps(line).encode() + b"\n")
            bridge.stdin.flush()
            answer = json.loads(bridge.stdout.readline())
        assert answer == {"id": 2, "result": {"survivors": []}}
        assert bridge.wait(10) == 0
    until(lambda: not node.processes())


def test_removed_state_folder_ends_the_instance(node, until):
    node.wait(node.submit("sleep 1000"), "RUNNING")
    shutil.rmtree(node.state_folder)
    until(lambda: not node.processes())


def test_two_instances_do_not_meet(make_node):
    first, second = make_node(), make_node(rank=1)
    second.key = first.key
    job_id = first.submit("sleep 1000")
    first.wait(job_id, "RUNNING")
    second.stop()
    assert first.call("job.get", job_id=job_id)["state"] == "RUNNING"


def test_client_connection_reports_a_lost_agent(tmp_path):
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    with pytest.raises(client.AgentError) as caught:
        client.connect(path, timeout=0.2)
    assert caught.value.code == "lost"
    listener.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc")
def test_a_process_with_the_nodes_mark_is_forked_and_leaves_nothing_open(make_node):
    """As clients start it: the supervisor keeps no pipe of its starter, and shows what it is."""
    node = make_node(start=False)
    node.env["STYX_NODE"] = f"{node.key}/{node.rank}"
    node.start()
    del node.env["STYX_NODE"]
    for name, verb in (("supervisor", "supervise"), ("agent", "supervise")):
        pid = node.pid_of(name)
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert verb.encode() in words
        assert b"start" not in words
        assert os.getsid(pid) == node.pid_of("supervisor")
        assert [os.readlink(f"/proc/{pid}/fd/{number}") for number in (0, 1)] == ["/dev/null", node.state.output]
    assert node.run("echo $SECRET_OF_THE_CLIENT-$STYX_NODE")[1] == f"-{node.key}/{node.rank}\n"
    node.kill("agent")
    assert node.run("echo back")[1] == "back\n"
    assert node.stop() == {"survivors": []}
    assert not node.processes()


def test_a_machine_that_was_switched_on_again_gets_back_an_ended_agent(make_node):
    node = make_node(start=False)
    assert node.verb("boot").returncode == 1
    node.start()
    node.stop()
    done = node.verb("boot")
    assert done.returncode == 0, done.stderr
    assert node.run("echo again")[1] == "again\n"
