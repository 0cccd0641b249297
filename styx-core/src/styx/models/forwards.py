"""Ports of this machine that lead to ports of a node, as `ssh -L` writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from styx.errors import UsageError

_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\[\]:\s]+)"
_FORM = re.compile(rf"(?:(?:(?P<bind>{_HOST}):)?(?P<local>\d+):)?(?:(?P<host>{_HOST}):)?(?P<remote>\d+)")


@dataclass(frozen=True)
class PortForward:
    """One forward.

    Attributes:
        bind: Address of this machine to listen on.
        local: Port of this machine; 0 takes a free one.
        host: Name or address as the node knows it.
        remote: Port there.
    """

    local: int
    remote: int
    host: str = "127.0.0.1"
    bind: str = "127.0.0.1"

    def __str__(self) -> str:
        """`bind:local -> host:remote`."""
        return f"{self.bind}:{self.local} -> {self.host}:{self.remote}"


def parse_forward(text: str) -> PortForward:
    """`8080`, `8080:80`, `8080:host:80` or `bind:8080:host:80`.

    Raises:
        UsageError: It is none of these.
    """
    match = _FORM.fullmatch(text.strip())
    ports = [int(match[name]) for name in ("local", "remote") if match[name]] if match else []
    if match is None or not all(port < 65536 for port in ports) or not int(match["remote"]):
        raise UsageError(
            f"{text!r} is not a port to forward", hint="write LOCAL:REMOTE, LOCAL:HOST:REMOTE or one port for both"
        )
    host, bind = ((match[name] or "").strip("[]") for name in ("host", "bind"))
    return PortForward(ports[0], ports[-1], host or "127.0.0.1", bind or "127.0.0.1")
