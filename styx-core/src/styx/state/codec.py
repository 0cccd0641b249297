"""Rows as database columns: scalars as they are, times as sortable text, everything nested as versioned JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from styx.driver import Value
from styx.state.rows import Attempt, CheckRow, ClusterRow, Event, JobRow, Rate, Refusal

RowT = TypeVar("RowT", bound=Value)

Upgrade = Callable[[Any], Any]
"""Turns the data of one version of a JSON column into the next one's."""


class Undecodable(ValueError):
    """A stored row is not what this version of Styx can read; the message says which and why."""


@dataclass(frozen=True)
class JsonColumn:
    """One nested field, stored as `{"v": version, "d": data}`.

    Attributes:
        version: Of what is written now. Raise it with a change of shape, and add the upgrade.
        upgrades: `upgrades[n]` reads data of version n as version n + 1.
    """

    version: int = 1
    upgrades: Mapping[int, Upgrade] = field(default_factory=dict)

    def dump(self, data: Any) -> str:
        """The column's text."""
        return json.dumps({"v": self.version, "d": data}, separators=(",", ":"), ensure_ascii=False)

    def load(self, text: str) -> Any:
        """The data, in today's shape.

        Raises:
            Undecodable: Not such an envelope, or of a version that is unknown here.
        """
        try:
            envelope = json.loads(text)
            version, data = envelope["v"], envelope["d"]
        except (ValueError, TypeError, KeyError):
            raise Undecodable("it is not versioned JSON") from None
        while version != self.version:
            if version not in self.upgrades:
                raise Undecodable(f"its version is {version}, and this Styx reads up to {self.version}")
            data = self.upgrades[version](data)
            version += 1
        return data


_FIRST: Final = JsonColumn()

JSON_COLUMNS: Final[Mapping[type[Value], Mapping[str, JsonColumn]]] = {
    ClusterRow: {
        "place": _FIRST,
        "nodes": _FIRST,
        "offer": _FIRST,
        "resources": _FIRST,
        "task": _FIRST,
        "lease": _FIRST,
        "ports": _FIRST,
    },
    Attempt: {"place": _FIRST, "offer": _FIRST},
    Event: {"data": _FIRST},
    Rate: {"place": _FIRST},
    JobRow: {},
    CheckRow: {"places": _FIRST},
    Refusal: {"place": _FIRST},
}
"""Which fields are nested, and in which version they are written."""


def time_text(at: datetime) -> str:
    """A time as text of fixed width in UTC, so that text order is time order."""
    if at.tzinfo is None:
        raise ValueError(f"the time {at.isoformat()} has no zone; the store takes aware times only")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00")


def to_columns(row: Value, names: frozenset[str] | None = None) -> dict[str, Any]:
    """Column values of a row; only of the fields `names`, when given."""
    nested = JSON_COLUMNS[type(row)]
    wanted = type(row).model_fields.keys() if names is None else names
    dumped = row.model_dump(mode="json", include={name for name in wanted if name in nested})
    columns: dict[str, Any] = {}
    for name in wanted:
        value = getattr(row, name)
        if name in nested:
            columns[name] = None if value is None else nested[name].dump(dumped[name])
        else:
            columns[name] = time_text(value) if isinstance(value, datetime) else value
    return columns


def from_columns(model: type[RowT], columns: Mapping[str, Any]) -> RowT:
    """The row that these columns hold.

    Raises:
        Undecodable: A column is damaged, or was written by a newer Styx.
    """
    nested = JSON_COLUMNS[model]
    values: dict[str, Any] = {}
    for name in model.model_fields:
        value = columns[name]
        if name in nested and value is not None:
            try:
                value = nested[name].load(value)
            except Undecodable as error:
                raise Undecodable(f"column {name} of a {model.__name__}: {error}") from None
        values[name] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Undecodable(f"column {where} of a {model.__name__}: {first['msg']}") from None
