"""Task options of the command line, inline commands, and warnings about valid tasks."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from styx.errors import Fault, InvalidInput, UsageError
from styx.models import GitWorkdir, Task, read_text
from styx.models.overrides import Overrides, apply_overrides, is_task_file, task_from_command
from styx.models.variables import Variables

TASK = """
name: base
workdir: ./src
resources:
  infra: aws/us-east-1/us-east-1a
  accelerators: A100:8
  any_of:
    - use_spot: true
      cpus: 4
    - infra: gcp
      accelerators: L4
"""


def overridden(**options: Any) -> Task:
    return apply_overrides(read_text(TASK).single_task(), Overrides(**options))


def alternatives(task: Task) -> list[tuple[str, str, bool]]:
    return [(str(each.infra), str(each.accelerator), each.use_spot) for each in task.resources.alternatives()]


def test_nothing_given_changes_nothing() -> None:
    task = read_text(TASK).single_task()
    assert apply_overrides(task, Overrides()) is task


def test_an_option_holds_for_every_alternative() -> None:
    assert alternatives(overridden(gpus="h100:4")) == [
        ("aws/us-east-1/us-east-1a", "H100:4", True),
        ("gcp", "H100:4", False),
    ]
    assert alternatives(overridden(infra="k8s", use_spot=False)) == [
        ("kubernetes", "A100:8", False),
        ("kubernetes", "L4", False),
    ]
    assert overridden(infra="local", gpus="none", use_spot=False, cpus="2").resources.any_of is None


def test_none_clears() -> None:
    assert alternatives(overridden(gpus="None", infra="none")) == [("None", "None", True), ("None", "None", False)]


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"zone": "us-east-1b"}, "aws/us-east-1/us-east-1b"),
        ({"region": "us-west-2"}, "aws/us-west-2"),
        ({"cloud": "GCP"}, "gcp"),
        ({"cloud": "aws", "zone": "none"}, "aws/us-east-1"),
        ({"cloud": "none"}, "None"),
        ({"cloud": "k8s", "region": "my/ctx"}, "kubernetes/my/ctx"),
    ],
)
def test_old_place_options(options: dict[str, str], place: str) -> None:
    assert str(overridden(**options).resources.infra) == place


def test_every_option_lands() -> None:
    task = overridden(
        name="new", workdir="./other", num_nodes="3", infra="gcp", cpus="8+", memory="4x", disk_size="1TB",
        disk_tier="best", network_tier="best", local_disk="nvme:300", use_spot=True, image_id="docker:x", gpus="T4",
        instance_type="n1", ports=["80", "90-91,95"], autostop="10m", max_hourly_cost="2.5",
    )  # fmt: skip
    resources = task.resources
    assert (task.name, task.workdir, task.num_nodes) == ("new", "./other", 3)
    assert resources.port_numbers() == (80, 90, 91, 95)
    assert resources.autostop is not None
    assert resources.autostop.idle_minutes == 10
    assert (resources.disk_size, resources.max_hourly_cost, str(resources.memory)) == (1024, 2.5, "4x")
    given = {"cloud", "region", "zone", "git_url", "git_ref", "gpus"}
    for field in fields(Overrides):
        if field.name not in given:
            assert getattr(task, field.name, None) or getattr(resources, field.name)


def test_a_wrong_old_place_names_its_flag() -> None:
    with pytest.raises(UsageError, match='--region: cannot hold "/"'):
        overridden(region="a/b")


def test_git() -> None:
    task = overridden(git_url="https://x/y.git", git_ref="main")
    assert task.workdir == GitWorkdir(url="https://x/y.git", ref="main")
    assert apply_overrides(task, Overrides(git_ref="v2")).workdir == GitWorkdir(url="https://x/y.git", ref="v2")


def test_wrong_options_are_told_together_by_flag() -> None:
    with pytest.raises(UsageError) as caught:
        overridden(
            name="a b", num_nodes=0, cpus="x", gpus="A100:0", ports=["1", "x"], infra="a//b", zone="z", git_ref="r",
            memory="4y",
        )  # fmt: skip
    told = str(caught.value)
    assert [line.split(": ")[0] for line in told.splitlines()] == [
        "--git-ref", "--name", "--num-nodes", "--infra", "--gpus", "--cpus", "--memory", "--ports",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="--infra: must be cloud"):
        overridden(infra="a//b")
    with pytest.raises(UsageError, match="--git-url: cannot stand beside --workdir"):
        overridden(git_url="u", workdir="w")


def test_inline_commands() -> None:
    task = task_from_command(["echo", "$HOME"], Variables(env={"A": "1"}, secrets={"S": "hidden"}))
    assert task.run == "echo $HOME"
    assert (task.envs, task.secret_values()) == ({"A": "1"}, {"S": "hidden"})
    assert "hidden" not in repr(task)
    assert is_task_file(["a/b.YAML"])
    assert not is_task_file(["echo", "x.yaml"])
    assert not is_task_file(["echo hi"])
    for empty in ("", "  ", []):
        with pytest.raises(UsageError, match="empty"):
            task_from_command(empty)


def warnings(text: str, **options: Any) -> list[tuple[int | None, str | None]]:
    found: tuple[Fault, ...] = read_text(text, **options).warnings
    return [(fault.line, fault.field) for fault in found]


def test_warnings_point_at_what_is_unusual() -> None:
    text = """
resources:
  cloud: aws
  ephemeral_storage: 5
  accelerators: {A100: 1, H1000: 2}
  any_of:
    - infra: mycloud/r
    - infra: local
"""
    assert warnings(text, installed_clouds=["local"]) == [
        (3, "resources.cloud"), (5, "resources.accelerators"), (4, "resources.ephemeral_storage"),
        (7, "resources.any_of[0].infra"),
    ]  # fmt: skip
    assert warnings("resources: {infra: mycloud}", installed_clouds=["mycloud"]) == []
    assert warnings("resources: {infra: aws}", installed_clouds=None) == []
    (odd,) = read_text("resources: {accelerators: H1000}").warnings
    assert odd.suggestion is not None


def test_a_plugin_may_have_a_name_close_to_a_known_one() -> None:
    with pytest.raises(InvalidInput, match="unknown cloud"):
        read_text("resources: {infra: awss}", installed_clouds=["local"])
    assert read_text("resources: {infra: awss}", installed_clouds=["awss"]).warnings == ()
