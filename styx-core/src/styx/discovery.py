"""Find and load plugins: entry points through stevedore, and single files in `$STYX_HOME/drivers`.

Names are listed from installed metadata, without importing anything; loading imports exactly the one asked for.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pluggy

from styx import hookspecs
from styx.driver import Cloud
from styx.errors import PluginError
from styx.plugin import API_VERSION

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

DRIVERS: Final = "styx.drivers"
STORES: Final = "styx.stores"
HOOKS: Final = "styx"
COMMANDS: Final = "styx.commands"

_HOOKS_SPECIFIED_ELSEWHERE: Final = frozenset({"styx_add_commands"})  # by styx-cli, through `Hub.add_commands`

OnFailure = Callable[[str, BaseException], None]
"""Told what failed and how, for the log."""


@dataclass(frozen=True)
class Package:
    """The distribution that an entry point came with."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"package {self.name} {self.version}"


def entry_points(group: str) -> list[EntryPoint]:
    """The entry points of a group, from stevedore's cache of installed metadata."""
    from stevedore.extension import ExtensionManager

    manager: Any = ExtensionManager.make_test_instance([], namespace=group)
    found: list[EntryPoint] = manager.list_entry_points()
    return found


def names(group: str) -> list[str]:
    """The names in a group, sorted, each once."""
    return sorted({point.name for point in entry_points(group)})


def packages(group: str, name: str) -> list[Package]:
    """The distributions that bring this entry point. Reads all installed metadata: for messages and listings."""
    from importlib.metadata import entry_points as scan

    found = {Package(point.dist.name, point.dist.version) for point in scan(group=group, name=name) if point.dist}
    return sorted(found, key=str)


def load(group: str, name: str, failed: OnFailure) -> Any:
    """The object that the entry point names; None when no installed package has it.

    Raises:
        PluginError: Two packages claim the name, or the plugin can't be imported.
    """
    points = [point for point in entry_points(group) if point.name == name]
    if not points:
        return None
    if len(points) > 1:
        raise conflict(group, name, [str(package) for package in packages(group, name)])
    from stevedore.named import NamedExtensionManager

    errors: list[BaseException] = []
    try:
        manager: Any = NamedExtensionManager(
            group,
            names=[name],
            on_load_failure_callback=lambda _manager, _point, error: errors.append(error),
            on_missing_entrypoints_callback=None,
        )
    except (AssertionError, SystemExit) as error:  # the two that stevedore lets through
        errors.append(error)
    if errors:
        failed(f"loading {name} of {group}", errors[0])
        raise unloadable(group, name, errors[0])
    return manager.extensions[0].plugin


def load_file(path: Path, failed: OnFailure) -> type[Cloud]:
    """The driver in a single file: the one class whose `name` is the file's.

    Raises:
        PluginError: The file can't be imported, or defines no such class.
    """
    module_name = f"styx_private_drivers.{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"the driver file {path} can't be read as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # annotations are resolved through it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a user's file may fail in any way; it is told, never fatal
        del sys.modules[module_name]
        failed(f"loading {path}", error)
        raise PluginError(
            f"the driver file {path} can't be loaded: {_where(error, path)}{_words(error)}",
            hint="correct the file, or move it out of the folder",
        ) from None
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, Cloud)]
    own = [each for each in found if each.__module__ == module_name]
    for each in (*own, *found):  # one that is defined here comes before the one it extends
        if getattr(each, "name", None) == path.stem and not inspect.isabstract(each):
            return each
    if own and inspect.isabstract(own[-1]):
        lacks = f"its class {own[-1].__name__} lacks {', '.join(sorted(own[-1].__abstractmethods__))}"
    else:
        lacks = f'it defines no Driver with name = "{path.stem}"'
    raise PluginError(f"the driver file {path} can't be used: {lacks}", hint="see docs/how-to/write-a-plugin.md")


def driver_files(folder: Path) -> dict[str, Path]:
    """Private clouds by name; files that start with an underscore or a dot are left alone."""
    try:
        files = [entry for entry in os.scandir(folder) if entry.name.endswith(".py") and entry.name[0] not in "_."]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    return {Path(entry.name).stem: Path(entry.path) for entry in sorted(files, key=lambda entry: entry.name)}


