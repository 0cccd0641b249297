"""Stand-ins for parts of the standard library whose import costs more than all the rest of an agent's start.

On a host of its own that is a few hundredths of a second; fifty agents that start on one machine wait for each other.
Each stand-in does what its original does as far as this package needs it, and gives way to the original on a Python
that lacks what it is made of.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
"""What `typing` calls so: true for type checkers, which know it by its name."""

if TYPE_CHECKING:
    from typing import Any, Callable
    from typing import NamedTuple as NamedTuple
    from typing import TypedDict as TypedDict
else:

    class _Named(type):
        """Makes what `typing.NamedTuple` makes, without looking into the annotations."""

        def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
            if not bases:
                return super().__new__(cls, name, bases, space)
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
