"""The cache: layers, damage, expiry, refresh from every source; with real plugins and a real HTTP server."""

import functools
import http.server
import os
import re
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from styx.catalog.cache import cache_file, frame_of
from styx.catalog.query import Catalog
from styx.catalog.refresh import refresh
from styx.catalog.snapshot import write_snapshot
from styx.driver import CatalogRow, CatalogSource, Place
from styx.errors import CredentialsError, NotFound, PluginError, UsageError
from styx.optimizer.problem import Requirement
from styx.plugin import hookimpl
from styx.plugins import Hub
from styx.provision.guard import call

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEADER = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice\n"
DRIVER = """
import time
from styx.errors import CredentialsError
from styx.plugin import CatalogRow, Driver, FeatureSet, Identity
class {name}(Driver):
    name = "{name}"
    display_name = "{name}"
    features = FeatureSet(ports="any_time")
    def check(self): return Identity(account="acct", places={{}})
    def snapshot(self):
        path = self.context.home / "{name}.csv"
        return path if path.exists() else None
    def fetch(self):
        asked = self.context.home / "{name}.asked"
        asked.write_text(str(int(asked.read_text() or 0) + 1) if asked.exists() else "1")
        if (self.context.home / "{name}.slow").exists():
            time.sleep(20)
        price = self.context.home / "{name}.price"
        if not price.exists():
            raise CredentialsError("no key for {name}")
        for word in price.read_text().split():
            yield CatalogRow(cloud="{name}", instance_type="m1", region="r", usd_per_hour=float(word),
                             zone=None if float(word) < 50 else "z", ttl_s={ttl})
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""
PLACES = [Place(cloud=cloud, account="acct", region="r") for cloud in ("acme", "bolt")]
BOTH = ("acme", "bolt")
ANY = Requirement(label="any")


class World:
    """One home with two clouds."""

    def __init__(self, home):
        self.home, self.now, self.reports = home, NOW, []
        (home / "drivers").mkdir()
        self.drive("acme")
        self.drive("bolt")

    def drive(self, name, ttl=None):
        (self.home / "drivers" / f"{name}.py").write_text(DRIVER.format(name=name, ttl=ttl))
        os.utime(self.home / "drivers" / f"{name}.py", (0, 0))

    def open(self, **more):
        hub = Hub(self.home, environ={}, store_id="abc123", user="me", report=self.reports.append)
        return Catalog(hub.folders, hub, now=lambda: self.now, **more)

    def price(self, name, *words):
        (self.home / f"{name}.price").write_text(" ".join(str(word) for word in words))

    def snapshot(self, name, price, at=NOW - timedelta(days=30)):
        base = {"cloud": name, "instance_type": "m1", "region": "r", "vcpus": 2, "memory_gib": 8, "source": "page"}
        row = CatalogRow(usd_per_hour=price, as_of=at, **base)
        other = row.model_copy(update={"instance_type": "m2", "region": "r2"})
        write_snapshot([row, other], self.home / f"{name}.csv")
        os.utime(self.home / f"{name}.csv", (0, 0))

    def asked(self, name):
        path = self.home / f"{name}.asked"
        return int(path.read_text()) if path.exists() else 0

    def file(self, name, layer="base"):
        return cache_file(self.home / "catalogs", name, layer)


@pytest.fixture
def world(tmp_path):
    yield World(tmp_path)
    for name in ("acme", "bolt"):
        sys.modules.pop(f"styx_private_drivers.{name}", None)


def prices(catalog, places=PLACES):
    return {(row.cloud, row.instance_type): row.usd_per_hour for row in catalog.candidates(ANY, places)}


def test_the_first_question_reads_the_snapshot_and_asks_no_network(world):
    world.snapshot("acme", 2.0)
    world.snapshot("bolt", 1.0)
    rows = world.open().candidates(ANY, PLACES)
    assert [(row.cloud, row.usd_per_hour, row.source) for row in rows] == [("bolt", 1.0, "page"), ("acme", 2.0, "page")]
    assert rows[0].as_of == NOW - timedelta(days=30)
    assert world.asked("acme") == world.asked("bolt") == 0
    assert world.file("acme").facts().origin == "snapshot"


def test_a_new_snapshot_replaces_the_old_one(world):
    world.snapshot("acme", 2.0)
    assert prices(world.open(), PLACES[:1]) == {("acme", "m1"): 2.0}
    world.snapshot("acme", 3.0)
    os.utime(world.home / "acme.csv", (NOW.timestamp() + 5, NOW.timestamp() + 5))
    assert prices(world.open(), PLACES[:1]) == {("acme", "m1"): 3.0}


def test_a_cloud_without_rows_is_left_out_and_said_so(world):
    world.snapshot("bolt", 1.0)
    assert prices(world.open()) == {("bolt", "m1"): 1.0}
    assert "acme is left out of the plan, as its prices can't be had: no key for acme" in world.reports
    with pytest.raises(CredentialsError, match="no key for acme"):
        world.open().candidates(ANY, PLACES[:1])


def test_live_rows_cover_the_regions_they_speak_of(world):
    world.snapshot("acme", 2.0)
    world.price("acme", 1.5)
    catalog = world.open()
    (done,) = refresh(catalog.stock, ["acme"])
    assert (done.ok, done.origin, done.rows, done.as_of) == (True, "live", 2, NOW - timedelta(days=30))
    assert done.age_s == 30 * 86400
    rows = catalog.candidates(ANY, [Place(cloud="acme", account="a", region=region) for region in ("r", "r2")])
    assert [(row.region, row.usd_per_hour, row.as_of) for row in rows] == [
        ("r", 1.5, NOW),
        ("r2", 2.0, NOW - timedelta(days=30)),
    ]


def test_a_failing_cloud_keeps_its_rows_and_its_age_is_told(world):
    world.price("acme", 1.5)
    world.price("bolt", 1.0)
    catalog = world.open()
    told = []
    assert all(each.ok for each in refresh(catalog.stock, BOTH, say=told.append))
    assert sorted(each.cloud for each in told) == ["acme", "bolt"]
    (world.home / "acme.price").unlink()
    world.price("bolt", 0.9)
    world.now += timedelta(hours=2)
    acme, bolt = refresh(catalog.stock, BOTH)
    assert (acme.ok, acme.rows, acme.age_s, acme.message) == (False, 1, 7200.0, "no key for acme")
    assert (bolt.ok, bolt.age_s) == (True, 0.0)
    world.price("acme", -3, *([1] * 3))
    (acme,) = refresh(catalog.stock, ["acme"])
    assert not acme.ok
    assert "1 of 4 rows" in acme.message
    assert "usd_per_hour: -3.0 is impossible" in acme.message
    world.now -= timedelta(hours=2)
    assert prices(catalog) == {("bolt", "m1"): 0.9, ("acme", "m1"): 1.5}


def test_a_hanging_vendor_ends_at_its_deadline(world):
    world.snapshot("acme", 2.0)
    (world.home / "acme.slow").touch()
    catalog = world.open(guard=lambda what, action, _deadline_s: call(what, action, 0.2, lambda _moment: None))
    began = time.monotonic()
    (done,) = refresh(catalog.stock, ["acme"])
    assert time.monotonic() - began < 15
    assert not done.ok
    assert "acme.fetch did not answer" in done.message
    assert done.rows == 2  # those of the snapshot
    assert prices(catalog, PLACES[:1]) == {("acme", "m1"): 2.0}


def test_rows_expire_when_they_say_so(world):
    world.drive("acme", ttl=60)
    world.price("acme", 1.5)
    catalog = world.open()
    assert prices(catalog, PLACES[:1]) == {("acme", "m1"): 1.5}
    world.price("acme", 1.7)
    assert prices(catalog, PLACES[:1]) == {("acme", "m1"): 1.5}
    world.now += timedelta(seconds=61)
    assert prices(catalog, PLACES[:1]) == {("acme", "m1"): 1.7}
    (world.home / "acme.price").unlink()
    world.now += timedelta(seconds=61)
    assert prices(catalog, PLACES[:1]) == {("acme", "m1"): 1.7}
    assert prices(catalog, PLACES[:1]) == {("acme", "m1"): 1.7}
    assert world.asked("acme") == 3  # a vendor that fails is left alone for a while
    assert any("stay in use" in report for report in world.reports)


def test_a_driver_that_was_edited_is_asked_again(world):
    world.price("acme", 1.5)
    assert prices(world.open(), PLACES[:1]) == {("acme", "m1"): 1.5}
    world.price("acme", 1.6)
    assert prices(world.open(), PLACES[:1]) == {("acme", "m1"): 1.5}
    os.utime(world.home / "drivers" / "acme.py", (NOW.timestamp() + 1, NOW.timestamp() + 1))
    assert prices(world.open(), PLACES[:1]) == {("acme", "m1"): 1.6}


# ------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("kind", ["empty", "cut", "garbage", "page", "foreign"])
def test_a_damaged_file_is_made_again_and_reported(world, kind):
    world.snapshot("acme", 2.0)
    catalog = world.open()
    prices(catalog, PLACES[:1])
    path = world.file("acme").path
    whole = path.read_bytes()
    damaged = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "garbage": b"x" * len(whole),
        "page": whole[:4] + b"\xff" * 200 + whole[204:],
    }
    if kind == "foreign":
        frame_of([]).write_parquet(path)
    else:
        path.write_bytes(damaged[kind])
    assert prices(world.open(), PLACES[:1]) == {("acme", "m1"): 2.0}
    assert [report for report in world.reports if "was damaged" in report and str(path) in report]
    assert world.file("acme").facts().rows == 2


def test_a_damaged_file_that_nothing_makes_again_leaves_the_other_clouds(world):
    world.snapshot("acme", 2.0)
    world.open().candidates(ANY, PLACES[:1])
    hosted = world.home / "prices" / "vast" / "vms.csv"
    hosted.parent.mkdir(parents=True)
    hosted.write_text(HEADER + "m9,,,2,8,0.4,r,,\n")
    refresh(world.open().stock, ["vast"], str(hosted))
    places = [*PLACES[:1], Place(cloud="vast", account="a", region="r")]
    assert prices(world.open(), places) == {("acme", "m1"): 2.0, ("vast", "m9"): 0.4}
    whole = world.file("vast").path.read_bytes()
    hosted.write_text("no prices any more\n")
    world.file("vast").path.write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])
    assert prices(world.open(), places) == {("acme", "m1"): 2.0}
    assert [each for each in world.reports if each.startswith("vast is left out of the plan")]
    assert [each for each in world.reports if "can't be read again from where they came" in each]


def test_a_damaged_hosted_file_is_read_again_from_where_it_came(world, tmp_path):
    hosted = tmp_path / "hosted" / "acme"
    hosted.mkdir(parents=True)
    (hosted / "vms.csv").write_text(HEADER + "m9,,,2,8,0.4,r,,\n")
    catalog = world.open()
    (done,) = refresh(catalog.stock, ["acme"], str(hosted.parent))
    assert (done.ok, done.origin, done.source) == (True, "hosted", str(hosted / "vms.csv"))
    world.file("acme").path.write_bytes(b"PAR1")
    assert prices(world.open(), PLACES[:1]) == {("acme", "m9"): 0.4}
    (hosted / "vms.csv").unlink()
    world.file("acme").path.write_bytes(b"PAR1")
    with pytest.raises(CredentialsError):
        world.open().candidates(ANY, PLACES[:1])


# ------------------------------------------------------------------------------------------------------------- layers


class Discount(CatalogSource):
    """A negotiated price for one machine, and one that nobody else has."""

    def __init__(self, cloud):
        self.cloud = cloud

    def fetch(self):
        base = {"cloud": self.cloud, "region": "r", "source": "contract 17", "as_of": NOW}
        yield CatalogRow(instance_type="m1", usd_per_hour=0.25, **base)
        yield CatalogRow(instance_type="own", usd_per_hour=0.5, **base)


class Plugin:
    @hookimpl
    def styx_catalog(self, cloud):
        return Discount(cloud) if cloud == "acme" else None


def test_a_plugin_overrides_prices_row_by_row_and_the_source_says_so(world):
    world.snapshot("acme", 2.0)
    world.snapshot("bolt", 1.0)
    catalog = world.open()
    catalog.hub._manager.register(Plugin(), name="discounts")  # stands for an installed hook plugin
    rows = {(row.cloud, row.instance_type): row for row in catalog.candidates(ANY, PLACES)}
    assert {key: row.usd_per_hour for key, row in rows.items()} == {
        ("acme", "m1"): 0.25,
        ("acme", "own"): 0.5,
        ("bolt", "m1"): 1.0,
    }
    assert rows["acme", "m1"].source == "contract 17"
    assert (rows["acme", "m1"].vcpus, rows["acme", "m1"].memory_gib) == (2, 8)  # as it was below
    assert rows["acme", "own"].vcpus is None
    assert rows["bolt", "m1"].source == "page"
    lines = {(line.cloud, line.layer): line for line in catalog.info()}
    layer = next(layer for cloud, layer in lines if cloud == "acme" and layer != "base")
    assert layer.endswith("Discount")
    assert (lines["acme", layer].origin, lines["acme", layer].rows) == ("live", 2)
    assert (lines["acme", "base"].origin, lines["acme", "base"].age_s) == ("snapshot", 30 * 86400)
    both = [Place(cloud="acme", account="a", region=region) for region in ("r", "r2")]
    assert [row.usd_per_hour for row in catalog.candidates(ANY, both)] == [0.25, 0.5, 2.0]


def test_info_makes_and_asks_nothing(world):
    world.snapshot("acme", 2.0)
    lines = [line for line in world.open().info() if line.cloud in BOTH]
    assert [(line.cloud, line.origin, line.note) for line in lines] == [
        ("acme", None, "not read yet"),
        ("bolt", None, "not read yet"),
    ]
    assert world.asked("acme") == 0
    assert list((world.home / "catalogs").iterdir()) == []
    world.file("acme").path.write_bytes(b"PAR1")
    assert "damaged" in next(line.note for line in world.open().info() if line.cloud == "acme")


# ------------------------------------------------------------------------------------------------------- hosted files


def test_each_clouds_newest_version_counts(world, tmp_path):
    for version, cloud, price in (("v7", "acme", 0.7), ("v8", "acme", 0.8), ("v5", "bolt", 0.5), ("v10", "zeta", 1)):
        folder = tmp_path / "repo" / "catalogs" / version / cloud
        folder.mkdir(parents=True)
        (folder / "vms.csv").write_text(HEADER + f"m,,,2,8,{price},r,,\n")
    catalog = world.open()
    done = refresh(catalog.stock, (), str(tmp_path / "repo"))
    assert [(each.cloud, each.rows, each.ok) for each in done] == [(name, 1, True) for name in ("acme", "bolt", "zeta")]
    places = [Place(cloud=cloud, account="a", region="r") for cloud in ("acme", "bolt", "zeta")]
    assert prices(catalog, places) == {("acme", "m"): 0.8, ("bolt", "m"): 0.5, ("zeta", "m"): 1.0}
    assert [each.cloud for each in refresh(catalog.stock, ["bolt"], str(tmp_path / "repo"))] == ["bolt"]
    (one,) = refresh(catalog.stock, ["acme"], str(tmp_path / "repo" / "catalogs" / "v7" / "acme" / "vms.csv"))
    assert one.ok
    assert prices(catalog, places[:1]) == {("acme", "m"): 0.7}


def test_a_broken_file_leaves_the_previous_rows_in_use(world, tmp_path):
    path = tmp_path / "hosted" / "acme" / "vms.csv"
    path.parent.mkdir(parents=True)
    path.write_text(HEADER + "m,,,2,8,0.4,r,,\n")
    catalog = world.open()
    refresh(catalog.stock, (), str(tmp_path / "hosted"))
    for broken, words in (
        (HEADER + "m,,,2,8,0.3,r,,\nm2,,,2", "line 3 of .*vms.csv has 4 cells under 9 columns"),
        (HEADER.replace("Price", "Cost", 1) + "m,,,2,8,0.3,r,,\n", "line 1 of .*vms.csv has no column Price"),
        (HEADER + "m,,,2,8,-1,r,,\n", "1 of 1 rows of .*vms.csv are impossible.*line 2: Price -1.0"),
    ):
        path.write_text(broken)
        (done,) = refresh(catalog.stock, (), str(tmp_path / "hosted"))
        assert (done.ok, done.rows, done.origin) == (False, 1, "hosted")
        assert re.search(words, done.message), done.message
        assert prices(catalog, PLACES[:1]) == {("acme", "m"): 0.4}


def test_wrong_sources_are_named(world, tmp_path):
    stock = world.open().stock
    with pytest.raises(NotFound, match="neither a folder nor a file"):
        refresh(stock, (), str(tmp_path / "absent"))
    with pytest.raises(NotFound, match=r"holds no <cloud>/vms.csv"):
        refresh(stock, (), str(tmp_path))
    (tmp_path / "bolt").mkdir()
    (tmp_path / "bolt" / "vms.csv").write_text(HEADER + "m,,,2,8,0.4,r,,\n")
    with pytest.raises(NotFound, match="no file of acme"):
        refresh(stock, ["acme", "bolt"], str(tmp_path))
    with pytest.raises(UsageError, match="one cloud"):
        refresh(stock, ["acme", "bolt"], str(tmp_path / "bolt" / "vms.csv"))
    with pytest.raises(PluginError, match="no plugin for cloud 'acne'"):
        refresh(stock, ["acne"])


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_hosted_catalog_on_the_network(world, server):
    folder, address = server
    (folder / "acme").mkdir()
    (folder / "acme" / "vms.csv").write_text(HEADER + "m,,,2,8,0.4,r,,\n")
    os.utime(folder / "acme" / "vms.csv", (NOW.timestamp() - 3600, NOW.timestamp() - 3600))
    catalog = world.open()
    (done,) = refresh(catalog.stock, (), address)  # clouds that the server lacks are none of the answer
    assert (done.cloud, done.ok, done.source, done.age_s) == ("acme", True, f"{address}/acme/vms.csv", 3600.0)
    acme, bolt = refresh(catalog.stock, ["acme", "bolt"], address)
    assert acme.ok
    assert not bolt.ok
    assert bolt.message == "the hosted catalog has no file for it"
    (one,) = refresh(catalog.stock, ["bolt"], f"{address}/acme/vms.csv")
    assert one.ok
    assert prices(catalog) == {("acme", "m"): 0.4, ("bolt", "m"): 0.4}
    with pytest.raises(NotFound, match="has none of"):
        refresh(catalog.stock, ["bolt"], f"{address}/nowhere")
    (gone,) = refresh(catalog.stock, ["acme"], "http://127.0.0.1:9/catalogs")
    assert not gone.ok
    assert "http://127.0.0.1:9/catalogs/acme/vms.csv can't be fetched" in gone.message
    assert gone.rows == 1
