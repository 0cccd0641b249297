"""One job of the queue: its record on disk, its public view, and what follows when a phase of it ends."""

from __future__ import annotations

import time

from styx_agent import protocol
from styx_agent.fields import Fields, bad
from styx_agent.lean import TYPE_CHECKING, NamedTuple
from styx_agent.phases import DISK_FULL, LOST, Result

if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    from styx_agent.slots import Shares


class Job:
    """What the agent knows of a job. `spec` holds no secrets."""

    def __init__(self, job_id: int, spec: dict[str, Any], submitted_at: float) -> None:
        self.job_id = job_id
        self.spec = spec
        self.state = protocol.PENDING
        self.exit_code: int | None = None
        self.reason: str | None = None
        self.submitted_at = submitted_at
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.shares: Shares = {}
        self.cancelled: str | None = None
        """Why it is being cancelled; whatever its phases do then, it ends as CANCELLED."""

    @property
    def ended(self) -> bool:
        """Whether its state is final."""
        return self.state in protocol.TERMINAL_STATES

    @property
    def coordinated(self) -> bool:
        """Whether a driver runs it on several nodes."""
        return int(self.spec["num_nodes"]) > 1

    def view(self) -> protocol.Job:
        """What clients see."""
        return {
            "job_id": self.job_id,
            "name": self.spec["name"],
            "user": self.spec["user"],
            "task_id": self.spec["task_id"],
            "state": self.state,
            "exit_code": self.exit_code,
            "reason": self.reason,
            "submitted_at": self.submitted_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "num_nodes": self.spec["num_nodes"],
            "cpus": self.spec["cpus"],
            "gpus": self.spec["gpus"],
        }

    def record(self) -> dict[str, Any]:
        """What is kept on disk."""
        return {
            **self.view(),
            "spec": self.spec,
            "shares": {str(index): share for index, share in self.shares.items()},
            "cancelled": self.cancelled,
        }


def from_record(job_id: int, record: dict[str, Any]) -> Job:
    """The job in a record; a record that was damaged becomes a failed job, so that its id stays taken."""
    try:
        job = Job(job_id, _whole_spec(record["spec"]), float(record["submitted_at"]))
        if record["state"] not in protocol.JOB_STATES:
            raise ValueError(record["state"])
        job.state = record["state"]
        job.exit_code, job.reason = record["exit_code"], record["reason"]
        job.started_at, job.ended_at = record["started_at"], record["ended_at"]
        job.shares = {int(index): float(share) for index, share in record["shares"].items()}
        job.cancelled = record["cancelled"]
    except (KeyError, TypeError, ValueError, AttributeError):
        job = Job(job_id, dict(_EMPTY_SPEC), 0.0)
        job.state, job.reason, job.ended_at = protocol.FAILED_DRIVER, "the record of the job is damaged", time.time()
    return job


_EMPTY_SPEC: dict[str, Any] = {
    "token": "",
    "name": None,
    "user": "",
    "task_id": "",
    "setup": None,
    "run": None,
    "workdir": None,
    "env": {},
    "num_nodes": 1,
    "cpus": 0.0,
    "gpus": 0.0,
    "gpus_per_node": 0.0,
    "driver": None,
}


def _whole_spec(spec: dict[str, Any]) -> dict[str, Any]:
    return {**_EMPTY_SPEC, **spec}


class Submission(NamedTuple):
    """A checked `job.submit`: what is kept in the record, and what is kept apart."""

    spec: Dict[str, Any]
    secret_env: Dict[str, str]


def parse(params: dict[str, Any]) -> Submission:
    """The JobSpec in the params of `job.submit`.

    Raises:
        Fault: A field is wrong.
    """
    fields = Fields(params, "job.submit")
    gpus = float(fields.number("gpus", 0.0))
    spec = {
        "token": fields.text("token"),
        "name": fields.text("name", None),
        "user": fields.text("user", ""),
        "task_id": fields.text("task_id", ""),
        "setup": fields.text("setup", None),
        "run": fields.text("run", None),
        "workdir": fields.text("workdir", None),
        "env": fields.mapping("env", {}),
        "num_nodes": fields.whole("num_nodes", 1, least=1),
        "cpus": float(fields.number("cpus", 0.0)),
        "gpus": gpus,
        "gpus_per_node": float(fields.number("gpus_per_node", gpus)),
        "driver": _driver(params),
    }
    if not spec["token"]:
        raise bad("job.submit: the field 'token' is empty")
    if spec["num_nodes"] > 1 and spec["driver"] is None:
        raise bad("job.submit: a job of %d nodes needs the field 'driver'" % spec["num_nodes"])
    return Submission(spec, fields.mapping("secret_env", {}))


def _driver(params: dict[str, Any]) -> protocol.DriverSpec | None:
    if params.get("driver") is None:
        return None
    fields = Fields(Fields(params, "job.submit").mapping_of("driver"), "job.submit: driver")
    argv = fields.texts("argv")
    if not argv:
        raise bad("job.submit: the field 'argv' of 'driver' is empty")
    return {"argv": argv, "env": fields.mapping("env", {})}


class Step(NamedTuple):
    """What follows the end of a phase: another phase, or a final state."""

    phase: Optional[str]
    state: str
    exit_code: Optional[int] = None
    reason: Optional[str] = None


def first_step(spec: dict[str, Any]) -> Step:
    """What an admitted job begins with."""
    if spec["num_nodes"] > 1:
        return Step("driver", protocol.SETTING_UP if spec["setup"] else protocol.RUNNING)
    if spec["setup"]:
        return Step("setup", protocol.SETTING_UP)
    return _after_setup(spec)


def _after_setup(spec: dict[str, Any]) -> Step:
    if spec["run"]:
        return Step("run", protocol.RUNNING)
    return Step(None, protocol.SUCCEEDED, 0)


def next_step(spec: dict[str, Any], phase: str, result: Result, outcome: dict[str, Any]) -> Step:
    """What follows when `phase` has ended; `outcome` is what a driver left."""
    if result.kind == DISK_FULL:
        return Step(None, protocol.FAILED_SETUP if phase == "setup" else protocol.FAILED, None, result.reason)
    if result.kind == LOST:
        return Step(None, protocol.FAILED_DRIVER, None, result.reason)
    if phase == "driver":
        return _after_driver(result, outcome)
    if result.exit_code == 0:
        return _after_setup(spec) if phase == "setup" else Step(None, protocol.SUCCEEDED, 0, result.reason)
    failed = protocol.FAILED_SETUP if phase == "setup" else protocol.FAILED
    return Step(None, failed, result.exit_code, result.reason)


def _after_driver(result: Result, outcome: dict[str, Any]) -> Step:
    state, code, reason = outcome.get("state"), outcome.get("exit_code"), outcome.get("reason")
    if state in protocol.TERMINAL_STATES:
        return Step(
            None,
            str(state),
            code if isinstance(code, int) else None,
            None if reason is None else str(reason),
        )
    why = "the driver of the job ended with exit code %s before it left an outcome" % result.exit_code
    if result.reason is not None:
        why += " (%s)" % result.reason
    return Step(None, protocol.FAILED_DRIVER, None, why)
