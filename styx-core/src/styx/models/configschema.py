"""A small language for checking free-form settings, for keys that have no model of their own.

A schema is one of:

* a mapping from key to schema; the key `*` stands for any further key;
* the name of a kind: `text`, `flag`, `whole`, `number`, `duration`, `size`, `texts` (one or a list), `labels`
  (a map to scalars), `any`;
* a tuple of words, one of which the value must be;
* `Items(schema)`, a list; `Either(a, b)`, the first that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from styx.models.base import Problem
from styx.models.suggest import did_you_mean, one_of
from styx.units import parse_amount, parse_duration_s, parse_size_gib


@dataclass(frozen=True)
class Items:
    """A list whose items follow one schema."""

    of: Schema


@dataclass(frozen=True)
class Either:
    """A value that follows one schema or another."""

    first: Schema
    second: Schema


Schema = str | tuple[str, ...] | Mapping[str, "Schema"] | Items | Either
Path = tuple[str | int, ...]


def check(schema: Schema, value: Any, at: Path = ()) -> Iterator[Problem]:
    """Everything in `value` that the schema does not allow. Null is always allowed: it means "not set"."""
    if value is None:
        return
    if isinstance(schema, Mapping):
        yield from _check_table(schema, value, at)
    elif isinstance(schema, Items):
        if not isinstance(value, (list, tuple)):
            yield Problem("must be a list", at=at)
            return
        for index, item in enumerate(value):
            yield from check(schema.of, item, (*at, index))
    elif isinstance(schema, Either):
        problems = list(check(schema.first, value, at))
        if problems and any(check(schema.second, value, at)):
            yield from problems
    elif isinstance(schema, tuple):
        if value not in schema:
            near = did_you_mean(value, schema) if isinstance(value, str) else None
            yield Problem(f"must be {one_of(schema)}", suggestion=near, at=at)
    else:
        yield from _check_kind(schema, value, at)


def find(schema: Schema, path: Path) -> Schema | None:
    """The schema at a path of keys, or None where the path leaves the schema."""
    for key in path:
        if isinstance(schema, Either):
            schema = schema.first if isinstance(schema.first, (Mapping, Items)) else schema.second
        if isinstance(schema, Mapping):
            found = schema.get(str(key), schema.get("*"))
            if found is None:
                return None
            schema = found
        elif isinstance(schema, Items):
            schema = schema.of
        elif schema != "any":
            return None
    return schema


def _check_table(schema: Mapping[str, Schema], value: Any, at: Path) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem("must be a mapping", at=at)
        return
    for key, item in value.items():
        inner = schema.get(str(key), schema.get("*"))
        if inner is None:
            known = [name for name in schema if name != "*"]
            suggestion = did_you_mean(str(key), known) or _known_keys(known)
            yield Problem("is not a known key", suggestion=suggestion, at=(*at, key))
        else:
            yield from check(inner, item, (*at, key))


def _known_keys(known: list[str]) -> str | None:
    return f"known keys: {', '.join(sorted(known))}" if 0 < len(known) <= 8 else None


def _check_kind(kind: str, value: Any, at: Path) -> Iterator[Problem]:
    wanted, accepts = _KINDS[kind]
    try:
        ok = accepts(value)
    except ValueError as error:
        yield Problem(str(error), at=at)
        return
    if not ok:
        yield Problem(f"must be {wanted}", at=at)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, bool, int, float))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: Final[Mapping[str, tuple[str, Callable[[Any], bool]]]] = {
    "any": ("anything", lambda _: True),
    "text": ("text", lambda value: isinstance(value, str)),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
    "whole": ("a whole number", _is_whole),
    "number": ("a number", lambda value: parse_amount(value) is not None),
    "duration": ("a duration", lambda value: parse_duration_s(value) is not None),
    "size": ("a size", lambda value: parse_size_gib(value) is not None),
    "texts": (
        "text or a list of text",
        lambda value: (
            isinstance(value, str)
            or (isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value))
        ),
    ),
    "labels": (
        "a map from names to text",
        lambda value: isinstance(value, Mapping) and all(map(_is_scalar, value.values())),
    ),
}
