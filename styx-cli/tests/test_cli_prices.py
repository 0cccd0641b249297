"""Plans and prices: over a client in memory, and for real over a small hosted catalog in a home of its own."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from styx.api import (
    AcceleratorView,
    CatalogInfo,
    CatalogRefresh,
    ClusterState,
    LaunchPlan,
    OptimizedTask,
    OptimizeResult,
    OptimizeWhatIf,
    PlannedAlternative,
    PlannedOffer,
    PriceRange,
    connect,
)
from styx.api.views import OptimizeDetails
from styx.driver import Place
from styx.state.rows import ClusterRow, Rate
from styx_cli.app import App
from styx_cli.main import run
from styx_cli.schemas import all_schemas

HOSTED = Path(__file__).parent / "data" / "hosted"
EXAMPLES = Path(__file__).parents[2] / "examples"
SCHEMAS = all_schemas()
ALL = "aws,gcp,lambda,runpod"


# over a client in memory ----------------------------------------------------------------------------------------


def result(**changes: Any) -> OptimizeResult:
    task = OptimizedTask(
        name="train",
        cloud="acme",
        region="eu-1",
        instance_type="big",
        accelerators="A100:8",
        usd_per_hour=10.0,
        alternatives=(
            PlannedAlternative(cloud="zeus", region="us-1", instance_type="huge", usd_per_hour=None),
            PlannedAlternative(cloud="acme", region="us-1", instance_type="big", usd_per_hour=12.0, usd_more=4.0),
        ),
    )
    details = OptimizeDetails(
        num_nodes=(1,),
        hours=(2.0,),
        usd=(20.0,),
        starts_s=(0.0,),
        as_of=(datetime.now(UTC) - timedelta(days=3),),
        method="tree",
        planning_s=0.012,
        losers=(("train", "zeus", "its price is not known"),),
        what_ifs=(
            OptimizeWhatIf(
                what="without the budget of $5", usd_total=3.0, usd_more=-17.0, binds=True, where="elsewhere"
            ),
            OptimizeWhatIf(what="in the next best region", usd_total=24.0, usd_more=4.0),
        ),
        warnings=("mind the gap",),
    )
    values: dict[str, Any] = {
        "status": "optimal", "objective": "cost", "usd_total": 20.0, "seconds_total": 7200.0, "gap": 0.0,
        "tasks": (task,), "details": details,
    }  # fmt: skip
    return OptimizeResult(**values | changes)


def test_optimize_shows_the_plan_and_what_else_there_is(client: Any, cli: Any) -> None:
    client.optimized = result()
    ran = cli("optimize", "--gpus", "A100:8")
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0] == "plan: $20.00 in all, ends after 2h; least cost, optimal (tree, 12 ms)"
    assert lines[2].split() == [
        "train", "acme/eu-1", "big", "1", "A100:8", "on-demand", "$10.00", "2", "$20.00", "0s", "3d",
    ]  # fmt: skip
    assert "+$4.00" in ran.out
    assert "not zeus: its price is not known" in ran.out
    assert "budget" not in ran.out
    assert "warning: mind the gap" in ran.err


def test_explain_tells_what_binds(client: Any, cli: Any) -> None:
    client.optimized = result()
    out = cli("optimize", "--gpus", "A100:8", "--explain").out
    assert "what holds the plan back:\n  without the budget of $5: $3.00 (-$17.00), elsewhere" in out
    assert "what would not make it better:\n  in the next best region: $24.00 (+$4.00)" in out
    assert client.did("optimize")[-1][2].explain is True


def test_optimize_json_has_exactly_the_documented_keys(client: Any, cli: Any) -> None:
    client.optimized = result()
    plain = json.loads(cli("optimize", "x", "--json").out)
    assert list(plain) == ["status", "objective", "usd_total", "seconds_total", "gap", "tasks"]
    assert list(plain["tasks"][0]) == [
        "name", "cloud", "region", "zone", "instance_type", "accelerators", "use_spot", "usd_per_hour", "alternatives",
    ]  # fmt: skip
    explained = json.loads(cli("optimize", "x", "--json", "--explain").out)
    assert explained["details"]["what_ifs"][0]["binds"] is True
    for printed in (plain, explained):
        jsonschema.validate(printed, SCHEMAS["optimize"])


def test_optimize_passes_every_flag(client: Any, cli: Any) -> None:
    client.optimized = result()
    flags = (
        "--minimize time --deadline 6h --budget 40 --max-hourly-cost 9 --assume-enabled AWS,k8s --run-time 2h "
        "--run-time train=90m --run-time train@h100=30m --run-time @a100=3h --gpus A100:8 --num-nodes 2"
    )
    assert cli("optimize", *flags.split(), "x").code == 0
    _, document, options = client.did("optimize")[0]
    assert (options.minimize, options.deadline_s, options.budget_usd, options.max_usd_per_hour) == (
        "time",
        21600,
        40,
        9,
    )
    assert options.assume_enabled == ("aws", "kubernetes")
    assert options.hours == {"*": 2.0, "train": 1.5}
    assert options.hours_on == {"train": {"H100": 0.5}, "*": {"A100": 3.0}}
    assert (document.tasks[0].num_nodes, str(document.tasks[0].resources.accelerators)) == (2, "A100:8")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--minimize", "fun"), "--minimize must be cost or time"),
        (("--deadline", "soon"), "--deadline"),
        (("--budget", "-1"), "--budget must be"),
        (("--run-time", "train=often"), "--run-time"),
        (("--run-time", "0h"), "above 0"),
        (("--deadline", "0"), "--deadline 0: a time above 0"),
        (("--run-time", "=1h"), "TASK=TIME"),
        (("--assume-enabled", ","), "names of clouds"),
    ],
)
def test_wrong_flags_are_told(cli: Any, flags: tuple[str, ...], told: str) -> None:
    ran = cli("optimize", *flags, "x")
    assert (ran.code, ran.out) == (2, "")
    assert told in ran.err


def test_no_plan_exits_69_with_the_reasons(client: Any, cli: Any) -> None:
    details = OptimizeDetails(infeasible=(("train: H100:8", "needs H100; there is 8 x A100"),))
    client.optimized = result(
        status="infeasible", usd_total=None, seconds_total=None, gap=None, tasks=(), details=details
    )
    ran = cli("optimize", "x")
    assert (ran.code, ran.out) == (69, "")
    assert "train: H100:8: needs H100; there is 8 x A100" in ran.err
    ran = cli("optimize", "x", "--json")
    assert (ran.code, json.loads(ran.out)["status"]) == (69, "infeasible")
    assert json.loads(ran.err.splitlines()[-1])["error"]["type"] == "NoPlaceLeft"


def gpu(**changes: Any) -> AcceleratorView:
    values: dict[str, Any] = {
        "name": "A100", "vendor": "nvidia", "memory_gib": 40.0, "count": 8.0, "cloud": "acme", "regions": 3,
        "instance_types": ("big", "bigger"), "vcpus": 96.0, "host_memory_gib": None,
        "on_demand": PriceRange(least=10.0, most=12.5), "as_of": datetime.now(UTC) - timedelta(hours=5),
    }  # fmt: skip
    return AcceleratorView(**values | changes)


@pytest.mark.parametrize("verb", [("gpus", "list"), ("show-gpus",)])
def test_gpus(client: Any, cli: Any, verb: tuple[str, ...]) -> None:
    client.gpus = [gpu(), gpu(region="eu-1", on_demand=PriceRange(least=None, most=None))]
    ran = cli(*verb, "A100:8", "--infra", "acme", "--all-regions")
    query = client.did("accelerators")[0][1]
    assert (query.wanted, query.infra, query.every_region) == ("A100:8", "acme", True)
    first, second = (line.split() for line in ran.out.splitlines()[1:])
    assert first == ["A100:8", "40", "acme", "3", "big", "+1", "96", "?", "$10.00-12.50", "-", "5h"]
    assert second[-3:] == ["?", "-", "5h"]
    printed = json.loads(cli(*verb, "--json").out)
    jsonschema.validate(printed, SCHEMAS[" ".join(verb)])
    client.gpus = []
    none = cli(*verb, "A100")
    assert (none.code, none.out) == (66, "")
    assert "styx catalog refresh" in none.err


def test_catalog(client: Any, cli: Any) -> None:
    then, late = (datetime.now(UTC) - timedelta(days=days) for days in (40, 2))
    first = CatalogInfo(
        cloud="acme", layer="base", origin="snapshot", source="prices.csv", rows=7, dropped=2, as_of=then,
        newest_as_of=then,
    )  # fmt: skip
    client.catalogs = [
        first,
        CatalogInfo(cloud="acme", layer="deals", origin=None, note="not read yet"),
    ]
    lines = [line.split() for line in cli("catalog", "list").out.splitlines()]
    assert lines[1] == ["acme", "7", "snapshot", "40d", "prices.csv"]
    assert lines[2] == ["acme", "+", "deals", "-", "-", "?", "-", "not", "read", "yet"]
    client.catalogs[0] = first.model_copy(update={"newest_as_of": late})
    assert "  2d to 40d  prices.csv" in cli("catalog", "list").out
    assert "7, and 2 left out" in cli("catalog", "info", "acme").out
    assert cli("catalog", "info", "zeus").code == 66
    for command in ("catalog list", "catalog info"):
        jsonschema.validate(json.loads(cli(*command.split(), "--json").out), SCHEMAS[command])


def test_catalog_refresh(client: Any, cli: Any) -> None:
    then, now = datetime.now(UTC) - timedelta(days=312), datetime.now(UTC)
    good = CatalogRefresh(
        cloud="acme", ok=True, origin="live", source="acme", rows=9, seconds=0.5, as_of=then, newest_as_of=now
    )
    bad = CatalogRefresh(cloud="zeus", ok=False, rows=4, message="the key expired", hint="log in", age_s=9.0)
    client.refreshed = [good, bad]
    ran = cli("catalog", "refresh")
    assert ran.code == 0
    assert re.search(r"zeus +kept old rows +4 +0 +0 +\?", ran.out)
    assert re.search(r"acme +fresh +9 .* \ds to 312d ", ran.out)
    assert "warning: the prices of zeus were not refreshed: the key expired" in ran.err
    named = cli("catalog", "refresh", "--cloud", "zeus", "--json")
    assert (named.code, json.loads(named.out)[1]["ok"]) == (68, False)
    jsonschema.validate(json.loads(named.out), SCHEMAS["catalog refresh"])
    assert "log in" in named.err
    client.refreshed = [bad]
    hosted = cli("catalog", "refresh", "--from", "somewhere")
    assert (hosted.code, client.did("catalog_refresh")[-1]) == (65, ("catalog_refresh", (), "somewhere"))


def test_the_plan_of_a_launch_tells_age_source_and_losers(client: Any, cli: Any) -> None:
    offer = PlannedOffer(
        place=Place(cloud="acme", account="1", region="eu-1"),
        instance_type="big",
        usd_per_hour=1.5,
        as_of=datetime.now(UTC) - timedelta(days=12),
        source="the discount plugin",
    )
    client.planned = LaunchPlan(
        cluster="dev",
        reuse=False,
        num_nodes=1,
        offers=(offer, offer.model_copy(update={"as_of": None})),
        losers=(("zeus", "its best is huge in us-1, $2.00 more per hour"),),
        costs_money=True,
        warnings=("a budget is nearly used up",),
    )
    ran = cli("launch", "--dryrun", "x")
    lines = ran.out.splitlines()
    assert lines[1].split()[-2:] == ["$/H", "AGE"]
    assert [line.split()[-1] for line in lines[2:4]] == ["12d", "?"]
    assert "the price is 12d old, from the discount plugin" in ran.out
    assert "not zeus: its best is huge in us-1" in ran.out
    assert "warning: a budget is nearly used up" in ran.err


# for real --------------------------------------------------------------------------------------------------------

DRIVERS = {
    "fake": "from styx.testing.fakecloud import FakeDriver\n\n\nclass Fake(FakeDriver):\n    pass\n",
    "shop": """
