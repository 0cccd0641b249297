"""Proof by deliberate faults: what a check is worth is shown by a driver that only it can catch.

A fault is a broken subclass of `FakeDriver`, the check that must catch it, and words of the message by which it must do
so. A check that is removed, or an assertion that no longer asserts, leaves its faults uncaught.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from styx.testing.conformance.harness import AnyDriver
from styx.testing.fakecloud.harness import FakeHarness

BrokenT = TypeVar("BrokenT", bound=type[AnyDriver])


@dataclass(frozen=True)
class Broken:
    """One fault.

    Attributes:
        check: Name of the check that must catch it.
        says: Words of the message.
        driver: The broken driver.
        idempotent: At which kind of vendor the fault shows.
        harness: The harness, when that is what is broken.
    """

    check: str
    says: str
    driver: type[Any]
    idempotent: bool
    harness: type[FakeHarness]

    def __str__(self) -> str:
        return f"{self.check.removeprefix('test_')}-{self.driver.__name__}"


class Proof:
    """The faults for some classes of checks.

    Args:
        suites: Classes whose methods named `test_...` are to be proven.
    """

    def __init__(self, *suites: type) -> None:
        self.checks = {name: suite for suite in suites for name in dir(suite) if name.startswith("test_")}
        self.faults: list[Broken] = []

    def caught_by(
        self, check: str, says: str, *, idempotent: bool = True, harness: type[FakeHarness] = FakeHarness
    ) -> Callable[[BrokenT], BrokenT]:
        """Register the decorated driver as a fault."""

        def register(driver: BrokenT) -> BrokenT:
            self.faults.append(Broken(check, says, driver, idempotent, harness))
            return driver

        return register

    def run(self, fault: Broken, home: Path) -> None:
        """Run the check on the fault; raises what the check raises."""
        harness = fault.harness(home, fault.driver, idempotent=fault.idempotent)
        getattr(self.checks[fault.check](), fault.check)(harness)

    def unproven(self, elsewhere: Iterable[str] = ()) -> set[str]:
        """Checks without a fault, but for those named, which are proven elsewhere."""
        return set(self.checks) - {fault.check for fault in self.faults} - set(elsewhere)
