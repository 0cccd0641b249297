"""Watches for the cloud's word that it will take this node away, and tells the jobs."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from styx_agent import files
from styx_agent.journal import note
from styx_agent.lean import TYPE_CHECKING
from styx_agent.paths import State

if TYPE_CHECKING:
    from typing import Callable

POLL_S = 5.0
"""How often clouds ask to be asked; their warning comes 30 seconds to 2 minutes before the end."""
_PROBE_S = 5.0


class Notices:
    """Polls a command of the cloud's; exit code 0 means that the end is near.

    `argv()` is the command, empty where there is none; `env()` its environment; `poke()` wakes those who wait. Jobs
    find the file `STYX_NOTICE_FILE` from then on. A new agent asks anew: the machine may have been stopped meanwhile.
    """

    def __init__(
        self, state: State, argv: Callable[[], list[str]], env: Callable[[], dict[str, str]], poke: Callable[[], None]
    ) -> None:
        self._state = state
        self._argv = argv
        self._env = env
        self._poke = poke
        self.seen_at: float | None = None
        """When the cloud's word was first seen."""
        with contextlib.suppress(OSError):
            os.unlink(state.notice)

    def watch(self) -> None:
        """Poll for as long as the agent lives, until the word has come."""
        threading.Thread(target=self._poll, name="notice", daemon=True).start()

    def _poll(self) -> None:
        while not self.look():
            time.sleep(POLL_S)

    def look(self) -> bool:
        """Ask once; whether the word has come."""
        argv = self._argv()
        if not argv or not _succeeds(argv, self._env(), self._state.root):
            return False
        self.seen_at = time.time()
        note("the cloud says that it will take this node away")
        try:
            files.write_json(self._state.notice, {"seen_at": self.seen_at})
        except OSError as error:
            note("the jobs can't be told of it: %s" % error)
        self._poke()
        return True


def _succeeds(argv: list[str], env: dict[str, str], cwd: str) -> bool:
    import subprocess

    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=cwd,
            env=env,
            timeout=_PROBE_S,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
