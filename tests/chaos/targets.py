"""The clouds that the client is killed on: the embedded one, emulated vendors with real SSH hosts, and a pool of hosts.

A target knows how to set a home up for its cloud, and what exists there of a home, whatever the database says.
"""

from __future__ import annotations

import json
import os
import queue
import re
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from styx.testing.processes import marked
from tests.simcloud.vendor import LOSE

if TYPE_CHECKING:
    from styx.testing.machines import Machine, Machines
    from tests.simcloud.ec2 import Ec2
    from tests.simcloud.lambdacloud import LambdaCloud
    from tests.simcloud.runpod import RunPodCloud

EVERY_VERB = ("launch", "stop", "start", "down")


class Target(ABC):
    """One cloud under test. Shared by cases that run at the same time, each with a home, and so a store, of its own."""

    name: ClassVar[str]
    verbs: ClassVar[Sequence[str]] = EVERY_VERB
    limits: ClassVar[Mapping[str, float]] = {}
    """What the driver's own limits are set to, so that a run takes seconds: pauses of a real cloud are not tested."""
    faults: ClassVar[Sequence[str]] = ()
    """What `stage` knows."""

    def __init__(self) -> None:
        self.resources: dict[str, Any] = {"infra": self.name}

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

    def stage(self, fault: str, store: str) -> None:
        """Script a fault for the calls of one home."""
        raise NotImplementedError(fault)


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
    faults = ("lost_reply", "capacity")

    def __init__(self, cloud: LambdaCloud) -> None:
        super().__init__()
        self.cloud = cloud
        self.resources = {"infra": "lambda/us-east-1", "instance_type": "gpu_1x_a10"}

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

    def stage(self, fault: str, store: str) -> None:
        from tests.simcloud.lambdacloud import refusal

        effect = LOSE if fault == "lost_reply" else refusal("instance-operations/launch/insufficient-capacity")
        self.cloud.script("launch", effect, when=lambda body: store in json.dumps(body))


class Aws(Target):
    """The EC2 simulator: idempotent creates, stop and start, groups, keys and disks."""

    name = "aws"
    limits: ClassVar = {"min_poll_s": 0.2, "listing_lag_s": 1.0}
    faults = ("lost_reply", "capacity")

    def __init__(self, cloud: Ec2) -> None:
        super().__init__()
        self.cloud = cloud
        self.resources = {"infra": "aws/us-east-1", "instance_type": "m5.large"}

    def settings(self) -> dict[str, Any]:
        return {"aws": {"regions": ["us-east-1"], "spot_prices": False, "price_endpoint": self.cloud.url}}

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
        with self.cloud.lock:
            backend = self.cloud.backend("us-east-1")
            groups = [group.name for table in backend.groups.values() for group in table.values()]
            disks = [
                disk.id for disk in backend.volumes.values() if any(tag["value"] == store for tag in disk.get_tags())
            ]
            return [name for name in (*groups, *backend.key_pairs) if store in name] + disks

    def stage(self, fault: str, store: str) -> None:
        if fault == "lost_reply":
            self.cloud.lose_reply("RunInstances")
        else:
            self.cloud.refuse("RunInstances", "InsufficientInstanceCapacity")


class RunPod(Target):
    """The RunPod emulator: containers, no idempotent create, names instead of tags."""

    name = "runpod"
    limits: ClassVar = {"min_poll_s": 0.2, "listing_lag_s": 1.0}
    faults = ("lost_reply", "capacity")

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

    def stage(self, fault: str, store: str) -> None:
        from tests.simcloud.runpod import SOLD_OUT, refusal

        effect = LOSE if fault == "lost_reply" else refusal(400, SOLD_OUT)
        self.cloud.script("create", effect, when=lambda body: store in json.dumps(body))


class Pool(Target):
    """A pool of hosts that exist already."""

    name = "ssh"
    verbs = ("launch", "down")
    limits: ClassVar = {"min_poll_s": 0.2}

    def __init__(self, room: Machines, folder: Path, hosts: int) -> None:
        super().__init__()
        self.resources = {"infra": "ssh"}
        self.key = folder / "pool_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        public = self.key.with_suffix(".pub").read_text().strip()
        self._free: queue.Queue[Machine] = queue.Queue()
        self._taken: dict[Path, Machine] = {}
        for number in range(hosts):
            self._free.put(room.boot(f"pool{number}", authorized_keys=[public]))

    @contextmanager
    def home(self, folder: Path) -> Iterator[Path]:
        machine = self._free.get()
        try:
            with super().home(folder) as home:
                self._taken[home] = machine
                host = {"ip": machine.host, "user": machine.user, "identity_file": str(self.key)}
                (home / "ssh_node_pools.yaml").write_text(json.dumps({"lab": {"hosts": [host]}}))
                yield home
        finally:
            machine.run(["rm", "-f", "/var/tmp/styx.lease"])
            self._free.put(machine)

    def machines(self, home: Path, store: str) -> dict[str, str]:
        machine = self._taken[home]
        read = machine.run(["cat", "/var/tmp/styx.lease"])
        if read.returncode != 0:
            return {}
        lease = json.loads(read.stdout)
        assert lease["store"] == store
        return {f"lab/{machine.host}": lease["cluster"]}

    def things(self, home: Path, store: str) -> list[str]:
        machine = self._taken[home]
        looked = (
            "grep -l -z '^STYX_NODE=' /proc/[0-9]*/environ 2>/dev/null; ps -eo args | grep -o '[a]gent.pyz .*'; true"
        )
        return machine.run(["sh", "-c", looked]).stdout.decode().splitlines()
