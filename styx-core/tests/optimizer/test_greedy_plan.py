from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.driver import CatalogRow, FeatureSet, Market, Place
from styx.optimizer.fit import SPOT_MARKETS, reuse_reasons
from styx.optimizer.greedy import plan
from styx.optimizer.problem import Problem, Requirement

NORTH = Place(cloud="acme", account="a", region="north")
SOUTH = Place(cloud="acme", account="a", region="south")
OTHER = Place(cloud="bolt", account="b", region="east")
ALL = (NORTH, SOUTH, OTHER)
ABLE = FeatureSet(ports="at_create", container="docker", custom_image=True)
PLAIN = FeatureSet(multi_node=False)


def row(name="m1", usd=1.0, **changes):
    values = {"cloud": "acme", "instance_type": name, "region": "north", "usd_per_hour": usd, "vcpus": 4}
    return CatalogRow.model_validate(values | {"memory_gib": 16} | changes)


def gpu(count, usd, kind="H100", **changes):
    values = {"accelerator_name": kind, "accelerator_count": count, "accelerator_memory_gib": 80}
    return row(f"{kind}x{count}", usd, **(values | changes))


def want(label="x", **fields):
    return Requirement(label=label, **fields)


def solve(rows, *alternatives, features=ABLE, **problem):
    values = {"task": "t", "alternatives": alternatives or (want(),), "enabled": ALL}
    return plan(Problem(**(values | problem)), rows, lambda row: row.features or features)


def names(found):
    return [choice.offer.instance_type for choice in found.choices]


def only_reason(found):
    assert found.choices == ()
    assert len(found.losers) == 1
    return found.losers[0].reason


# ranking ----------------------------------------------------------------------------------------------------------


def test_cheapest_first_and_unknown_last():
    rows = [row("dear", 3.0), row("unknown", None), row("free", 0.0), row("cheap", 1.0)]
    found = solve(rows, num_nodes=2)
    assert names(found) == ["free", "cheap", "dear", "unknown"]
    assert [choice.usd_per_hour for choice in found.choices] == [0.0, 2.0, 6.0, None]
    assert found.losers == ()


def test_a_request_for_the_plain_chip_takes_it_on_its_board_for_servers_and_no_other():
    rows = [gpu(8, 30.0, "H200"), gpu(8, 20.0, "H200-SXM"), gpu(8, 10.0, "H200-NVL")]
    plain = want(accelerator_name="H200", accelerator_count=8)
    assert names(solve(rows, plain)) == ["H200-SXMx8", "H200x8"]
    assert names(solve(rows, want(accelerator_name="H200-SXM", accelerator_count=8))) == ["H200-SXMx8"]
    assert reuse(plain, offer=rows[1]) == []
    assert reuse(plain, offer=rows[2]) == ["needs H200; the cluster has 8 x H200-NVL"]


def test_equal_prices_waste_no_accelerator_and_keep_the_catalogs_order():
    assert names(solve([gpu(1, 1.0), row("b"), row("a")])) == ["b", "a", "H100x1"]


def test_ordered_alternatives_beat_price():
    rows = [gpu(1, 9.0), gpu(1, 1.0, "A100")]
    alternatives = (want("first", accelerator_name="H100"), want("second", accelerator_name="A100"))
    assert names(solve(rows, *alternatives, ordered=True)) == ["H100x1", "A100x1"]
    found = solve(rows, *alternatives)
    assert [(choice.requirement, choice.usd_per_hour) for choice in found.choices] == [("second", 1.0), ("first", 9.0)]


def test_an_offer_that_answers_two_alternatives_is_listed_once():
    found = solve([row()], want("big", vcpus=2), want("any"), ordered=True)
    assert [choice.requirement for choice in found.choices] == ["big"]


def test_zones_of_places_and_rows():
    zoned = [NORTH.model_copy(update={"zone": zone}) for zone in "ab"]
    found = solve([row("everywhere"), row("in-b", 2.0, zone="b")], enabled=(*zoned, SOUTH))
    assert [(choice.offer.instance_type, choice.place.zone) for choice in found.choices] == [
        ("everywhere", "a"),
        ("everywhere", "b"),
        ("in-b", "b"),
    ]
    assert [str(choice.place) for choice in solve([row(zone="c")], enabled=(NORTH,)).choices] == ["acme/north/c"]


