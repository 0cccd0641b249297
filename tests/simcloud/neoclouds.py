"""Lambda and RunPod together, with real hosts, as a `styx` command finds them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simcloud import lambdacloud, runpod
from tests.simcloud.lambdacloud import LambdaCloud
from tests.simcloud.runpod import RunPodCloud

if TYPE_CHECKING:
    from styx.testing.machines import Machines
    from tests.conftest import Styx


@dataclass
class Neoclouds:
    """Two accounts with something foreign in each, and the command that is to leave it alone.

    Attributes:
        foreign: Names of what was planted.
    """

    styx: Styx
    lambda_: LambdaCloud
    runpod: RunPodCloud
    foreign: set[str] = field(default_factory=set)

    def ours(self) -> list[str]:
        """Names of everything in both accounts that was not planted."""
        names = [one.name for one in self.lambda_.instances()] + [pod.name for pod in self.runpod.pods()]
        names += [one["name"] for one in (*self.lambda_.ssh_keys(), *self.lambda_.rulesets())]
        return [name for name in names if name not in self.foreign]

    def assert_as_before(self) -> None:
        """Nothing of ours is left, all that is foreign is there, and nobody broke the vendors' documents."""
        assert not self.ours()
        there = {one.name for one in self.lambda_.instances()} | {pod.name for pod in self.runpod.pods()}
        assert there >= self.foreign, f"gone: {self.foreign - there}"
        assert not self.lambda_.broken
        assert not self.runpod.broken

    def assert_no_secret_told(self, *folders: Path) -> None:
        """Neither account's key is in any file of these folders, nor in a request line."""
        secrets = [key.encode() for key in (lambdacloud.KEY, runpod.KEY)]
        for folder in folders:
            for path in folder.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    content = path.read_bytes()
                    assert not any(secret in content for secret in secrets), f"a key is in {path}"
        for cloud in (self.lambda_, self.runpod):
            assert not any(secret.decode() in line for line in cloud.server.lines() for secret in secrets)


@contextmanager
def neoclouds(styx: Styx, machines: Machines, **options: Any) -> Iterator[Neoclouds]:
    """Both clouds, and a command that knows their keys and nothing else of the user's."""
    with LambdaCloud(room=machines, **options) as first, RunPodCloud(room=machines, **options) as second:
        foreign = {"training-box", "styx-web-else0101-0"}
        for name in sorted(foreign):
            first.plant("us-east-1", name=name)
            second.plant(name)
        home = styx.home.parent / "user"
        home.mkdir(exist_ok=True)
        styx.env |= {"LAMBDA_API_KEY": lambdacloud.KEY, "RUNPOD_API_KEY": runpod.KEY, "HOME": str(home)}
        made = Neoclouds(styx, first, second, foreign)
        clouds = {
            "lambda": {"endpoint": first.url},
            "runpod": {"endpoint": second.url, "graphql_endpoint": second.graphql_url},
        }
        styx.home.mkdir(parents=True, exist_ok=True)
        (styx.home / "config.yaml").write_text(json.dumps({"clouds": clouds}))
        styx("check", "lambda", "runpod")
        yield made
        styx("down", "--all", "--yes", code=None)
