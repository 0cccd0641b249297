"""One login: connected, the host's key checked, authenticated, and then a place for channels."""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentSSH
from paramiko.ssh_exception import (
    AuthenticationException,
    BadAuthenticationType,
    IncompatiblePeer,
    SSHException,
)

from styx.driver import SshFailed
from styx.transport.ssh.connection import Connection, Refused
from styx.transport.ssh.diagnosis import failed, from_jump, from_os_error, lost
from styx.transport.ssh.sockets import ProxyProcess, dial, kernel_round_trip_s
from styx.transport.ssh.target import Hop

SESSIONS = 8
"""Commands at a time on one login. OpenSSH's server takes 10 (MaxSessions) and counts one until it has reaped it."""
_KEYS_PER_LOGIN = 5
_MOST_TRIES = 20
_BANNER_S = 15.0
_HUNG_UP = "it closed the connection before it said anything of SSH"


class Full(Exception):
    """The host takes no further command on this login."""


class Login:
    """An authenticated connection to one host.

    Attributes:
        hop: Where.
        key: The host's public key, `type base64`.
        used_key: What opened it; tried first the next time.
        round_trip_s: The quickest answer so far, that of the connection included.
        limit: How many sessions it takes at a time.
    """

    def __init__(
        self,
        hop: Hop,
        connection: Connection,
        close_way: Callable[[], None],
        used_key: str,
        connected_s: float = math.inf,
    ) -> None:
        shown = connection.get_remote_server_key()
        self.hop = hop
        self.key = f"{shown.get_name()} {shown.get_base64()}"
        self.used_key = used_key
        self.limit = SESSIONS
        self.round_trip_s = connected_s
        self.idle_since = time.monotonic()
        self._connection = connection
        self._close_way = close_way
        self._lock = threading.Lock()
        self._sessions: set[Any] = set()
        """Held here until closed: a channel that is garbage collected would send its close in the middle of another
        message."""
        self._tunnels: set[Any] = set()

    @property
    def alive(self) -> bool:
        """Whether it can be used, as far as is known."""
        return bool(self._connection.is_active())

    @property
    def sessions(self) -> int:
        """Commands that run on it."""
        return len(self._sessions)

    @property
    def idle_s(self) -> float:
        """How long nothing has used it."""
        return 0.0 if self._sessions or self._tunnels else time.monotonic() - self.idle_since

    def session(self) -> Any:
        """A channel for one command.

        Raises:
            Full: The host refuses one more.
            SshFailed: The login is lost.
        """
        began = time.monotonic()
        try:
            channel = self._connection.open("session", self.hop.connect_s)
        except Refused as error:
            raise Full(str(error)) from error
        except (SSHException, EOFError, OSError) as error:
            raise self._lost_while_opening(error) from error
        self.round_trip_s = min(self.round_trip_s, time.monotonic() - began)
        with self._lock:
            self._sessions.add(channel)
        return channel

    def tunnel(self, hop: Hop, host: str, port: int) -> Any:
        """A channel to a port that this host can reach; closed with `release`.

        Args:
            hop: Who is to be reached there; this host itself when it is no further host.
            host: Where, as this host knows it.
            port: Where.

        Raises:
            SshFailed: It can't, or the login is lost.
        """
        try:
            channel = self._connection.open("direct-tcpip", hop.connect_s, (host, port))
        except Refused as error:
            if hop is self.hop:
                raise SshFailed(f"{self.hop} says: {error}", "refused") from error
            raise from_jump(hop, self.hop, str(error)) from error
        except TimeoutError as error:
            raise failed(hop, "timeout", f"its jump host {self.hop} got no answer in {hop.connect_s:g} s") from error
        except (SSHException, EOFError, OSError) as error:
            raise self._lost_while_opening(error) from error
        with self._lock:
            self._tunnels.add(channel)
        return channel

    def release(self, channel: Any) -> None:
        """Close a channel and let go of it. Idempotent."""
        with contextlib.suppress(SSHException, EOFError, OSError):
            channel.close()
        with self._lock:
            self._sessions.discard(channel)
            self._tunnels.discard(channel)
            self.idle_since = time.monotonic()

    def why_lost(self) -> str:
        """What is known of the end of the connection."""
        packets = self._connection.packetizer
        if packets.gave_up_after_s is not None:
            return f"nothing was heard for {packets.gave_up_after_s:.0f} s"
        if self._connection.said_goodbye:
            return f"the host ended it: {self._connection.said_goodbye}"
        return "the host, or something on the way, closed it"

    def _lost_while_opening(self, error: BaseException) -> SshFailed:
        if self.alive:
            self.close()
            return lost(self.hop, f"it did not answer within {self.hop.connect_s:g} s")
        return lost(self.hop, self.why_lost() if isinstance(error, EOFError | SSHException) else str(error))

    def close(self) -> None:
        """End it, and every command's connection on it. Idempotent; does not wait."""
        end(self._connection)
        self._close_way()
        with self._lock:
            self._sessions.clear()
            self._tunnels.clear()


