"""Brings a folder to the state of a manifest: what is needed, what goes, and how each entry is written safely."""

from __future__ import annotations

import hashlib
import os
import stat

from styx_agent import files
from styx_agent.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, BinaryIO, Dict, List, Optional

    Seen = Dict[str, List[Any]]
    """path -> [type, size or link target, modification time on disk, the source's modification time]."""

_COPY_BYTES = 1 << 20
_TEMPORARY = ".styx-part-"


class TreeError(Exception):
    """The tree cannot be brought about; the message is for the user."""


class Entry(NamedTuple):
    """One entry of a manifest. `kind` is `f`, `d` or `l`."""

    path: str
    kind: str
    mode: int
    size: int
    mtime_ns: int
    target: Optional[str]


class Manifest(NamedTuple):
    """What a client wants below `dest`."""

    dest: str
    delete: bool
    entries: List[Entry]


def parse_manifest(value: Any) -> Manifest:
    """Check a manifest.

    Raises:
        TreeError: It is malformed, or an entry would lie outside the destination.
    """
    try:
        dest, delete = value["dest"], bool(value["delete"])
        entries = [Entry(*item) for item in value["entries"]]
    except (KeyError, TypeError) as error:
        raise TreeError("the manifest is malformed: %s" % error) from error
    if not isinstance(dest, str) or not dest or "\0" in dest:
        raise TreeError("the manifest has no destination")
    kinds: dict[str, str] = {}
    for entry in entries:
        _check_entry(entry, alone=len(entries) == 1)
        if kinds.setdefault(entry.path, entry.kind) != entry.kind or len(kinds) < 1:
            raise TreeError("the manifest names %r twice" % entry.path)
    if len(kinds) != len(entries):
        raise TreeError("the manifest names a path twice")
    for path in kinds:
        parent = os.path.dirname(path)
        while parent:
            if kinds.get(parent, "d") != "d":
                raise TreeError("the manifest has %r below %r, which is not a folder" % (path, parent))
            parent = os.path.dirname(parent)
    return Manifest(dest, delete, entries)


def _check_entry(entry: Entry, *, alone: bool) -> None:
    path = entry.path
    numbers = (entry.mode, entry.size, entry.mtime_ns)
    if not isinstance(path, str) or entry.kind not in ("f", "d", "l") or not all(type(n) is int for n in numbers):
        raise TreeError("the manifest has a malformed entry: %.200r" % (entry,))
    if entry.kind == "l" and not (isinstance(entry.target, str) and entry.target and "\0" not in entry.target):
        raise TreeError("the manifest has a link without target: %r" % path)
    if path == "" and alone and entry.kind != "d":
        return
    if "\0" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise TreeError("the manifest has the path %r, which is not inside the destination" % path)


