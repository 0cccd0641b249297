"""What real clouds do wrong, one trouble at a time, under the real engine: it is told plainly, and nothing is left.

The client lives here; want of machines, calls cut short and late listings are in `test_kill_matrix` and `test_gangs`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from styx.state.rows import ClusterState
from styx.testing.emulator import Reply
from tests.chaos.child import NAME
from tests.chaos.survival import Case, Life
from tests.chaos.targets import Target
from tests.simcloud import lambdacloud, runpod
from tests.simcloud.ec2 import Fault
from tests.simcloud.vendor import PASS

Patch = pytest.MonkeyPatch
READY_S = "4s"
"""How long a machine may take to answer: less than a real one gets, so that the ones that never do end the test."""


@dataclass(frozen=True)
class Trouble:
    """One thing that goes wrong during a launch.

    Attributes:
        stage: Arranges it at the vendor.
        code: What the launch ends with.
        words: Part of what is said of it, while it happens or by `styx why`.
        slow: Whether it is left to `nox -s chaos`.
    """

    stage: Callable[[Any, Patch], object]
    code: int
    words: str = ""
    slow: bool = True


def on_aws(action: str, code: str, status: int = 400, times: int = 1) -> Callable[[Any, Patch], object]:
    """AWS refuses calls."""
    return lambda cloud, _: cloud.plan(Fault(action, code, status, times))


def on_vendor(operation: str, reply: Reply, times: int = 1) -> Callable[[Any, Patch], object]:
    """A REST cloud refuses calls."""
    return lambda cloud, _: cloud.script(operation, reply, times=times)


def doomed(**fate: Any) -> Callable[[Any, Patch], object]:
    """The next machine has such a fate."""
    return lambda cloud, _: cloud.doom(**fate)


def setting(name: str, value: object) -> Callable[[Any, Patch], object]:
    """EC2 behaves so while the test lasts."""
    return lambda cloud, patch: patch.setattr(cloud, name, value)


def expired_on_aws(cloud: Any, patch: Patch) -> None:
    """From the first listing on after a machine was made."""

    def weather(action: str) -> None:
        if action == "DescribeInstances" and cloud.instances():
            patch.setattr(cloud, "expired", True)

    patch.setattr(cloud, "weather", weather)


def expired_on(listing: str) -> Callable[[Any, Patch], object]:
    """The same where the key is asked for with each request."""

    def stage(cloud: Any, patch: Patch) -> None:
        machines = cloud.instances if hasattr(cloud, "instances") else cloud.pods
        cloud.script(
            listing, PASS, when=lambda _: bool(machines()), strike=lambda: patch.setattr(cloud, "alive", False)
        )

    return stage


THROTTLED = lambdacloud.refusal("global/too-many-requests", status=429, retry_after_s=1)
QUOTA = lambdacloud.refusal("global/quota-exceeded")
TOO_MUCH = runpod.refusal(400, "This would exceed your spend limit.")
TROUBLES = {
    ("aws", "quota"): Trouble(on_aws("RunInstances", "VcpuLimitExceeded"), 69, "VcpuLimitExceeded"),
    ("aws", "throttled"): Trouble(on_aws("RunInstances", "RequestLimitExceeded", 503, times=2), 0),
    ("aws", "throttled listing"): Trouble(on_aws("DescribeInstances", "RequestLimitExceeded", 503, times=2), 0),
    ("aws", "5xx"): Trouble(on_aws("RunInstances", "InternalError", 500, times=2), 0),
    ("aws", "slow boot"): Trouble(setting("boot_s", 4.0), 0),
    ("aws", "ends at boot"): Trouble(setting("doom", "Server.InternalError"), 69, "Server.InternalError", slow=False),
    ("aws", "never answers"): Trouble(setting("ssh", False), 68, "port 22 refuses"),
    ("aws", "wrong host key"): Trouble(setting("other_host_key", True), 68, "host key"),
    ("aws", "credentials expire"): Trouble(expired_on_aws, 69, "ExpiredToken", slow=False),
    ("aws", "pages"): Trouble(setting("page_size", 1), 0),
    ("lambda", "quota"): Trouble(on_vendor("launch", QUOTA), 69, "quota-exceeded"),
    ("lambda", "throttled"): Trouble(on_vendor("launch", THROTTLED, times=2), 0),
    ("lambda", "throttled listing"): Trouble(on_vendor("GET instances", THROTTLED, times=2), 0),
    ("lambda", "5xx"): Trouble(on_vendor("launch", lambdacloud.refusal("global/internal-error")), 0),
    ("lambda", "slow boot"): Trouble(doomed(boot_s=4.0), 0),
    ("lambda", "ends at boot"): Trouble(doomed(fails=True), 69),
    ("lambda", "never answers"): Trouble(doomed(ssh=False), 68, "port 22 refuses", slow=False),
    ("lambda", "wrong host key"): Trouble(doomed(own_host_key=True), 68, "host key"),
    ("lambda", "credentials expire"): Trouble(expired_on("GET instances"), 69, "invalid-api-key"),
    ("runpod", "quota"): Trouble(on_vendor("create", TOO_MUCH, times=99), 69, "spend limit"),
    ("runpod", "no money"): Trouble(setting("balance", 0.0), 69, "balance"),
    ("runpod", "throttled"): Trouble(on_vendor("create", runpod.refusal(429, retry_after_s=1), times=2), 0),
    ("runpod", "throttled listing"): Trouble(on_vendor("list", runpod.refusal(429, retry_after_s=1), times=2), 0),
    ("runpod", "5xx"): Trouble(on_vendor("create", Reply("Bad gateway", 502)), 0, slow=False),
    ("runpod", "slow boot"): Trouble(doomed(boot_s=4.0), 0),
    ("runpod", "ends at boot"): Trouble(doomed(fails=True), 0, "could not start the pod"),
    ("runpod", "never answers"): Trouble(doomed(ssh=False), 68, "before it said anything"),
    ("runpod", "wrong host key"): Trouble(doomed(own_host_key=True), 68, "host key"),
    ("runpod", "credentials expire"): Trouble(expired_on("list"), 69, "Unauthorized"),
}


def case(cloud: str, name: str, trouble: Trouble) -> Any:
    """One row of the table, as a parameter."""
    mark = pytest.mark.chaos if trouble.slow else pytest.mark.slow
    return pytest.param(cloud, trouble, id=f"{cloud}-{name.replace(' ', '-')}", marks=mark)


@contextmanager
def living(target: Target, folder: Path) -> Iterator[Life]:
    """A home whose clients are not patient with hosts that do not answer."""
    with ExitStack() as stack:
        home = stack.enter_context(target.home(folder))
        config = json.loads((home / "config.yaml").read_text())
        (home / "config.yaml").write_text(json.dumps({**config, "launch": {"ready_timeout": READY_S}}))
        life = Life(target, folder, home)
        stack.callback(life.client.close)
        yield life


def over(life: Life, name: str) -> None:
    """End whatever there is, as its user would; then nothing is left."""
    if life.client.world.store.cluster(NAME) is not None:
        life.client.down([NAME])
    assert life.target.machines(life.home, life.store) == {}
    life.check(name)


def told(life: Life) -> str:
    """The story, and what the attempts came to."""
    story = life.client.why(NAME)
    attempts = " ".join(f"{each.vendor_code} {each.message}" for each in story.attempts)
    return " ".join([attempts, *(event.message for event in story.events)])


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("cloud", "trouble"), [case(*key, trouble) for key, trouble in TROUBLES.items()])
def test_a_launch_into_trouble(
    cloud: str, trouble: Trouble, target_of: Callable[[str], Target], tmp_path: Path, monkeypatch: Patch
) -> None:
    target: Any = target_of(cloud)
    with living(target, tmp_path / "life") as life:
        for name in ("scripts", "fates", "faults"):  # what is staged is gone after the test, whatever became of it
            if hasattr(target.cloud, name):
                monkeypatch.setattr(target.cloud, name, [])
        trouble.stage(target.cloud, monkeypatch)
        done = life.run(Case("launch"))
        said = f"{done.stderr} {told(life)}"
        assert done.returncode == trouble.code, said
        assert trouble.words in said
        assert "Traceback" not in done.stderr
        monkeypatch.undo()
        over(life, f"{cloud}, {trouble}")


LOSSES = {
    "aws": lambda cloud, machine: cloud.interrupt(machine),
    "lambda": lambda cloud, machine: cloud.preempt(machine),
    "runpod": lambda cloud, machine: cloud.preempt(machine),
}


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("cloud", LOSSES)
def test_a_machine_taken_away_without_a_word(cloud: str, target_of: Callable[[str], Target], tmp_path: Path) -> None:
    target: Any = target_of(cloud)
    with living(target, tmp_path / "life") as life:
        done = life.run(Case("launch"))
        assert done.returncode == 0, done.stderr
        (machine,) = target.machines(life.home, life.store)
        LOSSES[cloud](target.cloud, machine)
        (view,) = life.client.status(refresh=True) or (None,)
        assert view is None or view.state not in (ClusterState.UP, ClusterState.INIT)
        over(life, f"{cloud}: taken away")
