import os
import subprocess

import pytest

from styx_agent import files, processes
from styx_agent.client import AgentError


def can_mount():
    probe = ["unshare", *(["-m"] if os.geteuid() == 0 else ["-rm"]), "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        return False


def fill_up(path):
    try:
        with open(path, "ab", buffering=0) as stream:
            while True:
                stream.write(b"x" * 512)
    except OSError:
        pass


def submit_until_refused(node):
    for _ in range(200):
        node.submit("true")


def test_log_on_a_full_device_fails_the_job_with_that_reason(shared):
    """Needs no privilege: the log of the next job leads to the device that is always full."""
    number = shared.run("true")[0]["job_id"] + 1
    folder = shared.state_folder / "logs" / str(number)
    folder.mkdir()
    (folder / "run.log").symlink_to("/dev/full")
    job = shared.wait(shared.submit("echo lost || exit 5"))
    assert (job["job_id"], job["state"], job["exit_code"]) == (number, "FAILED", 5)
    assert job["reason"].startswith("disk full")
    assert shared.run("echo on")[1] == "on\n"


@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a small file system (unshare)")
def test_full_disk_fails_jobs_but_not_the_agent(make_node, until):
    node = make_node(start=False)
    # The mount exists only for the instance; its socket lies elsewhere and is reached from here.
    user = ["-m"] if os.geteuid() == 0 else ["-rm"]
    mounted = f'mount -t tmpfs -o size=2m none {node.root} && exec "$@"'
    plain = node.argv
    node.argv = lambda verb, *more: ["unshare", *user, "sh", "-c", mounted, "sh", *plain(verb, *more)]
    node.start()
    node.argv = plain
    inside = f"/proc/{node.call('hello', versions=[1])['pid']}/root{node.root}"
    fill = f"dd if=/dev/zero of={node.root}/filler bs=64k status=none; for i in 1 2 3 4; do echo x; done; exit 3"
    filler = node.submit(fill)
    job = node.wait(filler)
    assert (job["state"], job["exit_code"]) == ("FAILED", 3)
    assert job["reason"].startswith("disk full")
    # The last byte may still find room: take it away, and see that the agent answers all the same.
    fill_up(f"{inside}/filler")
    assert node.call("ping")
    with pytest.raises(AgentError) as caught:
        submit_until_refused(node)
    assert caught.value.code == "disk_full"
    assert node.call("job.list")["jobs"]
    os.unlink(f"{inside}/filler")
    assert node.run("echo room again")[1] == "room again\n"
    record = f"{inside}/state/jobs/{filler}/job.json"
    until(lambda: files.read_object(record).get("state") == "FAILED")
    pid = node.call("hello", versions=[1])["pid"]
    node.call("shutdown")
    until(lambda: processes.lookup(pid) is None)


def test_full_disk_is_told_from_a_failing_job(shared):
    job, _ = shared.run("exit 5")
    assert (job["exit_code"], job["reason"]) == (5, None)
