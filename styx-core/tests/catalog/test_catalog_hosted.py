import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import pytest

from styx.catalog.adapters import ADAPTERS
from styx.catalog.cache import rows_of
from styx.catalog.hosted import adapted
from styx.catalog.schema import fault_of, key_of
from styx.errors import CatalogRefused

_spec = importlib.util.spec_from_file_location("catalog_layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def read(cloud, text=None, name="vms.csv"):
    return adapted((text if text is not None else layouts.LAYOUTS[cloud]).encode(), cloud, name, as_of=NOW)


def rows(cloud, text=None):
    return list(rows_of(read(cloud, text).rows))


def test_every_adapter_has_a_file_to_prove_it():
    assert set(layouts.LAYOUTS) == set(layouts.EXPECTED) == set(ADAPTERS)
    assert len(ADAPTERS) >= 15


@pytest.mark.parametrize("cloud", sorted(layouts.LAYOUTS))
def test_the_layout_of_each_cloud(cloud):
    got = rows(cloud)
    assert all(fault_of(row) is None and row.source == "vms.csv" and row.as_of == NOW for row in got)
    assert len({key_of(row) for row in got}) == len(got)
    found = {
        (row.instance_type, row.region, row.zone, row.market.value, row.accelerator_name): (
            row.accelerator_count,
            row.accelerator_memory_gib,
            row.usd_per_hour,
        )
        for row in got
    }
    for *key, count, memory, price in layouts.EXPECTED[cloud]:
        assert found[tuple(key)] == pytest.approx((count, memory, price)), key
    for absent in layouts.ABSENT.get(cloud, ()):
        assert not [key for key in found if all(part in key for part in absent)], absent


def test_processors_disks_and_networks():
    aws = {row.instance_type: row for row in rows("aws")}
    assert aws["p5.48xlarge"].network_tier == "best"
    assert aws["p5.48xlarge"].local_disk_gib == 8 * 3800
    kinds = [aws[name].local_disk_kind for name in ("p5.48xlarge", "c3.large", "m7g.large")]
    assert kinds == ["nvme", "ssd", None]
    assert aws["p5.48xlarge"].accelerator_vendor == "nvidia"
    assert (aws["m7g.large"].arch, aws["c3.large"].arch) == ("arm64", "x86_64")
    arm = {cloud: {row.instance_type for row in rows(cloud) if row.arch == "arm64"} for cloud in layouts.LAYOUTS}
    assert {cloud: types for cloud, types in arm.items() if types} == {
        "aws": {"m7g.large"},
        "azure": {"Standard_D2ps_v5"},
        "gcp": {"t2a-standard-4"},
        "lambda": {"gpu_1x_gh200"},
        "oci": {"VM.Standard.A1.Flex$_4_24"},
    }
    assert rows("hyperbolic")[0].local_disk_gib == 1600
    assert rows("primeintellect")[0].ref == "gpu_8x"
    assert rows("oci")[-1].accelerator_vendor == "amd"


def test_what_is_left_out_and_put_right_is_counted():
    assert (read("seeweb").dropped, read("seeweb").repaired) == (2, 1)
    assert read("aws").dropped == 1
    assert read("gcp").dropped == 1  # the H100s have no host
    assert read("runpod").repaired == 1
    assert read("azure").repaired == 1


PLAIN = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice\n"


def many(bad, good=97):
    return PLAIN + "".join(f"m{i},,,2,8,0.1,r1,,0.05\n" for i in range(good)) + bad


@pytest.mark.parametrize(
    ("bad", "price"),
    [
        ("x,,,2,8,-0.1,r1,,\n", "Price -0.1 is impossible"),
        ("x,,,2,8,nan,r1,,\n", "Price is nan"),
        ("x,,,2,8,cheap,r1,,\n", "Price is cheap"),
        ("x,,,2,8,0.1,r1,,inf\n", "SpotPrice is inf"),
        ("x,,,2,8,0.1,,,\n", "no Region"),
        (",,,2,8,0.1,r1,,\n", "no InstanceType"),
        ("x,H100,,2,8,0.1,r1,,\n", "no count of H100"),
        ("x,,,2,900000,0.1,r1,,\n", "memory_gib 900000.0 is impossible"),
        ("x,,,2,8,900000,r1,,\n", "Price 900000.0 is impossible"),
    ],
)
def test_impossible_rows_are_dropped_until_there_are_too_many(bad, price):
    done = read("nebius", many(bad))
    assert done.dropped == 1
    assert len(done.rows) == 2 * 97
    with pytest.raises(CatalogRefused, match=r"6 of 103 rows of vms.csv are impossible.*line 99: " + price):
        read("nebius", many(bad * 6))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 of vms.csv has no column InstanceType"),
        ("<html>\nNot found\n", "line 1 of vms.csv has no column InstanceType .it has: <html>"),
        (PLAIN, "vms.csv has no rows"),
        (PLAIN.replace("Price,", "", 1) + "m,,,2,8,r,,\n", "line 1 of vms.csv has no column Price"),
        (PLAIN + "m,,,2,8,0.1,r1,,\nm2,,,2,8,0.", "line 3 of vms.csv has 6 cells under 9 columns .is the file cut"),
        (PLAIN + "m,,,2,8,0.1,r1,,\n\nm2,,,2,8,0.1,r1,,\n", "line 3 of vms.csv is empty"),
        (PLAIN + 'm,,,2,8,0.1,r1,"{,\n', "line 2 of vms.csv is no CSV"),
        (PLAIN + "m,,,2,8,0.1,r1,,,,,\n", "line 2 of vms.csv has 12 cells"),
        (PLAIN.replace("GpuInfo", "Price") + "m,,,2,8,0.1,r1,,\n", "names a column twice"),
    ],
)
def test_broken_files_are_refused_with_file_and_line(text, words):
    with pytest.raises(CatalogRefused, match=words):
        read("nebius", text)


def test_a_file_that_is_no_text():
    with pytest.raises(CatalogRefused, match=r"vms.csv is not UTF-8 text .byte 3"):
        adapted(b"abc\xff\xfe", "aws", "vms.csv", as_of=NOW)
