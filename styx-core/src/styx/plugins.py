"""The Hub: the one typed door to all plugins. Nobody else touches pluggy's `hook`.

Drivers are found by name and imported one at a time; hook plugins (entry-point group `styx`) are loaded when the first
hook is asked. Constructing a Hub imports no plugin. Hubs are safe to use from several threads.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import pluggy
from pydantic import ValidationError

from styx import discovery, hookspecs
from styx.classhooks import DriverHooks, StoreHooks
from styx.driver import (
    CatalogRow,
    CatalogSource,
    Cloud,
    Context,
    DriverConfig,
    OfferQuery,
    PluginReach,
    Provisioner,
    Reach,
    Value,
    capabilities,
)
from styx.errors import Fault, InvalidInput, NotExecutable, PluginError, StyxError
from styx.plugin import API_VERSION
from styx.state.folders import HomeFolders
from styx.transport.ssh.door import Door

if TYPE_CHECKING:
    from styx.backends.base import Backend
    from styx.models import Task
    from styx.objectstore import ObjectStore
    from styx.optimizer.graph import GraphProblem
    from styx.optimizer.plan import GraphPlan
    from styx.optimizer.problem import Plan, Problem
    from styx.state.rows import Event
    from styx.transport.base import Transport
    from styx.transport.ssh.logins import Logins

_LOG_LIMIT_BYTES: Final = 1 << 20
_Kind = Literal["driver", "hook", "command", "store", "file"]
_Answer = TypeVar("_Answer")


class PluginInfo(Value):
    """One line of `styx plugins list`."""

    name: str
    """The entry point's, or the file's."""
    kind: _Kind
    """What it adds."""
    package: str | None = None
    """The distribution; None for a file."""
    version: str | None = None
    """The distribution's version."""
    capabilities: tuple[str, ...] = ()
    """Of a driver."""
    hooks: tuple[str, ...] = ()
    """That a hook plugin answers."""
    error: str | None = None
    """Why it can't be used."""


