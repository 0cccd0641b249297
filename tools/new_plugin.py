"""Make a plugin for a new cloud from `plugins/_template`: `python -m tools.new_plugin NAME [--into FOLDER]`.

Prints the new folder on stdout, and nothing else there; what is wrong with the name goes to stderr, with exit code 2.
No other file changes: the workspace, nox and Styx find a package by its folder and its entry point.
"""

from __future__ import annotations

import argparse
import builtins
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "plugins" / "_template"
PLUGINS = ROOT / "plugins"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST = 32
TAKEN = frozenset({"agent", "cli", "core", "fake", "jobs", "serve", "server", "tui"})
"""Names that would clash with packages of Styx itself, or with its test kit."""
IMPORTED = re.compile(r"^from [\w.]+ import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)
LITTER = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")


class BadName(Exception):
    """The name can't be used; the message says why, and what could be."""


def check(name: str, plugins: Path) -> None:
    """Refuse a name that can't be a cloud's.

    Raises:
        BadName: It is malformed, too long, or taken.
    """
    if not NAME.fullmatch(name):
        suggestion = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        hint = f"; try {suggestion!r}" if NAME.fullmatch(suggestion) else ""
        raise BadName(
            f"{name!r} can't be a cloud's name: use lower-case letters and digits, in words joined by single hyphens, "
            f"beginning with a letter{hint}"
        )
    if len(name) > LONGEST:
        raise BadName(f"{name!r} is too long for a cloud's name: {len(name)} characters, at most {LONGEST}")
    if name in TAKEN:
        raise BadName(f"{name!r} is taken: Styx itself uses that name; choose another")
    folder = plugins / f"styx-{name}"
    if folder.exists():
        raise BadName(f"{name!r} is taken: {folder} exists; choose another name, or remove that folder")


def words(name: str, template: Path) -> dict[str, str]:
    """Every placeholder of the template, and what stands for it."""
    capitalised = "".join(part.capitalize() for part in name.split("-"))
    source = (template / "src" / "styx___MODULE__" / "__init__.py").read_text()
    imported = {one.strip() for match in IMPORTED.findall(source) for one in "".join(match).split(",")}
    clashes = capitalised in imported | {"Config", *dir(builtins)}
    return {
        "__NAME__": name,
        "__MODULE__": name.replace("-", "_"),
        "__CLASS__": f"{capitalised}Cloud" if clashes else capitalised,
        "__ENV__": name.replace("-", "_").upper(),
    }


def make(name: str, *, template: Path = TEMPLATE, plugins: Path = PLUGINS) -> Path:
    """Copy the template for a cloud and return the new folder; nothing appears there unless all of it can.

    Raises:
        BadName: The name can't be used.
        OSError: The folder can't be written.
    """
    check(name, plugins)
    fill = words(name, template)

    def filled(text: str) -> str:
        for placeholder, word in fill.items():
            text = text.replace(placeholder, word)
        return text

    with tempfile.TemporaryDirectory(dir=plugins, prefix=".new-") as scratch:
        draft = Path(scratch) / "plugin"
        shutil.copytree(template, draft, ignore=LITTER)
        for path in sorted(draft.rglob("*"), reverse=True):  # children before the folders they are in
            if path.is_file():
                path.write_text(filled(path.read_text()))
            path.rename(path.with_name(filled(path.name)))
        target = plugins / f"styx-{name}"
        os.rename(draft, target)
    return target


def main(argv: list[str] | None = None) -> int:
    """Make the plugin that the command line names."""
    parser = argparse.ArgumentParser(prog="nox -s new_plugin --", description="Make a plugin for a new cloud.")
    parser.add_argument("name", metavar="NAME", help="the cloud's name, such as `acme` or `acme-gpu`")
    parser.add_argument("--into", type=Path, default=PLUGINS, help="folder of the plugins (default: this workspace's)")
    arguments = parser.parse_args(argv)
    try:
        folder = make(arguments.name, plugins=arguments.into)
    except BadName as error:
        sys.stderr.write(f"new_plugin: {error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"new_plugin: can't write the plugin: {error}\n")
        return 74
    sys.stdout.write(f"{os.path.relpath(folder, ROOT) if folder.is_relative_to(ROOT) else folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
