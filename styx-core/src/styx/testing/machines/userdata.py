"""What a cloud hands to a new machine, read as cloud-init reads it: the part of `#cloud-config` that Styx may use."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

_HEADER = "#cloud-config"
KNOWN = ("ssh_keys", "ssh_authorized_keys", "write_files", "bootcmd", "runcmd")


@dataclass(frozen=True)
class UserData:
    """Orders for the boot of one host.

    Attributes:
        host_private: The host's private key, as OpenSSH writes it.
        host_public: The public half.
        authorized_keys: Of the login user.
        files: As `pid1` takes them.
        bootcmd: Run at each boot, before sshd listens.
        once: Run at the end of the first boot, as root.
        ignored: Keys of the cloud config that are not understood here.
    """

    host_private: str | None = None
    host_public: str | None = None
    authorized_keys: tuple[str, ...] = ()
    files: tuple[dict[str, Any], ...] = ()
    bootcmd: tuple[list[str], ...] = ()
    once: tuple[list[str], ...] = ()
    ignored: tuple[str, ...] = field(default=())


def parse(text: str) -> UserData:
    """Read user data.

    Raises:
        ValueError: It is neither empty, nor a script, nor a cloud config.
    """
    if not text.strip():
        return UserData()
    if text.startswith("#!"):
        path = "/var/lib/cloud/instance/scripts/part-001"
        return UserData(files=(file_order(path, text.encode(), 0o700),), once=([path],))
    if text.split("\n", 1)[0].strip() != _HEADER:
        raise ValueError(f"user data begins with neither `{_HEADER}` nor `#!`: {text[:40]!r}")
    config = yaml.safe_load(text) or {}
    if not isinstance(config, dict):
        raise ValueError(f"cloud config is no mapping: {text[:80]!r}")
    keys = config.get("ssh_keys") or {}
    return UserData(
        host_private=keys.get("ed25519_private"),
        host_public=keys["ed25519_public"].strip() if "ed25519_public" in keys else None,
        authorized_keys=tuple(config.get("ssh_authorized_keys") or ()),
        files=tuple(_written(entry) for entry in config.get("write_files") or ()),
        bootcmd=tuple(_command(entry) for entry in config.get("bootcmd") or ()),
        once=tuple(_command(entry) for entry in config.get("runcmd") or ()),
        ignored=tuple(sorted(set(config) - set(KNOWN))),
    )


def file_order(path: str, content: bytes, mode: int | None = None, **more: Any) -> dict[str, Any]:
    """One file for `pid1` to write; a script is executable unless its mode is given."""
    if mode is None:
        mode = 0o755 if content.startswith(b"#!") else 0o644
    return {"path": path, "content": base64.b64encode(content).decode("ascii"), "mode": mode, **more}


def _command(entry: str | list[str]) -> list[str]:
    return ["/bin/sh", "-c", entry] if isinstance(entry, str) else [str(word) for word in entry]


def _written(entry: Mapping[str, Any]) -> dict[str, Any]:
    content = entry.get("content", "")
    data: bytes = content if isinstance(content, bytes) else str(content).encode()
    encoding = str(entry.get("encoding", "")).lower()
    if "b64" in encoding or "base64" in encoding:
        data = base64.b64decode(data)
    if encoding.startswith("gz"):
        data = gzip.decompress(data)
    mode = int(str(entry.get("permissions", "0644")), 8)
    return file_order(
        entry["path"], data, mode, owner=entry.get("owner", "root:root"), append=bool(entry.get("append"))
    )
