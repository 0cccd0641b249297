"""JSON on stdout, and the values that only the command line has a shape for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from styx.errors import Fault, InvalidInput, StyxError


class Shape(BaseModel):
    """Base of every value here."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class FaultInfo(Shape):
    """One thing wrong in a file."""

    line: int | None = None
    """Line in the file, from 1."""
    field: str | None = None
    """The field, with its path."""
    value: str | None = None
    """What was written there."""
    message: str
    """What is wrong with it."""
    suggestion: str | None = None
    """What to write instead."""


class ErrorInfo(Shape):
    """A failure of Styx, not of the job."""

    type: str
    """Name of the error class."""
    message: str
    """One sentence."""
    hint: str | None = None
    """What to do next."""
    exit_code: int
    """What the command exits with."""
    faults: tuple[FaultInfo, ...] = ()
    """Each mistake, when a file is wrong."""


class ErrorReport(Shape):
    """What stderr's last line holds when a command called with `--json` fails."""

    error: ErrorInfo


class RunResult(Shape):
    """What `launch` and `exec` print with `--json`, whether they succeed or fail."""

    cluster: str | None
    """The cluster's name; null when none was chosen yet."""
    job_id: int | None
    """Counts from 1 per cluster; null when no job was submitted."""
    state: str | None
    """The job's state when the command ended."""
    exit_code: int
    """What the command exits with."""
    exit_code_source: Literal["job", "styx"]
    """Whether the code is the job's own, or Styx's because something failed before or beside the job."""
    error: ErrorInfo | None = None
    """The failure, when the code is Styx's and not 0."""


class ValidatedFile(Shape):
    """What `validate --json` says of one file."""

    file: str
    ok: bool
    errors: tuple[FaultInfo, ...] = ()


class ConfigValue(Shape):
    """One configuration value."""

    key: str
    """Dotted path."""
    value: Any
    source: str
    """The file or flag that set it; `default` when nothing did."""


class VersionInfo(Shape):
    """Versions of what is installed."""

    styx: str
    python: str
    platform: str
    packages: dict[str, str] = Field(default_factory=dict)
    """Every installed package of Styx, plugins included."""


class LogText(Shape):
    """One line of `logs --json`: JSON Lines, one object per line of output."""

    rank: int
    stream: Literal["setup", "run", "driver"]
    text: str
    """The line without its end; bytes that are not UTF-8 are replaced."""


def fault_info(fault: Fault) -> FaultInfo:
    """A fault as JSON shows it: the file is named beside it."""
    return FaultInfo(
        line=fault.line, field=fault.field, value=fault.value, message=fault.message, suggestion=fault.suggestion
    )


def error_info(error: StyxError) -> ErrorInfo:
    """An error as JSON shows it."""
    faults = tuple(map(fault_info, error.faults)) if isinstance(error, InvalidInput) else ()
    return ErrorInfo(
        type=type(error).__name__, message=error.message, hint=error.hint, exit_code=error.exit_code, faults=faults
    )


def to_json(value: BaseModel | Iterable[Any] | Mapping[str, Any], *, indent: int | None = 2) -> str:
    """JSON text of a model, a list of models, or plain data."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
