"""What goes wrong, as the agent says it.

Exception
 +-- AgentFailure     a command of the zipapp cannot do its work: one line on stderr, exit code 1
 +-- Fault            the error answer of one request; the connection goes on
"""

from __future__ import annotations

import errno

DISK_FULL_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT))


EXIT_DISK_FULL = 28
"""Exit code of a runner that could not leave an outcome for want of room."""


class AgentFailure(Exception):
    """A command cannot be done; the message is what the caller reads."""


class Fault(Exception):
    """An error answer: a code of `styx_agent.protocol` and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def is_disk_full(error: BaseException) -> bool:
    """Whether a system call failed for want of space or quota."""
    return isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS
