"""The clouds that the client is killed on: the embedded one, emulated vendors with real SSH hosts, and a pool of hosts.

A target knows how to set a home up for its cloud, and what exists there of a home, whatever the database says.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from styx.testing.processes import marked
from tests.simcloud.vendor import LOSE, PASS

if TYPE_CHECKING:
    from styx.testing.emulator import Reply
    from styx.testing.machines import Machine, Machines
    from tests.simcloud.ec2 import Ec2
    from tests.simcloud.lambdacloud import LambdaCloud
    from tests.simcloud.runpod import RunPodCloud
    from tests.simcloud.vendor import Vendor

EVERY_VERB = ("launch", "stop", "start", "down")
Undo = Callable[[], None]
ENDING_S = 10.0
"""How long a process may take to end after its agent did, such as the other end of a connection."""


@dataclass(frozen=True)
class Blow:
    """What meets one of the calls that make machines.

    Attributes:
        skip: How many of them pass first.
        refused: No machine is left; else one is made, and nobody is told.
        kills: The client dies while the call is under way.
    """

    skip: int = 0
    refused: bool = False
    kills: bool = False


FAULTS = {
    "lost_reply": Blow(),
    "capacity": Blow(refused=True),
    "dead_before_it": Blow(refused=True, kills=True),
    "dead_after_it": Blow(kills=True),
}
SECOND_FAULTS = {
    "second_lost": Blow(skip=1),
    "second_refused": Blow(skip=1, refused=True),
    "dead_before_second": Blow(skip=1, refused=True, kills=True),
    "dead_after_second": Blow(skip=1, kills=True),
}
"""The first machine of two is made before these strike."""


class Target(ABC):
    """One cloud under test. Shared by cases that run at the same time, each with a home, and so a store, of its own."""

    name: ClassVar[str]
    verbs: ClassVar[Sequence[str]] = EVERY_VERB
    limits: ClassVar[Mapping[str, float]] = {}
    """What the driver's own limits are set to, so that a run takes seconds: pauses of a real cloud are not tested."""
    most_nodes: ClassVar[int] = 2
    can_fail: ClassVar[bool] = False
    """Whether `stage` and `watch` work."""

    def __init__(self) -> None:
        self.resources: dict[str, Any] = {"infra": self.name}
        self.anywhere: dict[str, Any] = self.resources
        """A wish that more than one place can grant."""

    @property
    def faults(self) -> Mapping[str, Blow]:
        """By name, what can be staged here."""
        if not self.can_fail:
            return {}
        return FAULTS | (SECOND_FAULTS if self.most_nodes > 1 else {})

    @contextmanager
    def home(self, folder: Path) -> Iterator[Path]:
        """A home with the settings of this cloud; what it holds is given back at the end."""
        home = folder / "home"
        home.mkdir(parents=True)
        (home / "config.yaml").write_text(json.dumps({"clouds": self.settings()}))
        yield home

    def settings(self) -> dict[str, Any]:
        """`clouds` of the config."""
        return {}

    def environ(self) -> dict[str, str]:
        """Credentials."""
        return {}

    @abstractmethod
    def machines(self, home: Path, store: str) -> dict[str, str]:
        """Machines of this home that exist, by id, with the cluster keys that they carry."""

    def things(self, home: Path, store: str) -> list[str]:
        """What else of this home exists there: keys, groups, disks, processes."""
        return []

    def stage(self, blow: Blow, store: str, kill: Callable[[], None]) -> Undo:
        """Script a blow to the calls of one home; `kill` ends its client."""
        raise NotImplementedError

    def watch(self, store: str, seen: Callable[[], None]) -> Undo:
        """Have a function called before each machine of a home is made."""
        raise NotImplementedError


def nothing() -> None:
    """Spares the client."""


class Embedded(Target):
    """Processes of this machine."""

    name = "local"

    def machines(self, home: Path, store: str) -> dict[str, str]:
        folders = sorted((home / "local").glob("*/*")) if (home / "local").is_dir() else []
        return {f"{path.parent.name}/{path.name}": path.parent.name for path in folders}

    def things(self, home: Path, store: str) -> list[str]:
        return [f"process {pid}" for pid in marked("STYX_HOME", str(home)) - {os.getpid()}]


