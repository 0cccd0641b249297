from __future__ import annotations

import os
from pathlib import Path

from styx.transport.packing import worthwhile_level


def file(path: Path, data: bytes) -> tuple[str, int]:
    path.write_bytes(data)
    return str(path), len(data)


def test_what_does_not_get_smaller_is_not_packed(tmp_path: Path) -> None:
    noise = file(tmp_path / "noise", os.urandom(1 << 20))
    text = file(tmp_path / "text", b"the same again and again\n" * 50_000)
    small = [file(tmp_path / f"small{number}", b"word " * 100) for number in range(100)]
    assert worthwhile_level([noise], 1) == 0
    assert worthwhile_level([noise, *small], 1) == 0
    assert worthwhile_level([text], 1) == 1
    assert worthwhile_level([noise, text], 1) == 1
    assert worthwhile_level(small, 6) == 6
    assert worthwhile_level([text], 0) == 0
    assert worthwhile_level([], 1) == 1
    assert worthwhile_level([(str(tmp_path / "gone"), 100), (str(tmp_path), 5)], 1) == 1