def test_two_accounts_are_two_places():
    second = NORTH.model_copy(update={"account": "z"})
    assert [choice.place.account for choice in solve([row()], enabled=(NORTH, second, NORTH)).choices] == ["a", "z"]


# blocked ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "left"),
    [
        (NORTH.model_copy(update={"zone": "a"}), ["north/b", "south/a"]),
        (NORTH, ["south/a"]),
        (Place(cloud="acme", account="a", region="*"), []),
        (Place(cloud="acme", account="*", region="*"), []),
        (Place(cloud="acme", account="else", region="north"), ["north/a", "north/b", "south/a"]),
    ],
)
def test_blocked_places(block, left):
    rows = [row(zone="a"), row(zone="b"), row(region="south", zone="a")]
    found = solve(rows, blocked=(block,))
    assert [f"{choice.place.region}/{choice.place.zone}" for choice in found.choices] == left
    refused = [loser.what for loser in found.losers if "refused" in loser.reason]
    assert set(refused) == {"acme/north/a", "acme/north/b", "acme/south/a"} - {f"acme/{each}" for each in left}


# reasons ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (want(accelerator_name="H100", accelerator_count=8), "needs 8 x H100; the nearest has 4 x H100"),
        (want(accelerator_name="B200"), "needs B200; there is 4 x H100, no accelerator"),
        (
            want(accelerator_memory_gib=99),
            "needs a GPU of 99 GiB or more; there is 4 x H100 of 80 GiB, no accelerator",
        ),
        (want(vcpus=32), "needs 32 vCPUs; the nearest has 4 vCPUs"),
        (want(vcpus=3, vcpus_exact=True), "needs exactly 3 vCPUs; the nearest has 4 vCPUs"),
        (want(memory_gib=64), "needs 64 GiB of memory; the nearest has 16 GiB of memory"),
        (want(memory_per_vcpu=8), "needs 8 GiB of memory per vCPU; the nearest has 4 GiB of memory per vCPU"),
        (want(use_spot=True), "needs spot; there is on-demand"),
        (want(max_usd_per_hour=0.5), "needs at most $0.5 per hour and machine; the nearest has $1"),
        (want(region="west"), "needs region west; there is region north"),
        (want(instance_type="m7"), "needs instance type m7; there is m1, H100x4"),
        (want(network_tier="best"), "needs the best network tier; there is standard"),
        (want(arch="arm64"), "needs architecture arm64; there is x86_64"),
        (want(ports=True), "needs open ports; there is no way to open ports"),
        (want(docker=True), "needs a docker image; there is no way to run one"),
        (want(image=True), "needs the machine image named; there is its own images only"),
    ],
)
def test_the_one_requirement_that_stands_in_the_way(wanted, reason):
    assert only_reason(solve([row(), gpu(4, 8.0)], wanted, features=PLAIN)) == reason


def test_several_nodes_where_machines_work_alone():
    assert only_reason(solve([row()], features=PLAIN, num_nodes=3)).startswith("needs 3 nodes in one cluster")


def test_either_of_two_requirements_may_give_way():
    reason = only_reason(solve([gpu(8, 20.0), gpu(4, 5.0)], want(accelerator_count=8, max_usd_per_hour=6.0)))
    assert reason == (
        "needs 8 x accelerator; the nearest has 4 x H100; "
        "or, keeping that, needs at most $6 per hour and machine; the nearest has $20"
    )


def test_when_several_stand_in_the_way_the_nearest_offer_is_named():
    reason = only_reason(solve([row(), gpu(1, 9.0, vcpus=8)], want(vcpus=64, memory_gib=512, use_spot=True)))
    assert reason.startswith("needs 64 vCPUs (it has 4 vCPUs) and 512 GiB of memory (it has 16 GiB of memory) and spot")
    assert reason.endswith("the nearest offer is m1 in acme/north (4 vCPUs, 16 GiB)")


def test_kind_and_number_of_accelerators_are_told_once():
    reason = only_reason(solve([row()], want(accelerator_name="A100", accelerator_count=8, vcpus=64)))
    assert reason.startswith("needs 8 x A100 (it has no accelerator) and 64 vCPUs (it has ")


