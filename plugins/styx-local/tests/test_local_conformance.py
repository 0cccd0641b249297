"""The local cloud passes the conformance suite; its vendor is the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from styx.driver import Place
from styx.testing.clock import ManualClock
from styx.testing.conformance import STORE, DriverConformance, Fault, FaultKind, Harness, Truth, cluster_key
from styx.testing.contexts import make_context
from styx_local import Local, LocalConfig
from styx_local.machine import Machines


class LocalHarness(Harness):
    unknown_code = None  # the vendor is the file system: errno, no codes
    page_size = None
    impossible = frozenset({FaultKind.LOST_REPLY, FaultKind.REFUSED})  # a call into the kernel has no reply to lose

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = ManualClock()
        self._late = False

    def driver(self, *, store: str = STORE, secrets: Mapping[str, str] | None = None) -> Local:
        context = make_context(self.home, store=store, secrets=secrets, clock=self.clock, config=LocalConfig())
        return Local(context)

    def machines(self) -> Sequence[Truth]:
        found = []
        for slot in Machines(self.home).slots():
            try:
                machine = slot.read()
            except ValueError:
                machine = None
            found.append(
                Truth(
                    id=f"{slot.cluster}-{slot.rank}",
                    labels=machine.labels if machine else None,
                    ports=frozenset(machine.ports) if machine else None,
                )
            )
        return found

    def plant_foreign(self, place: Place) -> Sequence[str]:
        for name in ("somebody-else", "styx-mine-zzzzzz01", f"styx-{STORE}-zzzzzz01"):
            (self.home / "local" / name / "0").mkdir(parents=True)
        return [machine.id for machine in self.machines()]

    def fail_next(self, fault: Fault) -> None:
        local = self.home / "local"
        if fault.kind is FaultKind.PARTIAL:
            cluster = local / cluster_key("conform", STORE)
            cluster.mkdir(parents=True)
            (cluster / str(fault.after)).write_text("a file where a folder must be")
        elif fault.kind is FaultKind.LATE:
            self._late = True
        elif fault.kind is FaultKind.LISTING:
            local.rename(self.home / "away")
            local.write_text("a file where a folder must be")
        else:
            raise AssertionError(fault)

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        if self._late:
            self._late = False
            for slot in Machines(self.home).slots():
                (slot.folder / "machine.json").write_text('{"version": 1, "sto')


class TestLocal(DriverConformance):
    driver_type = Local

    @pytest.fixture
    def harness(self, tmp_path: Path) -> LocalHarness:
        return LocalHarness(tmp_path)
