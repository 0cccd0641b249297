"""Every field is executed or refused; refusals name the field and the reason; every field is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from styx.config import Settings
from styx.driver import FeatureSet
from styx.errors import NotExecutable
from styx.models import JobGroup, Pipeline, Task, VolumeSpec, read_task_file, read_text
from styx.models.configkeys import TASK_KEYS
from styx.models.executed import TABLE, Executed, Refused, require_executable, status_of, unexecuted
from styx.models.fields import field_docs, format_fields

VALID = sorted((Path(__file__).parent / "data" / "valid").glob("*.yaml"))
EVERYTHING = FeatureSet(
    spot=True,
    ports="any_time",
    custom_image=True,
    container="docker",
    mounts=True,
    absolute_paths=True,
    disk_tiers=True,
)


def test_every_field_is_executed_or_refused() -> None:
    paths = [field.path for field in format_fields()]
    assert len(paths) > 150
    assert [path for path in paths if status_of(path) is None] == []
    assert all(isinstance(status_of(f"config.{key}"), Refused) for key in TASK_KEYS)


def test_the_table_names_only_fields_that_exist() -> None:
    paths = {field.path for field in format_fields()}
    assert {name for name in TABLE if not name.endswith(".*")} - paths == set()
    assert status_of("resources.future_field") is None
    assert status_of("nothing") is None


def test_every_reason_is_a_sentence_part() -> None:
    for status in TABLE.values():
        reason = status.reason if isinstance(status, Refused) else status.otherwise
        assert reason or (isinstance(status, Executed) and status.when is None)
        assert not reason.endswith(".")


@pytest.mark.parametrize("root", [Task, Pipeline, JobGroup, VolumeSpec, Settings], ids=lambda root: root.__name__)
def test_every_field_is_documented(root: type[Task]) -> None:
    for model in {field.model for field in format_fields(root)}:
        docs = field_docs(model)
        wrong = [name for name in model.model_fields if not docs.get(name, "").endswith(".")]
        assert wrong == [], model


def test_examples_are_refused_for_what_they_hold() -> None:
    told = {
        path.stem: {fault.field for task in read_task_file(path).tasks for fault in unexecuted(task, EVERYTHING)}
        for path in VALID
    }
    assert {name for name, fields in told.items() if not fields} == {
        "alternatives", "anchors", "any-gpu-map", "any-gpu-set", "buckets", "finetune-gpu", "fractional",
        "gpu-by-memory", "hello", "job-group",
        "multi-node", "nothing-special", "old-style-alternatives", "old-style-place", "ordered-gpus", "pipeline",
    }  # fmt: skip
    assert told["service"] == {"service"}
    assert told["git-workdir"] == {"workdir"}
    assert told["managed-spot"] == {
        "event_callback", "resources.job_recovery", "resources.autostop.hook", "resources.autostop.hook_timeout",
    }  # fmt: skip
    assert {"config.hooks", "config.gcp"} <= told["hooks-and-config"]
    assert "config.lease" not in told["hooks-and-config"]


def test_what_depends_on_the_place() -> None:
    text = """
resources:
  use_spot: true
  ports: 80
  any_of:
    - image_id: docker:ubuntu
    - image_id: ami-1
file_mounts:
  /abs: ./x
  ~/rel: ./x
  /b: s3://bucket
"""
    task = read_text(text).single_task()
    assert unexecuted(task, None) == []
    assert unexecuted(task, EVERYTHING) == []
    bare = FeatureSet(absolute_paths=False)
    assert {fault.field for fault in unexecuted(task, bare)} == {
        "resources.use_spot", "resources.ports", "resources.any_of[0].image_id", "resources.any_of[1].image_id",
        "file_mounts./abs", "file_mounts./b",
    }  # fmt: skip
    with pytest.raises(NotExecutable, match=r"resources\.use_spot: the place has no spot machines"):
        require_executable(task, bare)


def test_defaults_written_out_are_not_refused() -> None:
    text = "api_server_access: true\nnum_nodes: 1\nresources: {use_spot: false, autostop: false}\nrun: x\n"
    assert unexecuted(read_text(text).single_task(), FeatureSet()) == []


def test_the_best_disk_is_what_the_place_has() -> None:
    assert unexecuted(read_text("resources: {disk_tier: best}").single_task(), FeatureSet()) == []
    (fault,) = unexecuted(read_text("resources: {disk_tier: high}").single_task(), FeatureSet())
    assert (fault.field, fault.value) == ("resources.disk_tier", "high")


def test_pipelines_are_refused_by_name() -> None:
    document = read_text("run: a\n---\nrun: b\n", file="two.yaml")
    with pytest.raises(NotExecutable, match=r"two\.yaml is a pipeline of 2 tasks"):
        document.single_task()
    assert read_text("name: one\n---\nrun: b\n").single_task().run == "b"
