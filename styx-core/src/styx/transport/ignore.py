"""Which files of a folder stay behind: `.styxignore`, else `.skyignore`, else `.gitignore`, all in git's syntax."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from styx.errors import Fault, InvalidInput

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_OWN_FILES = (".styxignore", ".skyignore")
_GIT_FILE = ".gitignore"


@dataclass(frozen=True)
class _Level:
    """One ignore file's patterns and what to put before a path of the tree to get a path they are written for.

    For a file above the tree `above` is the tree's path below it, with a slash; for a file inside, `base` is its own
    folder's path in the tree.
    """

    spec: GitIgnoreSpec
    above: str = ""
    base: str = ""

    def verdict(self, path: str) -> bool | None:
        if self.base:
            path = path[len(self.base) + 1 :]
        return self.spec.check_file(self.above + path).include


class Ignored:
    """The rules in force in one folder of the tree; `enter` gives those of a folder below it."""

    def __init__(self, levels: tuple[_Level, ...], *, nested: bool) -> None:
        self._levels = levels
        self._nested = nested

    @classmethod
    def of(cls, root: Path) -> Ignored:
        """The rules at the top of the tree `root`."""
        for name in _OWN_FILES:
            if (file := root / name).is_file():
                return cls((_Level(_read(file)),), nested=False)
        levels = _levels_above(root)
        if (file := root / _GIT_FILE).is_file():
            levels += (_Level(_read(file)),)
        return cls(levels, nested=True)

    def enter(self, folder: Path, path: str) -> Ignored:
        """The rules in `folder`, which is `path` in the tree; asked for when it holds an ignore file."""
        file = folder / _GIT_FILE
        if not self._nested or not file.is_file():
            return self
        return Ignored((*self._levels, _Level(_read(file), base=path)), nested=True)

    def hides(self, path: str, *, folder: bool) -> bool:
        """Whether `path` stays behind. The innermost ignore file with an opinion decides."""
        name = f"{path}/" if folder else path
        for level in reversed(self._levels):
            verdict = level.verdict(name)
            if verdict is not None:
                return verdict
        return False


def _levels_above(root: Path) -> tuple[_Level, ...]:
    """Ignore files between the repository's top and the tree, unless they hide the tree itself: it was asked for."""
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), None)
    if top is None:
        return ()
    folders = [folder for folder in reversed(root.parents) if folder == top or top in folder.parents]
    levels: list[_Level] = []
    for folder, name in [(top, ".git/info/exclude"), *((folder, _GIT_FILE) for folder in folders)]:
        if (file := folder / name).is_file():
            below = root.relative_to(folder).as_posix()
            levels.append(_Level(_read(file), above="" if below == "." else f"{below}/"))
    outer = [level for level in levels if level.above]
    verdicts = (level.verdict("") for level in reversed(outer))
    if next((verdict for verdict in verdicts if verdict is not None), False):
        return tuple(level for level in levels if not level.above)
    return tuple(levels)


def _read(file: Path) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    try:
        lines = os.fsdecode(file.read_bytes()).splitlines()
    except OSError as error:
        raise InvalidInput([Fault(f"cannot be read: {error.strerror}", file=str(file))]) from error
    for number, line in enumerate(lines, 1):
        try:
            GitIgnoreSpec.from_lines([line])
        except ValueError:
            raise InvalidInput(
                [Fault("not a pattern that git knows", file=str(file), line=number, value=line)]
            ) from None
    return GitIgnoreSpec.from_lines(lines)
