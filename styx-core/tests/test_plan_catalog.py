"""Planning through the client, over a private cloud's catalog and the embedded cloud."""

import os
import subprocess
import sys

import pytest

from styx.api import connect
from styx.api.views import AcceleratorQuery
from styx.errors import NoPlaceLeft
from styx.models import Task
from styx.provision.options import LaunchOptions

DRIVER = """
from styx.plugin import CatalogRow, Driver, FeatureSet, Identity, Place
class Acme(Driver):
    name = "acme"
    display_name = "Acme"
    features = FeatureSet(ports="any_time", mounts=True)
    def check(self):
        places = [Place(cloud="acme", account="acct", region=region) for region in ("r1", "r2")]
        return Identity(account="acct", places=dict.fromkeys(places))
    def fetch(self):
        for region, factor in (("r1", 1.0), ("r2", 0.5)):
            kinds = (("H100", 8, 80, 30), ("H100", 1, 80, 4), ("L4", 1, 24, 1), (None, 0, None, 0.1))
            for name, count, memory, price in kinds:
                yield CatalogRow(cloud="acme", instance_type=f"{name}x{count}", region=region, vcpus=8, memory_gib=64,
                                 accelerator_name=name, accelerator_count=count, accelerator_memory_gib=memory,
                                 accelerator_vendor=name and "nvidia", usd_per_hour=price * factor, source="live")
            yield CatalogRow(cloud="acme", instance_type="mystery", region=region, vcpus=8, memory_gib=64)
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""


@pytest.fixture
def client(tmp_path):
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "acme.py").write_text(DRIVER)
    made = connect(home=tmp_path, environ={"HOME": str(tmp_path)})
    assert [view.ok for view in made.check(["acme"])] == [True]
    yield made
    made.close()
    sys.modules.pop("styx_private_drivers.acme", None)


def offers(client, **resources):
    task = Task.model_validate({"run": "true", "resources": resources})
    plan = client.plan(task, LaunchOptions())
    return [(each.place.region, each.instance_type, each.usd_per_hour) for each in plan.offers]


def test_the_cheapest_first_and_unknown_prices_last(client):
    prices = [price for _, _, price in offers(client)]
    assert prices == [0.05, 0.1, 0.5, 1.0, 2.0, 4.0, 15.0, 30.0]
    assert offers(client)[0] == ("r2", "Nonex0", 0.05)
    assert {price for _, _, price in offers(client, instance_type="mystery")} == {None}


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ("h100:8", {"H100x8"}),
        ("H100-80GB", {"H100x1", "H100x8"}),
        ("80GB+", {"H100x1", "H100x8"}),
        ("20GB+", {"L4x1", "H100x1", "H100x8"}),
        ("24GB", {"L4x1"}),
        ("nvidia:80GB+:4", {"H100x8"}),
        ("L4:0.5", {"L4x1"}),
    ],
)
def test_accelerators_by_name_alias_memory_and_part(client, asked, kinds):
    assert {kind for _, kind, _ in offers(client, accelerators=asked)} == kinds


def test_what_cannot_be_had_says_what_comes_nearest(client):
    with pytest.raises(NoPlaceLeft, match=r"needs 16 x H100; the nearest has 8 x H100"):
        offers(client, accelerators="H100:16")
    with pytest.raises(NoPlaceLeft, match=r"amd"):
        offers(client, accelerators="amd:24GB+")
    with pytest.raises(NoPlaceLeft, match=r"at most \$0.01 per hour"):
        offers(client, max_hourly_cost=0.01)


def test_the_client_tells_what_is_for_sale(client):
    (done,) = client.catalog_refresh(["acme"])
    assert (done.ok, done.rows) == (True, 10)
    line = next(line for line in client.catalog_info() if line.cloud == "acme")
    assert (line.origin, line.rows) == ("live", 10)
    (view,) = [view for view in client.accelerators(AcceleratorQuery(wanted="H100:8")) if view.cloud == "acme"]
    assert (view.on_demand.least, view.on_demand.most, view.regions) == (15, 30, 2)


def test_a_plan_on_the_embedded_cloud_loads_no_polars(tmp_path):
    code = """
import sys
from styx.api import connect
from styx.models import Task
from styx.provision.options import LaunchOptions
client = connect(environ={})
plan = client.plan(Task.model_validate({"run": "true", "resources": {"infra": "local"}}), LaunchOptions())
assert plan.offers[0].place.cloud == "local"
client.status()
print(sorted(name for name in ("polars", "highspy") if name in sys.modules))
"""
    environ = {**os.environ, "STYX_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
