"""The prices that ship with each cloud's plugin, held against a list of what the vendor sells.

What is missing is named with the reason, and a reason that no longer holds fails.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from styx.catalog.snapshot import read_snapshot
from styx.driver import CatalogRow, Market

PLUGINS: Final = Path(__file__).resolve().parents[2] / "plugins"
LARGEST_BYTES: Final = 1_000_000
UNPRICED: Final = "EC2 offers it, and no public table of its prices was found"
NOT_READ: Final = "no table of its prices was read that says its day and may be passed on"


def words(text: str) -> list[str]:
    return text.split()


ACCELERATED: Final[dict[str, dict[str, str]]] = {
    "aws": {
        name: rf"{re.escape(name)}\..*"
        for name in words("""
            dl2q g4dn g5 g5g g6 g6e g6f g7 g7e gr6 gr6f inf1 inf2 p3dn p4d p4de p5 p5e p5en p6-b200 p6-b300 trn1
            trn1n trn2 trn2u
        """)
    },
    "gcp": {
        "A2 High": "a2-highgpu-.*",
        "A2 Mega": "a2-megagpu-.*",
        "A2 Ultra": "a2-ultragpu-.*",
        "A3 Edge": "a3-edgegpu-.*",
        "A3 High": "a3-highgpu-.*",
        "A3 Mega": "a3-megagpu-.*",
        "A3 Ultra": "a3-ultragpu-.*",
        "A4": "a4-.*",
        "A4X": "a4x-.*",
        "G2": "g2-.*",
        "G4": "g4-.*",
        **{f"TPU {name}": f"tpu-{name}.*" for name in ("v2", "v3", "v4", "v5litepod", "v5p", "v6e", "7x")},
    },
    "azure": {
        "NC T4 v3": r"Standard_NC\d+as_T4_v3",
        "NC A100 v4": r"Standard_NC\d+ads_A100_v4",
        "NC H100 v5": r"Standard_NC\d+adi?s_H100_v5",
        "NCC H100 v5": r"Standard_NCC\d+ads_H100_v5",
        "NC RTX PRO 6000 v6": r"Standard_NC\d+.*RTXPRO6000.*_v6",
        "ND A100 v4": r"Standard_ND96asr_v4",
        "NDm A100 v4": r"Standard_ND96amsr_A100_v4",
        "ND H100 v5": r"Standard_ND96isr_H100_v5",
        "ND H200 v5": r"Standard_ND96isr_H200_v5",
        "ND MI300X v5": r"Standard_ND96isr_MI300X_v5",
        "ND GB200 v6": r"Standard_ND128isr.*GB200_v6",
        "ND GB300 v6": r"Standard_ND128isr.*GB300_v6",
        "NV A10 v5": r"Standard_NV\d+adm?s_A10_v5",
        "NV V710 v5": r"Standard_NV\d+adm?s_V710_v5",
        "NG V620 v1": r"Standard_NG\d+adm?s_V620_v1",
    },
    "lambda": {
        name: rf"gpu_\d+x_{pattern}"
        for name, pattern in {
            "A10": "a10",
            "A100": "a100(_sxm4)?",
            "A100 80 GB": "a100_80gb_sxm4",
            "A6000": "a6000",
            "B200": "b200_sxm6",
            "GH200": "gh200",
            "H100": "h100_.*",
            "RTX 6000": "rtx6000",
            "V100": "v100.*",
        }.items()
    },
    "runpod": {
        name: rf"\d+x_{name}_.*"
        for name in words("""
            A100-80GB A100-80GB-SXM A40 A4000 A4500 A5000 A6000 B200 B300 H100 H100-NVL H100-SXM H200-SXM H200-NVL
            L4 L40 L40S RTX2000-Ada RTX3090 RTX4000-Ada RTX4090 RTX5090 RTX6000-Ada RTXPRO4000 RTXPRO4500
            RTXPRO4500-SE RTXPRO6000 RTXPRO6000-WK
        """)
    },
}
"""By cloud: families with accelerators, and how their machine types are called."""

GENERAL: Final[dict[str, dict[str, str]]] = {
    "aws": {
        name: rf"{re.escape(name)}\..*"
        for name in words("""
            c5 c5a c5ad c5d c5n c6a c6g c6gd c6gn c6i c6id c6in c7a c7g c7gd c7gn c7i c7i-flex c8a c8g c8gb c8gd
            c8gn c8i c8i-flex c8ib c8id c8in c8ine c9g c9gd d3 d3en i3 i3en i4g i4i i7i i7ie i8g i8ge im4gn is4gen
            m5 m5a m5ad m5d m5dn m5n m5zn m6a m6g m6gd m6i m6id m6idn m6in m7a m7g m7gd m7i m7i-flex m8a m8azn m8g
            m8gb m8gd m8gn m8i m8i-flex m8ib m8id m8idb m8idn m8in m8ine m9g m9gd r5 r5a r5ad r5b r5d r5dn r5n r6a
            r6g r6gd r6i r6id r6idn r6in r7a r7g r7gd r7i r7iz r8a r8g r8gb r8gd r8gn r8i r8i-flex r8ib r8id r8idb
            r8idn r8in r9g r9gd t3 t3a t4g t8i x2gd x2idn x2iedn x8g x8i z1d
        """)
    },
    "gcp": {
        name.upper(): f"{name}-.*"
        for name in words("c2 c2d c3 c3d c4 c4a c4d c4n e2 h3 m1 m2 m3 m4 n1 n2 n2d n4 n4a n4d t2a t2d z3")
    },
    "azure": {
        "D v3": r"Standard_D\d+s?_v3",
        "D v4": r"Standard_D\d+d?s?_v4",
        "Da v4": r"Standard_D\d+as?_v4",
        "D v5": r"Standard_D\d+s_v5",
        "Da v5": r"Standard_D\d+ad?s_v5",
        "Dp v5": r"Standard_D\d+ps_v5",
        "D v6": r"Standard_D\d+d?s_v6",
        "Da v6": r"Standard_D\d+ad?s_v6",
        "E v3": r"Standard_E\d+s?_v3",
        "E v4": r"Standard_E\d+d?s?_v4",
        "Ea v4": r"Standard_E\d+as?_v4",
        "E v5": r"Standard_E\d+d?s_v5",
        "F v2": r"Standard_F\d+s_v2",
        "B v2": r"Standard_B\d+.*_v2",
    },
    "lambda": {"CPU": "cpu_.*"},
    "runpod": {name: rf"{name}-\d+-\d+" for name in words("cpu3c cpu3g cpu3m cpu5c cpu5g cpu5m")},
}
"""The same for machines without."""

MISSING: Final[dict[str, dict[str, str]]] = {
    "aws": {
        "dl2q": UNPRICED,
        "trn2u": "EC2 offers it in ap-south-2 only, which is none of the snapshot's regions",
        **dict.fromkeys(
            words("c8ib c8in c8ine c9gd m8azn m8ib m8idb m8idn m8in m8ine m9gd r8ib r8idb r8idn r8in r9gd t8i"),
            NOT_READ,
        ),
    },
    "gcp": {
        "A3 Edge": "its prices contain those of reserved starts, which can't be told apart",
        "A4X": "Google sells it by reservation only",
        "TPU 7x": NOT_READ,
    },
    "azure": {
        "ND GB300 v6": "Azure's public list had no price of it in August 2026",
    },
    "lambda": {},
    "runpod": {},
}
"""What no row has a price of, and why."""

REGIONS: Final = {"aws": 22, "gcp": 33, "azure": 36, "lambda": 15, "runpod": 10}
"""At least so many have prices."""

MAIN: Final = {
    "aws": ("us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1", "ap-northeast-1", "ap-southeast-1"),
    "gcp": (
        *("us-central1", "us-east1", "us-east4", "us-south1", "us-west1", "us-west2", "us-west3", "us-west4"),
        *("europe-west1", "europe-west2", "europe-west3", "europe-west4", "europe-north1"),
        *("asia-east1", "asia-northeast1", "asia-northeast3", "asia-south1", "asia-southeast1", "australia-southeast1"),
    ),
    "azure": (
        *("eastus", "eastus2", "centralus", "northcentralus", "southcentralus", "westus", "westus2", "westus3"),
        *("westeurope", "northeurope", "uksouth", "francecentral", "germanywestcentral", "swedencentral"),
        *("southeastasia", "japaneast", "koreacentral", "centralindia", "australiaeast", "canadacentral"),
        "brazilsouth",
    ),
}
"""Regions that must have general-purpose machines of at least 16 processors."""

_US: Final = "us-east-1 us-east-2 us-west-2 "
_G6: Final = _US + "eu-central-1 ap-northeast-1"

SOLD: Final[dict[str, dict[str, str]]] = {
    "aws": {
        **dict.fromkeys(("g4dn", "inf1", "inf2"), " ".join(MAIN["aws"])),
        **dict.fromkeys(("g6", "g6e", "g6f", "g7e", "gr6", "gr6f"), _G6),
        **dict.fromkeys(("g5", "p4d"), _G6 + " eu-west-1"),
        **dict.fromkeys(("p5", "p5en"), _US + "ap-northeast-1"),
        **dict.fromkeys(("p6-b200", "trn1", "trn1n"), _US),
        "dl2q": "us-west-2 eu-central-1",
        "g5g": "us-east-1 us-west-2 eu-central-1 ap-northeast-1 ap-southeast-1",
        "g7": _US + "eu-central-1",
        "p3dn": "us-east-1 us-west-2 eu-west-1 ap-northeast-1",
        "p4de": "us-east-1 us-west-2 eu-central-1 ap-northeast-1 ap-southeast-1",
        "p5e": "us-east-2 us-west-2",
        "p6-b300": "us-east-1 us-west-2",
        "trn2": "us-east-2",
    },
    "lambda": dict.fromkeys(ACCELERATED["lambda"], "us-east-1 us-west-1 us-south-1 europe-central-1 asia-south-1"),
    "runpod": dict.fromkeys(ACCELERATED["runpod"], "US CA CZ FR IS JP NL NO RO SE SG AU"),
    "gcp": {
        "A2 High": """
            us-central1 us-east1 us-west1 us-west3 us-west4 europe-west4 asia-northeast1 asia-northeast3
            asia-southeast1
        """,
        "A2 Mega": "us-central1 europe-west4 asia-southeast1",
        "A2 Ultra": "us-central1 us-east4 europe-west4 asia-southeast1",
        "A3 High": """
            us-central1 us-east4 us-west1 us-west4 europe-west1 europe-west2 europe-west3 europe-west4 europe-north1
            asia-east1 asia-northeast1 asia-south1 asia-southeast1
        """,
        "A3 Mega": """
            us-central1 us-east4 us-west4 europe-west1 europe-west3 europe-west4 asia-northeast1 asia-southeast1
        """,
        "A3 Ultra": "us-central1 us-east4 us-west1 europe-west1 asia-south1",
        "A4": """
            us-central1 us-east1 us-east4 us-south1 us-west2 us-west3 europe-west4 europe-north1 asia-northeast1
            asia-southeast1
        """,
        "G2": """
            us-central1 us-east1 us-east4 us-west1 us-west4 europe-west1 europe-west2 europe-west3 europe-west4
            asia-east1 asia-northeast1 asia-northeast3 asia-south1 asia-southeast1
        """,
        "G4": """
            us-central1 us-east1 us-east4 us-south1 us-west1 us-west4 europe-west1 europe-west2 europe-west4
            asia-northeast1 asia-south1 asia-southeast1
        """,
        "TPU v2": "us-central1 europe-west4",
        "TPU v3": "us-central1 us-east1 europe-west4",
        "TPU v4": "us-central2",
        "TPU v5litepod": "us-central1 europe-west4",
        "TPU v5p": "us-central1 us-east1 us-east5 us-south1 europe-west1 europe-west4",
        "TPU v6e": "us-central1 europe-west4",
    },
    "azure": {
        "NC T4 v3": " ".join(MAIN["azure"]),
        "NC A100 v4": " ".join(MAIN["azure"]),
        "NC H100 v5": """
            eastus eastus2 southcentralus westus westus2 westus3 westeurope northeurope uksouth germanywestcentral
            swedencentral southeastasia japaneast koreacentral centralindia australiaeast
        """,
        "NC RTX PRO 6000 v6": "westus2",
        "NCC H100 v5": "eastus2",
        "ND A100 v4": "eastus southcentralus westus2 westeurope",
        "NDm A100 v4": """
            eastus eastus2 centralus southcentralus westus westus2 westeurope uksouth francecentral swedencentral
            japaneast australiaeast canadacentral brazilsouth
        """,
        "ND H100 v5": """
            eastus eastus2 centralus northcentralus southcentralus westus westus2 westeurope uksouth swedencentral
            japaneast koreacentral australiaeast canadacentral
        """,
        "ND H200 v5": """
            eastus2 centralus northcentralus westus westus2 northeurope uksouth francecentral germanywestcentral
            swedencentral southeastasia japaneast australiaeast brazilsouth
        """,
        "ND MI300X v5": """
            eastus2 centralus northcentralus westus northeurope uksouth francecentral germanywestcentral
            swedencentral canadacentral brazilsouth
        """,
        "ND GB200 v6": """
            eastus eastus2 centralus northcentralus westus2 uksouth germanywestcentral koreacentral australiaeast
            brazilsouth
        """,
        "NV A10 v5": " ".join(MAIN["azure"]),
        "NV V710 v5": "eastus northcentralus southcentralus westus westeurope",
        "NG V620 v1": "eastus2 westeurope swedencentral",
    },
}
"""Families with accelerators: the main regions where the vendor's list (EC2: its offerings) has them, for a price.

TPU v4 is in no main region: the one that has it stands here.
"""

NOT_THERE: Final[dict[tuple[str, str, str], str]] = {
    ("aws", "dl2q", "us-west-2"): UNPRICED,
    ("aws", "dl2q", "eu-central-1"): UNPRICED,
    ("aws", "g7", "eu-central-1"): UNPRICED,
    ("aws", "g7e", "eu-central-1"): UNPRICED,
}
"""Where one of them has no price all the same, and why."""

SPOT_WILL_DO: Final = ("p5e.", "trn2.", "a4-")
"""AWS sells its two by the block and as spot, at no price on demand; A4's are mixed with those of reserved starts."""

CLOUDS: Final = sorted(ACCELERATED)


def path_of(cloud: str) -> Path:
    return PLUGINS / f"styx-{cloud}" / "src" / f"styx_{cloud}" / "snapshot.csv"


@pytest.fixture(scope="module")
def snapshots() -> dict[str, list[CatalogRow]]:
    return {cloud: read_snapshot(path_of(cloud)) for cloud in CLOUDS}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_family_has_a_price_or_a_reason(snapshots: dict[str, list[CatalogRow]], cloud: str) -> None:
    priced = {row.instance_type for row in snapshots[cloud] if row.usd_per_hour is not None}
    families = ACCELERATED[cloud] | GENERAL[cloud]
    found = {name for name, pattern in families.items() if any(re.fullmatch(pattern, kind) for kind in priced)}
    reasons = MISSING[cloud]
    assert not set(families) - found - set(reasons), "neither priced nor explained"
    assert not found & set(reasons), "explained as missing, and there"
    assert not set(reasons) - set(families), "explained, and not in the list"


