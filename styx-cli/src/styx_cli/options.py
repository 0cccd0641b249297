"""The flags and arguments that commands share, with the names that users of this format know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from styx.errors import UsageError
from styx_cli.app import App


def command_app(function: Callable[..., Any], *, name: str | None = None, raw: bool = False) -> typer.Typer:
    """The Typer app of a verb that is one function; its docstring is the help.

    Args:
        function: What runs.
        name: The verb, when not the function's name.
        raw: Flags after the first argument belong to the argument, not to the verb.
    """
    app = new_app()
    settings = {"allow_interspersed_args": False} if raw else {}
    app.command(name, context_settings=settings)(function)
    return app


def new_app(help_text: str | None = None) -> typer.Typer:
    """A Typer app whose help needs no Rich."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def complete_clusters(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of live clusters that start with what was typed."""
    app = ctx.find_root().find_object(App) or App()
    try:
        with app.client() as client:
            return [name for name in client.names() if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - a key press in a shell must never print an error
        return []


ConfigFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="FILE|KEY=VALUE",
        help="Configuration for this call: a YAML file, or one value such as launch.retry_for=2h. Repeatable.",
    ),
]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AllFlag = Annotated[bool, typer.Option("--all", "-a", help="Every cluster.")]
WaitForFlag = Annotated[
    str,
    typer.Option(
        metavar="jobs_and_ssh|jobs|none", help="What keeps a cluster from being idle: jobs and SSH, jobs, or nothing."
    ),
]
ClusterArgument = Annotated[str, typer.Argument(metavar="CLUSTER", autocompletion=complete_clusters)]
ClustersArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="CLUSTERS", help="Names or globs such as 'dev-*'.", autocompletion=complete_clusters),
]

_FORMATS: Final = ("table", "json")
_ACTIVITIES: Final = ("jobs_and_ssh", "jobs", "none")


@dataclass(frozen=True)
class OutputFlags:
    """Flags of every verb that prints a listing."""

    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="table|json", help="The same, spelled as a format.")
    ] = None

    def wants_json(self, app: App) -> bool:
        """Whether to print JSON; failures are then told as JSON too.

        Raises:
            UsageError: The format is unknown.
        """
        if self.output not in (None, *_FORMATS):
            raise UsageError(f"--output must be table or json, not {self.output!r}")
        app.json_errors = self.as_json or self.output == "json"
        return app.json_errors


def activity(word: str) -> Any:
    """The value of `--wait-for`.

    Raises:
        UsageError: It is none of the three.
    """
    if word not in _ACTIVITIES:
        raise UsageError(f"--wait-for must be one of {', '.join(_ACTIVITIES)}, not {word!r}")
    return word
