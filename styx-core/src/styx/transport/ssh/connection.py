"""Paramiko's connection, mended: silence is noticed, refusals keep their words, closed channels stay silent.

Why the last one: OpenSSH's server ends a whole connection, with all that runs on it, when it gets data or an end of
input for a channel that it has forgotten. Paramiko decides under a lock to send such a message, but sends it outside
of the lock; meanwhile its reading thread may have answered the server's close. With many short commands on one login
that race is lost every few hundred commands. `Gate` makes "is it closed? then send" one step.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from typing import Any

import paramiko
from paramiko import common
from paramiko.packet import Packetizer

WINDOW_BYTES = 16 << 20
"""How much a node may send before we have read it: bounds throughput by window / round trip."""
PACKET_BYTES = 1 << 15
_READ_S = 0.25

logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # it logs what it raises, with tracebacks
logging.getLogger("paramiko").propagate = False


class Packets(Packetizer):  # type: ignore[misc] # paramiko has no types
    """Knows when the other side last said something; asks after a silence, and gives up when no answer comes."""

    # New keys in the middle of a transfer gain nothing with AES-GCM (good for 64 GiB), and paramiko can stall there.
    REKEY_BYTES = 1 << 35
    REKEY_PACKETS = 1 << 30

    def __init__(self, socket: Any) -> None:
        super().__init__(socket)
        self.heard_at = time.monotonic()
        self.gave_up_after_s: float | None = None
        self._ask: Any = None
        self._asked_at = 0.0
        self._alive_s = 0.0
        self._count = 1
        self._writers = 0

    def watch(self, ask: Any, alive_s: float, count: int) -> None:
        """From now on: `ask` after `alive_s` seconds of silence, give up after `count` such intervals."""
        self.heard_at = time.monotonic()
        self._ask, self._alive_s, self._count = ask, alive_s, count

    def read_message(self) -> Any:
        """The next message; only the reading thread calls it."""
        found = super().read_message()
        self.heard_at = time.monotonic()
        return found

    def send_message(self, data: Any) -> None:
        """Send one message."""
        self._writers += 1  # a hint: a writer that hangs is as good as an unanswered question
        try:
            super().send_message(data)
        finally:
            self._writers -= 1

    def close(self) -> None:
        """Let go of the way, which may be a channel of another login that was lost: its thread must end quietly."""
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
            super().close()

    def _check_keepalive(self) -> None:
        """Called by the reading thread whenever it has waited in vain for a moment."""
        if self._ask is None or not self._alive_s:
            return
        now = time.monotonic()
        if now - self.heard_at < self._alive_s:
            return
        if self._asked_at <= self.heard_at:
            self._asked_at = now
            if self._writers <= 0:
                self._ask()
        elif now - self._asked_at > self._alive_s * self._count:
            self.gave_up_after_s = now - self.heard_at
            raise EOFError


class Refused(Exception):
    """The other side would not open a channel; its words."""


class Connection(paramiko.Transport):  # type: ignore[misc] # paramiko has no types
    """One SSH connection."""

    _active_check_timeout = _READ_S
    _preferred_ciphers = (
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        *(name for name in paramiko.Transport._preferred_ciphers if name.endswith("-ctr")),
    )
    _preferred_kex = tuple(
        sorted(paramiko.Transport._preferred_kex, key=lambda name: not name.startswith("curve25519-"))
    )

    def __init__(self, sock: Any) -> None:
        super().__init__(
            sock,
            default_window_size=WINDOW_BYTES,
            default_max_packet_size=PACKET_BYTES,
            packetizer_class=Packets,
        )
        self.said_goodbye: str | None = None
        self._refusals: dict[int, str] = {}
        self._channel_handler_table: dict[int, Any] = {
            **paramiko.Transport._channel_handler_table,
            common.MSG_CHANNEL_REQUEST: _channel_request,
        }

    def watch(self, alive_s: float, count: int) -> None:
        """Notice a lost connection within `alive_s * (count + 1)` seconds, and a moment."""
        self.packetizer.watch(self._ask_if_alive, alive_s, count)

    def open(self, kind: str, timeout_s: float, to: tuple[str, int] | None = None) -> Any:
        """A channel, `session` or (to an address) `direct-tcpip`, that sends through a `Gate`.

        Paramiko's own method mixes up the answers when several are refused at once.

        Raises:
            Refused: In the other side's words.
            TimeoutError: No answer.
            EOFError: The connection ended.
        """
        with self.lock:
            number = self._next_channel()
            channel = paramiko.Channel(number)
            self._channels.put(number, channel)
            self.channel_events[number] = answered = threading.Event()
            self.channels_seen[number] = True
            channel._set_transport(self)
            channel._set_window(WINDOW_BYTES, PACKET_BYTES)
            Gate(self, channel)
        message = paramiko.Message()
        message.add_byte(common.cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        for each in (number, WINDOW_BYTES, PACKET_BYTES):
            message.add_int(each)
        if to is not None:
            for host, port in (to, ("127.0.0.1", 0)):
                message.add_string(host)
                message.add_int(port)
        self._send_user_message(message)
        deadline = time.monotonic() + timeout_s
        while not answered.wait(_READ_S) and self.is_active():
            if time.monotonic() > deadline:
                raise TimeoutError
        if (said := self._refusals.pop(number, None)) is not None:
            raise Refused(said)
        if not channel.active:
            raise EOFError
        return channel

    def _ask_if_alive(self) -> None:
        """By the reading thread: it must not wait for a key exchange, which it would have to read itself."""
        if not self.clear_to_send.is_set():
            return
        message = paramiko.Message()
        message.add_byte(common.cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_message(message)

    def _parse_disconnect(self, m: Any) -> None:
        m.get_int()
        self.said_goodbye = m.get_text()
        m.rewind()
        super()._parse_disconnect(m)

    def _parse_channel_open_failure(self, m: Any) -> None:
        channel, _code, text = m.get_int(), m.get_int(), m.get_text()
        self._refusals[channel] = text
        m.rewind()
        super()._parse_channel_open_failure(m)


def _channel_request(channel: Any, m: Any) -> None:
    """Paramiko drops `exit-signal`: a killed command would have no exit code."""
    kind, _ = m.get_text(), m.get_boolean()
    if kind == "exit-signal":
        name = m.get_text()
        number = getattr(signal, f"SIG{name}", None)
        channel.exit_status = 128 + int(number) if isinstance(number, signal.Signals) else 255
        channel.status_event.set()
        return
    m.rewind()
    m.get_int()  # the channel's number
    channel._handle_request(m)


class Gate:
    """What a channel sends through: its messages in order, and none after its close. See the module's first lines."""

    def __init__(self, connection: Any, channel: Any) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._shut = False
        channel.transport = self

    def _send_user_message(self, message: Any) -> None:
        kind = message.asbytes()[0]
        with self._lock:
            if self._shut:
                return
            self._shut = kind == common.MSG_CHANNEL_CLOSE
            try:
                self._connection._send_user_message(message)
            except (EOFError, OSError, paramiko.SSHException):
                if kind != common.MSG_CHANNEL_WINDOW_ADJUST:  # sent by a read, which has its data already
                    raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
