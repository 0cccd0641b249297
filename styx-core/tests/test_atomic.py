"""Files that appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from styx.atomic import drafted, write_atomically


def test_a_file_is_replaced_with_its_mode_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "ä", durable=True)
    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == ("ä", 0o600)
    write_atomically(path, b"two", mode=0o644)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"two", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def fail() -> None:
        with drafted(path) as draft:
            assert draft.stat().st_mode & 0o077 == 0
            draft.write_text("new")
            raise ValueError("half")

    with pytest.raises(ValueError, match="half"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="absent"):
        write_atomically(tmp_path / "absent" / "file", "x")
