import json
import os
import threading

import pytest

from styx_agent.client import AgentError

RANK_NAMES = {
    "NODE_RANK",
    "NODE_IPS",
    "NUM_NODES",
    "NUM_GPUS_PER_NODE",
    "TASK_ID",
    "INTERNAL_JOB_ID",
    "CLUSTER_INFO",
    "USER",
}
SETUP_NAMES = {"SETUP_NODE_IPS", "SETUP_NODE_RANK", "SETUP_NUM_GPUS_PER_NODE"}


@pytest.mark.parametrize(
    ("setup", "run", "state", "code"),
    [
        (None, "echo out; echo err >&2", "SUCCEEDED", 0),
        (None, "exit 7", "FAILED", 7),
        (None, "kill -TERM $$", "FAILED", 143),
        ("echo ready", "exit 255", "FAILED", 255),
        ("echo broken; exit 3", "echo never", "FAILED_SETUP", 3),
        ("true", None, "SUCCEEDED", 0),
        (None, None, "SUCCEEDED", 0),
    ],
)
def test_state_and_exit_code_of_a_job(shared, setup, run, state, code):
    job = shared.wait(shared.submit(run, setup=setup, name="j"))
    assert (job["state"], job["exit_code"], job["name"]) == (state, code, "j")
    if setup is not None:
        assert shared.log(job["job_id"], "setup") == setup.replace("echo ", "").partition(";")[0] + "\n" or (
            setup == "true"
        )
    if run == "echo out; echo err >&2":
        assert shared.log(job["job_id"]) == "out\nerr\n"
    if state == "FAILED_SETUP":
        assert shared.log(job["job_id"]) == ""


def test_signal_is_named_as_the_reason(shared):
    assert shared.run("kill -SEGV $$")[0]["reason"] == "killed by SIGSEGV"


def test_environment_is_built_and_complete(make_node):
    node = make_node()
    node.call(
        "node.configure",
        num_nodes=2,
        ips=["10.0.0.1", "10.0.0.2"],
        cpus=4,
        gpus=0.5,
        env={"PATH": "/usr/bin:/bin", "FROM_CONFIG": "c"},
        cluster={"cluster_name": "c", "cloud": "local"},
    )
    (node.home / "sky_workdir").mkdir()
    dump = "pwd; echo; env -0"
    spec = {
        "env": {"OWN": "two\nlines", "FROM_CONFIG": "overridden", "STYX_NODE_RANK": "9", "STYX_JOB": "forged"},
        "secret_env": {"TOKEN": "s3cret"},
        "task_id": "task-1",
        "user": "ada",
        "gpus": 0.5,
    }
    job = node.wait(node.submit(dump, setup=dump, **spec))
    for stream in ("setup", "run"):
        folder, _, listing = node.log(job["job_id"], stream).partition("\n\n")
        env = dict(item.split("=", 1) for item in listing.split("\0") if item)
        assert folder == str(node.home / "sky_workdir")
        names = RANK_NAMES | (SETUP_NAMES if stream == "setup" else set())
        for name in names:
            assert env["STYX_" + name] == env["SKYPILOT_" + name]
        own = {name[5:] for name in env if name.startswith("STYX_")}
        assert own == names | {"NODE", "JOB", "HOME"}
        assert env["STYX_NODE_RANK"] == "0"
        assert env["STYX_NODE_IPS"] == "10.0.0.1"
        assert env["STYX_NUM_GPUS_PER_NODE"] == "1"
        assert env["STYX_TASK_ID"] == "task-1"
        assert env["STYX_USER"] == "ada"
        assert env["STYX_INTERNAL_JOB_ID"] == str(job["job_id"])
        assert json.loads(env["STYX_CLUSTER_INFO"]) == {"cluster_name": "c", "cloud": "local"}
        assert env["STYX_NODE"] == f"{node.key}/0"
        assert env["STYX_JOB"] == f"{node.key}/0/{job['job_id']}"
        assert env["STYX_HOME"] == str(node.root)
        assert (env["HOME"], env["PATH"]) == (str(node.home), "/usr/bin:/bin")
        assert (env["OWN"], env["TOKEN"], env["FROM_CONFIG"]) == ("two\nlines", "s3cret", "overridden")
        assert env["CUDA_VISIBLE_DEVICES"] == "0"
        assert "SECRET_OF_THE_CLIENT" not in env
        assert set(env) - set(spec["env"]) - {f"{p}_{n}" for p in ("STYX", "SKYPILOT") for n in names} <= {
            *("PATH", "USER", "LOGNAME", "SHELL", "LANG", "HOME", "PWD", "OLDPWD", "SHLVL", "_"),
            *("STYX_NODE", "STYX_JOB", "STYX_HOME", "CUDA_VISIBLE_DEVICES", "TOKEN"),
        }
    kept = "".join(
        path.read_text() for path in node.state_folder.rglob("*") if path.is_file() and "logs" not in str(path)
    )
    assert "s3cret" not in kept
    assert "leaked" not in kept


def test_secrets_are_private_while_the_job_runs_and_gone_afterwards(shared):
    job_id = shared.submit("sleep 60", secret_env={"TOKEN": "s3cret"})
    shared.wait(job_id, "RUNNING")
    holders = [p for p in shared.state_folder.rglob("*") if p.is_file() and b"s3cret" in p.read_bytes()]
    assert holders
    assert {p.stat().st_mode & 0o777 for p in holders} == {0o600}
    shared.call("job.cancel", job_ids=[job_id])
    assert not [p for p in shared.state_folder.rglob("*") if p.is_file() and b"s3cret" in p.read_bytes()]


