"""What this release does with each field of the format: executes it, or refuses it and says why.

The reader accepts the whole format. `unexecuted` is asked before anything is created, so that nothing a task says is
ever ignored in silence. A test walks the models and fails when a field has no entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pydantic import BaseModel

from styx.errors import Fault, NotExecutable
from styx.models.resources import Resources
from styx.models.storage import is_url
from styx.models.task import GitWorkdir, Task
from styx.models.yamlnodes import shorten


class Features(Protocol):
    """The part of a catalog row's features that fields depend on (`styx.driver.FeatureSet` fits)."""

    @property
    def spot(self) -> bool:
        """Spot machines."""
        ...

    @property
    def ports(self) -> str:
        """`any_time`, `at_create` or `never`."""
        ...

    @property
    def custom_image(self) -> bool:
        """Machine images of the user's choice."""
        ...

    @property
    def container(self) -> str:
        """`node`, `docker`, `pyxis` or `none`."""
        ...

    @property
    def mounts(self) -> bool:
        """Bucket mounts and volumes."""
        ...

    @property
    def volumes(self) -> bool:
        """Named volumes are mounted."""
        ...

    @property
    def absolute_paths(self) -> bool:
        """File mounts outside the node's home."""
        ...

    @property
    def disk_tiers(self) -> bool:
        """Root disks of several kinds."""
        ...


@dataclass(frozen=True)
class Executed:
    """The field does what the format says."""

    when: Callable[[Features], bool] | None = None
    """Whether the chosen place can execute it; always, when None."""
    otherwise: str = ""
    """The reason, where the place cannot."""
    whole: bool = False
    """Whether that holds for every field below it too."""


@dataclass(frozen=True)
class Refused:
    """The field is read and checked, and a launch that gives it is refused."""

    reason: str


Status = Executed | Refused

_YES: Final = Executed()
_SERVE: Final = Refused("services need the styx-serve add-on, which this release does not have")
_POOL: Final = Refused("pools need the styx-jobs add-on, which this release does not have")
_JOBS: Final = Refused("managed jobs need the styx-jobs add-on, which this release does not have")
_DISKS: Final = Refused("no cloud of this release makes disks to measure")
_VOLUMES: Final = Executed(lambda features: features.volumes, "the place cannot mount volumes")
_OWN_VOLUME: Final = Refused("volumes that live with the cluster are not made yet: use `styx volumes apply`")
_INTERNAL: Final = Refused("is internal to another tool and has no meaning here")
_IMAGE: Final = Executed(lambda features: features.custom_image, "the place has no machine images to choose from")

TABLE: Final[Mapping[str, Status]] = {
    "name": _YES,
    "workdir": _YES,
    "workdir.url": Refused("a workdir from git is not executed yet; clone it and give the local folder"),
    "workdir.ref": Refused("a workdir from git is not executed yet; clone it and give the local folder"),
    "num_nodes": _YES,
    "setup": _YES,
    "run": _YES,
    "envs": _YES,
    "secrets": _YES,
    "managed_secrets": Refused("managed secrets need a team server; give the value with --secret"),
    "file_mounts": _YES,
    "file_mounts.*": Executed(lambda features: features.mounts, "the place cannot mount or copy buckets", whole=True),
    "volumes": _VOLUMES,
    "volumes.*": _VOLUMES,
    "volumes.*.name": _VOLUMES,
    "volumes.*.sub_path": _VOLUMES,
    "volumes.*.size": _OWN_VOLUME,
    "volumes.*.type": _OWN_VOLUME,
    "volumes.*.labels": _OWN_VOLUME,
    "volumes.*.config": _OWN_VOLUME,
    "volumes.*.host_path": Refused("folders of the host are not mounted yet"),
    "volumes.*.mode": Refused("folders of the host are not mounted yet"),
    "service": _SERVE,
    "pool": _POOL,
    "config": _YES,
    "config.hooks": Refused("lifecycle hooks are not run yet"),
    "config.lease": _YES,
    "config.lease.idle": _YES,
    "config.lease.max_age": _YES,
    "config.lease.max_cost": _YES,
    "config.lease.dead_man": _YES,
    "config.lease.action": _YES,
    "config.launch": _YES,
    "config.launch.retry_for": _YES,
    "config.launch.ready_timeout": _YES,
    "config.launch.first_lease": _YES,
    "config.placement": Executed(whole=True),
    "config.clouds": _YES,
    "config.docker": _YES,
    "config.docker.run_options": _YES,
    "config.*": Refused("this setting is not executed by any cloud of this release"),
    "inputs": _YES,
    "outputs": _YES,
    "event_callback": _JOBS,
    "api_server_access": _YES,
    "volume_mounts": _INTERNAL,
    "file_mounts_mapping": _INTERNAL,
    "_metadata": _INTERNAL,
    "resources": _YES,
    "resources.infra": _YES,
    "resources.cloud": _YES,
    "resources.region": _YES,
    "resources.zone": _YES,
    "resources.accelerators": _YES,
    "resources.gpus": _YES,
    "resources.accelerator_args": Refused("TPU settings are not executed by any cloud of this release"),
    "resources.cpus": _YES,
    "resources.memory": _YES,
    "resources.instance_type": _YES,
    "resources.use_spot": Executed(lambda features: features.spot, "the place has no spot machines"),
    "resources.disk_size": _YES,
    "resources.ephemeral_storage": _YES,
    "resources.disk_tier": Executed(lambda features: features.disk_tiers, "the place has one kind of disk"),
    "resources.network_tier": _YES,
    "resources.local_disk": _YES,
    "resources.max_hourly_cost": _YES,
    "resources.image_id": _YES,
    "resources.image_id.docker": Executed(
        lambda features: features.container != "none", "the place cannot run docker images"
    ),
    "resources.image_id.machine": _IMAGE,
    "resources.image_id.machine_by_region": _IMAGE,
    "resources.ports": Executed(lambda features: features.ports != "never", "the place cannot open ports"),
    "resources.labels": _YES,
    "resources.any_of": _YES,
    "resources.ordered": _YES,
    "resources.autostop": _YES,
    "resources.autostop.enabled": _YES,
    "resources.autostop.idle_minutes": _YES,
    "resources.autostop.down": _YES,
    "resources.autostop.wait_for": _YES,
    "resources.autostop.hook": Refused("lifecycle hooks are not run yet"),
    "resources.autostop.hook_timeout": Refused("lifecycle hooks are not run yet"),
    "resources.priority": _JOBS,
    "resources.priority_class": Refused("priority classes need a team server"),
    "resources.job_recovery": _JOBS,
    "resources.volumes": _DISKS,
}
"""Status of each field, by dotted name; `*` is any key. What is below a refused field is refused as well."""

