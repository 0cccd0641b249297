"""Reading `.env` files: `NAME=VALUE` lines, quotes, `export`, comments, `${NAME}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from styx.errors import Fault, InvalidInput
from styx.models.textfile import read_text_file

_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_REST: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|$)")
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


def read_env_file(path: str | Path, process_env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a `.env` file.

    Args:
        path: The file.
        process_env: Where `${NAME}` is looked up when no earlier line sets it.

    Raises:
        InvalidInput: The file is missing, unreadable or wrong; values are never shown.
    """
    return parse_env(read_text_file(path), file=str(path), process_env=process_env or {})


def parse_env(text: str, *, file: str | None, process_env: Mapping[str, str]) -> dict[str, str]:
    """The variables of a text in `.env` form; a later line wins over an earlier one."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    variables: dict[str, str] = {}
    faults: list[Fault] = []
    position = 0
    while position < len(text):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end]
        if not line.strip() or line.lstrip().startswith("#"):
            position = end + 1
            continue
        number = text.count("\n", 0, position) + 1
        name = _NAME.match(text, position)
        if name is None:
            faults.append(_bad_line(line, file, number))
            position = end + 1
            continue
        value, after, problem = _value(text, name.end(), end)
        if problem:
            faults.append(Fault(problem, file=file, line=number, field=name[1], suggestion="close the quotes"))
            position = end + 1
            continue
        quoted_single = text.startswith("'", name.end())
        variables[name[1]] = value if quoted_single else _interpolate(value, variables, process_env)
        position = after
    if faults:
        raise InvalidInput(faults)
    return variables


def _value(text: str, start: int, line_end: int) -> tuple[str, int, str | None]:
    """The raw value, where the next line starts, and what is wrong."""
    for quote, pattern in (("'", _SINGLE), ('"', _DOUBLE)):
        if text.startswith(quote, start):
            match = pattern.match(text, start)
            if match is None:
                return "", line_end + 1, "has a quote that is never closed"
            rest = _REST.match(text, match.end())
            if rest is None:
                return "", line_end + 1, "has text after the closing quote"
            value = match[1] if quote == "'" else re.sub(r"\\(.)", _unescape, match[1], flags=re.DOTALL)
            return value, max(rest.end(), match.end() + 1), None
    raw = text[start:line_end]
    return re.split(r"(?:^|[ \t]+)#", raw, maxsplit=1)[0].strip(), line_end + 1, None


def _unescape(match: re.Match[str]) -> str:
    char = match[1]
    if char in _ESCAPES:
        return _ESCAPES[char]
    return "" if char == "\n" else char if char in "\"\\$`'" else f"\\{char}"


def _interpolate(value: str, earlier: Mapping[str, str], process_env: Mapping[str, str]) -> str:
    def found(match: re.Match[str]) -> str:
        name, default = match[1], match[2] or ""
        return earlier.get(name) or process_env.get(name) or default

    return _REFERENCE.sub(found, value)


def _bad_line(line: str, file: str | None, number: int) -> Fault:
    before, equals, _ = line.partition("=")
    if not equals:
        return Fault('this line has no "="', file=file, line=number, suggestion="write NAME=VALUE")
    return Fault(
        "the name must be letters, digits and underscores, and start with no digit",
        file=file,
        line=number,
        field=before.strip().removeprefix("export ").strip()[:60] or None,
    )
