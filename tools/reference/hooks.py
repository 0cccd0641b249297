"""The page of hooks, from the two files that declare them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SPECS: Final = (
    ROOT / "styx-core" / "src" / "styx" / "hookspecs.py",
    ROOT / "styx-cli" / "src" / "styx_cli" / "hookspecs.py",
)
RULER: Final = re.compile(r"# -{10,} (?P<title>[\w ]+)$")
INTRODUCTION: Final = """# Hooks

A plugin answers a hook with a function or method of the same name, marked with `styx.plugin.hookimpl`. It may leave out
arguments that it does not need; one that the hook does not have is refused when the plugin is loaded. `context` is
always last. Hook plugins are found through the entry-point group `styx`; loaded driver classes answer the same hooks.
"""


@dataclass(frozen=True)
class Hook:
    """One declared hook."""

    name: str
    arguments: str
    returns: str
    first_result: bool
    text: str
    group: str


def declared(path: Path) -> Iterator[Hook]:
    """Hooks of one file, in its order, with the ruler above them as their group."""
    source = path.read_text()
    rulers = {
        number: match["title"].capitalize()
        for number, line in enumerate(source.splitlines(), start=1)
        if (match := RULER.match(line))
    }
    for node in ast.parse(source).body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("styx_"):
            continue
        above = [title for number, title in rulers.items() if number < node.lineno]
        decorator = ast.unparse(node.decorator_list[0])
        yield Hook(
            name=node.name,
            arguments=ast.unparse(node.args),
            returns=ast.unparse(node.returns) if node.returns else "None",
            first_result="firstresult=True" in decorator,
            text=cleandoc(ast.get_docstring(node) or ""),
            group=above[-1] if above else "Command line",
        )


def all_hooks() -> list[Hook]:
    """Every hook of Styx."""
    return [hook for path in SPECS if path.exists() for hook in declared(path)]


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    group = None
    for hook in all_hooks():
        if hook.group != group:
            group = hook.group
            parts.append(f"## {group}\n")
        parts.append(entry(hook))
    return "\n".join(parts)


def entry(hook: Hook) -> str:
    """One hook: its exact arguments, who wins, what it is for."""
    if hook.returns == "None":
        asked = "All implementations are called."
    elif hook.first_result:
        asked = "The first answer that is not None counts."
    else:
        asked = "All answers count."
    signature = f"{hook.name}({hook.arguments}) -> {hook.returns}"
    return f"### `{hook.name}`\n\n```text\n{signature}\n```\n\n{asked}\n\n{hook.text}\n"