def test_clouds_without_a_fit_lose_by_name():
    rows = [gpu(1, 2.0), row("b1", cloud="bolt", region="east")]
    found = solve(rows, want("H100", accelerator_name="H100"))
    assert names(found) == ["H100x1"]
    assert [(loser.what, loser.reason) for loser in found.losers] == [
        ("H100 on bolt", "needs H100; there is no accelerator")
    ]


def test_nothing_for_sale():
    assert only_reason(solve([])) == "no enabled place offers any machine"
    assert only_reason(solve([row(region="elsewhere")])) == "no enabled place offers any machine"


@pytest.mark.parametrize(
    ("unknown", "wanted"),
    [
        ({"vcpus": None}, want(vcpus=1)),
        ({"vcpus": None}, want(memory_per_vcpu=0.1)),
        ({"memory_gib": None}, want(memory_gib=1)),
        ({"usd_per_hour": None}, want(max_usd_per_hour=100)),
        ({"accelerator_name": "H100", "accelerator_count": 1}, want(accelerator_memory_gib=10)),
    ],
)
def test_unknown_figures_satisfy_nothing(unknown, wanted):
    assert solve([row(**unknown)], wanted).choices == ()


def test_a_share_of_a_device_needs_a_whole_one():
    assert names(solve([row(), gpu(1, 2.0)], want(accelerator_name="h100", accelerator_count=0.5))) == ["H100x1"]


# property ---------------------------------------------------------------------------------------------------------

maybe = lambda strategy: st.none() | strategy  # noqa: E731
small = st.integers(1, 8).map(float)
rows_of = st.lists(
    st.builds(
        CatalogRow,
        cloud=st.sampled_from(["acme", "bolt"]),
        instance_type=st.sampled_from(["m1", "m2"]),
        region=st.sampled_from(["north", "south", "east", "west"]),
        zone=maybe(st.sampled_from(["a", "b"])),
        market=st.sampled_from(list(Market)),
        vcpus=maybe(small),
        memory_gib=maybe(small),
        accelerator_name=maybe(st.sampled_from(["H100", "A100"])),
        accelerator_count=st.integers(0, 4),
        accelerator_memory_gib=maybe(small),
        usd_per_hour=maybe(st.integers(0, 5).map(float)),
        features=st.sampled_from([ABLE, PLAIN]),
        as_of=st.just(datetime(2026, 1, 1, tzinfo=UTC)),
    ),
    max_size=12,
)
requirements = st.builds(
    Requirement,
    label=st.just("x"),
    cloud=maybe(st.sampled_from(["acme", "bolt"])),
    region=maybe(st.sampled_from(["north", "east"])),
    zone=maybe(st.just("a")),
    zones=st.sampled_from([(), (("acme", "north", "a"), ("bolt", "east", "b"))]),
    accelerator_name=maybe(st.sampled_from(["H100", "a100"])),
    accelerator_count=st.sampled_from([0, 0.5, 1, 2, 4]),
    accelerator_memory_gib=maybe(small),
    vcpus=maybe(small),
    vcpus_exact=st.booleans(),
    memory_gib=maybe(small),
    memory_exact=st.booleans(),
    use_spot=st.booleans(),
    max_usd_per_hour=maybe(st.integers(0, 5).map(float)),
    ports=st.booleans(),
    docker=st.booleans(),
).map(
    lambda wanted: wanted if wanted.zone else wanted.model_copy(update={"zones": ()})
)  # they are what a zone is called


