"""The entry point `styx`. Top-level help and version are answered before anything else is imported."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from styx_cli import __version__

if TYPE_CHECKING:
    from styx_cli.app import App


def main() -> NoReturn:
    """Run the command line of this process."""
    gc.set_threshold(200_000)  # imports make many objects and no garbage: a tenth of a command went into looking for it
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], app: App | None = None) -> int:
    """Run one command line; returns its exit code and never raises."""
    given = list(arguments)
    text = None if "_STYX_COMPLETE" in os.environ else quick_answer(given)
    if text is not None:
        return _tell(text)

    from styx_cli.app import App
    from styx_cli.wall import guarded

    app = app or App()
    app.json_errors = _asks_json(given)
    return guarded(app, lambda: _dispatch(given, app))


def quick_answer(arguments: list[str]) -> str | None:
    """What `styx --version` and `styx --help` print; None for everything else."""
    if arguments in (["--version"], ["-v"]):
        return f"styx {__version__}\n"
    if arguments in (["--help"], ["-h"]):
        from styx_cli.toplevel import help_text

        return help_text()
    return None


def _tell(text: str) -> int:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        from styx_cli.wall import BROKEN_PIPE_EXIT, abandon_stdout

        abandon_stdout()
        return BROKEN_PIPE_EXIT
    return 0


def _dispatch(arguments: list[str], app: App) -> int:
    if not arguments and "_STYX_COMPLETE" not in os.environ:
        from styx_cli.toplevel import help_text

        app.note(help_text())
        return 2

    import typer

    from styx_cli.group import make_group

    group = make_group()
    if "_STYX_COMPLETE" in os.environ:
        group.main(args=arguments, prog_name="styx", standalone_mode=False, obj=app)
        return 0
    # Not `group.main`: it turns Ctrl-C and a closed pipe into exit codes of its own.
    try:
        with group.make_context("styx", arguments, obj=app) as context:
            result = group.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return result if isinstance(result, int) else 0


def _asks_json(arguments: Sequence[str]) -> bool:
    """Whether JSON was asked for, as far as can be told before the line is parsed."""
    flags = list(arguments)
    if "--" in flags:
        flags = flags[: flags.index("--")]
    spelled = any(flag in ("-o", "--output") and after == "json" for flag, after in pairwise(flags))
    return spelled or any(flag in ("--json", "--output=json", "-ojson") for flag in flags)


if __name__ == "__main__":
    main()
