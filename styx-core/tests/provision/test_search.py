"""Where one launch may run, and where it goes after refusals: the graph planner over a private cloud's catalog."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from styx.api import LaunchOptions, OptimizeOptions, connect
from styx.driver import CatalogRow, Place
from styx.errors import NoPlaceLeft, Scope
from styx.models import Task
from styx.optimizer.failover import block_of
from styx.optimizer.problem import Limit, Reservation, Selector
from styx.provision.placing import graph_of
from styx.provision.search import Search
from styx.provision.unsaid import unsaid
from styx.provision.wishes import Used, configured, limit_left, reservation_left

DRIVER = """
from styx.plugin import CatalogRow, Driver, FeatureSet, Identity, Place
class {title}(Driver):
    name = "{name}"
    display_name = "{title}"
    features = FeatureSet(ports="any_time", mounts=True)
    def check(self):
        places = [Place(cloud="{name}", account="acct", region=region) for region in {regions}]
        return Identity(account="acct", places=dict.fromkeys(places))
    def fetch(self):
        for region, usd in {regions}.items():
            for number in range({kinds}):
                yield CatalogRow(cloud="{name}", instance_type=f"m{{number}}", region=region, vcpus=8, memory_gib=64,
                                 usd_per_hour=usd + number * 0.01)
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""


@pytest.fixture
def client(private_clouds):
    sold = {"ibm": ({"us-south": 1.0, "us-east": 1.2}, 7), "do": ({"nyc3": 0.9}, 2)}
    return private_clouds(
        {
            name: DRIVER.format(name=name, title=name.title(), regions=regions, kinds=kinds)
            for name, (regions, kinds) in sold.items()
        }
    )


def search(client, hours=1.0, **fields):
    return Search(client.world, Task.from_dict({"run": "true", **fields}), hours)


def where(choices):
    return [(choice.place.region, choice.offer.instance_type) for choice in choices]


def test_data_that_a_task_reads_draws_it_to_its_cloud(client):
    plain = search(client).plan()
    assert where(plain.choices)[0] == ("nyc3", "m0")
    inputs = {"inputs": {"cos://us-south/bucket/data": 100}}
    drawn = search(client, **inputs).plan()
    assert drawn.choices[0].place.cloud == "ibm"
    assert any(loser.what == "do" and "dearer transfers" in loser.reason for loser in drawn.losers)
    assert search(client, hours=100.0, **inputs).plan().choices[0].place.cloud == "do"  # the machine weighs more


def test_a_launch_and_the_optimizer_agree(client):
    task = Task.from_dict({"run": "true", "inputs": {"cos://us-south/bucket/data": 3}})
    launch = client.plan(task, LaunchOptions())
    optimized = client.optimize(task, options=OptimizeOptions())
    offers = [(each.place.cloud, each.place.region, each.instance_type) for each in launch.offers]
    (planned,) = optimized.tasks
    same = [(each.cloud, each.region, each.instance_type) for each in (planned, *planned.alternatives)]
    assert offers == same
    assert [what for what, _ in launch.losers] == [what for _, what, _ in optimized.details.losers]


@pytest.mark.parametrize("scope", list(Scope))
def test_each_refusal_blocks_what_it_reaches_and_everything_else_is_tried(client, scope):
    found = search(client)
    tried, blocked = [], []
    while True:
        try:
            choice = found.choices(blocked)[0]
        except NoPlaceLeft:
            break
        tried.append(choice)
        blocked.append(block_of(choice, scope))
    clouds = [choice.place.cloud for choice in tried]
    expected = {
        Scope.OFFER: 16,  # all machine types, not only the cheapest few of each place
        Scope.ZONE: 3,
        Scope.REGION: 3,
        Scope.ACCOUNT: 2,
        Scope.CLOUD: 2,
    }
    assert len(tried) == len(set(where(tried))) == expected[scope]
    assert clouds[0] == "do"
    assert [choice.usd_per_hour for choice in tried] == sorted(choice.usd_per_hour for choice in tried)


def test_what_refused_lately_loses_to_what_costs_about_as_much(client):
    from styx.state.rows import Refusal

    world = client.world
    (first, *_) = search(client, resources={"infra": "ibm"}).plan().choices
    assert first.place.region == "us-south"
    refusal = {"place": first.place, "market": "on_demand", "error": "CapacityError", "at": world.now()}
    for number in range(7):
        for _ in range(4):
            world.store.remember_refusal(Refusal(instance_type=f"m{number}", **refusal))
    assert search(client, resources={"infra": "ibm"}).plan().choices[0].place.region == "us-east"


