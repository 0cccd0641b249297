"""The page of settings, from the models that read configuration files and from the plugins of this repository."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from styx.config import Settings
from styx.models.configkeys import FORMAT_KEYS
from tools.reference import models

ROOT: Final = Path(__file__).resolve().parents[2]
INTRODUCTION: Final = """# Configuration

Settings come from four layers; a later one wins, key by key:

1. `$STYX_HOME/config.yaml` (`$STYX_HOME` is `~/.styx` unless set),
2. `./.styx.yaml` in the folder where the command runs,
3. `--config FILE` or `--config a.b=value`, which may be given several times,
4. the task's own `config`.

`styx config show` prints every value with the layer it comes from. A wrong key or value is told with its file and line.
"""


def page() -> str:
    """The whole page."""
    own = models.sections([Settings])
    drivers = "\n".join(
        models.sections([model]).replace("## ", f"## clouds.{name}: ", 1) for name, model in driver_settings()
    )
    return f"{INTRODUCTION}\n{own}\n{drivers}\n{foreign()}"


def driver_settings() -> Iterator[tuple[str, type[BaseModel]]]:
    """The settings model of each cloud in this repository, by the cloud's name."""
    folders = {path.name.replace("-", "_") for path in ROOT.glob("plugins/styx-*")}
    for point in sorted(importlib.metadata.entry_points(group="styx.drivers"), key=lambda point: point.name):
        if point.module.split(".")[0] in folders:
            yield point.name, point.load().config_type


def foreign() -> str:
    """The keys of the task format's own configuration file that are read without effect."""
    names = ", ".join(f"`{name}`" for name in sorted(FORMAT_KEYS))
    return (
        "## Keys of existing configuration files\n\n"
        "A configuration file written for the task format may be used as it is. These keys are read and checked, and a "
        f"warning on stderr names those that have no effect in this release: {names}.\n"
    )
