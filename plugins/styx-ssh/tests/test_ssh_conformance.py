"""Pools of hosts pass the conformance suite; the vendor is a handful of folders, each the home of a login."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from styx.driver import Place, SshFailed
from styx.testing.clock import ManualClock
from styx.testing.conformance import STORE, DriverConformance, Fault, FaultKind, Harness, Truth
from styx.testing.contexts import make_context
from styx.testing.folders import FolderDoor
from styx_ssh import SshConfig, SshPools

HOSTS = [f"h{number}" for number in range(7)]
STUBS = {"nproc": "echo 8", "hostname": "echo 10.1.1.1", "python3": "exit 0"}
FASTER = "somebody was faster\n"
TAKES = "styx.new"
"""Only the script that takes a lease has this word."""


class PoolHarness(Harness):
    unknown_code = None  # hosts have no codes of their own
    page_size = None
    installs_key = False
    # A host is had at once or not at all, and there is nobody behind it who could refuse with a code.
    impossible = frozenset({FaultKind.REFUSED, FaultKind.LATE})

    def __init__(self, home: Path) -> None:
        self.home = home / "styx"
        self.home.mkdir()
        self.door = FolderDoor(home / "hosts")
        self.clock = ManualClock()
        for host in (*HOSTS, "other"):
            (self.door.add(host) / "lease").mkdir()
            for name, script in STUBS.items():
                self.door.program(host, name, script)
        pools = {"lab": {"user": "me", "hosts": HOSTS}, "spare": {"user": "me", "hosts": ["other"]}}
        (self.home / "ssh_node_pools.yaml").write_text(json.dumps(pools))

    def driver(self, *, store: str = STORE, secrets: Mapping[str, str] | None = None) -> SshPools:
        config = SshConfig(lease_folder="lease")
        home = self.home if store == STORE else self.home.parent / store
        if not home.exists():
            home.mkdir()
            (home / "ssh_node_pools.yaml").write_bytes((self.home / "ssh_node_pools.yaml").read_bytes())
        context = make_context(home, store=store, secrets=secrets, clock=self.clock, config=config, ssh=self.door)
        return SshPools(context)

    def machines(self) -> Sequence[Truth]:
        found = []
        for host in HOSTS:
            path = self.door.root / host / "lease" / "styx.lease"
            if path.exists() and path.read_text() != FASTER:
                try:
                    lease = json.loads(path.read_text())
                except ValueError:
                    lease = {}
                found.append(
                    Truth(
                        id=f"lab/{host}",
                        ssh_keys=frozenset(
                            (self.door.root / host / ".ssh" / "authorized_keys").read_text().split("\n")
                        ),
                        labels=lease.get("labels"),
                        ports=frozenset(lease["ports"]) if "ports" in lease else None,
                    )
                )
        return found

    def occupy(self, host: str, text: str) -> str:
        (self.door.root / host / "lease" / "styx.lease").write_text(f"{text}\n")
        return f"lab/{host}"

    def plant_foreign(self, place: Place) -> Sequence[str]:
        near = {
            "version": 1, "store": "zzzzzz", "cluster": f"styx-{STORE}-zzzzzz01", "rank": 0, "token": "0" * 32,
            "owner": "somebody", "since": "2026-01-01T00:00:00Z", "pool": "lab", "host": "h1", "instance_type": "x",
        }  # fmt: skip
        return [self.occupy("h0", "what is this"), self.occupy("h1", json.dumps(near))]

    def fail_next(self, fault: Fault) -> None:
        if fault.kind is FaultKind.LISTING:
            (self.home / "ssh_node_pools.yaml").write_text("lab: [")
        elif fault.kind is FaultKind.LOST_REPLY:
            self.door.after = self._lose
        elif fault.kind is FaultKind.PARTIAL:
            left = [fault.after]

            def take(host: str, argv: Sequence[str]) -> None:
                if TAKES in argv[2]:
                    left[0] -= 1
                    if left[0] < 0:
                        for each in HOSTS:
                            if not (self.door.root / each / "lease" / "styx.lease").exists():
                                self.occupy(each, FASTER.strip())

            self.door.before, self.door.serial = take, True
        else:
            raise AssertionError(fault)

    def _lose(self, host: str, argv: Sequence[str]) -> None:
        if TAKES in argv[2]:
            self.door.after = lambda host, argv: None
            raise SshFailed(f"{host}: the connection was lost", "lost")

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestSshPools(DriverConformance):
    driver_type = SshPools

    @pytest.fixture
    def harness(self, tmp_path: Path) -> PoolHarness:
        return PoolHarness(tmp_path)
