"""What each node of a task needs, and the alternatives that the user accepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, ValidationInfo, field_validator, model_validator

from styx.models.accelerators import AcceleratorRequest, Accelerators, none_is_nothing
from styx.models.base import AsText, Model, Problem
from styx.models.infra import Infra, canonical_cloud
from styx.models.requests import (
    DISK_TIERS,
    NETWORK_TIERS,
    Autostop,
    CpuRequest,
    DiskSize,
    DiskVolume,
    ImageRequest,
    JobRecovery,
    LocalDisk,
    MaxHourlyCost,
    MemoryRequest,
    Ports,
)
from styx.models.scalars import Flag, ScalarText, Text, choice, whole

_OLD_PLACE = ("cloud", "region", "zone")


class Resources(Model):
    """What each node needs. Everything is optional: the planner fills the rest with the cheapest that fits."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "accelerator": "accelerators",
        "gpu": "gpus",
        "spot_recovery": "job_recovery",
        "spot": "use_spot",
        "mem": "memory",
        "ram": "memory",
        "cpu": "cpus",
        "image": "image_id",
        "disk": "disk_size",
        "port": "ports",
        "idle_minutes_to_autostop": "autostop",
        "tags": "labels",
    }

    infra: Annotated[Infra, AsText] | None = None
    """Where to run: `cloud[/region[/zone]]`, `k8s/context`, `ssh/pool`, `slurm/cluster[/partition]` or `*`."""
    cloud: None = None
    """Old form of the first part of `infra`; read into `infra`."""
    region: None = None
    """Old form of the second part of `infra`; read into `infra`."""
    zone: None = None
    """Old form of the third part of `infra`; read into `infra`."""
    accelerators: Annotated[Accelerators | None, BeforeValidator(none_is_nothing)] = None
    """Accelerators per node: `A100:8`, a map or set (any of them), a list (in order), or by memory: `80GB+` is
    any GPU by NVIDIA or AMD with so much, `aws:32GB+:4` four accelerators of one maker."""
    gpus: None = None
    """Another name of `accelerators`; read into `accelerators`."""
    accelerator_args: dict[str, Any] | None = None
    """Settings for TPUs: `runtime_version`, `tpu_name`, `tpu_vm`, `gcp_queued_resource`."""
    cpus: Annotated[CpuRequest, AsText] | None = None
    """Virtual CPUs per node: `4`, or `4+` for at least four. Where neither these nor `memory`, `accelerators` or
    `instance_type` are named, `placement.default_cpus` and `placement.default_memory` of the configuration hold."""
    memory: Annotated[MemoryRequest, AsText] | None = None
    """Memory per node in GB: `16`, `16+`, `64GB`, or `4x` for four times the CPU count."""
    instance_type: Text | None = None
    """The cloud's own name of a machine type."""
    use_spot: Flag = False
    """Whether to use spot (preemptible) machines."""
    disk_size: DiskSize | None = None
    """Disk per node in GB, or with a unit; unset takes the cloud's default, usually 256 GB."""
    ephemeral_storage: None = None
    """Deprecated name of `disk_size`; read into `disk_size`."""
    disk_tier: Annotated[str, BeforeValidator(choice(DISK_TIERS))] | None = None
    """Speed class of the disk: low, medium, high, ultra or best."""
    network_tier: Annotated[str, BeforeValidator(choice(NETWORK_TIERS))] | None = None
    """`best` asks for the fastest network between nodes (RDMA, EFA, GPUDirect) that the place offers."""
    local_disk: Annotated[LocalDisk, AsText] | None = None
    """Disks inside the machine, all together: `nvme` (100 GB or more), `ssd:300`, `nvme:1000+`. Only machine types with
    them are considered; the disks come as the cloud gives them, often without a file system."""
    max_hourly_cost: MaxHourlyCost | None = None
    """The most that one node may cost, in US dollars per hour."""
    image_id: ImageRequest | None = None
    """A machine image, a map from region to image, or `docker:IMAGE`."""
    ports: Ports | None = None
    """Ports to open: numbers, ranges, or a list of those."""
    labels: dict[str, ScalarText] | None = None
    """Tags for the machines, or Kubernetes labels."""
    autostop: Autostop | None = None
    """When to stop or remove the idle cluster: true, minutes, `10m`, or a map."""
    priority: Annotated[int, BeforeValidator(whole(at_least=-1000, at_most=1000))] | None = None
    """Priority of a managed job, from -1000 to 1000."""
    priority_class: Text | None = None
    """The name of a priority class, resolved by the team server."""
    job_recovery: JobRecovery | None = None
    """How a managed job recovers from lost machines."""
    volumes: tuple[DiskVolume, ...] | None = None
    """Further disks attached to each machine."""
    any_of: tuple[Resources, ...] | None = None
    """Alternatives of which the cheapest is taken; each inherits what it does not say itself."""
    ordered: tuple[Resources, ...] | None = None
    """Alternatives in order of preference; each inherits what it does not say itself."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        fields = _with_inherited_place({key: value for key, value in data.items() if value is not None})
        for old, new in (("gpus", "accelerators"), ("ephemeral_storage", "disk_size")):
            if old in fields and new not in fields:
                fields[new] = fields.pop(old)
        if "infra" not in fields:
            old_place = {key: fields.pop(key) for key in _OLD_PLACE if key in fields}
            if old_place:
                fields["infra"] = OldPlace(old_place)
        return fields

    @field_validator("infra", mode="before")
    @classmethod
    def _read_old_place(cls, value: Any) -> Any:
        return value.as_infra() if isinstance(value, OldPlace) else value

    @field_validator("cloud", "region", "zone", "gpus", "ephemeral_storage", mode="before")
    @classmethod
    def _refuse_both(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        new = {"gpus": "accelerators", "ephemeral_storage": "disk_size"}.get(info.field_name or "", "infra")
        raise Problem(f'cannot stand beside "{new}", which says the same', suggestion="keep one of the two")

    @field_validator("ordered", mode="before")
    @classmethod
    def _one_kind_of_alternatives(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("any_of") is not None:
            raise Problem('cannot stand beside "any_of"', suggestion="keep one of the two")
        return value

    @field_validator("any_of", "ordered", mode="before")
    @classmethod
    def _listed_and_flat(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Problem("must be a list of resources")
        if not value:
            raise Problem("is an empty list", suggestion="leave the key out")
        for index, item in enumerate(value):
            given = item if isinstance(item, Mapping) else getattr(item, "model_fields_set", ())
            for key in ("any_of", "ordered"):
                if key in given:
                    raise Problem("alternatives cannot hold alternatives", at=(index, key))
        return value

    @field_validator("volumes", mode="before")
    @classmethod
    def _volumes_listed(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Problem("must be a list of disks, each with a path")
        return value

    @property
    def is_ordered(self) -> bool:
        """Whether `alternatives()` is in the user's order of preference rather than merely a set."""
        if self.ordered is not None:
            return True
        return bool(self.any_of is None and self.accelerators and self.accelerators.ordered)

    @property
    def accelerator(self) -> AcceleratorRequest | None:
        """The accelerator of a concrete alternative; None where there is none (see `alternatives`)."""
        return self.accelerators.options[0] if self.accelerators else None

    def alternatives(self) -> tuple[Resources, ...]:
        """Every concrete choice the user accepts: no `any_of`, no `ordered`, at most one accelerator each.

        The order is the one written; it is a preference only where `is_ordered` says so. Never empty.
        """
        variants = self.ordered or self.any_of
        if variants is None:
            return tuple(self._one_accelerator_each())
        base = {name: getattr(self, name) for name in self.model_fields_set if name not in ("any_of", "ordered")}
        merged = (
            Resources.model_construct(
                _fields_set={*base, *variant.model_fields_set},
                **(base | {name: getattr(variant, name) for name in variant.model_fields_set}),
            )
            for variant in variants
        )
        return tuple(chain.from_iterable(each._one_accelerator_each() for each in merged))

    def _one_accelerator_each(self) -> Iterator[Resources]:
        if self.accelerators is None or len(self.accelerators.options) == 1:
            yield self
            return
        for option in self.accelerators.options:
            yield self.model_copy(update={"accelerators": Accelerators(options=(option,))})

    def port_numbers(self) -> tuple[int, ...]:
        """Every port to open, in rising order."""
        return tuple(chain.from_iterable(each.numbers() for each in self.ports or ()))