from styx.plugin import CatalogSource, Cloud, Identity, Place

class Shop(Cloud, CatalogSource):
    name = "shop"
    display_name = "Shop"

    def __init__(self, context):
        self.context = context

    def check(self):
        return Identity(account="42", places={Place(cloud="shop", account="42", region="r"): None})

    def fetch(self):
        return []
""",
}


class Home:
    """The real command in this process, over a home of its own."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.environ = {"STYX_HOME": str(home), "HOME": str(home), "TERM": "dumb", "FAKE_API_KEY": "fake-key"}
        self.capture = capture
        self.patch = monkeypatch

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        self.patch.setattr(sys, "stdin", io.StringIO())
        app = App(
            connect=lambda config, report: connect(home=self.home, config=config, environ=self.environ, report=report),
            environ=self.environ,
            is_terminal=lambda _: False,
        )
        ended = run(arguments, app)
        sys.stdout.flush()
        caught = self.capture.readouterr()
        out, err = caught.out.decode(), caught.err.decode()
        assert ended == code, err
        return out, err

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code)[0])

    def config(self, text: str) -> None:
        (self.home / "config.yaml").write_text(text)


@pytest.fixture
def home(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home" / "drivers").mkdir(parents=True)
    for name, text in DRIVERS.items():
        (tmp_path / "home" / "drivers" / f"{name}.py").write_text(text)
    return Home(tmp_path / "home", capfdbinary, monkeypatch)


@pytest.fixture
def stocked(home: Home) -> Home:
    refreshed = home.json("catalog", "refresh", "--from", str(HOSTED))
    assert [(each["cloud"], each["ok"]) for each in refreshed] == [(name, True) for name in ALL.split(",")]
    return home


def test_refreshed_prices_are_listed(stocked: Home) -> None:
    rows = stocked.json("show-gpus", "A100:8")
    refreshed = [row for row in rows if row["cloud"] in ALL.split(",")]  # others have their plugin's shipped rows
    assert [(row["cloud"], row["on_demand"]["least"], row["regions"]) for row in refreshed] == [
        ("lambda", 14.3, 2), ("gcp", 29.36, 2), ("aws", 32.8, 3),
    ]  # fmt: skip
    (unknown,) = stocked.json("gpus", "list", "B200:8", "--infra", "lambda")
    assert unknown["on_demand"] == {"least": None, "most": None}
    assert 'did you mean "H100"?' in stocked("gpus", "list", "H1000", code=66)[1]
    assert {line["cloud"] for line in stocked.json("catalog", "list") if line["origin"] == "hosted"} == set(
        ALL.split(",")
    )


def test_a_plugin_that_breaks_is_a_line_of_the_listing(stocked: Home) -> None:
    path = stocked.home / "drivers" / "shop.py"
    path.write_text(path.read_text().replace("self.context = context", "raise OSError('no luck')"))
    lines = {line["cloud"]: line for line in stocked.json("catalog", "list")}
    assert "no luck" in lines["shop"]["note"]
    assert lines["aws"]["rows"] > 0


def test_a_broken_file_changes_nothing(stocked: Home, tmp_path: Path) -> None:
    (tmp_path / "aws").mkdir()
    (tmp_path / "aws" / "vms.csv").write_text("InstanceType,Price\nm7i.large,0.1\n")
    before = stocked("catalog", "info", "aws")
    _, err = stocked("catalog", "refresh", "--from", str(tmp_path), code=65)
    assert "line 1 of " in err
    assert stocked("catalog", "info", "aws") == before


@pytest.fixture
def optimize(stocked: Home) -> Callable[..., Any]:
    def call(example: str, *flags: str, code: int = 0) -> Any:
        printed = stocked.json("optimize", str(EXAMPLES / example), "--assume-enabled", ALL, *flags, code=code)
        jsonschema.validate(printed, SCHEMAS["optimize"])
        return printed

    return call


def test_example_any_of(optimize: Callable[..., Any]) -> None:
    plan = optimize("multi-cloud-any-of.yaml")
    (task,) = plan["tasks"]
    assert (plan["status"], plan["usd_total"], plan["gap"]) == ("optimal", 7.1, 0)
    assert (task["cloud"], task["accelerators"], task["use_spot"]) == ("runpod", "A100-80GB:8", True)
    prices = [each["usd_per_hour"] for each in task["alternatives"]]
    assert prices == sorted(prices)
    assert {each["cloud"] for each in task["alternatives"]} == set(ALL.split(","))


def test_example_ordered(optimize: Callable[..., Any]) -> None:
    (task,) = optimize("ordered.yaml")["tasks"]  # the first wish has no known price, so its cap is not kept
    assert (task["cloud"], task["region"], task["accelerators"]) == ("aws", "us-west-2", "H100:8")
    assert task["alternatives"][0]["accelerators"] == "A100:8"


def test_example_pipeline(optimize: Callable[..., Any]) -> None:
    plan = optimize("pipeline-data.yaml")
    assert [(task["name"], task["cloud"]) for task in plan["tasks"]] == [
        ("prepare", "aws"), ("train", "lambda"), ("evaluate", "runpod"),
    ]  # fmt: skip
    longer = optimize("pipeline-data.yaml", "--run-time", "train=6h")
    assert longer["usd_total"] == pytest.approx(plan["usd_total"] + 5 * 14.3)
    assert optimize("pipeline-data.yaml", "--deadline", "2h", code=69)["tasks"] == []
    fastest = optimize("pipeline-data.yaml", "--minimize", "time", "--explain")
    assert fastest["seconds_total"] < plan["seconds_total"]
    assert fastest["details"]["method"]


def test_flags_that_change_one_task_are_refused_for_several(stocked: Home) -> None:
    _, err = stocked("optimize", str(EXAMPLES / "pipeline-data.yaml"), "--gpus", "A100", code=2)
    assert "--gpus changes one task, and the file has 3" in err


def test_a_cloud_without_prices_cannot_be_assumed(stocked: Home) -> None:
    _, err = stocked("optimize", "x", "--assume-enabled", "shop,zeus", code=2)
    assert "nothing is known of what zeus sells" in err
    assert re.search("there are prices of .*shop.*; others come with a cloud's plugin", err)
    _, err = stocked("optimize", "x", "--assume-enabled", "shopp", code=2)
    assert 'did you mean "shop"' in err


def test_check_says_honestly_that_a_plugin_only_sells(home: Home) -> None:
    fake, shop = home.json("check", "fake", "shop", code=77)
    assert (fake["cloud"], fake["ok"]) == ("fake", True)
    assert (shop["ok"], shop["account"]) == (False, "42")
    assert "cannot make machines yet" in shop["message"]
    assert "styx optimize --assume-enabled shop" in shop["hint"]
    _, err = home("launch", "--dryrun", "--infra", "shop", "x", code=69)
    assert "cannot make machines yet" in err


# budgets -----------------------------------------------------------------------------------------------------------


def spent(home: Home, usd: float) -> None:
    """Write into the ledger that an hour of something cost so much."""
    client: Any = connect(home=home.home, environ=home.environ)
    store, now = client.world.store, client.world.now()
    key = store.new_key("old")
    place = Place(cloud="fake", account="1", region="north")
    store.insert_cluster(
        ClusterRow(
            key=key, name="old", owner="ada", state=ClusterState.TERMINATED, place=place, num_nodes=1,
            created_at=now, last_use_at=now, ended_at=now,
        )
    )  # fmt: skip
    start = now - timedelta(hours=1)
    store.open_rate(Rate(cluster=key, node="n", rank=0, place=place, usd_per_hour=usd, start=start, end=now))
    client.close()


def test_a_budget_warns_and_then_refuses(home: Home) -> None:
    home("check", "fake")
    task = ("launch", "--dryrun", "--infra", "fake", "--cpus", "2", "x")
    spent(home, 0.9)
    home.config("budgets: [{name: lab, usd: 10, per: total}]")
    assert "budget" not in home(*task)[1]
    home.config("budgets: [{name: lab, usd: 1, per: total}]")
    out, err = home(*task)
    assert '"lab" is $1.00: $0.90 was spent so far, and this would add about $0.05' in err
    assert "budget" not in out
    home.config("budgets: [{name: lab, usd: 0.92, per: total}]")
    _, err = home(*task, code=77)
    assert 'error: budget "lab" is $0.92: $0.90 was spent so far' in err
    assert "on_limit: warn" in err
    home.config("budgets: [{name: lab, usd: 0.92, per: total, on_limit: warn}]")
    assert "that is over it" in home(*task)[1]
    (line,) = home.json("cost-report", "--by", "cloud", "--days", "0")
    assert (line["name"], line["usd"]) == ("fake", pytest.approx(0.9))


def test_optimize_tells_of_budgets_and_still_plans(stocked: Home) -> None:
    stocked.config("budgets: [{name: lab, usd: 5, scope: cloud:aws}]")
    plan = ("optimize", "--gpus", "L4:4", "--assume-enabled", ALL)
    out, err = stocked(*plan)
    assert "g6.12xlarge" in out
    assert 'budget "lab" is $5.00 per month at aws' in err
    assert "it refuses launches" not in err
    assert "it refuses launches that go over it" in stocked(*plan, "--run-time", "3h")[1]


def test_what_is_not_sold_is_answered_with_what_is(stocked: Home) -> None:
    def told(*words: str, code: int) -> str:
        return stocked("gpus", "list", *words, code=code)[1]

    assert "there: H100:1, H100:8; a task that asks for H100:3 takes more, too" in told("H100:3", code=66)
    assert "hint: sold at " in told("H100", "--infra", "nowhere", code=66)
    assert 'did you mean "nvidia"' in told("nvdia:80GB+", code=2)
    assert "nobody sells MI300X at shop" in told("MI300X", "--infra", "shop", code=66)
