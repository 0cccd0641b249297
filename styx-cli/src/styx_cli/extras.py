"""Commands of other packages: entry-point group `styx.commands`, name = verb, value = a Typer app or a command.

Listing reads package metadata only. A package is imported when its verb is called, never before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from styx_cli.verbs import VERBS

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from typer.core import TyperCommand, TyperGroup

    from styx.errors import PluginError

GROUP: Final = "styx.commands"
"""Entry-point group of extra commands."""


class Extra(NamedTuple):
    """One extra verb, as package metadata declares it."""

    name: str
    package: str
    """Name and version of the distribution."""
    entry: EntryPoint


class Extras(NamedTuple):
    """What the installed packages declare."""

    usable: dict[str, Extra]
    """One package per verb."""
    contested: dict[str, tuple[Extra, ...]]
    """Verbs that several packages declare: refused when called."""
    shadowing: tuple[Extra, ...]
    """Verbs that Styx has itself: never used."""


def find_extras(points: Sequence[EntryPoint] | None = None) -> Extras:
    """Read the metadata of installed packages; imports none of them."""
    by_name: dict[str, list[Extra]] = {}
    for point in _declared() if points is None else points:
        extra = Extra(point.name, _package(point), point)
        if all(extra.entry.value != other.entry.value for other in by_name.get(point.name, ())):
            by_name.setdefault(point.name, []).append(extra)
    names = sorted(by_name)
    return Extras(
        usable={name: by_name[name][0] for name in names if name not in VERBS and len(by_name[name]) == 1},
        contested={name: tuple(by_name[name]) for name in names if name not in VERBS and len(by_name[name]) > 1},
        shadowing=tuple(extra for name in names if name in VERBS for extra in by_name[name]),
    )


def load_extra(extra: Extra) -> TyperCommand | TyperGroup:
    """Import the package of an extra verb and make its command.

    Raises:
        PluginError: It fails to import, or is neither a Typer app nor a command.
    """
    from styx.errors import PluginError

    try:
        value = extra.entry.load()
    except Exception as error:
        raise PluginError(
            f'the command "{extra.name}" comes from the package {extra.package}, which fails to load: '
            f"{type(error).__name__}: {error}",
            hint=f"upgrade or remove {extra.package.split()[0]}; all other commands work without it",
        ) from error
    return as_command(value, extra.name, extra.package)


def as_command(value: Any, name: str, package: str) -> TyperCommand | TyperGroup:
    """The command behind a Typer app, a Typer command, or a plain click command.

    Raises:
        PluginError: It is none of these.
    """
    import typer
    from typer.core import TyperCommand, TyperGroup

    from styx.errors import PluginError

    if isinstance(value, typer.Typer):
        made: Any = typer.main.get_command(value)
        return made  # type: ignore[no-any-return]
    if isinstance(value, (TyperCommand, TyperGroup)):
        return value
    if callable(getattr(value, "main", None)) and callable(getattr(value, "make_context", None)):
        return _foreign_command(value, name)
    raise PluginError(
        f'the command "{name}" of the package {package} is a {type(value).__name__}, not a Typer app or a command',
        hint=f"upgrade or remove {package.split()[0]}; all other commands work without it",
    )


def _foreign_command(command: Any, name: str) -> TyperCommand:
    """A click command under Typer, which carries its own copy of click: hand it the rest of the line unread."""
    from typer.core import TyperCommand

    class Foreign(TyperCommand):
        """Runs a command of another framework."""

        def invoke(self, ctx: Any) -> Any:
            """Let it read its own arguments; it exits by itself."""
            return command.main(args=list(ctx.args), prog_name=f"styx {name}")

    return Foreign(
        name,
        help=getattr(command, "help", None) or "",
        add_help_option=False,
        rich_markup_mode=None,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


def contested_error(name: str, rivals: Sequence[Extra]) -> PluginError:
    """Two packages want one verb."""
    from styx.errors import PluginError

    packages = " and ".join(rival.package for rival in rivals)
    return PluginError(f'the command "{name}" is declared by {packages}', hint="remove one of these packages")


def _declared() -> Sequence[EntryPoint]:
    if not may_be_declared(sys.path):
        return ()
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUP))


def may_be_declared(folders: Sequence[str]) -> bool:
    """Whether some package in these folders may declare extra commands.

    A plain search of the metadata files: reading them properly costs as much as all the rest of `styx --help`, and most
    installations have none. Where packages are not plain folders the answer is yes, and they are read properly.
    """
    needle = GROUP.encode()
    for folder in folders:
        if os.path.isfile(folder):
            return True
        try:
            with os.scandir(folder or ".") as entries:
                names = [each.name for each in entries if each.name.endswith((".dist-info", ".egg-info", ".egg"))]
        except OSError:
            continue
        for name in names:
            if name.endswith(".egg"):
                return True
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), "rb") as file:
                    if needle in file.read():
                        return True
            except OSError:
                continue
    return False


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value.partition(":")[0]
