"""Key pairs: one that opens all nodes of this installation, and one per cluster by which its nodes are known."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from styx.atomic import write_atomically
from styx.errors import DeadlineExceeded, LocalIOError

LOGIN_KEY = "id_ed25519"
"""File name of the key that opens nodes."""
_LOCK_S = 30.0


class KeyFolders(Protocol):
    """What is needed of `styx.state.store.Folders`."""

    def key_path(self, name: str) -> Path:
        """`$STYX_HOME/keys/<name>`."""

    def lock_path(self, name: str) -> Path:
        """`$STYX_HOME/locks/<name>.lock`."""


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key pair in OpenSSH's format.

    Attributes:
        path: The private key's file, mode 0600; the public half lies beside it, with `.pub`.
        public: `ssh-ed25519 AAAA... comment`, as `authorized_keys` and `NodeRequest.ssh_public_key` take it.
    """

    path: Path
    public: str

    def private(self) -> SecretStr:
        """The private half as text, for `NodeRequest.host_key`.

        Raises:
            LocalIOError: The file can't be read.
        """
        try:
            return SecretStr(self.path.read_text(encoding="ascii"))
        except OSError as error:
            raise LocalIOError(f"the key {self.path} can't be read: {error.strerror}") from None


def login_key(folders: KeyFolders) -> KeyPair:
    """The key pair that opens every node of this installation; made when there is none.

    Raises:
        LocalIOError: It can't be made or read.
    """
    return _pair(folders, LOGIN_KEY, "styx")


def host_key(folders: KeyFolders, cluster: str) -> KeyPair:
    """The host key pair of a cluster (by its key), which its nodes are given at creation; made when there is none.

    Raises:
        LocalIOError: It can't be made or read.
    """
    return _pair(folders, f"host-{cluster}", cluster)


def known_host_key(folders: KeyFolders, cluster: str) -> KeyPair | None:
    """The host key pair of a cluster, if one was made.

    Raises:
        LocalIOError: It can't be read.
    """
    return _read(folders.key_path(f"host-{cluster}"))


def forget_host_key(folders: KeyFolders, cluster: str) -> None:
    """Remove a cluster's host key pair, once the cluster is gone. Idempotent."""
    path = folders.key_path(f"host-{cluster}")
    for each in (path, _beside(path)):
        with contextlib.suppress(OSError):
            each.unlink(missing_ok=True)


def public_only(line: str) -> str:
    """A public key line without its comment: what two equal keys have in common."""
    return " ".join(line.split()[:2])


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _pair(folders: KeyFolders, name: str, comment: str) -> KeyPair:
    path = folders.key_path(name)
    found = _read(path)
    if found is not None:
        return found
    import filelock

    try:
        with filelock.FileLock(folders.lock_path("keys"), timeout=_LOCK_S):
            return _read(path) or _make(path, comment)
    except filelock.Timeout:
        raise DeadlineExceeded(f"another process held the lock for {path} for {_LOCK_S:g} s") from None
    except OSError as error:
        raise LocalIOError(
            f"the key {path} can't be made: {error.strerror or error}",
            hint="make the folder writable, free some space, or set STYX_HOME to another folder",
        ) from None


def _read(path: Path) -> KeyPair | None:
    """The pair on disk; the public half is derived again where its file is missing."""
    try:
        return KeyPair(path, _beside(path).read_text(encoding="ascii").strip()) if path.is_file() else None
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise LocalIOError(f"the key {_beside(path)} can't be read: {error}") from None
    from cryptography.hazmat.primitives import serialization

    try:
        private = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise LocalIOError(
            f"the key {path} can't be read: {error}",
            hint="put back the file from a backup; without it Styx can't log in to machines that exist",
        ) from None
    encoded = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = f"{encoded.decode('ascii')} styx"
    write_atomically(_beside(path), f"{public}\n", mode=0o644, durable=True)
    return KeyPair(path, public)


def _make(path: Path, comment: str) -> KeyPair:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    encoded = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    public = f"{encoded.decode('ascii')} {comment}"
    write_atomically(_beside(path), f"{public}\n", mode=0o644, durable=True)
    write_atomically(path, private, durable=True)  # last: a pair counts as made when its private half is there
    return KeyPair(path, public)
