"""Why a host was not reached, in words that say what to do."""

from __future__ import annotations

import errno
from typing import Literal

from styx.driver import SshFailed
from styx.transport.ssh.target import Hop

Reason = Literal["dns", "refused", "timeout", "no_route", "proxy", "not_ssh", "host_key", "auth", "lost"]

HINTS: dict[Reason, str] = {
    "dns": "check the name, or give the host's address; `HostName` in ~/.ssh/config works too",
    "refused": "the machine answers, but nothing listens on that port: it may still be booting, its SSH server may be "
    "down, or the port is another one",
    "timeout": "the machine is off or hung, or a firewall drops the packets: check its state, its security group and "
    "whether it needs a VPN or a jump host",
    "no_route": "this machine has no way to that network: check its own connection, a VPN, or whether a private "
    "address needs a jump host",
    "proxy": "the way there failed before the host itself was asked: try the jump host or the proxy command alone",
    "not_ssh": "something else listens there: check the port, or try again when the machine has booted",
    "host_key": "either the machine was made anew, or somebody is in between",
    "auth": "check the user name, and that the machine has the public key; `ssh-add -l` lists the agent's keys",
    "lost": "the machine was stopped or restarted, or the network between was cut; `styx status --refresh` asks the "
    "cloud",
}
"""What to do about each reason."""

_NO_ROUTE = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.EADDRNOTAVAIL, errno.EACCES}
)


def failed(hop: Hop, reason: Reason, what: str, *, hint: str | None = None) -> SshFailed:
    """The error for one host."""
    name = str(hop) if hop.name in (hop.host, "") else f"{hop.name} ({hop})"
    return SshFailed(f"cannot reach {name}: {what}", reason, hint=hint or HINTS[reason])


def lost(hop: Hop, what: str) -> SshFailed:
    """The error for a login that was there."""
    return SshFailed(f"the connection to {hop} was lost: {what}", "lost", hint=HINTS["lost"])


def from_os_error(hop: Hop, error: OSError) -> SshFailed:
    """Why a connection was not made."""
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return failed(hop, "timeout", f"no answer within {hop.connect_s:g} s")
    if isinstance(error, ConnectionRefusedError):
        return failed(hop, "refused", f"port {hop.port} refuses connections")
    if error.errno in _NO_ROUTE:
        return failed(hop, "no_route", (error.strerror or str(error)).lower())
    return failed(hop, "refused", f"{error.strerror or error}")


def from_jump(hop: Hop, jump: Hop, said: str) -> SshFailed:
    """Why a jump host did not connect, by the words its SSH server uses."""
    low = said.lower()
    reasons: tuple[tuple[Reason, tuple[str, ...]], ...] = (
        ("refused", ("refused",)),
        ("timeout", ("timed out", "timeout")),
        ("no_route", ("no route", "unreachable")),
        ("dns", ("name or service", "resolve", "not known", "nodename", "temporary failure")),
    )
    for reason, words in reasons:
        if any(word in low for word in words):
            return failed(hop, reason, f"its jump host {jump} says: {said}")
    return failed(
        hop,
        "proxy",
        f"its jump host {jump} would not connect to it: {said or 'no reason given'}",
        hint=f"the jump host may forbid forwarding (AllowTcpForwarding), or it can't reach {hop.host}:{hop.port}",
    )


def through(hop: Hop, jump: Hop, error: SshFailed) -> SshFailed:
    """A jump host was itself not reached."""
    return SshFailed(f"cannot reach {hop}: its jump host {jump} failed: {error.message}", "proxy", hint=error.hint)
