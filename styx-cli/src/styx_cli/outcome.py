"""What a job's end means for the exit code: a pure decision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from styx.errors import DeadlineExceeded, Interrupted, StyxError, Unreachable

if TYPE_CHECKING:
    from styx.api import JobView

ENDED: Final = frozenset(("SUCCEEDED", "FAILED", "FAILED_SETUP", "FAILED_DRIVER", "CANCELLED"))
"""States that a job does not leave."""


class Outcome(NamedTuple):
    """How a command that followed a job ends."""

    exit_code: int
    source: Literal["job", "styx"]
    error: StyxError | None
    """Why the code is Styx's."""


def outcome(job: JobView) -> Outcome:
    """The exit code of `launch`, `exec` and `logs` for a job as it is now.

    A code that the job has is passed through, set-up's included; only where it has none does Styx choose.
    """
    if job.state not in ENDED:
        return Outcome(0, "styx", None)
    if job.exit_code is not None and (job.exit_code != 0 or job.state == "SUCCEEDED"):
        return Outcome(job.exit_code, "job", None)
    if job.state == "SUCCEEDED":
        return Outcome(0, "job", None)
    error = _no_code(job)
    return Outcome(error.exit_code, "styx", error)


def pending(job: JobView) -> DeadlineExceeded:
    """For `logs --status`: the job has no exit code yet."""
    return DeadlineExceeded(f"job {job.job_id} of {job.cluster} has not ended: it is {job.state}")


def _no_code(job: JobView) -> StyxError:
    what = f"job {job.job_id} of {job.cluster}"
    because = f": {job.reason}" if job.reason else ""
    why = f"`styx why {job.cluster}` tells what happened"
    if job.state == "CANCELLED":
        return Interrupted(f"{what} was cancelled{because}")
    if job.state == "FAILED_DRIVER":
        return Unreachable(f"{what} could not be run to its end{because}", hint=why)
    return Unreachable(f"{what} ended as {job.state} without an exit code{because}", hint=why)
