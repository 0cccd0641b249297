"""From what pydantic reports to faults that name file, line, field, value and the fix."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Protocol, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from styx.errors import Fault, InvalidInput
from styx.models.base import Model, Nested, Problem, Problems
from styx.models.configkeys import is_secret_key
from styx.models.suggest import did_you_mean
from styx.models.yamlnodes import Location, Spot, dotted, shorten

M = TypeVar("M", bound=Model)

_WORDS: Final[Mapping[str, str]] = {
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "recursion_loop": "contains itself",
}


class Source(Protocol):
    """Whatever knows where fields stand."""

    file: str | None

    def spot(self, loc: Location) -> Spot:
        """Where a field stands."""
        ...

    def missing(self, loc: Location) -> Spot:
        """Where a field that is not there should stand."""
        ...


def faults_of(error: ValidationError, model: type[Model], source: Source) -> list[Fault]:
    """One fault for each mistake, in the order of the fields."""
    told: dict[tuple[int | None, str | None], Fault] = {}
    for loc, problem, kind in _flatten(error, ()):
        spot = source.missing(loc) if kind == "missing" else source.spot((*loc, *problem.at))
        suggestion = problem.suggestion
        shown = problem.shown if problem.shown is not None else spot.value
        if kind == "extra_forbidden":
            suggestion, shown = _unknown_key(model, loc), shorten(str(loc[-1]))
        elif _is_hidden((*loc, *problem.at)):
            shown = None
        fault = Fault(
            problem.message, file=source.file, line=spot.line, field=spot.field, value=shown, suggestion=suggestion
        )
        told.setdefault((spot.line, spot.field), fault)
    return list(told.values())


def _flatten(error: ValidationError, prefix: Location) -> Iterator[tuple[Location, Problem, str]]:
    for entry in error.errors(include_url=False, include_input=False):
        loc = (*prefix, *entry["loc"])
        raised = entry.get("ctx", {}).get("error")
        if isinstance(raised, Problems):
            for problem in raised.problems:
                yield from _flatten_problem(problem, loc)
        elif isinstance(raised, Problem):
            yield from _flatten_problem(raised, loc)
        elif isinstance(raised, ValueError):
            yield loc, Problem(str(raised)), "value_error"
        elif entry["type"] == "literal_error":
            yield loc, Problem(f"must be {entry['ctx']['expected']}"), "literal_error"
        else:
            message = _WORDS.get(entry["type"], entry["msg"][:1].lower() + entry["msg"][1:])
            yield loc, Problem(message), entry["type"]


def _flatten_problem(problem: Problem, loc: Location) -> Iterator[tuple[Location, Problem, str]]:
    if isinstance(problem, Nested):
        yield from _flatten(problem.error, (*loc, *problem.at))
    else:
        yield loc, problem, "value_error"


def _is_hidden(loc: Location) -> bool:
    return any(part == "secrets" or is_secret_key(part) for part in loc if isinstance(part, str))


def _unknown_key(root: type[Model], loc: Location) -> str | None:
    """What was probably meant: another spelling, or the same key one level up or down."""
    from styx.models.resources import Resources
    from styx.models.task import Task

    key, owner = str(loc[-1]), model_at(root, loc[:-1])
    if owner is None:
        return None
    if key.lower() in owner.renamed_keys:
        return f'write "{owner.renamed_keys[key.lower()]}"'
    known = sorted(name for name in owner.known_keys() if not name.startswith("_"))
    if owner is Task and key in Resources.known_keys():
        return f'put it under "resources": resources.{key}'
    if owner is Resources and key in Task.known_keys():
        return "it belongs at the top level of the task, not under resources"
    near = did_you_mean(key, known)
    if near is None and len(known) <= 12:
        return f"known keys: {', '.join(known)}"
    return near


def model_at(root: type[Model], loc: Location) -> type[Model] | None:
    """The model whose keys stand at `loc`, found by following the annotations."""
    current: Any = root
    for part in loc:
        step = _step(current, part)
        if step is not None:
            current = step
    return next(iter(_models_in(current)), None)


def _step(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
        return None
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _step(args[0], part)
    if origin in (dict, Mapping):
        return args[1]
    if origin in (tuple, list):
        return args[0] if isinstance(part, int) else None
    if origin in (Union, types.UnionType):
        return next((step for step in (_step(arg, part) for arg in args) if step is not None), None)
    return None


def _models_in(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type):
        if issubclass(annotation, Model):
            yield annotation
        return
    for arg in get_args(annotation):
        yield from _models_in(arg)


class PlainSource:
    """Data without a file (a JSON body, a Python call): faults have fields but no lines."""

    file: str | None = None

    def __init__(self, data: Any) -> None:
        self._data = data

    def spot(self, loc: Location) -> Spot:
        """The field and value at `loc`."""
        current, walked = self._data, list[str | int]()
        for part in loc:
            try:
                current = current[part]
            except (KeyError, IndexError, TypeError):
                continue
            walked.append(part)
        shown = current if isinstance(current, (str, int, float)) else type(current).__name__
        return Spot(None, dotted(walked) or None, shorten(str(shown)) if walked else None)

    def missing(self, loc: Location) -> Spot:
        """The field that is not there."""
        above = self.spot(loc[:-1]).field  # without parts of the location that the data does not have
        return Spot(None, f"{above}.{loc[-1]}" if above else dotted(loc[-1:]), None)


def validate_plain(model: type[M], data: Any) -> M:
    """A model from plain data.

    Raises:
        InvalidInput: With every fault, by field.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(faults_of(error, model, PlainSource(data))) from None


__all__ = ["PlainSource", "faults_of", "model_at", "validate_plain"]
