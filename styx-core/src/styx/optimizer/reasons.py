"""Why rows will not do, in words: which single check stands in the way, else what the nearest offer lacks. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from styx.driver import CatalogRow
from styx.optimizer.fit import Check, accelerators_text, needs
from styx.units import number_text

_REASONS_SHOWN: Final = 3


def why_none(asked: Sequence[Check], rows: Sequence[CatalogRow]) -> str:
    """Why none of `rows` passes all checks."""
    if not rows:
        return "no enabled place offers any machine"
    alone: dict[int, list[CatalogRow]] = defaultdict(list)
    nearest: tuple[int, CatalogRow, list[Check]] | None = None
    for row in rows:
        failed = [index for index, check in enumerate(asked) if not check.passes(row)]
        if len(failed) == 1:
            alone[failed[0]].append(row)
        if nearest is None or len(failed) < nearest[0]:
            nearest = (len(failed), row, [asked[index] for index in failed])
    if alone:
        nearest_first = sorted(alone, key=lambda index: (asked[index].rank is None, index))[:_REASONS_SHOWN]
        return "; or, keeping that, ".join(asked[index].reason(alone[index]) for index in nearest_first)
    if nearest is None:
        return "no enabled place offers any machine"
    _, row, lacks = nearest
    told = " and ".join(f"{need} (it has {has})" for has, need in needs(lacks, row).items())
    return f"needs {told}; the nearest offer is {described(row)}"


def described(row: CatalogRow) -> str:
    """`p5.48xlarge in aws/us-east-1 (8 x H100, 192 vCPUs, 2048 GiB)`."""
    where = "/".join(part for part in (row.cloud, row.region, row.zone) if part)
    parts = [accelerators_text(row)] if row.accelerator_count else []
    parts += [f"{number_text(row.vcpus)} vCPUs"] if row.vcpus is not None else []
    parts += [f"{number_text(row.memory_gib)} GiB"] if row.memory_gib is not None else []
    return f"{row.instance_type} in {where}" + (f" ({', '.join(parts)})" if parts else "")