class Tree:
    """One manifest being brought about. Call `compare`, `prepare`, `write` for each needed entry, `finish`."""

    def __init__(self, home: str, memory_folder: str, manifest: Manifest) -> None:
        dest = manifest.dest
        if dest == "~" or dest.startswith("~/"):
            dest = dest[2:]
        self.dest = os.path.normpath(os.path.join(os.path.abspath(home), dest))
        self._single = len(manifest.entries) == 1 and manifest.entries[0].path == ""
        # What is at the destination may be the user's own link to a bigger disk: follow it, once.
        self._root = self.dest if self._single else os.path.realpath(self.dest)
        self._manifest = manifest
        self._entries = {entry.path: entry for entry in manifest.entries}
        name = hashlib.sha256(os.fsencode(self.dest)).hexdigest()[:24]
        self._memory_path = os.path.join(memory_folder, name + ".json")
        self.lock_path = os.path.join(memory_folder, name + ".lock")
        self._remembered: Seen = {}
        self._unfinished: list[str] = []
        self._needed: dict[str, Entry] = {}
        self._written: Seen = {}
        self._real_folders: set[str] = set()
        self._bytes = 0
        self.removed = 0

    def compare(self) -> list[int]:
        """Indices of the files whose content is not here yet."""
        memory = files.read_object(self._memory_path)
        if isinstance(memory.get("entries"), dict):
            self._remembered = memory["entries"]
        if isinstance(memory.get("unfinished"), list):
            self._unfinished = [str(path) for path in memory["unfinished"]]
        need = []
        for index, entry in enumerate(self._manifest.entries):
            if entry.kind == "f" and not self._is_here(entry):
                need.append(index)
                self._needed[entry.path] = entry
        return need

    def _full(self, path: str) -> str:
        return self._root + "/" + path if path else self._root

    def _is_here(self, entry: Entry) -> bool:
        try:
            found = os.lstat(self._full(entry.path))
        except OSError:
            return False
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return False
        # A file system may keep times less exactly than the source does: then what we saw after writing counts.
        known = self._remembered.get(entry.path)
        return found.st_mtime_ns == entry.mtime_ns or (
            known is not None and known == ["f", entry.size, found.st_mtime_ns, entry.mtime_ns]
        )

    def prepare(self) -> None:
        """Remove what an earlier sync wrote and the source no longer has, then make folders and links.

        Raises:
            TreeError: Something of the user's is in the way.
        """
        for path in self._unfinished:
            files.remove(self._temporary(path))
        self._make_root()
        if self._manifest.delete:
            self._remove_absent()
        # Remembered before anything is written: a sync that is cut off can be tidied up by the next one.
        # Harmless if untrue, because only what still looks as remembered is ever removed.
        intended = {entry.path: _intended(entry) for entry in self._manifest.entries}
        self._remember({**self._remembered, **intended}, sorted(self._needed))
        folders = sorted((entry for entry in self._entries.values() if entry.kind == "d"), key=lambda one: one.path)
        for entry in folders:
            self._make_folder(entry.path)
        for entry in self._entries.values():
            if entry.kind == "l":
                self._write_link(entry)

    def _make_root(self) -> None:
        folder = os.path.dirname(self._root) if self._single else self._root
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise TreeError("%s is a file, where a folder is needed" % (error.filename or folder)) from error
        if self._single and os.path.isdir(self._root) and not os.path.islink(self._root):
            raise TreeError("%s is a folder on the node, but a file in the source" % self._root)

    def _remove_absent(self) -> None:
        gone = [path for path, known in self._remembered.items() if self._is_outdated(path, known)]
        for path in sorted(gone, reverse=True):  # what is inside a folder comes before the folder
            full = self._full(path)
            if not self._inside(path):
                continue
            try:
                if self._remembered[path][0] == "d":
                    os.rmdir(full)
                elif self._looks_as_remembered(path):
                    os.unlink(full)
                else:
                    continue
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                if self._remembered[path][0] == "d":
                    continue  # holds outputs of jobs
                raise TreeError("cannot remove %s: %s" % (full, error.strerror)) from error
            else:
                self.removed += 1
            del self._remembered[path]

    def _is_outdated(self, path: str, known: list[Any]) -> bool:
        wanted = self._entries.get(path)
        return wanted is None or wanted.kind != known[0]

    def _inside(self, path: str) -> bool:
        """Whether all folders above a path are real folders, not links to somewhere else."""
        parent = os.path.dirname(path)
        while parent:
            if os.path.islink(self._full(parent)):
                return False
            parent = os.path.dirname(parent)
        return True

    def _looks_as_remembered(self, path: str) -> bool:
        kind, what, mtime_ns, source_mtime_ns = self._remembered[path]
        found = os.lstat(self._full(path))
        if kind == "l":
            return stat.S_ISLNK(found.st_mode) and os.readlink(self._full(path)) == what
        same_time = found.st_mtime_ns in (mtime_ns, source_mtime_ns)
        return stat.S_ISREG(found.st_mode) and found.st_size == what and same_time

    def _make_folder(self, path: str) -> None:
        """Make a folder and those above it, each a real one."""
        if path in self._real_folders or not path:
            return
        self._make_folder(os.path.dirname(path))
        full = self._full(path)
        try:
            os.mkdir(full)
        except FileExistsError:
            if os.path.islink(full) or not os.path.isdir(full):
                what = "a link" if os.path.islink(full) else "a file"
                raise TreeError("%s is %s on the node, but a folder in the source" % (full, what)) from None
        except PermissionError:
            _open_up(os.path.dirname(full))
            os.mkdir(full)
        self._real_folders.add(path)

    def _write_link(self, entry: Entry) -> None:
        full = self._full(entry.path)
        assert entry.target is not None
        try:
            if os.readlink(full) == entry.target:
                return
        except OSError:
            pass
        self._make_folder(os.path.dirname(entry.path))
        temporary = self._temporary(entry.path)
        files.remove(temporary)
        os.symlink(entry.target, temporary)
        self._put_in_place(temporary, entry)
        self._written[entry.path] = _intended(entry)

    def _temporary(self, path: str) -> str:
        folder, _, name = self._full(path).rpartition("/")
        digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return "%s/%s%s" % (folder, _TEMPORARY, digest) if name else self._root + _TEMPORARY + digest

    def _put_in_place(self, temporary: str, entry: Entry) -> None:
        full = self._full(entry.path)
        try:
            os.replace(temporary, full)
        except IsADirectoryError:
            files.remove(temporary)
            kind = "a link" if entry.kind == "l" else "a file"
            raise TreeError("%s is a folder on the node, but %s in the source" % (full, kind)) from None

    def write(self, name: str, size: int, body: BinaryIO | Any | None) -> None:
        """Write one needed file from the stream.

        Raises:
            TreeError: It was not asked for, or is in the way of something.
        """
        entry = self._needed.get("" if self._single else name)
        if entry is None or body is None:
            raise TreeError("the tar stream holds %r, which was not asked for" % name)
        self._make_folder(os.path.dirname(entry.path))
        temporary = self._temporary(entry.path)
        try:
            self._copy(body, temporary, entry)
            self._put_in_place(temporary, entry)
        except OSError:
            files.remove(temporary)
            raise
        found = os.lstat(self._full(entry.path))
        self._written[entry.path] = ["f", size, found.st_mtime_ns, entry.mtime_ns if size == entry.size else None]
        self._bytes += size
        del self._needed[entry.path]

    def _copy(self, body: Any, temporary: str, entry: Entry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(temporary, flags, 0o600)
        except PermissionError:
            _open_up(os.path.dirname(temporary))
            files.remove(temporary)
            fd = os.open(temporary, flags, 0o600)
        try:
            while True:
                data = body.read(_COPY_BYTES)
                if not data:
                    break
                files.write_all(fd, data)
            os.fchmod(fd, stat.S_IMODE(entry.mode))
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def finish(self) -> dict[str, Any]:
        """Set the modes, remember what was done, and say it."""
        missing = sorted(self._needed)
        memory: Seen = dict(self._remembered)
        for entry in self._manifest.entries:
            if entry.path not in self._needed:
                memory[entry.path] = self._written.get(entry.path) or self._as_found(entry)
        # Innermost first: a folder may be closed to its owner.
        for entry in sorted(self._entries.values(), key=lambda one: one.path, reverse=True):
            if entry.kind != "l" and entry.path not in self._needed and entry.path not in self._written:
                self._set_mode(entry)
        self._remember(memory, [])
        return {"written": len(self._written), "removed": self.removed, "bytes": self._bytes, "missing": missing}

    def _as_found(self, entry: Entry) -> list[Any]:
        return self._remembered.get(entry.path) or _intended(entry)

    def _set_mode(self, entry: Entry) -> None:
        full = self._full(entry.path)
        wanted = stat.S_IMODE(entry.mode)
        if stat.S_IMODE(os.lstat(full).st_mode) != wanted:
            os.chmod(full, wanted)

    def _remember(self, entries: Seen, unfinished: list[str]) -> None:
        files.write_json(self._memory_path, {"dest": self.dest, "entries": entries, "unfinished": unfinished})


def _intended(entry: Entry) -> list[Any]:
    if entry.kind == "d":
        return ["d", 0, 0, 0]
    if entry.kind == "l":
        return ["l", entry.target, 0, 0]
    return ["f", entry.size, entry.mtime_ns, entry.mtime_ns]


def _open_up(folder: str) -> None:
    """Let the owner write into a folder that an earlier sync closed; its mode is set again at the end."""
    os.chmod(folder, stat.S_IMODE(os.lstat(folder).st_mode) | stat.S_IRWXU)
