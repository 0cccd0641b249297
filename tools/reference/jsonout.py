"""The page of JSON output, from the list of outputs that the command line itself keeps."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic import BaseModel

from styx_cli.jsonout import ErrorReport
from styx_cli.schemas import OUTPUTS, all_schemas, output_type
from tools.reference import models

INTRODUCTION: Final = """# JSON output

With `--json` stdout holds the data below and nothing else; progress, warnings and questions go to stderr. When such a
command fails, the last line of stderr is an [ErrorReport](#errorreport). Fields are only ever added: a reader ignores
those that it does not know. Unknown money is null, never 0.

The same as JSON Schema, by command, is in [json-schemas.json](json-schemas.json).
"""


def page() -> str:
    """The whole page."""
    shapes: dict[type[BaseModel], None] = {}
    rows = []
    for output in OUTPUTS:
        kind = output_type(output)
        shapes.update(dict.fromkeys(models.nested(kind)))
        prints = f"lines, each a {words(kind)}" if output.shape == "lines" else words(kind)
        rows.append(f"| `styx {output.command}` | {prints} | {output.says} |\n")
    shapes[ErrorReport] = None
    tables = models.sections(list(shapes), output=True)
    return f"{INTRODUCTION}\n| command | prints | what |\n|---|---|---|\n{''.join(rows)}\n{tables}"


def words(kind: Any) -> str:
    """What a command prints, in words, with links to the models below."""
    return models.kind(kind, {model: model.__name__.lower() for model in models.nested(kind)})


def schemas() -> str:
    """JSON Schema of all outputs, by command."""
    return json.dumps(all_schemas(), indent=2) + "\n"
