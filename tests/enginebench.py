"""A home, a fake cloud whose machines are real folders with real agents, and a client: for tests of the engine."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from styx.api import LaunchOptions
from styx.api.inprocess import InProcess
from styx.models import Task
from styx.state.rows import Event
from styx.testing.fakecloud import FakeCloud, World

DRIVER = """
from styx.plugin import Limits
from styx.testing.fakecloud import FakeDriver

class Fake(FakeDriver):
    limits = Limits(min_poll_s=0.02, listing_lag_s=0.2)
"""


class Bench:
    """One home, one fake cloud, one client."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        (self.home / "drivers").mkdir(parents=True)
        (self.home / "drivers" / "fake.py").write_text(DRIVER)
        books = folder / "books.json"
        (self.home / "config.yaml").write_text(
            json.dumps({"clouds": {"fake": {"state_path": str(books), "real_nodes": True}}})
        )
        self.cloud = FakeCloud(World(nodes_dir=str(folder / "nodes")), path=books)
        environ = {"FAKE_API_KEY": "fake-key", "HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        self.client = InProcess.open(home=self.home, cwd=folder, environ=environ)
        self.client.world = replace(self.client.world, sleep=self.sleep)
        self.events: list[Event] = []
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        time.sleep(min(seconds, 0.05))

    def task(self, run: str = "echo out; exit 3", **fields: Any) -> Task:
        return Task.from_dict({"run": run, "resources": {"infra": "fake", "cpus": 2}, **fields})

    def launch(self, name: str = "c", task: Task | None = None, **options: Any) -> Any:
        return self.client.launch(task or self.task(), LaunchOptions(cluster=name, **options), self.events.append)

    def alive(self) -> list[str]:
        return [one.name for one in self.cloud.machines() if one.status(self.cloud.clock()).value == "active"]

    def outcomes(self, name: str = "c") -> list[tuple[str, str, str | None]]:
        return [(str(each.place), each.state, each.vendor_code) for each in self.client.why(name).attempts]