def end(connection: Connection) -> None:
    """Close a connection without waiting for whoever reads or writes it."""
    sock = connection.sock
    if isinstance(sock, socket.socket):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)  # wakes the reading thread, before its descriptor goes
    with contextlib.suppress(SSHException, EOFError, OSError):
        connection.close()


Expected = Callable[[Hop], list[str]]
Accept = Callable[[Hop, str, str], None]


class Connector:
    """Makes logins to one host.

    Args:
        hop: The host.
        before: Gives the login of the jump host before it, if there is one.
        expected: The keys of which the host must show one; none if the next is to be trusted.
        accept: Told of a key that was trusted on first use: host, key, fingerprint.
        own_key: The installation's private key file; called only when it is tried.
        first: What opened the last login.
        where: Names the file from which a changed host key would be removed.
    """

    def __init__(
        self,
        hop: Hop,
        before: Callable[[], Login] | None,
        expected: Expected,
        accept: Accept,
        own_key: Callable[[], Path],
        where: Callable[[Hop], str],
    ) -> None:
        self._hop = hop
        self._before = before
        self._expected = expected
        self._accept = accept
        self._own_key = own_key
        self._where = where
        self._connected_s = math.inf

    def login(self, first: str | None = None) -> Login:
        """Connect, check, authenticate.

        Args:
            first: The key that opened the last login.

        Raises:
            SshFailed: At which step, and why.
        """
        left = _Keys(self._hop, self._own_key, first)
        while True:
            connection, close_way = self._connect()
            try:
                used = self._authenticate(connection, left)
                if used is not None:
                    connection.watch(self._hop.alive_s, self._hop.alive_count)
                    return Login(self._hop, connection, close_way, used, self._connected_s)
            except BaseException:
                end(connection)
                close_way()
                raise
            end(connection)  # the host takes no further key on this connection
            close_way()

    def _connect(self) -> tuple[Connection, Callable[[], None]]:
        """A connection to a host that has shown an accepted key. A host that hangs up at once is asked again.

        OpenSSH's server drops connections at random while more than ten of them (MaxStartups) have not logged in yet.
        """
        pauses = [0.3, 0.9, 2.0]
        while True:
            sock, close_way, last_words = self._way()
            connection = Connection(sock)
            try:
                self._greet(connection)
            except (SSHException, EOFError, OSError) as error:
                problem = self._not_greeted(connection, error, last_words)
                end(connection)
                close_way()
                if pauses and problem.message.endswith(_HUNG_UP) and not last_words():
                    time.sleep(pauses.pop(0))
                    continue
                raise problem from error
            except BaseException:
                end(connection)
                close_way()
                raise
            return connection, close_way

    def _way(self) -> tuple[Any, Callable[[], None], Callable[[], str]]:
        """Socket, how to close what is behind it, and what that said last."""
        hop = self._hop
        began = time.monotonic()
        if self._before is not None:
            jump = self._before()
            channel = jump.tunnel(hop, hop.host, hop.port)
            self._connected_s = time.monotonic() - began
            return channel, lambda: jump.release(channel), lambda: ""
        if hop.command:
            proxy = ProxyProcess(hop)
            return proxy.socket, proxy.close, proxy.last_words
        sock = dial(hop)
        self._connected_s = min(time.monotonic() - began, kernel_round_trip_s(sock))
        return sock, lambda: None, lambda: ""

    def _greet(self, connection: Connection) -> None:
        """Agree on keys, and check the host's."""
        hop = self._hop
        expected = self._expected(hop)
        kinds = list(dict.fromkeys(key.split()[0] for key in expected))
        known = connection.get_security_options().key_types
        wanted = [kind for kind in known if _family(kind) in {_family(each) for each in kinds}]
        if wanted:
            connection.get_security_options().key_types = wanted
        connection.banner_timeout = min(_BANNER_S, hop.connect_s)
        connection.handshake_timeout = hop.connect_s
        connection.auth_timeout = hop.connect_s
        connection.start_client(timeout=hop.connect_s + connection.banner_timeout)
        if not connection.initial_kex_done:
            raise TimeoutError
        shown = connection.get_remote_server_key()
        key, fingerprint = f"{shown.get_name()} {shown.get_base64()}", shown.fingerprint
        if not expected:
            self._accept(hop, key, fingerprint)
        elif key not in expected:
            raise failed(
                hop,
                "host_key",
                f"it shows another host key ({fingerprint}) than the one that is known for it",
                hint=self._changed_hint(),
            )

    def _changed_hint(self) -> str:
        if self._hop.pinned:
            return "the machine was made with another key: whoever answers there is not that machine"
        return f"if the machine was made anew, remove its line from {self._where(self._hop)}; if not, do not connect"

    def _not_greeted(self, connection: Connection, error: Exception, last_words: Callable[[], str]) -> SshFailed:
        hop = self._hop
        if isinstance(error, SshFailed):
            return error
        if hop.command and (said := last_words()) and not connection.remote_version:
            return failed(hop, "proxy", f"its proxy command failed: {said}")
        if isinstance(error, IncompatiblePeer):
            expected = self._expected(hop)
            if expected and "key" in str(error).lower():
                return failed(hop, "host_key", f"it has no key of the kind that is known for it: {error}")
            return failed(hop, "not_ssh", f"it speaks no SSH that Styx does: {error}")
        said = str(error).removeprefix("Error reading SSH protocol banner").strip()
        late = isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
        if late or connection.packetizer.handshake_timed_out():
            step = "key exchange" if connection.remote_version else "greeting"
            return failed(hop, "timeout", f"it is connected, but no SSH {step} came within {hop.connect_s:g} s")
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            return from_os_error(hop, error)
        if "Indecipherable" in said:
            return failed(hop, "not_ssh", f"what answers on port {hop.port} does not speak SSH: {said[:120]}")
        return failed(hop, "not_ssh", _HUNG_UP)

    def _authenticate(self, connection: Connection, left: _Keys) -> str | None:
        """The name of the key that opened it; None if the host wants a new connection before it takes more keys."""
        hop = self._hop
        refused_here = 0
        allowed: Sequence[str] = ()
        for name, key in left:
            try:
                more = connection.auth_publickey(hop.user, key)
            except BadAuthenticationType as error:
                allowed = error.allowed_types
                break
            except AuthenticationException:
                refused_here += 1
                if not connection.is_active() and refused_here == 1 and connection.said_goodbye:
                    raise failed(hop, "auth", f"it ended the connection: {connection.said_goodbye}") from None
                if refused_here >= _KEYS_PER_LOGIN or not connection.is_active():
                    return None
                continue
            except (SSHException, EOFError, OSError) as error:
                if refused_here and not connection.is_active():
                    return None
                raise failed(hop, "auth", f"it hung up during the login: {connection.said_goodbye or error}") from None
            if more:
                raise failed(hop, "auth", f"it asks for more than a key: {', '.join(more)}")
            return name
        ways = f"; it would take {', '.join(allowed)}" if allowed else ""
        raise failed(hop, "auth", f"it accepts none of the {left.tried} keys for user {hop.user}{ways}{left.notes()}")


