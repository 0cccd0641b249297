import gzip
import io
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PYTHON = os.environ.get("STYX_TEST_AGENT_PYTHON", sys.executable)


class Channel:
    """The client's half of the conversation, as short as it can be."""

    def __init__(self, pyz, root):
        self.home = root / "home"
        self.state = root / "state"
        self.home.mkdir(exist_ok=True)
        argv = [PYTHON, "-I", "-S", str(pyz), "sync", "--state", str(self.state), "--home", str(self.home)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def frame(self, data):
        self.process.stdin.write(struct.pack(">I", len(data)) + data)
        self.process.stdin.flush()

    def answer(self):
        header = self.process.stdout.read(4)
        assert len(header) == 4, self.process.stderr.read()
        return json.loads(self.process.stdout.read(struct.unpack(">I", header)[0]))

    def need(self, dest, entries, delete=True):
        self.frame(gzip.compress(json.dumps({"dest": dest, "delete": delete, "entries": entries}).encode()))
        return self.answer()

    def send(self, members):
        """Members are (name, bytes)."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        for start in range(0, len(packed.getvalue()), 1000):
            self.frame(packed.getvalue()[start : start + 1000])
        self.frame(b"")
        return self.answer()

    def push(self, source, dest="dest", delete=True):
        """Sync a folder or file of this machine; returns what was needed and the answer."""
        entries = manifest_of(source)
        answer = self.need(dest, entries, delete)
        if "error" in answer:
            return [], answer
        needed = [entries[index][0] for index in answer["need"]]
        done = self.send([(path, (source / path if path else source).read_bytes()) for path in needed])
        return needed, done

    def close(self):
        if self.process.stdin.closed:
            return self.process.returncode
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        errors = self.process.stderr.read()
        self.process.stderr.close()
        assert b"Traceback" not in errors
        return code


def entry_of(path, name):
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        return [name, "l", 0o777, 0, 0, os.readlink(path)]
    if stat.S_ISDIR(info.st_mode):
        return [name, "d", stat.S_IMODE(info.st_mode), 0, 0, None]
    return [name, "f", stat.S_IMODE(info.st_mode), info.st_size, info.st_mtime_ns, None]


def manifest_of(source):
    if not source.is_dir():
        return [entry_of(source, "")]
    return [entry_of(path, path.relative_to(source).as_posix()) for path in sorted(source.rglob("*"))]


@pytest.fixture
def channel(pyz, tmp_path):
    made = Channel(pyz, tmp_path)
    yield made
    made.close()


NAMES = st.sampled_from(["a", "b", "ünïcode ☃", "with space", "x" * 120, "-dash", "line\nbreak", "surrogate\udcff"])
LEAVES = st.one_of(
    st.tuples(st.just("f"), st.binary(max_size=200), st.sampled_from([0o644, 0o755, 0o600, 0o444])),
    st.tuples(st.just("l"), st.sampled_from(["a", "../outside", "/etc/passwd", "dangling ☃"])),
)
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=3),
    lambda inner: st.dictionaries(NAMES, LEAVES | inner, max_size=4),
    max_leaves=8,
)


def build(folder, tree):
    folder.mkdir()
    for name, item in tree.items():
        path = folder / name
        if isinstance(item, dict):
            build(path, item)
        elif item[0] == "l":
            path.symlink_to(item[1])
        else:
            path.write_bytes(item[1])
            path.chmod(item[2])
    folder.chmod([0o755, 0o700, 0o555][len(tree) % 3])


def contents(folder):
    return {
        entry[0]: (*entry, (folder / entry[0]).read_bytes() if entry[1] == "f" else None)
        for entry in manifest_of(folder)
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=TREES, second=TREES)
def test_any_tree_after_any_other_arrives_exactly_and_twice_needs_nothing(channel, tmp_path, first, second):
    for folder in (tmp_path / "source", channel.home / "dest"):
        if folder.exists():
            for path in (folder, *folder.rglob("*")):
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o755)
            shutil.rmtree(folder)
    for memory in channel.state.glob("sync/*.json"):
        memory.unlink()
    for tree in (first, second):
        source = tmp_path / "source"
        if source.exists():
            shutil.rmtree(source)
        build(source, tree)
        _, done = channel.push(source)
        assert done["ok"], done
        assert contents(channel.home / "dest") == contents(source)
        needed, done = channel.push(source)
        assert needed == []
        assert (done["ok"], done["written"], done["removed"], done["bytes"]) == (True, 0, 0, 0)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "sub").mkdir()
    (folder / "sub" / "one").write_text("1")
    (folder / "two").write_text("2")
    return folder


def test_only_what_changed_is_needed_and_modes_move_no_data(channel, source):
    assert sorted(channel.push(source)[0]) == ["sub/one", "two"]
    (source / "two").write_text("22")
    (source / "sub" / "one").chmod(0o755)
    assert channel.push(source)[0] == ["two"]
    assert contents(channel.home / "dest") == contents(source)


def test_outputs_of_jobs_are_never_removed(channel, source):
    channel.push(source)
    dest = channel.home / "dest"
    (dest / "out.txt").write_text("result")
    (dest / "sub" / "out.txt").write_text("result")
    (dest / "two").write_text("changed by a job")
    shutil.rmtree(source / "sub")
    (source / "two").unlink()
    _, done = channel.push(source)
    assert done["removed"] == 1
    assert sorted(p.relative_to(dest).as_posix() for p in dest.rglob("*")) == ["out.txt", "sub", "sub/out.txt", "two"]


def test_without_delete_nothing_goes_and_it_is_still_known_later(channel, source):
    channel.push(source)
    (source / "two").unlink()
    assert channel.push(source, delete=False)[1]["removed"] == 0
    assert (channel.home / "dest" / "two").exists()
    assert channel.push(source)[1]["removed"] == 1
    assert not (channel.home / "dest" / "two").exists()


@pytest.mark.parametrize("dest", ["conf/app.yaml", "~/conf/app.yaml", "ABSOLUTE/conf/app.yaml"])
def test_a_single_file(channel, tmp_path, dest):
    (tmp_path / "app.yaml").write_text("a: 1")
    (channel.home / "conf").mkdir()
    (channel.home / "conf" / "mine").write_text("mine")
    dest = dest.replace("ABSOLUTE", str(channel.home))
    for text in ("a: 1", "a: 2"):
        (tmp_path / "app.yaml").write_text(text)
        os.utime(tmp_path / "app.yaml", ns=(len(text), int(text[-1])))
        assert channel.push(tmp_path / "app.yaml", dest)[1]["ok"]
        assert (channel.home / "conf" / "app.yaml").read_text() == text
    assert channel.push(tmp_path / "app.yaml", dest)[0] == []
    assert (channel.home / "conf" / "mine").exists()


def test_several_trees_on_one_channel_and_a_linked_destination(channel, source, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (channel.home / "big").symlink_to(disk)
    assert channel.push(source, "big")[1]["ok"]
    assert channel.push(source, str(tmp_path / "else" / "where"))[1]["ok"]
    assert contents(disk) == contents(tmp_path / "else" / "where") == contents(source)
    assert channel.close() == 0


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ([["../up", "f", 0o644, 1, 1, None]], "not inside"),
        ([["/etc/evil", "f", 0o644, 1, 1, None]], "not inside"),
        ([["a/../../up", "d", 0o755, 0, 0, None]], "not inside"),
        ([["", "d", 0o755, 0, 0, None]], "not inside"),
        ([["a\0b", "f", 0o644, 1, 1, None]], "not inside"),
        ([["l", "l", 0o777, 0, 0, "/tmp"], ["l/x", "f", 0o644, 1, 1, None]], "not a folder"),
        ([["a", "f", 0o644, 1, 1, None], ["a", "d", 0o755, 0, 0, None]], "twice"),
        ([["a", "f", 0o644, 1, 1, None], ["a", "f", 0o644, 1, 1, None]], "twice"),
        ([["a", "l", 0o644, 1, 1, None]], "target"),
        ([["a", "p", 0o644, 1, 1, None]], "malformed"),
        ([["a", "f"]], "malformed"),
        ("entries", "malformed"),
    ],
)
def test_evil_manifests_are_refused(pyz, tmp_path, entries, word):
    channel = Channel(pyz, tmp_path)
    answer = channel.need("dest", entries)
    assert answer["ok"] is False
    assert word in answer["error"]
    assert channel.close() == 1
    assert list(channel.home.iterdir()) == []


@pytest.mark.parametrize("name", ["../up", "/tmp/evil", "unasked"])
def test_evil_tar_members_are_refused(pyz, tmp_path, name):
    channel = Channel(pyz, tmp_path)
    assert channel.need("dest", [["a", "f", 0o644, 1, 1, None]]) == {"need": [0]}
    assert "not asked for" in channel.send([(name, b"x")])["error"]
    channel.close()
    assert [p.name for p in tmp_path.rglob("*") if p.name in ("up", "evil", "unasked")] == []


def test_links_of_the_node_are_not_followed_out_of_the_destination(pyz, tmp_path, source):
    channel = Channel(pyz, tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (channel.home / "dest").mkdir()
    (channel.home / "dest" / "sub").symlink_to(outside)
    _, answer = channel.push(source)
    assert "is a link on the node, but a folder in the source" in answer["error"]
    channel.close()
    assert list(outside.iterdir()) == []


def test_conflicts_are_named(pyz, tmp_path, source):
    for build_conflict, word in (
        (lambda dest: (dest / "two").mkdir(parents=True), "is a folder on the node, but a file in the source"),
        (lambda dest: (dest.mkdir(), (dest / "sub").write_text("mine")), "is a file on the node, but a folder"),
        (lambda dest: dest.write_text("mine"), "is a file, where a folder is needed"),
    ):
        channel = Channel(pyz, tmp_path)
        shutil.rmtree(channel.home / "dest", ignore_errors=True)
        build_conflict(channel.home / "dest")
        try:
            answer = channel.push(source)[1]
        finally:
            channel.close()
        assert word in answer["error"]


def test_kind_that_changed_in_the_source_is_changed_here(channel, source):
    channel.push(source)
    shutil.rmtree(source / "sub")
    (source / "sub").write_text("a file now")
    (source / "two").unlink()
    (source / "two").mkdir()
    assert channel.push(source)[1]["ok"]
    assert contents(channel.home / "dest") == contents(source)


def test_cut_off_sync_leaves_whole_files_and_the_next_one_tidies_up(pyz, tmp_path, source):
    (source / "three").write_bytes(os.urandom(300_000))
    channel = Channel(pyz, tmp_path)
    entries = manifest_of(source)
    assert len(channel.need("dest", entries)["need"]) == 3
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("two", "three", "sub/one"):
            archive.add(source / name, name)
    channel.frame(packed.getvalue()[:200_000])
    channel.close()
    dest = channel.home / "dest"
    assert not (dest / "three").exists()
    assert (dest / "two").read_text() == "2"
    (source / "two").unlink()
    (source / "three").unlink()
    channel = Channel(pyz, tmp_path)
    assert channel.push(source)[1]["ok"]
    channel.close()
    assert contents(dest) == contents(source)


def test_file_that_could_not_be_sent_is_missing_and_needed_again(channel, source):
    entries = manifest_of(source)
    channel.need("dest", entries)
    assert channel.send([("two", b"2")])["missing"] == ["sub/one"]
    assert channel.push(source)[0] == ["sub/one"]


def test_damaged_stream_and_manifest(pyz, tmp_path):
    channel = Channel(pyz, tmp_path)
    channel.frame(b"no gzip")
    assert "manifest cannot be read" in channel.answer()["error"]
    channel.close()
    channel = Channel(pyz, tmp_path)
    channel.need("dest", [["a", "f", 0o644, 1, 1, None]])
    channel.frame(b"no tar")
    channel.frame(b"")
    assert "tar stream is damaged" in channel.answer()["error"]
    channel.close()


def test_full_disk_is_named(pyz, tmp_path):
    """A tiny file size limit stands in for quota: the error takes the same way; the words differ."""
    channel = Channel(pyz, tmp_path)
    (channel.home / "dest").mkdir()
    channel.close()
    channel = Channel(pyz, tmp_path)
    (tmp_path / "big").write_bytes(b"x" * 200_000)
    subprocess.run(["prlimit", "--pid", str(channel.process.pid), "--fsize=100000"], check=True)
    answer = channel.push(tmp_path / "big", "dest/big")[1]
    channel.close()
    assert answer["ok"] is False
    assert "File too large" in answer["error"]
    assert list((channel.home / "dest").iterdir()) == []


def test_many_small_files(channel, tmp_path):
    source = tmp_path / "source"
    for folder in range(60):
        (source / f"d{folder}").mkdir(parents=True)
        for number in range(50):
            (source / f"d{folder}" / f"f{number}").write_bytes(b"%d" % number)
    needed, done = channel.push(source)
    assert (len(needed), done["written"]) == (3000, 3000)
    assert channel.push(source)[0] == []
    assert contents(channel.home / "dest") == contents(source)
