"""The client is killed by SIGKILL at every commit and every driver call of every operation; nothing may leak.

The moments come from the engine itself: a first child runs the operation to its end and lists what it observed. The
embedded cloud is gone through as a whole; of the others there is a sample here, and all of it in `nox -s chaos`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from styx.provision.steps import OPERATIONS
from tests.chaos.conftest import AT_ONCE
from tests.chaos.survival import Case, Tally, Whole, survive, whole
from tests.chaos.targets import EVERY_VERB, FAULTS, SECOND_FAULTS, Embedded, Target

RUNS = int(os.environ.get("STYX_CHAOS_RUNS", "300"))
SEED = int(os.environ.get("STYX_CHAOS_SEED", "20260101"))
RECOVERIES = ("sweep", "look", "next")
CLOUDS = ("aws", "lambda", "runpod", "ssh")
GANGS = ("local", "aws", "lambda", "ssh")
"""Clouds with clusters of several nodes."""

TargetOf = Callable[[str], Target]


def all_of(cases: list[tuple[Case, str]], target: Target, folder: Path, tally: Tally) -> list[bool]:
    """Run cases side by side; all failures are told."""

    def one(number: int) -> bool:
        case, name = cases[number]
        return survive(target, folder / str(number), case, f"{target.name}: {name}", tally)

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        futures = [pool.submit(one, number) for number in range(len(cases))]
        try:
            wait(futures)
        except BaseException:  # Ctrl-C, or the test's own time limit
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    errors = [str(error) for future in futures if (error := future.exception()) is not None]
    assert errors == []
    return [future.result() for future in futures]


def whole_matrix(target: Target, case: Case, folder: Path, tally: Tally) -> None:
    """Every moment of one operation, recovered from in turn by sweep, by a look and by the next command."""
    seen = whole(target, folder / "whole", case).moments
    assert any(name.startswith("driver:") for name in seen)
    assert sum(name.startswith("commit:append_event") for name in seen) >= len(OPERATIONS[case.verb])
    cases = [
        (replace(case, moment=moment, recovery=RECOVERIES[number % 3]), f"{case} at {moment}")
        for number, moment in enumerate(seen)
    ]
    assert sum(all_of(cases, target, folder, tally)) >= len(cases) - 6  # polls that a run may do without


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", EVERY_VERB)
def test_killed_at_every_moment(verb: str, tmp_path: Path, tally: Tally) -> None:
    whole_matrix(Embedded(), Case(verb), tmp_path, tally)


SAMPLE = [
    ("aws", Case("launch", "driver:aws.create:after#0", recovery="next")),
    ("aws", Case("launch", fault="dead_after_second", nodes=2, recovery="sweep")),
    ("lambda", Case("launch", "commit:add_attempt:after#0", recovery="next")),
    ("lambda", Case("launch", "driver:lambda.create:after#0", fault="lost_reply", recovery="sweep")),
    ("lambda", Case("launch", fault="dead_before_second", nodes=2, recovery="next")),
    ("runpod", Case("down", "driver:runpod.terminate:after#0", recovery="look")),
    ("ssh", Case("launch", "driver:ssh.create:after#0", nodes=2, recovery="sweep")),
]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("cloud", "case"), SAMPLE, ids=lambda value: value if isinstance(value, str) else value.verb)
def test_a_sample_of_the_other_clouds(
    cloud: str, case: Case, target_of: TargetOf, tmp_path: Path, tally: Tally
) -> None:
    target = target_of(cloud)
    dies = bool(case.moment) or target.faults[str(case.fault)].kills
    assert survive(target, tmp_path / "case", case, f"{cloud}: {case}", tally) == dies


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("verb", EVERY_VERB)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_moment_on_every_cloud(cloud: str, verb: str, target_of: TargetOf, tmp_path: Path, tally: Tally) -> None:
    target = target_of(cloud)
    if verb not in target.verbs:
        pytest.skip(f"{cloud} cannot {verb}")
    whole_matrix(target, Case(verb), tmp_path, tally)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("verb", ["launch", "down"])
@pytest.mark.parametrize("cloud", GANGS)
def test_every_moment_with_two_nodes(cloud: str, verb: str, target_of: TargetOf, tmp_path: Path, tally: Tally) -> None:
    whole_matrix(target_of(cloud), Case(verb, nodes=2), tmp_path, tally)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", ["second_refused", "second_lost"])
@pytest.mark.parametrize("cloud", ["aws", "lambda"])
def test_every_moment_of_a_launch_that_the_cloud_troubles(
    cloud: str, fault: str, target_of: TargetOf, tmp_path: Path, tally: Tally
) -> None:
    """One place has one machine of two, and the next one has both; or the second is made, and nobody is told."""
    whole_matrix(target_of(cloud), Case("launch", fault=fault, nodes=2, anywhere=True), tmp_path, tally)


@pytest.mark.chaos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("cloud", ["aws", "lambda", "runpod"])
def test_replies_that_are_lost_and_places_that_refuse(
    cloud: str, target_of: TargetOf, tmp_path: Path, tally: Tally
) -> None:
    """Each fault, with a client that lives or dies with the call, and with one that dies around it."""
    target = target_of(cloud)
    create = f"driver:{cloud}.create"
    around = [
        "",
        f"{create}:before#0",
        f"{create}:after#0",
        f"{create}:before#1",
        "commit:update_attempt:after#0",
    ]
    cases = [
        Case("launch", moment, fault=fault, nodes=nodes, recovery=recovery)
        for nodes, faults in ((1, FAULTS), (2, SECOND_FAULTS))
        for fault in faults
        if fault in target.faults
        for moment in (around if not target.faults[fault].kills else around[:1])
        for recovery in RECOVERIES
    ]
    died = all_of([(case, str(case)) for case in cases], target, tmp_path, tally)
    for case, dead in zip(cases, died, strict=True):
        assert dead == target.faults[str(case.fault)].kills or case.moment, case


def chosen(target: Target, dice: random.Random, seen: Whole, case: Case) -> Case:
    """A moment, or any instant, and perhaps a fault."""
    case = replace(case, recovery=dice.choice(RECOVERIES))
    if dice.random() < 0.25:
        return replace(case, after_s=dice.random() * seen.seconds)
    case = replace(case, moment=dice.choice(seen.moments))
    if case.verb == "launch" and dice.random() < 0.3:
        known = [name for name in target.faults if case.nodes > 1 or name not in SECOND_FAULTS]
        return replace(case, fault=dice.choice(known) if known else None)
    return case


@pytest.mark.chaos
@pytest.mark.timeout(14400)
def test_random_deaths(target_of: TargetOf, tmp_path: Path, tally: Tally) -> None:
    """So many runs as `STYX_CHAOS_RUNS` says, each a cloud, an operation, a moment and a way back by chance."""
    dice = random.Random(SEED)
    seen: dict[tuple[str, Case], Whole] = {}
    pairs = [(cloud, verb) for cloud in ("local", *CLOUDS) for verb in target_of(cloud).verbs]
    plan: dict[str, list[tuple[Case, str]]] = {}
    for number in range(RUNS):
        cloud, verb = dice.choice(pairs)
        target = target_of(cloud)
        base = Case(verb, nodes=dice.choice((1, 1, target.most_nodes)))
        if (cloud, base) not in seen:
            seen[cloud, base] = whole(target, tmp_path / f"whole-{len(seen)}", base)
        case = chosen(target, dice, seen[cloud, base], base)
        plan.setdefault(cloud, []).append((case, f"run {number}, seed {SEED}: {case}"))
    for cloud, cases in plan.items():
        all_of(cases, target_of(cloud), tmp_path / cloud, tally)
