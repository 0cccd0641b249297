"""The agent as one file: the zipapp that every node gets, built from the installed `styx_agent` package."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import os
import sys
from dataclasses import dataclass
from importlib.util import MAGIC_NUMBER, source_hash
from pathlib import Path

from styx.atomic import write_atomically
from styx.errors import LocalIOError, PluginError

_MAIN = "from styx_agent.main import main\n\nraise SystemExit(main())\n"
_COMPILED = f".{sys.implementation.cache_tag}"
_UNCHECKED_HASH = 1
"""PEP 552: the compiled code is believed without a look at the source beside it."""
_NO_DOCSTRINGS = 2
_FIRST, _BUNDLE, _MODULES = "styx_agent/__init__.py", "styx_agent/bundle.py", "styx_agent/modules"
_INSTALL = b"\nfrom styx_agent.bundle import install\n\ninstall(__loader__)\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class AgentFile:
    """The built zipapp.

    Attributes:
        name: `agent-<12 hex>.pyz`, named after the sources within: equal names mean equal programs.
        path: Where it lies on this machine.
    """

    name: str
    path: Path

    def read(self) -> bytes:
        """Its bytes."""
        return self._read(self.path)

    def read_for(self, magic: str) -> bytes:
        """Its bytes for an interpreter with that magic number of compiled code (hexadecimal).

        A node whose Python is this client's gets compiled modules beside the sources, which halves the agent's start.
        """
        compiled = self.path.with_suffix(_COMPILED)
        return self._read(compiled if magic == MAGIC_NUMBER.hex() and compiled.is_file() else self.path)

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise LocalIOError(f"cannot read the agent file {path}: {error.strerror}") from error


def agent_file(cache: Path) -> AgentFile:
    """The agent for nodes, built once and kept in `cache` (`store.folders.cache_dir("agent")`).

    When nothing changed since the last call this costs one `stat` for each source file.
    """
    sources = _sources()
    pointer = cache / f"built-{_stamp(sources)}"
    try:
        found = AgentFile(name := pointer.read_text(encoding="ascii"), cache / name)
        if found.path.is_file():
            return found
    except (OSError, ValueError):
        pass  # never built, or the cache was damaged: build it
    contents = [(name, path.read_bytes()) for name, path in sources]
    contents.append(("__main__.py", _MAIN.encode("ascii")))
    built = f"agent-{_digest(contents)}.pyz"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        write_atomically((cache / built).with_suffix(_COMPILED), zip_sources([*contents, *_compiled(contents[:-1])]))
        write_atomically(cache / built, zip_sources(contents))
        write_atomically(pointer, built.encode("ascii"))
    except OSError as error:
        raise LocalIOError(f"cannot keep the agent file in {cache}: {error.strerror}") from error
    return AgentFile(built, cache / built)


def zip_sources(contents: list[tuple[str, bytes]]) -> bytes:
    """A zipapp whose bytes depend on names and contents only."""
    import zipfile  # here: a warm start builds nothing

    buffer = io.BytesIO(b"#!/usr/bin/env python3\n")
    buffer.seek(0, os.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(contents):
            entry = zipfile.ZipInfo(name, _EPOCH)
            # Compiled code goes only where bytes are cheap; unpacking it would be time of a node's start.
            entry.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".py") else zipfile.ZIP_STORED
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _sources() -> list[tuple[str, Path]]:
    """Every module of the agent with its name inside the zipapp, sorted. Does not import the agent."""
    spec = importlib.util.find_spec("styx_agent")
    if spec is None or not spec.submodule_search_locations:
        raise PluginError("the package styx-agent is not installed", hint="install it beside styx-core")
    root = Path(next(iter(spec.submodule_search_locations)))
    return [(f"styx_agent/{path.relative_to(root).as_posix()}", path) for path in sorted(root.rglob("*.py"))]


def _compiled(contents: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The modules as this interpreter compiles them, most in one piece: see `styx_agent.bundle`.

    One of another version passes over the compiled `__init__`, and so takes the sources.
    """
    head = MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    found = []
    modules = {}
    for name, data in contents:
        source = data + _INSTALL if name == _FIRST else data
        code = marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=_NO_DOCSTRINGS))
        if name in (_FIRST, _BUNDLE):
            found.append((f"{name}c", head + source_hash(data) + code))
        else:
            modules[name.removesuffix(".py").replace("/", ".")] = code
    return [*found, (_MODULES, marshal.dumps(modules))]


def _stamp(sources: list[tuple[str, Path]]) -> str:
    """Changes whenever a source file may have: installers keep modification times, hence inode and change time."""
    digest = hashlib.sha256()
    for name, path in sources:
        stat = path.stat()
        digest.update(f"{name} {path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}\n".encode())
    return digest.hexdigest()[:16]


def _digest(contents: list[tuple[str, bytes]]) -> str:
    """Of the sources, not of the zip: compression libraries differ between machines."""
    digest = hashlib.sha256()
    for name, data in sorted(contents):
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()[:12]
