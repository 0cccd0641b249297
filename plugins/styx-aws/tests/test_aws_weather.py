"""Random weather: replies lost, calls throttled, listings late, clients dying; nothing is ever left over or made twice.

`STYX_AWS_WEATHER=300 pytest plugins/styx-aws/tests/test_aws_weather.py` runs as many seeds.
"""

import os
import random

import pytest

from styx.plugin import AmbiguousError, CapacityError, CloudError, NodeState, TransientError
from tests.simcloud.ec2 import Fault

from .test_aws_machines import CLUSTER, PLACE, ask, row

RUNS = int(os.environ.get("STYX_AWS_WEATHER", "10"))
CHANGING = ("Create", "Run", "Authorize", "Allocate", "Associate", "Terminate", "Delete", "Release", "Cancel", "Stop")


def weather(dice, chance):
    def strike(action):
        if dice.random() > chance or not action:
            return None
        if action.startswith(CHANGING) and dice.random() < 0.5:
            return Fault(action, lost=True)
        code, status = dice.choice([("RequestLimitExceeded", 503), ("InternalError", 500), ("Unavailable", 503)])
        return Fault(action, code, status)

    return strike


def patiently(aws, call, tries=200):
    """As the engine does: the same call again while the cloud asks for patience."""
    for _ in range(tries):
        try:
            return call()
        except (TransientError, AmbiguousError) as error:
            aws.clock.advance(getattr(error, "retry_after_s", None) or error.settle_s)
    raise AssertionError("patience has an end")


def bring_up(aws, make, dice, request, settings):
    """Create until all run, by clients that may die between two calls. Answers with the nodes, or None if refused."""
    driver, nodes = make(**settings), []
    for _ in range(200):
        if dice.random() < 0.05:
            driver = make(**settings)
        try:
            nodes = driver.create(request)
        except TransientError as error:
            aws.clock.advance(error.retry_after_s)
            continue
        except CapacityError:
            return None
        if len(nodes) == request.count and all(node.state is NodeState.RUNNING and node.reach for node in nodes):
            return nodes
        aws.clock.advance(2)
    raise AssertionError([node.state for node in nodes])


def take_down(aws, make, lag_s):
    """As the engine does: list, end, watch, release."""
    driver = make(spot="persistent")
    aws.clock.advance(lag_s + 1)
    asked = set()
    for _ in range(200):
        nodes = patiently(aws, lambda: driver.nodes(PLACE, CLUSTER))
        alive = [node for node in nodes if node.state is not NodeState.TERMINATED]
        todo = [node for node in alive if node.id not in asked]
        if todo:
            patiently(aws, lambda todo=todo: driver.terminate(todo))
            asked.update(node.id for node in todo)
        elif not alive:
            patiently(aws, lambda: driver.release(PLACE, CLUSTER))
            return
        aws.clock.advance(3)
    raise AssertionError([node.state for node in alive])


@pytest.mark.parametrize("block", range(5))
def test_any_weather(aws, make, block):
    for seed in range(block, RUNS, 5):
        one_run(aws, make, seed)


def one_run(aws, make, seed):
    dice = random.Random(seed)
    aws.reset()
    aws.boot_s, aws.terminate_s = dice.choice([0, 5]), dice.choice([0, 5])
    aws.listing_lag_s = dice.choice([0, 0, 4])
    foreign = aws.plant(tags={"styx-store": "other0", "styx-cluster": "styx-x-other001"})
    kept = aws.things()
    settings = {"launch_size": dice.choice([1, 2, 100]), "spot": dice.choice(["one-time", "persistent"])}
    kind = dice.choice(["plain", "spot", "fabric"])
    offer = {
        "plain": row(),
        "spot": row(spot=True),
        "fabric": row("p4d.24xlarge", network_tier="best", accelerator_vendor="nvidia"),
    }[kind]
    request = ask(dice.choice([1, 2, 3]), offer=offer, network_tier="best" if kind == "fabric" else None, ports=(8080,))
    if dice.random() < 0.4:
        aws.leave(dice.choice([0, 1, 2]))
    if dice.random() < 0.4:
        aws.sell_out(dice.choice(["us-east-1a", "us-east-1b", "us-east-1"]))
    aws.weather = weather(dice, dice.choice([0.0, 0.1, 0.3]))
    try:
        nodes = bring_up(aws, make, dice, request, settings)
        mine = [life for life in aws.instances() if life.instance.id != foreign]
        assert len(mine) <= request.count, f"seed {seed}: made {len(mine)} of {request.count}"
        if nodes is not None:
            assert sorted(node.rank for node in nodes) == list(range(request.count)), f"seed {seed}"
            assert {life.instance.id for life in mine} == {node.id for node in nodes}, f"seed {seed}"
        take_down(aws, make, aws.listing_lag_s)
    except CloudError as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    assert [life.instance.id for life in aws.instances()] == [foreign], f"seed {seed}"
    assert aws.things() == kept, f"seed {seed}: left {aws.things()}"
