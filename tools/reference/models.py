"""Tables of the fields of pydantic models, from their annotations and the docstrings below the fields."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import PydanticUndefined

from styx.models.base import Compact

PLAIN: Final[dict[Any, str]] = {
    Any: "anything",
    Path: "path",
    SecretBytes: "bytes",
    SecretStr: "text",
    bool: "true or false",
    bytes: "bytes",
    datetime: "time",
    dict: "mapping",
    float: "number",
    int: "whole number",
    str: "text",
    type(None): "old name",
}
INTERNAL: Final = "Internal"


def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field, looked up through the model's bases."""
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if not (issubclass(base, BaseModel) and base is not BaseModel):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, below in itertools.pairwise(definition.body):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                texts[statement.target.id] = " ".join(str(below.value.value).split())
    return texts


def kind(annotation: Any, linked: Mapping[type, str]) -> str:
    """An annotation in plain words; models become links."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return kind(arguments[0], linked)
    if origin in (Union, types.UnionType):
        kinds = dict.fromkeys(kind(argument, linked) for argument in arguments if argument is not type(None))
        return " or ".join(kinds)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return f"mapping to {kind(arguments[1], linked)}" if arguments else "mapping"
    if inspect.isclass(origin) and issubclass(origin, Sequence | set | frozenset):
        items = dict.fromkeys(kind(argument, linked) for argument in arguments if argument is not Ellipsis)
        return f"list of {', '.join(items)}"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    if inspect.isclass(annotation) and issubclass(annotation, Compact):
        return "text"
    if annotation in linked:
        return f"[{annotation.__name__}](#{linked[annotation]})"
    return PLAIN.get(annotation) or getattr(annotation, "__name__", str(annotation)).lower()


def default(field: Any) -> str:
    """A field's default, as written in YAML."""
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel) or value in ({}, (), [], ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value.value if isinstance(value, Enum) else value}`"


def nested(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models that an annotation mentions, at any depth, but for those written as one short text."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel) and not issubclass(annotation, Compact):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from nested(argument)


def reachable(roots: Sequence[type[BaseModel]]) -> list[type[BaseModel]]:
    """The roots and all models below them, each once, in reading order."""
    found: list[type[BaseModel]] = []
    waiting = list(roots)
    while waiting:
        model = waiting.pop(0)
        if model not in found:
            found.append(model)
            waiting[:0] = [below for field in model.model_fields.values() for below in nested(field.annotation)]
    return found


def summary(model: type[BaseModel]) -> str:
    """The model's docstring, one line per paragraph."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(model.__doc__ or "").split("\n\n"))


def sections(roots: Sequence[type[BaseModel]], *, output: bool = False) -> str:
    """One section with a table per model; of `output` a reader wants to know what may be null, not the defaults."""
    models = reachable(roots)
    linked: dict[type, str] = {model: model.__name__.lower() for model in models}
    return "\n".join(section(model, linked, output=output) for model in models)


def section(model: type[BaseModel], linked: Mapping[type, str], *, output: bool) -> str:
    """One model: what it is, and its fields."""
    texts = field_texts(model)
    lines = [f"## {model.__name__}\n", f"{summary(model)}\n"]
    rows = []
    for name, field in model.model_fields.items():
        text = texts.get(name) or field.description or ""
        if text.startswith(INTERNAL):
            continue
        what = kind(field.annotation, linked)
        if output:
            null = " or null" if type(None) in typing.get_args(field.annotation) else ""
            columns = [f"`{name}`", what + null, text]
        else:
            columns = [f"`{field.alias or name}`", what, default(field), text]
        rows.append(f"| {' | '.join(column.replace('|', chr(92) + '|') for column in columns)} |")
    if rows:
        header = ["field", "type", "meaning"] if output else ["field", "type", "default", "meaning"]
        lines += [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *rows]
    return "\n".join(lines).rstrip() + "\n"
