"""The error wall: whatever a command raises becomes one message, one exit code, and never a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from styx.errors import InternalError, Interrupted, LocalIOError, PermissionRefused, StyxError, UsageError

if TYPE_CHECKING:
    from styx_cli.app import App

_RUN_COMMANDS: Final = frozenset({"launch", "exec"})
BROKEN_PIPE_EXIT: Final = 141
"""What a program ended by SIGPIPE exits with: the reader of stdout went away, which is not an error to talk about."""


def guarded(app: App, action: Callable[[], int]) -> int:
    """Run a command; returns the exit code, having told any failure on stderr."""
    try:
        code = action()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        abandon_stdout()
        return BROKEN_PIPE_EXIT
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the wall: told in words, logged, never shown raw
        failure = as_styx_error(app, error)
        try:
            report(app, failure)
        except BrokenPipeError:
            abandon_stdout()
        return failure.exit_code


def as_styx_error(app: App, error: BaseException) -> StyxError:
    """The error that the user is told about; an unexpected one leaves its traceback in a file."""
    if isinstance(error, StyxError):
        return error
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":  # Typer's own Ctrl-C
        return Interrupted("interrupted")
    if _is_usage(error):
        return _usage_error(error)
    if isinstance(error, PermissionError):
        return PermissionRefused(_os_message(error))
    if isinstance(error, OSError):
        return LocalIOError(_os_message(error))
    path = _write_crash(app, error)
    kept = f"the details are in {path}" if path else "its details could not be written to disk"
    return InternalError(f"a bug in Styx or in a plugin: {type(error).__name__}: {error}", hint=kept)


def report(app: App, error: StyxError) -> None:
    """Tell a failure on stderr: in words, or as one JSON object where JSON was asked for."""
    if app.json_errors:
        from styx_cli.jsonout import ErrorReport, error_info, to_json

        app.note(to_json(ErrorReport(error=error_info(error)), indent=None))
        return
    lines = [f"error: {line}" if index == 0 else line for index, line in enumerate(error.message.splitlines())]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    app.note("\n".join(lines or ["error"]))


def _is_usage(error: BaseException) -> bool:
    """Typer's own errors; told by shape, because Typer keeps the classes in a private module."""
    return callable(getattr(error, "format_message", None)) and hasattr(error, "exit_code")


def _usage_error(error: BaseException) -> UsageError:
    message = str(error.format_message()).strip()  # type: ignore[attr-defined]
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` shows how it is called" if context is not None else None
    possible = getattr(error, "possibilities", None)
    if possible:
        message = str(getattr(error, "message", message)).strip()
        hint = f"did you mean {' or '.join(sorted(possible))}?"
    if hasattr(error, "option_name") and getattr(context, "info_name", None) in _RUN_COMMANDS:
        hint = f"{hint}; flags of the command to run go in quotes with it, or after --"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=hint)


def _os_message(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _write_crash(app: App, error: BaseException) -> Path | None:
    """Keep a traceback; arguments stay out of it, as they may hold secrets."""
    text = f"styx on Python {sys.version}\n\n{''.join(traceback.format_exception(error))}"
    try:
        folder = app.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.log"
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except (OSError, StyxError):
        return None
    return path


def abandon_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush has nobody to complain to."""
    try:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)
    except (OSError, ValueError):  # stdout is not a file
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - lives until the process ends
