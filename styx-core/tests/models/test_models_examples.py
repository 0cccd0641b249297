"""Every example of the format is read, survives a round trip, and together they give every field there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from styx.models import Document, JobGroup, Pipeline, Task, read_task_file
from styx.models.base import Model
from styx.models.requests import Autostop

VALID = sorted((Path(__file__).parent / "data" / "valid").glob("*.yaml"))
ENV: dict[str, str] = {}


def load(path: Path) -> Document:
    return read_task_file(path, secrets={"OTHER": "x"} if path.stem == "managed-secrets" else None)


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_is_valid_and_survives_a_round_trip(path: Path) -> None:
    document = load(path)
    for task in document.tasks:
        dumped = task.model_dump(mode="json", by_alias=True)
        again = Task.model_validate(json.loads(json.dumps(dumped))).with_secrets(task.secret_values())
        assert again == task
        assert again.model_dump(mode="json", by_alias=True) == dumped
        assert again.resources.alternatives() == task.resources.alternatives()


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_shows_no_secret(path: Path) -> None:
    for task in load(path).tasks:
        told = repr(task) + str(task) + task.to_yaml() + task.model_dump_json() + repr(task.model_dump())
        assert "canary" not in told
        for value in task.secret_values().values():
            assert value == "x" or value not in told


def models_of(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type):
        if issubclass(annotation, Model):
            yield annotation
        return
    for inner in getattr(annotation, "__args__", ()):
        yield from models_of(inner)


def all_models(root: type[Model], seen: set[type[Model]]) -> set[type[Model]]:
    if root not in seen:
        seen.add(root)
        for field in root.model_fields.values():
            for inner in models_of(field.annotation):
                all_models(inner, seen)
    return seen


def given(value: Any) -> Iterator[tuple[type[BaseModel], str]]:
    if isinstance(value, BaseModel):
        for name in value.model_fields_set & type(value).model_fields.keys():
            yield type(value), name
            yield from given(getattr(value, name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from given(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from given(item)


OLD_NAMES = {"cloud", "region", "zone", "gpus", "ephemeral_storage"}


def test_examples_give_every_field_of_the_format() -> None:
    used = {pair for path in VALID for pair in given(load(path).root)}
    models = all_models(Task, set()) | {Pipeline, JobGroup}
    wanted = {(model, name) for model in models for name in model.model_fields}
    missing = {f"{model.__name__}.{name}" for model, name in wanted - used}
    # Old names are read into the new ones; `enabled` is how `autostop: false` is kept.
    assert missing - {f"Resources.{name}" for name in OLD_NAMES} == set()
    assert "enabled" in Autostop.model_fields


def test_header_documents_bind_their_tasks() -> None:
    by_name = {path.stem: path for path in VALID}
    group = load(by_name["job-group"]).root
    assert isinstance(group, JobGroup)
    assert [task.name for task in group.tasks] == ["trainer", "replay"]
    assert (group.termination_delay_s("replay"), group.termination_delay_s("trainer")) == (120, 30)
    pipeline = load(by_name["pipeline"]).root
    assert isinstance(pipeline, Pipeline)
    assert pipeline.name == "etl"
    assert len(pipeline.tasks) == 2


def test_meaning_of_the_examples() -> None:
    tasks = {path.stem: load(path).tasks[0] for path in VALID}
    place = tasks["old-style-place"].resources.infra
    assert str(place) == "aws/us-east-1/us-east-1a"
    assert tasks["old-style-place"].resources.disk_size == 512
    kubernetes = tasks["kubernetes"]
    assert kubernetes.resources.infra is not None
    assert (kubernetes.resources.infra.cloud, kubernetes.resources.infra.region) == (
        "kubernetes",
        "team/prod-cluster",
    )
    assert kubernetes.resources.labels == {"team": "research", "cost-center": "1.10", "audited": "true"}
    assert kubernetes.secret_values() == {"SKYPILOT_DOCKER_PASSWORD": "canary-docker-password"}
    assert tasks["finetune-gpu"].envs["LEARNING_RATE"] == "2.50e-5"
    assert tasks["finetune-gpu"].envs["DEBUG"] == "False"
    assert tasks["finetune-gpu"].envs["RUN_DATE"] == "2026-11-23"
    ports = tasks["alternatives"].resources.ports
    assert [str(each) for each in ports or ()] == ["7000", "8080", "9000-9020"]
    wanted = [
        (str(each.infra), str(each.accelerator), each.use_spot, str(each.cpus))
        for each in tasks["alternatives"].resources.alternatives()
    ]
    assert wanted == [
        ("aws/us-east-1", "A10G", False, "8+"),
        ("aws/us-east-1", "L4", False, "8+"),
        ("gcp/*/us-central1-b", "L4", True, "8+"),
        ("*/eu-west-1", "None", False, "8+"),
    ]
    assert [str(each.infra) for each in tasks["old-style-alternatives"].resources.alternatives()] == [
        "aws/us-east-2",
        "aws/us-east-1/us-east-1c",
        "gcp",
        "azure/eastus",
        "aws/us-east-1",
    ]
    assert not tasks["alternatives"].resources.is_ordered
    assert tasks["ssh-and-slurm"].resources.is_ordered
    assert tasks["ordered-gpus"].resources.is_ordered
    assert [str(each.accelerator) for each in tasks["ordered-gpus"].resources.alternatives()] == [
        "H200:8",
        "H100:8",
        "A100-80GB:8",
    ]
    buckets = tasks["buckets"]
    assert buckets.workdir == "./src/alice"
    assert buckets.local_mounts == {"/data/plain": "./local/data", "~/conf.json": "~/conf/prod.json"}
    assert buckets.bucket_mounts["/data/my-bucket"] == "s3://my-bucket/train"
    managed = tasks["managed-secrets"].managed_secrets or ()
    assert [(each.scope, each.name, each.mount_path) for each in managed] == [
        ("workspace", "DB_PASSWORD", None),
        (None, "GCP_KEY", "~/.config/key.json"),
        ("personal", "WANDB_API_KEY", None),
        (None, "HF_TOKEN", None),
    ]


def test_secrets_are_replaced_in_mounts_only_on_demand() -> None:
    task = next(load(path) for path in VALID if path.stem == "service").single_task()
    assert task.service is not None
    assert task.service.readiness_probe.headers == {"Authorization": "Bearer $AUTH", "X-Version": "1.0"}
    revealed = task.revealed()
    assert revealed.service is not None
    assert (revealed.service.readiness_probe.headers or {})["Authorization"] == "Bearer canary-auth-value"
    assert "canary" not in repr(task)
