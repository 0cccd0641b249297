"""The page of errors and exit codes, from `styx.errors`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

from styx import errors

INTRODUCTION: Final = """# Errors and exit codes

`launch`, `exec` and `logs` exit with the job's own code, passed through as it is (128 + n when signal n ended it).
Styx's own failures exit with the codes below; with `--json` the output says which of the two it was.
0 means that everything asked for was done, 1 that a check the command was asked for failed (`validate`, `check`).
"""


def tree(base: type[errors.StyxError], depth: int = 0) -> Iterator[tuple[int, type[errors.StyxError]]]:
    """Every error class with its depth, subclasses in the order of the module."""
    yield depth, base
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from tree(child, depth + 1)


def meaning(error: type[errors.StyxError]) -> str:
    """The first paragraph of the class's docstring, on one line."""
    return " ".join(inspect.cleandoc(error.__doc__ or "").split("\n\n")[0].split()).replace("|", "\\|")


def page() -> str:
    """The whole page."""
    lines = [INTRODUCTION, "## Styx's own\n", "| exit code | error | meaning |", "|---|---|---|"]
    classes = [error for _, error in tree(errors.StyxError)]
    own = [error for error in classes if not issubclass(error, errors.CloudError) and error is not errors.StyxError]
    own.sort(key=lambda error: error.exit_code)
    lines += [f"| {error.exit_code} | `{error.__name__}` | {meaning(error)} |" for error in own]
    lines += [
        "\n## Raised by drivers\n",
        "Each class is an instruction to the engine. The scope is how much is blocked when the error names none.\n",
        "| error | exit code | scope | meaning |",
        "|---|---|---|---|",
    ]
    drivers = [error for error in classes if issubclass(error, errors.CloudError)]
    lines += [
        f"| `{error.__name__}` | {error.exit_code} | {error.default_scope} | {meaning(error)} |" for error in drivers
    ]
    return "\n".join(lines) + "\n"
