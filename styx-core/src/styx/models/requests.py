"""The small requests inside `resources`: CPUs, memory, local disks, ports, images, autostop, job recovery."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_serializer, model_validator

from styx.models.base import Compact, Model, Problem, Problems, collect
from styx.models.scalars import Flag, Text, amount, choice, whole
from styx.units import (
    number_text,
    parse_amount,
    parse_duration_s,
    parse_size_gib,
    tidy_number,
)

DISK_TIERS: Final = ("low", "medium", "high", "ultra", "best", "none")
NETWORK_TIERS: Final = ("standard", "best")
WAIT_FOR: Final = ("jobs_and_ssh", "jobs", "none")

_LOCAL_DISK: Final = re.compile(r"(?:(?P<mode>nvme|ssd)(?::|$))?(?P<size>[^+]*)(?P<plus>\+?)", re.IGNORECASE)
_PORTS: Final = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?")
DEFAULT_IDLE_MINUTES: Final = 5
"""What a bare `autostop: true` means."""


class CpuRequest(Compact):
    """`4` for exactly so many virtual CPUs per node, `4+` for at least so many."""

    count: float
    """Virtual CPUs per node."""
    at_least: bool = False
    """Whether more will do."""

    @classmethod
    def parts(cls, value: str | float) -> Mapping[str, Any]:
        """Split the number from the plus sign."""
        text = str(value).strip()
        count = parse_amount(text.removesuffix("+"), what='a number of CPUs, such as 4 or "4+"')
        if count <= 0:
            raise Problem("must be a number of CPUs above 0")
        return {"count": tidy_number(count), "at_least": text.endswith("+")}

    def __str__(self) -> str:
        return f"{number_text(self.count)}{'+' if self.at_least else ''}"

    def admits(self, count: float) -> bool:
        """Whether a machine with `count` CPUs will do."""
        return count >= self.count if self.at_least else count == self.count


class MemoryRequest(Compact):
    """`16` or `16GB` for exactly so much per node, `16+` for at least, `4x` for four times the CPU count."""

    gib: float | None = None
    """Memory per node in GiB, unless asked per CPU."""
    per_cpu_gib: float | None = None
    """Memory in GiB for each virtual CPU, when written as `4x`."""
    at_least: bool = False
    """Whether more will do."""

    @classmethod
    def parts(cls, value: str | float) -> Mapping[str, Any]:
        """Split size, unit and sign."""
        text = str(value).strip()
        bare = text.removesuffix("+")
        if bare[-1:] in ("x", "X"):
            factor = parse_amount(bare[:-1], what='a size, such as 16, "16+", "64GB" or "4x"')
            if factor <= 0:
                raise Problem("must be above 0")
            return {"per_cpu_gib": tidy_number(factor), "at_least": text.endswith("+")}
        gib = parse_size_gib(bare)
        if gib <= 0:
            raise Problem("must be a size above 0")
        return {"gib": tidy_number(gib), "at_least": text.endswith("+")}

    def __str__(self) -> str:
        size = f"{number_text(self.per_cpu_gib)}x" if self.per_cpu_gib else number_text(self.gib or 0)
        return f"{size}{'+' if self.at_least else ''}"

    def minimum_gib(self, cpus: float) -> float:
        """The least memory that will do on a machine with that many CPUs."""
        return self.gib if self.gib is not None else (self.per_cpu_gib or 0) * cpus

    def admits(self, gib: float, cpus: float) -> bool:
        """Whether a machine with so much memory and so many CPUs will do."""
        wanted = self.minimum_gib(cpus)
        return gib >= wanted if self.at_least else gib == wanted


EXACT_WITHIN_GIB: Final = 0.5
"""How far a size in an offer may be from one that is asked for exactly: of local disks, and of accelerators' memory."""
DISK_KINDS: Final[Mapping[str, tuple[str, ...]]] = {"nvme": ("nvme",), "ssd": ("ssd", "nvme")}
"""What will do for each kind of local disk."""


class LocalDisk(Compact):
    """Disks inside the machine: `nvme`, `ssd:300`, `nvme:1000+`."""

    mode: Literal["nvme", "ssd"] | None = None
    """The kind of device, or None for either."""
    size_gib: float = 100
    """All local disks of a node together, in GiB."""
    at_least: bool = False
    """Whether more will do."""

    @classmethod
    def parts(cls, value: str | float) -> Mapping[str, Any]:
        """Split `[nvme|ssd:]size[+]`; a bare kind asks for 100 GB or more."""
        match = _LOCAL_DISK.fullmatch(str(value).strip())
        wrong = Problem('must be "nvme", "ssd", or a size such as "nvme:1000+"')
        if match is None or (not match["mode"] and not match["size"]):
            raise wrong
        mode = match["mode"].lower() if match["mode"] else None
        if not match["size"]:
            return {"mode": mode, "size_gib": 100, "at_least": True}
        try:
            size = parse_size_gib(match["size"])
        except ValueError:
            raise wrong from None
        if size <= 0:
            raise Problem("must be a size above 0")
        return {"mode": mode, "size_gib": tidy_number(size), "at_least": bool(match["plus"])}

    def __str__(self) -> str:
        lead = f"{self.mode}:" if self.mode else ""
        return f"{lead}{number_text(self.size_gib)}{'+' if self.at_least else ''}"


