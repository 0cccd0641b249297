"""Walking trees: what goes along, what stays behind, in what shape. Git itself is the judge of its ignore rules."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from styx.errors import InvalidInput, LocalIOError
from styx.transport.tree import SyncItem, Tree, heavy_folders, scan


def paths(tree: Tree, kinds: str = "fl") -> list[str]:
    return [entry.path for entry in tree.entries if entry.kind in kinds]


def fill(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_shapes_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    fill(root, {"a/run.sh": "#!/bin/sh\n", "b c/é\n.txt": "text"})
    (root / "a" / "run.sh").chmod(0o4750)
    (root / "empty" / "deep").mkdir(parents=True)
    (root / "link").symlink_to("a/run.sh")
    (root / "dangling").symlink_to("/no/such/place")
    (root / "folder-link").symlink_to("a")
    os.utime(root / "b c" / "é\n.txt", ns=(1, 1_700_000_000_123_456_789))
    tree = scan(SyncItem(root, "~/sky_workdir/"))
    assert tree.dest == "~/sky_workdir"
    assert [(one.path, one.kind, one.size, one.target) for one in tree.entries] == [
        ("a", "d", 0, None),
        ("a/run.sh", "f", 10, None),
        ("b c", "d", 0, None),
        ("b c/é\n.txt", "f", 4, None),
        ("dangling", "l", 0, "/no/such/place"),
        ("empty", "d", 0, None),
        ("empty/deep", "d", 0, None),
        ("folder-link", "l", 0, "a"),
        ("link", "l", 0, "a/run.sh"),
    ]
    assert tree.entries[1].mode == 0o750
    assert tree.entries[3].mtime_ns == 1_700_000_000_123_456_789
    assert tree.skipped == ()


def test_a_single_file_and_a_linked_source(tmp_path: Path) -> None:
    fill(tmp_path, {"real/data.csv": "1,2"})
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "alias.csv").symlink_to("real/data.csv")
    tree = scan(SyncItem(tmp_path / "alias.csv", "~/data/"))
    assert (tree.dest, [one.path for one in tree.entries]) == ("~/data/alias.csv", [""])
    assert scan(SyncItem(tmp_path / "alias.csv", "/abs/name")).dest == "/abs/name"
    assert Path(tree.local_path(tree.entries[0])).read_text() == "1,2"
    assert paths(scan(SyncItem(tmp_path / "alias", "x"))) == ["data.csv"]


def test_special_files_are_skipped_and_said(tmp_path: Path) -> None:
    fill(tmp_path, {"file": ""})
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
        tree = scan(SyncItem(tmp_path, "x"))
    assert paths(tree) == ["file"]
    assert [one.split()[0] for one in tree.skipped] == [str(tmp_path / "pipe"), str(tmp_path / "sock")]
    with pytest.raises(InvalidInput, match="only files and folders can be uploaded"):
        scan(SyncItem(tmp_path / "pipe", "x"))


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("x")
    assert paths(scan(SyncItem(tmp_path, "x"))) == ["caf\udce9"]


@pytest.mark.parametrize("name", ["absent", "file/below", "loop"])
def test_a_source_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidInput, match=r"the path to upload (does not exist|cannot be read).*") as caught:
        scan(SyncItem(tmp_path / name, "x"))
    assert caught.value.faults[0].value == str(tmp_path / name)


def test_what_cannot_be_read_is_named(plain_user: Path) -> None:
    (plain_user / "closed").mkdir(mode=0)
    with pytest.raises(LocalIOError, match=r"cannot read .*/closed"):
        scan(SyncItem(plain_user, "x"))


def test_git_folders_stay_unless_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, {".git/config": "", "sub/.git": "gitdir: elsewhere", "code.py": "", ".gitignore": ""})
    assert paths(scan(SyncItem(tmp_path, "x"))) == [".gitignore", "code.py"]
    everything = [".git/config", ".gitignore", "code.py", "sub/.git"]
    assert paths(scan(SyncItem(tmp_path, "x", keep_git=True))) == everything


class TestIgnoreFiles:
    FILES = dict.fromkeys(["a.log", "b.txt", "sub/c.log", "sub/keep.log"], "")

    def test_the_first_kind_present_decides_alone(self, tmp_path: Path) -> None:
        fill(tmp_path, {**self.FILES, ".gitignore": "*.log", "sub/.gitignore": "c.*"})
        assert paths(scan(SyncItem(tmp_path, "x"))) == [".gitignore", "b.txt", "sub/.gitignore"]
        (tmp_path / ".skyignore").write_text("/b.txt")
        assert "sub/c.log" in paths(scan(SyncItem(tmp_path, "x")))
        assert "b.txt" not in paths(scan(SyncItem(tmp_path, "x")))
        (tmp_path / ".styxignore").write_text("sub/*\n!sub/keep.log\n.*ignore")
        assert paths(scan(SyncItem(tmp_path, "x"))) == ["a.log", "b.txt", "sub/keep.log"]

    def test_rules_above_the_tree(self, tmp_path: Path) -> None:
        fill(tmp_path, {f"repo/part/{name}": "" for name in self.FILES})
        fill(tmp_path, {"repo/.git/info/exclude": "b.txt", "repo/.gitignore": "/part/a.log\nc.*", ".gitignore": "*"})
        assert paths(scan(SyncItem(tmp_path / "repo" / "part", "x"))) == ["sub/keep.log"]
        # a folder that is itself ignored was asked for by name
        (tmp_path / "repo" / ".gitignore").write_text("part/")
        assert len(paths(scan(SyncItem(tmp_path / "repo" / "part", "x")))) == 4

    def test_an_ignored_file_asked_for_by_name(self, tmp_path: Path) -> None:
        fill(tmp_path, {"a.log": "", ".gitignore": "*.log"})
        assert paths(scan(SyncItem(tmp_path / "a.log", "x"))) == [""]


def test_heavy_folders_are_counted_once(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "node_modules/a/node_modules/b.js": "12345",
            "x/node_modules/c.js": "123",
            "x/__pycache__/m.pyc": "1",
            "target": "a file, no folder",
        },
    )
    assert heavy_folders([scan(SyncItem(tmp_path, "x"))]) == [("node_modules", 2, 8), ("__pycache__", 1, 1)]


NAMES = ["a", "b", "c.log", "d.txt", "b ", "!a"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
GLOBS = ["*", "*.log", "**", "?", "c.*", "\\a", "[ab]", "[!a]", "[^b-z]", "c[.]log", "b\\ "]
PARTS = st.sampled_from([*NAMES, *GLOBS])
PATTERNS = st.builds(
    lambda negated, anchored, parts, folder: f"{negated}{anchored}{'/'.join(parts)}{folder}",
    st.sampled_from(["", "", "", "#", "\\!"]),
    st.sampled_from(["", "/"]),
    st.lists(PARTS, min_size=1, max_size=3),
    st.sampled_from(["", "/"]),
)
RULES = st.dictionaries(
    st.sampled_from(["", "a/", "b/", "a/b/"]), st.lists(PATTERNS, min_size=1, max_size=4), max_size=3
)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(root)], check=True, timeout=60)
    return root


@settings(max_examples=80, deadline=None)
@given(names=st.sets(PATHS, min_size=1, max_size=12), rules=RULES)
@example(names={"a/a", "a/b/c.log"}, rules={"": ["a/**/"]})
def test_the_same_files_as_git(repository: Path, names: set[str], rules: dict[str, list[str]]) -> None:
    for child in repository.iterdir():
        if child.name != ".git":
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    for name in sorted(names, key=len, reverse=True):  # a path that is a folder of another one stays a folder
        path = repository / name
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    for folder, lines in rules.items():
        if (repository / folder).is_dir():
            (repository / folder / ".gitignore").write_text("\n".join(lines))
    command = ["git", "-C", str(repository), "ls-files", "-z", "--others", "--exclude-standard"]
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=env).stdout
    expected = sorted(name for name in told.split("\0") if name)
    assert sorted(paths(scan(SyncItem(repository, "x")))) == expected
