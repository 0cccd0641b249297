"""Runs a script as `python -I -S` would, and measures the agent's lines: coverage without site-packages.

The agent is tested as it runs on nodes: one zipapp, started by a bare interpreter, in processes that start each other.
`write_interpreter` makes a command that stands in for that interpreter; `sys.executable` names it, so that children of
the agent are measured as well. The agent's tests use it when `STYX_TEST_AGENT_PYTHON` names it.
"""

from __future__ import annotations

import os
import runpy
import shlex
import sys
from pathlib import Path

SETTINGS = """\
[run]
data_file = {data}
parallel = true
include = */styx_agent/*
patch =
    _exit
    fork
sigterm = true
disable_warnings = no-data-collected, module-not-measured, already-imported
"""


def write_interpreter(folder: Path, data: Path, python: Path) -> Path:
    """Make the command in `folder`; it runs `python`, and its figures go to files beginning with `data`."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "measured.cfg"
    settings.write_text(SETTINGS.format(data=data))
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    command = folder / "measured-python"
    fixed = [str(python), "-I", "-S", __file__, str(command), str(settings), str(site)]
    command.write_text(f'#!/bin/sh\nexec {shlex.join(fixed)} "$@"\n')
    command.chmod(0o755)
    return command


def main() -> None:
    """`--write FOLDER DATA`, or what the written command runs: `COMMAND SETTINGS SITE [-I] [-S] SCRIPT ARGUMENT...`."""
    command, *rest = sys.argv[1:]
    if command == "--write":
        print(write_interpreter(Path(rest[0]), Path(rest[1]), Path(sys.executable)))
        return
    settings, site, *rest = rest
    while rest[0] in ("-I", "-S", "-s", "-u"):
        del rest[0]
    if rest[0] == "-c":
        raise SystemExit("measured-python runs scripts only")
    sys.path.append(site)
    import coverage

    os.environ["COVERAGE_PROCESS_START"] = settings
    coverage.process_startup()
    del os.environ["COVERAGE_PROCESS_START"]
    sys.path.remove(site)
    sys.executable, sys.argv = command, rest
    runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    main()
