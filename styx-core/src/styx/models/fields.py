"""The fields of the format, listed from the models: for the reference pages and for the tests that close the world."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from styx.models.accelerators import Accelerators
from styx.models.base import Compact, Model
from styx.models.resources import Resources
from styx.models.task import Task


class Field(NamedTuple):
    """One field of the format."""

    path: str
    """Dotted name from the root; `*` stands for any key."""
    model: type[Model]
    """The model that has it."""
    name: str
    """Its attribute there."""


def format_fields(root: type[Model] = Task, prefix: str = "") -> Iterator[Field]:
    """Every field from `root` down. Alternatives of resources are resources, so they are not listed again."""
    for name, info in root.model_fields.items():
        path = f"{prefix}{info.alias or name}"
        yield Field(path, root, name)
        for model, below in _models(info.annotation, path):
            if not issubclass(model, (Compact, Accelerators)) and not (model is Resources and root is Resources):
                yield from format_fields(model, f"{below}.")


def _models(annotation: Any, path: str) -> Iterator[tuple[type[Model], str]]:
    if isinstance(annotation, type):
        if issubclass(annotation, Model):
            yield annotation, path
        return
    args = get_args(annotation)
    if get_origin(annotation) is Annotated:
        args = args[:1]
    elif get_origin(annotation) is dict:
        path, args = f"{path}.*", args[1:]
    for inner in args:
        yield from _models(inner, path)


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field of any model, by attribute; fields without one are left out.

    Read from the source when asked, because having pydantic do it would cost every command's start-up.
    """
    docs: dict[str, str] = {}
    for owner in reversed(model.__mro__):
        if not issubclass(owner, BaseModel) or owner in (BaseModel, Model):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(definition, ast.ClassDef)
        for statement, after in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = _text_of(after)
                if text:
                    docs[statement.target.id] = text
    return docs


def _text_of(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        value = statement.value.value
        return inspect.cleandoc(value) if isinstance(value, str) else None
    return None
