"""What this machine has, and the catalog rows made from it."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from styx.plugin import CatalogRow, FeatureSet, Market, accelerator_of_product

CLOUD = "local"
REGION = "this-machine"
_SMI_S = 10.0


@dataclass(frozen=True)
class Gpu:
    """One accelerator. `name` is its usual name, such as `A100-80GB` or `RTX4090`."""

    index: int
    name: str
    memory_gib: float


@dataclass(frozen=True)
class Hardware:
    """Processors and memory that processes of this machine may use."""

    vcpus: int
    memory_gib: float
    arch: Literal["x86_64", "arm64"]
    gpus: tuple[Gpu, ...]


def probe() -> Hardware:
    """Look at this machine; limits of a container count."""
    arch: Literal["x86_64", "arm64"] = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    return Hardware(_vcpus(), _memory_gib(), arch, tuple(_gpus()))


def account() -> str:
    """A stable name for this machine and user: two of them may share a home folder, but not nodes."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            if machine := Path(path).read_text(encoding="ascii").strip():
                break
        except (OSError, ValueError):
            continue
    else:
        machine = platform.node()
    return f"{hashlib.sha256(machine.encode()).hexdigest()[:12]}-{os.getuid()}"


def rows(hardware: Hardware, features: FeatureSet, now: float) -> Iterator[CatalogRow]:
    """The catalog: the whole machine as `local`, smaller shares of it, and its accelerators, each on both markets."""
    shapes: list[tuple[str, int, float]] = [("local", hardware.vcpus, 0.0)]
    size = 1
    while size < hardware.vcpus:
        shapes.append((f"local-{size}", size, 0.0))
        size *= 2
    shapes += [(f"local-{count:g}gpu", hardware.vcpus, count) for count in _gpu_counts(len(hardware.gpus))]
    first = hardware.gpus[0] if hardware.gpus else None
    for name, vcpus, gpus in shapes:
        for market in (Market.ON_DEMAND, Market.SPOT):
            yield CatalogRow(
                cloud=CLOUD,
                instance_type=name,
                region=REGION,
                market=market,
                vcpus=vcpus,
                memory_gib=round(hardware.memory_gib * vcpus / hardware.vcpus, 2),
                arch=hardware.arch,
                accelerator_name=first.name if first and gpus else None,
                accelerator_count=gpus,
                accelerator_memory_gib=first.memory_gib if first and gpus else None,
                accelerator_vendor="nvidia" if gpus else None,
                usd_per_hour=0.0,
                features=features.model_copy(update={"spot": market is Market.SPOT}),
                as_of=datetime.fromtimestamp(now, UTC),
                source="this machine",
            )


def _gpu_counts(total: int) -> list[float]:
    """Fractions of one, then powers of two, then all."""
    if not total:
        return []
    whole = {2**power for power in range(total.bit_length()) if 2**power <= total} | {total}
    return [0.25, 0.5, *sorted(float(count) for count in whole)]


def _vcpus() -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass  # no such limit here
    return count


def _memory_gib() -> float:
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            size = min(size, int(limit))
    except (OSError, ValueError):
        pass  # no such limit here
    return round(size / 2**30, 2)


def _gpus() -> Iterator[Gpu]:
    """As `nvidia-smi` reports them; only those of the first one's kind, because a row has one accelerator name."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    query = [program, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=_SMI_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from parse_smi(done.stdout if done.returncode == 0 else "")


def parse_smi(text: str) -> Iterator[Gpu]:
    """The accelerators in `index, name, MiB` lines."""
    kind = None
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != 3 or not parts[0].isdecimal():
            continue
        try:
            memory_gib = round(float(parts[2]) / 1024, 1)
        except ValueError:
            continue  # "[N/A]" on some integrated devices
        name = accelerator_of_product(parts[1], memory_gib)
        kind = kind or name
        if name == kind:
            yield Gpu(int(parts[0]), name, memory_gib)
