"""Every mistake is told with its line, field, value and fix, all of a file at once; and nothing ever crashes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from styx.errors import InvalidInput, StyxError
from styx.models import read_task_file, read_text
from styx.models.yamlnodes import MAX_DEPTH

DATA = Path(__file__).parent / "data"


class Expected(NamedTuple):
    line: int
    field: str | None
    message: str
    suggestion: str


def cases() -> list[tuple[str, str]]:
    blocks = (DATA / "invalid.txt").read_text().split("\n=== ")[1:]
    return [(title, text.rstrip("\n") + "\n") for title, _, text in (block.partition("\n") for block in blocks)]


def expected(text: str) -> list[Expected]:
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        _, marker, told = line.partition("#! ")
        if marker:
            field, message, suggestion = (part.strip() for part in told.split("|"))
            found.append(Expected(number, None if field == "-" else field, message, suggestion))
    return found


def test_there_are_enough_cases() -> None:
    assert len(cases()) >= 50
    assert all(expected(text) for _, text in cases())


@pytest.mark.parametrize(("title", "text"), cases(), ids=[title for title, _ in cases()])
def test_mistakes_are_told(title: str, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_text(text, file="task.yaml")
    faults = caught.value.faults
    wanted = expected(text)
    assert [(fault.line, fault.field) for fault in faults] == [(each.line, each.field) for each in wanted]
    for fault, each in zip(faults, wanted, strict=True):
        assert each.message in fault.message
        assert each.suggestion in (fault.suggestion or "")
        assert fault.file == "task.yaml"
        assert "\n" not in str(fault)
    assert "canary" not in str(caught.value)


def test_values_are_shown_short() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_text("num_nodes: " + "x" * 500 + "\nresources:\n  cpus: |\n    a\n    b\n", file="t")
    first, second = caught.value.faults
    assert first.value is not None
    assert len(first.value) <= 60
    assert second.value == "a\\nb\\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n---\n", "the file is empty"),
        (b"run: \xff\xfe", "not UTF-8"),
        (b"name: a\nrun: \x07", "U+0007"),
        (b"x" * (1 << 20) + b"x", "larger than 1024 KiB"),
        (b"[" * 50_000, "nested more than"),
        (b"- " * 5_000 + b"x", "nested more than"),
        (b"run: &a [*a]", "contains the alias"),
        (b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (98 + i, 98 + i, b",".join([b"*%c" % (97 + i)] * 10)) for i in range(8)
        ), "more than 100000 values"),
    ],
    ids=["empty", "comment", "latin", "bell", "huge", "deep-flow", "deep-block", "recursive", "laughs"],
)  # fmt: skip
def test_hostile_files_are_one_clear_fault(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        read_task_file(path)
    (fault,) = caught.value.faults
    assert words in fault.message
    assert fault.file == str(path)


def test_merged_keys_are_told_where_they_stand() -> None:
    text = "resources:\n  any_of:\n  - &base\n    cpus: x\n  - <<: *base\n    infra: aws\n"
    with pytest.raises(InvalidInput) as caught:
        read_text(text)
    told = [(fault.line, fault.field) for fault in caught.value.faults]
    assert told == [(4, "resources.any_of[0].cpus"), (4, "resources.any_of[1].cpus")]


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path, words in ((tmp_path / "no.yaml", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(InvalidInput, match=words):
            read_task_file(path)


def test_nesting_below_the_limit_is_read() -> None:
    depth = MAX_DEPTH - 6
    text = "resources: {accelerator_args: {a: " + "[" * depth + "]" * depth + "}}\n"
    assert read_text(text).single_task().resources.accelerator_args is not None


KEYS = st.sampled_from(
    ["name", "run", "envs", "secrets", "resources", "file_mounts", "volumes", "service", "pool", "config", "workdir",
     "num_nodes", "any_of", "ordered", "infra", "accelerators", "gpus", "ports", "image_id", "autostop", "hooks",
     "execution", "<<", "readiness_probe", "replica_policy", "store", "source", "A", "b-c", ""]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.binary(max_size=4)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | SCALARS, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.unmeasured
@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree_is_read_or_refused(tree: dict[str, object]) -> None:
    text = yaml.dump(tree, allow_unicode=True)
    with contextlib.suppress(StyxError):
        document = read_text(text, file="t", installed_clouds=["local"])
        assert all(task.to_yaml() for task in document.tasks)


@pytest.mark.unmeasured
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=80))
@example("run: \ud800")
@example("? {a: b}\n: c")
@example("%YAML 9.9\n---\na: b")
@example("a: 0b2\nnum_nodes: 0_\n")
@example("{resources: {ports: [~, {}]}}")
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(StyxError):
        assert read_text(text, file="t").tasks


SEEDS = [path.read_text() for path in sorted((DATA / "valid").glob("*.yaml"))]
PIECES = ["", "null", "[]", "{}", "-1", "1e999", ".inf", "99999999999999999999", "!x y", "*a", "<<: 3", "'", "[[", "/",
          "s3://", "A100:", "80GB+", "4x", "docker:", "\t", "$A", "1:30", "? [a]"]  # fmt: skip


@pytest.mark.unmeasured
@settings(max_examples=250, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 99), st.sampled_from(PIECES)), max_size=3))
def test_damaged_examples_are_read_or_refused(text: str, edits: list[tuple[int, str]]) -> None:
    lines = text.split("\n")
    for number, piece in edits:
        head, colon, _ = lines[number % len(lines)].partition(":")
        lines[number % len(lines)] = f"{head}{colon} {piece}"
    try:
        document = read_text("\n".join(lines), file="t", installed_clouds=["local"])
    except StyxError:
        return
    for task in document.tasks:
        again = type(task).model_validate(task.model_dump(mode="json", by_alias=True))
        assert again.with_secrets(task.secret_values()) == task


def test_what_is_missing_is_named_without_parts_that_the_data_does_not_have():
    from styx.models.faults import PlainSource

    source = PlainSource({"budgets": [{"name": "x"}]})
    assert source.missing(("problems", "budgets", 0, "usd")).field == "budgets[0].usd"
    assert source.missing(("budgets",)).field == "budgets"
