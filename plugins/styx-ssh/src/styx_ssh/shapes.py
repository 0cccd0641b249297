"""What a host is, and the instance type that hosts of one shape share."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from styx.plugin import accelerator_of_product
from styx_ssh.pools import Host
from styx_ssh.scripts import Answer


@dataclass(frozen=True)
class Shape:
    """Hosts of one shape can take each other's place."""

    vcpus: int
    memory_gib: float
    arch: Literal["x86_64", "arm64"]
    accelerator: str | None = None
    count: int = 0
    accelerator_gib: float | None = None
    usd_per_hour: float = 0.0

    @property
    def name(self) -> str:
        """The instance type, such as `8cpu-32gb-2xA100`; a price or a processor that differs is part of it."""
        parts = [f"{self.vcpus}cpu", f"{self.memory_gib:g}gb"]
        if self.accelerator:
            parts.append(f"{self.count}x{self.accelerator}")
        if self.arch != "x86_64":
            parts.append(self.arch)
        if self.usd_per_hour:
            parts.append(f"at-{self.usd_per_hour:g}usd")
        return "-".join(parts)


@dataclass(frozen=True)
class Facts:
    """What a look at a host showed, beside its lease."""

    shape: Shape | None
    problem: str | None
    ip: str | None
    workdir_there: bool


def facts_of(host: Host, answer: Answer) -> Facts:
    """Facts from the answer to `DETECT`. A host that cannot be used has a problem."""
    shape = _shape(host, answer)
    problem = answer.one("trouble")
    system = (answer.one("machine") or "").split(" ")[0]
    if system and system != "Linux":
        problem = f"it runs {system}; nodes must run Linux"
    elif shape is None:
        problem = problem or "it does not say how many processors and how much memory it has"
    elif answer.one("python") is None:
        problem = problem or "it has no Python 3.8 or newer"
    return Facts(shape, problem, _ip(host, answer), answer.one("workdir") is not None)


def _shape(host: Host, answer: Answer) -> Shape | None:
    cpus, memory = answer.one("cpus") or "", answer.one("memory_kib") or ""
    if not (cpus.isdecimal() and int(cpus) and memory.isdecimal()):
        return None
    machine = (answer.one("machine") or "").split(" ")[-1]
    gib = int(memory) / (1 << 20)
    accelerator, count, each = _accelerators(answer.all("gpu"))
    if host.accelerators is not None:
        if host.accelerators[0] != accelerator:
            each = None
        accelerator, count = host.accelerators
    return Shape(
        vcpus=int(cpus),
        memory_gib=nominal_gib(gib),
        arch="arm64" if machine in ("aarch64", "arm64") else "x86_64",
        accelerator=accelerator,
        count=count,
        accelerator_gib=each,
        usd_per_hour=host.usd_per_hour or 0.0,
    )


def nominal_gib(seen: float) -> float:
    """The size that was sold: of 32 GiB the kernel shows 31.3, or 31.6. Hosts that differ by that are of one shape."""
    if seen < 1.5:
        return round(seen, 2)
    step = max(1.0, 2.0 ** (math.floor(math.log2(seen)) - 3))
    return round(seen / step) * step


def _accelerators(lines: Iterable[str]) -> tuple[str | None, int, float | None]:
    """The first kind of accelerator, how many of it, and the memory of one."""
    kind: str | None = None
    count, each = 0, None
    for line in lines:
        product, _, memory = line.rpartition(",")
        try:
            gib = float(round(float(memory) / 1024))
        except ValueError:
            continue
        name = accelerator_of_product(product.strip(), gib)
        if kind is None:
            kind, each = name, gib
        count += name == kind
    return kind, count, each


def _ip(host: Host, answer: Answer) -> str | None:
    """The address for the other nodes: as given, in the pool's network, or the one at which we came in."""
    if host.private_ip:
        return host.private_ip
    own = [each for each in map(_address, (answer.one("addresses") or "").split()) if each is not None]
    if host.network:
        network = ipaddress.ip_network(host.network)
        return next((str(each) for each in own if each in network), None)
    if (literal := _address(host.address)) is not None and (not own or literal in own):
        return str(literal)
    came_in = (answer.one("connection") or "").split()
    if len(came_in) == 4 and _address(came_in[2]) is not None:
        return came_in[2]
    return next((str(each) for each in own if not each.is_loopback), None)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def by_shape(found: Sequence[tuple[Host, Facts]]) -> dict[str, list[Host]]:
    """Usable hosts by instance type, in the file's order."""
    grouped: dict[str, list[Host]] = {}
    for host, facts in found:
        if facts.shape is not None and facts.problem is None:
            grouped.setdefault(facts.shape.name, []).append(host)
    return grouped
