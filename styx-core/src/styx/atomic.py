"""Files that appear whole or not at all: written beside their place, and moved there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def drafted(path: Path, *, mode: int = 0o600, durable: bool = False) -> Iterator[Path]:
    """A file in the same folder, for nobody else until then, that takes the place of `path` when the body ends well.

    Args:
        path: What it replaces; its folder must exist.
        mode: Permissions of the file in its place.
        durable: Have it on the disk first.
    """
    import tempfile  # here: most commands write nothing

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(mode)
        if durable:
            with draft.open("rb") as stream:
                os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, data: bytes | str, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file as `drafted` has it; text is UTF-8.

    Raises:
        OSError: It could not be written; what was there before is untouched.
    """
    with drafted(path, mode=mode, durable=durable) as draft:
        draft.write_bytes(data.encode() if isinstance(data, str) else data)
