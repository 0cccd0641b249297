"""Files and disks that a task brings along: buckets in `file_mounts`, `volumes`, and volume files of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, field_validator, model_serializer, model_validator

from styx.models.base import AsText, Model, Problem, Problems, collect
from styx.models.infra import Infra
from styx.models.requests import DISK_TIERS, DiskSize
from styx.models.scalars import Flag, ScalarText, Text, choice, duration_s, listed, whole
from styx.models.suggest import did_you_mean, one_of
from styx.units import parse_size_gib

URL_SCHEMES: Final = ("s3", "gs", "r2", "cos", "oci", "nebius", "cw", "vastdata", "hf")
STORES: Final = (
    "s3", "gcs", "azure", "r2", "ibm", "oci", "nebius", "coreweave", "vastdata", "hf", "volume",
)  # fmt: skip
MODES: Final = ("MOUNT", "COPY", "MOUNT_CACHED")
PRESETS: Final = ("MODEL_CHECKPOINT_RO", "MODEL_CHECKPOINT_RW", "DATASET_RO", "DATASET_RW")
ACCESS_MODES: Final = ("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany", "ReadOnlyMany")
VOLUME_TYPES: Final = ("k8s-pvc", "k8s-hostpath", "runpod-network-volume")

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_AZURE_HOST: Final = re.compile(r"[^/]+\.blob\.core\.windows\.net(/|$)")


STORE_CLOUDS: Final = {
    "s3": "aws",
    "gs": "gcp",
    "r2": "cloudflare",
    "oci": "oci",
    "cos": "ibm",
    "nebius": "nebius",
    "cw": "coreweave",
}
"""Whose buckets a URL scheme means."""
_STORE_HOSTS: Final = {".blob.core.windows.net": "azure", ".amazonaws.com": "aws", ".googleapis.com": "gcp"}


def cloud_of_url(url: str) -> str | None:
    """The cloud that a bucket URL points to; None when neither scheme nor host says."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return STORE_CLOUDS.get(parts.scheme) or next(
        (name for end, name in _STORE_HOSTS.items() if host.endswith(end)), None
    )


def is_url(source: str) -> bool:
    """Whether a mount's source is a URL rather than a local path."""
    return _URL.match(source) is not None


def check_source(source: Any) -> str:
    """A local path, or the URL of an object store of the format.

    Raises:
        Problem: It is empty, or a URL of something else.
    """
    if not isinstance(source, str) or not source.strip():
        raise Problem("must be a local path or a bucket URL")
    match = _URL.match(source)
    if match is None:
        return source
    scheme, rest = match[1].lower(), match[2]
    if scheme == "https" and _AZURE_HOST.match(rest):
        return source
    if scheme in ("http", "https"):
        raise Problem(
            "is a web address, which cannot be mounted",
            suggestion="download it in setup; https:// is for *.blob.core.windows.net only",
        )
    if scheme not in URL_SCHEMES:
        near = did_you_mean(scheme, URL_SCHEMES, cutoff=0.5)
        raise Problem(f'has the unknown URL scheme "{scheme}"; use {one_of(URL_SCHEMES)}', suggestion=near)
    if not rest.strip("/"):
        raise Problem("names no bucket", suggestion=f'write "{scheme}://BUCKET/PATH"')
    return source


def check_local(source: Any) -> str:
    """A local path, and nothing else."""
    if is_url(check_source(source)):
        raise Problem("cannot be a URL in a list; only local paths can be joined")
    return str(source)


def _size_text(value: Any) -> str:
    parse_size_gib(value, default_unit="B")
    return str(value)


def _upper(word: str) -> str:
    return word.upper()


SizeText = Annotated[str, BeforeValidator(_size_text)]
Seconds = Annotated[float, BeforeValidator(duration_s())]


class MountCachedConfig(Model):
    """Tuning of the MOUNT_CACHED mode."""

    transfers: Annotated[int, BeforeValidator(whole(at_least=1))] | None = None
    """Uploads at the same time."""
    buffer_size: SizeText | None = None
    """Read-ahead buffer for each open file."""
    vfs_cache_max_size: SizeText | None = None
    """The most disk the cache takes; 10G when unset."""
    vfs_cache_max_age: Seconds | None = None
    """Seconds that an unused file stays in the cache."""
    vfs_read_ahead: SizeText | None = None
    """Bytes read ahead beyond the buffer."""
    vfs_read_chunk_size: SizeText | None = None
    """Size of one ranged read."""
    vfs_read_chunk_streams: Annotated[int, BeforeValidator(whole(at_least=0))] | None = None
    """Ranged reads at the same time."""
    vfs_write_back: Seconds | None = None
    """Seconds after closing a file before it is uploaded; 1 when unset."""
    read_only: Flag | None = None
    """Whether the mount refuses writes."""


class MountConfig(Model):
    """Tuning of the MOUNT mode."""

    read_only: Flag | None = None
    """Whether the mount refuses writes."""
    hf_mount_args: Annotated[tuple[Text, ...], BeforeValidator(listed)] | None = None
    """Further arguments for the Hugging Face mount tool."""


class StorageConfig(Model):
    """Settings of a storage object that depend on its mode or store."""

    mount_cached: MountCachedConfig | None = None
    """For mode MOUNT_CACHED."""
    mount: MountConfig | None = None
    """For mode MOUNT."""
    disk_size: DiskSize | None = None
    """For store `volume`: size in GiB."""
    disk_tier: Annotated[str, BeforeValidator(choice(DISK_TIERS))] | None = None
    """For store `volume`: speed class."""
    storage_type: Annotated[str, BeforeValidator(choice(("network", "instance")))] | None = None
    """For store `volume`: a network disk, or a disk of the instance."""
    attach_mode: Annotated[str, BeforeValidator(choice(("read_only", "read_write")))] | None = None
    """For store `volume`: how it is attached."""


