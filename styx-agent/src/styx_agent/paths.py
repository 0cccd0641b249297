"""Where everything of one instance lies: the state folder, and the socket with its short path."""

from __future__ import annotations

import contextlib
import os
import stat

from styx_agent.faults import AgentFailure
from styx_agent.lean import sha256

_LONGEST_SOCKET_PATH = 103
"""What every system takes (Linux 107, macOS 103)."""


def socket_path(state: str) -> str:
    """The socket of the agent whose state folder is `state`. `STYX_SOCKET_DIR` overrides the folder."""
    folder = os.environ.get("STYX_SOCKET_DIR") or "/tmp/sx-%d" % os.getuid()  # noqa: S108 - owner and mode are checked
    digest = sha256(os.fsencode(os.path.realpath(state)))
    return os.path.join(folder, digest[:12] + ".sock")


def prepare_socket_folder(path: str) -> None:
    """Make the folder of the socket `path`, private to this user.

    Raises:
        AgentFailure: It belongs to somebody else, or the path is too long for a socket.
    """
    if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
        raise AgentFailure(
            "the socket path %s is longer than %d bytes; set STYX_SOCKET_DIR to a shorter folder"
            % (path, _LONGEST_SOCKET_PATH)
        )
    folder = os.path.dirname(path)
    try:
        os.makedirs(os.path.dirname(folder) or "/", exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        seen = os.lstat(folder)
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
            raise AgentFailure(
                "the socket folder %s is not a folder of this user; remove it or set STYX_SOCKET_DIR" % folder
            )
        if seen.st_mode & 0o077:
            os.chmod(folder, 0o700)
    except OSError as error:
        raise AgentFailure("cannot make the socket folder %s: %s" % (folder, error.strerror)) from error


def remove_socket(path: str) -> None:
    """Remove the socket, and its folder when that was the last one."""
    for step, target in ((os.unlink, path), (os.rmdir, os.path.dirname(path))):
        with contextlib.suppress(OSError):
            step(target)


class State:
    """The paths inside a state folder."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.identity = self._in("identity.json")
        self.config = self._in("config.json")
        self.lease = self._in("lease.json")
        self.notice = self._in("notice.json")
        self.strays = self._in("strays.json")
        self.supervisor = self._in("supervisor.json")
        self.agent = self._in("agent.json")
        self.start_lock = self._in("start.lock")
        self.supervisor_lock = self._in("supervisor.lock")
        self.agent_lock = self._in("agent.lock")
        self.output = self._in("agent.out")
        self.container = self._in("container.json")
        self.jobs = self._in("jobs")
        self.logs = self._in("logs")
        self.sync = self._in("sync")
        self.socket = socket_path(root)

    def _in(self, name: str) -> str:
        return os.path.join(self.root, name)

    def make(self) -> None:
        """Create the folders.

        Raises:
            AgentFailure: They cannot be made.
        """
        for folder in (self.root, self.jobs, self.logs, self.sync):
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
            except OSError as error:
                raise AgentFailure("cannot make the state folder %s: %s" % (folder, error.strerror)) from error

    def job(self, job_id: int, name: str) -> str:
        """A file of one job."""
        return os.path.join(self.jobs, str(job_id), name)

    def log(self, job_id: int, stream: str) -> str:
        """The log of one stream of a job."""
        return os.path.join(self.logs, str(job_id), stream + ".log")
