"""Makes a realistic catalog in the hosted layout: `python benchmarks/catalog_gen.py OUT [--rows N] [--seed N]`.

Twenty clouds under `OUT/catalogs/v8/<cloud>/vms.csv`, each with the columns and the peculiarities of its public file:
GPU memory per GPU here and in total there, GiB in a MiB field, accelerators without a machine type, prices of 0,
regions with commas. Sizes of the files, machine types and price levels follow the real ones; the figures are drawn
from a seed.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Cells = dict[str, object]

PLAIN = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Price",
    "Region",
    "GpuInfo",
    "SpotPrice",
)
ZONED = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "GpuInfo",
    "Price",
    "SpotPrice",
    "Region",
    "AvailabilityZone",
)
AWS = (*ZONED, "Arch", "LocalDiskType", "NVMeSupported", "LocalDiskSize", "LocalDiskCount", "MaximumEfaInterfaces")
AZURE = (*ZONED[:-1], "Generation")
GCP = (
    "InstanceType",
    "vCPUs",
    "MemoryGiB",
    "AcceleratorName",
    "AcceleratorCount",
    "GpuInfo",
    "Region",
    "AvailabilityZone",
    "Price",
    "SpotPrice",
)
RUNPOD = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Region",
    "SpotPrice",
    "Price",
    "AvailabilityZone",
    "GpuInfo",
)
UPSTREAM = (
    "InstanceType",
    "UpstreamCloudId",
    "vCPUs",
    "MemoryGiB",
    "AcceleratorName",
    "AcceleratorCount",
    "GpuInfo",
    "Region",
    "AvailabilityZone",
    "Price",
    "SpotPrice",
)
HYPERBOLIC = (*PLAIN[:5], "StorageGiB", *PLAIN[5:])

GPUS: dict[str, tuple[int, float]] = {
    "H100": (81920, 2.9),
    "H200": (144384, 3.6),
    "B200": (184320, 5.2),
    "A100": (40960, 1.4),
    "A100-80GB": (81920, 1.7),
    "L4": (24576, 0.55),
    "L40S": (49152, 1.1),
    "L40": (49152, 0.95),
    "A10": (24576, 0.75),
    "A10G": (24576, 0.8),
    "T4": (16384, 0.35),
    "V100": (16384, 0.6),
    "RTXA6000": (49152, 0.6),
    "A4000": (16384, 0.3),
    "RTX4090": (24564, 0.4),
    "RTX5090": (32607, 0.55),
    "RTX3090": (24576, 0.22),
    "MI300X": (196608, 2.4),
    "RTXPRO6000": (98304, 1.3),
}
"""Memory in MiB and a middling price per hour, by the name that files use."""


@dataclass
class Cloud:
    """One cloud's file.

    Attributes:
        columns: As its public file has them.
        zones: Region and zone (None where the cloud has none).
        gpus: Names sold, with the counts per machine.
        share: Part of all rows.
        info: Writes `GpuInfo` from name, count and MiB of one.
        level: Price level against the table above.
    """

    columns: tuple[str, ...]
    zones: list[tuple[str, str | None]]
    gpus: Mapping[str, Sequence[float]] = field(default_factory=dict)
    share: float = 0.0
    info: Callable[[str, float, int], str] = lambda name, count, mib: _info(name, count, mib, mib * count)
    level: float = 1.0


def _info(name: str, count: float, size: float, total: float) -> str:
    gpu = f"{{'Name': '{name}', 'Manufacturer': 'NVIDIA', 'Count': {count}, 'MemoryInfo': {{'SizeInMiB': {size:g}}}}}"
    return f"{{'Gpus': [{gpu}], 'TotalGpuMemoryInMiB': {total:g}}}"


def _gib(name: str, count: float, mib: int) -> str:
    return _info(name, count, round(mib / 1024), round(mib / 1024) * count)


def _all_together(name: str, count: float, mib: int) -> str:
    return _info(name, count, mib * count, mib * count)


def _bare(name: str, _count: float, _mib: int) -> str:
    return name


def _regions(areas: str, each: int, zones: int, zone: str = "{region}{letter}") -> list[tuple[str, str | None]]:
    names = [f"{area}-{number}" for area in areas.split() for number in range(1, each + 1)]
    if not zones:
        return [(name, None) for name in names]
    return [(name, zone.format(region=name, letter="abcdef"[i], number=i + 1)) for name in names for i in range(zones)]


WORLD = (
    "us-east us-west us-south us-central ca-central eu-west eu-north eu-central eu-south "
    "ap-east ap-south ap-southeast ap-northeast sa-east me-south af-south"
)
FEW = {"H100": (1, 2, 4, 8), "H200": (1, 8), "A100-80GB": (1, 2, 4, 8), "L40S": (1, 2, 4), "RTXA6000": (1, 2, 4)}
MANY = {**FEW, "B200": (8,), "L4": (1, 2, 4), "A100": (1, 8), "RTX4090": (1, 2, 4, 8), "V100": (1, 8), "A4000": (1, 2)}


def clouds() -> dict[str, Cloud]:
    """The twenty clouds; shares add up to about 1 with AWS, Azure and GCP taking most, as in the real catalog."""
    small = _regions("us eu ap", 3, 0)
    big = {
        "H100": (1, 8),
        "H200": (8,),
        "B200": (8,),
        "A100": (8,),
        "A100-80GB": (8,),
        "L4": (1, 4, 8),
        "V100": (1, 4, 8),
    }
    return {
        "aws": Cloud(
            AWS,
            _regions(WORLD, 2, 3, "{region}-az{number}"),
            {**big, "A10G": (1, 4, 8), "T4": (1, 4, 8), "L4": (0.125, 1, 4, 8)},
            0.40,
        ),
        "azure": Cloud(AZURE, _regions(WORLD, 4, 0), {**big, "A10": (0.5, 1), "T4": (1, 4), "MI300X": (8,)}, 0.24),
        "gcp": Cloud(GCP, _regions(WORLD, 3, 3, "{region}-{letter}"), {}, 0.20),
        "oci": Cloud(ZONED, _regions(WORLD, 2, 1), {**FEW, "MI300X": (8,), "A10": (1, 2, 4)}, 0.03),
        "ibm": Cloud(ZONED, _regions("us eu jp", 3, 3), {"V100": (1, 2), "L4": (1, 2), "H100": (8,)}, 0.02, _bare),
        "runpod": Cloud(RUNPOD, _regions("CA CZ NL US RO", 1, 5, "{region}-{number}"), MANY, 0.02, _gib, 0.8),
        "lambda": Cloud(PLAIN, _regions("us eu asia me", 4, 0), MANY, 0.01, lambda n, c, m: _info(n, c, m, m)),
        "nebius": Cloud(PLAIN, small, FEW, 0.01),
        "do": Cloud(PLAIN, _regions("nyc sfo ams fra tor", 2, 0), FEW, 0.01, lambda n, c, m: _info(n, c, m, m).lower()),
        "paperspace": Cloud(
            tuple(name for name in ZONED if name != "AvailabilityZone"),
            [("East Coast (NY2)", None), ("West Coast (CA1)", None), ("Europe (AMS1)", None)],
            MANY,
            0.005,
            _bare,
        ),
        "cudo": Cloud(PLAIN, small, MANY, 0.01),
        "fluidstack": Cloud(PLAIN, small, FEW, 0.003),
        "hyperbolic": Cloud(
            HYPERBOLIC, [("default", None)], {"H100": (1, 2, 4, 8), "RTX4090": (1, 2)}, 0.0002, level=0.6
        ),
        "mithril": Cloud(PLAIN, small[:3], {"H100": (1, 8), "H200": (1, 8)}, 0.0002, level=0.5),
        "primeintellect": Cloud(UPSTREAM, _regions("US CA FI", 1, 3), MANY, 0.004, _all_together, 0.75),
        "scp": Cloud(PLAIN, _regions("KOREA-WEST KOREA-EAST", 3, 0), {"V100": (1, 8), "A100-80GB": (1, 8)}, 0.005),
        "seeweb": Cloud(PLAIN, _regions("it-fr it-mi ch-lug", 2, 0), MANY, 0.002),
        "shadeform": Cloud(PLAIN, small, MANY, 0.003, _gib, 0.8),
        "vast": Cloud(
            tuple(name for name in ZONED if name != "AvailabilityZone"),
            [
                (f"{place}, {code}", None)
                for place, code in (("Texas", "US, NA"), ("", "US, NA"), ("France", "FR, EU"), ("Quebec", "CA, NA"))
            ],
            {**MANY, "RTX5090": (1, 2, 4, 8), "RTX3090": (1, 2, 4, 8)},
            0.002,
            _all_together,
            0.55,
        ),
        "verda": Cloud(
            UPSTREAM[:8] + UPSTREAM[9:], _regions("FIN ICE", 3, 0), {**FEW, "RTXPRO6000": (1, 2, 4)}, 0.002, level=0.8
        ),
    }


def generate(target: Path, rows: int = 220_000, seed: int = 20261123) -> dict[str, int]:
    """Write all files; returns the rows of each cloud. At least `rows` in all."""
    counts: dict[str, int] = {}
    for name, cloud in clouds().items():
        chance = random.Random(f"{seed}:{name}")
        folder = target / "catalogs" / "v8" / name
        folder.mkdir(parents=True, exist_ok=True)
        made = (
            _gcp(chance, cloud, int(rows * cloud.share))
            if name == "gcp"
            else _rows(chance, name, cloud, int(rows * cloud.share))
        )
        with (folder / "vms.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, cloud.columns, lineterminator="\n", extrasaction="ignore")
            writer.writeheader()
            counts[name] = 0
            for cells in made:
                writer.writerow(cells)
                counts[name] += 1
    return counts


def _rows(chance: random.Random, name: str, cloud: Cloud, least: int) -> Iterator[Cells]:
    done = 0
    for gpu, counts in cloud.gpus.items():
        for count in counts:
            for cells in _gpu_rows(chance, name, cloud, gpu, count):
                done += 1
                yield cells
    families = _families()
    while done < least:
        family, ratio, arm = next(families)
        for size in (2, 4, 8, 16, 32, 48, 64, 96):
            price = size * (0.024 + ratio * 0.0028) * chance.uniform(0.8, 1.4) * cloud.level
            disk = chance.random() < 0.2
            for region, zone in cloud.zones:
                if chance.random() < 0.1:
                    continue
                done += 1
                yield {
                    **_base(chance, name, region, zone, price),
                    "InstanceType": f"{family}.{size}",
                    "UpstreamCloudId": f"up-{family}-{size}",
                    "vCPUs": size,
                    "MemoryGiB": size * ratio,
                    "Arch": "arm64" if arm else "x86_64",
                    "NVMeSupported": disk,
                    "LocalDiskSize": 475.0 if disk else "",
                    "LocalDiskCount": 2.0 if disk else "",
                    "StorageGiB": 100 * size,
                }


def _families() -> Iterator[tuple[str, int, bool]]:
    generation = 3
    while True:
        for kind, ratio in (("c", 2), ("m", 4), ("r", 8), ("x", 16)):
            for maker in ("i", "a", "g"):
                yield f"{kind}{generation}{maker}", ratio, maker == "g"
        generation += 1


def _gpu_rows(chance: random.Random, name: str, cloud: Cloud, gpu: str, count: float) -> Iterator[Cells]:
    mib, price = GPUS[gpu]
    vcpus = max(2, int(count * chance.choice((8, 12, 16, 24))))
    price *= count * cloud.level * chance.uniform(0.85, 1.6)
    for region, zone in cloud.zones:
        if chance.random() < 0.25:
            continue
        yield {
            **_base(chance, name, region, zone, price),
            "InstanceType": f"{count:g}x-{gpu}-{vcpus}",
            "UpstreamCloudId": f"up-{gpu}-{count:g}",
            "AcceleratorName": gpu,
            "AcceleratorCount": float(count),
            "vCPUs": vcpus,
            "MemoryGiB": vcpus * chance.choice((4, 8)) if name == "vast" else vcpus * 8,
            "GpuInfo": cloud.info(gpu, count, mib if count >= 1 else int(mib * count)),
            "Arch": "x86_64",
            "NVMeSupported": True,
            "LocalDiskSize": 1900.0,
            "LocalDiskCount": max(1.0, float(count)),
            "MaximumEfaInterfaces": 4 if count == 8 else "",
            "StorageGiB": int(400 * max(1, count)),
        }


def _base(chance: random.Random, name: str, region: str, zone: str | None, price: float) -> Cells:
    """Place and prices, with the holes that real files have."""
    here = price * (1 + 0.25 * (hash_of(region) % 100) / 100)
    spot = here * chance.uniform(0.15, 0.7)
    cells: Cells = {
        "Region": region,
        "AvailabilityZone": zone or "",
        "Price": round(here, 5),
        "SpotPrice": round(spot, 6),
    }
    if name in ("lambda", "do", "ibm", "scp", "seeweb", "cudo", "fluidstack", "paperspace", "shadeform"):
        cells["SpotPrice"] = ""
    elif name == "vast":
        cells["SpotPrice"] = "0.00"
    elif chance.random() < 0.1:
        cells["SpotPrice"] = ""
    draw = chance.random()
    if draw < 0.004:
        cells["Price"] = 0
    elif draw < 0.008:
        cells["Price"] = ""
    elif draw < 0.009 and name == "azure":
        cells["Price"] = -1
    if name == "seeweb" and chance.random() < 0.12:
        cells["Region"] = ""
    return cells


def hash_of(text: str) -> int:
    """A small number that is the same in every process."""
    return sum((index + 1) * ord(letter) for index, letter in enumerate(text))


def _gcp(chance: random.Random, cloud: Cloud, least: int) -> Iterator[Cells]:
    """Hosts and accelerators apart, TPUs on their own."""
    done = 0
    attached = (
        ("A100", "a2-highgpu", (1, 2, 4, 8), 12, 7),
        ("H100", "a3-highgpu", (1, 2, 4, 8), 26, 9),
        ("H200", "a3-ultragpu", (8,), 28, 14),
    )
    for region, zone in cloud.zones:
        for gpu, host, counts, vcpus, ratio in attached:
            if chance.random() < 0.5:
                continue
            for count in counts:
                base = _base(chance, "gcp", region, zone, count * vcpus * 0.06)
                cores = count * vcpus
                yield {**base, "InstanceType": f"{host}-{count}g", "vCPUs": cores, "MemoryGiB": cores * ratio}
                part = _base(chance, "gcp", region, zone, GPUS[gpu][1] * count)
                yield {**part, "AcceleratorName": gpu, "AcceleratorCount": float(count), "GpuInfo": gpu}
                done += 2
        loose: tuple[tuple[str, tuple[int, ...]], ...] = (
            ("T4", (1, 2, 4)),
            ("V100", (1, 2, 4, 8)),
            ("L4", (1, 2, 4, 8)),
        )
        for gpu, few in loose:
            if chance.random() < 0.5:
                continue
            for count in few:
                part = _base(chance, "gcp", region, zone, GPUS[gpu][1] * count)
                yield {**part, "AcceleratorName": gpu, "AcceleratorCount": float(count), "GpuInfo": gpu}
                done += 1
        for cores in (1, 4, 8, 64):
            if chance.random() < 0.3:
                name = f"tpu-v5e-{cores}"
                price = {"Price": 700.0, "SpotPrice": 700.0} if chance.random() < 0.2 else {}
                part = _base(chance, "gcp", region, zone, 1.2 * cores)
                yield {**part, **price, "AcceleratorName": name, "AcceleratorCount": 1, "GpuInfo": name}
                done += 1
    kinds: list[tuple[str, float]] = [
        ("n1-standard", 3.75),
        ("n1-highmem", 6.5),
        ("n1-highcpu", 0.9),
        ("g2-standard", 4),
    ]
    families = ("e2", "n2", "n2d", "c2", "c3", "c4", "n4", "t2d", "t2a", "c3d")
    ratios = (("standard", 4), ("highmem", 8), ("highcpu", 2))
    kinds += [(f"{family}-{kind}", ratio) for family in families for kind, ratio in ratios]
    sizes = (4, 8, 16, 32, 64, 96, 2, 48, 24, 12, 80, 128, 56, 112, 176)
    for turn, size in enumerate(sizes):
        if done >= least and turn >= 8:
            break
        for kind, per_core in kinds:
            for region, zone in cloud.zones:
                if chance.random() < 0.15:
                    continue
                done += 1
                base = _base(chance, "gcp", region, zone, size * (0.03 + per_core * 0.004))
                yield {**base, "InstanceType": f"{kind}-{size}", "vCPUs": float(size), "MemoryGiB": size * per_core}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=220_000)
    parser.add_argument("--seed", type=int, default=20261123)
    given = parser.parse_args()
    made = generate(given.out, given.rows, given.seed)
    print(f"{sum(made.values())} rows over {len(made)} clouds: {made}")
