"""The page of JSON output: for each verb, the shape of what `--json` prints, and its JSON Schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel
from styx.api import CheckView, ClusterView, CostView, JobView, LaunchPlan, Story, SweepReport
from styx_cli import jsonout

from tools.reference import models

INTRODUCTION: Final = """# JSON output

With `--json` stdout holds the data below and nothing else; progress, warnings and questions go to stderr. Listing verbs
print one array. When a command fails, the last line of stderr is an [ErrorReport](#errorreport). Fields are only ever
added; a reader should ignore those it does not know. Unknown money is `null`, never 0.

The schemas are [JSON Schema](schemas) files, one for each shape.
"""


@dataclass(frozen=True)
class Output:
    """What one verb prints with `--json`."""

    verb: str
    model: type[BaseModel]
    shape: str


ARRAY: Final = "array of "
OUTPUTS: Final = (
    Output("launch, exec", jsonout.RunResult, ""),
    Output("launch --dryrun", LaunchPlan, ""),
    Output("status", ClusterView, ARRAY),
    Output("queue", JobView, ARRAY),
    Output("logs", jsonout.LogText, "one line for each "),
    Output("why", Story, ARRAY),
    Output("cost-report", CostView, ARRAY),
    Output("sweep", SweepReport, ""),
    Output("check", CheckView, ARRAY),
    Output("validate", jsonout.ValidatedFile, ARRAY),
    Output("plugins list", jsonout.PluginInfo, ARRAY),
    Output("config show", jsonout.ConfigValue, ARRAY),
    Output("version", jsonout.VersionInfo, ""),
    Output("any, on failure", jsonout.ErrorReport, ""),
)


def page() -> str:
    """The whole page."""
    rows = "".join(
        f"| `{output.verb}` | {output.shape}[{output.model.__name__}](#{output.model.__name__.lower()}) |\n"
        for output in OUTPUTS
    )
    tables = models.sections([output.model for output in OUTPUTS], output=True)
    return f"{INTRODUCTION}\n| verb | prints |\n|---|---|\n{rows}\n{tables}"


def schemas() -> dict[str, str]:
    """JSON Schema of every shape, by file name."""
    return {
        f"{output.model.__name__}.json": json.dumps(output.model.model_json_schema(mode="serialization"), indent=2)
        + "\n"
        for output in OUTPUTS
    }