class Lambda(Target):
    """The Lambda emulator: no stop, no idempotent create, several things beside machines."""

    name = "lambda"
    verbs = ("launch", "down")
    limits: ClassVar = {"min_poll_s": 0.2, "listing_lag_s": 2.5}
    can_fail = True

    def __init__(self, cloud: LambdaCloud) -> None:
        super().__init__()
        self.cloud = cloud
        self.resources = {"infra": "lambda/us-east-1", "instance_type": "gpu_1x_a10"}
        places = [{"infra": f"lambda/{region}"} for region in ("us-east-1", "us-west-1")]
        self.anywhere = {"instance_type": "gpu_1x_a10", "any_of": places}

    def settings(self) -> dict[str, Any]:
        return {"lambda": {"endpoint": self.cloud.url}}

    def environ(self) -> dict[str, str]:
        from tests.simcloud.lambdacloud import KEY

        return {"LAMBDA_API_KEY": KEY}

    def machines(self, home: Path, store: str) -> dict[str, str]:
        found = {}
        for one in self.cloud.instances():
            tags = {tag["key"]: tag["value"] for tag in one.tags}
            if tags.get("styx-store") == store:
                found[one.id] = tags["styx-cluster"]
        return found

    def things(self, home: Path, store: str) -> list[str]:
        named = [*self.cloud.ssh_keys(), *self.cloud.rulesets()]
        return [str(each["name"]) for each in named if store in str(each["name"])]

    def stage(self, blow: Blow, store: str, kill: Callable[[], None]) -> Undo:
        from tests.simcloud.lambdacloud import refusal

        effect = refusal("instance-operations/launch/insufficient-capacity") if blow.refused else LOSE
        return scripted(self.cloud, "launch", effect, store, blow.skip, kill if blow.kills else nothing)

    def watch(self, store: str, seen: Callable[[], None]) -> Undo:
        return scripted(self.cloud, "launch", PASS, store, 0, seen, times=99)


