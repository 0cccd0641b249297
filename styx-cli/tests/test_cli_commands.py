"""Every verb against a client in memory: flags, tables, JSON, questions, exit codes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from styx.api import (
    CheckView,
    ClusterState,
    CostGroup,
    CostItem,
    CostView,
    Event,
    LogLine,
    Orphan,
    PermissionsView,
    Story,
)
from styx.errors import CapacityError, Interrupted


def out(ran: Any) -> Any:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


# launch and exec ------------------------------------------------------------------------------------------------


def test_launch_passes_the_jobs_output_and_exit_code(client: Any, cli: Any) -> None:
    client.output = [LogLine(rank=0, stream="setup", data=b"pip\n"), LogLine(rank=0, stream="run", data=b"out\n")]
    client.ends_as = {"state": "FAILED", "exit_code": 7}
    ran = cli("launch", "-c", "dev", "echo out")
    assert (ran.code, ran.out) == (7, "out\n")
    assert "pip" in ran.err
    assert "exit code 7" in ran.err
    assert client.closed


def test_launch_reads_every_task_flag(client: Any, cli: Any) -> None:
    flags = (
        "-n train --num-nodes 2 --gpus a100:8 --cpus 4+ --memory 16+ -t big --use-spot --disk-size 100 "
        "--disk-tier high --network-tier best --image-id ami-1 --ports 8080 --ports 9000-9001 --env A=1 --env B "
        "--secret S=hush --workdir . --infra acme/eu-1"
    )
    ran = cli("launch", "-c", "dev", *flags.split(), "train $A", environ={"B": "2"})
    assert ran.code == 0, ran.err
    task = client.did("launch")[0][1]
    resources = task.resources
    assert (task.name, task.num_nodes, task.run, task.workdir) == ("train", 2, "train $A", ".")
    assert (task.envs, task.secret_values()) == ({"A": "1", "B": "2"}, {"S": "hush"})
    assert (str(resources.accelerators), str(resources.cpus), str(resources.memory)) == ("A100:8", "4+", "16+")
    assert (resources.instance_type, resources.use_spot, resources.disk_tier) == ("big", True, "high")
    assert resources.port_numbers() == (8080, 9000, 9001)
    assert str(resources.infra) == "acme/eu-1"
    assert "hush" not in ran.out + ran.err


def test_launch_options(client: Any, cli: Any) -> None:
    cli(
        "launch",
        "-c",
        "dev",
        "--fast",
        "--no-setup",
        "-i",
        "10",
        "--down",
        "--wait-for",
        "jobs",
        "--retry-for",
        "2h",
        "x",
    )
    options = client.did("launch")[0][2]
    assert (options.cluster, options.fast, options.no_setup, options.down) == ("dev", True, True, True)
    assert (options.idle_minutes, options.wait_for) == (10, "jobs")
    assert (options.retry_until_up, options.retry_for_s) == (True, 7200)


def test_a_name_that_the_plan_made_up_is_the_one_launched(client: Any, cli: Any) -> None:
    assert cli("launch", "x").code == 0
    assert client.did("launch")[0][2].cluster == "fresh"


@pytest.mark.parametrize("flags", [("-d",), ("--detach-run",), ("--no-follow",)])
def test_detached_launch_follows_nothing(client: Any, cli: Any, flags: tuple[str, ...]) -> None:
    ran = cli("launch", *flags, "x")
    assert (ran.code, ran.out, client.did("tail")) == (0, "", [])
    assert "styx logs fresh 1" in ran.err


def test_launch_without_a_task_submits_nothing(client: Any, cli: Any) -> None:
    ran = cli("launch", "--json", "-c", "dev", "--gpus", "A100")
    assert out(ran) == {
        "cluster": "dev", "job_id": None, "state": None, "exit_code": 0, "exit_code_source": "styx", "error": None,
    }  # fmt: skip


def test_json_result_keeps_stdout_for_itself(client: Any, cli: Any) -> None:
    client.output = [LogLine(rank=0, stream="run", data=b"out\n")]
    client.ends_as = {"state": "FAILED", "exit_code": 69}
    ran = cli("exec", "dev", "--json", "x") if client.clusters else cli("launch", "--json", "x")
    assert (ran.code, "out\n" in ran.err) == (69, True)
    assert json.loads(ran.out)["exit_code_source"] == "job"


def test_json_result_tells_styxs_own_failure(client: Any, cli: Any) -> None:
    client.fails = CapacityError("eu-1 has no room", hint="try us-1")
    ran = cli("launch", "--json", "x")
    result = json.loads(ran.out)
    assert (ran.code, result["exit_code"], result["exit_code_source"]) == (69, 69, "styx")
    assert (result["cluster"], result["error"]["type"], result["error"]["hint"]) == (
        "fresh",
        "CapacityError",
        "try us-1",
    )
    assert ran.err.count("eu-1 has no room") == 1


def test_dryrun_prints_the_plan_and_launches_nothing(client: Any, cli: Any) -> None:
    client.paid = True
    ran = cli("launch", "--dryrun", "x")
    assert (ran.code, client.did("launch")) == (0, [])
    assert "$1.50" in ran.out
    assert out(cli("launch", "--dryrun", "--json", "x"))["costs_money"] is True


def test_a_job_of_several_nodes_labels_its_lines(client: Any, cli: Any) -> None:
    client.output = [LogLine(rank=1, stream="run", data=b"a\nb"), LogLine(rank=1, stream="run", data=b"c\n")]
    assert cli("launch", "--num-nodes", "2", "x").out == "(rank 1) a\n(rank 1) bc\n"


def test_failed_setup_shows_its_last_lines_even_if_they_were_not_streamed(client: Any, cli: Any) -> None:
    client.ends_as = {"state": "FAILED_SETUP", "exit_code": 5, "reason": "set-up failed on rank 0"}
    ran = cli("launch", "x")
    assert ran.code == 5
    assert "FAILED_SETUP" in ran.err
    assert client.did("tail")[-1][-2:] == (False, 20)


@pytest.mark.parametrize(
    ("ends_as", "code"),
    [
        ({"state": "SUCCEEDED", "exit_code": 0}, 0),
        ({"state": "SUCCEEDED", "exit_code": None}, 0),
        ({"state": "FAILED", "exit_code": 137}, 137),
        ({"state": "CANCELLED", "exit_code": 143}, 143),
        ({"state": "CANCELLED", "exit_code": None}, 72),
        ({"state": "FAILED_DRIVER", "exit_code": None}, 68),
        ({"state": "FAILED", "exit_code": None}, 68),
        ({"state": "FAILED_SETUP", "exit_code": None}, 68),
    ],
)
def test_exit_code_by_how_the_job_ended(client: Any, cli: Any, ends_as: dict[str, Any], code: int) -> None:
    client.ends_as = ends_as
    assert cli("launch", "x").code == code


def test_ctrl_c_while_streaming_only_detaches(client: Any, cli: Any) -> None:
    client.output = [LogLine(rank=0, stream="run", data=b"half")]
    client.tail_raises = KeyboardInterrupt()
    ran = cli("launch", "-c", "dev", "--json", "x")
    assert ran.code == 72
    assert "goes on" in ran.err
    assert "styx cancel dev 1" in ran.err
    assert json.loads(ran.out)["job_id"] == 1


def test_ctrl_c_before_submission_says_what_exists(client: Any, cli: Any) -> None:
    client.fails = Interrupted("launch stopped; cluster dev exists with 1 machine", hint="`styx down dev` removes it")
    ran = cli("launch", "-c", "dev", "x")
    assert (ran.code, ran.out) == (72, "")
    assert "cluster dev exists" in ran.err


def test_exec_forms(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [made.cluster("dev")]
    cli("exec", "dev", "echo $A | wc")
    cli("exec", "dev", "--", "python", "-c", "print('a b')", "--flag")
    cli("exec", "-c", "dev", "ls")
    runs = [call[1].run for call in client.did("exec")]
    assert runs == ["echo $A | wc", """python -c 'print('"'"'a b'"'"')' --flag""", "ls"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("exec",), 2, "no cluster was named"),
        (("exec", "dev"), 2, "nothing to run"),
        (("exec", "dve", "x"), 66, 'did you mean "dev"?'),
        (("exec", "dev", "python x.py", "--epochs", "3"), 2, "in quotes"),
        (("launch", "nope.yaml"), 66, "nope.yaml"),
        (("launch", "--gpu", "A100", "x"), 2, "--gpus"),
        (("launch", "--wait-for", "never", "x"), 2, "--wait-for"),
        (("launch", "--retry-for", "soon", "x"), 2, "--retry-for"),
        (("launch", "-i", "-1", "x"), 2, "--idle-minutes-to-autostop"),
        (("launch", "--num-nodes", "0", "x"), 2, "--num-nodes"),
        (("launch", "--env", "1A=2", "x"), 65, "--env"),
        (("lunch",), 2, 'did you mean "styx launch"?'),
        (("status", "-o", "xml"), 2, "--output"),
        (("status", "--ip"), 2, "exactly one cluster"),
        (("down",), 2, "no cluster was named"),
        (("down", "dev", "--all"), 2, "not both"),
        (("down", "dve"), 66, 'did you mean "dev"?'),
        (("down", "x*"), 66, 'no cluster matches "x*"'),
        (("start", "--down", "dev"), 2, "--idle-minutes-to-autostop"),
        (("autostop", "--cancel", "-i", "3", "dev"), 2, "--cancel stands alone"),
        (("cancel", "dev", "1", "--all"), 2, "not both"),
        (("logs", "dve"), 66, 'did you mean "dev"?'),
        (("logs", "dev", "--status", "-s"), 2, "exclude"),
        (("why", "dve"), 66, 'did you mean "dev"?'),
        (("ssh", "dve"), 66, 'did you mean "dev"?'),
        (("logs", "dev", "one"), 2, "JOB_IDS"),
    ],
)
def test_mistakes_get_one_clear_message(
    client: Any, cli: Any, made: Any, arguments: tuple[str, ...], code: int, said: str
) -> None:
    client.clusters = [made.cluster("dev")]
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_mistakes_are_json_on_stderr_when_json_was_asked_for(cli: Any) -> None:
    for arguments in (
        ("status", "--json", "nope"),
        ("status", "-o", "json", "--bogus"),
        ("launch", "--json", "--bogus"),
    ):
        ran = cli(*arguments)
        error = json.loads(ran.err.splitlines()[-1])["error"]
        assert (ran.out, error["exit_code"]) == ("", ran.code)


# questions --------------------------------------------------------------------------------------------------------


def test_a_paid_launch_asks_on_a_terminal(client: Any, cli: Any) -> None:
    client.paid = True
    declined = cli("launch", "x", terminal=True, answer="\n")
    assert (declined.code, client.did("launch")) == (73, [])
    assert "$1.50" in declined.err
    assert cli("launch", "x", terminal=True, answer="y\n").code == 0


def test_a_paid_launch_without_a_terminal_needs_yes(client: Any, cli: Any) -> None:
    client.paid = True
    refused = cli("launch", "x")
    assert (refused.code, client.did("launch")) == (73, [])
    assert "-y" in refused.err
    assert cli("launch", "-y", "x").code == 0


def test_a_free_launch_asks_nothing(client: Any, cli: Any) -> None:
    ran = cli("launch", "x", terminal=True, answer="")
    assert ran.code == 0
    assert "[y/N]" not in ran.err


@pytest.mark.parametrize("verb", ["down", "stop", "start"])
@pytest.mark.parametrize(
    ("price", "so_far", "names", "terminal", "answer", "code"),
    [
        (0.0, 0.0, ("a",), True, "", 0),
        (0.0, 0.0, ("a",), False, "", 0),
        (0.0, 0.0, ("a", "b"), True, "n\n", 73),
        (0.0, 0.0, ("[ab]",), True, "yes\n", 0),
        (0.0, 0.0, ("a*", "b"), False, "", 0),
        (0.0, 3.0, ("a",), False, "", 73),
        (2.0, 0.0, ("a",), False, "", 73),
        (None, 0.0, ("a",), False, "", 73),
        (2.0, None, ("a",), True, "y\n", 0),
        (2.0, None, ("a",), True, "", 73),
        (2.0, None, ("a", "-y"), False, "", 0),
    ],
)
def test_questions_about_clusters(
    client: Any,
    cli: Any,
    made: Any,
    verb: str,
    price: Any,
    so_far: Any,
    names: Any,
    terminal: bool,
    answer: str,
    code: int,
) -> None:
    client.clusters = [made.cluster(name, usd_per_hour=price, usd_so_far=so_far) for name in ("a", "b")]
    ran = cli(verb, *names, terminal=terminal, answer=answer)
    assert ran.code == code, ran.err
    assert bool(client.did(verb)) == (code == 0)


# listings ---------------------------------------------------------------------------------------------------------


def test_status_table_and_json(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [
        made.cluster("free", lease={"idle_s": 600, "action": "down"}),
        made.cluster("paid", usd_per_hour=None, usd_so_far=None, state=ClusterState.LOST, note="preempted"),
    ]
    ran = cli("status")
    header, *rows = ran.out.splitlines()
    assert header.split() == ["NAME", "INFRA", "NODES", "RESOURCES", "STATE", "$/H", "COST", "LEASE", "AGE"]
    assert "down at 10m idle" in rows[0]
    assert re.search(r" \?  +\?  +-  +2h( \d+m)?$", rows[1].rstrip())
    assert "$0.00" not in rows[1]
    assert "paid: preempted" in ran.err
    listed = out(cli("status", "-o", "json"))
    assert [(each["name"], each["usd_per_hour"]) for each in listed] == [("free", 0.0), ("paid", None)]
    assert {"name", "state", "infra", "nodes", "usd_per_hour"} <= listed[0].keys()
    assert cli("status", "-r", "p*").out.count("\n") == 2
    assert client.did("status")[-1] == ("status", ("p*",), True)


def test_empty_listings_are_empty_arrays(cli: Any) -> None:
    for verb in ("status", "queue", "cost-report", "check"):
        assert out(cli(verb, "--json")) == []
    assert cli("status").out == ""


def test_status_answers_one_question(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [
        made.cluster("web", ips=("10.0.0.1", "10.0.0.2"), endpoints={8080: "http://h:1"}),
        made.cluster("x"),
    ]
    assert cli("status", "--ip", "web").out == "10.0.0.1\n"
    assert cli("status", "--endpoint", "8080", "web").out == "http://h:1\n"
    assert "8080  http://h:1" in cli("status", "--endpoints", "web").out
    assert out(cli("status", "--endpoints", "web", "--json")) == {"8080": "http://h:1"}
    assert cli("status", "--endpoint", "1", "web").code == 66
    assert cli("status", "--ip", "x").code == 66
    assert cli("status", "--ip", "*").code == 2


def test_queue(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [made.cluster("dev")]
    client.jobs = [
        made.job("dev", 1, name="train", state="FAILED", exit_code=1),
        made.job("dev", 2, state="PENDING", exit_code=None),
    ]
    assert "train" in cli("queue", "dev").out
    listed = out(cli("queue", "--json"))
    assert [(each["cluster"], each["job_id"], each["exit_code"]) for each in listed] == [
        ("dev", 1, 1),
        ("dev", 2, None),
    ]


def test_logs(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [made.cluster("dev")]
    client.jobs = [made.job("dev", 1, state="FAILED", exit_code=3), made.job("dev", 2, state="RUNNING", exit_code=None)]
    client.output = [LogLine(rank=0, stream="run", data=b"a\n")]
    assert (cli("logs", "dev", "1").code, cli("logs", "dev", "1").out) == (3, "a\n")
    assert cli("logs", "dev", "--no-follow", "--tail", "5").code == 0
    assert client.did("tail")[-1] == ("tail", "dev", 2, False, 5)
    assert (cli("logs", "dev", "--status").code, cli("logs", "dev", "--status").out) == (75, "2 RUNNING\n")
    assert (cli("logs", "dev", "1", "--status").code, cli("logs", "dev", "1", "2", "--status").code) == (3, 3)
    assert json.loads(cli("logs", "dev", "1", "--json").out) == {"rank": 0, "stream": "run", "text": "a"}
    assert out(cli("logs", "dev", "1", "-s", "--to", "got", "--json")) == {"1": "got/job-1"}


def test_mutating_verbs(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [made.cluster("a"), made.cluster("b", state=ClusterState.STOPPED)]
    assert out(cli("stop", "a", "--json")) == ["a"]
    assert out(cli("down", "--all", "--purge", "--json")) == ["a", "b"]
    assert client.did("down") == [("down", ("a", "b"), True)]
    client.events_of_down = [
        Event(
            cluster=made.cluster("b").key,
            operation="down-1",
            step="forget",
            phase="note",
            at=datetime.now(UTC),
            message="may bill",
        )
    ]
    purged = cli("down", "a", "b", "--purge", "-y").err
    assert "ended: a\n" in purged
    assert "forgotten: b; `styx sweep` finds" in purged
    assert "started: b" in cli("start", "--all", "-i", "5", "--down").err
    assert client.did("autostop") == [("autostop", ("b",), 5, True, "jobs_and_ssh")]
    cli("autostop", "a", "-y")
    cli("autostop", "a", "--cancel")
    cli("autostop", "a", "-i", "-1")
    assert [call[2] for call in client.did("autostop")[1:]] == [5.0, None, None]
    assert out(cli("cancel", "a", "3", "4", "--json")) == [3, 4]
    assert cli("cancel", "a", "--all", terminal=True, answer="no\n").code == 73
    assert "cancelled job 1" in cli("cancel", "a", "-ay").err


def test_ssh_passes_the_command_and_its_exit_code(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [made.cluster("dev")]
    assert cli("ssh", "dev", "--node", "1", "--", "ls", "-l").code == 42
    assert cli("ssh", "dev", "--", "cd /; ls | wc -l").code == 42  # one line is the shell's, as for `ssh`
    assert cli("ssh", "dev", "--", "whoami").code == 42
    assert client.did("interactive") == [
        ("interactive", "dev", 1, ("ls", "-l")),
        ("interactive", "dev", 0, ("sh", "-c", "cd /; ls | wc -l")),
        ("interactive", "dev", 0, ("whoami",)),
    ]


def test_ssh_forwards_ports(client: Any, cli: Any, made: Any) -> None:
    client.clusters = [made.cluster("dev")]
    assert cli("ssh", "dev", "-L", "8080", "-L", "1:db:2", "-L", "[::1]:0:[::2]:3").code == 42
    (asked,) = client.did("interactive")
    assert asked[4:] == ("127.0.0.1:8080 -> 127.0.0.1:8080", "127.0.0.1:1 -> db:2", "::1:0 -> ::2:3")
    for wrong in ("x", "1:2:3:4:5", "70000", "8080:0", ":80", "80:"):
        done = cli("ssh", "dev", "-L", wrong)
        assert (done.code, "is not a port to forward" in done.err) == (2, True)
    assert cli("ssh", "dev", "-N").code == 2
    assert cli("ssh", "dev", "-N", "-L", "80", "--", "ls").code == 2
    assert cli("ssh").code == 2


def test_ssh_setup_asks_once(client: Any, cli: Any) -> None:
    assert cli("ssh", "--setup").code == 73
    assert cli("ssh", "--setup", terminal=True, answer="no\n").code == 73
    assert ("ssh_setup", True) not in client.asked
    done = cli("ssh", "--setup", terminal=True, answer="y\n")
    assert (done.code, "now includes /styx/ssh/config" in done.out) == (0, True)
    assert "Include /styx/ssh/config" in done.err
    assert "now" not in cli("ssh", "--setup").out
    assert client.did("ssh_setup").count(("ssh_setup", True)) == 1
    assert cli("ssh", "--setup", "dev").code == 2


def test_why(client: Any, cli: Any) -> None:
    client.story = Story(cluster="dev", key="k", state=ClusterState.UP, note=None, attempts=(), events=())
    assert cli("why", "dev").out == "dev (k) is UP\n"
    assert out(cli("why", "dev", "--json"))["state"] == "UP"


def orphan(made: Any, name: str, **changes: Any) -> Orphan:
    values = {
        "id": name,
        "kind": "node",
        "place": made.place,
        "cluster_key": "k",
        "created_at": made.now - timedelta(days=2),
    }
    return Orphan(**values | changes)


def test_sweep_lists_and_asks_before_money_is_touched(client: Any, cli: Any, made: Any) -> None:
    client.orphans = (orphan(made, "i-1", usd_per_hour=2.0), orphan(made, "n-1", free=True))
    listed = cli("sweep")
    assert listed.code == 0
    assert "$2.00" in listed.out
    assert "free" in listed.out
    refused = cli("sweep", "--delete")
    assert refused.code == 73
    assert ("sweep", True, ()) not in client.asked
    assert "removed" in cli("sweep", "--delete", terminal=True, answer="y\n").out
    assert out(cli("sweep", "--delete", "-y", "--json"))["orphans"][0]["deleted"] is True


def test_sweep_of_free_things_asks_nothing(client: Any, cli: Any, made: Any) -> None:
    client.orphans = (orphan(made, "n-1", free=True),)
    assert cli("sweep", "--delete").code == 0


def test_sweep_never_calls_unreadable_empty(client: Any, cli: Any, made: Any) -> None:
    client.unreadable = ((made.place, "credentials expired"),)
    ran = cli("sweep")
    assert ran.code == 68
    assert "acme/eu-1 could not be listed: credentials expired" in ran.err
    assert "nothing of ours" not in ran.err


def test_check_exits_77_when_what_was_asked_for_refuses(client: Any, cli: Any) -> None:
    good = CheckView(cloud="local", ok=True, account="me", places=("local/here",))
    bad = CheckView(cloud="acme", ok=False, message="the key expired", hint="log in")
    client.checks = [good, bad]
    assert cli("check").code == 0
    assert "local/here" in cli("check", "-v").out
    refused = cli("check", "acme")
    assert refused.code == 77
    assert refused.err.count("log in") == 1
    client.checks = [bad.model_copy(update={"message": "one\ntwo"})]
    assert "one; two" in cli("check").out
    client.checks = [bad]
    assert cli("check").code == 77


def test_check_permissions(client: Any, cli: Any) -> None:
    acme = PermissionsView(
        cloud="acme", checked=True, granted=3, missing=("acme:Make",), unknown=("acme:Look",), policy="/p.json"
    )
    other = PermissionsView(cloud="other", checked=False, message="its driver has no such check")
    client.allowed = [acme, other]
    lacking = cli("check", "--permissions")
    assert lacking.code == 77
    assert "missing: acme:Make" in lacking.err
    assert "could not be asked about: acme:Look" in lacking.err
    assert "/p.json grants all that is needed" in lacking.err
    client.allowed = [acme.model_copy(update={"missing": ()}), other]
    assert cli("check", "--permissions").code == 0
    assert cli("check", "--permissions", "other").code == 77
    assert json.loads(cli("check", "--permissions", "--json").out)


def test_cost_report(client: Any, cli: Any) -> None:
    values: dict[str, Any] = {
        "key": "k", "user": "ada", "infra": "acme/eu-1", "state": ClusterState.UP, "nodes": 1, "hours": 1.5,
    }  # fmt: skip
    client.costs = [
        CostView(cluster="a", usd=3.0, usd_known=3.0, **values),
        CostView(cluster="b", usd=None, usd_known=1.0, **values),
    ]
    ran = cli("cost-report", "--all", "--days", "7")
    assert client.did("cost_report") == [("cost_report", 7, True)]
    assert ran.out.splitlines()[2].split()[-5:] == ["1.50", "?", "-", "-", "$1.00"]
    assert "$4.00, and for 1 cluster an unknown amount" in ran.err


def test_cost_report_by_job_shows_estimates_apart(client: Any, cli: Any) -> None:
    items = (
        CostItem(item="compute", usd=3.0, usd_known=3.0),
        CostItem(item="disk", usd=0.25, usd_known=0.25, estimated=True, note="a disk of 50 GiB for $5.00 a month"),
        CostItem(item="egress", usd=None, note="nobody counts it"),
    )
    client.groups = [CostGroup(by="job", name="dev/1 train", hours=1.5, usd=3.0, usd_known=3.0, items=items)]
    ran = cli("cost-report", "--by", "job")
    assert client.did("cost_groups") == [("cost_groups", "job", 30)]
    assert ran.out.splitlines()[0].split() == ["JOB", "HOURS", "MACHINES", "DISKS", "TRAFFIC", "KNOWN"]
    assert ran.out.splitlines()[1].split() == ["dev/1", "train", "1.50", "$3.00", "~$0.25", "?", "$3.25"]
    assert ran.err.splitlines()[:2] == ["disks ~: a disk of 50 GiB for $5.00 a month", "traffic ?: nobody counts it"]
    assert "by must be one of" in cli("cost-report", "--by", "week").err
    assert cli("cost-report", "--by", "user", "--all").code == 2


def test_version_and_config(cli: Any, tmp_path: Any) -> None:
    assert out(cli("version", "--json"))["styx"] == cli("version").out.split()[1]
    (tmp_path / ".styx.yaml").write_text("lease:\n  idle: 30m\n")
    shown = {each["key"]: each for each in out(cli("config", "show", "--json", "--config", "lease.action=down"))}
    assert shown["lease.idle"]["source"].endswith(".styx.yaml")
    assert shown["lease.action"] == {"key": "lease.action", "value": "down", "source": "--config lease.action=down"}
    assert cli("config", "show", "nothing.there").code == 66
    assert "lease.idle" in cli("config", "show", "lease").out


def test_validate(cli: Any, tmp_path: Any) -> None:
    (tmp_path / "good.yaml").write_text("secrets: {KEY: null}\nrun: true && echo\n")
    (tmp_path / "bad.yaml").write_text("name: x\nnum_nodes: zero\n")
    ran = cli("validate", "good.yaml", "bad.yaml", "--secret", "KEY=hush", "--json")
    good, bad = json.loads(ran.out)
    assert (ran.code, good) == (1, {"file": "good.yaml", "ok": True, "errors": []})
    assert bad["errors"][0].keys() == {"line", "field", "value", "message", "suggestion"}
    assert (bad["errors"][0]["line"], bad["errors"][0]["field"]) == (2, "num_nodes")
    assert cli("validate", "good.yaml", "--env", "KEY=1").code == 0
    text = cli("validate", "bad.yaml")
    assert (text.code, text.out) == (1, "")
    assert "bad.yaml:2: num_nodes" in text.err
