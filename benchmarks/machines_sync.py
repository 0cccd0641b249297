"""How fast files reach a host, beside `rsync -az` and `scp -r` in the same rounds. See `machines.py`."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machines import Client

from styx.testing.machines import Machine, Machines
from styx.transport.agent import ensure_agent
from styx.transport.sync import SyncSummary, sync
from styx.transport.tree import SyncItem

GIB = 1 << 30


def one_large_file(folder: Path, size: int) -> None:
    """A file like a checkpoint, which no packer makes smaller."""
    folder.mkdir()
    with (folder / "weights.bin").open("wb") as file:
        for _ in range(max(1, size >> 20)):
            file.write(os.urandom(1 << 20))


def many_small_files(folder: Path, count: int) -> None:
    """Texts of 0.2 to 8 KB in folders of 100."""
    words = [f"word{number} " for number in range(500)]
    chance = random.Random(7)
    for number in range(count):
        inside = folder / f"part{number // 100:04d}"
        if number % 100 == 0:
            inside.mkdir(parents=True)
        (inside / f"file{number:06d}.txt").write_text("".join(chance.choices(words, k=chance.randint(30, 1000))))


class Target:
    """One host, and the three ways to it."""

    def __init__(self, client: Client, machine: Machine, key: Path, known: Path) -> None:
        self.machine = machine
        self.transport = client.way_to(machine, "styx-sync-00000000/0")
        self.agent = ensure_agent(self.transport, "styx-sync-00000000", 0, client.agent, start_s=120)
        options = {"UserKnownHostsFile": known, "StrictHostKeyChecking": "yes", "BatchMode": "yes", "LogLevel": "ERROR"}
        self.ssh = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self.ssh += ["-F", "/dev/null", "-i", str(key)]
        self.at = f"{machine.user}@{machine.host}"

    def styx(self, source: Path) -> SyncSummary:
        """As a launch does it."""
        return sync(self.transport, self.agent.agent_path, [SyncItem(source, "~/styx")], lambda _line: None)

    def rsync(self, source: Path) -> None:
        """As people do it."""
        shell = " ".join(["ssh", *self.ssh])
        subprocess.run(["rsync", "-az", "-e", shell, f"{source}/", f"{self.at}:rsync/"], check=True)

    def scp(self, source: Path) -> None:
        """As people do it who have no rsync."""
        subprocess.run(["scp", "-q", "-r", *self.ssh, str(source), f"{self.at}:scp"], check=True)

    def clear(self) -> None:
        """Remove what all three brought."""
        for name in ("styx", "rsync", "scp"):
            shutil.rmtree(self.machine.root / "root" / name, ignore_errors=True)


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """How long it took, and its result."""
    began = time.monotonic()
    result = action()
    return time.monotonic() - began, result


def measure(target: Target, source: Path, name: str, rounds: int) -> dict[str, Any]:
    """First and second copy by each, taking turns."""
    first: dict[str, list[float]] = {"styx": [], "rsync": [], "scp": []}
    second: dict[str, list[float]] = {"styx": [], "rsync": []}
    moved = 0
    for turn in range(rounds):
        target.clear()
        for tool in sorted(first, key=lambda each: (len(each) + turn * 7) % 5):
            first[tool].append(seconds(lambda tool=tool: getattr(target, tool)(source))[0])  # type: ignore[misc]
        took_s, summary = seconds(lambda: target.styx(source))
        second["styx"].append(took_s)
        moved = max(moved, summary.sent_bytes)
        second["rsync"].append(seconds(lambda: target.rsync(source))[0])
    row: dict[str, Any] = {"what": name, "rounds": rounds, "moved_again_bytes": moved}
    for tool, figures in first.items():
        row[f"{tool}_s"] = round(statistics.median(figures), 2)
    for tool, figures in second.items():
        row[f"{tool}_again_s"] = round(statistics.median(figures), 2)
    for tool in ("rsync", "scp"):
        row[f"to_{tool}"] = round(row["styx_s"] / row[f"{tool}_s"], 2)
    row["again_to_rsync"] = round(row["styx_again_s"] / row["rsync_again_s"], 2)
    return row


def run_sync(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Both shapes of data."""
    if missing := [tool for tool in ("rsync", "scp") if shutil.which(tool) is None]:
        raise SystemExit(f"this part measures {' and '.join(missing)} beside: install the package first")
    found = []
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as folder, Machines() as room:
        base = Path(folder)
        client = Client(base / "home")
        key, known = base / "id", base / "known"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        keys = [client.key, key.with_suffix(".pub").read_text().strip()]
        machine = room.boot("bench", authorized_keys=keys)
        machine.wait_for_ssh()
        known.write_text(f"{machine.host} {machine.host_key}\n")
        target = Target(client, machine, key, known)
        many_small_files(base / "small", options.files)
        one_large_file(base / "large", int(options.gib * GIB))
        for name in ("small", "large"):
            row = measure(target, base / name, name, options.rounds)
            found.append(row)
            print(" ".join(f"{field}={value}" for field, value in row.items()), file=sys.stderr)
        target.agent.shutdown()
        client.logins.close()
    return found
