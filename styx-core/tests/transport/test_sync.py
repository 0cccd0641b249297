"""Uploading trees to a real agent."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from styx.errors import InvalidInput, LocalIOError, Unreachable
from styx.transport import sync as sync_module
from styx.transport.agentfile import AgentFile
from styx.transport.base import Channel
from styx.transport.local import LocalTransport
from styx.transport.sync import SyncSummary, TarStream, large_upload_line, sync
from styx.transport.tree import SyncItem, scan

Nodes = Callable[..., LocalTransport]
Upload = Callable[..., SyncSummary]


@pytest.fixture
def installed(node: Nodes, agent: AgentFile) -> LocalTransport:
    transport = node()
    transport.put(agent.read(), f"{transport.agent_state}/{agent.name}", mode=0o600)
    return transport


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def upload(installed: LocalTransport, agent: AgentFile, said: list[str]) -> Upload:
    def send(
        *items: tuple[Path, str] | SyncItem, transport: LocalTransport = installed, **options: object
    ) -> SyncSummary:
        wanted = [item if isinstance(item, SyncItem) else SyncItem(*item) for item in items]
        path = f"{installed.agent_state}/{agent.name}"
        return sync(transport, path, wanted, said.append, **options)  # type: ignore[arg-type]

    return send


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """All that must be equal on both sides."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            what: tuple[object, ...] = ("d", stat.S_IMODE(info.st_mode))
            if stat.S_ISLNK(info.st_mode):
                what = ("l", os.readlink(path))
            elif stat.S_ISREG(info.st_mode):
                what = ("f", stat.S_IMODE(info.st_mode), info.st_mtime_ns, Path(path).read_bytes())
            found[os.path.relpath(path, root)] = what
    return found


def test_a_tree_arrives_as_it_is_and_only_once(tmp_path: Path, installed: LocalTransport, upload: Upload) -> None:
    root = tmp_path / "tree"
    (root / "empty" / "deep").mkdir(parents=True)
    (root / "a b").mkdir(mode=0o750)
    (root / "a b" / "é\n").write_bytes(b"text")
    (root / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / ("deep" * 50)).mkdir()
    (root / ("deep" * 50) / ("name" * 50)).write_bytes(os.urandom(300_000))
    (root / "link").symlink_to("../outside")
    (root / "readonly").mkdir()
    (root / "readonly" / "file").write_text("x")
    (root / "readonly").chmod(0o555)
    first = upload((root, "~/sky_workdir"))
    there = Path(installed.home) / "sky_workdir"
    assert picture(there) == picture(root)
    assert (first.files, first.bytes, first.sent_bytes, first.skipped) == (6, 300_015, 300_015, ())
    assert first.written == 6
    again = upload((root, "sky_workdir/"))
    assert (again.files, again.written, again.sent_bytes, again.removed) == (6, 0, 0, 0)
    (root / "readonly").chmod(0o755)