EVERYWHERE: Final[Mapping[str, frozenset[str]]] = {"resources.disk_tier": frozenset({"best", "none"})}
"""Values that ask for nothing: the best of a place that has one kind is that kind."""


def status_of(field: str) -> Status | None:
    """What happens to a field, or None for a name that the table does not know."""
    parts = field.split(".")
    for length in range(len(parts), 0, -1):
        status = TABLE.get(".".join(parts[:length]))
        if status is None and length > 1:
            status = TABLE.get(".".join([*parts[: length - 1], "*"]))
        if status is not None:
            return status if length == len(parts) or isinstance(status, Refused) or status.whole else None
    return None


def unexecuted(task: Task, features: Features | None = None) -> list[Fault]:
    """One fault for each field of the task that would not be executed.

    Args:
        task: The task.
        features: What the chosen place can do; None before a place is chosen, when only what no place can do counts.
    """
    return [
        Fault(status, field=field, value=_shown(value))
        for field, value, name in _given(task)
        if value not in EVERYWHERE.get(name, ()) and (status := _reason(name, features)) is not None
    ] + _outside_home(task, features)


def _shown(value: Any) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return shorten(str(value)) if isinstance(value, (str, int, float)) else None


def require_executable(task: Task, features: Features | None = None) -> None:
    """Stop a launch that would ignore something.

    Raises:
        NotExecutable: The message has one line for each field, with the reason.
    """
    faults = unexecuted(task, features)
    if faults:
        raise NotExecutable("\n".join(map(str, faults)), hint="remove these fields, or choose another place")


def _reason(name: str, features: Features | None) -> str | None:
    status = status_of(name)
    if isinstance(status, Refused):
        return status.reason
    if isinstance(status, Executed) and status.when is not None and features is not None:
        return None if status.when(features) else status.otherwise
    return None


def _given(task: Task) -> Iterator[tuple[str, Any, str]]:
    """Fields that the task gives and that differ from the default: as written, value, and name in the table."""
    for name in sorted(_changed(task)):
        value = getattr(task, name)
        key = Task.model_fields[name].alias or name
        if name == "resources":
            yield from _given_resources("resources", task.resources)
        elif name == "workdir":
            yield "workdir", value, "workdir.url" if isinstance(value, GitWorkdir) else "workdir"
        elif name == "file_mounts":
            for path in task.bucket_mounts:
                yield f"file_mounts.{path}", value[path], "file_mounts.*"
        elif name == "volumes":
            for path, mount in value.items():
                for inner in sorted(mount.model_fields_set):
                    yield f"volumes.{path}.{inner}", getattr(mount, inner), f"volumes.*.{inner}"
        elif name == "config":
            for inner in sorted(_changed(value) | (value.model_extra or {}).keys()):
                yield f"config.{inner}", getattr(value, inner, None), f"config.{inner}"
        else:
            yield key, value, key


def _given_resources(prefix: str, resources: Resources) -> Iterator[tuple[str, Any, str]]:
    for name in sorted(_changed(resources)):
        value = getattr(resources, name)
        if name in ("any_of", "ordered"):
            for index, variant in enumerate(value):
                yield from _given_resources(f"{prefix}.{name}[{index}]", variant)
        elif name == "image_id":
            if value.docker:
                yield f"{prefix}.image_id", value.docker, "resources.image_id.docker"
            if value.machine or value.machine_by_region:
                yield f"{prefix}.image_id", value.machine, "resources.image_id.machine"
        elif name == "autostop":
            for inner in sorted(_changed(value)):
                yield f"{prefix}.autostop.{inner}", getattr(value, inner), f"resources.autostop.{inner}"
        else:
            yield f"{prefix}.{name}", value, f"resources.{name}"


def _changed(model: BaseModel) -> set[str]:
    fields = type(model).model_fields
    return {
        name
        for name in model.model_fields_set & fields.keys()
        if getattr(model, name) != fields[name].get_default(call_default_factory=True, validated_data={})
    }


def _outside_home(task: Task, features: Features | None) -> list[Fault]:
    if features is None or features.absolute_paths:
        return []
    return [
        Fault(
            "the place has no paths outside the node's home",
            field=f"file_mounts.{path}",
            suggestion=f'write "~{path}"',
        )
        for path, source in task.local_mounts.items()
        if path.startswith("/") and not is_url(source)
    ]