def settings(client, **placement):
    """The client's world with a section `placement`."""
    path = client.world.store.folders.home / "config.yaml"
    path.write_text(json.dumps({"placement": placement}))
    return connect(home=path.parent, environ={"HOME": str(path.parent)})


@pytest.mark.parametrize(
    ("placement", "first"),
    [
        ({}, "nyc3"),
        ({"exclude": [{"infra": "do"}]}, "us-south"),
        ({"only": [{"infra": "ibm/us-east"}]}, "us-east"),
        ({"prefer": [{"infra": "ibm", "percent": -50, "why": "credits"}]}, "us-south"),
        ({"prefer": [{"infra": "*/us-east", "usd_per_hour": -0.31}]}, "us-east"),
        ({"reserved": [{"infra": "ibm/us-east", "instance_type": "m3", "nodes": 1}]}, "us-east"),
        ({"reserved": [{"infra": "ibm/us-east", "instance_type": "m6", "nodes": 1}]}, "us-east"),
        ({"prefer": [{"infra": "ibm/us-east", "instance_type": "m6", "usd_per_hour": -9}]}, "us-east"),
        ({"exclude": [{"infra": "do", "instance_type": f"m{number}"} for number in range(6)]}, "us-south"),
        ({"only": [{"infra": "ibm/us-east", "instance_type": "m6"}]}, "us-east"),
        ({"quotas": [{"name": "q", "infra": "do", "of": "vcpus", "most": 7}]}, "us-south"),
    ],
)
def test_the_configuration_steers_launches_and_plans_alike(client, placement, first):
    there = settings(client, **placement)
    try:
        task = Task.from_dict({"run": "true"})
        assert Search(there.world, task).plan().choices[0].place.region == first
        assert there.optimize(task).tasks[0].region == first
    finally:
        there.close()


def test_a_tasks_own_settings_hold_for_plans_of_it_and_of_several(client):
    def asked(name, **placement):
        return Task.from_dict({"name": name, "run": "true", "config": {"placement": placement}})

    free, ibm = asked("free"), asked("ibm", exclude=[{"infra": "do"}])
    east = asked("east", only=[{"infra": "ibm/us-east"}])
    for task, region in ((free, "nyc3"), (ibm, "us-south"), (east, "us-east")):
        assert client.optimize(task).tasks[0].region == region
        own = replace(client.world, parts=client.world.parts.for_task(task))
        assert Search(own, task).plan().choices[0].place.region == region
    together = client.optimize([free, ibm, east, asked("dear", prefer=[{"infra": "ibm", "percent": -50}])])
    assert [task.region for task in together.tasks] == ["nyc3", "us-south", "us-east", "nyc3"]
    assert together.details.warnings == ("placement.prefer of dear is passed over: it holds for plans of dear alone",)
    excluded = client.optimize(ibm, options=OptimizeOptions(explain=True))
    (otherwise,) = [each for each in excluded.details.what_ifs if each.what == "without excluding do"]
    assert otherwise.usd_more < 0


def test_what_a_launch_would_refuse_is_told_by_its_plan(client):
    task = Task.from_dict({"name": "x", "run": "true", "resources": {"volumes": [{"path": "/x", "disk_size": 10}]}})
    (warning,) = client.optimize(task).details.warnings
    assert warning.startswith("a launch of x would be refused: resources.volumes: ")


def test_a_misspelt_cloud_of_a_wish_is_told(client, monkeypatch):
    made = settings(client, exclude=[{"infra": "ibn"}], prefer=[{"infra": "ibm"}, {"accelerator": "H100"}])
    reports = []
    monkeypatch.setattr(made.world.hub, "report", reports.append)
    try:
        configured(made.world)
    finally:
        made.close()
    told = "placement.exclude names ibn, a cloud of which there is neither a plugin nor a catalog"
    assert reports == [f'{told}; did you mean "ibm"?']


def test_what_live_clusters_use_counts_for_quotas_and_reservations():
    place = Place(cloud="ibm", account="a", region="us-south")
    offer = CatalogRow(cloud="ibm", instance_type="m", region="us-south", vcpus=8, accelerator_count=2,
                       accelerator_name="L4")  # fmt: skip
    used = [Used(place, offer, 3)]
    here, elsewhere = Selector(cloud="ibm"), Selector(cloud="do")
    for of, taken in (("vcpus", 24), ("accelerators", 6), ("nodes", 3)):
        limit = Limit(label="q", of=of, most=25, where=here)
        assert limit_left(limit, used).most == 25 - taken
        assert str(taken) in limit_left(limit, used).label
    assert limit_left(Limit(label="q", most=5, where=here), used).most == 0
    assert limit_left(Limit(label="q", most=5, where=elsewhere), used) == Limit(label="q", most=5, where=elsewhere)
    assert reservation_left(Reservation(where=here, nodes=4), used).nodes == 1
    assert reservation_left(Reservation(where=here, nodes=2), used).nodes == 0