def test_what_changes_here_changes_there_and_outputs_stay(
    tmp_path: Path, installed: LocalTransport, upload: Upload
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("same", "edited", "removed", "becomes-link"):
        (root / name).write_text(name)
    upload((root, "work"))
    there = Path(installed.home) / "work"
    (there / "output").write_text("made by a job")
    (root / "edited").write_text("EDITED")
    os.utime(root / "edited", ns=(1, 1))
    (root / "removed").unlink()
    (root / "becomes-link").unlink()
    (root / "becomes-link").symlink_to("same")
    (root / "new").write_text("new")
    done = upload((root, "work"))
    assert (done.sent_bytes, done.removed) == (len("EDITED") + len("new"), 2)
    (there / "output").unlink()
    assert picture(there) == picture(root)


def test_several_trees_and_single_files(tmp_path: Path, installed: LocalTransport, upload: Upload) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    (tmp_path / "data.csv").write_text("1,2")
    absolute = tmp_path / "elsewhere" / "copy.csv"
    items = [(tmp_path / "tree", "work"), (tmp_path / "data.csv", "~/in/"), (tmp_path / "data.csv", str(absolute))]
    assert upload(*items).written == 3
    assert (Path(installed.home) / "work" / "a").read_text() == "a"
    assert (Path(installed.home) / "in" / "data.csv").read_text() == absolute.read_text() == "1,2"
    assert upload(*items).written == 0


def test_a_shared_walk(tmp_path: Path, node: Nodes, agent: AgentFile) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_text("a")
    item = SyncItem(tmp_path / "tree", "work")
    trees = [scan(item)]
    for rank in (0, 1):
        transport = node(rank)
        path = f"{transport.agent_state}/{agent.name}"
        transport.put(agent.read(), path)
        assert sync(transport, path, [item], print, trees=trees).written == 1
        assert (Path(transport.home) / "work" / "a").read_text() == "a"


class Meddler(LocalTransport):
    """Does something on this machine between the walk and the upload."""

    def __init__(self, original: LocalTransport, *meddle: Callable[[], object]) -> None:
        vars(self).update(vars(original))
        self.meddle = list(meddle)

    def open(self, argv, *, env=None):  # type: ignore[no-untyped-def]
        if self.meddle:
            self.meddle.pop(0)()
        return super().open(argv, env=env)


def test_files_that_change_and_vanish_meanwhile(tmp_path: Path, installed: LocalTransport, upload: Upload) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    for name in ("grows", "vanishes", "becomes-folder", "stays"):
        (root / name).write_text(name)

    def change() -> None:
        (root / "grows").write_text("grows and grows")
        (root / "vanishes").unlink()
        (root / "becomes-folder").unlink()
        (root / "becomes-folder").mkdir()
        (root / "appears").write_text("late")

    done = upload((root, "work"), transport=Meddler(installed, change))
    assert picture(Path(installed.home) / "work") == picture(root)
    assert done.skipped == ()
    assert done.files == 3


def test_a_file_that_never_rests_is_said(tmp_path: Path, installed: LocalTransport, upload: Upload) -> None:
    (tmp_path / "log").write_text("")

    def grow() -> None:
        with (tmp_path / "log").open("a") as stream:
            stream.write("line\n")

    done = upload((tmp_path / "log", "log"), transport=Meddler(installed, grow, grow, grow, grow))
    assert len(done.skipped) == 1
    assert f"{tmp_path}/log kept changing" in done.skipped[0]


def test_a_file_that_shrinks_under_the_reader_keeps_the_stream_whole(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 600_000)
    tree = scan(SyncItem(tmp_path, "x"))
    stream = TarStream(tree, tree.entries)
    blocks = iter(stream)
    data = next(blocks) + next(blocks)
    os.truncate(tmp_path / "big", 1000)
    data += b"".join(blocks)
    assert len(data) % 512 == 0
    assert len(data) == 512 + 600_064 + 1024
    assert stream.changed == [str(tmp_path / "big")]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda home: (home / "work").write_text("a file"), "could not store the files: .*work.* is a file"),
        (lambda home: (home / "work" / "a").mkdir(parents=True), "is a folder on the node, but a file in the source"),
    ],
)
def test_what_is_in_the_way_is_named(
    tmp_path: Path, installed: LocalTransport, upload: Upload, prepare: Callable[[Path], object], words: str
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(os.urandom(3_000_000))
    prepare(Path(installed.home))
    with pytest.raises(LocalIOError, match=words):
        upload((tmp_path / "tree", "work"))


class Spoiled(LocalTransport):
    """Runs another command in place of the agent's."""

    def __init__(self, original: LocalTransport, script: str) -> None:
        vars(self).update(vars(original))
        self.script = script

    def open(self, argv, *, env=None) -> Channel:  # type: ignore[no-untyped-def]
        return super().open(("sh", "-c", self.script, "sh", *argv), env=env)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo no such file >&2; exit 2", "the upload broke off: no such file"),
        ("sleep 100", r"stalled: nothing moved for 0\.5 s"),
        ("printf '\\000\\000\\000\\002[]'; cat >/dev/null", "lacks 'need'"),
        ("printf '\\377\\377\\377\\377'; cat >/dev/null", "too long"),
        ('ulimit -f 2000; exec "$@"', "could not store the files: .*big"),
    ],
)
def test_a_broken_upload_says_why(
    tmp_path: Path, installed: LocalTransport, upload: Upload, script: str, words: str
) -> None:
    (tmp_path / "big").write_bytes(os.urandom(6_000_000))
    with pytest.raises((Unreachable, LocalIOError), match=words):
        upload(
            (tmp_path / "big", "big"), transport=Spoiled(installed, script), stall_s=0.5 if "sleep" in script else 60
        )
    assert upload((tmp_path / "big", "big")).sent_bytes == 6_000_000


def test_a_large_upload_is_announced(
    tmp_path: Path, upload: Upload, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tree" / "node_modules").mkdir(parents=True)
    for name in ("a", "b", "node_modules/c"):
        (tmp_path / "tree" / name).write_bytes(b"x" * 1_000_000)
    monkeypatch.setattr(sync_module, "LARGE_BYTES", 2_500_000)
    upload((tmp_path / "tree", "work"))
    assert said == [
        f"Uploading 3 files, 3 MB, from {tmp_path}/tree; of these node_modules (1 files, 1 MB): "
        "list them in .styxignore to leave them out"
    ]
    (tmp_path / "tree" / "a").write_bytes(b"y" * 1_000_001)
    upload((tmp_path / "tree", "work"))  # little is missing: nothing is said
    assert len(said) == 1
    monkeypatch.setattr(sync_module, "LARGE_FILES", 2)
    tree = scan(SyncItem(tmp_path / "tree", "x"))
    assert large_upload_line(tree, [one for one in tree.entries if one.path[0] in "ab"]) is None
    assert large_upload_line(tree, tree.entries) is not None


def test_an_absent_source_is_refused_first(tmp_path: Path, installed: LocalTransport, upload: Upload) -> None:
    (tmp_path / "there").write_text("x")
    with pytest.raises(InvalidInput, match="does not exist"):
        upload((tmp_path / "there", "there"), (tmp_path / "absent", "absent"))
    assert os.listdir(installed.home) == []


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200 and "ignore" not in name and name != ".git"
)
LEAVES = st.one_of(
    st.tuples(st.just("f"), st.binary(max_size=2000), st.sampled_from([0o644, 0o755, 0o600, 0o444])),
    st.tuples(st.just("l"), st.text("ab/.", min_size=1, max_size=6), st.just(0)),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=12).filter(
    lambda tree: isinstance(tree, dict)
)


def grow(root: Path, tree: dict) -> None:  # type: ignore[type-arg]
    root.mkdir()
    for name, value in tree.items():
        path = root / name
        if isinstance(value, dict):
            grow(path, value)
        elif value[0] == "l":
            path.symlink_to(value[1])
        else:
            path.write_bytes(value[1])
            path.chmod(value[2])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, after=TREES)
def test_any_tree_becomes_any_other(
    tmp_path: Path,
    installed: LocalTransport,
    upload: Upload,
    before: dict,
    after: dict,  # type: ignore[type-arg]
) -> None:
    root, there = tmp_path / "source", Path(installed.home) / "work"
    try:
        for tree in (before, after):
            shutil.rmtree(root, ignore_errors=True)
            grow(root, tree)
            upload((root, "work"))
            assert picture(there) == picture(root)
            assert upload((root, "work")).written == 0
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(there, ignore_errors=True)