def _with_inherited_place(fields: dict[str, Any]) -> dict[str, Any]:
    """Alternatives with a region or zone in the old form take the cloud (and region) from above.

    In the new form, `infra` of an alternative replaces `infra` above as a whole.
    """
    above = {key: fields[key] for key in _OLD_PLACE if isinstance(fields.get(key), str)}
    if not above:
        return fields

    def completed(item: Any) -> Any:
        if not isinstance(item, Mapping) or item.get("infra") is not None:
            return item
        own = {key for key in _OLD_PLACE if item.get(key) is not None}
        if not own or "cloud" in own:
            return item
        kept = ("cloud",) if "region" in own else ("cloud", "region")
        return {**{key: above[key] for key in kept if key in above}, **item}

    for kind in ("any_of", "ordered"):
        if isinstance(fields.get(kind), (list, tuple)):
            fields[kind] = [completed(item) for item in fields[kind]]
    return fields


class OldPlace:
    """`cloud`, `region` and `zone` as they were written before `infra` existed."""

    def __init__(self, written: Mapping[str, Any]) -> None:
        self.written = written

    def _cloud(self) -> str:
        return canonical_cloud(str(self.written.get("cloud", "")))

    def as_infra(self) -> Infra:
        """The same place, in a form that `infra` can spell."""
        place: dict[str, str | None] = {}
        for key, value in self.written.items():
            if not isinstance(value, str) or not value.strip():
                raise Problem("must be text", at=(key,))
            word = value.strip()
            if "/" in word and (key != "region" or self._cloud() not in ("kubernetes", "ssh")):
                raise Problem('cannot hold "/"', at=(key,), suggestion="use infra: CLOUD/REGION/ZONE")
            place[key] = None if word.lower() in ("none", "*") else word
        if place.get("cloud"):
            place["cloud"] = canonical_cloud(place["cloud"] or "")
        infra = Infra(**place)
        parts = Infra.parts(str(infra))
        for key, value in place.items():
            if value != parts.get(key):
                raise Problem("is no name of a place", at=(key,), suggestion="use infra: CLOUD/REGION/ZONE")
        return infra
