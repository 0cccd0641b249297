"""The contract of object stores: what a bucket's plugin answers. Nothing here talks to a network.

A store is found by the scheme of its URLs (`s3://`, `gs://`, ...) through the entry-point group `styx.stores` or the
hook `styx_store`, and built with a `Context`, which is all that it may read credentials and settings from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from styx.driver import Value

AttachMode = Literal["copy", "mount", "mount_cached"]
"""`copy` fetches once; `mount` reads and writes through; `mount_cached` writes to local disk and uploads behind."""


class ObjectInfo(Value):
    """One object of a listing."""

    url: str
    """The whole URL."""
    size_bytes: int
    """Its size."""
    modified_at: datetime | None = None
    """When it was last written."""
    etag: str | None = None
    """The store's own fingerprint; equal ones mean equal content."""


class AttachPlan(Value):
    """How a node attaches a bucket. Runs on the node, step by step; a failing step fails the attachment."""

    tool: str
    """The program that does it, such as `rclone`, for messages."""
    install: tuple[tuple[str, ...], ...] = ()
    """Commands that install the tool when it is missing. Idempotent."""
    attach: tuple[tuple[str, ...], ...]
    """Commands that attach; `{target}` stands for the folder on the node. Never contain credentials."""
    flush: tuple[tuple[str, ...], ...] = ()
    """Commands that return once every write is in the bucket; run before a job counts as done, before stop and down."""
    detach: tuple[tuple[str, ...], ...] = ()
    """Commands that take it away. Absent is not an error."""
    secret_env: dict[str, SecretStr] = Field(default_factory=dict)
    """Scoped, expiring credentials for these commands' environment; sent over the transport, never stored."""
    expires_at: datetime | None = None
    """When the credentials end: a new plan is asked for before that."""


class ObjectStore(ABC):
    """Objects under URLs of one scheme. Never waits for a user, never retries; safe to call from several threads.

    Raises of every method: the `CloudError`s of `styx.errors`, with the vendor's code and message.
    """

    scheme: ClassVar[str]
    """Of its URLs, without `://`; equal to the entry point's name."""

    @abstractmethod
    def exists(self, url: str) -> bool:
        """Whether there is an object, or for a URL without a path a bucket, that these credentials can see."""

    @abstractmethod
    def list(self, url: str) -> Iterator[ObjectInfo]:
        """All objects whose URL starts with `url`, page by page as they are consumed, in the store's order."""

    @abstractmethod
    def put(self, source: Path, url: str) -> ObjectInfo:
        """Upload one file, replacing what is there; visible whole or not at all."""

    @abstractmethod
    def get(self, url: str, target: Path) -> None:
        """Download one object to a file; the folder exists, and a failed download leaves no file.

        Raises:
            NotFound: There is no such object.
        """

    @abstractmethod
    def delete(self, url: str) -> None:
        """Delete one object. One that is absent already is not an error."""

    @abstractmethod
    def attach(self, url: str, mode: AttachMode) -> AttachPlan:
        """How a node attaches the bucket or folder at `url`.

        Raises:
            UnsupportedError: This store can't be attached in that mode.
        """
