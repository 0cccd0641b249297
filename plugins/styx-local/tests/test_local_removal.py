"""A node's folder goes away whatever modes its jobs left behind, also for a user who is not root."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from styx_local.machine import remove_tree

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that an ordinary user owns; pytest's own are root's when root runs the tests."""
    made = Path(tempfile.mkdtemp(prefix="styx-removal-"))
    if os.getuid() == 0:
        os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


def as_ordinary_user(action: Callable[[], None]) -> int:
    """Run `action` in a child without privileges; 0 when it raised nothing."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            action()
            code = 0
        except BaseException:  # noqa: BLE001 - the child must end here, and says why
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o400, 0o500, 0o700])
def test_modes_do_not_keep_a_folder(folder: Path, mode: int) -> None:
    def fill_and_remove() -> None:
        top = folder / "top"
        (top / "a" / "b").mkdir(parents=True)
        (top / "a" / "b" / "file").write_text("x")
        (top / "a" / "link").symlink_to(folder)
        (folder / "kept").write_text("")
        for name in ("a/b", "a"):
            (top / name).chmod(mode)
        remove_tree(top)
        remove_tree(top)

    assert as_ordinary_user(fill_and_remove) == 0
    assert os.listdir(folder) == ["kept"]


if os.getuid() == 0:  # nobody else can make another user's folder

    def test_what_is_another_users_is_named(folder: Path) -> None:
        (folder / "roots").mkdir(mode=0o700)
        (folder / "roots" / "file").write_text("")

        def refuse() -> None:
            with pytest.raises(PermissionError, match="roots"):
                remove_tree(folder / "roots")

        assert as_ordinary_user(refuse) == 0
