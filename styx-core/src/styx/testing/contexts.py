"""A driver's `Context` for tests: everything explicit, nothing read from the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from styx.driver import Context, DriverConfig, SshDoor

STORE = "st0re1"
"""The installation id that tests act as."""
OTHER_STORE = "st0re2"
"""Somebody else's installation in the same account."""


def make_context(
    home: Path,
    *,
    config: DriverConfig | None = None,
    store: str = STORE,
    secrets: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.time,
    http: Callable[[], Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    ssh: SshDoor | None = None,
) -> Context:
    """A context whose `$STYX_HOME` is `home` and whose secrets are exactly `secrets`.

    Args:
        home: Stands for `$STYX_HOME`; the user's home folder is `home/user`.
        config: The driver's settings; the defaults of `DriverConfig` if left out.
        store: The installation's id.
        secrets: Name to value; every other name is unknown.
        clock: Unix seconds; a `ManualClock` where time matters.
        http: Makes the HTTP client of a REST driver, usually one with a mock transport.
        extra: Anything else that the driver looks up in `Context.extra`.
        ssh: Runs commands on hosts; see `styx.testing.folders`.
    """
    return Context(
        workspace="default",
        user="tester",
        store=store,
        config=config if config is not None else DriverConfig(),
        home=home,
        user_home=home / "user",
        secrets=dict(secrets or {}).get,
        clock=clock,
        http=http,
        extra=dict(extra or {}),
        ssh=ssh,
    )
