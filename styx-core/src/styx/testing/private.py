"""Private clouds under test: a driver in a single file, loaded as Styx loads it from `$STYX_HOME/drivers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from styx.driver import Driver
from styx.errors import PluginError


def load_private(path: Path) -> type[Driver[Any]]:
    """The driver class in `path`: the one whose `name` is the file's.

    Raises:
        PluginError: The file can't be loaded, or holds no such class. The cause is the error in the file itself.
    """
    from styx.discovery import load_file

    causes: list[BaseException] = []
    try:
        return cast("type[Driver[Any]]", load_file(path, lambda _what, error: causes.append(error)))
    except PluginError as error:
        raise error from (causes[0] if causes else None)
