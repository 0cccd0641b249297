"""`styx config`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from styx.errors import NotFound
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import ConfigFlag, OutputFlags, new_app

app = new_app("Show the configuration and where each value comes from.")


@app.callback()
def config() -> None:
    """Show the configuration and where each value comes from."""


@app.command()
@expands
def show(
    ctx: typer.Context,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEYS", help="Only these, such as lease or lease.idle.")
    ] = None,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """Show every setting, its value, and the file or flag that set it.

    Read in this order, later ones winning: config.yaml in $STYX_HOME, .styx.yaml in the working folder, --config.
    Secrets are shown as ***.
    """
    run = app_of(ctx)
    as_json = out.wants_json(run)
    from styx.config import load_config
    from styx_cli.jsonout import ConfigValue, to_json
    from styx_cli.render import show_table

    loaded = load_config(run.home, cwd=Path.cwd(), overrides=tuple(config or ()))
    for warning in loaded.warnings:
        run.warn(str(warning))
    shown = [
        ConfigValue(key=each.key, value=each.value, source=each.source)
        for each in loaded.show()
        if _wanted(each.key, keys or ())
    ]
    if keys and not shown:
        raise NotFound(f"there is no setting called {keys[0]}", hint="`styx config show` lists them all")
    if as_json:
        run.data(to_json(shown))
        return
    rows = [[each.key, "-" if each.value is None else _text(each.value), each.source] for each in shown]
    show_table(run, ("KEY", "VALUE", "SOURCE"), rows)


def _wanted(key: str, keys: Sequence[str]) -> bool:
    return not keys or any(key == each or key.startswith(f"{each}.") for each in keys)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
