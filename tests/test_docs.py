"""The documentation does what it says: its blocks are run in order, one private Styx per page.

What counts is the word after the fence, and what follows it:

* ```` ```yaml ```` is a task file and must be valid;
* ```` ```python ```` is run; blocks of one page share their names;
* ```` ```console ```` is a session: lines that start with `$ ` are run, the lines below each must appear in its output
  in that order (`...` stands for anything). Only commands named in `RUN` are run;
* `file=NAME` writes the block to that file first, whatever its language; `exit=N` expects another exit code than 0;
* `no-run` leaves the block alone.
"""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Styx

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "styx-*/README.md", "plugins/styx-*/README.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]+)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
RUN = ("cat", "echo", "ls", "mkdir", "python", "styx")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    options: dict[str, str]
    body: str
    line: int

    @property
    def runs(self) -> bool:
        """Whether the block is run or validated."""
        return "no-run" not in self.options and (
            self.language in ("console", "python", "yaml") or "file" in self.options
        )


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page that are run."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        language, *words = match["info"].split()
        options = {key: value for key, _, value in (word.partition("=") for word in words)}
        body = "".join(line.removeprefix(match["indent"]) for line in match["body"].splitlines(keepends=True))
        block = Block(language, options, body, text.count("\n", 0, match.start()) + 1)
        if block.runs:
            yield block


def sessions(body: str) -> Iterator[tuple[str, list[str]]]:
    """Commands of a console block, each with the output lines below it; a backslash continues a command."""
    command, expected = "", []
    for line in body.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            if command:
                yield command, expected
            command, expected = line[2:], []
        elif line.strip():
            expected.append(line.strip())
    if command:
        yield command, expected


def appears(expected: list[str], output: str) -> bool:
    """Whether the lines appear in the output in this order, `...` standing for anything."""
    lines = iter(line.strip() for line in output.splitlines())
    patterns = [re.sub(r"([\[\]?*])", r"[\1]", line).replace("...", "*") for line in expected if line != "..."]
    return all(any(fnmatch.fnmatchcase(line, pattern) for line in lines) for pattern in patterns)


def run_console(block: Block, styx: Styx, folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for command, expected in sessions(block.body):
        if command.split()[0] not in RUN:
            continue
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=folder,
            env=styx.environment() | {"PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # in the order in which a reader sees both
            text=True,
            timeout=240,
            check=False,
        )
        said = f"$ {command}\n{done.stdout}"
        assert done.returncode == int(block.options.get("exit", "0")), f"exit code {done.returncode}: {said}"
        assert appears(expected, done.stdout), f"expected in this order: {expected}\n{said}"


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(blocks(page))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_page_does_what_it_says(page: Path, styx: Styx, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page)):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        file = folder / block.options.get("file", f"block-{number}.{block.language}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.body)
        if block.language == "yaml":
            styx("validate", str(file))
        elif block.language == "console":
            run_console(block, styx, folder)
        elif block.language == "python" and "file" not in block.options:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("STYX_HOME", str(styx.home))
                patch.chdir(folder)
                exec(compile(block.body, where, "exec"), names)
    if styx.home.exists():
        styx("down", "--all", "--yes", code=None)
    styx.assert_nothing_left()


def test_blocks_are_found_and_sessions_split(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    fence = "`" * 3
    page.write_text(
        f"{fence}yaml file=a.yaml\nrun: x\n{fence}\n{fence}yaml no-run\nx\n{fence}\n{fence}sh\nls\n{fence}\n"
        f"1. one\n\n   {fence}console exit=3\n   $ styx exec a \\\n       'exit 3'\n   done ... s\n   $ ls\n"
        f"   {fence}\n"
    )
    task, session = blocks(page)
    assert (task.language, task.options, task.body) == ("yaml", {"file": "a.yaml"}, "run: x\n")
    assert session.options == {"exit": "3"}
    assert list(sessions(session.body)) == [("styx exec a     'exit 3'", ["done ... s"]), ("ls", [])]


def test_expected_lines_must_appear_in_order() -> None:
    output = "made [1/2] in 0.3 s\nhello\nbye\n"
    assert appears(["made [1/2] in ... s", "bye"], output)
    assert not appears(["bye", "hello"], output)
    assert not appears(["made"], output)