def test_arm_machines_are_for_tasks_that_say_so(client):
    arm = [wanted.arch for wanted in search(client).problem.tasks[0].alternatives]
    assert arm == ["x86_64"]
    for resources in ({"instance_type": "m1"}, {"accelerators": "GH200"}, {"infra": "local"}):
        assert search(client, resources=resources).problem.tasks[0].alternatives[0].arch is None
    free = settings(client, arch="any")
    try:
        assert search(free).problem.tasks[0].alternatives[0].arch is None
    finally:
        free.close()


SIZED = """
from styx.plugin import CatalogRow, Driver, Identity, Place, QuotesLive
class {title}(Driver{also}):
    name = display_name = "{name}"
    def check(self):
        return Identity(account="a", places={{Place(cloud=self.name, account="a", region="r"): None}})
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""
SOLD = """
    def fetch(self):
        for kind, vcpus, memory, usd in (("nano", 2, 0.5, 0.01), ("small", 1, 8, 0.02), ("dark", None, None, 0.04),
                                         ("medium", 2, 4, 0.03), ("large", 8, 64, 0.5)):
            yield CatalogRow(cloud="ibm", instance_type=kind, region="r", vcpus=vcpus, memory_gib=memory,
                             usd_per_hour=usd)
"""
QUOTED = """
    def offers(self, query, deadline_s):
        asked.append((query.vcpus, query.memory_gib))
        return [CatalogRow(cloud="do", instance_type="host", region="r", vcpus=1, memory_gib=1, usd_per_hour=0.02)]
    def fetch(self): return ()