def require_api(wanted: object, what: str, package: str | None) -> None:
    """Refuse a plugin that was written for another plugin API.

    Args:
        wanted: The version that the plugin declares.
        what: The plugin, for the message.
        package: Its distribution, for the command.

    Raises:
        PluginError: The hint is the exact command that helps.
    """
    if wanted == API_VERSION:
        return
    message = f"{what} was written for plugin API {wanted!r}, and this Styx speaks {API_VERSION}"
    if isinstance(wanted, int) and wanted > API_VERSION:
        raise PluginError(message, hint=f"upgrade Styx: {upgrade_command('styx-core')}")
    if package is None:
        raise PluginError(message, hint=f"correct it and set plugin_api = {API_VERSION}")
    raise PluginError(message, hint=f"upgrade it: {upgrade_command(package)}")


def upgrade_command(package: str) -> str:
    """What upgrades a package in this environment: environments made by uv have no pip."""
    installer = "pip" if importlib.util.find_spec("pip") else "uv pip"
    return f"{installer} install --upgrade {package}"


def register_hooks(manager: pluggy.PluginManager, name: str, failed: OnFailure) -> object:
    """Load one plugin of group `styx` and register it.

    Raises:
        PluginError: It can't be loaded, is for another API, or implements a hook that does not exist as it thinks.
    """
    plugin = load(HOOKS, name, failed)
    declared = _declared_api(plugin)
    if declared != API_VERSION:
        require_api(declared, *described(HOOKS, name))
    if isinstance(plugin, type):
        plugin = plugin()
    try:
        manager.register(plugin, name=name)
        _refuse_unknown_hooks(manager, plugin)
    except pluggy.PluginValidationError as error:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        what, package = described(HOOKS, name)
        words = " ".join(str(error).split())
        raise PluginError(f"{what} does not fit Styx's hooks: {words}", hint=upgrade_hint(package)) from None
    return plugin


def _refuse_unknown_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """What pluggy's `check_pending` does, but of one plugin, with a suggestion, and knowing of the CLI's hook."""
    from styx.models.suggest import did_you_mean

    for caller in manager.get_hookcallers(plugin) or ():
        optional = all(impl.optionalhook for impl in caller.get_hookimpls() if impl.plugin is plugin)
        if caller.has_spec() or optional or caller.name in _HOOKS_SPECIFIED_ELSEWHERE:
            continue
        known = [name for name in vars(hookspecs) if name.startswith("styx_")]
        near = did_you_mean(caller.name, known)
        raise pluggy.PluginValidationError(plugin, f"there is no hook {caller.name}" + (f": {near}" if near else ""))


def _declared_api(plugin: object) -> object:
    """`STYX_PLUGIN_API` of the plugin or of its module; plugins that declare none were written for the first API."""
    home = plugin if isinstance(plugin, type) else type(plugin)
    module = sys.modules.get(home.__module__)
    return getattr(plugin, "STYX_PLUGIN_API", getattr(module, "STYX_PLUGIN_API", 1))


def described(group: str, name: str) -> tuple[str, str | None]:
    """A plugin as messages name it, and its distribution. Reads all installed metadata."""
    owners = packages(group, name)
    return f"plugin {name!r}" + (f" ({owners[0]})" if owners else ""), owners[0].name if owners else None


def upgrade_hint(package: str | None) -> str | None:
    """What to do about a plugin that can't be used."""
    return f"upgrade or uninstall it: {upgrade_command(package)}" if package else None


def conflict(group: str, name: str, owners: list[str]) -> PluginError:
    """The error for a name with two owners."""
    return PluginError(
        f"several plugins are called {name!r} in group {group}: {' and '.join(owners)}",
        hint="uninstall all but one of them",
    )


def unloadable(group: str, name: str, error: BaseException) -> PluginError:
    """The error for a plugin whose import failed."""
    owners = packages(group, name)
    owner = f" ({owners[0]})" if owners else ""
    command = f"reinstall or upgrade it: {upgrade_command(owners[0].name)}" if owners else None
    return PluginError(f"plugin {name!r}{owner} can't be loaded: {_words(error)}", hint=command)


def _words(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _where(error: BaseException, path: Path) -> str:
    """`line 7: `, the last line of the file that was running."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}: " if line else ""