def _family(kind: str) -> str:
    """Host keys of one kind go by several names: `rsa-sha2-512` is how an `ssh-rsa` key signs."""
    return "rsa" if "rsa" in kind else kind


class _Keys:
    """The keys for one host, each loaded when its turn comes; tried once, over as many connections as that takes."""

    def __init__(self, hop: Hop, own_key: Callable[[], Path], first: str | None) -> None:
        self._hop = hop
        self._own_key = own_key
        self._skipped: list[str] = []
        self.tried = 0
        self._iterator = self._candidates()
        self._first = first

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return self

    def __next__(self) -> tuple[str, Any]:
        if self.tried >= _MOST_TRIES:
            raise StopIteration
        found = next(self._iterator)
        self.tried += 1
        return found

    def notes(self) -> str:
        """About keys that could not be tried."""
        return "".join(f"; {each}" for each in self._skipped)

    def _candidates(self) -> Iterator[tuple[str, Any]]:
        hop = self._hop
        files = [*hop.first_keys, "", *hop.keys]
        if self._first in files:
            files.insert(0, files.pop(files.index(self._first)))
        agent = list(self._agent_keys()) if hop.agent else []
        if self._first is not None:
            agent.sort(key=lambda each: each[0] != self._first)
            if agent and agent[0][0] == self._first:
                yield agent.pop(0)
        named = set(hop.first_keys)
        seen: set[bytes] = set()
        for name in files:
            if name not in named and name not in ("", self._first) and not hop.only_keys:
                yield from self._fresh(agent, seen)
                agent = []
            key = self._load(name, agent)
            if key is not None and key.asbytes() not in seen:
                seen.add(key.asbytes())
                yield name, key
        if not hop.only_keys:
            yield from self._fresh(agent, seen)

    @staticmethod
    def _fresh(agent: list[tuple[str, Any]], seen: set[bytes]) -> Iterator[tuple[str, Any]]:
        for name, key in agent:
            if key.asbytes() not in seen:
                seen.add(key.asbytes())
                yield name, key

    def _agent_keys(self) -> Iterator[tuple[str, Any]]:
        with contextlib.suppress(OSError, SSHException):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(self._hop.connect_s)
            sock.connect(str(self._hop.agent))
            agent = AgentSSH()
            agent._connect(sock)
            for key in agent.get_keys():
                yield f"agent:{key.get_base64()[-24:]}", key

    def _load(self, name: str, agent: Sequence[tuple[str, Any]]) -> Any:
        """A key file; `""` is the installation's own. One that is locked may lie open in the agent."""
        path = Path(name) if name else self._own_key()
        try:
            return paramiko.PKey.from_path(path)
        except (FileNotFoundError, NotADirectoryError):
            if name in self._hop.first_keys:
                self._skipped.append(f"the key file {path} does not exist")
            return None
        except (TypeError, SSHException, ValueError, OSError) as error:
            public = _public_half(path)
            for _, key in agent:
                if public and key.get_base64() == public:
                    return key
            locked = isinstance(error, TypeError) or "encrypted" in str(error).lower() or "password" in str(error)
            why = "is locked by a passphrase: `ssh-add` it" if locked else "can't be used: it holds no private key"
            if isinstance(error, OSError):
                why = f"can't be read: {error.strerror}"
            self._skipped.append(f"the key file {path} {why}")
            return None


def _public_half(path: Path) -> str | None:
    with contextlib.suppress(OSError, IndexError, UnicodeError):
        return path.with_name(f"{path.name}.pub").read_text(encoding="ascii").split()[1]
    return None


__all__ = ["Connector", "Full", "Login", "from_os_error"]
