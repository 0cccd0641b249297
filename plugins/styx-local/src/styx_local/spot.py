"""Simulated spot capacity: a recorded trace says how many spot nodes can exist at each moment."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, ValidationError

from styx.plugin import UnsupportedError, write_atomically


class _Metadata(BaseModel):
    model_config = ConfigDict(frozen=True)  # recorded traces carry more than is needed here
    gap_seconds: PositiveFloat


class Trace(BaseModel):
    """A recorded trace: `{"metadata": {"gap_seconds": 600}, "data": [4, 4, 2, 0, ...]}`; it repeats at its end."""

    model_config = ConfigDict(frozen=True)

    metadata: _Metadata
    data: list[NonNegativeInt] = Field(min_length=1)

    def available(self, elapsed_s: float) -> int:
        """How many spot nodes can exist so long after the trace began."""
        tick = math.floor(max(0.0, elapsed_s) / self.metadata.gap_seconds)
        return self.data[tick % len(self.data)]


def load(path: Path) -> Trace:
    """Read a trace.

    Raises:
        UnsupportedError: There is none, or it is not one.
    """
    try:
        return Trace.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UnsupportedError(f"clouds.local.spot_trace: cannot read {path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UnsupportedError(
            f"clouds.local.spot_trace: {path}: {where}: {first['msg']}",
            hint='a trace looks like {"metadata": {"gap_seconds": 600}, "data": [4, 4, 2, 0]}',
        ) from error


def began(folder: Path, trace: Path, now: float) -> float:
    """When the replay of `trace` began: at its first use, remembered in `folder` until another trace is configured."""
    memo = folder / "spot.json"
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))
        if known["trace"] == str(trace):
            return float(known["began"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # first use, or damaged: it begins now
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(memo, json.dumps({"trace": str(trace), "began": now}))
    return now
