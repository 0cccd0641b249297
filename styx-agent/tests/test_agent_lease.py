import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx_agent import lease

TIMES = st.floats(0, 1e6)
LIMITS = st.none() | st.floats(0, 1e6)
LEASES = st.fixed_dictionaries(
    {
        "idle_s": LIMITS,
        "max_age_s": LIMITS,
        "max_usd": LIMITS,
        "usd_per_hour": st.none() | st.floats(0, 100),
        "dead_man_s": LIMITS,
        "born_at": TIMES,
        "wait_for": st.sampled_from(lease.WAIT_FOR),
    }
)
SEEN = st.builds(
    lease.Observation,
    now=TIMES,
    rank=st.integers(0, 3),
    busy=st.booleans(),
    ssh=st.booleans(),
    idle_since=TIMES,
    set_at=TIMES,
    renewed_at=TIMES,
    usd_per_hour=st.none() | st.floats(0, 100),
)


@given(held=LEASES, seen=SEEN)
def test_due_exactly_from_its_end_on(held, seen):
    verdict = lease.decide(held, seen)
    assert verdict.due == (verdict.ends_at is not None and seen.now >= verdict.ends_at)
    assert (verdict.ends_at is None) == (verdict.reason is None)
    if verdict.ends_at is not None:
        assert lease.decide(held, seen._replace(now=verdict.ends_at)).due


@given(held=LEASES, seen=SEEN)
def test_no_limit_no_end_and_each_limit_can_only_bring_it_forward(held, seen):
    off = {**held, "idle_s": None, "max_age_s": None, "max_usd": None, "dead_man_s": None}
    assert lease.decide(off, seen).ends_at is None
    whole = lease.decide(held, seen).ends_at
    for name in ("idle_s", "max_age_s", "max_usd", "dead_man_s"):
        alone = lease.decide({**off, name: held[name]}, seen).ends_at
        assert alone is None or (whole is not None and whole <= alone)


@given(held=LEASES, seen=SEEN)
def test_work_holds_off_idleness_but_nothing_else(held, seen):
    idle_only = {**held, "max_age_s": None, "max_usd": None, "dead_man_s": None, "wait_for": "jobs"}
    assert lease.decide(idle_only, seen._replace(busy=True)).ends_at is None
    assert lease.decide(idle_only, seen._replace(rank=1, busy=False)).ends_at is None
    others = {**held, "idle_s": None}
    assert lease.decide(others, seen._replace(busy=True)) == lease.decide(others, seen._replace(busy=False))


@given(held=LEASES, seen=SEEN)
def test_ssh_counts_only_when_asked(held, seen):
    idle_only = {**held, "max_age_s": None, "max_usd": None, "dead_man_s": None}
    seen = seen._replace(busy=False, rank=0)
    with_ssh = lease.decide(idle_only, seen._replace(ssh=True)).ends_at
    if held["wait_for"] == "jobs_and_ssh" or held["idle_s"] is None:
        assert with_ssh is None
    else:
        assert with_ssh == lease.decide(idle_only, seen._replace(ssh=False)).ends_at


@given(held=LEASES, seen=SEEN, more=st.floats(1, 1e5))
def test_signs_of_life_never_bring_the_end_forward(held, seen, more):
    sooner = lease.decide(held, seen).ends_at
    later = lease.decide(held, seen._replace(renewed_at=seen.renewed_at + more, idle_since=seen.idle_since + more))
    assert sooner is None or (later.ends_at is not None and later.ends_at >= sooner)


def test_cost_without_a_known_rate_never_ends():
    held = {"max_usd": 1.0, "usd_per_hour": None, "born_at": 0.0}
    seen = lease.Observation(1e9, 0, False, False, 0, 0, 0, None)
    assert lease.decide(held, seen).ends_at is None
    assert lease.decide(held, seen._replace(usd_per_hour=2.0)).ends_at == 1800


def test_lease_is_remembered_renewed_and_shown(node):
    assert node.call("lease.get") == {}
    actions = {"down": {"kind": "none", "argv": [], "stops_billing": False}}
    node.call("lease.set", dead_man_s=1000, action="down", actions=actions)
    first = node.call("lease.get")
    assert first["reason"] == "no sign of its owner for 1000 s"
    node.call("lease.renew")
    assert node.call("lease.get")["ends_at"] > first["ends_at"]
    node.kill("agent")
    again = node.call("lease.get")
    assert again["ends_at"] >= first["ends_at"]
    assert again["actions"] == actions


