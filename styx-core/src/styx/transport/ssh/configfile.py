"""An SSH config file of our own, for plain `ssh CLUSTER`, and the one line that brings it into the user's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from styx.atomic import write_atomically
from styx.errors import LocalIOError
from styx.transport.ssh.keys import public_only
from styx.transport.ssh.target import Route

_HEAD = "# Written by Styx whenever a cluster changes; changes made here are lost.\n"


@dataclass(frozen=True)
class Entry:
    """One node.

    Attributes:
        names: What can be typed after `ssh`.
        route: How it is reached, resolved.
        alias: Its unique name in the file of known hosts.
        host_key: Its public key, where it is known.
    """

    names: tuple[str, ...]
    route: Route
    alias: str
    host_key: str | None


def write(folder: Path, entries: Sequence[Entry], own_key: Path) -> Path:
    """Make `config` and `known_hosts` in `folder` say exactly this; returns the config file. Unchanged ones are kept.

    Raises:
        LocalIOError: They can't be written.
    """
    known = "".join(f"{each.alias} {public_only(each.host_key)}\n" for each in entries if each.host_key)
    known_hosts = folder / "known_hosts"
    text = _HEAD + "".join(_block(each, own_key, known_hosts) for each in entries)
    _replace(known_hosts, known)
    return _replace(folder / "config", text)


def _block(entry: Entry, own_key: Path, known_hosts: Path) -> str:
    hop = entry.route[-1]
    lines = [
        f"HostName {hop.host}",
        f"Port {hop.port}",
        f"User {hop.user}",
        f"HostKeyAlias {entry.alias}",
        f"UserKnownHostsFile {_quoted(known_hosts)}",
        f"StrictHostKeyChecking {'yes' if entry.host_key else 'accept-new'}",
        *(f"IdentityFile {_quoted(key)}" for key in hop.first_keys),
        f"IdentityFile {_quoted(own_key)}",
        *(f"IdentityFile {_quoted(key)}" for key in hop.keys if Path(key).is_file()),
        f"ServerAliveInterval {hop.alive_s:g}",
        f"ServerAliveCountMax {hop.alive_count}",
    ]
    if hop.only_keys:
        lines.append("IdentitiesOnly yes")
    if len(entry.route) > 1:
        # By the names that the user's own file may say more of, such as a key.
        jumps = ",".join(f"{each.user}@{_bracketed(each.name)}:{each.port}" for each in entry.route[:-1])
        lines.append(f"ProxyJump {jumps}")
    elif hop.command:
        lines.append(f"ProxyCommand {hop.command}")
    return f"\nHost {' '.join(entry.names)}\n" + "".join(f"  {line}\n" for line in lines)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _quoted(path: Path | str) -> str:
    return f'"{path}"' if any(part.isspace() for part in str(path)) else str(path)


def include_line(config: Path) -> str:
    """The line for the user's own config file."""
    return f"Include {_quoted(config)}"


def is_included(user_config: Path, config: Path) -> bool:
    """Whether the user's config file has the line, before any of its hosts."""
    try:
        lines = user_config.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return False
    for line in lines:
        words = line.strip().lower()
        if words.startswith(("host ", "match ", "host\t", "match\t")):
            return False
        if words.startswith("include") and str(config) in line:
            return True
    return False


def include(user_config: Path, config: Path) -> None:
    """Put the line at the top of the user's config file, which is otherwise kept byte for byte. Idempotent.

    Raises:
        LocalIOError: It can't be read or written.
    """
    if is_included(user_config, config):
        return
    target = user_config.resolve()
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = target.read_bytes() if target.exists() else b""
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        write_atomically(target, os.fsencode(f"{include_line(config)}\n\n") + before, mode=mode)
    except OSError as error:
        raise LocalIOError(
            f"{user_config} can't be changed: {error.strerror or error}",
            hint=f"put this line at its top by hand: {include_line(config)}",
        ) from None


def _replace(path: Path, text: str) -> Path:
    try:
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise LocalIOError(f"the file {path} can't be written: {error.strerror or error}") from None
    return path
