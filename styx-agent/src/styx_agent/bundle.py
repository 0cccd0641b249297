"""The modules of this package as compiled code in one piece, and how the interpreter gets them from it.

Only in a zipapp that was made for the very interpreter: there `__init__` calls `install`. It spares a start most of
what `zipimport` does for each module, and what is loaded later does not depend on the file.
"""

from __future__ import annotations

import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Dict
    from zipimport import zipimporter

MEMBER = "styx_agent/modules"
"""A marshalled dict: name of a module -> its code, marshalled by itself, since no start needs all of them."""


class Modules:
    """Finds and loads them: see `importlib.abc.MetaPathFinder` and `importlib.abc.Loader`."""

    def __init__(self, codes: Dict[str, bytes], archive: zipimporter, spec_type: Any) -> None:
        self._codes = codes
        self._archive = archive
        self._spec_type = spec_type

    def find_spec(self, name: str, *_: object) -> Any:
        """For one that was not loaded yet; None for what is not ours."""
        if name not in self._codes:
            return None
        spec = self._spec_type(name, self, origin=self._place(name))
        spec.has_location = True
        return spec

    def create_module(self, _: object) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Run its code."""
        exec(marshal.loads(self._codes.pop(module.__name__)), module.__dict__)  # noqa: S102, S302 - our own file

    def get_source(self, name: str) -> str | None:
        """For tracebacks; None when the file is gone."""
        try:
            return self._archive.get_data(self._place(name)).decode("utf-8")
        except OSError:
            return None

    def _place(self, name: str) -> str:
        return "%s/%s.py" % (self._archive.archive, name.replace(".", "/"))


def install(archive: zipimporter) -> None:
    """Let every other module of the package come from the piece in `archive`."""
    codes = marshal.loads(archive.get_data("%s/%s" % (archive.archive, MEMBER)))  # noqa: S302 - our own file
    sys.meta_path.insert(0, Modules(codes, archive, type(sys.modules[__name__].__spec__)))
