"""What is to be uploaded: a folder or file of this machine as a list of entries."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from styx.errors import Fault, InvalidInput, LocalIOError
from styx.transport.ignore import Ignored

HEAVY_FOLDERS = frozenset(
    {".git", "node_modules", ".venv", "venv", "__pycache__", ".tox", ".nox", ".mypy_cache", ".cache", "wandb", "target"}
)
"""Folders that people seldom mean to upload; a large upload names those it found."""


class Entry(NamedTuple):
    """One file, folder or symbolic link. `path` is relative to the tree; for a tree that is a single file it is empty.

    Names that are not UTF-8 carry their bytes as surrogates, as `os.fsdecode` makes them.
    """

    path: str
    kind: Literal["f", "d", "l"]
    mode: int
    size: int
    mtime_ns: int
    target: str | None


@dataclass(frozen=True)
class SyncItem:
    """A folder or file of this machine and where it goes.

    Attributes:
        source: A path of this machine; a symbolic link here is followed, those inside are kept as links.
        dest: A path on the node: absolute, `~/...`, or relative to the node's home. For a single file, a `dest` that
            ends with `/` is the folder it goes into.
        keep_git: Upload `.git` too.
    """

    source: Path
    dest: str
    keep_git: bool = False


@dataclass(frozen=True)
class Tree:
    """A walked `SyncItem`. One walk serves any number of nodes.

    Attributes:
        item: What was walked.
        source: Its real path.
        dest: Where it goes.
        entries: Folders before what they hold.
        skipped: Sentences about what was left out although no ignore file says so.
    """

    item: SyncItem
    source: Path
    dest: str
    entries: tuple[Entry, ...]
    skipped: tuple[str, ...]

    def local_path(self, entry: Entry) -> str:
        """Where an entry lies on this machine."""
        return os.path.join(self.source, entry.path) if entry.path else str(self.source)


def scan(item: SyncItem) -> Tree:
    """Walk one item.

    Raises:
        InvalidInput: The source does not exist or is neither file nor folder, or an ignore file is wrong.
        LocalIOError: A part of it cannot be read.
    """
    try:
        source = item.source.expanduser().resolve(strict=True)
        info = source.stat()
    except (OSError, RuntimeError) as error:
        why = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise InvalidInput([Fault(f"the path to upload {why}", value=str(item.source))]) from error
    if stat.S_ISREG(info.st_mode):
        dest = f"{item.dest}{item.source.name}" if item.dest.endswith("/") else item.dest
        return Tree(item, source, dest, (_file("", info),), ())
    if not stat.S_ISDIR(info.st_mode):
        raise InvalidInput([Fault("only files and folders can be uploaded", value=str(item.source))])
    skipped: list[str] = []
    walked = tuple(_walk(str(source), "", Ignored.of(source), item.keep_git, skipped))
    return Tree(item, source, item.dest.rstrip("/") or "/", walked, tuple(skipped))


def heavy_folders(trees: Sequence[Tree]) -> list[tuple[str, int, int]]:
    """`(name, files, bytes)` of the folders of `HEAVY_FOLDERS` in the trees, the heaviest first."""
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for tree in trees:
        for entry in tree.entries:
            if entry.kind != "f":
                continue
            for part in entry.path.split("/")[:-1]:
                if part in HEAVY_FOLDERS:
                    files[part] += 1
                    sizes[part] += entry.size
                    break
    return [(name, files[name], size) for name, size in sizes.most_common()]


def _file(path: str, info: os.stat_result) -> Entry:
    return Entry(path, "f", stat.S_IMODE(info.st_mode) & 0o777, info.st_size, info.st_mtime_ns, None)


def _walk(folder: str, path: str, ignored: Ignored, keep_git: bool, skipped: list[str]) -> Iterator[Entry]:
    try:
        with os.scandir(folder) as listing:
            found = sorted(listing, key=lambda child: child.name)
    except FileNotFoundError:
        return  # vanished since its parent was listed
    except OSError as error:
        raise unreadable(folder, error) from error
    if path and any(child.name == ".gitignore" for child in found):
        ignored = ignored.enter(Path(folder), path)
    for child in found:
        below = f"{path}/{child.name}" if path else child.name
        if child.name == ".git" and not keep_git:
            continue
        try:
            info = child.stat(follow_symlinks=False)
            is_folder = stat.S_ISDIR(info.st_mode)
            if ignored.hides(below, folder=is_folder):
                continue
            if is_folder:
                yield Entry(below, "d", stat.S_IMODE(info.st_mode) & 0o777, 0, 0, None)
                yield from _walk(child.path, below, ignored, keep_git, skipped)
            elif stat.S_ISLNK(info.st_mode):
                yield Entry(below, "l", 0o777, 0, 0, os.readlink(child.path))
            elif stat.S_ISREG(info.st_mode):
                yield _file(below, info)
            else:
                skipped.append(f"{child.path} is a socket, pipe or device and was not uploaded")
        except FileNotFoundError:
            continue  # vanished since it was listed
        except OSError as error:
            raise unreadable(child.path, error) from error


def unreadable(path: str, error: OSError) -> LocalIOError:
    """For a part of a tree that cannot be read."""
    return LocalIOError(
        f"cannot read {path}: {error.strerror}", hint="make it readable, or list it in .styxignore to leave it out"
    )
