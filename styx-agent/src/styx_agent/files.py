"""Small JSON files that survive `kill -9`, and how full a disk is."""

from __future__ import annotations

import contextlib
import os

from styx_agent.faults import is_disk_full
from styx_agent.lean import TYPE_CHECKING, dumps, loads

if TYPE_CHECKING:
    from typing import Any, Iterable

LITTLE_BYTES = 64 * 1024
"""A file system with less room than this counts as full."""


def write_json(path: str, value: object, *, durable: bool = False) -> None:
    """Replace `path` by `value` in one step, mode 0600; `durable` also survives a power failure.

    Raises:
        OSError: The old file is then still there, whole.
    """
    temporary = "%s.%d.tmp" % (path, os.getpid())
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(fd, dumps(value).encode("ascii"))
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def write_text(path: str, text: str, mode: int) -> None:
    """Write a small file anew."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)
        write_all(fd, text.encode("utf-8"))
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; a full disk first takes a part, then says so."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_json(path: str) -> Any:
    """The value in `path`, or None when there is no readable JSON there."""
    try:
        with open(path, "rb") as stream:
            return loads(stream.read().decode("utf-8"))
    except (OSError, ValueError):
        return None


def read_object(path: str) -> dict[str, Any]:
    """The JSON object in `path`; empty when there is none."""
    value = read_json(path)
    return value if isinstance(value, dict) else {}


def remove(path: str) -> None:
    """Unlink if it is there and can be."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def full_folder(folders: Iterable[str]) -> str | None:
    """The first of `folders` whose file system has no room left, for this user."""
    for folder in folders:
        try:
            seen = os.statvfs(folder)
        except OSError:
            continue
        free = seen.f_bfree if os.geteuid() == 0 else seen.f_bavail
        if seen.f_blocks and free * (seen.f_frsize or seen.f_bsize) < LITTLE_BYTES:
            return folder
    return None


def refuses_bytes(fd: int) -> bool:
    """Whether the file behind `fd` says that its device is full, asked without adding to it."""
    try:
        os.write(fd, b"")
    except OSError as error:
        return is_disk_full(error)
    return False
