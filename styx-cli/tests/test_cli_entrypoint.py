"""A task file or a command: a pure decision."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.errors import NotFound, UsageError
from styx_cli.entrypoint import read_entrypoint


def test_a_word_that_ends_in_yaml_and_exists_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "task.YML").write_text("run: true")
    assert read_entrypoint(["task.YML"], here=tmp_path) == ("file", "task.YML")


def test_one_word_is_shell_text_as_it_is() -> None:
    assert read_entrypoint(["echo $HOME && ls"]) == ("command", "echo $HOME && ls")
    assert read_entrypoint(["python train.py --config a.yaml"]).kind == "command"
    assert read_entrypoint([]).kind == "nothing"


@given(st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1), min_size=2))
def test_several_words_stay_apart(words: list[str]) -> None:
    if words[0].lower().endswith((".yaml", ".yml")):
        return
    assert shlex.split(read_entrypoint(words).text) == words


def test_a_missing_file_is_no_command(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("run: true")
    with pytest.raises(NotFound) as caught:
        read_entrypoint(["trian.yaml"], here=tmp_path)
    assert "trian.yaml" in caught.value.message
    assert "train.yaml" in (caught.value.hint or "")


def test_words_after_a_file_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text("run: true")
    (tmp_path / "dir.yaml").mkdir()
    with pytest.raises(UsageError, match="more"):
        read_entrypoint(["task.yaml", "more"], here=tmp_path)
    with pytest.raises(UsageError, match="folder"):
        read_entrypoint(["dir.yaml"], here=tmp_path)
