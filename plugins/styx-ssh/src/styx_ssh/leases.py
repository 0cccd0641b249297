"""The record of a lease, as it lies on a host, and this installation's own book of what it may have leased."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from styx.plugin import Ssh, Value

_SETTLED_S = 300.0
"""A note in the book may be this much older than the lease it announces."""


_WORD = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What becomes a part of paths and patterns on the host, where any user may have written the lease."""


class Lease(Value):
    """Who has a host. Readable by every user of the host, so nothing in it is secret."""

    version: int = 1
    store: str = Field(pattern=_WORD)
    cluster: str = Field(pattern=_WORD)
    rank: int = Field(ge=0)
    token: str = Field(pattern=_WORD)
    owner: str
    since: datetime
    pool: str
    host: str
    instance_type: str
    usd_per_hour: float = 0.0
    ports: tuple[int, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    private_ip: str | None = None
    keep_workdir: bool = True
    """Whether `~/sky_workdir` was there before us."""

    def line(self) -> bytes:
        """As it is written on the host: one line, `"name":"value"` without spaces, which the scripts look for."""
        return json.dumps(self.model_dump(mode="json"), separators=(",", ":")).encode("ascii") + b"\n"

    @property
    def holder(self) -> str:
        """In words."""
        return f"held by {self.owner} for {self.cluster} since {self.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


class Foreign(Value):
    """A lease file that is no lease of ours: damaged, or made by something else."""

    text: str

    @property
    def holder(self) -> str:
        """In words."""
        return f"held by somebody whose lease cannot be read ({self.text[:60]!r})"


def parse(text: str) -> Lease | Foreign:
    """A lease from a line that any user of the host may have written."""
    try:
        return Lease.model_validate_json(text)
    except ValidationError:
        return Foreign(text=text[:200])


class Note(Value):
    """One page of the book: a host that we have leased, or were about to."""

    lease: Lease
    reach: Ssh
    written_at: float


class Book:
    """Notes, one file for each host, written before the host is asked: so that a host that is away is not forgotten."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "ssh" / "leases"

    def write(self, note: Note) -> None:
        """Keep a note.

        Raises:
            OSError: It cannot be kept; then the host must not be leased.
        """
        path = self._path(note.lease.pool, note.lease.host)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_name(f".{uuid.uuid4().hex}")
        new.write_text(note.model_dump_json(), encoding="utf-8")
        os.replace(new, path)

    def notes(self, pool: str, store: str) -> list[Note]:
        """What we may hold in a pool; damaged pages are skipped."""
        found = []
        for path in self._files(pool):
            with contextlib.suppress(OSError, ValidationError, ValueError):
                note = Note.model_validate_json(path.read_text(encoding="utf-8"))
                if note.lease.store == store and note.lease.pool == pool:
                    found.append(note)
        return found

    def strike(self, lease: Lease) -> None:
        """The host is seen to be free of this lease."""
        path = self._path(lease.pool, lease.host)
        with contextlib.suppress(OSError, ValidationError, ValueError):
            if Note.model_validate_json(path.read_text(encoding="utf-8")).lease.token == lease.token:
                path.unlink()

    def settle(self, note: Note, now: float) -> None:
        """Like `strike`, unless the note is so fresh that its lease may be on its way."""
        if now - note.written_at > _SETTLED_S:
            self.strike(note.lease)

    def _path(self, pool: str, host: str) -> Path:
        return self._folder / urllib.parse.quote(pool, safe="") / f"{urllib.parse.quote(host, safe='')}.json"

    def _files(self, pool: str) -> Iterable[Path]:
        try:
            return sorted(self._path(pool, "any").parent.glob("*.json"))
        except OSError:
            return ()
