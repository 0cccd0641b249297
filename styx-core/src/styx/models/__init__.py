"""The task format as frozen models, and its reader. Importing this package imports none of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from styx.models.accelerators import AcceleratorRequest, Accelerators
    from styx.models.dag import JobGroup, Pipeline
    from styx.models.hooks import Hook
    from styx.models.infra import KNOWN_CLOUDS, Infra, canonical_cloud
    from styx.models.reader import Document, read_task_file, read_text, read_volume_file
    from styx.models.requests import (
        Autostop,
        CpuRequest,
        ImageRequest,
        JobRecovery,
        LocalDisk,
        MemoryRequest,
        PortRange,
    )
    from styx.models.resources import Resources
    from styx.models.service import PoolSpec, ServiceSpec
    from styx.models.settings import LeaseSettings, TaskConfig
    from styx.models.storage import Storage, VolumeMount, VolumeSpec
    from styx.models.task import GitWorkdir, Task

_HOME = {
    "AcceleratorRequest": "accelerators",
    "Accelerators": "accelerators",
    "Autostop": "requests",
    "CpuRequest": "requests",
    "Document": "reader",
    "GitWorkdir": "task",
    "Hook": "hooks",
    "ImageRequest": "requests",
    "Infra": "infra",
    "JobGroup": "dag",
    "JobRecovery": "requests",
    "KNOWN_CLOUDS": "infra",
    "LeaseSettings": "settings",
    "LocalDisk": "requests",
    "MemoryRequest": "requests",
    "Pipeline": "dag",
    "PoolSpec": "service",
    "PortRange": "requests",
    "Resources": "resources",
    "ServiceSpec": "service",
    "Storage": "storage",
    "Task": "task",
    "TaskConfig": "settings",
    "VolumeMount": "storage",
    "VolumeSpec": "storage",
    "canonical_cloud": "infra",
    "read_task_file": "reader",
    "read_text": "reader",
    "read_volume_file": "reader",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"styx.models.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "KNOWN_CLOUDS",
    "AcceleratorRequest",
    "Accelerators",
    "Autostop",
    "CpuRequest",
    "Document",
    "GitWorkdir",
    "Hook",
    "ImageRequest",
    "Infra",
    "JobGroup",
    "JobRecovery",
    "LeaseSettings",
    "LocalDisk",
    "MemoryRequest",
    "Pipeline",
    "PoolSpec",
    "PortRange",
    "Resources",
    "ServiceSpec",
    "Storage",
    "Task",
    "TaskConfig",
    "VolumeMount",
    "VolumeSpec",
    "canonical_cloud",
    "read_task_file",
    "read_text",
    "read_volume_file",
]
