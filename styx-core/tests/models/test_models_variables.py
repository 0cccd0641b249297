"""`--env`, `--secret`, their files, and `$NAME` in fields."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.errors import InvalidInput
from styx.models import Task, read_text
from styx.models.dotenv import parse_env, read_env_file
from styx.models.environment import substitute_text
from styx.models.variables import variables_from_flags

DOTENV = """\
# comment
PLAIN=value
export EXPORTED = spaced value   # trailing comment
HASH=a#b
EMPTY=
SINGLE='as $PLAIN is\\n'
DOUBLE="line one\\nline \\"two\\" \\$PLAIN"
MULTI="first
second"
FROM_FILE=${PLAIN}/x
FROM_SHELL=${SHELL_ONLY}
DEFAULT=${NOPE:-fallback}
JSON={"a": 1}
PLAIN=last wins
"""


def test_dotenv() -> None:
    assert parse_env(DOTENV, file=None, process_env={"SHELL_ONLY": "from shell"}) == {
        "PLAIN": "last wins",
        "EXPORTED": "spaced value",
        "HASH": "a#b",
        "EMPTY": "",
        "SINGLE": "as $PLAIN is\\n",
        "DOUBLE": 'line one\nline "two" $PLAIN',
        "MULTI": "first\nsecond",
        "FROM_FILE": "value/x",
        "FROM_SHELL": "from shell",
        "DEFAULT": "fallback",
        "JSON": '{"a": 1}',
    }


def test_dotenv_faults_hide_values(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text('GOOD=1\nno equals canary\n1BAD=canary\nOPEN="canary\n\nNEXT="x" canary\n')
    with pytest.raises(InvalidInput) as caught:
        read_env_file(path)
    assert [fault.line for fault in caught.value.faults] == [2, 3, 4, 6]
    assert "canary" not in str(caught.value)


NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,6}", fullmatch=True)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=20)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_dotenv_reads_back_double_quoted_text(values: dict[str, str]) -> None:
    def quote(text: str) -> str:
        for char in '\\"$':
            text = text.replace(char, f"\\{char}")
        return f'"{text}"'

    text = "".join(f"{key}={quote(value)}\n" for key, value in values.items() if "${" not in value)
    wanted = {key: value for key, value in values.items() if "${" not in value}
    assert parse_env(text, file=None, process_env={}) == wanted


@given(st.text(max_size=60))
def test_dotenv_never_crashes(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        assert all(parse_env(text, file="f", process_env={}))


def test_flags(tmp_path: Path) -> None:
    (tmp_path / "a.env").write_text("A=file\nB=file\n")
    given_values = variables_from_flags(
        env=["A=flag=1", "FROM"],
        env_files=[str(tmp_path / "a.env")],
        secrets=["S=hidden"],
        process_env={"FROM": "shell"},
    )
    assert given_values.env == {"A": "flag=1", "B": "file", "FROM": "shell"}
    assert given_values.secrets == {"S": "hidden"}
    assert "hidden" not in repr(given_values)


def test_wrong_flags_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        variables_from_flags(env=["1X=canary", "UNSET"], secret_files=[str(tmp_path / "none")], process_env={})
    assert [fault.field for fault in caught.value.faults] == ["--env", "--env", None]
    assert "canary" not in str(caught.value)


TEXT = "envs: {A: , B: file}\nsecrets: {S: , T: file}\nrun: x\n"


def test_values_fill_nulls_and_replace() -> None:
    task = read_text(TEXT, env={"A": "a", "S": "s", "NEW": "n"}, secrets={"T": "t", "B": "b"}).single_task()
    assert task.envs == {"A": "a", "NEW": "n"}
    assert task.secret_values() == {"S": "s", "T": "t", "B": "b"}


def test_substitution_uses_envs_given_late() -> None:
    text = "envs: {DIR: }\nworkdir: $DIR/src\nfile_mounts:\n  /d/${DIR}/$UNKNOWN: ./$DIR\nrun: echo $DIR\n"
    task = read_text(text, env={"DIR": "abc"}).single_task()
    assert (task.workdir, task.file_mounts, task.run) == ("abc/src", {"/d/abc/$UNKNOWN": "./abc"}, "echo $DIR")


def test_faults_point_at_keys_that_were_substituted() -> None:
    with pytest.raises(InvalidInput) as caught:
        read_text("envs: {D: x}\nfile_mounts:\n  /a: ./b\n  /$D: ftp://h/p\n")
    (fault,) = caught.value.faults
    assert (fault.line, fault.field, fault.value) == (4, "file_mounts./$D", "ftp://h/p")


@given(st.text(max_size=30), st.text(max_size=5))
def test_substitution_only_touches_known_names(text: str, value: str) -> None:
    assert substitute_text(text, {}) == text
    assert substitute_text("$A", {"A": value}) == value
    assert substitute_text("${A}b$AB", {"A": value}) == f"{value}b$AB"


def test_secrets_stay_out_of_every_dump() -> None:
    task = Task(run="x", secrets={"S": "canary"}, file_mounts={"/a": "./$S"})
    assert "canary" not in repr(task) + str(task.model_dump()) + task.model_dump_json() + task.to_yaml()
    assert task.model_dump(mode="json")["secrets"] == {"S": None}
    assert task.revealed().local_mounts == {"/a": "./canary"}
    assert task.local_mounts == {"/a": "./$S"}
    assert Task.from_dict(task.model_dump(mode="json")).with_secrets(task.secret_values()) == task
