"""`connect`: the socket of the agent on this process's standard input and output."""

from __future__ import annotations

import os
import sys
import threading

from styx_agent import client
from styx_agent.faults import AgentFailure
from styx_agent.lean import socket

_CHUNK_BYTES = 1 << 16
_CONNECT_S = 10.0
_LAST_ANSWERS_S = 2.0


def open_socket(path: str) -> socket.socket | None:
    """A connection to the agent, or None when nobody listens."""
    try:
        stream = client.open_socket(path, _CONNECT_S)
    except (ConnectionError, FileNotFoundError):
        return None
    except OSError as error:
        raise AgentFailure("cannot reach the agent's socket %s: %s" % (path, error.strerror or error)) from error
    stream.settimeout(None)
    return stream


def bridge(stream: socket.socket) -> int:
    """Carry bytes both ways until either side closes; answers on their way get a moment."""
    output_ended = threading.Event()

    def to_agent() -> None:
        try:
            while True:
                data = os.read(sys.stdin.fileno(), _CHUNK_BYTES)
                if not data:
                    break
                stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        output_ended.wait(_LAST_ANSWERS_S)
        output_ended.set()

    def to_client() -> None:
        try:
            while True:
                data = stream.recv(_CHUNK_BYTES)
                if not data:
                    break
                view = memoryview(data)
                while view:
                    view = view[os.write(sys.stdout.fileno(), view) :]
        except OSError:
            pass
        output_ended.set()

    for pump in (to_agent, to_client):
        threading.Thread(target=pump, name=pump.__name__, daemon=True).start()
    output_ended.wait()
    return 0
