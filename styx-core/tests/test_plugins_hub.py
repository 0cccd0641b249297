"""The Hub, with real installed metadata: packages are written to a folder on `sys.path`, as pip would."""

import ast
import inspect
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import types
from datetime import UTC, datetime
from pathlib import Path

import pytest
import stevedore._cache
from stevedore.extension import ExtensionManager

from styx import hookspecs
from styx.driver import CatalogRow, Cloud, Local, OfferQuery, Place
from styx.errors import DriverError, InvalidInput, NotExecutable, PermissionRefused, PluginError
from styx.models import Task
from styx.optimizer.problem import Plan, Problem
from styx.plugin import API_VERSION
from styx.plugins import Hub
from styx.state.rows import Event

EVENT = Event(cluster="k", operation="launch-1", step="create", phase="done", at=datetime(2026, 1, 1, tzinfo=UTC))
PROBLEM = Problem(task="t", alternatives=(), enabled=())
PLACE = Place(cloud="acme", account="a", region="r")
OFFER = CatalogRow(cloud="acme", instance_type="m1", region="r", usd_per_hour=1.0)

DRIVER = """
from styx.plugin import CatalogRow, Cloud, Driver, DriverConfig, Identity, Stoppable
class Config(DriverConfig):
    token_file: str = "none"
    '''Where the token is.'''
    retries: int = 3
    '''How often.'''
class {cls}(Driver[Config], Stoppable):
    name = "{name}"
    display_name = "Acme"
    config_type = Config
    {more}
    def check(self): return Identity(account="acct", places={{}})
    def fetch(self): return [CatalogRow(cloud="{name}", instance_type="m1", region="r", usd_per_hour=1.0)]
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
    def stop(self, nodes): pass
    def start(self, nodes): return nodes
"""