class Storage(Model):
    """A bucket mounted or copied to a path of the node (a mapping under `file_mounts`)."""

    name: Text | None = None
    """The bucket's name; needed when `source` is local, as the bucket is then made."""
    source: str | tuple[str, ...] | None = None
    """A local path or several to upload, or the URL of an existing bucket."""
    store: Annotated[str, BeforeValidator(choice(STORES))] | None = None
    """Which object store to use."""
    persistent: Flag = True
    """Whether the bucket stays after the job."""
    mode: Annotated[Literal["MOUNT", "COPY", "MOUNT_CACHED"], BeforeValidator(choice(MODES, fold=_upper))] = "MOUNT"
    """MOUNT streams, COPY downloads before the job, MOUNT_CACHED writes through a local cache."""
    mount_options: Text | None = None
    """Options for the tool that mounts."""
    type: Annotated[str, BeforeValidator(choice(PRESETS, fold=_upper))] | None = None
    """A preset of mode and tuning for a usual purpose."""
    config: StorageConfig | None = None
    """Tuning."""

    @field_validator("source", mode="before")
    @classmethod
    def _check_sources(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return check_source(value)
        if not value:
            raise Problem("is an empty list")
        return tuple(collect(enumerate(value), check_local).values())

    @model_validator(mode="after")
    def _name_or_url(self) -> Storage:
        local = self.source is not None and (isinstance(self.source, tuple) or not is_url(self.source))
        if self.name is None and (self.source is None or local):
            raise Problem(
                "needs a name, as a bucket is made for it" if local else "needs a name or a source",
                suggestion="add name: BUCKET",
            )
        return self


def file_mount(value: Any) -> Any:
    """The value of one entry of `file_mounts`: a local path, a URL, or a `Storage`."""
    if isinstance(value, Storage):
        return value
    if isinstance(value, Mapping):
        return Storage.model_validate(value)
    if isinstance(value, str):
        return check_source(value)
    raise Problem("must be a local path, a bucket URL, or a storage mapping")


FileMount = Annotated[str | Storage, BeforeValidator(file_mount)]


class VolumeConfig(Model):
    """Settings of a volume that depend on its type."""

    storage_class_name: Text | None = None
    """The Kubernetes storage class."""
    access_mode: Annotated[str, BeforeValidator(choice(ACCESS_MODES, fold=str))] | None = None
    """Who may mount it: ReadWriteOnce, ReadWriteOncePod, ReadWriteMany or ReadOnlyMany."""
    namespace: Text | None = None
    """The Kubernetes namespace."""
    host_path: Text | None = None
    """The directory of the Kubernetes node, for type k8s-hostpath."""
    cleanup_on_deletion: Flag | None = None
    """Whether deleting the volume deletes the data under `host_path`."""


class VolumeMount(Model):
    """A volume mounted at a path: by name, made for the cluster's lifetime, or a directory of the host."""

    name: Text | None = None
    """The name of an existing volume."""
    sub_path: Text | None = None
    """A folder of the named volume to mount in place of its root."""
    size: DiskSize | None = None
    """Size in GiB of a volume that is made and removed with the cluster."""
    type: Annotated[str, BeforeValidator(choice(VOLUME_TYPES))] | None = None
    """The kind of a volume that is made with the cluster."""
    labels: dict[str, ScalarText] | None = None
    """Labels of a volume that is made with the cluster."""
    config: VolumeConfig | None = None
    """Settings of a volume that is made with the cluster."""
    host_path: Text | None = None
    """A directory of the host (Slurm)."""
    mode: Annotated[str, BeforeValidator(choice(("ro", "rw")))] | None = None
    """Whether the host's directory may be written: ro or rw."""

    @model_validator(mode="before")
    @classmethod
    def _read_name(cls, data: Any) -> Any:
        if isinstance(data, str):
            if not data.strip():
                raise Problem("must be the name of a volume")
            return {"name": data}
        if not isinstance(data, (Mapping, cls)):
            raise Problem("must be the name of a volume, or a mapping")
        return data

    @model_validator(mode="after")
    def _one_kind(self) -> VolumeMount:
        kinds = [key for key in ("name", "size", "host_path") if getattr(self, key) is not None]
        if len(kinds) != 1:
            raise Problem(
                "needs one of name (an existing volume), size (a new one) or host_path"
                + (f"; it has {' and '.join(kinds)}" if kinds else "")
            )
        allowed = {
            "name": {"name", "sub_path"},
            "size": {"size", "type", "labels", "config"},
            "host_path": {"host_path", "mode"},
        }[kinds[0]]
        problems = [
            Problem(f'does not go with "{kinds[0]}"', at=(key,)) for key in sorted(self.model_fields_set - allowed)
        ]
        if problems:
            raise Problems(problems)
        return self

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, handler: Any) -> Any:
        dumped = {key: value for key, value in handler(self).items() if key in self.model_fields_set}
        return dumped["name"] if dumped.keys() == {"name"} else dumped


class VolumeSpec(Model):
    """A volume file: a volume that lives by itself and outlives clusters."""

    name: Text
    """The volume's name."""
    type: Annotated[str, BeforeValidator(choice(VOLUME_TYPES))]
    """The kind of volume."""
    infra: Annotated[Infra, AsText] | None = None
    """Where it is."""
    size: DiskSize | None = None
    """Size in GiB, or with a unit."""
    use_existing: Flag = False
    """Whether to take over a volume that exists already."""
    labels: dict[str, ScalarText] | None = None
    """Labels of the volume."""
    config: VolumeConfig | None = None
    """Settings that depend on the type."""
