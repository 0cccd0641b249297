"""What the machine is and how busy it is, from /proc and nvidia-smi."""

from __future__ import annotations

import contextlib
import os
import threading
import time

from styx_agent.lean import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

_NVIDIA_SMI_S = 10.0
_SAMPLE_S = 0.1
_OLDEST_SAMPLE_S = 300.0
_MIB = 1 << 20


class Metrics:
    """Remembers the processor times of the last question, so that the next answer covers the time between."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[float, int, int] | None = None

    def read(self, home: str, search_path: str) -> dict[str, Any]:
        """The result of `node.metrics`."""
        total, available = memory()
        disk = os.statvfs(home if os.path.isdir(home) else "/")
        used_blocks = disk.f_blocks - disk.f_bfree
        return {
            "time": time.time(),
            "load1": os.getloadavg()[0],
            "cpu_percent": self._cpu_percent(),
            "memory_used_bytes": None if total is None or available is None else total - available,
            "memory_total_bytes": total,
            "disk_used_bytes": used_blocks * disk.f_frsize,
            "disk_total_bytes": disk.f_blocks * disk.f_frsize,
            "gpus": gpu_metrics(search_path),
        }

    def _cpu_percent(self) -> float | None:
        with self._lock:
            now = _cpu_times()
            if now is None:
                return None
            last = self._last
            if last is None or not _SAMPLE_S <= now[0] - last[0] <= _OLDEST_SAMPLE_S:
                last = now
                time.sleep(_SAMPLE_S)
                now = _cpu_times() or last
            self._last = now
            spent = now[1] - last[1]
            return round(100.0 * (1 - (now[2] - last[2]) / spent), 1) if spent > 0 else 0.0


def _cpu_times() -> tuple[float, int, int] | None:
    """Time, ticks of all kinds, and idle ticks."""
    try:
        with open("/proc/stat", "rb") as stream:
            ticks = [int(field) for field in stream.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (time.monotonic(), sum(ticks), ticks[3] + ticks[4]) if len(ticks) > 4 else None


def memory() -> tuple[int | None, int | None]:
    """Total and available bytes."""
    found = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            for line in stream:
                name, _, rest = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    if "MemTotal" not in found:
        with contextlib.suppress(OSError, ValueError):
            found["MemTotal"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return found.get("MemTotal"), found.get("MemAvailable")


def gpu_metrics(search_path: str) -> list[dict[str, Any]]:
    """One entry for each GPU; empty without nvidia-smi."""
    rows = _nvidia_smi("index,utilization.gpu,memory.used,memory.total", search_path)
    return [
        {
            "index": _number(row[0]),
            "utilization_percent": _number(row[1]),
            "memory_used_bytes": _mebibytes(row[2]),
            "memory_total_bytes": _mebibytes(row[3]),
        }
        for row in rows
        if len(row) == 4
    ]


def gpus(search_path: str) -> list[dict[str, Any]]:
    """Name and memory of each GPU."""
    rows = _nvidia_smi("name,memory.total", search_path)
    return [{"name": row[0], "memory_bytes": _mebibytes(row[1])} for row in rows if len(row) == 2]


def _nvidia_smi(columns: str, search_path: str) -> list[list[str]]:
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi", path=search_path)
    if program is None:
        return []
    try:
        listing = subprocess.run(
            [program, "--query-gpu=" + columns, "--format=csv,noheader,nounits"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_NVIDIA_SMI_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    lines = listing.decode("utf-8", "replace").splitlines()
    return [[field.strip() for field in line.split(",")] for line in lines if line.strip()]


def _number(text: str) -> float | None:
    """Drivers write [N/A] where they know nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value == int(value) else value


def _mebibytes(text: str) -> int | None:
    value = _number(text)
    return None if value is None else int(value * _MIB)