class Hub:
    """All plugins of one home, for one user.

    Args:
        home: `$STYX_HOME`.
        environ: Where secrets are looked up; nothing is read from the process environment.
        store_id: This installation's id, which machines carry.
        user: Who acts.
        clouds: Settings by cloud, as the config file has them under `clouds`; validated by the drivers.
        workspace: The default workspace.
        user_home: The user's home folder, for the vendors' credential files; `HOME` of `environ` when left out.
        clock: Unix seconds.
        remote: On a node or server: secrets are not looked up in `environ`.
        http: Makes HTTP clients for REST drivers.
        report: Told once of each plugin that misbehaves; nothing else is printed.
        listener_deadline_s: How long one event listener may take before it is dropped.
        ssh: Logins to share with another Hub of the same user.
    """

    def __init__(
        self,
        home: Path,
        *,
        environ: Mapping[str, str],
        store_id: str,
        user: str,
        clouds: Mapping[str, Mapping[str, Any]] | None = None,
        workspace: str = "default",
        user_home: Path | None = None,
        clock: Callable[[], float] = time.time,
        remote: bool = False,
        http: Callable[[], Any] | None = None,
        report: Callable[[str], None] | None = None,
        listener_deadline_s: float = 5.0,
        ssh: Door | None = None,
    ) -> None:
        self.home = home
        self.folders = HomeFolders(home)
        self._environ = dict(environ)
        self._store_id = store_id
        self._user = user
        self._tables = dict(clouds or {})
        self._workspace = workspace
        self.user_home = user_home or Path(os.path.expanduser(self._environ.get("HOME", "~")))
        self._clock = clock
        self._remote = remote
        self._http = http or _http_client
        self._report = report
        self._listener_deadline_s = listener_deadline_s
        self.ssh = ssh or Door(self.folders, self._new_logins)
        self._lock = threading.RLock()
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._hook_plugins_loaded = False
        self._classes: dict[str, type[Cloud] | None] = {}
        self._schemes: set[str] = set()
        self._contexts: dict[tuple[str | None, str], Context] = {}
        self._instances: dict[tuple[str, int], tuple[Context, Any]] = {}
        self._dropped: set[str] = set()
        self._reported: set[str] = set()
        _keep_tracebacks(self._log)

    def with_clouds(self, clouds: Mapping[str, Mapping[str, Any]]) -> Hub:
        """The same plugins with other settings by cloud: one task's `config` may change them."""
        return Hub(
            self.home,
            environ=self._environ,
            store_id=self._store_id,
            user=self._user,
            clouds=clouds,
            workspace=self._workspace,
            user_home=self.user_home,
            clock=self._clock,
            remote=self._remote,
            http=self._http,
            report=self._report,
            listener_deadline_s=self._listener_deadline_s,
            ssh=self.ssh,
        )

    # what is there -------------------------------------------------------------------------------------------
    def installed_clouds(self) -> list[str]:
        """Names of all clouds that have a driver, from metadata and file names; imports none of them."""
        return sorted({*discovery.names(discovery.DRIVERS), *discovery.driver_files(self.folders.driver_dir())})

    def driver_class(self, name: str) -> type[Cloud] | None:
        """The class of an installed driver, imported now if it wasn't; None when there is none.

        Raises:
            PluginError: It can't be used; the message says why.
        """
        with self._lock:
            if name not in self._classes:
                cls = self._find_driver(name)
                if cls is not None:
                    self._manager.register(DriverHooks(name, cls, self._instance), name=f"driver:{name}")
                self._classes[name] = cls
            return self._classes[name]

    def _find_driver(self, name: str) -> type[Cloud] | None:
        file = discovery.driver_files(self.folders.driver_dir()).get(name)
        if file is not None:
            if name in discovery.names(discovery.DRIVERS):
                owners = [str(package) for package in discovery.packages(discovery.DRIVERS, name)]
                raise discovery.conflict(discovery.DRIVERS, name, [f"file {file}", *owners])
            cls = discovery.load_file(file, self._log)
            discovery.require_api(cls.plugin_api, f"driver file {file}", None)
            return cls
        loaded = discovery.load(discovery.DRIVERS, name, self._log)
        if loaded is None:
            return None
        theirs = getattr(loaded, "name", None)
        if not (isinstance(loaded, type) and issubclass(loaded, Cloud)):
            what, package = discovery.described(discovery.DRIVERS, name)
            raise PluginError(f"{what} is not a Cloud class but {loaded!r}", hint=discovery.upgrade_hint(package))
        if loaded.plugin_api != API_VERSION:
            discovery.require_api(loaded.plugin_api, *discovery.described(discovery.DRIVERS, name))
        if theirs != name:
            what, package = discovery.described(discovery.DRIVERS, name)
            message = f"{what} calls itself {theirs!r}: both must be equal"
            raise PluginError(message, hint=discovery.upgrade_hint(package))
        return loaded

    def plugins(self) -> list[PluginInfo]:
        """Every plugin, with what is wrong with it. Imports them all."""
        files = discovery.driver_files(self.folders.driver_dir())
        infos = [self._info("file", None, name, self._driver_facts) for name in files]
        groups: tuple[tuple[_Kind, str, Callable[[str], dict[str, Any]]], ...] = (
            ("driver", discovery.DRIVERS, self._driver_facts),
            ("store", discovery.STORES, lambda name: self._bare_facts(discovery.STORES, name)),
            ("hook", discovery.HOOKS, self._hook_facts),
            ("command", discovery.COMMANDS, lambda name: self._bare_facts(discovery.COMMANDS, name)),
        )
        for kind, group, facts in groups:
            infos += [self._info(kind, group, name, facts) for name in discovery.names(group)]
        return infos

    def _info(self, kind: _Kind, group: str | None, name: str, facts: Callable[[str], dict[str, Any]]) -> PluginInfo:
        owners = discovery.packages(group, name) if group else []
        package = " and ".join(owner.name for owner in owners) or None
        known = {"name": name, "kind": kind, "package": package, "version": owners[0].version if owners else None}
        try:
            return PluginInfo(**known, **facts(name))
        except StyxError as error:
            return PluginInfo(**known, error=error.message + (f" ({error.hint})" if error.hint else ""))
        except Exception as error:  # noqa: BLE001 - the error wall around plugins: a broken one is a line of the listing
            self._log(f"listing {name}", error)
            return PluginInfo(**known, error=f"{type(error).__name__}: {error}")

    def _driver_facts(self, name: str) -> dict[str, Any]:
        cls = self.driver_class(name)
        return {"capabilities": tuple(sorted(capabilities(cls)))} if cls else {}

    def _hook_facts(self, name: str) -> dict[str, Any]:
        scratch = pluggy.PluginManager(hookspecs.PROJECT)
        scratch.add_hookspecs(hookspecs)
        plugin = discovery.register_hooks(scratch, name, self._log)
        return {"hooks": tuple(sorted(caller.name for caller in scratch.get_hookcallers(plugin) or ()))}

    def _bare_facts(self, group: str, name: str) -> dict[str, Any]:
        discovery.load(group, name, self._log)
        return {}

    # contexts and instances ------------------------------------------------------------------------------------
    def context(self, cloud: str | None = None, workspace: str | None = None) -> Context:
        """What a driver, or (without `cloud`) a hook plugin, may know of the world. The same object each time.

        Raises:
            InvalidInput: The cloud's settings are wrong.
        """
        key = (cloud, workspace or self._workspace)
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._new_context(*key)
            return self._contexts[key]

    def _new_context(self, cloud: str | None, workspace: str) -> Context:
        table = self._tables.get(cloud, {}) if cloud else {}
        cls = self.driver_class(cloud) if cloud else None
        config = _configured(cls.config_type, cloud or "", table) if cls else DriverConfig()
        return Context(
            workspace=workspace,
            user=self._user,
            store=self._store_id,
            config=config,
            home=self.home,
            user_home=self.user_home,
            secrets=self._environment_secret,
            clock=self._clock,
            http=self._http,
            remote=self._remote,
            extra={} if cls else {"table": dict(table)},
            ssh=self.ssh,
        )

    def _new_logins(self) -> Logins:
        from styx.transport.ssh.logins import Logins
        from styx.transport.ssh.target import UserConfig

        config = UserConfig(self.user_home, self._environ, user=self._environ.get("LOGNAME") or self._user)
        return Logins(self.folders, config, self.report)

    def _environment_secret(self, name: str) -> str | None:
        return None if self._remote else self._environ.get(name)

    def _instance(self, name: str, cls: type[Any], context: Context) -> Any:
        """One instance for each (name, context); the context is kept, so that its identity is never re-used."""
        key = (name, id(context))
        with self._lock:
            if key not in self._instances:
                self._instances[key] = (context, cls(context))
            return self._instances[key][1]

    # drivers ---------------------------------------------------------------------------------------------------
    def cloud(self, name: str, context: Context | None = None) -> Cloud:
        """The identity of a cloud.

        Raises:
            PluginError: No plugin for it is installed, or it is broken.
        """
        self.driver_class(name)
        found: Cloud | None = self._ask("styx_cloud", name=name, context=context or self.context(name))
        if found is None:
            raise self._missing(name)
        return found

    def catalog_sources(self, cloud: str, context: Context | None = None) -> list[CatalogSource]:
        """All sources of rows for a cloud; rows of later ones override those of earlier ones."""
        self.driver_class(cloud)
        found: list[CatalogSource] = self._ask("styx_catalog", cloud=cloud, context=context or self.context(cloud))
        return found[::-1]  # pluggy asks the last registered first

    def provisioner(self, cloud: str, context: Context | None = None) -> Provisioner:
        """What makes and unmakes machines there.

        Raises:
            PluginError: No plugin for it is installed.
            NotExecutable: There is one, but it only knows what the cloud sells.
        """
        cls = self.driver_class(cloud)
        found: Provisioner | None = self._ask("styx_provisioner", cloud=cloud, context=context or self.context(cloud))
        if found is None and cls is not None:
            raise NotExecutable(
                f"the plugin for {cls.display_name} knows what it sells, but cannot make machines yet",
                hint=f"name another place, such as --infra local, or upgrade styx-{cloud}",
            )
        if found is None:
            raise self._missing(cloud)
        return found

    def backend(self, name: str, context: Context | None = None) -> Backend | None:
        """A plugin's backend of that name; None leaves it to the built-in ones."""
        found: Backend | None = self._ask("styx_backend", name=name, context=context or self.context())
        return found

    def object_store(self, scheme: str, context: Context | None = None) -> ObjectStore:
        """The store for URLs of `scheme`.

        Raises:
            PluginError: No plugin answers for it.
        """
        with self._lock:
            if scheme not in self._schemes:
                cls = discovery.load(discovery.STORES, scheme, self._log)
                if cls is not None:
                    self._manager.register(StoreHooks(scheme, cls, self._instance), name=f"store:{scheme}")
                self._schemes.add(scheme)
        found: ObjectStore | None = self._ask("styx_store", scheme=scheme, context=context or self.context())
        if found is None:
            known = discovery.names(discovery.STORES)
            has = f"installed: {', '.join(known)}" if known else "none is installed"
            raise PluginError(f"no plugin for {scheme}:// URLs is installed", hint=f"install one ({has})")
        return found

    # planning and policy -----------------------------------------------------------------------------------------
    def amends_offers(self) -> bool:
        """Whether any plugin wants to change offers; it must see all of them then."""
        return bool(self._implementations("styx_amend_offers"))

    def amend_offers(self, query: OfferQuery, offers: list[CatalogRow], context: Context | None = None) -> None:
        """Let plugins change `offers` in place."""
        self._ask("styx_amend_offers", query=query, offers=offers, context=context or self.context())

    def plan(self, problem: Problem, context: Context | None = None) -> Plan | None:
        """A plugin's plan; None leaves it to the built-in planner."""
        found = self._ask("styx_plan", problem=problem, context=context or self.context())
        if found is None:
            return None
        from styx.optimizer.problem import Plan

        return _a(Plan, found, "styx_plan")

    def plan_graph(self, problem: GraphProblem, context: Context | None = None) -> GraphPlan | None:
        """A plugin's placement of a task graph; None leaves it to the built-in planner."""
        found = self._ask("styx_plan_graph", problem=problem, context=context or self.context())
        if found is None:
            return None
        from styx.optimizer.plan import GraphPlan  # a graph is planned only where it is loaded already

        return _a(GraphPlan, found, "styx_plan_graph")

    def amend_task(self, task: Task, context: Context | None = None) -> Task:
        """The task as policies want it; each sees what the one registered before it returned."""
        context = context or self.context()
        for impl in self._implementations("styx_amend_task"):
            try:
                changed = _invoke(impl, {"task": task, "context": context})
            except StyxError:
                raise
            except Exception as error:  # the error wall around plugins
                raise self._failed(impl.plugin_name, "styx_amend_task", error) from error
            if changed is not None and not isinstance(changed, type(task)):
                raise PluginError(f"plugin {impl.plugin_name!r} returned {changed!r} from styx_amend_task, not a Task")
            task = task if changed is None else changed
        return task

    def review_task(self, action: str, task: Task | None, context: Context | None = None) -> list[str]:
        """Every policy's objection to the action; empty when there is none."""
        found: list[str] = self._ask("styx_review_task", action=action, task=task, context=context or self.context())
        return found[::-1]

    # execution ---------------------------------------------------------------------------------------------------
    def make_transport(self, reach: Reach, context: Context | None = None) -> Transport | None:
        """A plugin's transport; None leaves it to the built-in ones. A node's own cloud is asked in its own context."""
        cloud = reach.cloud if isinstance(reach, PluginReach) else None
        if cloud is not None:
            self.driver_class(cloud)  # its class answers the hook once it is loaded
        found: Transport | None = self._ask("styx_make_transport", reach=reach, context=context or self.context(cloud))
        return found

    def resolve_secret(self, ref: str, context: Context | None = None) -> str | None:
        """The secret called `ref`: a plugin's answer, else the environment's unless the context is remote."""
        context = context or self.context()
        found: str | None = self._ask("styx_resolve_secret", ref=ref, context=context)
        if found is None and not context.remote:
            return context.secrets(ref)
        return found

    # events --------------------------------------------------------------------------------------------------------
    def emit(self, event: Event, context: Context | None = None) -> None:
        """Tell every listener, one after the other. Never raises: a failing or hanging listener is logged and reported.

        A hanging one is dropped after its deadline, for as long as this Hub lives.
        """
        try:
            listeners = self._implementations("styx_event")
            arguments = {"event": event, "context": context or self.context()}
        except StyxError as error:
            self.report(f"events reach no listener: {error.message}")
            return
        for impl in listeners:
            if impl.plugin_name not in self._dropped:
                self._tell(impl, arguments)

    def _tell(self, impl: pluggy.HookImpl, arguments: Mapping[str, Any]) -> None:
        errors: list[BaseException] = []

        def body() -> None:
            try:
                _invoke(impl, arguments)
            except BaseException as error:  # noqa: BLE001 - observers are isolated: logged with traceback, reported once
                errors.append(error)

        thread = threading.Thread(target=body, name=f"styx listener {impl.plugin_name}", daemon=True)
        thread.start()
        thread.join(self._listener_deadline_s)
        if thread.is_alive():
            self._dropped.add(impl.plugin_name)
            self.report(
                f"plugin {impl.plugin_name!r} took over {self._listener_deadline_s:g} s for an event and hears no more"
            )
        elif errors:
            self._log(f"styx_event of plugin {impl.plugin_name!r}", errors[0])
            words = f"{type(errors[0]).__name__}: {errors[0]}"
            self.report(
                f"plugin {impl.plugin_name!r} failed in styx_event: {words} (see {self.folders.plugin_log()})",
                topic=f"event:{impl.plugin_name}",
            )

    def report(self, message: str, *, topic: str | None = None) -> None:
        """Tell the user of something that goes on in spite of it; each message (or topic) once in a Hub's life."""
        with self._lock:
            key = topic or message
            if key in self._reported:
                return
            self._reported.add(key)
        if self._report is not None:
            self._report(message)

    def add_commands(self, group: object, specs: ModuleType) -> None:
        """Let hook plugins add commands to the command line's `group`.

        Args:
            group: The lazy group of `styx`.
            specs: The module that declares `styx_add_commands`; the command line owns that hook.
        """
        try:
            self._loaded().add_hookspecs(specs)
        except pluggy.PluginValidationError as error:
            raise PluginError(f"a plugin does not fit Styx's hooks: {' '.join(str(error).split())}") from None
        self._ask("styx_add_commands", group=group)

    # pluggy, and nobody else --------------------------------------------------------------------------------------
    def _loaded(self) -> pluggy.PluginManager:
        """The manager, with all hook plugins. One that can't be loaded refuses: it may hold a policy."""
        with self._lock:
            if not self._hook_plugins_loaded:
                for name in discovery.names(discovery.HOOKS):
                    if not self._manager.has_plugin(name):
                        discovery.register_hooks(self._manager, name, self._log)
                self._hook_plugins_loaded = True
        return self._manager

    def _ask(self, hook: str, **arguments: Any) -> Any:
        caller: pluggy.HookCaller = getattr(self._loaded().hook, hook)
        try:
            return caller(**arguments)
        except StyxError:
            raise
        except Exception as error:  # the error wall around plugins
            raise self._failed(_culprit(caller, error), hook, error) from error

    def _implementations(self, hook: str) -> Sequence[pluggy.HookImpl]:
        """In registration order."""
        caller: pluggy.HookCaller = getattr(self._loaded().hook, hook)
        return caller.get_hookimpls()

    def _failed(self, plugin: str, hook: str, error: Exception) -> PluginError:
        self._log(f"{hook} of plugin {plugin!r}", error)
        return PluginError(
            f"plugin {plugin!r} failed in {hook}: {type(error).__name__}: {error}",
            hint=f"its traceback is in {self.folders.plugin_log()}",
        )

    def _missing(self, cloud: str) -> PluginError:
        from styx.models.suggest import did_you_mean

        installed = self.installed_clouds()
        near = did_you_mean(cloud, installed)
        has = f" (installed: {', '.join(installed)})" if installed else ""
        source = f"install it from a clone of Styx (pip install ./plugins/styx-{cloud}) or from its wheel file"
        return PluginError(
            f"no plugin for cloud {cloud!r} is installed{has}",
            hint=f"{near} Otherwise {source}" if near else source,
        )

    def _log(self, what: str, error: BaseException) -> None:
        """Append a traceback to the plugin log; a log that can't be written stops nothing."""
        trace = "".join(traceback.format_exception(error))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        try:
            path = self.folders.plugin_log()
            if path.exists() and path.stat().st_size > _LOG_LIMIT_BYTES:
                path.replace(path.with_name(f"{path.name}.old"))
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{stamp} {what}\n{trace}\n")
        except (OSError, StyxError):
            self.report(f"the plugin log {self.home / 'logs' / 'plugins.log'} can't be written")


