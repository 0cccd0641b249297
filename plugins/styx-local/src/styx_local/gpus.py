"""Which accelerators a node gets. A pure decision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def assign(indices: Sequence[int], held: Sequence[tuple[Sequence[int], float]], count: float) -> tuple[int, ...] | None:
    """Indices for a node that wants `count` accelerators, or None when not enough is free.

    Args:
        indices: All accelerators of the machine.
        held: What running nodes hold: indices, and how much of each.
        count: A whole number, or a fraction of one; fractions fill up an accelerator that is shared already first.
    """
    used: Counter[int] = Counter()
    for owned, share in held:
        for index in owned:
            used[index] += round(share * 1000)
    if count < 1:
        room = [index for index in indices if used[index] + round(count * 1000) <= 1000]
        return (max(room, key=lambda index: (used[index], -index)),) if room else None
    free = [index for index in indices if not used[index]]
    return tuple(free[: int(count)]) if len(free) >= count else None