@pytest.mark.parametrize("cloud", sorted(SOLD))
def test_accelerated_families_have_prices_in_the_main_regions(
    snapshots: dict[str, list[CatalogRow]], cloud: str
) -> None:
    assert set(SOLD[cloud]) | set(MISSING[cloud]) >= set(ACCELERATED[cloud]), "no word where it is sold"
    places: dict[str, set[str]] = defaultdict(set)
    for row in snapshots[cloud]:
        if row.usd_per_hour is not None and (
            row.market is Market.ON_DEMAND or row.instance_type.startswith(SPOT_WILL_DO)
        ):
            places[row.instance_type].add(row.region)
    unpriced = {
        (cloud, name, region)
        for name, regions in SOLD[cloud].items()
        for region in words(regions)
        if not any(region in found and re.fullmatch(ACCELERATED[cloud][name], kind) for kind, found in places.items())
    }
    assert unpriced == {key for key in NOT_THERE if key[0] == cloud}


@pytest.mark.parametrize("cloud", CLOUDS)
def test_accelerated_families_have_accelerators_and_the_others_none(
    snapshots: dict[str, list[CatalogRow]], cloud: str
) -> None:
    wrong = [
        row.instance_type
        for row in snapshots[cloud]
        for families, has in ((ACCELERATED, True), (GENERAL, False))
        if any(re.fullmatch(pattern, row.instance_type) for pattern in families[cloud].values())
        and bool(row.accelerator_count) is not has
        and not row.instance_type.startswith("n1-")  # takes accelerators as guests
    ]
    assert wrong == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_rows_tell_their_source_and_day_and_the_file_is_small(
    snapshots: dict[str, list[CatalogRow]], cloud: str
) -> None:
    now = datetime.now(UTC)
    for row in snapshots[cloud]:
        assert row.as_of is not None
        assert row.as_of <= now
        assert row.source
    assert path_of(cloud).stat().st_size <= LARGEST_BYTES


