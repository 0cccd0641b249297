"""Sizes, durations and amounts as people write them, turned into numbers with a unit.

Every parser takes what YAML or a flag gives (text or a number) and raises `ValueError` with one sentence that says
what was expected. Sizes are binary throughout, as the task format has always had it: `1TB` is 1024 GiB.
"""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"(?P<amount>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[a-zA-Z]*)")
_GIB_PER_UNIT: Final[dict[str, float]] = {
    "b": 2**-30,
    "k": 2**-20, "kb": 2**-20, "ki": 2**-20, "kib": 2**-20,
    "m": 2**-10, "mb": 2**-10, "mi": 2**-10, "mib": 2**-10,
    "g": 1.0, "gb": 1.0, "gi": 1.0, "gib": 1.0,
    "t": 2**10, "tb": 2**10, "ti": 2**10, "tib": 2**10,
    "p": 2**20, "pb": 2**20, "pi": 2**20, "pib": 2**20,
}  # fmt: skip

_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([a-zA-Z]*)\s*")
_SECONDS_PER_UNIT: Final[dict[str, float]] = {
    "ms": 0.001,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip

LARGEST_GIB: Final = 2.0**30
LONGEST_S: Final = 100 * 366 * 86400.0
LARGEST_AMOUNT: Final = 1e12


def tidy_number(value: float) -> int | float:
    """The same number, as an int where it is whole."""
    return int(value) if float(value).is_integer() else float(value)


def number_text(value: float) -> str:
    """A number as a person writes it: `8`, not `8.0`."""
    return str(tidy_number(value))


def usd_text(amount: float) -> str:
    """An amount of US dollars: `$1.20`, and `$0.0042` where cents would say too little."""
    return f"${amount:,.{4 if 0 < abs(amount) < 0.1 else 2}f}"


def parse_amount(value: object, *, what: str = "a number") -> float:
    """A finite number from a number or its text; booleans are not numbers.

    Raises:
        ValueError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"must be {what}")
    try:
        amount = float(value.strip() if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        raise ValueError(f"must be {what}") from None
    if not abs(amount) <= LARGEST_AMOUNT or (isinstance(value, str) and "_" in value):
        raise ValueError(f"must be {what}")
    return amount


def parse_size_gib(value: object, *, default_unit: str = "GB") -> float:
    """A size in GiB from `256`, `"256"`, `"1TB"`, `"512 MB"` or `"80Gi"`.

    Args:
        value: A number, or text with an optional unit.
        default_unit: The unit of a bare number.

    Raises:
        ValueError: Not a size.
    """
    wrong = f'must be a size: a number of {default_unit}, or text with a unit such as "512GB" or "1TB"'
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(wrong)
    match = _SIZE.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(wrong)
    unit = (match["unit"] or default_unit).lower()
    if unit not in _GIB_PER_UNIT:
        raise ValueError(f'has the unknown size unit "{match["unit"]}"; use B, KB, MB, GB, TB or PB')
    size = float(match["amount"]) * _GIB_PER_UNIT[unit]
    if size > LARGEST_GIB:
        raise ValueError("is a size beyond any machine; check the unit")
    return size


def parse_duration_s(value: object, *, default_unit: str = "s") -> float:
    """Seconds from `30`, `"5m"`, `"10h"`, `"1d"` or `"1h30m"`.

    Args:
        value: A number, or text with units.
        default_unit: The unit of a bare number: `s` or `m`.

    Raises:
        ValueError: Not a duration.
    """
    bare = {"s": "seconds", "m": "minutes"}[default_unit]
    wrong = f'must be a duration: a number of {bare}, or text such as "30s", "5m", "10h" or "1d"'
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(wrong)
    text = str(value).strip()
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(match.group(0) for match in _DURATION_PART.finditer(text)) != text:
        raise ValueError(wrong)
    if len(parts) > 1 and any(not unit for _, unit in parts):
        raise ValueError(wrong)
    total = 0.0
    for amount, unit in parts:
        seconds = _SECONDS_PER_UNIT.get((unit or default_unit).lower())
        if seconds is None:
            raise ValueError(f'has the unknown time unit "{unit}"; use s, m, h, d or w')
        total += float(amount) * seconds
    if total > LONGEST_S:
        raise ValueError("is a duration beyond a hundred years; check the unit")
    return total


def format_duration(seconds: float) -> str:
    """The shortest exact spelling that `parse_duration_s` reads back: `90m`, `2h`, `45s`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{number_text(seconds / size)}{unit}"
    return f"{number_text(seconds)}s"
