"""Which package may import what of ours, for every package that exists: a new plugin is checked by existing."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGIN_DOORS = ("styx.plugin", "styx.rest", "styx.objectstore", "styx.testing")
PUBLIC_DOORS = ("styx.api", "styx.models", "styx.errors", "styx.plugins")
DOORS = {
    "styx_agent": (),
    "styx": ("styx_agent.protocol",),
    "styx_cli": (*PUBLIC_DOORS, "styx.config"),
    "styx_tui": PUBLIC_DOORS,
    "styx_jobs": ("styx",),
    "styx_serve": ("styx",),
}
# Core's files that run on nodes, from the agent's zipapp: they may use the agent and nothing of core.
NODE_CODE = {ROOT / "styx-core" / "src" / "styx" / "backends" / "ray" / "onnode": ("styx_agent",)}
PACKAGES = sorted(
    path.parent
    for pattern in ("styx-*/src/*/__init__.py", "plugins/*/src/*/__init__.py")
    for path in ROOT.glob(pattern)
)


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports; `from a import b` counts as `a.b`, as b may be a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:  # relative: stays inside its own folder
                continue
            base = node.module or ""
            yield from (f"{base}.{alias.name}" for alias in node.names)


def ours(name: str) -> bool:
    """Whether a module is one of ours."""
    return re.match(r"styx(_\w+)?(\.|$)", name) is not None


def through(name: str, doors: tuple[str, ...]) -> bool:
    """Whether `name` is one of `doors` or lies behind one."""
    return any(name == door or name.startswith(f"{door}.") for door in doors)


def doors_of(path: Path, package: Path) -> tuple[str, ...]:
    """What a file of a package may import of ours."""
    for folder, doors in NODE_CODE.items():
        if folder in path.parents:
            return doors
    return (package.name, *DOORS.get(package.name, PLUGIN_DOORS))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_package_imports_only_through_its_doors(package: Path) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(package.rglob("*.py"))
        for name in imports(path)
        if ours(name) and not through(name, doors_of(path, package))
    ]
    assert not wrong


def test_agent_needs_the_standard_library_only() -> None:
    package = ROOT / "styx-agent" / "src" / "styx_agent"
    allowed = sys.stdlib_module_names | {"styx_agent"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(package.rglob("*.py"))
        for name in imports(path)
        if name.split(".")[0] not in allowed
    ]
    assert not wrong
