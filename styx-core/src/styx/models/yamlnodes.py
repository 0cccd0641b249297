"""YAML text as a tree that remembers lines, refuses doubled keys, and cannot exhaust the machine.

PyYAML composes the tree; this module turns it into plain data and, only when there is a fault to tell, finds the line
of a field. Nothing here knows the task format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from styx.errors import Fault, InvalidInput
from styx.models.base import Problem

MAX_DEPTH: Final = 64
MAX_NODES: Final = 100_000
SHOWN_CHARS: Final = 60

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG: Final = "tag:yaml.org,2002:"
_WORDS_FOR: Final = (
    ("cannot start any token", "has a character that cannot start a value", "put the text in quotes"),
    ("mapping values are not allowed", 'has a ": " where none can be', "check the indentation, or quote the text"),
    ("did not find expected key", "does not line up with the lines before it", "check the indentation and quotes"),
    ("expected <block end>", "does not line up with the lines before it", "check the indentation and quotes"),
    ("did not find expected '-'", "does not line up with the list before it", "check the indentation"),
    ("undefined alias", "refers to an anchor that is not defined", "define it with &NAME before *NAME"),
    ("could not find expected ':'", 'has a key without ": "', "check the indentation, or quote the text"),
    ("unexpected end of stream", "ends inside a quoted text", "close the quote"),
    ("did not find expected ',' or", "has a list or map in brackets that is not closed", "close the bracket"),
)

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Spot:
    """Where a field stands: what a `Fault` needs."""

    line: int | None
    field: str | None
    value: str | None


def compose(text: str, file: str | None) -> list[Node]:
    """The documents of a text, without the empty ones.

    Raises:
        InvalidInput: With the one fault that stopped the parser.
    """

    def refuse(message: str, line: int | None = None, suggestion: str | None = None) -> InvalidInput:
        return InvalidInput([Fault(message, file=file, line=line, suggestion=suggestion)])

    bad = _UNPRINTABLE.search(text, 1 if text.startswith("\ufeff") else 0)
    if bad:
        line = text.count("\n", 0, bad.start()) + 1
        raise refuse(f"the file holds the control character U+{ord(bad.group()):04X}, which YAML does not allow", line)
    try:
        _refuse_deep(text, refuse)
        nodes = [node for node in yaml.compose_all(text, Loader=_Loader) if not _is_null(node)]
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(error, text, file) from None
    except yaml.YAMLError as error:
        raise refuse(f"the file is not valid YAML: {error}") from None
    for node in nodes:
        size = _size(node)
        if size == math.inf:
            raise refuse("an alias in the file refers to a value that contains the alias", node.start_mark.line + 1)
        if size > MAX_NODES:
            raise refuse(f"the file holds more than {MAX_NODES} values once its aliases are followed")
    return nodes


def _refuse_deep(text: str, refuse: Any) -> None:
    """Bound the nesting before composing: the C composer recurses and would overflow its stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                raise refuse(f"values are nested more than {MAX_DEPTH} levels deep", _line(event))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _syntax_fault(error: yaml.MarkedYAMLError, text: str, file: str | None) -> InvalidInput:
    problem = " ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    message, suggestion = f"is not valid YAML: {problem}", None
    for needle, words, fix in _WORDS_FOR:
        if needle in problem:
            message, suggestion = words, fix
            break
    lines = text.splitlines()
    content = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in content[: len(content) - len(content.lstrip())]:
        message, suggestion = "is indented with a tab", "indent with spaces"
    return InvalidInput([Fault(f"this line {message}", file=file, line=line, suggestion=suggestion)])


def _is_null(node: Node | None) -> bool:
    return node is None or (isinstance(node, ScalarNode) and node.tag == f"{_TAG}null")


