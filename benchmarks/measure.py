"""Running commands and telling what they cost: CPU time of the whole process tree they wait for, and wall time."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BASELINE = (sys.executable, "-c", "import typer, pydantic")
STYX = (str(Path(sys.executable).with_name("styx")),)
SETTLE_S = 0.05


@dataclass(frozen=True)
class Cost:
    """One run of a command."""

    cpu_s: float
    wall_s: float


@dataclass
class Subject:
    """A command under measurement and what its runs cost."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    runs: list[Cost] = field(default_factory=list)

    @property
    def cpu_s(self) -> float:
        """Median CPU time."""
        return statistics.median(run.cpu_s for run in self.runs)

    @property
    def wall_s(self) -> float:
        """Median wall time."""
        return statistics.median(run.wall_s for run in self.runs)


def run(argv: Sequence[str], env: Mapping[str, str], *, timeout_s: float = 300) -> Cost:
    """What one run costs.

    The CPU time is user plus system time of the process and of the children it waited for; daemons it leaves behind
    are not counted.

    Raises:
        SystemExit: The command failed or took too long; its output is shown.
    """
    with tempfile.TemporaryFile() as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            argv, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        watchdog = threading.Timer(timeout_s, process.kill)
        watchdog.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        watchdog.cancel()
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace")
            raise SystemExit(f"{' '.join(argv)} exited with {process.returncode}:\n{said}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s)


def interleave(subjects: Sequence[Subject], rounds: int) -> None:
    """Run every subject once per round, so that a disturbance hits all alike; the first round only warms the caches."""
    for number in range(rounds + 1):
        for subject in subjects:
            cost = run(subject.argv, subject.env)
            if number:
                subject.runs.append(cost)
            time.sleep(SETTLE_S)
        print(f"round {number} of {rounds}", file=sys.stderr)


@contextmanager
def private_home() -> Iterator[dict[str, str]]:
    """An environment whose home and `STYX_HOME` are an empty folder; clusters in it are ended afterwards.

    Also when the benchmark is ended by SIGTERM.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as folder:
        env = os.environ | {"HOME": folder, "STYX_HOME": f"{folder}/styx", "NO_COLOR": "1", "COLUMNS": "120"}
        env.pop("COVERAGE_PROCESS_START", None)
        try:
            yield env
        finally:
            if Path(env["STYX_HOME"], "state.db").exists():
                run((*STYX, "down", "--all", "--yes"), env)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, figures to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    ruler = [("-" * width) if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    return "\n".join([line(header), line(ruler), *map(line, rows)])


def machine() -> str:
    """What the figures were taken on."""
    cores = len(os.sched_getaffinity(0))
    return f"Python {sys.version.split()[0]}, {cores} cores, load {os.getloadavg()[0]:.2f} at the start"
