"""User data for clouds whose machines run cloud-init: the login key, a host key made by us, a script for each boot."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretStr

from styx.driver import Limits, NodeRequest
from styx.errors import UnsupportedError

PER_BOOT_SCRIPT: Final = "/var/lib/cloud/scripts/per-boot/styx.sh"
"""cloud-init runs what lies there late in every boot, the first one included."""
_KEY_MAGIC: Final = b"openssh-key-v1\0"


def cloud_config(
    request: NodeRequest,
    *,
    limit_bytes: int = Limits.model_fields["user_data_bytes"].default,
    private_files: Mapping[str, SecretStr] | None = None,
) -> str:
    """What a machine that runs cloud-init needs of a request: `#cloud-config` and JSON, which is YAML.

    The host key replaces all keys of the image, so that the machine is known before its first answer. The result holds
    that key's private half: it is handed to the cloud, and never logged. Empty when the request asks for none of it.

    Args:
        request: Its `ssh_public_key`, `host_key` and `boot_script` are read.
        limit_bytes: The cloud's limit, before any encoding that the cloud asks for.
        private_files: Written at the first boot, by path, for root alone.

    Raises:
        UnsupportedError: It is longer than that.
    """
    config: dict[str, Any] = {}
    if request.ssh_public_key:
        config["ssh_authorized_keys"] = [request.ssh_public_key.strip()]
    if request.host_key is not None:
        private = request.host_key.get_secret_value().strip() + "\n"
        config["ssh_deletekeys"] = True
        config["ssh_keys"] = {"ed25519_private": private, "ed25519_public": public_half(request.host_key)}
    files = []
    if request.boot_script:
        files.append(_file(PER_BOOT_SCRIPT, "0755", request.boot_script))
    files += [_file(path, "0600", secret.get_secret_value()) for path, secret in (private_files or {}).items()]
    if files:
        config["write_files"] = files
    if not config:
        return ""
    text = f"#cloud-config\n{json.dumps(config, separators=(',', ':'))}\n"
    if len(text.encode()) > limit_bytes:
        raise UnsupportedError(f"the user data of {request.cluster} has {len(text.encode())} bytes, over {limit_bytes}")
    return text


def _file(path: str, permissions: str, content: str) -> dict[str, str]:
    return {"path": path, "permissions": permissions, "owner": "root:root", "content": content}


def public_half(private: SecretStr) -> str:
    """The public line (`ssh-ed25519 AAAA...`) of an unencrypted OpenSSH private key, without any SSH library.

    Raises:
        ValueError: It is no such key. The message holds nothing of it.
    """
    lines = private.get_secret_value().strip().splitlines()
    try:
        raw = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not an OpenSSH private key") from None
    if not raw.startswith(_KEY_MAGIC):
        raise ValueError("not an OpenSSH private key")
    at = len(_KEY_MAGIC)
    for _ in ("cipher", "key derivation", "its options"):
        _, at = _field(raw, at)
    blob, _ = _field(raw, at + 4)  # after the number of keys, which is 1
    kind, _ = _field(blob, 0)
    return f"{kind.decode('ascii')} {base64.b64encode(blob).decode('ascii')}"


def _field(raw: bytes, at: int) -> tuple[bytes, int]:
    """A length-prefixed field of the SSH wire format, and where the next one begins."""
    end = at + 4 + int.from_bytes(raw[at : at + 4], "big")
    if len(raw) < at + 4 or end > len(raw):
        raise ValueError("not an OpenSSH private key")
    return raw[at + 4 : end], end