asked = []
"""


@pytest.fixture
def sized(private_clouds):
    ibm = SIZED.format(name="ibm", title="Ibm", also="") + SOLD
    return private_clouds({"ibm": ibm, "do": SIZED.format(name="do", title="Do", also=", QuotesLive") + QUOTED})


def kinds(client, resources=None, **placement):
    task = {"run": "true", "resources": resources or {}, "config": {"placement": placement}}
    found = client.plan(Task.from_dict(task), LaunchOptions())
    (planned,) = client.optimize(Task.from_dict(task), options=OptimizeOptions()).tasks
    assert [each.instance_type for each in found.offers] == [
        each.instance_type for each in (planned, *planned.alternatives)
    ]
    return [each.instance_type for each in found.offers]


def test_a_task_that_names_no_size_gets_no_tiny_machine(sized):
    ibm = {"infra": "ibm"}
    assert kinds(sized, ibm) == ["medium", "dark", "large"]  # what is not known may be enough
    assert kinds(sized) == ["host", "medium", "dark", "large"]  # what exists already, or is made to measure, will do
    assert sys.modules["styx_private_drivers.do"].asked[-1] == (None, None)
    assert kinds(sized, ibm, default_memory="16GB") == ["dark", "large"]
    assert kinds(sized, ibm, default_cpus=0) == ["small", "medium", "dark", "large"]
    everything = ["nano", "small", "medium", "dark"]
    assert kinds(sized, ibm, default_cpus=0, default_memory=0) == everything
    for asked in ({"cpus": "1+"}, {"memory": "0.5+"}):
        assert kinds(sized, ibm | asked)[0] == "nano"
    assert kinds(sized, ibm | {"instance_type": "nano"}) == ["nano"]
    assert kinds(sized, {"any_of": [{"infra": "ibm", "cpus": "1+"}, {"infra": "do"}]})[0] == "nano"


def test_the_size_that_was_not_asked_for_is_told(sized):
    task = Task.from_dict({"name": "t", "run": "true", "resources": {"infra": "ibm"}})
    details = sized.optimize(task, options=OptimizeOptions(explain=True)).details
    assert details.losers[0] == (
        "t",
        "smaller machines",
        "a task that names no size gets at least 2 vCPUs and 4 GiB of memory "
        "(placement.default_cpus, placement.default_memory)",
    )
    (binds,) = [each for each in details.what_ifs if each.binds]
    assert "any size" in binds.what
    assert binds.usd_more == pytest.approx(-0.02)
    capped = Task.from_dict({"run": "true", "resources": {"infra": "ibm", "max_hourly_cost": 0.01}})
    with pytest.raises(NoPlaceLeft, match=r"needs 4 GiB of memory \(by placement.default_memory, as the task names no"):
        sized.plan(capped, LaunchOptions())
    pool = sized.optimize(Task.from_dict({"run": "true", "resources": {"infra": "do"}}), options=OptimizeOptions())
    assert pool.details.losers == ()


@pytest.mark.parametrize("assumed", [(), ("do", "ibm")])
def test_a_task_of_one_node_may_go_where_its_neighbour_of_several_may_not(private_clouds, assumed):
    alone = DRIVER.replace('ports="any_time"', 'multi_node=False, ports="any_time"')
    client = private_clouds(
        {
            "do": alone.format(name="do", title="Do", regions={"nyc3": 0.1}, kinds=6),
            "ibm": DRIVER.format(name="ibm", title="Ibm", regions={"us-south": 1.0}, kinds=1),
        }
    )
    jobs = [Task.from_dict({"name": f"of-{nodes}", "run": "true", "num_nodes": nodes}) for nodes in (1, 2)]
    for tasks in (jobs, jobs[::-1]):
        planned = client.optimize(tasks, options=OptimizeOptions(assume_enabled=assumed)).tasks
        assert {each.name: each.cloud for each in planned} == {"of-1": "do", "of-2": "ibm"}


def test_run_times_on_what_nobody_has_are_told(client):
    task = Task.from_dict({"name": "t", "run": "true"})
    on = {"t": {"m3": 2.0, "H1000": 1.0}}
    (told,) = client.optimize(task, options=OptimizeOptions(hours_on=on)).details.warnings
    assert told == "the run time on H1000 counts nowhere: no machine that would do is, or has, one"


def test_a_task_of_several_keeps_its_own_defaults(sized):
    def job(name, **placement):
        return Task.from_dict({"name": name, "run": "true", "resources": {"infra": "ibm"},
                               "config": {"placement": placement}})  # fmt: skip

    base = settings(sized, arch="any", default_memory=0)
    try:
        jobs = [job("a"), job("b", exclude=[{"infra": "do"}]), job("c", arch="arm64", default_memory=64)]
        world = base.world
        tasks, *_ = graph_of(jobs, (), OptimizeOptions(), unsaid(world, OptimizeOptions(), jobs))
        asked = [task.alternatives[0] for task in tasks]
        assert [(each.arch, each.least and each.least.memory_gib) for each in asked] == [
            (None, None), (None, None), ("arm64", 64),
        ]  # fmt: skip
    finally:
        base.close()


def test_nothing_fits_says_which_requirement_kills_it(client):
    with pytest.raises(NoPlaceLeft, match=r"needs 64 vCPUs; the nearest has 8 vCPUs"):
        search(client, resources={"cpus": "64+"}).plan()


def test_a_cloud_that_has_nothing_says_what_it_lacks(client):
    task = Task.from_dict({"run": "true", "resources": {"instance_type": "m5"}})
    plan = client.plan(task, LaunchOptions())
    assert {each.place.cloud for each in plan.offers} == {"ibm"}
    assert ("do", "needs instance type m5; there is m0, m1") in plan.losers


KEYED = """
import os
from styx.plugin import CatalogRow, CredentialsError, Driver, Identity, Place
class Keyed(Driver):
    name = "keyed"
    display_name = "Keyed"
    def check(self):
        with open({path!r}) as file:
            if file.read() != "good":
                raise CredentialsError("the key is wrong", hint="make a new one")
        return Identity(account="acct", places={{Place(cloud="keyed", account="acct", region="r"): None}})
    def fetch(self):
        yield CatalogRow(cloud="keyed", instance_type="k", region="r", vcpus=8, memory_gib=64, usd_per_hour=0.01)
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""


def test_a_mended_key_counts_at_once_where_it_is_asked_for_and_after_an_hour_elsewhere(client, tmp_path):
    key = tmp_path / "key"
    key.write_text("bad")
    (tmp_path / "drivers" / "keyed.py").write_text(KEYED.format(path=str(key)))
    again = connect(home=tmp_path, environ={"HOME": str(tmp_path)})
    try:
        assert [view.ok for view in again.check(["keyed"])] == [False]
        with pytest.raises(NoPlaceLeft, match="keyed is not enabled: the key is wrong"):
            search(again, resources={"infra": "keyed"})
        key.write_text("good")
        assert search(again).plan().choices[0].place.cloud != "keyed"  # remembered, and nobody asked for it
        later = replace(again.world, now=lambda: datetime.now(UTC) + timedelta(hours=2))
        assert Search(later, Task.from_dict({"run": "true"})).plan().choices[0].place.cloud == "keyed"
        key.write_text("bad")
        again.check(["keyed"])
        key.write_text("good")
        assert search(again, resources={"infra": "keyed"}).plan().choices[0].place.cloud == "keyed"
    finally:
        again.close()
        sys.modules.pop("styx_private_drivers.keyed", None)
