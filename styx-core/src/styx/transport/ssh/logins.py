"""All logins of this process: one per host, shared by threads and commands; a further one only when a host is full."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from styx.driver import Completed, SshFailed
from styx.driver import Ssh as SshReach
from styx.errors import DeadlineExceeded
from styx.transport.ssh import keys
from styx.transport.ssh.diagnosis import failed, lost, through
from styx.transport.ssh.known_hosts import Trust
from styx.transport.ssh.target import Hop, Route, UserConfig, route_to

if TYPE_CHECKING:
    from styx.transport.ssh.channel import SshChannel
    from styx.transport.ssh.login import Login

_MOST_LOGINS = 12
_OPEN_TRIES = 4
_IDLE_S = 300.0
_QUEUE_S = 120.0


class Logins:
    """Implements `styx.driver.SshDoor`; the transports of all nodes open their commands through it."""

    def __init__(self, folders: keys.KeyFolders, config: UserConfig, say: Callable[[str], None]) -> None:
        """`say` is told, once per cluster, of host keys that are trusted on first use."""
        self._folders = folders
        self._config = config
        self.trust = Trust(folders, config.known_hosts, say)
        self._lock = threading.Lock()
        self._hosts: dict[tuple[Route, str | None], _Host] = {}
        self._closed = False

    def own_key(self) -> Path:
        """The installation's private key file; made when there is none."""
        return keys.login_key(self._folders).path

    def route(self, reach: SshReach) -> Route:
        """The hops to a host.

        Raises:
            InvalidInput: The reach, or the user's SSH config, is wrong.
        """
        return route_to(reach, self._config)

    def login(self, route: Route, scope: str | None = None) -> Login:
        """A live login, for tunnels; see `open` for the rest."""
        return self._host(route, scope).login()

    def open(self, route: Route, scope: str | None, command: str, *, whole_stderr: bool = False) -> SshChannel:
        """Start a command in the host's own shell, on a login that has room.

        Raises:
            SshFailed: The host was not reached; the command has not run.
        """
        from styx.transport.ssh.channel import SshChannel

        login, channel = self._host(route, scope).session()
        return SshChannel(login, channel, command, whole_stderr=whole_stderr)

    def terminal(self, route: Route, scope: str | None) -> tuple[Login, Any]:
        """A bare session for a terminal; `Login.release` gives it back."""
        return self._host(route, scope).session()

    # styx.driver.SshDoor ------------------------------------------------------------------------------------------
    def run(self, reach: SshReach, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """See `styx.driver.SshDoor.run`."""
        from styx.transport.ssh.channel import command_line

        channel = self.open(self.route(reach), None, command_line(argv), whole_stderr=True)
        return channel.run(stdin, timeout_s, argv[0])

    def host_key(self, reach: SshReach) -> str:
        """See `styx.driver.SshDoor.host_key`."""
        return self.login(self.route(reach)).key

    # --------------------------------------------------------------------------------------------------------------
    def _host(self, route: Route, scope: str | None) -> _Host:
        with self._lock:
            if self._closed:
                raise lost(route[-1], "this client has ended its logins")
            for other in list(self._hosts.values()):
                other.close_idle()
            key = (route, scope)
            if key not in self._hosts:
                self._hosts[key] = _Host(self, route, scope)
            return self._hosts[key]

    def end_logins(self, cluster: str) -> None:
        """Those of a cluster's nodes. Idempotent."""
        with self._lock:
            gone = [key for key in self._hosts if (key[1] or "").rpartition("/")[0] == cluster]
            hosts = [self._hosts.pop(key) for key in gone]
        for host in hosts:
            host.close()

    def close(self) -> None:
        """End every login. Idempotent."""
        with self._lock:
            self._closed = True
            hosts = list(self._hosts.values())
            self._hosts.clear()
        for host in sorted(hosts, key=lambda each: -each.hops):
            host.close()


class _Host:
    """The logins of one host."""

    def __init__(self, logins: Logins, route: Route, scope: str | None) -> None:
        self._logins = logins
        self._route = route
        self._scope = scope
        self._lock = threading.Lock()
        self._live: list[Login] = []
        self._used_key: str | None = None
        self.hops = len(route)

    @property
    def _hop(self) -> Hop:
        return self._route[-1]

    def login(self) -> Login:
        """A live login, made when there is none."""
        with self._turn():
            return self._living()[0] if self._living() else self._connect()

    def session(self) -> tuple[Login, Any]:
        """A login and a channel on it for one command. What fails here has run nothing, so it is tried again."""
        from styx.transport.ssh.login import Full

        problem: SshFailed | None = None
        with self._turn():
            for _ in range(_OPEN_TRIES):
                login = next((each for each in self._living() if each.sessions < each.limit), None)
                try:
                    if login is None:
                        if len(self._living()) >= _MOST_LOGINS:
                            raise self._too_many()
                        login = self._connect()
                    return login, login.session()
                except Full as error:
                    assert login is not None
                    login.limit = max(1, login.sessions)
                    if not login.sessions:
                        problem = failed(self._hop, "auth", f"it lets user {self._hop.user} run no command: {error}")
                        break
                except SshFailed as error:
                    if error.reason != "lost":
                        raise
                    problem = error
        raise problem or self._too_many()

    def _too_many(self) -> SshFailed:
        commands = sum(each.sessions for each in self._live)
        return failed(
            self._hop,
            "refused",
            f"{commands} commands run there at a time, and it takes no more",
            hint="wait until some have ended, or raise MaxSessions of its SSH server",
        )

    def _turn(self) -> _Turn:
        return _Turn(self._lock, self._hop)

    def _living(self) -> list[Login]:
        dead = [each for each in self._live if not each.alive]
        for each in dead:
            self._live.remove(each)
            each.close()
        return self._live

    def _connect(self) -> Login:
        from styx.transport.ssh.login import Connector

        trust = self._logins.trust
        scope = self._scope
        connector = Connector(
            self._hop,
            self._jump if len(self._route) > 1 else None,
            lambda hop: trust.expected(hop, scope),
            lambda hop, key, fingerprint: trust.remember(hop, scope, key, fingerprint),
            self._logins.own_key,
            lambda hop: trust.where(hop, scope),
        )
        made = connector.login(self._used_key)
        self._used_key = made.used_key
        self._live.append(made)
        return made

    def _jump(self) -> Login:
        before = self._route[:-1]
        try:
            return self._logins.login(before)
        except SshFailed as error:
            raise through(self._hop, before[-1], error) from error

    def close_idle(self) -> None:
        """End logins that nothing has used for a while; skipped while somebody is at work here."""
        if self._lock.acquire(blocking=False):
            try:
                for each in [each for each in self._live if each.idle_s > _IDLE_S]:
                    self._live.remove(each)
                    each.close()
            finally:
                self._lock.release()

    def close(self) -> None:
        """End all of them."""
        for each in list(self._live):
            each.close()
        self._live.clear()


class _Turn:
    """One at a time opens channels and logins of a host; waiting for the turn has a deadline."""

    def __init__(self, lock: threading.Lock, hop: Hop) -> None:
        self._lock = lock
        self._hop = hop

    def __enter__(self) -> None:
        began = time.monotonic()
        if not self._lock.acquire(timeout=_QUEUE_S):
            waited = time.monotonic() - began
            raise DeadlineExceeded(f"{self._hop}: waited {waited:.0f} s for other logins to that host")

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