class PortRange(Compact):
    """One port, or a range with both ends included."""

    first: int
    """The lowest port."""
    last: int
    """The highest port; equal to `first` for a single one."""

    @classmethod
    def parts(cls, value: str | float) -> Mapping[str, Any]:
        """Split `8000-8010` or `8080`."""
        match = _PORTS.fullmatch(str(value).strip())
        if match is None:
            raise Problem('must be a port from 1 to 65535 or a range such as "8000-8010"')
        first, last = int(match[1]), int(match[2] or match[1])
        if not (1 <= first <= 65535 and 1 <= last <= 65535):
            raise Problem("must be a port from 1 to 65535")
        if first > last:
            raise Problem("is a range that ends before it starts", suggestion=f'write "{last}-{first}"')
        return {"first": first, "last": last}

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    def numbers(self) -> range:
        """Every port of the range."""
        return range(self.first, self.last + 1)


def port_ranges(value: Any) -> tuple[PortRange, ...]:
    """Sorted ranges without overlaps, from a port, a range, commas, or a list of those."""
    if not isinstance(value, (list, tuple)):
        return _merged(_ports_of(value))
    return _merged(chain.from_iterable(collect(enumerate(value), _ports_of).values()))


def _ports_of(item: Any) -> list[PortRange]:
    if isinstance(item, PortRange):
        return [item]
    if isinstance(item, bool) or not isinstance(item, (int, str)):
        raise Problem('must be a port or a range such as "8000-8010"')
    return [PortRange(**PortRange.parts(text)) for text in str(item).split(",")]


