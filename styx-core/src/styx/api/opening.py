"""Puts the in-process engine together: home, config, store, plugins."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from styx.provision.world import Parts, World, current_user, new_holder, quiet, utc_now
from styx.state.folders import home_of as home_of
from styx.state.sqlite import open_store

if TYPE_CHECKING:
    from styx.backends.base import Backend
    from styx.config import Config
    from styx.plugins import Hub


@dataclass(frozen=True)
class Opened:
    """An engine's parts.

    Attributes:
        world: What operations act on.
        base: Folder that relative local paths start from.
    """

    world: World
    base: Path


def open_world(
    *,
    home: Path | None = None,
    config: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    report: Callable[[str], None] | None = None,
    observe: Callable[[str], None] | None = None,
) -> Opened:
    """The parts over one home.

    Args:
        home: Instead of `$STYX_HOME`.
        config: `--config` values.
        environ: Instead of the process environment.
        cwd: Instead of the working folder: `./.styx.yaml` is read there, and relative paths start from it.
        report: Told of plugins that misbehave.
        observe: Told of every driver call and every commit, before and after; see `World.observe`.
    """
    env = os.environ if environ is None else environ
    where = home or home_of(env)
    base = cwd or Path.cwd()
    store = open_store(where, observer=observe)
    user = current_user(env)

    def load() -> Config:
        from styx.config import load_config

        return load_config(home=where, cwd=base, overrides=config)

    def make_hub(settings: Config) -> Hub:
        from styx.plugins import Hub

        return Hub(where, environ=env, store_id=store.store_id, user=user, clouds=settings.clouds, report=report)

    parts = Parts(load, make_hub)
    world = World(
        store=store,
        parts=parts,
        backend=lambda name: backend_of(parts.hub, name).with_settings(parts.config.settings),
        user=user,
        workspace="default",
        holder=new_holder(),
        now=utc_now,
        sleep=time.sleep,
        observe=observe or quiet,
    )
    return Opened(world, base)


def backend_of(hub: Hub, name: str) -> Backend:
    """A plugin's backend of that name, else the built-in one."""
    from styx.backends.registry import builtin

    return hub.backend(name) or builtin(name)
