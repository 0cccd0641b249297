"""A task's docker image on nodes that are machines: one container per node, in which set-up and run take place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from styx.errors import DeadlineExceeded, NotExecutable
from styx.models.accelerators import answering
from styx.parallel import in_parallel
from styx.provision import jobs
from styx.provision.ledger import offer_of
from styx.provision.steps import step
from styx.state.rows import ClusterRow

if TYPE_CHECKING:
    from styx.driver import FeatureSet
    from styx.models import Resources, Task
    from styx.provision.claim import Claim
    from styx.provision.nodeup import Up

PULL_S: Final = 3600.0
"""How long an image may take to come to a node."""
START_S: Final = 300.0
"""What finding docker and starting a container may take beside."""
_POLL_S: Final = 20.0
_TRIES: Final = 3
"""An agent that was restarted meanwhile has forgotten the login, and is asked again."""
_SYSTEM: Final = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "usr", "var"}
)
_PREFIXES: Final = ("STYX_DOCKER_", "SKYPILOT_DOCKER_")


@dataclass(frozen=True)
class Wanted:
    """The container that every node is asked for."""

    image: str
    options: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    login: dict[str, str] | None = field(default=None, repr=False)

    def params(self, home: str) -> dict[str, Any]:
        """As the agent takes it; what lies in the node's home is there anyway."""
        mounts = [path for path in self.mounts if path != home and not path.startswith(f"{home}/")]
        return {
            "image": self.image,
            "options": list(self.options),
            "mounts": mounts,
            "login": self.login,
            "pull_s": PULL_S,
        }


def contain(
    claim: Claim,
    op: str,
    task: Task,
    ups: Sequence[Up],
    base: Path,
    features: FeatureSet,
    seconds: dict[str, float],
) -> None:
    """Have the task's container on every node, if it names a docker image and the nodes are machines.

    Raises:
        NotExecutable: A node cannot run it; the message says which and why.
    """
    world, row = claim.world, claim.row()
    image = image_of(task, row) if features.container == "docker" else None
    if image is None:
        return
    wanted = Wanted(image, world.config.docker_options, mounts_of(task, base, features), login_of(task))
    with step(world, row.key, op, "contain", image, seconds):

        def say(up: Up, line: str) -> None:
            where = f"node {up.node.rank}: " if len(ups) > 1 else ""
            world.tell(row.key, op, "contain", "note", f"{where}{line}")

        in_parallel(lambda up: _on_node(claim, up, wanted, say), ups)


def require_shown(ups: Sequence[Up], targets: Iterable[str]) -> None:
    """Refuse files for folders of a node that the container there does not show: the job would not find them.

    Raises:
        NotExecutable: Names the first.
    """
    outside = [target for target in targets if target.startswith("/")]
    for up in ups if outside else ():
        view = up.agent.call("container.wait", {"wait_s": 0})
        shown = [up.transport.home, *view.get("mounts", ())]
        for target in outside if view["stage"] != "none" else ():
            if not any(target == path or target.startswith(f"{path}/") for path in shown):
                raise NotExecutable(
                    f"file_mounts.{target} would not be seen: the container of node {up.node.rank} was made without it",
                    hint="launch with -c, with the image and this mount, when no job runs; or mount it below the home",
                )


def _on_node(claim: Claim, up: Up, wanted: Wanted, say: Any) -> None:
    world = claim.world
    deadline = world.timestamp() + PULL_S + START_S
    message, tries = None, 0
    while True:
        if message is None:
            tries += 1
            up.agent.call("container.start", wanted.params(up.transport.home), timeout_s=60.0)
        asked = {"seen": message, "wait_s": _POLL_S}
        view = up.agent.call("container.wait", asked, timeout_s=_POLL_S + 30.0)
        if view["stage"] == "ready":
            return
        claim.check()
        if view["stage"] == "failed":
            if "the agent was restarted" in view["message"] and tries < _TRIES:
                message = None
                continue
            raise NotExecutable(
                f"{wanted.image} cannot be run on node {up.node.rank} ({up.node.id}): {view['message']}",
                hint="mend that and launch again with -c, or end the cluster with `styx down`",
            )
        if view["message"] != message:
            message = view["message"]
            say(up, message)
        if world.timestamp() > deadline:
            raise DeadlineExceeded(f"node {up.node.rank}: {wanted.image} was not ready in time: {message}")


def image_of(task: Task, row: ClusterRow) -> str | None:
    """The docker image for the machines that were made: that of the first alternative which they answer."""
    named = [each for each in task.resources.alternatives() if each.image_id and each.image_id.docker]
    fitting = [each for each in named if _answers(each, row)]
    fitting = fitting or [each for each in named if _answers(each, row, any_zone=True)] or named
    return fitting[0].image_id.docker if fitting and fitting[0].image_id else None


def _answers(asked: Resources, row: ClusterRow, *, any_zone: bool = False) -> bool:
    """Whether the machines are of that alternative; a zone may have been given another name than the cloud's."""
    place, offer, infra, wanted = row.place, offer_of(row), asked.infra, asked.accelerator
    if place is not None and infra is not None:
        zone = infra.zone if any_zone else place.zone
        pairs = ((infra.cloud, place.cloud), (infra.region, place.region), (infra.zone, zone))
        if any(want is not None and want != got for want, got in pairs):
            return False
    return wanted is None or wanted.name is None or offer is None or offer.accelerator_name in answering(wanted.name)


def login_of(task: Task) -> dict[str, str] | None:
    """Who pulls from a private registry: the format's three variables, given as `secrets` or `envs`.

    Raises:
        NotExecutable: Only some of them are given.
    """
    given = {**{name: text for name, text in task.envs.items() if text is not None}, **task.secret_values()}
    names = ("username", "password", "server")
    for prefix in _PREFIXES:
        found = {name: given[key] for name in names if given.get(key := f"{prefix}{name.upper()}")}
        if found and len(found) < len(names):
            missing = ", ".join(f"{prefix}{name.upper()}" for name in names if name not in found)
            raise NotExecutable(f"the login to the registry is not complete: {missing} is missing")
        if found:
            return found
    return None


def mounts_of(task: Task, base: Path, features: FeatureSet) -> tuple[str, ...]:
    """Folders of the node, outside its home, that the task's files go to.

    Raises:
        NotExecutable: A file goes into a folder that the image must have to itself.
    """
    found = []
    for target, source in jobs.uploads(task, base, features).items():
        if not target.startswith("/"):
            continue
        path = PurePosixPath(target) if source.is_dir() else PurePosixPath(target).parent
        if len(path.parts) < 2 or (path.parts[1] in _SYSTEM and len(path.parts) < 4):
            raise NotExecutable(
                f"file_mounts.{target} cannot be shown in the container: {path} belongs to its image",
                hint="put it below the home folder, or into a folder of its own such as /data",
            )
        found.append(str(path))
    return tuple(dict.fromkeys(found))