def _merged(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    merged: list[PortRange] = []
    for item in sorted(ranges, key=lambda each: (each.first, each.last)):
        if merged and item.first <= merged[-1].last + 1:
            merged[-1] = PortRange(first=merged[-1].first, last=max(merged[-1].last, item.last))
        else:
            merged.append(item)
    return tuple(merged)


class ImageRequest(Model):
    """A machine image, an image per region, a docker image, or a docker image on a chosen machine image."""

    machine: str | None = None
    """The cloud's image id or tag, for any region."""
    machine_by_region: dict[str, str] = Field(default_factory=dict)
    """Image ids by region."""
    docker: str | None = None
    """A container image, without the `docker:` prefix."""

    @model_validator(mode="before")
    @classmethod
    def _read_shapes(cls, data: Any) -> Any:
        if isinstance(data, cls):
            return data
        if isinstance(data, str):
            return cls._from_text(data)
        if not isinstance(data, Mapping):
            raise Problem("must be an image id, or a map from region to image id")
        if data.keys() <= {"machine", "machine_by_region"} and isinstance(data.get("machine_by_region"), Mapping):
            return data
        problems = [
            Problem("must be an image id as text", at=(key,))
            for key, value in data.items()
            if not isinstance(value, str) or not value.strip()
        ]
        if problems:
            raise Problems(problems)
        if not data:
            raise Problem("is an empty map", suggestion="leave the key out for the default image")
        regions = {key: value for key, value in data.items() if key != "docker"}
        return {"docker": _without_prefix(data.get("docker")), "machine_by_region": regions}

    @classmethod
    def _from_text(cls, text: str) -> dict[str, Any]:
        image = text.strip()
        if image.startswith("docker:"):
            docker = _without_prefix(image)
            if not docker:
                raise Problem('must name an image after "docker:"', suggestion='such as "docker:ubuntu:24.04"')
            if any(letter.isspace() for letter in docker):
                raise Problem("holds a space, which no image's name has")
            return {"docker": docker}
        if not image:
            raise Problem("must be an image id, such as an AMI, or docker:NAME")
        return {"machine": image}

    @model_serializer(mode="plain")
    def _write(self) -> Any:
        if self.machine_by_region:
            docker = {"docker": self.docker} if self.docker else {}
            return docker | self.machine_by_region
        return f"docker:{self.docker}" if self.docker else self.machine

    def machine_for(self, region: str | None) -> str | None:
        """The machine image to use in a region, or None for the driver's default."""
        return self.machine_by_region.get(region or "", self.machine)


def _without_prefix(image: str | None) -> str | None:
    return None if image is None else image.strip().removeprefix("docker:").strip()


def idle_minutes(value: Any) -> float:
    """Minutes from a number of minutes or a duration; never negative."""
    seconds = parse_duration_s(value, default_unit="m")
    return tidy_number(seconds / 60)


IdleMinutes = Annotated[float, BeforeValidator(idle_minutes)]


class Autostop(Model):
    """When to stop or remove an idle cluster."""

    enabled: bool = True
    """False when the task says `autostop: false`."""
    idle_minutes: IdleMinutes = DEFAULT_IDLE_MINUTES
    """Minutes without work after which the cluster is stopped; 0 acts as soon as the queue is empty."""
    down: Flag = False
    """Whether to remove the cluster in place of stopping it."""
    wait_for: Annotated[str, BeforeValidator(choice(WAIT_FOR))] = "jobs_and_ssh"
    """What counts as work: jobs and open SSH sessions, jobs alone, or nothing."""
    hook: Text | None = None
    """Deprecated: a script to run before stopping; `config.hooks` replaced it."""
    hook_timeout: Annotated[int, BeforeValidator(whole(at_least=1, unit="seconds"))] | None = None
    """Deprecated: seconds that `hook` may take."""

    @model_validator(mode="before")
    @classmethod
    def _read_shapes(cls, data: Any) -> Any:
        if isinstance(data, (Mapping, cls)):
            return data
        if isinstance(data, bool):
            return {"enabled": data}
        if isinstance(data, (int, float, str)):
            return {"enabled": True, "idle_minutes": idle_minutes(data)}
        raise Problem('must be true, false, minutes, a duration such as "10m", or a map')

    @model_serializer(mode="plain")
    def _write(self) -> Any:
        if not self.enabled:
            return False
        dumped: dict[str, Any] = {"idle_minutes": self.idle_minutes}
        dumped |= {key: getattr(self, key) for key in ("down", "wait_for") if key in self.model_fields_set}
        return dumped | {key: getattr(self, key) for key in ("hook", "hook_timeout") if getattr(self, key) is not None}


def exit_codes(value: Any) -> tuple[int, ...]:
    """One exit code or a list of them, each from 0 to 255."""
    check = whole(at_least=0, at_most=255)
    if not isinstance(value, (list, tuple)):
        return (check(value),)
    return tuple(collect(enumerate(value), check).values())


class JobRecovery(Model):
    """How a managed job comes back after its machines are lost. Plugins may add keys."""

    model_config = ConfigDict(extra="allow")

    strategy: Text | None = None
    """The name of a recovery strategy; `none` turns recovery off."""
    max_restarts_on_errors: Annotated[int, BeforeValidator(whole(at_least=0))] | None = None
    """How often to start again after the job's own failure."""
    recover_on_exit_codes: Annotated[tuple[int, ...], BeforeValidator(exit_codes)] | None = None
    """Exit codes (0 to 255) after which the job is started again without counting as a restart."""

    @model_validator(mode="before")
    @classmethod
    def _read_shapes(cls, data: Any) -> Any:
        if isinstance(data, (Mapping, cls)):
            return data
        if isinstance(data, str):
            return {"strategy": data}
        raise Problem("must be the name of a strategy, or a map")


def disk_size_gib(value: Any) -> float:
    """A disk size in GiB, above 0."""
    size = parse_size_gib(value)
    if size <= 0:
        raise Problem("must be a size above 0")
    return tidy_number(size)


DiskSize = Annotated[float, BeforeValidator(disk_size_gib)]


class DiskVolume(Model):
    """A further disk attached to each machine (`resources.volumes`)."""

    path: Text
    """Where it is mounted on the node."""
    name: Text | None = None
    """The name of an existing disk; without it a new one is made."""
    disk_size: DiskSize | None = None
    """Size of a new disk, in GiB or with a unit."""
    disk_tier: Annotated[str, BeforeValidator(choice(DISK_TIERS))] | None = None
    """Speed class of a new disk."""
    storage_type: Annotated[str, BeforeValidator(choice(("network", "instance")))] | None = None
    """A network disk, or a disk of the instance."""
    attach_mode: Annotated[str, BeforeValidator(choice(("read_only", "read_write")))] | None = None
    """How it is attached; an existing disk may serve several machines read only."""
    auto_delete: Flag | None = None
    """Whether the disk goes with the machine."""


MaxHourlyCost = Annotated[float, BeforeValidator(amount(above=0, unit="US dollars"))]
Ports = Annotated[tuple[PortRange, ...], BeforeValidator(port_ranges)]

__all__ = [
    "DISK_TIERS",
    "NETWORK_TIERS",
    "WAIT_FOR",
    "Autostop",
    "CpuRequest",
    "DiskSize",
    "DiskVolume",
    "ImageRequest",
    "JobRecovery",
    "LocalDisk",
    "MaxHourlyCost",
    "MemoryRequest",
    "PortRange",
    "Ports",
    "disk_size_gib",
    "idle_minutes",
    "port_ranges",
]
