"""The client is killed by SIGKILL at every commit and every driver call of every operation; nothing may leak.

The moments come from the engine itself: a first child runs the operation to its end and lists what it observed. The
embedded cloud is gone through as a whole; of the others there is a sample here, and all of it in `nox -s chaos`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from styx.provision.steps import OPERATIONS
from styx.testing.machines import Machines
from tests.chaos.survival import Case, moments, survive
from tests.chaos.targets import EVERY_VERB, Aws, Embedded, Lambda, Pool, RunPod, Target

AT_ONCE = int(os.environ.get("STYX_CHAOS_AT_ONCE", "3"))
RUNS = int(os.environ.get("STYX_CHAOS_RUNS", "300"))
SEED = int(os.environ.get("STYX_CHAOS_SEED", "20260101"))
RECOVERIES = ("sweep", "look", "next")
CLOUDS = ("aws", "lambda", "runpod", "ssh")


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


def all_of(cases: list[tuple[Case, str]], target: Target, folder: Path) -> list[bool]:
    """Run cases side by side; all failures are told."""

    def one(number: int) -> bool:
        case, name = cases[number]
        return survive(target, folder / str(number), case, f"{target.name}: {name}")

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        futures = [pool.submit(one, number) for number in range(len(cases))]
    errors = [str(error) for future in futures if (error := future.exception()) is not None]
    assert errors == []
    return [future.result() for future in futures]


def whole_matrix(target: Target, verb: str, folder: Path) -> None:
    """Every moment of one operation, recovered from in turn by sweep, by a look and by the next command."""
    seen = moments(target, folder / "whole", verb)
    assert any(name.startswith("driver:") for name in seen)
    assert sum(name.startswith("commit:append_event") for name in seen) >= len(OPERATIONS[verb])
    cases = [
        (Case(verb, moment, recovery=RECOVERIES[number % 3]), f"{verb} at {moment}")
        for number, moment in enumerate(seen)
    ]
    assert sum(all_of(cases, target, folder)) >= len(cases) - 6  # polls that a run may do without


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", EVERY_VERB)
def test_killed_at_every_moment(verb: str, tmp_path: Path) -> None:
    whole_matrix(Embedded(), verb, tmp_path)


SAMPLE = [
    ("aws", Case("launch", "driver:aws.create:after#0", recovery="next")),
    ("lambda", Case("launch", "commit:add_attempt:after#0", recovery="next")),
    ("lambda", Case("launch", "driver:lambda.create:after#0", fault="lost_reply", recovery="sweep")),
    ("runpod", Case("down", "driver:runpod.terminate:after#0", recovery="look")),
    ("ssh", Case("launch", "driver:ssh.create:after#0", recovery="sweep")),
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.xdist_group("machines")
@pytest.mark.parametrize(("cloud", "case"), SAMPLE, ids=lambda value: value if isinstance(value, str) else value.verb)
def test_a_sample_of_the_other_clouds(
    cloud: str, case: Case, target_of: Callable[[str], Target], tmp_path: Path
) -> None:
    assert survive(target_of(cloud), tmp_path / "case", case, f"{cloud}: {case}")


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("verb", EVERY_VERB)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_moment_on_every_cloud(cloud: str, verb: str, target_of: Callable[[str], Target], tmp_path: Path) -> None:
    target = target_of(cloud)
    if verb not in target.verbs:
        pytest.skip(f"{cloud} cannot {verb}")
    whole_matrix(target, verb, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("cloud", ["aws", "lambda", "runpod"])
def test_replies_that_are_lost_and_places_that_refuse(
    cloud: str, target_of: Callable[[str], Target], tmp_path: Path
) -> None:
    """Each fault, with a client that lives and with one that dies around the call."""
    target = target_of(cloud)
    create = f"driver:{cloud}.create"
    moments_of_death = [
        "",
        f"{create}:before#0",
        f"{create}:after#0",
        f"{create}:before#1",
        "commit:update_attempt:after#0",
    ]
    cases = [
        (Case("launch", moment, fault, recovery=recovery), f"{fault}, dead at {moment or 'no moment'}, {recovery}")
        for fault in target.faults
        for moment in moments_of_death
        for recovery in RECOVERIES
    ]
    folder = tmp_path
    if cloud == "aws":  # its faults are for the next call, whoever makes it
        for number, (case, name) in enumerate(cases):
            survive(target, folder / str(number), case, f"{cloud}: {name}")
        return
    all_of(cases, target, folder)


@pytest.mark.chaos
@pytest.mark.timeout(14400)
def test_random_deaths(target_of: Callable[[str], Target], tmp_path: Path) -> None:
    """So many runs as `STYX_CHAOS_RUNS` says, each a cloud, an operation, a moment and a way back by chance."""
    dice = random.Random(SEED)
    seen: dict[tuple[str, str], list[str]] = {}
    pairs = [(cloud, verb) for cloud in ("local", *CLOUDS) for verb in target_of(cloud).verbs]
    plan: dict[str, list[tuple[Case, str]]] = {}
    for number in range(RUNS):
        cloud, verb = dice.choice(pairs)
        if (cloud, verb) not in seen:
            seen[cloud, verb] = moments(target_of(cloud), tmp_path / f"whole-{cloud}-{verb}", verb)
        case = Case(verb, dice.choice(seen[cloud, verb]), recovery=dice.choice(RECOVERIES))
        target = target_of(cloud)
        if verb == "launch" and cloud in ("lambda", "runpod") and dice.random() < 0.3:
            case = replace(case, fault=dice.choice(target.faults))
        plan.setdefault(cloud, []).append((case, f"run {number}, seed {SEED}: {case}"))
    for cloud, cases in plan.items():
        all_of(cases, target_of(cloud), tmp_path / cloud)
