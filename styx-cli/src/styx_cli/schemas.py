"""JSON Schema of everything that `--json` prints."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from itertools import pairwise
from typing import Any, Final, NamedTuple


class Output(NamedTuple):
    """What one command prints with `--json`."""

    command: str
    """As typed, without `styx`."""
    says: str
    """One sentence."""
    type_name: str
    """Where the type is: `module:Name`."""
    shape: str
    """`list`, `one`, `lines`, or `plain` for a type of the standard library."""


OUTPUTS: Final = (
    Output("launch", "One object at the end, on success and on failure.", "styx_cli.jsonout:RunResult", "one"),
    Output("launch --dryrun", "The plan.", "styx.api:LaunchPlan", "one"),
    Output("exec", "One object at the end, on success and on failure.", "styx_cli.jsonout:RunResult", "one"),
    Output("status", "The clusters, newest first.", "styx.api:ClusterView", "list"),
    Output("queue", "The jobs.", "styx.api:JobView", "list"),
    Output("logs", "JSON Lines: one object per line of output.", "styx_cli.jsonout:LogText", "lines"),
    Output("logs --status", "The jobs.", "styx.api:JobView", "list"),
    Output("logs --sync-down", "The folder of each job, by job id.", "dict[str, str]", "plain"),
    Output("why", "The story.", "styx.api:Story", "one"),
    Output("cost-report", "What each cluster cost.", "styx.api:CostView", "list"),
    Output("cost-report --by", "What each user, job or cloud cost.", "styx.api:CostGroup", "list"),
    Output("optimize", "The plan; `details` only with --explain.", "styx.api:OptimizeResult", "one"),
    Output("gpus list", "Each accelerator, in each number, at each cloud.", "styx.api:AcceleratorView", "list"),
    Output("show-gpus", "The same as `gpus list`.", "styx.api:AcceleratorView", "list"),
    Output("catalog list", "Each layer of each cloud's rows.", "styx.api:CatalogInfo", "list"),
    Output("catalog info", "The same.", "styx.api:CatalogInfo", "list"),
    Output("catalog refresh", "What became of each cloud.", "styx.api:CatalogRefresh", "list"),
    Output("cancel", "Ids of the jobs that were cancelled.", "list[int]", "plain"),
    Output("stop", "Names of the clusters that were stopped.", "list[str]", "plain"),
    Output("start", "Names of the clusters that were started.", "list[str]", "plain"),
    Output("autostop", "Names of the clusters that were changed.", "list[str]", "plain"),
    Output("down", "Names of the clusters that were ended.", "list[str]", "plain"),
    Output("sweep", "What was found, and what could not be read.", "styx.api:SweepReport", "one"),
    Output("volumes apply", "The volume.", "styx.api:VolumeView", "one"),
    Output("volumes ls", "Each volume.", "styx.api:VolumeView", "list"),
    Output("volumes delete", "Names of the volumes that were deleted.", "list[str]", "plain"),
    Output("check", "Each cloud that was asked.", "styx.api:CheckView", "list"),
    Output("validate", "Each file.", "styx_cli.jsonout:ValidatedFile", "list"),
    Output("config show", "Each setting.", "styx_cli.jsonout:ConfigValue", "list"),
    Output("plugins list", "Each plugin.", "styx.plugins:PluginInfo", "list"),
    Output("version", "The versions.", "styx_cli.jsonout:VersionInfo", "one"),
)
"""Every command that prints JSON. A failure prints `styx_cli.jsonout.ErrorReport` on stderr instead."""

_PLAIN: Final[dict[str, Any]] = {"dict[str, str]": dict[str, str], "list[int]": list[int], "list[str]": list[str]}


def output_schema(output: Output) -> dict[str, Any]:
    """The JSON Schema of what a command prints (for `lines`, of each line)."""
    return {"title": f"styx {output.command}", "description": output.says, **_schema(output_type(output))}


def output_type(output: Output) -> Any:
    """The Python type of what a command prints (for `lines`, of each line)."""
    if output.shape == "plain":
        return _PLAIN[output.type_name]
    from importlib import import_module

    module, _, name = output.type_name.partition(":")
    item: Any = getattr(import_module(module), name)
    return types.GenericAlias(list, (item,)) if output.shape == "list" else item


def error_schema() -> dict[str, Any]:
    """The JSON Schema of a failure on stderr."""
    from styx_cli.jsonout import ErrorReport

    return _schema(ErrorReport)


def all_schemas() -> dict[str, dict[str, Any]]:
    """Every schema by command, and `error` for failures."""
    return {**{output.command: output_schema(output) for output in OUTPUTS}, "error": error_schema()}


def _schema(kind: Any) -> dict[str, Any]:
    """JSON Schema with the text below each field as its description.

    pydantic can do that itself, but at the price of reading the source of every model at every start of `styx`.
    """
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Described(GenerateJsonSchema):
        """Adds the descriptions."""

        def model_schema(self, schema: Any) -> Any:
            """One model."""
            made = super().model_schema(schema)
            for name, text in _field_texts(schema["cls"]).items():
                made.get("properties", {}).get(name, {}).setdefault("description", text)
            return made

    made: dict[str, Any] = TypeAdapter(kind).json_schema(mode="serialization", schema_generator=Described)
    return made


def _field_texts(model: type[Any]) -> dict[str, str]:
    """The text below each field, in the model's source."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(statements)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