class _PluginLog(logging.Handler):
    """Takes tracebacks of failed driver calls to the plugin log; without it they would go to the terminal."""

    def __init__(self, write: Callable[[str, BaseException], None]) -> None:
        super().__init__(logging.ERROR)
        self._write = weakref.WeakMethod(write)

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        write = self._write()
        if error is not None and write is not None:
            write(record.getMessage(), error)


def _keep_tracebacks(write: Callable[[str, BaseException], None]) -> None:
    log = logging.getLogger("styx.drivers")
    for old in [each for each in log.handlers if isinstance(each, _PluginLog)]:
        log.removeHandler(old)
    log.addHandler(_PluginLog(write))


def _configured(config_type: type[DriverConfig], cloud: str, table: Mapping[str, Any]) -> DriverConfig:
    from styx.models.suggest import did_you_mean

    try:
        return config_type.model_validate(dict(table))
    except ValidationError as error:
        faults = []
        for each in error.errors(include_url=False, include_input=False, include_context=False):
            where = ".".join(str(part) for part in each["loc"])
            unknown = each["type"] == "extra_forbidden"
            faults.append(
                Fault(
                    "is not a setting of this cloud" if unknown else each["msg"],
                    field=f"clouds.{cloud}.{where}" if where else f"clouds.{cloud}",
                    suggestion=did_you_mean(where, config_type.model_fields) if unknown else None,
                )
            )
        raise InvalidInput(faults, hint="see the settings with `styx config show`") from None


def _a(kind: type[_Answer], answer: object, hook: str) -> _Answer:
    """What a plugin answered, as what it must be.

    Raises:
        PluginError: It is something else.
    """
    if not isinstance(answer, kind):
        raise PluginError(f"a plugin answered {hook} with a {type(answer).__name__}, not with a {kind.__name__}")
    return answer


def _invoke(impl: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
    """Call one implementation with the arguments that it takes."""
    return impl.function(*[arguments[name] for name in impl.argnames])


def _culprit(caller: pluggy.HookCaller, error: BaseException) -> str:
    """The plugin whose code raised: the first of its functions on the traceback."""
    owners = {
        code: impl.plugin_name
        for impl in caller.get_hookimpls()
        if (code := getattr(impl.function, "__code__", None)) is not None
    }
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in owners:
            return owners[trace.tb_frame.f_code]
        trace = trace.tb_next
    return "unknown"


def _http_client() -> Any:
    import httpx

    return httpx.Client(timeout=httpx.Timeout(30.0, connect=10.0))
