"""Which container the nodes of a cluster are asked for, and what is made of their answers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from styx.driver import CatalogRow, FeatureSet, Node, NodeState, Place
from styx.errors import NotExecutable
from styx.models import Task
from styx.provision import contain
from styx.provision.contain import Wanted
from styx.state.rows import ClusterRow, ClusterState

HOME = "/home/me"


def task(**fields: Any) -> Task:
    return Task.model_validate({"run": "true", **fields})


def row(cloud: str = "aws", region: str = "us-east-1", accelerator: str | None = None) -> ClusterRow:
    offer = CatalogRow(cloud=cloud, instance_type="x", region=region, accelerator_name=accelerator)
    now = datetime.now(UTC)
    return ClusterRow(
        key="styx-a-st0re101", name="a", workspace="default", owner="me", state=ClusterState.UP, num_nodes=1,
        backend="process", resources={}, task={}, lease={}, created_at=now, last_use_at=now, holder="h", epoch=1,
        lease_until=0.0, place=Place(cloud=cloud, account="1", region=region), offer=offer.model_dump(mode="json"),
    )  # fmt: skip


def test_the_image_is_that_of_the_alternative_which_the_machines_answer() -> None:
    both = task(
        resources={
            "any_of": [
                {"infra": "lambda", "image_id": "docker:first"},
                {"infra": "aws", "accelerators": "H100", "image_id": "docker:second"},
                {"infra": "aws", "image_id": "docker:third"},
            ]
        }
    )
    assert contain.image_of(both, row("lambda")) == "first"
    assert contain.image_of(both, row("aws", accelerator="H100")) == "second"
    assert contain.image_of(both, row("aws", accelerator="H100-SXM")) == "second"
    assert contain.image_of(both, row("aws", accelerator="H100-NVL")) == "third"
    assert contain.image_of(both, row("aws")) == "third"
    assert contain.image_of(task(resources={"image_id": "docker:ubuntu:24.04"}), row()) == "ubuntu:24.04"
    assert contain.image_of(task(), row()) is None
    assert contain.image_of(task(resources={"image_id": "ami-1"}), row()) is None


@pytest.mark.parametrize("prefix", ["STYX_DOCKER_", "SKYPILOT_DOCKER_"])
def test_the_login_is_in_three_variables(prefix: str) -> None:
    three = {f"{prefix}USERNAME": "me", f"{prefix}SERVER": "ghcr.io"}
    given = task(envs=three, secrets={f"{prefix}PASSWORD": "canary-1"})
    login = contain.login_of(given)
    assert login == {"username": "me", "password": "canary-1", "server": "ghcr.io"}
    assert "canary-1" not in repr(Wanted("x", login=login))
    assert contain.login_of(task()) is None
    with pytest.raises(NotExecutable, match=f"{prefix}PASSWORD is missing"):
        contain.login_of(task(envs=three))


def test_folders_outside_the_home_are_mounted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    mounts = {"/data/in": "folder", "~/there": "folder", "/data/one.txt": "file", f"{HOME}/more": "folder"}
    found = contain.mounts_of(task(file_mounts=mounts), tmp_path, FeatureSet())
    assert set(found) == {"/data/in", "/data", f"{HOME}/more"}
    assert set(Wanted("x", mounts=found).params(HOME)["mounts"]) == {"/data/in", "/data"}
    for target in ("/etc/passwd", "/usr/lib", "/file"):
        source = "folder" if target == "/usr/lib" else "file"
        with pytest.raises(NotExecutable, match="belongs to its image"):
            contain.mounts_of(task(file_mounts={target: source}), tmp_path, FeatureSet())


class Agent:
    """Answers `container.wait` from a list."""

    def __init__(self, *views: tuple[str, str]) -> None:
        self.views = list(views)
        self.started: list[dict[str, Any]] = []

    def call(self, method: str, params: dict[str, Any], *, timeout_s: float = 30.0) -> dict[str, Any]:
        if method == "container.start":
            self.started.append(params)
            return {}
        stage, message = self.views.pop(0)
        return {"stage": stage, "message": message}


def on_node(agent: Agent, said: list[str]) -> None:
    node = Node(
        id="i-1", cluster="c", rank=3, place=Place(cloud="aws", account="1", region="r"), state=NodeState.RUNNING
    )
    up = SimpleNamespace(agent=agent, transport=SimpleNamespace(home=HOME), node=node)
    claim = SimpleNamespace(world=SimpleNamespace(timestamp=lambda: 0.0), check=lambda: None)
    contain._on_node(claim, up, Wanted("tool:1"), lambda _, line: said.append(line))  # type: ignore[arg-type]


def test_progress_is_told_once_until_it_is_ready() -> None:
    said: list[str] = []
    on_node(Agent(("starting", "pulling"), ("starting", "pulling"), ("starting", "2 layers"), ("ready", "ready")), said)
    assert said == ["pulling", "2 layers"]


def test_a_failure_names_node_and_reason() -> None:
    with pytest.raises(NotExecutable, match=r"tool:1 cannot be run on node 3 \(i-1\): no docker") as caught:
        on_node(Agent(("failed", "no docker")), [])
    assert "styx down" in (caught.value.hint or "")


def test_an_agent_that_was_restarted_is_asked_again() -> None:
    agent = Agent(("failed", "the agent was restarted while the container was made"), ("ready", "ready"))
    on_node(agent, [])
    assert len(agent.started) == 2
    restarts = [("failed", "the agent was restarted while ...")] * 3
    with pytest.raises(NotExecutable, match="restarted"):
        on_node(Agent(*restarts), [])


def test_files_that_a_container_would_not_show_are_refused() -> None:
    def up(stage: str, *mounts: str) -> Any:
        agent = SimpleNamespace(call=lambda *_: {"stage": stage, "mounts": list(mounts)})
        return SimpleNamespace(agent=agent, transport=SimpleNamespace(home=HOME), node=SimpleNamespace(rank=1))

    contain.require_shown([up("none")], ["/data/x"])
    contain.require_shown([up("ready", "/data")], ["/data/x", "/data", "sky_workdir", "~/y", f"{HOME}/z"])
    with pytest.raises(NotExecutable, match=r"file_mounts./database would not be seen: the container of node 1"):
        contain.require_shown([up("ready", "/data")], ["/data/x", "/database"])