def brute_fit(row, wanted, num_nodes):
    """The rules written down a second time, as one flat list of refusals."""

    def short(have, least, exact=False):
        return least is not None and (have is None or (have != least if exact else have < least))

    def paid(price, ceiling):
        return price is not None and price <= ceiling

    own = {"north": "a", "east": "b"}
    device = bool(row.accelerator_name and row.accelerator_count)
    asks_device = bool(wanted.accelerator_name or wanted.accelerator_memory_gib or wanted.accelerator_count)
    able = row.features
    return not (
        (wanted.cloud and wanted.cloud != row.cloud)
        or (wanted.region and wanted.region != row.region)
        or (wanted.zones and (row.cloud, row.region, row.zone or dict(own).get(row.region)) not in wanted.zones)
        or (not wanted.zones and wanted.zone and wanted.zone != row.zone)
        or (asks_device and not device)
        or (wanted.accelerator_name and wanted.accelerator_name.lower() != (row.accelerator_name or "").lower())
        or (asks_device and row.accelerator_count < wanted.accelerator_count)
        or (asks_device and short(row.accelerator_memory_gib, wanted.accelerator_memory_gib))
        or short(row.vcpus, wanted.vcpus, wanted.vcpus_exact)
        or short(row.memory_gib, wanted.memory_gib, wanted.memory_exact)
        or (row.market in SPOT_MARKETS) != wanted.use_spot
        or (wanted.max_usd_per_hour is not None and not paid(row.usd_per_hour, wanted.max_usd_per_hour))
        or (wanted.ports and able.ports == "never")
        or (wanted.docker and able.container == "none")
        or (num_nodes > 1 and not able.multi_node)
    )


some = st.lists(requirements, min_size=1, max_size=3)


@given(rows_of, some, st.integers(1, 2), st.sampled_from([(), (NORTH,), (OTHER,)]))
def test_the_first_choice_is_the_cheapest_by_brute_force(rows, alternatives, num_nodes, blocked):
    found = solve(rows, *alternatives, num_nodes=num_nodes, blocked=blocked)
    open_places = {(place.cloud, place.region) for place in set(ALL) - set(blocked)}
    candidates = [each for each in rows if (each.cloud, each.region) in open_places]
    fitting = [each for each in candidates if any(brute_fit(each, wanted, num_nodes) for wanted in alternatives)]
    prices = [each.usd_per_hour for each in fitting]
    known = [price for price in prices if price is not None]
    assert {repr(choice.offer) for choice in found.choices} == set(map(repr, fitting))
    if known:
        assert found.choices[0].usd_per_hour == min(known) * num_nodes
    elif fitting:
        assert found.choices[0].usd_per_hour is None
    else:
        assert found.losers  # and it always says why
    totals = [float("inf") if choice.usd_per_hour is None else choice.usd_per_hour for choice in found.choices]
    assert totals == sorted(totals)


@given(rows_of, requirements)
def test_the_cluster_made_from_a_choice_can_be_used_again(rows, wanted):
    for choice in solve(rows, wanted).choices:
        able = choice.offer.features
        reasons = reuse_reasons(
            [wanted], need_nodes=1, have_nodes=1, offer=choice.offer, place=choice.place, features=able
        )
        assert reasons == []


# re-use -----------------------------------------------------------------------------------------------------------


def reuse(*alternatives, need=1, have=2, offer=None, place=NORTH, features=PLAIN):
    return reuse_reasons(
        alternatives, need_nodes=need, have_nodes=have, offer=offer or gpu(4, 8.0), place=place, features=features
    )


def test_a_cluster_that_has_what_the_task_needs():
    assert reuse(want()) == []
    assert reuse(want(accelerator_name="H100", accelerator_count=2, vcpus=4, cloud="acme", region="north")) == []
    assert reuse(want(accelerator_name="B200"), want(accelerator_name="H100")) == []
    assert reuse(want(zone="c"), place=NORTH.model_copy(update={"zone": "c"})) == []
    assert reuse(want(use_spot=True, max_usd_per_hour=0.01)) == []  # made and paid for


@pytest.mark.parametrize(
    ("wanted", "reasons"),
    [
        (want(accelerator_name="H100", accelerator_count=8), ["needs 8 x H100; the cluster has 4 x H100"]),
        (want(region="south"), ["needs region south; the cluster has region north"]),
        (
            want(vcpus=8, memory_gib=99),
            ["needs 8 vCPUs; the cluster has 4 vCPUs", "needs 99 GiB of memory; the cluster has 16 GiB of memory"],
        ),
        (want(ports=True), ["needs open ports; the cluster has no way to open ports"]),
    ],
)
def test_what_a_cluster_lacks(wanted, reasons):
    assert reuse(wanted) == reasons


def test_too_few_nodes():
    assert reuse(want(), need=3) == ["needs 3 nodes; the cluster has 2"]
    assert len(reuse(want(vcpus=64), need=3)) == 2
