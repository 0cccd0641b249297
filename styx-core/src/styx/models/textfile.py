"""Reading a text file that a user named, with one clear fault for whatever is wrong with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from styx.errors import Fault, InvalidInput

MAX_BYTES: Final = 1 << 20
"""Larger files are refused: nobody writes a task of a megabyte."""


def read_text_file(path: str | Path, *, max_bytes: int = MAX_BYTES) -> str:
    """The text of a UTF-8 file.

    Raises:
        InvalidInput: It is missing, a folder, unreadable, too large, or not UTF-8.
    """
    name = str(path)
    try:
        expanded = Path(os.path.expanduser(path))
        with expanded.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise _refused("the file does not exist", name, suggestion="check the path") from None
    except IsADirectoryError:
        raise _refused("this is a folder, not a file", name, suggestion="name a file in it") from None
    except PermissionError:
        raise _refused("the file cannot be read: permission denied", name) from None
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(f"the file cannot be read: {reason}", name) from None
    if len(content) > max_bytes:
        raise _refused(f"the file is larger than {max_bytes // 1024} KiB", name, suggestion="is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refused(
            f"the file is not UTF-8 text (byte 0x{content[error.start]:02x})", name, line=line,
            suggestion="save it as UTF-8",
        ) from None  # fmt: skip


def _refused(message: str, file: str, *, line: int | None = None, suggestion: str | None = None) -> InvalidInput:
    return InvalidInput([Fault(message, file=file, line=line, suggestion=suggestion)])
