"""Names of accelerators, shapes of rows, and who gets which accelerator."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.driver import FeatureSet, Market
from styx.plugin import accelerator_of_product
from styx_local import gpus, hardware


@pytest.mark.parametrize(
    ("product", "memory_gib", "name"),
    [
        ("NVIDIA H100 80GB HBM3", 79.6, "H100"),
        ("NVIDIA A100-SXM4-80GB", 80.0, "A100-80GB"),
        ("NVIDIA A100-SXM4-40GB", 40.0, "A100"),
        ("Tesla V100-SXM2-32GB", 32.0, "V100-32GB"),
        ("Tesla T4", 15.0, "T4"),
        ("NVIDIA GeForce RTX 4090", 24.0, "RTX4090"),
        ("NVIDIA GeForce RTX 3080 Ti", 12.0, "RTX3080Ti"),
        ("NVIDIA RTX 6000 Ada Generation", 48.0, "RTX6000-Ada"),
        ("NVIDIA L40S", 45.0, "L40S"),
    ],
)
def test_usual_names(product: str, memory_gib: float, name: str) -> None:
    assert accelerator_of_product(product, memory_gib) == name


def test_smi_lines() -> None:
    text = "0, NVIDIA L4, 23034\n1, NVIDIA L4, 23034\n2, Tesla T4, 15360\nNo devices\n3, NVIDIA L4, [N/A]\n"
    found = list(hardware.parse_smi(text))
    assert [(gpu.index, gpu.name, gpu.memory_gib) for gpu in found] == [(0, "L4", 22.5), (1, "L4", 22.5)]


def test_rows_of_a_machine_with_accelerators() -> None:
    four = tuple(hardware.Gpu(index, "L4", 22.5) for index in range(3))
    rows = list(hardware.rows(hardware.Hardware(6, 30.0, "x86_64", four), FeatureSet(stop=True), 0.0))
    shapes = {row.instance_type: (row.vcpus, row.memory_gib, row.accelerator_count) for row in rows}
    assert shapes == {
        "local": (6, 30.0, 0),
        "local-1": (1, 5.0, 0),
        "local-2": (2, 10.0, 0),
        "local-4": (4, 20.0, 0),
        "local-0.25gpu": (6, 30.0, 0.25),
        "local-0.5gpu": (6, 30.0, 0.5),
        "local-1gpu": (6, 30.0, 1),
        "local-2gpu": (6, 30.0, 2),
        "local-3gpu": (6, 30.0, 3),
    }
    assert Counter(row.market for row in rows) == {Market.ON_DEMAND: 9, Market.SPOT: 9}


def test_this_machine_has_something() -> None:
    found = hardware.probe()
    assert found.vcpus >= 1
    assert found.memory_gib > 0
    assert hardware.account() == hardware.account()


@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), st.booleans()), max_size=12),
)
def test_accelerators_are_never_given_twice(total: int, wishes: list[tuple[float, bool]]) -> None:
    held: list[tuple[tuple[int, ...], float]] = []
    for count, give_back in wishes:
        if give_back and held:
            held.pop(0)
        share = min(1.0, count)
        found = gpus.assign(range(total), held, count)
        load = Counter[int]()
        for indices, part in held:
            load.update({index: round(part * 1000) for index in indices})
        if found is None:
            room = sum(load[index] + round(share * 1000) <= 1000 for index in range(total))
            assert room < max(1, count)
            continue
        assert len(set(found)) == max(1, int(count))
        assert all(load[index] + round(share * 1000) <= 1000 for index in found)
        held.append((found, share))
