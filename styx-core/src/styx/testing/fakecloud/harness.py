"""The conformance harness of FakeDriver: what an author writes around a fake of their vendor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from styx.driver import Place
from styx.testing.clock import ManualClock
from styx.testing.conformance.harness import AnyDriver, Fault, FaultKind, Harness, Truth
from styx.testing.contexts import STORE, make_context
from styx.testing.fakecloud.cloud import FakeCloud
from styx.testing.fakecloud.driver import ERRORS, FakeConfig, FakeDriver
from styx.testing.fakecloud.world import World

KEY = "fake-key-canary-7731"


class FakeHarness(Harness):
    """A FakeCloud that takes its time, lags, and pages by five.

    Args:
        home: Stands for `$STYX_HOME`.
        driver_type: The driver under test; tests of the suite itself pass broken ones.
        idempotent: Whether the vendor keeps the promise of its client tokens.
    """

    credentials: Mapping[str, str] = {"FAKE_API_KEY": KEY}
    error_table = ERRORS
    page_size = 5

    def __init__(self, home: Path, driver_type: type[FakeDriver] = FakeDriver, *, idempotent: bool = True) -> None:
        self.home = home
        self.driver_type = driver_type
        self.clock = ManualClock()
        world = World(
            keys={KEY: "acct-1"},
            page_size=self.page_size,
            listing_lag_s=4,
            boot_s=25,
            stop_s=12,
            terminate_s=8,
            idempotent=idempotent,
            closed_regions=("south",),
        )
        self.cloud = FakeCloud(world, clock=self.clock)

    def driver(self, *, store: str = STORE, secrets: Mapping[str, str] | None = None) -> AnyDriver:
        """A driver that finds the cloud in its context."""
        context = make_context(
            self.home,
            config=FakeConfig(),
            store=store,
            secrets=self.credentials if secrets is None else secrets,
            clock=self.clock,
            extra={"fakecloud": self.cloud},
        )
        return self.driver_type(context)

    def machines(self) -> Sequence[Truth]:
        """The cloud's own list."""
        return [
            Truth(
                id=one.id,
                ssh_keys=frozenset({one.ssh_public_key} if one.ssh_public_key else ()),
                boot_script=one.user_data,
                labels=one.tags,
                ports=frozenset(one.ports),
            )
            for one in self.cloud.machines()
        ]

    def plant_foreign(self, place: Place) -> Sequence[str]:
        """One machine without tags, and one that looks almost like ours."""
        zone = place.zone or ""
        near = {"styx-cluster": "styx-conform-else0101", "styx-rank": "0", "styx-store": f"{STORE}x"}
        return [
            self.cloud.plant(zone).id,
            self.cloud.plant(zone, name="styx-conform-else0101-0", tags=near).id,
        ]

    def fail_next(self, fault: Fault) -> None:
        """Script the cloud."""
        match fault.kind:
            case FaultKind.REFUSED:
                self.cloud.refuse("create_machine", fault.code or "out_of_stock")
            case FaultKind.PARTIAL:
                self.cloud.refuse("create_machine", "out_of_stock", after=fault.after)
            case FaultKind.LOST_REPLY:
                self.cloud.lose_reply("create_machine")
            case FaultKind.LATE:
                self.cloud.doom("out_of_stock")
            case FaultKind.LISTING:
                self.cloud.refuse("list_machines", "internal")

    def advance(self, seconds: float) -> None:
        """Move the only clock there is."""
        self.clock.advance(seconds)

    def remains(self) -> Sequence[str]:
        """Groups and addresses."""
        return [one.id for one in self.cloud.things() if one.kind in {"group", "address"}]

    def request_lines(self) -> Sequence[str]:
        """The cloud's request log."""
        return self.cloud.requests()

    def registered_name(self, driver_type: type[AnyDriver]) -> str | None:
        """It has no entry point: nobody launches there but tests."""
        return "fake" if issubclass(driver_type, FakeDriver) else None
