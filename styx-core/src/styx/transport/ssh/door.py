"""The process's logins, made when first asked for: importing paramiko takes a tenth of a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from styx.driver import Completed, Ssh
from styx.transport.ssh import keys, known_hosts

if TYPE_CHECKING:
    from styx.transport.ssh.logins import Logins


class Door:
    """Implements `styx.driver.SshDoor`, and gives the engine the same logins."""

    def __init__(self, folders: keys.KeyFolders, make: Callable[[], Logins]) -> None:
        self._folders = folders
        self._make = make
        self._made: Logins | None = None
        self._lock = threading.Lock()

    def logins(self) -> Logins:
        """The logins, the same each time."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def run(self, reach: Ssh, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """See `styx.driver.SshDoor.run`."""
        return self.logins().run(reach, argv, stdin=stdin, timeout_s=timeout_s)

    def host_key(self, reach: Ssh) -> str:
        """See `styx.driver.SshDoor.host_key`."""
        return self.logins().host_key(reach)

    def forget(self, cluster: str) -> None:
        """End the logins of a cluster that is gone, and forget its host keys. Idempotent."""
        self.renew(cluster)
        keys.forget_host_key(self._folders, cluster)

    def renew(self, cluster: str) -> None:
        """Machines of this cluster are made anew: end its logins, forget what was trusted on first use. Idempotent."""
        with self._lock:
            made = self._made
        if made is not None:
            made.end_logins(cluster)
        known_hosts.forget(self._folders, cluster)

    def close(self) -> None:
        """End the logins, if any were made; the next use makes new ones. Idempotent."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()
