"""The agent's own diary: lines on standard error, which the supervisor points at `agent.out`."""

from __future__ import annotations

import sys
import time


def note(text: str) -> None:
    """Write one line. Never raises: a full disk must not end the agent."""
    try:
        sys.stderr.write("%s %s\n" % (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text))
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def note_error(text: str) -> None:
    """Write a line and the traceback of the exception being handled."""
    import traceback  # here: it brings half the parser along, and no start needs it

    note(text + "\n" + traceback.format_exc())
