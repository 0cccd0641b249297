"""The tool that rebuilds a plugin's snapshot from a hosted file."""

from __future__ import annotations

from pathlib import Path

import pytest

from styx.catalog.snapshot import read_snapshot
from tools.snapshots.__main__ import main

HEADER = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,AvailabilityZone"
ROWS = """
m7i.large,,,2.0,8.0,,0.1,0.04,us-east-1,use1-az1
m7i.large,,,2.0,8.0,,0.1,0.03,us-east-1,use1-az2
m7i.large,,,2.0,8.0,,0.2,,eu-west-1,euw1-az1
c7i.large,,,2.0,4.0,,0.09,,us-east-1,use1-az1
"""


@pytest.fixture
def hosted(tmp_path: Path) -> Path:
    path = tmp_path / "vms.csv"
    path.write_text(HEADER + ROWS)
    return path


def made(hosted: Path, *arguments: str, cloud: str = "nimbus") -> list[tuple[str, str, str | None, str, float | None]]:
    output = hosted.parent / "snapshot.csv"
    words = [cloud, str(hosted), "--as-of", "2026-11-20", "--source", "a test", "--output", str(output), *arguments]
    assert main(words) == 0
    rows = read_snapshot(output)
    assert {row.source for row in rows} >= {"a test"}
    return [
        (row.instance_type, row.region, row.zone, row.market.value, row.usd_per_hour)
        for row in rows
        if row.source == "a test"
    ]


def test_all_rows_in_a_readable_order(hosted: Path) -> None:
    found = made(hosted)
    assert len(found) == 6
    assert [each[:2] for each in found][:1] == [("c7i.large", "us-east-1")]


def test_one_zone_of_some_regions_and_types(hosted: Path) -> None:
    assert made(hosted, "--one-zone", "--regions", "us-east-1", "--types", r"m7i\..*") == [
        ("m7i.large", "us-east-1", None, "on_demand", 0.1),
        ("m7i.large", "us-east-1", None, "spot", 0.03),
    ]


def test_the_present_rows_stay_unless_only_is_given(hosted: Path) -> None:
    alone = made(hosted, "--only", cloud="lambda")
    assert len(read_snapshot(hosted.parent / "snapshot.csv")) == len(alone)
    made(hosted, cloud="lambda")
    assert len(read_snapshot(hosted.parent / "snapshot.csv")) > 100


def test_wrong_input_is_told(hosted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["nimbus", str(hosted), "--as-of", "yesterday", "--source", "x", "--output", str(hosted.parent / "out")]
    assert main(words) == 1
    assert "yesterday" in capsys.readouterr().err
    hosted.write_text("A,B\n1,2\n")
    assert main([*words[:3], "2026-11-20", *words[4:]]) == 1
    assert "InstanceType" in capsys.readouterr().err
