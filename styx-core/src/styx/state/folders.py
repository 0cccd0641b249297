"""Where files lie under `$STYX_HOME`. Nobody else builds such paths."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from styx.errors import InternalError, LocalIOError


def home_of(environ: Mapping[str, str]) -> Path:
    """`$STYX_HOME`, default `~/.styx`, absolute.

    Raises:
        LocalIOError: Neither is known.
    """
    try:
        return Path(environ.get("STYX_HOME") or "~/.styx").expanduser().absolute()
    except RuntimeError:
        raise LocalIOError(
            f"user {os.getuid()} has no home folder, and HOME is not set",
            hint="set STYX_HOME to a folder that Styx may use",
        ) from None


def make_private(folder: Path) -> Path:
    """Make a folder that only its owner can enter, with its parents; an existing one is left as it is.

    Raises:
        LocalIOError: It can't be made, or is not a folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalIOError(
            f"the folder {folder} can't be made: {os.strerror(error.errno or 0)}",
            hint="make it writable, free some space, or set STYX_HOME to another folder",
        ) from None
    return folder


@dataclass(frozen=True)
class HomeFolders:
    """Implements `styx.state.store.Folders` in one home folder."""

    home: Path

    def log_dir(self, cluster_key: str) -> Path:
        """`logs/<key>`, made on demand."""
        return make_private(self.home / "logs" / _plain(cluster_key))

    def key_path(self, name: str) -> Path:
        """`keys/<name>`; the folder is made, the file is not."""
        return make_private(self.home / "keys") / _plain(name)

    def cache_dir(self, name: str) -> Path:
        """`cache/<name>`, made on demand."""
        return make_private(self.home / "cache" / _plain(name))

    def catalog_dir(self) -> Path:
        """`catalogs`, made on demand."""
        return make_private(self.home / "catalogs")

    def lock_path(self, name: str) -> Path:
        """`locks/<name>.lock`; the folder is made, the file is not."""
        return make_private(self.home / "locks") / f"{_plain(name)}.lock"

    def plugin_log(self) -> Path:
        """`logs/plugins.log`, where failing plugins leave their tracebacks; the folder is made, the file is not."""
        return make_private(self.home / "logs") / "plugins.log"

    def driver_dir(self) -> Path:
        """`drivers`, where private clouds lie as single files; not made."""
        return self.home / "drivers"


def _plain(name: str) -> str:
    """The name, if it is one path component and nothing more."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise InternalError(f"{name!r} can't be used as a file name")
    return name