def test_idle_node_ends_itself_but_not_while_a_job_runs(node, until):
    job_id = node.submit("sleep 1.5; echo done")
    node.call("lease.set", idle_s=0.2, action="stop", actions={"stop": {"kind": "exit", "stops_billing": False}})
    until(lambda: "done" in node.peek(job_id))
    until(lambda: not node.processes())
    assert not node.sockets.exists()
    done = node.verb("connect", *node.who(), input="")
    assert "idle for 0.2 s" in done.stderr
    node.start()
    assert node.call("job.get", job_id=job_id)["state"] == "SUCCEEDED"


@pytest.mark.parametrize("limit", ["dead_man_s", "max_age_s"])
def test_command_action_runs_and_then_everything_ends_jobs_or_not(make_node, until, limit):
    node = make_node(rank=int(limit == "dead_man_s"))
    told = node.root / "told"
    # The command may well end the instance by itself, as a local cloud does.
    script = f"env >{told}; exec {' '.join(node.argv('stop'))}"
    action = {"kind": "command", "argv": ["bash", "-c", script], "stops_billing": True}
    node.call("rank.start", job_id=1, phase="run", script="trap '' TERM; sleep 1000", num_nodes=1)
    node.call("lease.set", **{limit: 0.1}, born_at=time.time(), action="down", actions={"down": action})
    until(lambda: told.exists() and not node.processes())
    assert f"STYX_NODE={node.key}" not in told.read_text()


def test_poweroff_action_insists_until_it_succeeds(make_node, until):
    node = make_node(start=False)
    tools = node.root / "tools"
    tools.mkdir()
    (tools / "systemctl").write_text(f"#!/bin/sh\necho refused >&2; echo $* >>{node.root}/tried; exit 1\n")
    (tools / "poweroff").write_text(f"#!/bin/sh\n: >{node.root}/off\n")
    (tools / "sudo").write_text('#!/bin/sh\nshift; exec "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    for tool in ("bash", "sleep"):
        (tools / tool).symlink_to(shutil.which(tool))
    node.env["PATH"] = str(tools)  # the agent finds nothing else: no test ever reaches a real poweroff
    node.start()
    node.call("node.configure", env={"PATH": str(tools)})
    node.wait(node.submit("sleep 1000"), "RUNNING")
    node.call("lease.set", max_age_s=0, born_at=1.0, action="stop", actions={"stop": {"kind": "poweroff"}})
    until(lambda: (node.root / "off").exists() and not node.processes())
    assert (node.root / "tried").read_text() == "poweroff\n"


def test_action_none_only_says_so(node, until):
    node.call("lease.set", max_age_s=1, born_at=1.0, action="stop", actions={"stop": {"kind": "none"}})
    until(lambda: node.call("lease.get")["ending"])
    assert node.run("echo on")[1] == "on\n"
    node.call("lease.set", max_age_s=1e6, born_at=time.time(), action="stop", actions={"stop": {"kind": "none"}})
    assert not node.call("lease.get")["ending"]  # somebody has renewed it
    node.call("lease.set", max_age_s=1, born_at=1.0, action="stop", actions={"stop": {"kind": "exit"}})
    until(lambda: not node.processes())  # and it is judged again


def test_an_age_counts_by_the_nodes_clock_whatever_that_of_the_client_says():
    limits = {"max_age_s": 7200, "born_at": 1.0, "action": "down"}
    assert lease.parse(limits, now=50_000.0)["born_at"] == 1.0
    held = lease.parse({**limits, "age_s": 60}, now=50_000.0)
    assert held["born_at"] == 49_940.0
    seen = lease.Observation(50_000.0, 0, True, False, 0, 0, 0, None)
    assert lease.decide(held, seen)[::2] == (57_140.0, False)


def test_a_reader_of_the_last_output_holds_idleness_off_for_a_moment():
    held = {"idle_s": 0.0, "wait_for": "jobs"}
    seen = lease.Observation(1000.0, 0, False, False, 990.0, 0, 0, None)
    assert lease.decide(held, seen).due
    assert not lease.decide(held, seen._replace(read_at=999.0)).due
    assert lease.decide(held, seen._replace(read_at=999.0, now=1005.0)).due