@pytest.mark.parametrize("cloud", CLOUDS)
def test_regions_are_covered(snapshots: dict[str, list[CatalogRow]], cloud: str) -> None:
    largest: dict[str, float] = defaultdict(float)
    for row in snapshots[cloud]:
        if row.usd_per_hour is not None and row.market is Market.ON_DEMAND and not row.accelerator_count:
            largest[row.region] = max(largest[row.region], row.vcpus or 0.0)
    priced = {row.region for row in snapshots[cloud] if row.usd_per_hour is not None}
    assert len(priced) >= REGIONS[cloud]
    assert [region for region in MAIN.get(cloud, ()) if largest[region] < 16] == []


def test_the_same_machine_has_the_same_figures_everywhere(snapshots: dict[str, list[CatalogRow]]) -> None:
    for cloud, rows in snapshots.items():
        shapes: dict[tuple[object, ...], set[tuple[object, ...]]] = defaultdict(set)
        for row in rows:
            key = (row.instance_type, row.accelerator_name, row.accelerator_count)
            shapes[key].add((row.vcpus, row.memory_gib, row.arch, row.accelerator_memory_gib, row.accelerator_vendor))
        assert {key: found for key, found in shapes.items() if len(found) > 1} == {}, cloud


def test_a_family_of_aws_costs_more_in_one_region_than_in_another_by_one_factor(
    snapshots: dict[str, list[CatalogRow]],
) -> None:
    """So it is in every region, but for rounding: another factor is a slip of whoever copied the figure."""
    usual = {}
    factors: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    asked = [row for row in snapshots["aws"] if row.market is Market.ON_DEMAND and row.usd_per_hour]
    for row in asked:
        if row.region == "us-east-1":
            usual[row.instance_type] = row.usd_per_hour or 0.0
    for row in asked:
        if row.instance_type in usual:
            family = row.instance_type.split(".")[0]
            factors[family, row.region][row.instance_type] = (row.usd_per_hour or 0.0) / usual[row.instance_type]
    assert len(factors) > 900
    assert {key: each for key, each in factors.items() if max(each.values()) > 1.012 * min(each.values())} == {}


def test_spot_costs_no_more_than_on_demand(snapshots: dict[str, list[CatalogRow]]) -> None:
    """Where both are known and of one source: a spot price above it is a mix-up of columns."""
    for cloud, rows in snapshots.items():
        asked = {
            (row.instance_type, row.region, row.accelerator_name, row.accelerator_count): row
            for row in rows
            if row.market is Market.ON_DEMAND
        }
        for row in rows:
            usual = asked.get((row.instance_type, row.region, row.accelerator_name, row.accelerator_count))
            if row.market is Market.SPOT and usual and usual.usd_per_hour and usual.source == row.source:
                assert row.usd_per_hour is None or row.usd_per_hour <= usual.usd_per_hour * 1.001, (cloud, row)
