"""The one lazy group of `styx`: it lists every verb from a table and imports a verb's module when it is called.

`ctx` is annotated `Any` where Typer takes the base class of its context, which lives in a private module.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from styx.errors import UsageError
from styx_cli.app import app_of
from styx_cli.extras import Extras, as_command, contested_error, find_extras, load_extra
from styx_cli.toplevel import help_text
from styx_cli.verbs import VERBS


class LazyGroup(TyperGroup):
    """Built-in verbs first, then those of entry points, then those of the hook `styx_add_commands`.

    Nobody can replace a verb that comes before.
    """

    _listing = False
    _extras: Extras | None = None
    _asked_hooks = False

    @property
    def extras(self) -> Extras:
        """Verbs of other packages, read from their metadata once."""
        if self._extras is None:
            self._extras = find_extras()
        return self._extras

    def add_command(self, cmd: Any, name: str | None = None) -> None:
        """Add a command (Typer app, Typer command or click command); for the hook `styx_add_commands`.

        Raises:
            UsageError: The verb is taken.
        """
        verb = name or getattr(cmd, "name", None)
        if not verb:
            raise UsageError("a command added by a hook needs a name")
        if verb in VERBS or verb in self.extras.usable or verb in self.commands:
            raise UsageError(f'the command "{verb}" exists already')
        self.commands[verb] = as_command(cmd, verb, "a hook")

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        """Every verb that can be listed without importing anything."""
        return [*VERBS, *self.extras.usable, *self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; while completing a verb, only its name and summary."""
        if self._listing:
            summary = VERBS[cmd_name].summary if cmd_name in VERBS else ""
            return TyperCommand(cmd_name, help=summary, rich_markup_mode=None)
        if cmd_name in VERBS:
            module = importlib.import_module(VERBS[cmd_name].module)
            return typer.main.get_command(module.app)
        if cmd_name in self.extras.contested:
            raise contested_error(cmd_name, self.extras.contested[cmd_name])
        if cmd_name in self.extras.usable:
            return load_extra(self.extras.usable[cmd_name])
        if cmd_name not in self.commands and not ctx.resilient_parsing:
            self._ask_hooks(ctx)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the verb, or say which one was probably meant.

        Raises:
            UsageError: No such verb.
        """
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing:
            from styx.models.suggest import closest

            near = closest(name, self.list_commands(ctx))
            hint = f'did you mean "styx {near}"?' if near else "`styx --help` lists the commands"
            raise UsageError(f'there is no command "{name}"', hint=hint)
        return name if command else None, command, args[1:]

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete a verb from the table."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Typer's signature
        """Write the same text as the quick path of `styx --help`."""
        formatter.write(help_text(self.extras))

    def _ask_hooks(self, ctx: Any) -> None:
        if self._asked_hooks:
            return
        self._asked_hooks = True
        from styx_cli.hooks import ask_for_commands

        ask_for_commands(app_of(ctx), self)


def make_group() -> LazyGroup:
    """The command `styx`."""
    app = typer.Typer(
        cls=LazyGroup,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def styx(version: bool = typer.Option(False, "--version", "-v", help="Show the version.", is_eager=True)) -> None:
        if version:
            from styx_cli import __version__

            typer.echo(f"styx {__version__}")
            raise typer.Exit

    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    return group
