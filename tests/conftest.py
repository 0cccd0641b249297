"""A private Styx for tests across packages: the real command, the local cloud, a home of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Styx:
    """The `styx` command with a private `STYX_HOME`, and a look at what it left running."""

    home: Path
    program: tuple[str, ...] = (str(Path(sys.executable).with_name("styx")),)
    cwd: Path = ROOT
    env: dict[str, str] = field(default_factory=dict)
    seen_short_paths: set[Path] = field(default_factory=set)
    """Sockets and folders outside the home that its nodes had when `down` was called."""

    def environment(self) -> dict[str, str]:
        """What the command sees: the caller's environment, this home, no colours, a stable width."""
        return os.environ | {"STYX_HOME": str(self.home), "NO_COLOR": "1", "COLUMNS": "120"} | self.env

    def __call__(
        self, *arguments: str, code: int | None = 0, timeout_s: float = 120, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `styx ARGUMENTS`; fail unless the exit code is `code` (None: any)."""
        if arguments[0] == "down":
            self.seen_short_paths.update(self.short_paths())
        done = subprocess.run(
            [*self.program, *arguments],
            cwd=self.cwd,
            env=self.environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        said = f"styx {' '.join(arguments)}\n--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}"
        assert code is None or done.returncode == code, f"exit code {done.returncode}, not {code}: {said}"
        assert "Traceback (most recent call last)" not in done.stderr, said
        return done

    def begin(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start `styx ARGUMENTS` in a session of its own, and leave it running; its output is bytes on pipes."""
        return subprocess.Popen(
            [*self.program, *arguments],
            cwd=self.cwd,
            env=self.environment() | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def json(self, *arguments: str, **options: Any) -> Any:
        """What `styx ARGUMENTS --json` prints, parsed: stdout must hold nothing else."""
        return json.loads(self(*arguments, "--json", **options).stdout)

    def wait_for(self, cluster: str, job_id: int, timeout_s: float = 60) -> dict[str, Any]:
        """The row of `styx queue` once the job has ended."""
        deadline = time.monotonic() + timeout_s
        while True:
            rows = [row for row in self.json("queue", cluster) if row["job_id"] == job_id]
            assert rows, f"job {job_id} of {cluster} is not in the queue"
            if rows[0]["exit_code"] is not None:
                row: dict[str, Any] = rows[0]
                return row
            assert time.monotonic() < deadline, f"job {job_id} of {cluster} is still {rows[0]['state']}"
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        """Processes of this home: by their environment, their working folder or their command line."""
        home = str(self.home)
        return [process for process in psutil.process_iter() if process.pid != os.getpid() and belongs(process, home)]

    def node_folders(self) -> list[Path]:
        """Folders of local nodes that still exist."""
        return [path for path in self.home.glob("local/*") if path.is_dir()]

    def short_paths(self) -> list[Path]:
        """What nodes keep in the per-user folder of short paths; its name begins with a digest of their folder."""
        folders = [
            path for depth in ("*", "*/*", "*/*/*") for path in self.home.glob(f"local/{depth}") if path.is_dir()
        ]
        digests = [hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12] for path in folders]
        short = Path(os.environ.get("STYX_SOCKET_DIR") or f"/tmp/sx-{os.getuid()}")
        return [path for digest in digests for path in short.glob(f"{digest}*")]

    def waits_for_short_paths(self, timeout_s: float = 20) -> list[Path]:
        """The same, once there are any: an agent that finds its socket tidied away binds a new one within a second."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.short_paths()) and time.monotonic() < deadline:
            time.sleep(0.1)
        told = [(describe(process)) for process in self.processes()]
        assert found, f"no socket of {self.node_folders()}; processes: {told}"
        return found

    def assert_nothing_left(self, timeout_s: float = 10) -> None:
        """Nothing runs and no node's folder is left; agents get a moment to be gone from the process table."""
        deadline = time.monotonic() + timeout_s
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"processes left: {[describe(process) for process in left]}"
        assert not self.node_folders(), f"folders left: {self.node_folders()}"
        assert not (short := [path for path in self.seen_short_paths if path.exists()]), f"short paths left: {short}"

    def remove_everything(self) -> None:
        """After a test, failed or not: end what it made, then whatever still carries its home."""
        if (self.home / "state.db").exists():
            self("down", "--all", "--yes", code=None)
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue


def belongs(process: psutil.Process, home: str) -> bool:
    """Whether the process was started under `home`. Zombies and other users' processes do not count."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.environ().get("STYX_HOME") == home or process.cwd().startswith(home):
            return True
        return any(home in argument for argument in process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def describe(process: psutil.Process) -> str:
    """`pid command line`, for a failed assertion."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (gone meanwhile)"


@pytest.fixture
def styx(tmp_path: Path) -> Iterator[Styx]:
    """A Styx of its own for one test; whatever it left running is ended afterwards."""
    command = Styx(home=tmp_path / "styx-home")
    yield command
    command.remove_everything()
