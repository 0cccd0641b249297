"""What stands after the verb: a task file, or a shell command."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from styx.errors import NotFound, UsageError


class Entrypoint(NamedTuple):
    """What to run."""

    kind: Literal["file", "command", "nothing"]
    text: str
    """Path of the file, or the shell command."""


def read_entrypoint(words: Sequence[str], *, here: Path | None = None) -> Entrypoint:
    """Decide what the words are.

    One word that ends in .yaml or .yml is a task file. Any other single word is shell text. Several words are one
    command whose words are kept apart, as in `styx exec c -- python train.py --name "my run"`.

    Raises:
        NotFound: It looks like a task file that does not exist.
        UsageError: A task file is followed by more words, or the path is a folder.
    """
    if not words:
        return Entrypoint("nothing", "")
    first = words[0]
    if not _looks_like_file(first):
        return Entrypoint("command", first if len(words) == 1 else shlex.join(words))
    path = (here or Path()) / Path(os.path.expanduser(first))
    if len(words) > 1:
        raise UsageError(
            f"after the task file {first} comes {shlex.join(words[1:])}, which has no meaning there",
            hint="give one task file, or one command",
        )
    if path.is_dir():
        raise UsageError(f"{first} is a folder, not a task file")
    if not path.exists():
        raise NotFound(f"there is no task file {first}", hint=_neighbour(path))
    return Entrypoint("file", str(Path(os.path.expanduser(first))))


def _looks_like_file(word: str) -> bool:
    return word.lower().endswith((".yaml", ".yml")) and not any(char in word for char in " \t\n;|&<>")


def _neighbour(path: Path) -> str:
    from styx.models.suggest import closest

    try:
        others = [each.name for each in path.parent.iterdir() if _looks_like_file(each.name)]
    except OSError:
        return f"{path.parent} is not a folder that can be read"
    near = closest(path.name, others)
    if near:
        return f"did you mean {path.parent / near}?"
    return "a command that ends in .yaml must be quoted together with its program"
