"""Every hook is documented with its exact arguments, and has a test of its own."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

import styx.hookspecs
import styx_cli.hookspecs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "hooks.md"
TESTS = [path for pattern in ("styx-*/tests/**/*.py", "tests/**/*.py") for path in ROOT.glob(pattern)]


def hooks(*modules: ModuleType) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(function)
        for module in modules
        for name, function in vars(module).items()
        if hasattr(function, "styx_spec")
    }


HOOKS = hooks(styx.hookspecs, styx_cli.hookspecs)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_documented_with_its_exact_arguments(name: str) -> None:
    documented = dict(re.findall(r"^(styx_\w+)\((.*)\) -> .+$", PAGE.read_text(), re.MULTILINE))
    arguments = ", ".join(f"{parameter.name}: {parameter.annotation}" for parameter in HOOKS[name].parameters.values())
    assert documented[name] == arguments


def test_nothing_else_is_documented() -> None:
    assert set(re.findall(r"^### `(\w+)`$", PAGE.read_text(), re.MULTILINE)) == set(HOOKS)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_context_comes_last_and_the_text_says_something(name: str) -> None:
    module = styx.hookspecs if hasattr(styx.hookspecs, name) else styx_cli.hookspecs
    assert len(getattr(module, name).__doc__.strip()) > 40
    if module is styx.hookspecs:
        assert list(HOOKS[name].parameters)[-1] == "context"


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_has_a_test(name: str) -> None:
    """A test called after the hook, or one that implements it."""
    assert any(re.search(rf"def (test_hook_)?{name}\(", path.read_text()) for path in TESTS), f"no test of {name}"