def _size(root: Node) -> float:
    """How many values the tree has once aliases are followed; infinitely many when one contains itself."""
    sizes: dict[int, float] = {}
    open_nodes: set[int] = set()

    def size(node: Node) -> float:
        key = id(node)
        if key in open_nodes:
            return math.inf
        if key not in sizes:
            open_nodes.add(key)
            sizes[key] = 1 + sum(map(size, _children(node)))
            open_nodes.discard(key)
        return sizes[key]

    return size(root)


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


class Document:
    """One YAML document: its plain data, what was wrong on the way to it, and where everything stands.

    Args:
        node: The root, from `compose`.
        file: The file's name for faults.
        verbatim: Keys below which numbers and dates are kept as the text that was written.
    """

    def __init__(self, node: Node, file: str | None, *, verbatim: frozenset[str] = frozenset()) -> None:
        self.file = file
        self.node = node
        self.aliases: dict[str, str] = {}
        """Other spellings of keys, by the spelling that models use; the reader fills it."""
        self._verbatim = verbatim
        self._faults: list[Fault] = []
        self._plain: dict[tuple[int, bool], Any] = {}
        self.data: Any = self._convert(node, (), verbatim=False)
        self.faults: tuple[Fault, ...] = tuple(self._faults)

    def fault(self, loc: Location, problem: Problem) -> Fault:
        """A problem at a place of this document, as a fault with its line."""
        spot = self.spot((*loc, *problem.at))
        shown = problem.shown if problem.shown is not None else spot.value
        return Fault(
            problem.message,
            file=self.file,
            line=spot.line,
            field=spot.field,
            value=shown,
            suggestion=problem.suggestion,
        )

    def spot(self, loc: Location) -> Spot:
        """Where `loc` stands. Parts that the text does not have (shapes that models add) are passed over."""
        node: Node = self.node
        line = node.start_mark.line + 1
        walked: list[str | int] = []
        for index, part in enumerate(loc):
            found = self._child(node, part)
            if found is None and not any(self._child(node, later) for later in loc[index + 1 : index + 2]):
                found = self._child(node, self.aliases.get(str(part), ""))
            if found is None:
                continue
            line, node, written = found
            walked.append(written)
        return Spot(line, dotted(walked) or None, None if not walked else show(node))

    def has(self, loc: Location) -> bool:
        """Whether the text has exactly this field."""
        node: Node = self.node
        for part in loc:
            found = self._child(node, part)
            if found is None:
                return False
            node = found[1]
        return True

    def missing(self, loc: Location) -> Spot:
        """Where a key that is not there should stand: the mapping it is missing from."""
        above = self.spot(loc[:-1])
        field = f"{above.field}.{loc[-1]}" if above.field else str(loc[-1])
        return Spot(above.line, field, None)

    def _child(self, node: Node, part: str | int) -> tuple[int, Node, str | int] | None:
        if isinstance(node, SequenceNode):
            if isinstance(part, int) and 0 <= part < len(node.value):
                item = node.value[part]
                return item.start_mark.line + 1, item, part
            return None
        if not isinstance(node, MappingNode):
            return None
        for key, value in _pairs(node):
            if isinstance(key, ScalarNode) and key.value == str(part):
                return key.start_mark.line + 1, value, key.value
        return None

    def _note(self, node: Node, loc: Location, message: str, suggestion: str | None = None) -> None:
        shown = show(node)
        self._faults.append(
            Fault(
                message,
                file=self.file,
                line=node.start_mark.line + 1,
                field=dotted(loc) or None,
                value=None if "secrets" in loc else shown,
                suggestion=suggestion,
            )
        )

    def _convert(self, node: Node, loc: Location, *, verbatim: bool) -> Any:
        key = (id(node), verbatim)
        if key not in self._plain:
            if isinstance(node, ScalarNode):
                self._plain[key] = self._scalar(node, loc, verbatim=verbatim)
            elif isinstance(node, SequenceNode):
                if node.tag != f"{_TAG}seq":
                    self._unknown_tag(node, loc)
                self._plain[key] = [
                    self._convert(item, (*loc, index), verbatim=verbatim) for index, item in enumerate(node.value)
                ]
            else:
                self._plain[key] = self._mapping(node, loc, verbatim=verbatim)
        return self._plain[key]

    def _mapping(self, node: Node, loc: Location, *, verbatim: bool) -> dict[str, Any]:
        if node.tag not in (f"{_TAG}map", f"{_TAG}set"):
            self._unknown_tag(node, loc)
        first_line: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag == f"{_TAG}null":
                self._note(key, loc, "has a key that is not text", "write a name before the colon")
            elif key.tag != f"{_TAG}merge":
                line = key.start_mark.line + 1
                if key.value in first_line:
                    where = f"the first is on line {first_line[key.value]}"
                    self._note(key, (*loc, key.value), f"is given twice; {where}", "remove one of the two")
                first_line.setdefault(key.value, line)
        data: dict[str, Any] = {}
        for key, value in _pairs(node, on_bad_merge=lambda bad: self._note(bad, loc, "merges what is not a mapping")):
            if isinstance(key, ScalarNode) and key.tag != f"{_TAG}null" and key.value not in data:
                below = verbatim or key.value in self._verbatim
                data[key.value] = self._convert(value, (*loc, key.value), verbatim=below)
        return data

    def _scalar(self, node: ScalarNode, loc: Location, *, verbatim: bool) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "timestamp", "value", "merge"):
            return node.value
        if kind == "null":
            return None
        if kind in ("int", "float") and verbatim:
            return node.value
        if kind not in ("bool", "int", "float"):
            self._unknown_tag(node, loc)
            return node.value
        try:
            value = _READ[kind](node)
        except (ValueError, KeyError, IndexError, OverflowError):
            self._note(node, loc, f"is not a readable {kind}", "put it in quotes if it is text")
            return node.value
        if isinstance(value, float) and not math.isfinite(value):
            self._note(node, loc, "is not a finite number")
            return 0.0
        return value

    def _unknown_tag(self, node: Node, loc: Location) -> None:
        tag = node.tag.replace(_TAG, "!!")[:SHOWN_CHARS]
        self._note(node, loc, f"has the YAML tag {tag}, which means nothing here", "remove the tag")


