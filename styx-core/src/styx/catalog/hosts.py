"""Where hosted catalogs lie: a folder, one file, or an address.

A folder holds `<cloud>/vms.csv`, or versions of that (`v8/<cloud>/vms.csv`, also under `catalogs/`); of several
versions each cloud's newest counts. One cloud's own folder will do as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from styx.catalog.cache import CacheFile, FileFacts
from styx.catalog.hosted import adapted
from styx.errors import CatalogRefused, NotFound

if TYPE_CHECKING:
    from styx.plugins import Hub

FILE: Final = "vms.csv"
LARGEST_BYTES: Final = 512 << 20
_VERSION: Final = re.compile(r"v(\d+)")
_ADDRESS: Final = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class HostedFile:
    """One cloud's file as it was read."""

    data: bytes
    name: str
    as_of: datetime


def is_address(where: str) -> bool:
    """Whether hosted files are to be fetched rather than opened."""
    return _ADDRESS.match(where) is not None


def load_hosted(file: CacheFile, path: Path, now: datetime) -> FileFacts:
    """Read one hosted file from the disk into the cache.

    Raises:
        CatalogRefused: It can't be used; the cache stays as it was.
    """
    return store(file, read_path(path), now)


def store(file: CacheFile, read: HostedFile, now: datetime) -> FileFacts:
    """Put a hosted file into the cache.

    Raises:
        CatalogRefused: It can't be used; the cache stays as it was.
    """
    done = adapted(read.data, file.cloud, read.name, as_of=read.as_of)
    return file.write(done.rows, "hosted", read.name, now, dropped=done.dropped, repaired=done.repaired)


def read_path(path: Path) -> HostedFile:
    """A file of this machine; true when it was written.

    Raises:
        CatalogRefused: It can't be read.
    """
    try:
        stat = path.stat()
        if stat.st_size > LARGEST_BYTES:
            raise CatalogRefused(f"{path} is larger than any catalog ({stat.st_size} bytes)")
        return HostedFile(path.read_bytes(), str(path), datetime.fromtimestamp(stat.st_mtime, UTC))
    except OSError as error:
        raise CatalogRefused(f"{path} can't be read: {error.strerror}") from None


def read_address(hub: Hub, address: str, now: datetime) -> HostedFile | None:
    """A file of the network, true when its server says it was changed; None when there is none.

    Raises:
        CatalogRefused: The server fails or sends too much.
    """
    import httpx

    factory: Any = hub.context().http
    parts: list[bytes] = []
    size = 0
    try:
        with factory() as client, client.stream("GET", address, follow_redirects=True) as reply:
            if reply.status_code == 404:
                return None
            if reply.status_code != 200:
                raise CatalogRefused(f"{address} answers {reply.status_code} {reply.reason_phrase}")
            for part in reply.iter_bytes():
                size += len(part)
                if size > LARGEST_BYTES:
                    raise CatalogRefused(f"{address} is larger than any catalog")
                parts.append(part)
            changed = reply.headers.get("last-modified")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        words = str(error) or type(error).__name__
        raise CatalogRefused(f"{address} can't be fetched: {words}", hint="check the address and the network") from None
    return HostedFile(b"".join(parts), address, _time(changed) or now)


def find_files(where: Path, cloud: str | None) -> dict[str, Path]:
    """The file of each cloud under a path.

    Raises:
        NotFound: There is none; the message says what was looked for.
    """
    if where.is_file():
        return {cloud or where.parent.name: where}
    if not where.is_dir():
        raise NotFound(f"{where} is neither a folder nor a file")
    if (where / FILE).is_file():
        return {cloud or where.absolute().name: where / FILE}
    newest: dict[str, tuple[int, Path]] = {}
    for path in sorted([*where.glob(f"*/{FILE}"), *where.glob(f"v*/*/{FILE}"), *where.glob(f"catalogs/v*/*/{FILE}")]):
        version = _VERSION.fullmatch(path.parent.parent.name)
        rank = int(version[1]) if version else 0
        name = path.parent.name
        if rank >= newest.get(name, (-1, path))[0]:
            newest[name] = rank, path
    if cloud is not None:
        newest = {name: found for name, found in newest.items() if name == cloud}
    if not newest:
        raise NotFound(
            f"{where} holds no {cloud or '<cloud>'}/{FILE}",
            hint="give the folder that holds one folder per cloud, or one that holds catalogs/vN",
        )
    return {name: path for name, (_, path) in sorted(newest.items())}


def address_of(where: str, cloud: str) -> str:
    """Where a cloud's file is under an address; an address of one CSV file is that file."""
    return where if where.split("?")[0].endswith(".csv") else f"{where.rstrip('/')}/{cloud}/{FILE}"


def clouds_at(clouds: Sequence[str], installed: Sequence[str]) -> list[str]:
    """Clouds to ask an address for when the user named none: an address can't be listed."""
    from styx.catalog.adapters import ADAPTERS

    return list(clouds) or sorted({*ADAPTERS, *installed})


def _time(header: str | None) -> datetime | None:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).astimezone(UTC)
    except (TypeError, ValueError):
        return None