class Site:
    """A folder of installed packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, dist, module, source, *, version="1.0", **groups):
        """Groups: `drivers={"acme": "Acme"}` becomes the entry point `acme = <module>:Acme` of `styx.drivers`."""
        (self.folder / f"{module}.py").write_text(textwrap.dedent(source))
        info = self.folder / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        lines = []
        for group, points in groups.items():
            lines.append("[styx]" if group == "hooks" else f"[styx.{group}]")
            lines += [f"{name} = {module}{':' + attr if attr else ''}" for name, attr in points.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        ExtensionManager.ENTRY_POINT_CACHE.clear()
        stevedore._cache._c._internal.clear()

    def driver(self, name, cls="Acme", more="", dist=None, version="1.0"):
        module = f"hubtest_{name}_{len(os.listdir(self.folder))}"
        source = DRIVER.format(name=name, cls=cls, more=more)
        self.install(dist or f"styx-{name}", module, source, version=version, drivers={name: cls})

    def hooks(self, name, source, dist=None):
        prelude = "from styx.plugin import hookimpl\n"
        self.install(dist or name, f"hubtest_{name}", prelude + textwrap.dedent(source), hooks={name: ""})


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(stevedore._cache._c, "_disable_caching", True)
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if name.startswith(("hubtest_", "styx_private_drivers")):
            del sys.modules[name]
    ExtensionManager.ENTRY_POINT_CACHE.clear()
    stevedore._cache._c._internal.clear()


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def hub(site, home):
    return make_hub(home)


def make_hub(home, **changes):
    values = {"environ": {"HOME": str(home), "ACME_KEY": "s3cret"}, "store_id": "abc123", "user": "me"}
    return Hub(home, **(values | changes))


def private_driver(home, name, more="", cls="Acme"):
    (home / "drivers").mkdir(exist_ok=True)
    (home / "drivers" / f"{name}.py").write_text(DRIVER.format(name=name, cls=cls, more=more))


# every hook -------------------------------------------------------------------------------------------------------

FACADE = {
    "styx_cloud": Hub.cloud,
    "styx_catalog": Hub.catalog_sources,
    "styx_provisioner": Hub.provisioner,
    "styx_backend": Hub.backend,
    "styx_store": Hub.object_store,
    "styx_amend_offers": Hub.amend_offers,
    "styx_plan": Hub.plan,
    "styx_plan_graph": Hub.plan_graph,
    "styx_amend_task": Hub.amend_task,
    "styx_review_task": Hub.review_task,
    "styx_make_transport": Hub.make_transport,
    "styx_resolve_secret": Hub.resolve_secret,
    "styx_event": Hub.emit,
}


def all_hooks():
    return {name for name, value in vars(hookspecs).items() if name.startswith("styx_") and inspect.isfunction(value)}


def test_every_hook_has_a_facade_method_that_asks_it():
    assert set(FACADE) == all_hooks()
    for hook, method in FACADE.items():
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
        assert hook in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        wanted = list(inspect.signature(getattr(hookspecs, hook)).parameters)
        assert list(inspect.signature(method).parameters)[1:] == wanted
        assert wanted[-1] == "context"


def test_every_hook_has_a_test():
    assert {f"test_hook_{hook}" for hook in all_hooks()} <= set(globals())


def test_nobody_else_touches_the_hook_object():
    source = Path(hookspecs.__file__).parent
    users = [path.name for path in source.rglob("*.py") if ".hook." in path.read_text() or ".hook," in path.read_text()]
    assert users == ["plugins.py"]


def test_hook_styx_cloud(site, hub):
    site.driver("acme")
    cloud = hub.cloud("acme")
    assert cloud.display_name == "Acme"
    assert hub.cloud("acme") is cloud is hub.provisioner("acme")
    assert cloud.context.secrets("ACME_KEY") == "s3cret"
    assert (cloud.context.store, cloud.context.user, cloud.context.workspace) == ("abc123", "me", "default")
    other = hub.cloud("acme", hub.context("acme", workspace="other"))
    assert other is not cloud
    assert other.context.workspace == "other"


def test_hook_styx_catalog(site, hub):
    site.driver("acme")
    site.hooks(
        "discount",
        """
        from styx.plugin import CatalogSource
        class Cheaper(CatalogSource):
            def fetch(self): return []
        @hookimpl
        def styx_catalog(cloud): return Cheaper() if cloud == "acme" else None
        """,
    )
    assert [type(source).__name__ for source in hub.catalog_sources("acme")] == ["Acme", "Cheaper"]


def test_hook_styx_provisioner(site, hub):
    site.driver("acme")
    site.hooks(
        "ours",
        """
        @hookimpl
        def styx_provisioner(cloud, context): return (cloud, context.config.retries) if cloud == "acme" else None
        """,
    )
    hub.plan(PROBLEM)  # loads the hook plugins before the driver: the order must not matter
    assert hub.provisioner("acme") == ("acme", 3)
    assert hub.cloud("acme").display_name == "Acme"
    assert make_hub(hub.home).provisioner("acme") == ("acme", 3)


def test_hook_styx_backend(site, hub):
    assert hub.backend("slurm") is None
    site.hooks("more", "@hookimpl\ndef styx_backend(name): return name.upper() if name == 'slurm' else None")
    assert make_hub(hub.home).backend("slurm") == "SLURM"
    assert make_hub(hub.home).backend("process") is None


def test_hook_styx_store(site, hub):
    site.install(
        "styx-s3",
        "hubtest_s3",
        "class S3:\n    scheme = 's3'\n    def __init__(self, context): self.context = context",
        stores={"s3": "S3"},
    )
    site.hooks("gs", "@hookimpl\ndef styx_store(scheme): return 'a store' if scheme == 'gs' else None")
    assert hub.object_store("s3").context.store == "abc123"
    assert hub.object_store("s3") is hub.object_store("s3")
    assert hub.object_store("gs") == "a store"
    with pytest.raises(PluginError, match="ftp://"):
        hub.object_store("ftp")


def test_hook_styx_amend_offers(site, hub):
    site.hooks(
        "allow",
        """
        @hookimpl
        def styx_amend_offers(query, offers): offers[:] = [row for row in offers if row.region != query.region]
        """,
    )
    offers = [OFFER, OFFER.model_copy(update={"region": "s"})]
    hub.amend_offers(OfferQuery(region="r"), offers)
    assert [row.region for row in offers] == ["s"]


def test_hook_styx_plan(site, hub):
    assert hub.plan(PROBLEM) is None
    site.hooks(
        "planner",
        """
        from styx.optimizer.problem import Plan
        @hookimpl
        def styx_plan(problem): return Plan(task=problem.task, choices=())
        """,
    )
    assert make_hub(hub.home).plan(PROBLEM) == Plan(task="t", choices=())


def test_hook_styx_plan_graph(site, hub):
    from styx.optimizer.graph import GraphProblem, GraphTask
    from styx.optimizer.problem import Requirement

    task = GraphTask(name="t", alternatives=(Requirement(label="any"),))
    problem = GraphProblem(tasks=(task,), places=())
    assert hub.plan_graph(problem) is None
    site.hooks(
        "planner",
        """
        from styx.optimizer.plan import GraphPlan
        @hookimpl
        def styx_plan_graph(problem):
            wrong = problem.objective == "time"
            return {"not": "a plan"} if wrong else GraphPlan(status="infeasible", method="plugin")
        """,
    )
    assert make_hub(hub.home).plan_graph(problem).method == "plugin"
    with pytest.raises(PluginError, match="answered styx_plan_graph with a dict, not with a GraphPlan"):
        make_hub(hub.home).plan_graph(problem.model_copy(update={"objective": "time"}))


def test_hook_styx_amend_task(site, hub):
    source = """
    @hookimpl
    def styx_amend_task(task): return task.model_copy(update={{"name": (task.name or "") + "{letter}"}})
    """
    site.hooks("first", source.format(letter="a"))
    site.hooks("second", source.format(letter="b"))
    site.hooks("third", "@hookimpl\ndef styx_amend_task(task): return None")
    task = Task.model_validate({"name": "x", "run": "true"})
    assert hub.amend_task(task).name == "xab"  # in registration order, each on the last one's
    assert task.name == "x"
    site.hooks("wrong", "@hookimpl\ndef styx_amend_task(task): return 'text'")
    with pytest.raises(PluginError, match="'wrong' returned 'text'"):
        make_hub(hub.home).amend_task(task)


def test_hook_styx_review_task(site, hub):
    assert hub.review_task("launch", None) == []
    for name in ("first", "second"):
        site.hooks(name, f"@hookimpl\ndef styx_review_task(action): return '{name} forbids ' + action")
    site.hooks("third", "@hookimpl\ndef styx_review_task(action, task, context): return None")
    assert make_hub(hub.home).review_task("stop", None) == ["first forbids stop", "second forbids stop"]


def test_hook_styx_make_transport(site, hub):
    reach = Local(home="/h", state="/s")
    assert hub.make_transport(reach) is None
    site.hooks("mosh", "@hookimpl\ndef styx_make_transport(reach): return reach.kind")
    assert make_hub(hub.home).make_transport(reach) == "local"


def test_hook_styx_resolve_secret(site, hub):
    assert hub.resolve_secret("ACME_KEY") == "s3cret"
    assert hub.resolve_secret("NO_KEY") is None
    remote = make_hub(hub.home, remote=True)
    assert remote.resolve_secret("ACME_KEY") is None
    assert remote.context().secrets("ACME_KEY") is None
    site.hooks("vault", "@hookimpl\ndef styx_resolve_secret(ref): return 'vault' if ref == 'ACME_KEY' else None")
    assert make_hub(hub.home).resolve_secret("ACME_KEY") == "vault"
    assert make_hub(hub.home, remote=True).resolve_secret("ACME_KEY") == "vault"


def test_hook_styx_event(site, home):
    reports = []
    for name in ("before", "after"):
        site.hooks(name, "heard = []\n@hookimpl\ndef styx_event(event, context): heard.append((event, context.store))")
    site.hooks("broken", "@hookimpl\ndef styx_event(event): raise RuntimeError('no network')")
    hub = make_hub(home, report=reports.append)
    hub.emit(EVENT)
    hub.emit(EVENT)
    for name in ("before", "after"):
        assert sys.modules[f"hubtest_{name}"].heard == [(EVENT, "abc123")] * 2
    log = home / "logs" / "plugins.log"
    assert reports == [f"plugin 'broken' failed in styx_event: RuntimeError: no network (see {log})"]
    assert log.read_text().count("Traceback") == 2


# listeners --------------------------------------------------------------------------------------------------------


def test_a_hanging_listener_is_dropped(site, home):
    reports = []
    site.hooks(
        "slow",
        """
        import threading
        gate = threading.Event()
        calls = []
        @hookimpl
        def styx_event(event):
            calls.append(event)
            gate.wait(60)
        """,
    )
    site.hooks("quick", "heard = []\n@hookimpl\ndef styx_event(event): heard.append(event)")
    hub = make_hub(home, report=reports.append, listener_deadline_s=0.05)
    for _ in range(3):
        hub.emit(EVENT)
    slow = sys.modules["hubtest_slow"]
    slow.gate.set()
    assert len(slow.calls) == 1
    assert len(sys.modules["hubtest_quick"].heard) == 3
    assert len(reports) == 1
    assert "'slow'" in reports[0]


def test_a_listener_that_exits_does_not_end_the_launch(site, home):
    site.hooks("quits", "import sys\n@hookimpl\ndef styx_event(event): sys.exit(1)")
    make_hub(home).emit(EVENT)


def test_events_go_on_without_hook_plugins_that_load(site, home):
    reports = []
    site.hooks("broken", "import no_such_module_anywhere")
    hub = make_hub(home, report=reports.append)
    hub.emit(EVENT)
    hub.emit(EVENT)
    assert len(reports) == 1
    assert "no_such_module_anywhere" in reports[0]
    with pytest.raises(PluginError, match="broken"):  # but it may hold a policy, so nothing is decided without it
        hub.review_task("launch", None)


# failing plugins --------------------------------------------------------------------------------------------------


def test_a_failing_hook_is_named_and_logged(site, hub):
    site.hooks("fine", "@hookimpl\ndef styx_review_task(action): return None")
    site.hooks("bad", "def deeper(): 1 / 0\n@hookimpl\ndef styx_review_task(action): deeper()")
    with pytest.raises(PluginError, match=r"plugin 'bad' failed in styx_review_task: ZeroDivisionError") as caught:
        hub.review_task("launch", None)
    log = hub.home / "logs" / "plugins.log"
    assert str(log) in caught.value.hint
    assert "in deeper" in log.read_text()


def test_our_own_errors_pass_through_hooks(site, hub):
    site.hooks(
        "policy",
        """
        from styx.errors import PermissionRefused
        @hookimpl
        def styx_amend_task(task): raise PermissionRefused("not on Fridays")
        """,
    )
    with pytest.raises(PermissionRefused, match="not on Fridays"):
        hub.amend_task(Task.model_validate({"run": "true"}))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("@hookimpl\ndef styx_reveiw_task(action): return None", 'no hook styx_reveiw_task.*"styx_review_task"'),
        ("@hookimpl\ndef styx_review_task(actoin): return None", "actoin"),
    ],
)
def test_misspelt_hooks_and_arguments_are_refused(site, hub, source, words):
    site.hooks("typo", source, dist="acme-policy")
    with pytest.raises(PluginError, match=rf"plugin 'typo' \(package acme-policy 1.0\) does not fit .*{words}"):
        hub.plan(PROBLEM)


def test_hooks_of_the_command_line_are_known(site, hub):
    site.hooks("verbs", "@hookimpl\ndef styx_add_commands(group): raise RuntimeError\n")
    assert hub.plan(PROBLEM) is None


def test_commands_are_added_by_hook(site, home):
    specs = types.ModuleType("specs")
    exec("from styx.hookspecs import hookspec\n@hookspec\ndef styx_add_commands(group): ...", vars(specs))
    site.hooks("verbs", "@hookimpl\ndef styx_add_commands(group): group.append('verb')")
    group = []
    make_hub(home).add_commands(group, specs)
    assert group == ["verb"]
    site.hooks("typo", "@hookimpl\ndef styx_add_commands(grp): pass")
    with pytest.raises(PluginError, match="grp"):
        make_hub(home).add_commands(group, specs)


def test_a_hook_plugin_may_be_a_class(site, hub):
    source = "class Plug:\n    @hookimpl\n    def styx_review_task(self, action): return 'no'"
    site.install("plug", "hubtest_plug", "from styx.plugin import hookimpl\n" + source, hooks={"plug": "Plug"})
    assert hub.review_task("stop", None) == ["no"]


# drivers by name --------------------------------------------------------------------------------------------------


def test_names_are_listed_without_importing(site, hub, home):
    before = set(sys.modules)
    site.driver("acme")
    site.install("styx-broken", "hubtest_broken", "raise RuntimeError", drivers={"broken": "X"})
    private_driver(home, "cellar")
    (home / "drivers" / "_notes.py").write_text("raise RuntimeError")
    assert set(hub.installed_clouds()) >= {"acme", "broken", "cellar"}
    assert "_notes" not in hub.installed_clouds()
    assert not [name for name in sys.modules.keys() - before if name.startswith(("hubtest_", "styx_private"))]


def test_only_the_driver_asked_for_is_imported(site, hub):
    for name in ("acme", "bcme", "ccme"):
        site.driver(name)
    hub.cloud("bcme")
    assert [name.split("_")[1] for name in sys.modules if name.startswith("hubtest_")] == ["bcme"]


@pytest.mark.unmeasured
def test_constructing_a_hub_is_light(tmp_path):
    code = f"""
