"""Which files of a folder stay behind: `.styxignore`, else `.skyignore`, else `.gitignore`, all in git's syntax."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore.base import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from styx.errors import Fault, InvalidInput

_OWN_FILES = (".styxignore", ".skyignore")
GIT_FILE = ".gitignore"


class Rules:
    """What one ignore file says, in git's syntax."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._spec = GitIgnoreSpec([pattern for line in lines if (pattern := _pattern(line)) is not None])

    def verdict(self, path: str, *, folder: bool) -> bool | None:
        """True hides the path, False brings it back, None says nothing about it."""
        return self._spec.check_file(f"{path}/" if folder else path).include


def _pattern(line: str) -> GitIgnoreSpecPattern | None:
    """One line; None for one that git would match with nothing."""
    if line.rstrip(" ").endswith("/**/"):  # pathspec takes it for everything below, git for the folders below
        line = f"{line.rstrip(' ')}*/"
    try:
        return GitIgnoreSpecPattern(line)
    except GitIgnorePatternError:
        return None


@dataclass(frozen=True)
class _Level:
    """One ignore file.

    Attributes:
        rules: What it says.
        above: For a file above the tree: the tree's path below it.
        base: For a file inside the tree: its folder's path in the tree.
    """

    rules: Rules
    above: str = ""
    base: str = ""

    def verdict(self, path: str, *, folder: bool) -> bool | None:
        if self.base:
            path = path[len(self.base) + 1 :]
        elif self.above:
            path = f"{self.above}/{path}"
        return self.rules.verdict(path, folder=folder)


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
        if (file := root / GIT_FILE).is_file():
            levels += (_Level(_read(file)),)
        return cls(levels, nested=True)

    def enter(self, folder: Path, path: str) -> Ignored:
        """The rules in `folder`, which is `path` in the tree; asked for when it holds a `.gitignore`."""
        file = folder / GIT_FILE
        if not self._nested or not file.is_file():
            return self
        return Ignored((*self._levels, _Level(_read(file), base=path)), nested=True)

    def hides(self, path: str, *, folder: bool) -> bool:
        """Whether `path` stays behind. The innermost ignore file with an opinion decides.

        What is in a hidden folder is never asked for: nothing in it can be brought back.
        """
        for level in reversed(self._levels):
            verdict = level.verdict(path, folder=folder)
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
    for folder, name in [(top, ".git/info/exclude"), *((folder, GIT_FILE) for folder in folders)]:
        if (file := folder / name).is_file():
            below = root.relative_to(folder).as_posix()
            levels.append(_Level(_read(file), above="" if below == "." else below))
    if _tree_is_hidden(levels):
        return tuple(level for level in levels if not level.above)
    return tuple(levels)


def _tree_is_hidden(levels: list[_Level]) -> bool:
    """Whether the tree, or a folder between it and the repository's top, is hidden by a file above it."""
    for level in reversed(levels):
        parts = level.above.split("/") if level.above else []
        for count in range(1, len(parts) + 1):
            if level.rules.verdict("/".join(parts[:count]), folder=True):
                return True
    return False


def _read(file: Path) -> Rules:
    try:
        return Rules(os.fsdecode(file.read_bytes()).split("\n"))
    except OSError as error:
        raise InvalidInput([Fault(f"cannot be read: {error.strerror}", file=str(file))]) from error
