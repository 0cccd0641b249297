"""From a task to what the agent is asked: the job, its environment, and the files that go with it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from styx.driver import FeatureSet
from styx.errors import Fault, InvalidInput
from styx.state.rows import ClusterRow, JobRow

if TYPE_CHECKING:
    from styx.models import Task
    from styx_agent.protocol import DriverSpec, Job, JobSpec

WORKDIR = "sky_workdir"
"""Where workdirs land and jobs start, under the node's home; existing recipes count on the name."""
JOB_CPUS = 0.5
"""Processor slots of one job: several jobs share a node; accelerators are what they wait for."""


def job_spec(
    task: Task, row: ClusterRow, token: str, *, setup: bool, user: str, now: datetime, driver: DriverSpec | None
) -> JobSpec:
    """The job as rank 0's agent gets it. Secrets are only in `secret_env`."""
    gpus = max((each.accelerator.count for each in task.resources.alternatives() if each.accelerator), default=0.0)
    per_node = float((row.offer or {}).get("accelerator_count") or 0)
    name = task.name or row.name
    spec: JobSpec = {
        "token": token,
        "name": task.name,
        "user": user,
        "task_id": f"styx-{now:%Y-%m-%d-%H-%M-%S-%f}_{row.name}_{name}",
        "setup": task.setup if setup else None,
        "run": task.run,
        "workdir": WORKDIR,
        "env": {key: value for key, value in task.envs.items() if value is not None},
        "secret_env": task.secret_values(),
        "num_nodes": task.num_nodes,
        "cpus": JOB_CPUS,
        "gpus": min(gpus, per_node) if per_node else gpus,
        "gpus_per_node": gpus,
        "driver": driver,
    }
    return spec


def cluster_info(row: ClusterRow) -> dict[str, str]:
    """What jobs learn of their cluster."""
    place = row.place
    return {
        "cluster_name": row.name,
        "cloud": place.cloud if place else "",
        "region": place.region if place else "",
        "zone": (place.zone if place else None) or "",
    }


def uploads(task: Task, base: Path, features: FeatureSet) -> dict[str, Path]:
    """Destination on the node -> local path, for the workdir and every local file mount.

    Destinations without `/` or `~` in front are within the workdir, as in the format's first implementation.

    Raises:
        InvalidInput: A path does not exist, or a destination is outside what the place allows.
    """
    filled = task.revealed()
    wanted: dict[str, Path] = {}
    faults: list[Fault] = []
    if isinstance(filled.workdir, str):
        wanted[WORKDIR] = _local(filled.workdir, base)
        if not wanted[WORKDIR].is_dir():
            faults.append(Fault("is not a folder", field="workdir", value=filled.workdir))
    for target, source in filled.local_mounts.items():
        here = _local(source, base)
        wanted[target if target.startswith(("/", "~")) else str(PurePosixPath(WORKDIR, target))] = here
        field = f"file_mounts.{target}"
        if not here.exists():
            faults.append(Fault("does not exist on this machine", field=field, value=source))
        if target.startswith("/") and not features.absolute_paths:
            better = f"write ~{target}"
            faults.append(Fault("this place only has the node's home folder", field=field, suggestion=better))
    if faults:
        raise InvalidInput(faults)
    return wanted


def _local(path: str, base: Path) -> Path:
    expanded = Path(os.path.expanduser(path))
    return expanded if expanded.is_absolute() else base / expanded


def job_row(key: str, job: Job | Mapping[str, Any]) -> JobRow:
    """An agent's job as the store keeps it."""
    return JobRow(
        cluster=key,
        job_id=int(job["job_id"]),
        name=job.get("name"),
        user=str(job.get("user") or ""),
        task_id=str(job.get("task_id") or ""),
        state=str(job["state"]),
        exit_code=job.get("exit_code"),
        reason=job.get("reason"),
        num_nodes=int(job.get("num_nodes") or 1),
        submitted_at=_time(job.get("submitted_at")),
        started_at=_time(job.get("started_at")),
        ended_at=_time(job.get("ended_at")),
    )


def _time(seconds: Any) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(seconds), UTC)


def for_record(task: Task) -> dict[str, Any]:
    """The task as the database keeps it: without a secret."""
    dumped: dict[str, Any] = json.loads(task.model_dump_json(by_alias=True))
    return dumped