class Aws(Target):
    """The EC2 simulator: idempotent creates, stop and start, groups, keys and disks."""

    name = "aws"
    limits: ClassVar = {"min_poll_s": 0.2, "listing_lag_s": 1.0}
    can_fail = True
    regions = ("us-east-1", "eu-west-1")

    def __init__(self, cloud: Ec2) -> None:
        super().__init__()
        self.cloud = cloud
        self.resources = {"infra": "aws/us-east-1", "instance_type": "m5.large"}
        self.anywhere = {"infra": "aws", "instance_type": "m5.large"}

    def settings(self) -> dict[str, Any]:
        """Each machine by a call of its own, or there could be no part of a gang."""
        asked = {"regions": list(self.regions), "spot_prices": False, "launch_size": 1}
        return {"aws": {**asked, "price_endpoint": self.cloud.url}}

    def environ(self) -> dict[str, str]:
        from tests.simcloud.ec2 import KEY_ID, SECRET

        return {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": self.cloud.url}

    def machines(self, home: Path, store: str) -> dict[str, str]:
        found = {}
        for life in self.cloud.instances():
            tags = {tag["key"]: tag["value"] for tag in life.instance.get_tags()}
            if tags.get("styx-store") == store:
                found[str(life.instance.id)] = tags["styx-cluster"]
        return found

    def things(self, home: Path, store: str) -> list[str]:
        found: list[str] = []
        with self.cloud.lock:
            for region in self.regions:
                backend = self.cloud.backend(region)
                groups = [group.name for table in backend.groups.values() for group in table.values()]
                found += [name for name in (*groups, *backend.key_pairs) if store in name]
                disks = backend.volumes.values()
                found += [disk.id for disk in disks if any(tag["value"] == store for tag in disk.get_tags())]
        return found

    def stage(self, blow: Blow, store: str, kill: Callable[[], None]) -> Undo:
        code = "InsufficientInstanceCapacity" if blow.refused else None
        return self._plan(store, code=code, skip=blow.skip, lost=not code, strike=kill if blow.kills else nothing)

    def watch(self, store: str, seen: Callable[[], None]) -> Undo:
        return self._plan(store, times=99, strike=seen)

    def _plan(self, store: str, **more: Any) -> Undo:
        from tests.simcloud.ec2 import Fault

        fault = self.cloud.plan(Fault("RunInstances", named=store, **more))
        return lambda: setattr(fault, "times", 0)


class RunPod(Target):
    """The RunPod emulator: containers, no idempotent create, names instead of tags."""

    name = "runpod"
    limits: ClassVar = {"min_poll_s": 0.2, "listing_lag_s": 1.0}
    most_nodes = 1
    can_fail = True

    def __init__(self, cloud: RunPodCloud) -> None:
        super().__init__()
        self.cloud = cloud
        self.resources = {"infra": "runpod", "accelerators": "RTX4090:1"}

    def settings(self) -> dict[str, Any]:
        return {"runpod": {"endpoint": self.cloud.url, "graphql_endpoint": self.cloud.graphql_url}}

    def environ(self) -> dict[str, str]:
        from tests.simcloud.runpod import KEY

        return {"RUNPOD_API_KEY": KEY}

    def machines(self, home: Path, store: str) -> dict[str, str]:
        ours = re.compile(rf"(styx-.+-{store}[0-9a-z]{{2}})-[0-9]+")
        return {pod.id: found[1] for pod in self.cloud.pods() if (found := ours.fullmatch(pod.name))}

    def stage(self, blow: Blow, store: str, kill: Callable[[], None]) -> Undo:
        from tests.simcloud.runpod import SOLD_OUT, refusal

        effect = refusal(400, SOLD_OUT) if blow.refused else LOSE
        return scripted(self.cloud, "create", effect, store, blow.skip, kill if blow.kills else nothing)

    def watch(self, store: str, seen: Callable[[], None]) -> Undo:
        return scripted(self.cloud, "create", PASS, store, 0, seen, times=99)


def scripted(
    cloud: Vendor, operation: str, effect: Reply | str, store: str, skip: int, strike: Undo, times: int = 1
) -> Undo:
    """Script what meets one home's requests."""
    mine = cloud.script(
        operation, effect, skip=skip, times=times, strike=strike, when=lambda body: store in json.dumps(body)
    )
    return lambda: cloud.unscript(mine)


class Pool(Target):
    """A pool of hosts that exist already; each home has two of them for itself."""

    name = "ssh"
    verbs = ("launch", "down")
    limits: ClassVar = {"min_poll_s": 0.2}

    def __init__(self, room: Machines, folder: Path, homes: int) -> None:
        super().__init__()
        self.resources = {"infra": "ssh"}
        self.key = folder / "pool_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        public = self.key.with_suffix(".pub").read_text().strip()
        self._free: queue.Queue[Sequence[Machine]] = queue.Queue()
        self._taken: dict[Path, Sequence[Machine]] = {}
        for number in range(homes):
            names = (f"pool{number}{letter}" for letter in "ab")
            self._free.put([room.boot(name, authorized_keys=[public]) for name in names])

    @contextmanager
    def home(self, folder: Path) -> Iterator[Path]:
        pair = self._free.get()
        try:
            with super().home(folder) as home:
                self._taken[home] = pair
                login = {"identity_file": str(self.key)}
                hosts = [{"ip": machine.host, "user": machine.user, **login} for machine in pair]
                (home / "ssh_node_pools.yaml").write_text(json.dumps({"lab": {"hosts": hosts}}))
                yield home
        finally:
            for machine in pair:
                machine.run(["rm", "-f", "/var/tmp/styx.lease"])
            self._free.put(pair)

    def machines(self, home: Path, store: str) -> dict[str, str]:
        found = {}
        for machine in self._taken[home]:
            read = machine.run(["cat", "/var/tmp/styx.lease"])
            if read.returncode == 0:
                lease = json.loads(read.stdout)
                assert lease["store"] == store
                found[f"lab/{machine.host}"] = lease["cluster"]
        return found

    def things(self, home: Path, store: str) -> list[str]:
        looked = (
            "grep -l -z '^STYX_NODE=' /proc/[0-9]*/environ 2>/dev/null; ps -eo args | grep -o '[a]gent.pyz .*'; true"
        )
        deadline = time.monotonic() + ENDING_S
        while True:
            told = [machine.run(["sh", "-c", looked]).stdout.decode() for machine in self._taken[home]]
            if not any(told) or time.monotonic() > deadline:
                return "".join(told).splitlines()
            time.sleep(0.1)
