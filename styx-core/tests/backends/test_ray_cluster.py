"""The `ray` backend on three real agents and a real Ray cluster. One cluster serves all tests, in this order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

LONG = "echo here; sleep 300"


def ray_processes(trio):
    return trio.processes(mark="STYX_RAY")


def named(trio, word):
    return [process for process in ray_processes(trio) if word in " ".join(process.cmdline()[:1])]


def job_processes(trio, job_id):
    return [one for one in trio.processes(mark="STYX_JOB") if one.environ().get("STYX_JOB", "").endswith(f"/{job_id}")]


def by_rank(script_of_rank, other=LONG):
    """A script that differs by rank."""
    cases = "".join(f"{rank}) {script};;\n" for rank, script in script_of_rank.items())
    return f"case $STYX_NODE_RANK in\n{cases}*) {other};;\nesac"


def test_every_rank_runs_both_phases_with_its_variables_and_its_own_log(trio):
    job_id = trio.submit(
        setup='echo "setup $SKYPILOT_SETUP_NODE_RANK of $STYX_NUM_NODES"',
        run='echo "rank $STYX_NODE_RANK/$SKYPILOT_NODE_RANK $WORD $HIDDEN ips=$(echo "$STYX_NODE_IPS" | wc -l)"; env',
        env={"WORD": "plain"},
        secret_env={"HIDDEN": "s3cret"},
    )
    job = trio.wait(job_id)
    assert (job["state"], job["exit_code"], job["reason"]) == ("SUCCEEDED", 0, None), trio.log(0, job_id, "driver")
    for rank in range(3):
        assert f"setup {rank} of 3" in trio.log(rank, job_id, "setup")
        seen = trio.log(rank, job_id)
        assert f"rank {rank}/{rank} plain s3cret ips=3" in seen
        assert f"HOME={trio.transports[rank].home}\n" in seen
        assert not [line for line in seen.splitlines() if line.startswith(("RAY_", "PYTHONPATH=", "VIRTUAL_ENV="))]
    assert "s3cret" not in trio.log(0, job_id, "driver")


def test_a_warm_cluster_is_used_as_it_is(trio):
    trio.prepare()
    before = sorted((one.pid, one.create_time()) for one in [*named(trio, "gcs_server"), *named(trio, "raylet")])
    trio.said.clear()
    spec = trio.prepare()
    after = sorted((one.pid, one.create_time()) for one in [*named(trio, "gcs_server"), *named(trio, "raylet")])
    assert before == after
    assert len(after) == 4
    assert trio.said == []
    assert spec["argv"][0] == sys.executable


def test_fewer_ranks_than_nodes(trio):
    job_id = trio.submit(num_nodes=2, run='echo "$STYX_NUM_NODES nodes"')
    assert trio.wait(job_id)["state"] == "SUCCEEDED"
    assert "2 nodes" in trio.log(1, job_id)
    assert not os.path.exists(f"{trio.transports[2].agent_state}/logs/{job_id}")


def test_two_gangs_share_the_nodes_and_their_gpus(trio):
    ask = {
        "gpus": 1.0,
        "gpus_per_node": 1.0,
        "run": 'echo "gpu=$CUDA_VISIBLE_DEVICES of $STYX_NUM_GPUS_PER_NODE"; sleep 3',
    }
    first, second = trio.submit(**ask), trio.submit(**ask)
    assert [trio.wait(job_id)["state"] for job_id in (first, second)] == ["SUCCEEDED"] * 2
    assert trio.job(second)["started_at"] < trio.job(first)["ended_at"]
    for rank in range(3):
        assert {trio.log(rank, job_id).strip() for job_id in (first, second)} == {"gpu=0 of 1", "gpu=1 of 1"}


def test_one_failing_rank_ends_all_at_once(trio):
    job_id = trio.submit(run=by_rank({1: "sleep 1; exit 37"}))
    job = trio.wait(job_id)
    assert (job["state"], job["exit_code"]) == ("FAILED", 37)
    assert job["reason"] == "rank 1 exited with code 37; others stopped"
    assert job_processes(trio, job_id) == []


def test_a_failing_setup_is_named(trio):
    job_id = trio.submit(setup=by_rank({2: "exit 4"}, other="true"), run="echo must not run")
    job = trio.wait(job_id)
    assert (job["state"], job["exit_code"]) == ("FAILED_SETUP", 4)
    assert "setup of rank 2 exited with code 4" in job["reason"]
    assert not os.path.exists(f"{trio.transports[0].agent_state}/logs/{job_id}/run.log")


def test_cancel_ends_stubborn_trees_on_every_node(trio):
    stubborn = (
        "(trap '' TERM; setsid sh -c 'trap \"\" TERM; sleep 300 & sleep 301' &) ; trap '' TERM; echo ready; sleep 302"
    )
    job_id = trio.submit(run=stubborn)
    for rank in range(3):
        trio.wait_for_log(rank, job_id, "ready")
    assert len(job_processes(trio, job_id)) >= 9
    answer = trio.agents[0].call("job.cancel", {"job_ids": [job_id]}, timeout_s=60)
    assert answer == {"cancelled": [job_id], "survivors": []}
    assert trio.wait(job_id)["state"] == "CANCELLED"
    assert job_processes(trio, job_id) == []


def test_every_socket_listens_on_loopback_only(trio):
    job_id = trio.submit(run=LONG)
    trio.wait_for_log(2, job_id, "here")
    ours = {one.pid: one for one in [*ray_processes(trio), *trio.processes()]}
    for one in list(ours.values()):
        ours.update({child.pid: child for child in one.children(recursive=True)})
    listening = []
    for one in ours.values():
        try:
            found = one.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        listening += [(one.name(), each.laddr) for each in found if each.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3 * 3 + 1 + 3 + 1, listening  # agents, raylets, gcs, actors, the link
    loopback = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert [entry for entry in listening if entry[1].ip not in loopback] == []
    assert [entry for entry in listening if not 20000 <= entry[1].port < 32000] == []
    trio.agents[0].call("job.cancel", {"job_ids": [job_id]}, timeout_s=60)


def test_without_the_token_nobody_is_let_in(trio):
    trio.prepare()
    root = Path(trio.transports[0].agent_state) / "ray"
    address = json.loads((root / "status.json").read_text())["address"]
    script = "import sys; from ray._raylet import GcsClient; print(GcsClient(address=sys.argv[1]).cluster_id)"
    env = {"PATH": "/usr/bin:/bin", "HOME": str(trio.root), "RAY_AUTH_MODE": "token"}
    answers = {}
    for name, token in (("wrong", "0" * 64), ("right", (root / "token").read_text())):
        argv = [sys.executable, "-c", script, address]
        with_token = {**env, "RAY_AUTH_TOKEN": token}
        answers[name] = subprocess.run(argv, env=with_token, capture_output=True, text=True, timeout=60)
    assert answers["right"].stdout.startswith("ClusterID("), answers["right"].stderr
    assert answers["wrong"].returncode != 0
    assert "InvalidAuthToken" in answers["wrong"].stderr
    assert (root / "token").stat().st_mode & 0o077 == 0
    shown = [word for process in trio.processes() for word in process.cmdline()]
    assert not [word for word in shown if (root / "token").read_text() in word]


def test_a_job_outlives_the_agents(trio):
    job_id = trio.submit(run="echo here; sleep 5; echo done; exit 6")
    for rank in range(3):
        trio.wait_for_log(rank, job_id, "here")
    for rank in (0, 1):
        os.kill(trio.agents[rank].call("hello", {"versions": [1], "client": "test"})["pid"], signal.SIGKILL)
    job = trio.wait(job_id)
    assert (job["state"], job["exit_code"]) == ("FAILED", 6), (job, trio.log(0, job_id, "driver"))


def test_a_ray_of_the_users_own_lives_beside_ours(trio):
    ray = Path(sys.executable).with_name("ray")
    own = trio.short / "u"
    script = (
        f"{ray} start --head --port=0 --temp-dir={own} --num-cpus=1 --include-dashboard=false --disable-usage-stats "
        f"--object-store-memory=80000000 >/dev/null && {sys.executable} -c '\n"
        "import ray\n"
        f'ray.init(address=open("{own}/ray_current_cluster").read().strip(), log_to_driver=False)\n'
        'print("MINE", sorted(name for name in ray.cluster_resources() if name.startswith("styx")), flush=True)\n'
        "'"
    )
    job_id = trio.submit(run=by_rank({0: script}, other="echo fine"))
    job = trio.wait(job_id)
    assert job["state"] == "SUCCEEDED", (job, trio.log(0, job_id))
    assert "MINE []" in trio.log(0, job_id)
    assert not [one for one in job_processes(trio, job_id) if one.is_running()]
    assert trio.wait(trio.submit(run="true"))["state"] == "SUCCEEDED"


def test_a_job_outlives_a_ray_stop(trio):
    """What `ray stop` of a job does to us, done here to our own processes only: the real one ends every Ray it sees."""
    from ray.autoscaler._private.constants import RAY_PROCESSES

    job_id = trio.submit(run="echo here; sleep 12; echo done on $STYX_NODE_RANK")
    for rank in range(3):
        trio.wait_for_log(rank, job_id, "here")
    hit = 0
    for process in ray_processes(trio):
        try:
            name, line = process.name(), subprocess.list2cmdline(process.cmdline())
            if any(word in (name if by_name else line) for word, by_name in RAY_PROCESSES):
                process.terminate()
                hit += 1
        except psutil.NoSuchProcess:
            continue
    assert hit >= 4
    job = trio.wait(job_id, within_s=150)
    assert job["state"] == "SUCCEEDED", (job, trio.log(0, job_id, "driver"))
    for rank in range(3):
        assert f"done on {rank}" in trio.log(rank, job_id)
    assert "joined Ray again" in trio.log(0, job_id, "driver")


def test_a_killed_node_is_noticed_and_healed(trio):
    job_id = trio.submit(run=LONG)
    for rank in range(3):
        trio.wait_for_log(rank, job_id, "here")
    began = time.monotonic()
    trio.kill_node(2)
    job = trio.wait(job_id, within_s=60)
    took = time.monotonic() - began
    assert (job["state"], job["exit_code"], job["reason"]) == ("FAILED_DRIVER", None, "node 2 was lost")
    assert took < 30
    assert job_processes(trio, job_id) == []
    trio.start_agent(2)
    assert trio.wait(trio.submit(run="true"))["state"] == "SUCCEEDED"


def test_a_killed_driver_takes_its_ranks_along(trio):
    job_id = trio.submit(run=LONG)
    for rank in range(3):
        trio.wait_for_log(rank, job_id, "here")
    driver = next(one for one in job_processes(trio, job_id) if "drive" in one.cmdline())
    driver.kill()
    job = trio.wait(job_id)
    assert job["state"] == "FAILED_DRIVER"
    give_up = time.monotonic() + 20
    while job_processes(trio, job_id):
        assert time.monotonic() < give_up, job_processes(trio, job_id)
        time.sleep(0.2)


@pytest.mark.parametrize("word", ["keep", "gcs_server"])
def test_the_next_prepare_heals_what_was_killed(trio, word):
    found = [one for one in ray_processes(trio) if word in one.cmdline() or word in one.cmdline()[0]]
    assert found
    for one in found:
        one.send_signal(signal.SIGKILL)
    psutil.wait_procs(found, timeout=10)
    job = trio.wait(trio.submit(run="true"), within_s=150)
    assert job["state"] == "SUCCEEDED", job
    assert len(named(trio, "gcs_server")) == 1
    assert len(named(trio, "raylet")) == 3


def test_teardown_leaves_nothing(trio):
    trio.prepare()
    assert len(list(trio.short.glob("r-*"))) == 3
    before = ray_processes(trio)
    assert before
    trio.backend.teardown(trio.key, trio.nodes())
    assert ray_processes(trio) == []
    assert not [one for one in before if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert list(trio.short.glob("r-*")) == []
    for transport in trio.transports:
        assert not os.path.exists(f"{transport.agent_state}/ray")
    trio.backend.teardown(trio.key, trio.nodes())  # idempotent
