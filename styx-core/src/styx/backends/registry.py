"""The backends that Styx brings itself; plugins add more by the hook `styx_backend`."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from styx.backends.base import Backend
from styx.errors import NotFound

_BUILT_IN: Final = {
    "process": ("styx.backends.process", "ProcessBackend"),
    "ray": ("styx.backends.ray.backend", "RayBackend"),
}

NAMES: Final = tuple(sorted(_BUILT_IN))


def builtin(name: str) -> Backend:
    """The built-in backend of that name; imports nothing but it.

    Raises:
        NotFound: There is none.
    """
    try:
        module, attribute = _BUILT_IN[name]
    except KeyError:
        raise NotFound(f"no backend is called {name!r}", hint=f"built in are: {', '.join(NAMES)}") from None
    made: Backend = getattr(import_module(module), attribute)()
    return made
