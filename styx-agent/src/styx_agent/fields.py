"""Reads the params of a request: the right type in the right range, or an answer that names the field."""

from __future__ import annotations

import math

from styx_agent.faults import Fault
from styx_agent.lean import TYPE_CHECKING
from styx_agent.protocol import BAD_REQUEST

if TYPE_CHECKING:
    from typing import Any

_LARGEST = 1e15
_ABSENT = object()


def bad(message: str) -> Fault:
    """The fault for params that cannot be served."""
    return Fault(BAD_REQUEST, message)


class Fields:
    """The params of one request. A default makes a field optional; null counts as absent."""

    def __init__(self, params: dict[str, Any], method: str) -> None:
        self._params = params
        self._method = method

    def _get(self, name: str, default: Any) -> Any:
        value = self._params.get(name)
        if value is None:
            if default is _ABSENT:
                raise bad("%s needs the field %r" % (self._method, name))
            return default
        return value

    def _wrong(self, name: str, value: object, wanted: str) -> Fault:
        return bad("%s: the field %r must be %s, not %.80r" % (self._method, name, wanted, value))

    def text(self, name: str, default: Any = _ABSENT) -> Any:
        """A string that can be written to a file or an environment."""
        value = self._get(name, default)
        if value is not default and not is_plain_text(value):
            raise self._wrong(name, value, "a string without NUL")
        return value

    def number(self, name: str, default: Any = _ABSENT, *, least: float = 0.0) -> Any:
        """A finite number, at least `least`."""
        value = self._get(name, default)
        if value is not default and (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not (math.isfinite(value) and least <= value <= _LARGEST)
        ):
            raise self._wrong(name, value, "a number from %g" % least)
        return value

    def whole(self, name: str, default: Any = _ABSENT, *, least: float = 0) -> Any:
        """An integer, at least `least`."""
        value = self.number(name, default, least=least)
        if value is not default and not isinstance(value, int):
            raise self._wrong(name, value, "a whole number")
        return value

    def flag(self, name: str, default: Any = _ABSENT) -> Any:
        """A boolean."""
        value = self._get(name, default)
        if value is not default and not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def texts(self, name: str, default: Any = _ABSENT) -> Any:
        """A list of strings."""
        value = self._get(name, default)
        if value is not default and not (isinstance(value, list) and all(map(is_plain_text, value))):
            raise self._wrong(name, value, "a list of strings")
        return value

    def wholes(self, name: str, default: Any = _ABSENT) -> Any:
        """A list of integers."""
        value = self._get(name, default)
        if value is not default and not (isinstance(value, list) and all(type(item) is int for item in value)):
            raise self._wrong(name, value, "a list of whole numbers")
        return value

    def mapping(self, name: str, default: Any = _ABSENT) -> Any:
        """An object of strings. Values are never repeated in the message: they may be secrets."""
        value = self._get(name, default)
        if value is default:
            return value
        if not isinstance(value, dict):
            raise self._wrong(name, type(value).__name__, "an object of strings")
        for key, item in value.items():
            if not is_plain_text(key) or not key or "=" in key:
                raise bad("%s: %.80r in %r is not the name of a variable" % (self._method, key, name))
            if not is_plain_text(item):
                raise bad("%s: the value of %r in %r must be a string without NUL" % (self._method, key, name))
        return value

    def mapping_of(self, name: str) -> dict[str, Any]:
        """An object of anything; empty when absent."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name, value, "an object")
        return value

    def one_of(self, name: str, allowed: tuple[str, ...], default: Any = _ABSENT) -> Any:
        """One of a few words."""
        value = self._get(name, default)
        if value is not default and value not in allowed:
            raise self._wrong(name, value, "one of %s" % ", ".join(allowed))
        return value


def is_plain_text(value: object) -> bool:
    """Whether a value is text that the operating system takes (JSON can spell halves of characters, and NUL)."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
