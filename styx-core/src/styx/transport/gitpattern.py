"""One line of an ignore file, with git's meaning of it (gitignore(5)); a property test compares it with git itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t\n\r\f\v",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}
_NEVER = "(?!)"


@dataclass(frozen=True)
class Rule:
    """What one line says.

    Attributes:
        pattern: A regular expression for the whole of a name or path.
        whole_path: It is compared with the path below the file's folder; otherwise with the last name alone.
        folders_only: It means folders.
        negated: It brings back what an earlier line hides.
    """

    pattern: str
    whole_path: bool
    folders_only: bool
    negated: bool


def parse(line: str) -> Rule | None:
    """The rule in a line; None for a comment or an empty line."""
    text = _without_trailing_spaces(line.rstrip("\r\n"))
    if not text or text.startswith("#"):
        return None
    negated = text.startswith("!")
    text = text[negated:]
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    whole_path = "/" in text
    text = text.removeprefix("/")
    return Rule(translate(text), whole_path, folders_only, negated)


def _without_trailing_spaces(text: str) -> str:
    kept = text.rstrip(" ")
    backslashes = len(kept) - len(kept.rstrip("\\"))
    return f"{kept} " if kept != text and backslashes % 2 else kept


def translate(glob: str) -> str:
    """A glob as a regular expression. A malformed one, and an empty one, matches nothing, as with git."""
    if not glob:
        return _NEVER
    out: list[str] = []
    at = 0
    while at < len(glob):
        char = glob[at]
        if char == "*":
            piece, at = _stars(glob, at)
        elif char == "[":
            piece, at = _bracket(glob, at)
        elif char == "\\":
            if at + 1 == len(glob):
                return _NEVER
            piece, at = re.escape(glob[at + 1]), at + 2
        else:
            piece, at = "[^/]" if char == "?" else re.escape(char), at + 1
        if not piece:
            return _NEVER
        out.append(piece)
    return "".join(out)


def _stars(glob: str, at: int) -> tuple[str, int]:
    """One star stays within a name; two of them or more, alone between slashes, span folders."""
    end = at
    while end < len(glob) and glob[end] == "*":
        end += 1
    opens = at == 0 or glob[at - 1] == "/"
    if end - at >= 2 and opens:
        if end == len(glob):
            return ".*" if at == 0 else ".+", end
        if glob[end] == "/":
            return "(?:.*/)?", end + 1
    return "[^/]*", end


def _bracket(glob: str, at: int) -> tuple[str, int]:
    """A set of characters; no pattern at all when it is not closed."""
    end = at + 1
    inverted = end < len(glob) and glob[end] in "!^"
    end += inverted
    parts: list[str] = []
    first = True
    while end < len(glob) and (first or glob[end] != "]"):
        first = False
        if glob.startswith("[:", end):
            close = glob.find(":]", end + 2)
            name = glob[end + 2 : close] if close != -1 else None
            if name not in _CLASSES:
                return "", end
            parts.append(_CLASSES[name])
            end = close + 2
            continue
        low, end = _member(glob, end)
        if end + 1 < len(glob) and glob[end] == "-" and glob[end + 1] != "]":
            high, end = _member(glob, end + 1)
            if low <= high:
                parts.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            parts.append(re.escape(low))
    if end >= len(glob):
        return "", end
    inside = "".join(parts)
    if not inside:
        return ("[^/]" if inverted else _NEVER), end + 1
    return (f"[^/{inside}]" if inverted else f"(?!/)[{inside}]"), end + 1


def _member(glob: str, at: int) -> tuple[str, int]:
    if glob[at] == "\\" and at + 1 < len(glob):
        return glob[at + 1], at + 2
    return glob[at], at + 1


class Rules:
    """The rules of one ignore file."""

    def __init__(self, lines: Iterable[str]) -> None:
        rules = [rule for rule in map(parse, lines) if rule is not None]
        self._rules = [(re.compile(rule.pattern, re.DOTALL), rule) for rule in reversed(rules)]
        # One look for most paths: only a path that some rule matches needs to know which.
        self._any_name = _any(rule.pattern for rule in rules if not rule.whole_path)
        self._any_path = _any(rule.pattern for rule in rules if rule.whole_path)

    def verdict(self, path: str, *, folder: bool) -> bool | None:
        """True: hidden; False: brought back; None: no rule speaks of it. The folders above it are not looked at."""
        name = path.rpartition("/")[2]
        if not self._any_name.fullmatch(name) and not self._any_path.fullmatch(path):
            return None
        for compiled, rule in self._rules:
            if rule.folders_only and not folder:
                continue
            if compiled.fullmatch(path if rule.whole_path else name):
                return not rule.negated
        return None


def _any(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or _NEVER, re.DOTALL)
