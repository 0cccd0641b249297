"""Stand-ins for parts of the standard library whose import costs more than all the rest of an agent's start.

On a host of its own that is a few hundredths of a second; fifty agents that start on one machine wait for each other.
Each stand-in does what its original does as far as this package needs it, and gives way to the original on a Python
that lacks what it is made of.
"""

from __future__ import annotations

from collections import namedtuple

__all__ = (
    "TYPE_CHECKING",
    "NamedTuple",
    "TypedDict",
    "accept",
    "dumps",
    "libc",
    "loads",
    "sha256",
    "signal",
    "socket",
)
TYPE_CHECKING = False
"""What `typing` calls so: true for type checkers, which know it by its name."""
_SPACE = " \t\n\r"
_SAMPLE = {"a": [1, 2.5, None, True, '\u00fc"\n'], "b": {}}

if TYPE_CHECKING:
    import signal as signal
    import socket as socket
    from typing import Any, Callable
    from typing import NamedTuple as NamedTuple
    from typing import TypedDict as TypedDict
else:
    try:
        import _signal as signal
        import _socket as socket
    except ImportError:
        import signal
        import socket

    class _Named(type):
        """Makes what `typing.NamedTuple` makes, without looking into the annotations."""

        def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, space)
            if "__annotations__" not in space:  # no fields, or a Python that keeps them elsewhere
                import types
                import typing

                return types.new_class(name, (typing.NamedTuple,), exec_body=lambda own: own.update(space))
            fields = space["__annotations__"]
            defaults = [space.pop(field) for field in fields if field in space]
            made = namedtuple(name, fields, defaults=defaults, module=space["__module__"])
            for key, value in space.items():
                if key not in ("__module__", "__qualname__"):
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Named):
        """See `typing.NamedTuple`."""

    class TypedDict(dict):
        """See `typing.TypedDict`."""

        def __init_subclass__(cls, total: bool = True) -> None:
            """Takes the same keyword."""


def accept(listener: socket.socket) -> socket.socket:
    """The next connection; the bare module's sockets lack the method."""
    if hasattr(listener, "accept"):
        return listener.accept()[0]
    return socket.socket(fileno=listener._accept()[0])  # type: ignore[attr-defined]


class _Rules:
    """What the scanner asks a `json.JSONDecoder` for."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


def _refuse(value: object) -> None:
    raise TypeError("an object of type %s is no JSON" % type(value).__name__)


def _codec() -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    """`dumps` and `loads`. The package `json` compiles regular expressions when it is imported; its inner parts do not.

    Raises:
        Exception: This Python's inner parts are others.
    """
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    scan = make_scanner(_Rules)  # type: ignore[arg-type]

    def dumps(value: Any) -> str:
        return "".join(encode(value, 0))

    def loads(text: str) -> Any:
        try:
            value, end = scan(text, len(text) - len(text.lstrip(_SPACE)))
            if not text[end:].strip(_SPACE):
                return value
        except (StopIteration, SystemError, ValueError):  # SystemError: it looks for the error's class in `json`
            pass
        import json

        return json.loads(text)  # says what is wrong

    if loads(dumps(_SAMPLE)) != _SAMPLE:
        raise ValueError("it does not read what it wrote")
    return dumps, loads


try:
    dumps, loads = _codec()
except Exception:  # noqa: BLE001 - whatever another Python makes of it
    from json import dumps, loads


def sha256(data: bytes) -> str:
    """The digest in hexadecimal. `hashlib` would load all of OpenSSL for it."""
    for name in ("_sha2", "_sha256"):  # before and since Python 3.12
        try:
            return str(__import__(name).sha256(data).hexdigest())
        except (ImportError, AttributeError):
            continue
    import hashlib

    return hashlib.sha256(data).hexdigest()


def libc(name: str) -> Callable[..., Any]:
    """A function of the C library that takes numbers, bytes and None, and returns an int.

    Raises:
        OSError: It is not there, or cannot be called on this system.
    """
    try:
        try:
            return _bare_function(name)
        except (AttributeError, TypeError):
            import ctypes

            found: Callable[..., Any] = ctypes.CDLL(None)[name]
            return found
    except (ImportError, AttributeError) as error:
        raise OSError("the C library's %s cannot be called: %s" % (name, error)) from error


def _bare_function(name: str) -> Callable[..., Any]:
    """What `ctypes.CDLL(None)[name]` is, without the types that `ctypes` makes first."""
    import _ctypes

    class Number(_ctypes._SimpleCData):  # type: ignore[type-arg,misc,unused-ignore]
        _type_ = "i"

    class Function(_ctypes.CFuncPtr):  # type: ignore[misc,unused-ignore]
        _flags_ = _ctypes.FUNCFLAG_CDECL
        _restype_ = Number

    made: Callable[..., Any] = Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), name))  # type: ignore[arg-type,unused-ignore]
    return made
