"""The scalar types of the format, each with one plain sentence for when it is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from pydantic import BeforeValidator

from styx.models.base import Problem
from styx.models.suggest import did_you_mean, one_of
from styx.units import parse_amount, parse_duration_s, tidy_number

_INTEGER = re.compile(r"[+-]?\d+")


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        word = str(value).lower() if isinstance(value, bool) else str(value)
        raise Problem("must be text", suggestion=f'put it in quotes: "{word}"')
    raise Problem("must be text")


def _scalar_text(value: Any) -> Any:
    """Text from any scalar: labels and headers are text whatever YAML made of them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise Problem("must be text or a number, not a list or a mapping")


def _flag(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    suggestion = None
    if isinstance(value, str) and value.lower() in {"true", "yes", "on", "false", "no", "off"}:
        suggestion = "write true or false without quotes"
    raise Problem("must be true or false", suggestion=suggestion)


def whole(*, at_least: int | None = None, at_most: int | None = None, unit: str = "") -> Callable[[Any], int]:
    """A validator for a whole number (or its text) within bounds."""
    what = f"a whole number{f' of {unit}' if unit else ''}"

    def check(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Problem(f"must be {what}")
        if at_least is not None and at_most is not None and not at_least <= value <= at_most:
            raise Problem(f"must be {what} from {at_least} to {at_most}")
        if at_least is not None and value < at_least:
            raise Problem(f"must be {what}, {at_least} or more")
        return value

    return check


def amount(*, above: float | None = None, at_least: float | None = None, unit: str = "") -> Callable[[Any], float]:
    """A validator for a number (or its text) within bounds."""
    what = f"a number{f' of {unit}' if unit else ''}"

    def check(value: Any) -> float:
        number = parse_amount(value, what=what)
        if above is not None and number <= above:
            raise Problem(f"must be {what} above {tidy_number(above)}")
        if at_least is not None and number < at_least:
            raise Problem(f"must be {what}, {tidy_number(at_least)} or more")
        return tidy_number(number)

    return check


def duration_s(*, default_unit: str = "s") -> Callable[[Any], float]:
    """A validator for a duration, which becomes a number of seconds."""

    def check(value: Any) -> float:
        return tidy_number(parse_duration_s(value, default_unit=default_unit))

    return check


def choice(options: Iterable[str], *, fold: Callable[[str], str] = str.lower) -> Callable[[Any], str]:
    """A validator for one word of a few, with the nearest one suggested."""
    allowed = tuple(options)

    def check(value: Any) -> str:
        if isinstance(value, str) and fold(value) in allowed:
            return fold(value)
        near = did_you_mean(value, allowed) if isinstance(value, str) else None
        raise Problem(f"must be {one_of(allowed)}", suggestion=near)

    return check


def listed(value: Any) -> Any:
    """A list from a list, or from the single value that people write in place of a list of one."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return [value]


Text = Annotated[str, BeforeValidator(_text)]
ScalarText = Annotated[str, BeforeValidator(_scalar_text)]
Flag = Annotated[bool, BeforeValidator(_flag)]
