"""The client's side of a node's agent: one connection, and one that heals."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from styx.errors import (
    DeadlineExceeded,
    InternalError,
    LocalIOError,
    NotFound,
    ProtocolMismatch,
    StyxError,
    Unreachable,
    WrongState,
)
from styx.transport.agentfile import AgentFile
from styx.transport.base import (
    CANNOT_WRITE,
    MISSING_FILE,
    ROOM,
    Channel,
    NodeGone,
    Transport,
    Unusable,
    write_all,
)
from styx_agent import protocol

_READ_BYTES = 1 << 16
_CLOSE_S = 0.5
_HELLO_S = 8.0
"""How long one line to an agent may stay silent before another is tried."""


class Caller(Protocol):
    """Whatever can ask an agent."""

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """The answer's result; see `styx_agent.protocol.METHODS`."""


@dataclass
class _Waiter:
    done: threading.Event = field(default_factory=threading.Event)
    answer: dict[str, Any] | None = None


class AgentClient:
    """One connection to one agent. Calls from several threads share it; a long poll does not hold up the others."""

    def __init__(self, channel: Channel, who: str) -> None:
        """`who` names the node in messages, such as `rank 0 of styx-hello-abc12301`."""
        self.who = who
        self.greeting: protocol.Hello = {}
        """What the agent said to `hello`."""
        self._channel = channel
        self._ids = itertools.count(1)
        self._waiters: dict[int, _Waiter] = {}
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._read, name="agent-reader", daemon=True),
            threading.Thread(target=self._write, name="agent-writer", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost is not None

    def hello(self, *, timeout_s: float = 20.0) -> protocol.Hello:
        """Agree on a protocol version.

        Raises:
            ProtocolMismatch: There is no common one; says what to do.
        """
        asked = {"versions": list(protocol.VERSIONS), "client": "styx"}
        hello = self.call("hello", asked, timeout_s=timeout_s)
        if hello.get("version") not in protocol.VERSIONS:
            raise _mismatch(self.who, f"its agent answered with protocol version {hello.get('version')!r}")
        self.greeting = cast(protocol.Hello, hello)
        return self.greeting

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Ask and wait for the answer.

        Raises:
            Unreachable: The connection ended before the answer came.
            DeadlineExceeded: No answer within `timeout_s`, which must be longer than the call's own `wait_s`.
            StyxError: What the agent itself answered; see `agent_error`.
        """
        number = next(self._ids)
        line = json.dumps({"id": number, "method": method, "params": dict(params or {})}).encode("ascii") + b"\n"
        if len(line) > protocol.MAX_LINE_BYTES:
            raise LocalIOError(f"a {method} request of {len(line)} bytes is over the agent's limit")
        waiter = _Waiter()
        with self._lock:
            if self._lost is not None:
                raise self._unreachable()
            self._waiters[number] = waiter
        self._outbox.put(line)
        answered = waiter.done.wait(timeout_s)
        with self._lock:
            self._waiters.pop(number, None)
        if waiter.answer is not None:
            return self._result(waiter.answer)
        if answered:
            raise self._unreachable()
        raise DeadlineExceeded(f"{self.who}: the agent did not answer {method} within {timeout_s:g} s")

    def close(self) -> None:
        """End the connection; the agent and its jobs go on. Idempotent."""
        self._lose("the connection was closed")
        self._outbox.put(None)
        self._channel.close()

    def exit_code(self) -> int | None:
        """How the bridge ended, when it has."""
        try:
            return self._channel.wait(1.0)
        except (DeadlineExceeded, Unreachable):
            return None

    def _result(self, answer: dict[str, Any]) -> dict[str, Any]:
        error = answer.get("error")
        if isinstance(error, dict):
            raise agent_error(self.who, str(error.get("code")), str(error.get("message")))
        result = answer.get("result")
        return result if isinstance(result, dict) else {}

    def _unreachable(self) -> Unreachable:
        return Unreachable(f"{self.who}: {self._lost}", hint="`styx status --refresh` asks the cloud about the node")

    def _read(self) -> None:
        pending = bytearray()
        reason = "the agent's connection ended"
        try:
            while data := self._channel.stdout.read(_READ_BYTES):
                pending += data
                if b"\n" in data:
                    *lines, rest = bytes(pending).split(b"\n")
                    pending = bytearray(rest)
                    for line in lines:
                        self._deliver(line)
                elif len(pending) > 2 * protocol.MAX_LINE_BYTES:
                    raise ValueError("an answer is too long")
        except (OSError, ValueError) as error:
            reason = f"the agent's connection broke: {error}"
        if said := self._channel.stderr_tail().strip():
            reason = f"{reason} ({said.splitlines()[-1]})"
        self._lose(reason)

    def _deliver(self, line: bytes) -> None:
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise ValueError("an answer is no JSON object")
        with self._lock:
            waiter = self._waiters.get(answer.get("id", 0))
        if waiter is not None:
            waiter.answer = answer
            waiter.done.set()

    def _write(self) -> None:
        try:
            while (line := self._outbox.get()) is not None:
                write_all(self._channel.stdin, line)
        except (OSError, ValueError):
            return  # the reader sees the end of the same connection and says why

    def _lose(self, reason: str) -> None:
        with self._lock:
            if self._lost is None:
                self._lost = reason
            waiters = list(self._waiters.values())
        for waiter in waiters:
            waiter.done.set()


def agent_error(who: str, code: str, message: str) -> StyxError:
    """The error class for an agent's error code."""
    said = f"{who}: {message}"
    if code == protocol.NOT_FOUND:
        return NotFound(said)
    if code == protocol.WRONG_RANK:
        return WrongState(said)
    if code == protocol.DISK_FULL:
        return LocalIOError(said, hint="free some space on the node, then try again")
    if code in (protocol.VERSION_MISMATCH, protocol.UNKNOWN_METHOD):
        return _mismatch(who, message)
    return InternalError(said, hint="this is a bug in Styx; the agent's own log is agent.out in its state folder")


def _mismatch(who: str, what: str) -> ProtocolMismatch:
    versions = ", ".join(str(version) for version in protocol.VERSIONS)
    return ProtocolMismatch(
        f"{who}: {what}; this client speaks {versions}",
        hint="the node was started by another version of Styx: use that version, or `styx stop` and `styx start` the "
        "cluster to give it this version's agent",
    )


class AgentConnection:
    """An agent's connection that heals: a call whose connection broke is made again on a new one.

    Every method of the protocol may be repeated (`job.submit` carries a token), except `shutdown`: see `shutdown`.
    """

    def __init__(self, connect: Callable[[], AgentClient], who: str, *, patience_s: float = 30.0) -> None:
        """`connect` opens a connection and says hello; `patience_s` bounds how long a lost one is tried again."""
        self.who = who
        self._connect = connect
        self._patience_s = patience_s
        self._client: AgentClient | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.agent_path = ""
        """Where the agent's zipapp lies on the node."""

    def adopt(self, client: AgentClient) -> None:
        """Begin with a connection that exists already."""
        with self._lock:
            self._client = client

    @property
    def hello(self) -> protocol.Hello:
        """What the agent said when last connected."""
        return self.client().greeting

    def client(self) -> AgentClient:
        """The live connection, opened when there is none."""
        with self._lock:
            if self._closed:
                raise Unreachable(f"{self.who}: the connection was closed")
            if self._client is None or self._client.lost:
                if self._client is not None:
                    self._client.close()
                    self._client = None
                made = self._connect()
                self._keep(made)
            assert self._client is not None
            return self._client

    def _keep(self, made: AgentClient) -> None:
        if self._closed:  # while it was being made
            made.close()
            raise Unreachable(f"{self.who}: the connection was closed")
        self._client = made

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout_s: float = 30.0) -> dict[str, Any]:
        """Ask; on a broken connection connect and ask again, for up to `patience_s`."""
        give_up = time.monotonic() + self._patience_s
        pause_s = 0.05
        while True:
            try:
                client = self.client()
                return client.call(method, params, timeout_s=timeout_s)
            except DeadlineExceeded:
                client.close()  # perhaps half open: whoever calls next gets a new one
                raise
            except NodeGone:
                raise
            except Unreachable:
                if self._closed or time.monotonic() + pause_s > give_up:
                    raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 2.0)

    def shutdown(self, *, timeout_s: float = 30.0) -> None:
        """Kill every job and end the agent. A connection lost meanwhile is the answer: it is never opened again."""
        try:
            client = self.client()
        except Unreachable:
            return
        try:
            client.call("shutdown", timeout_s=timeout_s)
        except Unreachable:
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the agent. Idempotent; does not wait for a connection that is being made."""
        self._closed = True
        if not self._lock.acquire(timeout=_CLOSE_S):
            return  # whoever makes the connection closes it
        try:
            client, self._client = self._client, None
        finally:
            self._lock.release()
        if client is not None:
            client.close()


def ensure_agent(
    transport: Transport,
    key: str,
    rank: int,
    agent: AgentFile,
    *,
    anew: bool = True,
    patience_s: float = 30.0,
    start_s: float = 30.0,
) -> AgentConnection:
    """The agent `<key>/<rank>` on the node, installed and started if it is not there, connected and greeted.

    Without `anew` it must have been there before: see `Transport.launch`.

    A warm node costs one command. A new one costs a refused command, one file and one command more, or that one command
    where the transport puts the file with it. An agent that was ended on purpose is started again here, but never by
    the connection healing itself later.

    Raises:
        Unreachable: The node does not answer, or the agent cannot start there; the message carries what it said.
        ProtocolMismatch: The node's agent and this client have no protocol version in common.
    """
    launch = _Launch(transport, key, rank, agent, start_s, anew)
    connection = AgentConnection(launch.connect, launch.who, patience_s=patience_s)
    try:
        connection.adopt(launch.first())
        connection.agent_path = launch.path
    except BaseException:
        connection.close()
        raise
    return connection


class _Launch:
    """The commands that install, start and reach one agent."""

    def __init__(self, transport: Transport, key: str, rank: int, agent: AgentFile, start_s: float, anew: bool) -> None:
        self.who = f"rank {rank} of {key}"
        self._transport = transport
        self._agent = agent
        self._name = (key, rank)
        self._start_s = start_s
        self._anew = anew
        self._identity = ("--key", key, "--rank", str(rank), "--timeout", f"{start_s:g}")

    @property
    def path(self) -> str:
        """Where the program lies on the node."""
        return f"{self._transport.agent_state}/{self._agent.name}"

    def _channel(self, verb: str, *, anew: bool) -> Channel:
        return self._transport.launch(self._agent, verb, self._identity, anew=anew)

    def connect(self, *, anew: bool = False) -> AgentClient:
        """Reach the agent, revived by the node itself if it died; where it was removed, only begun `anew`.

        A line that stays silent for a while is replaced: it may be half open, and another one is cheap.
        """
        deadline = time.monotonic() + self._start_s
        while True:
            client = AgentClient(self._channel("connect", anew=anew), self.who)
            left_s = max(0.1, deadline - time.monotonic())
            try:
                hello = client.hello(timeout_s=min(left_s, _HELLO_S))
                break
            except DeadlineExceeded:
                client.close()
                if left_s <= _HELLO_S:
                    raise
            except Unreachable as error:
                code = client.exit_code()
                client.close()
                if code == CANNOT_WRITE:
                    raise Unusable(error.message, hint=ROOM) from error
                raise _NotUp(error, code) from error
            except BaseException:
                client.close()
                raise
        if (hello.get("key"), hello.get("rank")) != self._name:
            client.close()
            raise WrongState(f"{self.who}: another agent answered: {hello.get('key')}/{hello.get('rank')}")
        return client

    def first(self) -> AgentClient:
        """Reach the agent, whatever it takes: its file, then its start."""
        try:
            return self.connect(anew=self._anew)
        except _NotUp as failure:
            if failure.bridge_code == MISSING_FILE:
                self._transport.put(self._agent.read_for(self._transport.code_magic), self.path, mode=0o600)
        try:
            return self.connect(anew=self._anew)
        except _NotUp as failure:
            if failure.bridge_code is None:
                raise
        self._start()
        return self.connect(anew=self._anew)

    def _start(self) -> None:
        """Also one that was ended on purpose."""
        channel = self._channel("start", anew=self._anew)
        watchdog = threading.Timer(self._start_s + 10.0, channel.close)
        watchdog.daemon = True
        watchdog.start()
        try:
            channel.stdin.close()
            while channel.stdout.read(_READ_BYTES):
                pass  # its hello, which `connect` asks for again
            if channel.wait(self._start_s + 10.0):
                said = channel.stderr_tail().strip().splitlines() or ["it said nothing"]
                raise Unreachable(f"{self.who}: the agent did not start: {said[-1]}")
        finally:
            watchdog.cancel()
            channel.close()


class _NotUp(Unreachable):
    """The bridge ended before the agent said hello."""

    def __init__(self, error: Unreachable, exit_code: int | None) -> None:
        super().__init__(error.message, hint=error.hint)
        self.bridge_code = exit_code
