"""Sizes, durations, places, accelerators, ports: what is written comes back, and nonsense is a `ValueError`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.models import (
    AcceleratorRequest,
    CpuRequest,
    Infra,
    LocalDisk,
    MemoryRequest,
    Resources,
    canonical_cloud,
)
from styx.models.accelerators import KNOWN_ACCELERATORS
from styx.models.infra import KNOWN_CLOUDS
from styx.models.requests import port_ranges
from styx.models.suggest import closest
from styx.units import format_duration, parse_duration_s, parse_size_gib


@pytest.mark.parametrize(
    ("text", "gib"),
    [
        ("256", 256),
        (256, 256),
        ("1TB", 1024),
        ("80GB", 80),
        ("80 gib", 80),
        ("512MB", 0.5),
        ("1.5T", 1536),
        (".5g", 0.5),
        ("1e-3TB", 1.024),
    ],
)
def test_sizes(text: object, gib: float) -> None:
    assert parse_size_gib(text) == gib


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("10h", 36000), ("1d", 86400), ("1h30m", 5400), (7, 7), ("2 hours", 7200), ("0", 0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration_s(text) == seconds
    assert parse_duration_s(format_duration(seconds)) == seconds


def test_bare_numbers_take_the_default_unit() -> None:
    assert parse_duration_s(10, default_unit="m") == 600
    assert parse_size_gib("64", default_unit="MB") == 0.0625


@pytest.mark.parametrize("value", ["", "x", "5 parsecs", "-1", True, None, [], "1h 5", "1e99", "1__0"])
def test_nonsense_is_a_value_error(value: object) -> None:
    for parse in (parse_size_gib, parse_duration_s):
        with pytest.raises(ValueError, match=r"size|duration|unit"):
            parse(value)


@given(st.integers(0, 10**9))
def test_durations_round_trip(seconds: int) -> None:
    assert parse_duration_s(format_duration(seconds)) == seconds


PART = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
PLAIN_CLOUD = st.sampled_from(sorted(KNOWN_CLOUDS - {"kubernetes", "ssh"}))
PLACES = st.one_of(
    st.builds(Infra, cloud=st.none() | PLAIN_CLOUD, region=st.none() | PART, zone=st.none() | PART),
    st.builds(
        Infra,
        cloud=st.sampled_from(["kubernetes", "ssh"]),
        region=st.none() | st.lists(PART, min_size=1, max_size=3).map("/".join),
    ),
)


@given(PLACES)
def test_places_round_trip(place: Infra) -> None:
    assert Infra.model_validate(str(place)) == place


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("*", (None, None, None)),
        ("*/us-east-1", (None, "us-east-1", None)),
        ("AWS", ("aws", None, None)),
        ("k8s/my/ctx", ("kubernetes", "my/ctx", None)),
        ("ssh/pool", ("ssh", "pool", None)),
        ("slurm/hpc/gpu", ("slurm", "hpc", "gpu")),
        ("digitalocean/nyc3", ("do", "nyc3", None)),
        ("gcp/*/us-central1-a", ("gcp", None, "us-central1-a")),
    ],
)
def test_places(text: str, parts: tuple[str | None, ...]) -> None:
    place = Infra.model_validate(text)
    assert (place.cloud, place.region, place.zone) == parts


def test_place_covers() -> None:
    place = Infra.model_validate("aws/us-east-1")
    assert place.covers("aws", "us-east-1", "us-east-1a")
    assert not place.covers("aws", "us-east-2")
    assert not place.covers("gcp", "us-east-1")
    assert Infra.model_validate("*").covers("anything")


COUNTS = st.integers(1, 1000).map(float) | st.floats(0.001, 0.999).map(lambda value: round(value, 4))
ACCELERATORS = st.one_of(
    st.builds(AcceleratorRequest, name=st.sampled_from(sorted(KNOWN_ACCELERATORS)), count=COUNTS),
    st.builds(
        AcceleratorRequest,
        memory_gib=st.integers(1, 999).map(float),
        memory_at_least=st.booleans(),
        vendor=st.sampled_from([None, "nvidia", "amd"]),
        count=COUNTS,
    ),
)


@given(ACCELERATORS)
def test_accelerators_round_trip(request: AcceleratorRequest) -> None:
    assert AcceleratorRequest.model_validate(str(request)) == request


def test_accelerator_spelling() -> None:
    texts = ["a100:8", "H100-sxm", "TPU-V5E-8", "FutureChip9:2", "24GB", "nvidia:80gb+:4", "T4:0.5"]
    assert [str(AcceleratorRequest.model_validate(text)) for text in texts] == [
        "A100:8", "H100-SXM", "tpu-v5e-8", "FutureChip9:2", "24GB", "nvidia:80GB+:4", "T4:0.5",
    ]  # fmt: skip


@given(st.lists(st.tuples(st.integers(1, 65535), st.integers(0, 50)), max_size=12))
def test_ports_keep_every_number_once(pairs: list[tuple[int, int]]) -> None:
    ends = [(first, min(first + more, 65535)) for first, more in pairs]
    ranges = port_ranges([f"{first}-{last}" for first, last in ends])
    numbers = [number for each in ranges for number in each.numbers()]
    assert numbers == sorted({number for first, last in ends for number in range(first, last + 1)})
    assert port_ranges([str(each) for each in ranges]) == ranges


def test_requests_admit() -> None:
    assert CpuRequest.model_validate("4+").admits(8)
    assert not CpuRequest.model_validate(4).admits(8)
    assert MemoryRequest.model_validate("4x+").admits(40, cpus=8)
    assert not MemoryRequest.model_validate("4x").admits(40, cpus=8)
    assert MemoryRequest.model_validate("64GB").admits(64, cpus=1)
    assert str(LocalDisk.model_validate("NVMe:1TB+")) == "nvme:1024+"
    assert str(LocalDisk.model_validate("ssd")) == "ssd:100+"


def test_python_callers_write_what_yaml_writes() -> None:
    resources = Resources(infra="k8s", accelerators={"A100": 8, "H100": None}, autostop="10m", ports=8080)
    assert resources == Resources(cloud="kubernetes", gpus={"A100:8": None, "H100": 1}, autostop=10, ports=["8080"])
    assert not resources.is_ordered
    assert resources.accelerator is not None
    assert Resources(accelerators="none").accelerators is None


def test_suggestions() -> None:
    assert closest("Num-Nodes", ["num_nodes", "name"]) == "num_nodes"
    assert closest("zzz", ["num_nodes"]) is None
    assert canonical_cloud(" K8S ") == "kubernetes"
