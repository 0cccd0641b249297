"""Which host keys are believed: pinned ones, the user's known_hosts, and those trusted on first use."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable
from pathlib import Path

from styx.atomic import write_atomically
from styx.errors import DeadlineExceeded, LocalIOError
from styx.transport.ssh.keys import KeyFolders, public_only
from styx.transport.ssh.target import Hop

_SHARED = "shared"
_LOCK_S = 30.0
_LAST_COMMA = re.compile(r",\s*\}\s*$")


class Trust:
    """Host keys of this installation, in one small file per cluster, and one for hosts outside of clusters."""

    def __init__(self, folders: KeyFolders, known_hosts: Path, say: Callable[[str], None]) -> None:
        """`say` is told when a key is trusted on first use, once per cluster."""
        self._folders = folders
        self._known_hosts = known_hosts
        self._say = say
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def expected(self, hop: Hop, scope: str | None) -> list[str]:
        """The keys (`type base64`) of which one must be shown; none when the next key seen is to be trusted.

        Args:
            hop: The host.
            scope: `<cluster key>/<rank>` for a node; None for any other host.
        """
        if hop.pinned:
            return [public_only(hop.pinned)]
        cluster, name = _names(hop, scope)
        if kept := self._load(cluster).get(name):
            return [kept]
        return self._users_own(hop) if scope is None else []

    def remember(self, hop: Hop, scope: str | None, key: str, fingerprint: str) -> None:
        """Keep a key that was trusted on first use."""
        import filelock

        cluster, name = _names(hop, scope)
        path = self._path(cluster)
        try:
            with self._lock, filelock.FileLock(self._folders.lock_path("keys"), timeout=_LOCK_S):
                kept = self._load(cluster)
                kept[name] = key
                write_atomically(path, json.dumps(kept, indent=1, sort_keys=True))
        except filelock.Timeout:
            raise DeadlineExceeded(f"another process held the lock for {path} for {_LOCK_S:g} s") from None
        except OSError as error:
            raise LocalIOError(f"the host key can't be kept in {path}: {error.strerror or error}") from None
        first = cluster not in self._told
        self._told.add(cluster)
        if scope is None:
            self._say(f"the host key of {hop.name} is trusted on first use and kept: {fingerprint}")
        elif first:
            self._say(
                f"this cloud can't say what host keys its machines have: those of {cluster} are trusted on first use "
                f"and kept (node {name}: {fingerprint})"
            )

    def forget(self, cluster: str) -> None:
        """See the function `forget`."""
        with self._lock:
            forget(self._folders, cluster)
            self._told.discard(cluster)

    def where(self, hop: Hop, scope: str | None) -> str:
        """The file that a changed key would have to be removed from."""
        cluster, name = _names(hop, scope)
        if scope is None and name not in self._load(cluster):
            return str(self._known_hosts)
        return str(self._path(cluster))

    def _path(self, cluster: str) -> Path:
        return _file(self._folders, cluster)

    def _load(self, cluster: str) -> dict[str, str]:
        path = self._path(cluster)
        try:
            # Whoever has removed the last line, as the hint of `login` says, leaves a comma.
            value = json.loads(_LAST_COMMA.sub("}", path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise LocalIOError(
                f"the file of known host keys {path} can't be read: {error}",
                hint="remove it to trust the hosts anew",
            ) from None
        return {str(name): str(key) for name, key in value.items()} if isinstance(value, dict) else {}

    def _users_own(self, hop: Hop) -> list[str]:
        from paramiko.hostkeys import HostKeyEntry, HostKeys, InvalidHostKey
        from paramiko.ssh_exception import SSHException

        try:
            lines = self._known_hosts.read_text(encoding="utf-8", errors="replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:  # to go on would be to trust whoever answers
            raise LocalIOError(f"{self._known_hosts} can't be read: {error.strerror or error}") from None
        address = hop.host if hop.port == 22 else f"[{hop.host}]:{hop.port}"
        found: list[str] = []
        for line in lines:
            one = HostKeys()  # for each line: one that paramiko can't read must not hide those after it
            with contextlib.suppress(SSHException, InvalidHostKey, ValueError):
                if (entry := HostKeyEntry.from_line(line.strip())) is None:
                    continue
                for name in entry.hostnames:
                    one.add(name, entry.key.get_name(), entry.key)
                for name in dict.fromkeys((hop.known_as or hop.name, address)):
                    found += [f"{kind} {key.get_base64()}" for kind, key in (one.lookup(name) or {}).items()]
        return list(dict.fromkeys(found))


def forget(folders: KeyFolders, cluster: str) -> None:
    """Forget the keys of a cluster's nodes: it is gone, or its machines were made anew. Idempotent."""
    with contextlib.suppress(OSError):
        _file(folders, cluster).unlink(missing_ok=True)


def _file(folders: KeyFolders, cluster: str) -> Path:
    return folders.key_path(f"known-{cluster}.json")


def _names(hop: Hop, scope: str | None) -> tuple[str, str]:
    """File and entry of a host."""
    if scope is None:
        return _SHARED, f"[{hop.known_as or hop.host}]:{hop.port}"
    cluster, _, rank = scope.rpartition("/")
    return cluster, rank
