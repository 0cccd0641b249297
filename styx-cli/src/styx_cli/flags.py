"""Groups of flags: a parameter whose annotation is a frozen dataclass stands for one flag per field.

Typer reads a command's flags from its signature. `expands` rewrites that signature, so that commands share flags
without repeating them, and receive them as one value.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

Result = TypeVar("Result")


def expands(function: Callable[..., Result]) -> Callable[..., Result]:
    """Replace each parameter annotated with a dataclass by that class's fields, in place."""
    shown: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if dataclasses.is_dataclass(parameter.annotation):
            groups[parameter.name] = parameter.annotation  # type: ignore[assignment]
            shown += _fields(parameter.annotation)  # type: ignore[arg-type]
        else:
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    def call(**given: Any) -> Result:
        values = {
            name: group(**{each.name: given.pop(each.name) for each in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        return function(**given, **values)

    call.__name__ = function.__name__
    call.__doc__ = function.__doc__
    call.__module__ = function.__module__
    call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return call


def _fields(group: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    parameters = []
    for each in dataclasses.fields(group):
        if get_origin(hints[each.name]) is not Annotated or len(get_args(hints[each.name])) != 2:
            raise TypeError(f"{group.__name__}.{each.name} must be Annotated with one Typer option")
        default = inspect.Parameter.empty if each.default is dataclasses.MISSING else each.default
        parameters.append(
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[each.name])
        )
    return parameters
