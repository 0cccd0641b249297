import json

from styx_agent import files


def configure(node, probe, **more):
    told = {"STYX_NOTICE_FILE": node.state.notice}
    node.call("node.configure", notice=probe, env=told, **more)


def test_word_of_the_end_reaches_clients_and_jobs(node, until):
    flag = node.root / "flag"
    configure(node, ["test", "-e", str(flag)])
    job_id = node.submit('while [ ! -e "$STYX_NOTICE_FILE" ]; do sleep 0.1; done; cat "$STYX_NOTICE_FILE"')
    node.wait(job_id, "RUNNING")
    assert node.call("node.info")["notice_at"] is None
    flag.touch()
    job = node.wait(job_id)
    seen_at = node.call("node.info")["notice_at"]
    assert job["state"] == "SUCCEEDED"
    assert json.loads(node.log(job_id)) == {"seen_at": seen_at}
    assert node.call("job.wait", job_id=job_id, not_state="RUNNING", wait_s=0)["notice_at"] == seen_at


def test_a_probe_that_fails_hangs_or_is_missing_is_no_word(node, until):
    for probe in ([], ["false"], ["/no/such/program"], ["sleep", "60"]):
        configure(node, probe)
        assert node.call("node.info")["notice_at"] is None
    assert files.read_object(node.state.notice) == {}


def test_a_new_agent_asks_anew(node, until):
    configure(node, ["true"])
    until(lambda: node.call("node.info")["notice_at"])
    configure(node, ["false"])
    before = node.pid_of("agent")
    node.kill("agent")
    until(lambda: node.pid_of("agent") != before)
    assert node.call("node.info")["notice_at"] is None
