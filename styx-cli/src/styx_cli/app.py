"""One run of the command: where its output goes, and how it reaches Styx."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from styx.errors import InternalError

if TYPE_CHECKING:
    import typer

    from styx.api import Client


def _connect(config: Sequence[str], report: Callable[[str], None]) -> Client:
    from styx.api import connect

    return connect(config=config, report=report)


def _is_terminal(name: str) -> bool:
    stream = getattr(sys, name)
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False


@dataclass
class App:
    """Passed to every command as the context's object.

    stdout is for data only; `note` and `warn` write to stderr.
    """

    connect: Callable[[Sequence[str], Callable[[str], None]], Client] = _connect
    """Opens Styx with the values of `--config`, and somebody to tell of what goes on in spite of something."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    is_terminal: Callable[[str], bool] = _is_terminal
    """Whether `stdin`, `stdout` or `stderr` is a terminal."""
    json_errors: bool = False
    """Failures are told as one JSON object on stderr."""

    @property
    def home(self) -> Path:
        """`$STYX_HOME`, or `~/.styx`."""
        from styx.api.opening import home_of

        return home_of(self.environ)

    @contextmanager
    def client(self, config: Sequence[str] | None = None) -> Iterator[Client]:
        """A connection, given back at the end."""
        client = self.connect(tuple(config or ()), self.warn)
        try:
            yield client
        finally:
            client.close()

    def data(self, text: str) -> None:
        """Write to stdout: what the user asked for."""
        sys.stdout.write(text if text.endswith("\n") or not text else text + "\n")

    def note(self, text: str) -> None:
        """Write one message to stderr."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def warn(self, text: str) -> None:
        """Write one warning to stderr."""
        self.note(f"warning: {text}")


def app_of(ctx: typer.Context) -> App:
    """The run that a command belongs to."""
    found = ctx.find_object(App)
    if found is None:
        raise InternalError("a command was called outside `styx_cli.main.run`")
    return found
