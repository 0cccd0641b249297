"""Whether an upload is worth packing: checkpoints and media only lose time by it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

SAMPLE_BYTES = 1 << 16
_SAMPLES = 8
_WORTH = 0.9
"""Packed size over size, above which packing costs more than it brings."""


def worthwhile_level(files: Sequence[tuple[str, int]], level: int) -> int:
    """`level`, or 0 when the largest files, by a look at their middles, hardly get smaller.

    Args:
        files: What will be sent, with sizes.
        level: As the transport asks for; 0 is not questioned.
    """
    largest = sorted(files, key=lambda file: file[1], reverse=True)[:_SAMPLES]
    if not level or sum(size for _, size in largest) < sum(size for _, size in files) / 2:
        return level
    plain = packed = 0.0
    for path, size in largest:
        sample = _middle(path, size)
        if sample:
            plain += size
            packed += size * len(zlib.compress(sample, 1)) / len(sample)
    return 0 if plain and packed > _WORTH * plain else level


def _middle(path: str, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, size // 2 - SAMPLE_BYTES // 2))
            return file.read(SAMPLE_BYTES)
    except OSError:
        return b""  # whoever sends it says why
