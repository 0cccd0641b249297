"""What goes with a job to its nodes."""

from __future__ import annotations

from pathlib import Path

from styx.driver import FeatureSet
from styx.models import Task
from styx.provision.jobs import uploads


def test_files_land_where_the_task_says_and_relative_ones_beside_the_workdir(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    targets = ("/abs/data", "~/home/data", "./data", "deep/data", "~")
    task = Task.from_dict({"workdir": "data", "file_mounts": dict.fromkeys(targets, "data")})
    found = list(uploads(task, tmp_path, FeatureSet()))
    assert found == ["sky_workdir", "/abs/data", "~/home/data", "sky_workdir/data", "sky_workdir/deep/data", "~"]
