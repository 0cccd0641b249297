"""Plain tables and short texts. Rich is imported only for a table wider than the terminal."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from styx_cli.app import App

UNKNOWN = "?"
"""Shown for what nobody knows; an unknown price is never 0."""


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """Columns aligned with spaces, two between them; one line per row."""
    if not rows:
        return ""
    cells = [list(headers), *([_one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    aligned = ["".join(_aligned(row, widths, headers, right)).rstrip() for row in cells]
    return "\n".join(aligned) + "\n"


def show_table(app: App, headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table to stdout: wrapped within its columns where a terminal is too narrow for it, else as it is."""
    text = table(headers, rows, right=right)
    if app.is_terminal("stdout") and any(_width(line) > terminal_width() for line in text.splitlines()):
        _show_wrapped(headers, rows, right)
    else:
        app.data(text)


def terminal_width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size().columns


def _show_wrapped(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    wide = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in headers:
        wide.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        wide.add_row(*(Text(_one_line(cell)) for cell in row))
    Console().print(wide)


def _aligned(row: Sequence[str], widths: Sequence[int], headers: Sequence[str], right: Sequence[str]) -> list[str]:
    return [
        (" " * (width - _width(cell)) + cell if header in right else cell + " " * (width - _width(cell))) + "  "
        for cell, width, header in zip(row, widths, headers, strict=True)
    ]


def _one_line(cell: str) -> str:
    return " ".join(cell.split()) if "\n" in cell or "\t" in cell else cell


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def usd(amount: float | None, *, known: bool = True) -> str:
    """An amount of money: `$1.20`, `$0.0042`, or `?` when it is not known."""
    if amount is None or not known:
        return UNKNOWN
    digits = 4 if 0 < abs(amount) < 0.1 else 2
    return f"${amount:,.{digits}f}"


def span(seconds: float) -> str:
    """A length of time for people: `4s`, `12m`, `3h 20m`, `2d 4h`."""
    whole = int(max(seconds, 0))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m"
    if whole < 86400:
        return _two(whole // 3600, "h", whole % 3600 // 60, "m")
    return _two(whole // 86400, "d", whole % 86400 // 3600, "h")


def elapsed(seconds: float) -> str:
    """A length of time with tenths of a second while it is short: `3.2s`, `1m 05s`."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    return f"{int(seconds) // 60}m {int(seconds) % 60:02d}s"


def age(since: datetime | None, now: datetime | None = None) -> str:
    """How long ago that was, or `-`."""
    if since is None:
        return "-"
    return span(((now or datetime.now(UTC)) - since).total_seconds())


def clock(moment: datetime | None) -> str:
    """Local date and time, or `-`."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else "-"


def lease_text(lease: dict[str, Any]) -> str:
    """A cluster's lease in one cell: `stop after 10m idle, down at 24h`, or `-`."""
    limits = [
        f"{span(lease[key])} {words}"
        for key, words in (("idle_s", "idle"), ("max_age_s", "old"), ("dead_man_s", "unseen"))
        if lease.get(key) is not None
    ]
    if lease.get("max_usd") is not None:
        limits.append(usd(float(lease["max_usd"])))
    return f"{lease.get('action') or 'stop'} at {' or '.join(limits)}" if limits else "-"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit} {small}{small_unit}" if small else f"{big}{big_unit}"