import json, sys
from pathlib import Path
from styx.plugins import Hub
Hub(Path({str(tmp_path)!r}), environ={{}}, store_id="abc123", user="me")
print(json.dumps([name for name in sys.modules if name.split(".")[0] in
    ("stevedore", "styx_local", "httpx", "yaml", "sqlite3", "filelock", "polars", "rich", "typer")]))
"""
    assert json.loads(subprocess.check_output([sys.executable, "-c", code])) == []


def test_missing_driver(site, hub):
    site.driver("hetzner")
    with pytest.raises(PluginError, match="no plugin for cloud 'hetzer' is installed") as caught:
        hub.cloud("hetzer")
    assert 'did you mean "hetzner"?' in caught.value.hint
    with pytest.raises(PluginError) as caught:
        hub.provisioner("nimbus")
    assert "pip install ./plugins/styx-nimbus" in caught.value.hint
    with pytest.raises(PluginError):
        hub.cloud("nimbus")  # again, from the cache


def test_a_driver_that_only_sells(hub, home):
    private_driver(home, "cellar")
    file = next(home.rglob("cellar.py"))
    file.write_text(
        "from styx.plugin import CatalogSource, Cloud, Identity\n"
        "class Cellar(Cloud, CatalogSource):\n"
        "    name, display_name = 'cellar', 'The Cellar'\n"
        "    def __init__(self, context): pass\n"
        "    def check(self): return Identity(account='acct', places={})\n"
        "    def fetch(self): return []\n"
    )
    assert hub.cloud("cellar").check().account == "acct"
    assert len(hub.catalog_sources("cellar")) == 1
    with pytest.raises(NotExecutable, match="The Cellar knows what it sells, but cannot make machines yet"):
        hub.provisioner("cellar")


def test_two_packages_with_one_name(site, hub):
    site.driver("acme", dist="styx-acme")
    site.driver("acme", dist="acme-styx", version="2.0")
    with pytest.raises(PluginError, match=r"package acme-styx 2\.0 and package styx-acme 1\.0"):
        hub.cloud("acme")
    assert not [name for name in sys.modules if name.startswith("hubtest_")]


def test_a_file_and_a_package_with_one_name(site, hub, home):
    site.driver("acme")
    private_driver(home, "acme")
    with pytest.raises(PluginError, match=r"acme\.py and package styx-acme 1\.0"):
        hub.cloud("acme")


def test_a_driver_that_cannot_be_imported(site, hub, home):
    site.install("styx-acme", "hubtest_acme", "import no_such_sdk", drivers={"acme": "Acme"}, version="3.1")
    with pytest.raises(PluginError, match=r"\(package styx-acme 3\.1\).*No module named 'no_such_sdk'") as caught:
        hub.cloud("acme")
    assert "install --upgrade styx-acme" in caught.value.hint
    assert "Traceback" in (home / "logs" / "plugins.log").read_text()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("assert False, 'bad'", "AssertionError: bad"),
        ("Acme = 7", "not a Cloud class but 7"),
        (DRIVER.format(name="other", cls="Acme", more=""), "calls itself 'other'"),
    ],
)
def test_broken_drivers_are_refused_with_the_reason(site, hub, body, words):
    site.install("styx-acme", "hubtest_acme", body, drivers={"acme": "Acme"})
    with pytest.raises(PluginError, match=words):
        hub.cloud("acme")


def test_a_constructor_that_fails_is_a_plugin_error(site, hub):
    site.driver("acme", more="def __init__(self, context): raise ValueError('too early')")
    with pytest.raises(PluginError, match="'driver:acme' failed in styx_cloud: ValueError: too early"):
        hub.cloud("acme")


# API versions -----------------------------------------------------------------------------------------------------


def test_undeclared_means_the_first_version():
    """The default must never follow API_VERSION, or a driver that declares nothing would always look up to date."""
    assert Cloud.plugin_api == 1


@pytest.mark.parametrize("kind", ["driver", "hook"])
@pytest.mark.parametrize(("version", "upgrade"), [(API_VERSION - 1, "acme-plug"), (API_VERSION + 1, "styx-core")])
def test_other_plugin_apis_are_refused_with_the_command(site, hub, kind, version, upgrade):
    if kind == "driver":
        site.driver("acme", more=f"plugin_api = {version}", dist="acme-plug", version="0.9")
        ask = lambda: hub.cloud("acme")  # noqa: E731 - one of two
    else:
        site.hooks("acme", f"STYX_PLUGIN_API = {version}\n@hookimpl\ndef styx_plan(problem): pass", dist="acme-plug")
        ask = lambda: hub.plan(PROBLEM)  # noqa: E731 - one of two
    with pytest.raises(PluginError, match=rf"\(package acme-plug .*plugin API {version}, .* speaks {API_VERSION}") as e:
        ask()
    assert e.value.hint.endswith(f"pip install --upgrade {upgrade}")


# settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_validated_by_the_driver(site, home):
    site.driver("acme")
    hub = make_hub(home, clouds={"acme": {"retries": 5}})
    assert hub.cloud("acme").config.retries == 5
    bad = make_hub(home, clouds={"acme": {"retrys": 5, "retries": "s3cret-typed-into-the-wrong-place"}})
    with pytest.raises(InvalidInput) as caught:
        bad.cloud("acme")
    faults = {fault.field: fault for fault in caught.value.faults}
    assert set(faults) == {"clouds.acme.retrys", "clouds.acme.retries"}
    assert faults["clouds.acme.retrys"].suggestion == 'did you mean "retries"?'
    assert "s3cret" not in str(caught.value)


# private clouds ---------------------------------------------------------------------------------------------------


def test_a_private_cloud_is_one_file(hub, home):
    private_driver(home, "cellar")
    assert hub.cloud("cellar").check().account == "acct"
    assert hub.provisioner("cellar") is hub.cloud("cellar")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("x = 1\nraise RuntimeError('boom')", r"line 2: RuntimeError: boom"),
        ("def f(:", r"line 1: SyntaxError"),
        ("raise SystemExit", "SystemExit"),
        ("x = 1", 'no Driver with name = "cellar"'),
        (DRIVER.format(name="attic", cls="Acme", more=""), 'no Driver with name = "cellar"'),
        ("from styx.plugin import Driver\nclass C(Driver):\n    name = 'cellar'", "lacks check, create, fetch, nodes"),
    ],
)
def test_a_broken_file_is_a_line_of_the_listing(hub, home, source, words):
    private_driver(home, "good")
    (home / "drivers" / "cellar.py").write_text(source)
    with pytest.raises(PluginError, match=words):
        hub.cloud("cellar")
    listed = {info.name: info for info in hub.plugins() if info.kind == "file"}
    assert listed["good"].error is None
    assert "cellar.py" in listed["cellar"].error
    assert hub.cloud("good")


# the listing ------------------------------------------------------------------------------------------------------


def test_listing(site, hub, home):
    site.driver("acme", version="1.2")
    site.driver("old", more="plugin_api = 0")
    private_driver(home, "cellar")
    site.hooks("policy", "@hookimpl\ndef styx_review_task(action): pass\n@hookimpl\ndef styx_plan(problem): pass")
    site.hooks("typo", "@hookimpl\ndef styx_nothing(): pass")
    site.install("styx-more", "hubtest_more", "app = object()", commands={"more": "app", "less": "no_such"})
    site.install("styx-s3", "hubtest_s3", "S3 = type", stores={"s3": "S3"})
    infos = {(info.kind, info.name): info for info in hub.plugins()}
    acme = infos["driver", "acme"]
    assert (acme.package, acme.version, acme.capabilities, acme.error) == ("styx-acme", "1.2", ("Stoppable",), None)
    assert "plugin API 0" in infos["driver", "old"].error
    assert infos["file", "cellar"].capabilities == ("Stoppable",)
    assert infos["hook", "policy"].hooks == ("styx_plan", "styx_review_task")
    assert "styx_nothing" in infos["hook", "typo"].error
    assert infos["command", "more"].error is None
    assert "no_such" in infos["command", "less"].error
    assert infos["store", "s3"].error is None


# threads ----------------------------------------------------------------------------------------------------------


def test_threads_share_one_driver(site, hub):
    site.driver("acme", more="def __init__(self, context): __import__('time').sleep(0.02); self.context = context")
    site.hooks("policy", "__import__('time').sleep(0.05)\n@hookimpl\ndef styx_review_task(action): return 'no'")
    gate = threading.Barrier(6)
    found = []

    def ask():
        gate.wait(30)
        found.append((hub.cloud("acme"), hub.review_task("stop", None)))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 6
    assert len({id(cloud) for cloud, _ in found}) == 1
    assert all(objections == ["no"] for _, objections in found)


def test_the_log_is_kept_small(site, home):
    site.hooks("bad", "@hookimpl\ndef styx_event(event): raise RuntimeError('x' * 700_000)")
    hub = make_hub(home, clock=time.time)
    for _ in range(4):
        hub.emit(EVENT)
    sizes = {path.name: path.stat().st_size for path in (home / "logs").iterdir()}
    assert set(sizes) == {"plugins.log", "plugins.log.old"}
    assert max(sizes.values()) < 3_000_000


def test_tracebacks_of_failed_driver_calls_go_to_the_plugin_log_and_not_to_the_terminal(tmp_path, capfd):
    from styx.provision.guard import call

    def broken():
        raise RuntimeError("boom")

    hub = Hub(tmp_path, environ={}, store_id="abc123", user="me")
    with pytest.raises(DriverError, match=r"the plugin failed in acme\.fetch: RuntimeError: boom"):
        call("acme.fetch", broken, 5.0, lambda _event: None)
    assert capfd.readouterr().err == ""
    written = (hub.home / "logs" / "plugins.log").read_text()
    assert "driver call acme.fetch failed" in written
    assert "RuntimeError: boom" in written
