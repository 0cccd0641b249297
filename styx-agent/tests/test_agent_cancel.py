import time

import pytest

from styx_agent import files
from styx_agent.client import AgentError

NASTY = r"""
trap '' TERM INT HUP
cat >nasty.py <<'PY'
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
if len(sys.argv) > 2:
    os.execvpe(sys.executable, [sys.executable, __file__, sys.argv[1]], {})
null = os.open("/dev/null", os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)
os.chdir("/")
with open(sys.argv[1], "a") as stream:
    stream.write("%d\n" % os.getpid())
time.sleep(1000)
PY
python3 -S nasty.py "$PIDS" clear
(sleep 1000 & echo $! >>"$PIDS"; exec setsid sleep 1000) &
echo $$ >>"$PIDS"
while :; do sleep 0.1; done
"""


def test_cancel_ends_a_nasty_tree_and_says_so(shared, tmp_path, until, alive):
    pids = tmp_path / "pids"
    other = shared.submit("sleep 1000", cpus=0)
    job_id = shared.submit(NASTY, env={"PIDS": str(pids)})
    found = until(lambda: pids.exists() and len(lines := pids.read_text().split()) >= 3 and lines)
    assert all(map(alive, found))
    done = shared.call("job.cancel", job_ids=[job_id], grace_s=0.5)
    assert done == {"cancelled": [job_id], "survivors": []}
    assert not any(map(alive, found))
    job = shared.call("job.get", job_id=job_id)
    assert (job["state"], job["reason"]) == ("CANCELLED", "cancelled")
    assert shared.call("job.get", job_id=other)["state"] == "RUNNING"
    shared.call("job.cancel", job_ids=[other])


def test_cancel_gives_grace_and_keeps_the_last_words(shared, until):
    job_id = shared.submit("trap 'sleep 0.3; echo saved; exit 5' TERM; echo on; while :; do sleep 0.05; done")
    until(lambda: "on" in shared.peek(job_id))
    shared.call("job.cancel", job_ids=[job_id])
    words = shared.log(job_id).split()
    assert (words[0], words[-1]) == ("on", "saved")
    assert shared.call("job.get", job_id=job_id)["exit_code"] == 5


def test_cancel_in_every_state_and_twice(make_node):
    node = make_node()
    node.call("node.configure", cpus=1)
    setting_up = node.submit("true", setup="sleep 1000", cpus=1)
    pending = [node.submit("true", cpus=1) for _ in range(3)]
    node.wait(setting_up, "SETTING_UP")
    assert node.call("job.cancel", job_ids=[pending[0]])["cancelled"] == [pending[0]]
    assert node.call("job.cancel", job_ids=[pending[0]])["cancelled"] == []
    assert node.call("job.cancel", job_ids=None)["cancelled"] == [setting_up, *pending[1:]]
    assert {job["state"] for job in node.call("job.list")["jobs"]} == {"CANCELLED"}
    assert node.log(pending[1]) == ""
    assert node.run("echo next", cpus=1)[1] == "next\n"
    with pytest.raises(AgentError, match="no job 99"):
        node.call("job.cancel", job_ids=[99])


def test_cancel_right_after_submit_never_leaves_anything(shared):
    for number in range(8):
        job_id = shared.submit("sleep 1000 & sleep 1000")
        time.sleep(number * 0.01)
        assert shared.call("job.cancel", job_ids=[job_id], grace_s=0.2)["survivors"] == []
        assert shared.call("job.get", job_id=job_id)["state"] == "CANCELLED"


def test_cancel_is_finished_by_the_next_agent(node, until, alive):
    job_id = node.submit("trap '' TERM; echo $$; while :; do sleep 0.1; done")
    pid = int(until(lambda: node.peek(job_id)))
    with node.connect() as connection:
        connection._socket.sendall(b'{"id": 9, "method": "job.cancel", "params": {"job_ids": null, "grace_s": 60}}\n')
        until(lambda: files.read_object(node.state.job(job_id, "job.json")).get("cancelled"))
        node.kill("agent")
    until(lambda: not alive(pid))
    assert node.wait(job_id)["state"] == "CANCELLED"