def test_usual_umask_stdin_and_signals(shared):
    script = "umask; cat; trap; bash -c 'kill -INT $$; echo not reached'; [ $$ = $(ps -o sess= -p $$) ] && echo leads"
    assert shared.run(script)[1].split() == ["0022", "leads"]


def test_hundred_jobs_keep_order_slots_and_logs(make_node):
    node = make_node()
    node.call("node.configure", cpus=4)
    marks = node.root / "marks"
    script = (
        'echo "start $STYX_INTERNAL_JOB_ID" >>{0}; seq $STYX_INTERNAL_JOB_ID; echo "end $STYX_INTERNAL_JOB_ID" >>{0}'
    )
    with node.connect() as connection:
        ids = [
            connection.call("job.submit", {"token": f"h{n}", "run": script.format(marks), "cpus": 1})["job_id"]
            for n in range(100)
        ]
    assert ids == list(range(1, 101))
    for job_id in ids:
        assert node.wait(job_id)["state"] == "SUCCEEDED"
        assert node.log(job_id) == "".join(f"{n}\n" for n in range(1, job_id + 1))
    running, most = set(), 0
    for line in marks.read_text().splitlines():
        what, number = line.split()
        running.add(number) if what == "start" else running.discard(number)
        most = max(most, len(running))
    assert most <= 4
    listed = node.call("job.list", limit=3)["jobs"]
    assert [job["job_id"] for job in listed] == [100, 99, 98]


def test_first_in_first_out_and_gpus_shared(make_node, until):
    node = make_node()
    node.call("node.configure", cpus=8, gpus=2)
    folder = node.root / "go"
    folder.mkdir()
    script = f'echo "gpus $CUDA_VISIBLE_DEVICES"; while [ ! -e {folder}/$STYX_INTERNAL_JOB_ID ]; do sleep 0.02; done'
    first = [node.submit(script, gpus=0.5), node.submit(script, gpus=1), node.submit(script, gpus=0.5)]
    big, small = node.submit(script, gpus=2), node.submit(script, gpus=0)
    for job_id in first:
        node.wait(job_id, "RUNNING")
    until(lambda: all("gpus" in node.peek(n) for n in first))
    assert [node.call("job.get", job_id=n)["state"] for n in (big, small)] == ["PENDING", "PENDING"]
    for job_id in (*first, big, small):
        (folder / str(job_id)).touch()
    logs = []
    for job_id in (*first, big, small):
        node.wait(job_id)
        logs.append(node.log(job_id).strip())
    assert logs == ["gpus 0", "gpus 1", "gpus 0", "gpus 0,1", "gpus"]


def test_job_that_can_never_fit_fails_with_the_reason_and_blocks_nobody(shared):
    shared.call("node.configure", cpus=64)
    for spec, word in (
        ({"cpus": 65}, "65 CPUs"),
        ({"gpus": 1}, "1 GPUs"),
        ({"num_nodes": 2, "driver": {"argv": ["true"], "env": {}}}, "2 nodes"),
    ):
        job = shared.wait(shared.submit("true", **spec))
        assert job["state"] == "FAILED_DRIVER"
        assert word in job["reason"]
    assert shared.run("echo on")[1] == "on\n"


def test_token_makes_submit_idempotent_even_in_parallel(shared):
    ids = []
    threads = [
        threading.Thread(target=lambda: ids.append(shared.call("job.submit", token="same", run="true")["job_id"]))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1


def test_leftovers_of_run_are_ended_those_of_setup_live_until_stop(node, until, alive):
    started = "nohup sleep 1000 >/dev/null 2>&1 & echo $!"
    job = node.wait(node.submit(started, setup=started))
    daemon, leftover = (int(node.log(job["job_id"], stream)) for stream in ("setup", "run"))
    assert job["state"] == "SUCCEEDED"
    assert alive(daemon)
    assert not alive(leftover)
    node.stop()
    assert not alive(daemon)


def test_output_of_a_pipe_that_outlives_the_script_is_kept(shared):
    assert shared.run("exec > >(sleep 0.1; cat); echo late")[1] == "late\n"


def test_missing_workdir_falls_back_to_home(shared):
    assert shared.run("pwd", workdir="not/there")[1] == f"{shared.home}\n"
    (shared.home / "made").mkdir()
    assert shared.run("pwd", workdir="~/made")[1] == f"{shared.home}/made\n"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"run": 7}, "run"),
        ({"env": {"A": 1}}, "env"),
        ({"env": {"A=B": "x"}}, "A=B"),
        ({"env": {"A": "x\0y"}}, "env"),
        ({"env": {"A": "\ud800"}}, "env"),
        ({"secret_env": {"A": ["s3cret"]}}, "secret_env"),
        ({"cpus": -1}, "cpus"),
        ({"cpus": 1e999}, "cpus"),
        ({"gpus": True}, "gpus"),
        ({"num_nodes": 1.5}, "num_nodes"),
        ({"num_nodes": 2}, "driver"),
        ({"token": ""}, "token"),
        ({"token": None}, "token"),
    ],
)
def test_bad_spec_is_refused_by_name_and_secrets_are_not_repeated(shared, spec, field):
    with pytest.raises(AgentError) as caught:
        shared.call("job.submit", **{"token": os.urandom(8).hex(), "run": "true", **spec})
    assert caught.value.code == "bad_request"
    assert field in str(caught.value)
    assert "s3cret" not in str(caught.value)
