"""The catalog against an independent scan of the same CSV files, and against the planner's own checks."""

import csv
import random
import re

import pytest

from benchmarks import catalog_gen
from styx.catalog.query import Catalog
from styx.catalog.refresh import refresh
from styx.catalog.results import AcceleratorQuery
from styx.driver import FeatureSet, Place
from styx.errors import NotFound, UsageError
from styx.models.accelerators import AcceleratorRequest
from styx.optimizer.fit import all_checks
from styx.optimizer.problem import Least, Requirement
from styx.optimizer.reasons import why_none
from styx.plugins import Hub

ROWS = 12_000
REQUESTS = 200


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosted")
    catalog_gen.generate(folder, ROWS)
    return folder / "catalogs" / "v8"


@pytest.fixture(scope="module")
def catalog(hosted, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    hub = Hub(home, environ={}, store_id="abc123", user="me")
    made = Catalog(hub.folders, hub)
    results = refresh(made.stock, (), str(hosted))
    assert len(results) == 20
    assert all(each.ok and each.rows for each in results), results
    return made


# ---------------------------------------------------------------- a second reading of the files, by the csv module only

SIZES = {
    "H100": 80, "H200": 141, "B200": 180, "A100": 40, "A100-80GB": 80, "L4": 24, "L40S": 48, "L40": 48, "A10": 24,
    "A10G": 24, "T4": 16, "V100": 16, "RTXA6000": 48, "A4000": 16, "RTX4090": 24, "RTX5090": 32, "RTX3090": 24,
    "MI300X": 192, "RTXPRO6000": 96,
}  # fmt: skip
N1_LIMITS = {
    ("T4", 1): (48, 312), ("T4", 2): (48, 312), ("T4", 4): (96, 624),
    ("V100", 1): (12, 78), ("V100", 2): (24, 156), ("V100", 4): (48, 312), ("V100", 8): (96, 624),
}  # fmt: skip
G2 = {4: 1, 8: 1, 12: 1, 16: 1, 24: 2, 32: 1, 48: 4, 96: 8}


def number(text):
    return float(text) if text else None


def price(text):
    value = number(text)
    return value if value else None


def plus(one, other):
    return None if not one or not other else round(one + other, 6)


def machines(cloud, path):
    """Every machine of a file: region, zone, type, accelerator, count, vcpus, memory, on-demand and spot price."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if cloud == "gcp":
        yield from _gcp(lines)
        return
    for line in lines:
        if not line["Region"] or (number(line["Price"]) or 0) < 0:
            continue
        name = line["AcceleratorName"] or None
        yield (
            line["Region"].lstrip(", "),
            line.get("AvailabilityZone") or None,
            line["InstanceType"],
            name,
            number(line["AcceleratorCount"]) or 0,
            float(line["vCPUs"]),
            float(line["MemoryGiB"]),
            price(line["Price"]),
            price(line.get("SpotPrice")),
        )


def _gcp(lines):
    parts = {}
    for line in lines:
        where = line["Region"], line["AvailabilityZone"]
        name, count = line["AcceleratorName"], number(line["AcceleratorCount"])
        prices = price(line["Price"]), price(line["SpotPrice"])
        if not line["InstanceType"] and name.startswith("tpu"):
            yield (*where, name, name, 1.0, None, None, *(None if each == 700 else each for each in prices))
        elif not line["InstanceType"]:
            parts[(*where, name, count)] = prices
    for line in lines:
        kind = line["InstanceType"]
        if not kind:
            continue
        where = line["Region"], line["AvailabilityZone"]
        vcpus, memory = float(line["vCPUs"]), float(line["MemoryGiB"])
        prices = price(line["Price"]), price(line["SpotPrice"])
        own = None
        if match := re.match(r"(a2-highgpu|a3-highgpu|a3-ultragpu)-(\d+)g", kind):
            own = {"a2-highgpu": "A100", "a3-highgpu": "H100", "a3-ultragpu": "H200"}[match[1]], float(match[2])
        elif kind.startswith("g2-standard-") and int(vcpus) in G2:
            own = "L4", float(G2[int(vcpus)])
        if own is not None:
            part = parts.get((*where, *own), (None, None))
            yield (*where, kind, *own, vcpus, memory, plus(prices[0], part[0]), plus(prices[1], part[1]))
            continue
        yield (*where, kind, None, 0.0, vcpus, memory, *prices)
        if kind.startswith("n1-"):
            for (region, zone, name, count), part in parts.items():
                limit = N1_LIMITS.get((name, count))
                if (region, zone) == where and limit and vcpus <= limit[0] and memory <= limit[1]:
                    yield (*where, kind, name, count, vcpus, memory, plus(prices[0], part[0]), plus(prices[1], part[1]))


@pytest.fixture(scope="module")
def market(hosted):
    files = {path.parent.name: path for path in hosted.glob("*/vms.csv")}
    return [(cloud, *machine) for cloud, path in files.items() for machine in machines(cloud, path)]


def requests(seed, market):
    chance = random.Random(seed)
    names = sorted(SIZES)
    for _ in range(REQUESTS):
        asked = {"use_spot": chance.random() < 0.4}
        kind = chance.random()
        if kind < 0.5:
            asked["accelerator_name"] = chance.choice(names)
            asked["accelerator_count"] = chance.choice((0.1, 1, 1, 2, 4, 8))
        elif kind < 0.65:
            asked["accelerator_memory_gib"] = chance.choice((16, 24, 40, 80, 96))
            asked["accelerator_memory_exact"] = chance.random() < 0.5
            asked["accelerator_count"] = chance.choice((1, 4, 8))
        if chance.random() < 0.6:
            asked["vcpus"] = chance.choice((2, 4, 8, 32, 96))
            asked["vcpus_exact"] = chance.random() < 0.3
        if chance.random() < 0.4:
            asked["memory_gib"] = chance.choice((8, 16, 64, 500))
        if chance.random() < 0.2:
            asked["memory_per_vcpu"] = chance.choice((2, 4, 8))
        if chance.random() < 0.2:
            asked["max_usd_per_hour"] = chance.choice((0.5, 2, 10))
        if chance.random() < 0.5:
            chosen = chance.choice(market)
            asked["cloud"] = chosen[0]
            if chance.random() < 0.5:
                asked["region"] = chosen[1]
        if not asked.keys() & {"accelerator_count", "vcpus", "memory_gib", "memory_per_vcpu"}:
            asked["least"] = Least(vcpus=2, memory_gib=4)  # as tasks that name no size have it
        yield asked


def feasible(asked, machine):
    cloud, region, _zone, _kind, name, count, vcpus, memory, on_demand, spot = machine
    usd = spot if asked["use_spot"] else on_demand
    size = SIZES.get(name, 0) * min(count, 1) if name and not name.startswith("tpu") else None
    wants = asked.get("accelerator_count", 0)
    tests = (
        asked.get("cloud") in (None, cloud),
        asked.get("region") in (None, region),
        asked.get("accelerator_name") in (None, name),
        count >= wants,
        _memory(asked, size),
        "vcpus" not in asked or _amount(vcpus, asked["vcpus"], asked["vcpus_exact"]),
        "memory_gib" not in asked or (memory is not None and memory >= asked["memory_gib"]),
        "memory_per_vcpu" not in asked or (vcpus and memory / vcpus >= asked["memory_per_vcpu"]),
        "max_usd_per_hour" not in asked or (usd is not None and usd <= asked["max_usd_per_hour"]),
        "least" not in asked or ((vcpus is None or vcpus >= 2) and (memory is None or memory >= 4)),
    )
    return all(tests)


def _memory(asked, size):
    wanted = asked.get("accelerator_memory_gib")
    if wanted is None:
        return True
    if size is None:
        return False
    return abs(size - wanted) < 0.5 if asked["accelerator_memory_exact"] else size >= wanted


def _amount(has, wanted, exact):
    return has is not None and (has == wanted if exact else has >= wanted)


@pytest.mark.unmeasured
def test_the_chosen_row_is_the_cheapest_that_an_independent_scan_finds(catalog, market):
    places = sorted({(cloud, region) for cloud, region, *_ in market})
    places = [Place(cloud=cloud, account="me", region=region) for cloud, region in places]
    answered = 0
    for asked in requests(7, market):
        fitting = [machine for machine in market if feasible(asked, machine)]
        column = -1 if asked["use_spot"] else -2
        prices = [machine[column] for machine in fitting if machine[column] is not None]
        if name := asked.get("accelerator_name"):
            asked = asked | {"accelerator_name": AcceleratorRequest.model_validate(name).name}
        wanted = Requirement(label="it", **asked)
        rows = catalog.candidates(wanted, places)
        assert bool([row for row in rows if row.usd_per_hour is not None]) == bool(prices), asked
        if prices:
            assert rows[0].usd_per_hour == pytest.approx(min(prices), abs=1e-6), asked
            answered += 1
        known = [row.usd_per_hour for row in rows if row.usd_per_hour is not None]
        assert known == sorted(known)
        assert [row.usd_per_hour for row in rows[len(known) :]] == [None] * (len(rows) - len(known))
        checks = all_checks(wanted, 1, lambda row: row.features or FeatureSet())
        for row in rows[:40]:
            assert [check.need for check in checks if not check.passes(row)] == [], (asked, row)
    assert answered > REQUESTS / 2


def test_each_place_keeps_its_cheapest(catalog, market):
    regions = sorted({m[1] for m in market if m[0] == "azure"})
    places = [Place(cloud="azure", account="me", region=region) for region in regions]
    rows = catalog.candidates(Requirement(label="it", vcpus=4), places, per_place=3)
    for place in places:
        known = sorted(m[-2] for m in market if m[0] == "azure" and m[1] == place.region and m[6] >= 4 and m[-2])
        here = [row.usd_per_hour for row in rows if row.region == place.region]
        assert here == pytest.approx(known[:3])


def test_kinds_that_are_asked_for_stay_beside_cheaper_ones(catalog, market):
    places = [Place(cloud="azure", account="me", region="us-east-1")]
    plain = catalog.candidates(Requirement(label="it", vcpus=4), places)
    assert not [row for row in plain if row.accelerator_name]
    kept = catalog.candidates(Requirement(label="it", vcpus=4), places, keep=("H100", "m3i.96"))
    assert {row.accelerator_name for row in kept if row not in plain} >= {"H100", None}
    assert [row for row in kept if row.instance_type == "m3i.96"]


def test_places_open_zones_and_regions(catalog):
    wanted = Requirement(label="it", vcpus=4)
    zone = catalog.candidates(wanted, [Place(cloud="aws", account="me", region="us-east-1", zone="us-east-1-az2")])
    assert {row.zone for row in zone} == {"us-east-1-az2"}
    region = catalog.candidates(wanted, [Place(cloud="aws", account="me", region="us-east-1")])
    assert {row.zone for row in region} == {f"us-east-1-az{i}" for i in (1, 2, 3)}
    unzoned = catalog.candidates(wanted, [Place(cloud="azure", account="me", region="us-east-1", zone="1")])
    assert {row.zone for row in unzoned} == {None}
    assert catalog.candidates(wanted, [Place(cloud="aws", account="me", region="mars-1")]) == []
    elsewhere = Requirement(label="it", cloud="gcp")
    assert catalog.candidates(elsewhere, [Place(cloud="aws", account="me", region="us-east-1")]) == []


def test_features_decide_where_rows_have_none_of_their_own(catalog):
    places = [Place(cloud="scp", account="me", region="KOREA-WEST-1")]
    assert catalog.candidates(Requirement(label="it"), places, num_nodes=4)
    assert catalog.candidates(Requirement(label="it", ports=True), places) == []  # no plugin is there to say it can


def test_near_misses_lack_one_thing(catalog):
    places = [Place(cloud=cloud, account="me", region="us-east-1") for cloud in ("aws", "azure")]
    wanted = Requirement(label="it", accelerator_name="H100", accelerator_count=16, vcpus=8)
    assert catalog.candidates(wanted, places) == []
    near = catalog.near_misses(wanted, places)
    assert {row.accelerator_name for row in near} == {"H100"}
    assert max(row.accelerator_count for row in near) == 8
    mistyped = Requirement(label="it", cloud="aws", region="us-esat-1")
    everywhere = [Place(cloud="aws", account="me", region=region) for _, region in catalog.regions(["aws"])]
    assert len(everywhere) > 3
    assert "us-east-1" in {row.region for row in catalog.near_misses(mistyped, everywhere)}
    nothing = Requirement(label="it", accelerator_name="H100", vcpus=4000, max_usd_per_hour=0.001)
    assert catalog.near_misses(nothing, places)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"accelerator_name": "H1000", "accelerator_count": 1}, "H100"),
        ({"instance_type": "m3i.9"}, "m3i.96"),
        ({"vcpus": 1e5}, None),
        ({"memory_gib": 1e6}, None),
        ({"max_usd_per_hour": 1e-6}, None),
        ({"local_disk_gib": 1e7}, None),
        ({"volumes": True}, None),
    ],
)
def test_near_misses_of_what_asks_for_one_thing_only(catalog, asked, told):
    places = [Place(cloud=cloud, account="me", region="us-east-1") for cloud in ("aws", "azure")]
    wanted = Requirement(label="it", **asked)
    assert catalog.candidates(wanted, places) == []
    near = catalog.near_misses(wanted, places)
    assert near
    assert told is None or told in {name for row in near for name in (row.accelerator_name, row.instance_type)}


def test_local_disks_and_images_of_some_regions(catalog):
    places = [Place(cloud="aws", account="me", region=region) for _, region in catalog.regions(["aws"])]

    def found(**asked):
        wanted = Requirement(label="it", **asked)
        rows = catalog.candidates(wanted, places)
        checks = all_checks(wanted, 1, lambda row: FeatureSet())
        assert rows
        assert all(check.passes(row) for check in checks for row in rows)
        return rows

    assert {row.local_disk_gib for row in found(local_disk_gib=950, local_disk_exact=True)} == {950}
    assert min(row.local_disk_gib for row in found(local_disk_gib=1000)) >= 1000
    assert {row.local_disk_kind for row in found(local_disk_gib=100, local_disk_kind="nvme")} == {"nvme"}
    assert {row.region for row in found(image=False, image_regions=("us-east-1",))} == {"us-east-1"}
    big = Requirement(label="it", local_disk_gib=1e6, local_disk_kind="nvme")
    reasons = why_none(all_checks(big, 1, lambda row: FeatureSet()), catalog.near_misses(big, places))
    assert reasons.startswith("needs 1000000 GiB of local NVMe disk; the nearest has ")


def test_accelerators_are_listed_by_name_number_and_cloud(catalog, market):
    views = catalog.accelerators(AcceleratorQuery(wanted="a100-80gb:8"))
    clouds = {m[0] for m in market if m[4] == "A100-80GB" and m[5] == 8}
    assert {view.cloud for view in views} == clouds
    for view in views:
        prices = [m[-2] for m in market if m[0] == view.cloud and m[4] == "A100-80GB" and m[5] == 8 and m[-2]]
        assert (view.on_demand.least, view.on_demand.most) == pytest.approx((min(prices), max(prices)))
        assert (view.vendor, view.memory_gib, view.count) == ("nvidia", 80, 8)
        shown = {(m[6], m[-2]) for m in market if m[0] == view.cloud and m[3] == view.instance_types[0]}
        assert (view.vcpus, min(prices)) in shown  # the machine that is named is the one of the least price
        assert view.as_of is not None
    regions = catalog.accelerators(AcceleratorQuery(wanted="H100:8", infra="azure", every_region=True))
    assert len(regions) == len({m[1] for m in market if m[0] == "azure" and m[4] == "H100" and m[5] == 8})
    big = catalog.accelerators(AcceleratorQuery(wanted="amd:80GB+"))
    assert {view.name for view in big} == {"MI300X"}
    assert {view.count for view in catalog.accelerators(AcceleratorQuery(wanted="L4"))} >= {0.125, 1, 2}
    everything = catalog.accelerators(AcceleratorQuery())
    assert {view.name for view in everything} >= {"H100", "T4", "A6000", "tpu-v5e-8"}


def test_a_misspelt_accelerator(catalog):
    with pytest.raises(NotFound, match="called 'H1000'") as caught:
        catalog.accelerators(AcceleratorQuery(wanted="H1000"))
    assert 'did you mean "H100"' in caught.value.hint
    with pytest.raises(UsageError, match="A100:x"):
        catalog.accelerators(AcceleratorQuery(wanted="A100:x"))


def test_what_may_not_be_taken_or_is_wished_for_leaves_room_for_others(catalog):
    places = [Place(cloud="azure", account="me", region="us-east-1")]
    wanted = Requirement(label="it", vcpus=4)
    cheapest = [row.instance_type for row in catalog.candidates(wanted, places)]
    without = catalog.candidates(wanted, places, keep=cheapest)
    assert [row.instance_type for row in without[: len(cheapest)]] == cheapest
    assert len(without) == 2 * len(cheapest)
    dear = catalog.candidates(wanted, places, per_place=10_000)[-1].instance_type
    assert dear in {row.instance_type for row in catalog.candidates(wanted, places, keep=[dear])}
    roomy = Requirement(label="it", memory_gib=32)
    everything = catalog.candidates(roomy, places, per_place=10_000)
    found = catalog.candidates(roomy, places, per_place=1, apart=["vcpus"])
    for most in {row.vcpus for row in everything}:  # the cheapest under any limit
        (price, *_) = [row.usd_per_hour for row in everything if row.vcpus <= most]
        assert next(row.usd_per_hour for row in found if row.vcpus <= most) == price
    assert len(found) < len(everything) / 4


def test_memory_alone_asks_for_gpus(tmp_path):
    folder = tmp_path / "aws"
    folder.mkdir()
    head = (
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone"
    )
    lines = [
        "inf2.xlarge,Inferentia2,1,4,16,,0.76,,us-east-1,use1-az1",
        "g6.xlarge,L4,1,4,16,,0.80,,us-east-1,use1-az1",
    ]
    (folder / "vms.csv").write_text("\n".join([head, *lines, ""]))
    hub = Hub(tmp_path / "home", environ={}, store_id="abc123", user="me")
    made = Catalog(hub.folders, hub)
    refresh(made.stock, ("aws",), str(tmp_path))
    places = [Place(cloud="aws", account="me", region="us-east-1")]

    def found(**asked):
        wanted = Requirement(label="it", accelerator_count=1, accelerator_memory_gib=24, **asked)
        rows = made.candidates(wanted, places)
        checks = all_checks(wanted, 1, lambda row: FeatureSet())
        everything = made.candidates(Requirement(label="any"), places)
        assert [row for row in everything if all(check.passes(row) for check in checks)] == rows
        return [row.accelerator_name for row in rows]

    assert found() == ["L4"]
    assert found(accelerator_vendor="aws") == ["Inferentia2"]
    assert {view.name for view in made.accelerators(AcceleratorQuery(wanted="24GB+", infra="aws"))} == {"L4"}