def _pairs(node: Node, on_bad_merge: Any = None) -> Iterator[tuple[Node, Node]]:
    """Keys and values of a mapping, its own first and then those it merges."""
    merges: list[Node] = []
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.tag == f"{_TAG}merge":
            merges.append(value)
        else:
            yield key, value
    for merge in merges:
        for source in merge.value if isinstance(merge, SequenceNode) else [merge]:
            if isinstance(source, MappingNode):
                yield from _pairs(source, on_bad_merge)
            elif on_bad_merge is not None:
                on_bad_merge(source)


def dotted(loc: Sequence[str | int]) -> str:
    """`resources.any_of[1].accelerators`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def show(node: Node) -> str:
    """A value as written, short enough for one line."""
    if isinstance(node, ScalarNode):
        return shorten(node.value)
    if isinstance(node, SequenceNode):
        return f"[{len(node.value)} items]" if node.value else "[]"
    keys = [key.value for key, _ in node.value if isinstance(key, ScalarNode)]
    return shorten("{" + ", ".join(map(str, keys)) + "}")


def shorten(text: str) -> str:
    """One line of at most sixty characters."""
    line = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return line if len(line) <= SHOWN_CHARS else f"{line[: SHOWN_CHARS - 3]}..."


class _Numbers(yaml.constructor.SafeConstructor):
    """PyYAML's reading of the scalars that are not text."""


_numbers = _Numbers()
_READ: Final[dict[str, Any]] = {
    "bool": _numbers.construct_yaml_bool,
    "int": _numbers.construct_yaml_int,
    "float": _numbers.construct_yaml_float,
}
