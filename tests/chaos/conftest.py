"""What the tests of dying clients have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import entry_points

import pytest

from styx.testing.machines import Machines
from tests.chaos.survival import Tally
from tests.chaos.targets import Aws, Embedded, Lambda, Pool, RunPod, Target

AT_ONCE = int(os.environ.get("STYX_CHAOS_AT_ONCE", "3"))
TALLY = pytest.StashKey[Tally]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What became of the clients, after a run of the whole matrix."""
    tally = config.stash.get(TALLY, None)
    if tally is not None and "chaos" in config.option.markexpr.replace("not chaos", ""):
        terminalreporter.section("deaths of clients")
        terminalreporter.write("\n".join([*tally.lines(), ""]))


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    return pytestconfig.stash.setdefault(TALLY, Tally())


@pytest.fixture(autouse=True)
def own_pauses() -> Iterator[None]:
    """Drivers get their own pauses back: `child.hurry` shortens them for the whole process."""
    drivers = [found.load() for found in entry_points(group="styx.drivers")]
    before = [driver.limits for driver in drivers]
    yield
    for driver, limits in zip(drivers, before, strict=True):
        driver.limits = limits


@pytest.fixture(scope="module")
def room() -> Iterator[Machines]:
    if reason := Machines.unavailable():
        pytest.skip(f"no real hosts: {reason}")
    with Machines() as room:
        yield room


@pytest.fixture(scope="module")
def target_of(room: Machines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Target]]:
    """Each cloud, begun when it is first asked for."""
    from tests.simcloud.ec2 import Ec2
    from tests.simcloud.lambdacloud import LambdaCloud
    from tests.simcloud.runpod import RunPodCloud

    with ExitStack() as stack:
        made: dict[str, Target] = {}

        def make(name: str) -> Target:
            if name == "aws":
                return Aws(stack.enter_context(Ec2(room, listing_lag_s=0.3)))
            if name == "lambda":
                return Lambda(stack.enter_context(LambdaCloud(room=room, listing_lag_s=0.3)))  # type: ignore[arg-type] # entering a vendor gives that vendor
            if name == "runpod":
                return RunPod(stack.enter_context(RunPodCloud(room=room, listing_lag_s=0.3)))  # type: ignore[arg-type] # the same
            if name == "ssh":
                return Pool(room, tmp_path_factory.mktemp("pool"), AT_ONCE)
            return Embedded()

        def get(name: str) -> Target:
            if name not in made:
                made[name] = make(name)
            return made[name]

        yield get
