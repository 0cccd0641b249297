"""Rules that hold for every test of the project, whichever folder it lies in."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from xdist.remote import Producer

    from styx.testing.machines import Machines

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
CROWDED = ("tests/chaos/", "styx-core/tests/backends/")
"""Tests that fill the machine with processes: never two of them at the same time."""
CLUSTER = "tests/kubernetes/"
"""Tests that share one control plane."""
HOSTS = "machines"
"""The fixture of tests that boot hosts: they mostly wait, and come early."""
ACROSS = "tests/"
"""Tests across packages: what they run is measured by the tests of the packages."""
NOBODY = 65534
MEASURED = {"styx-core": "styx-core/src/", "styx-agent": "styx-agent/src/", "styx-cli": "styx-cli/src/"}
EXTRA_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))


# Properties are searched without a deadline, and in CI always along the same path: a machine may be slow or unlucky.
settings.register_profile("anywhere", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if IN_CI else "anywhere")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of a script's `nox &`; some tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # no test asks a cloud whether this machine is one of its own


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--coverage-floor`, which needs `--cov`."""
    group = parser.getgroup("styx")
    group.addoption("--coverage-floor", type=float, default=None, help="fail when a package's line coverage is lower")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> object:
    """Share tests out to workers by file, crowded ones to one worker.

    xdist's own groups (`--dist loadgroup`) have no effect with pytest 9.2, whose tests take no other name from xdist:
    every test went to any worker, and each worker made every fixture of a module or session for itself.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return row_of(nodeid)

    return ByFile(config, log) if config.getvalue("dist") == "loadscope" else None


def row_of(nodeid: str) -> str:
    """Tests with the same answer run one after the other, on one worker."""
    if nodeid.startswith(CROWDED):
        return "crowded"
    return CLUSTER if nodeid.startswith(CLUSTER) else nodeid.split("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; skip what cannot run here.

    A test marked `debian(package, command, *arguments)` is skipped where the command is missing or, with arguments,
    fails; the reason names the package.
    """
    items.sort(key=early)
    for item in items:
        if item.nodeid.startswith(ACROSS):
            item.add_marker(pytest.mark.unmeasured)
        if item.get_closest_marker("unmeasured"):
            item.add_marker(pytest.mark.no_cover)
        for mark in item.iter_markers("debian"):
            package, *probe = mark.args
            if not works(tuple(probe)):
                item.add_marker(pytest.mark.skip(reason=f"needs Debian package {package}: {' '.join(probe)} fails"))


def early(item: pytest.Item) -> tuple[bool, bool, bool]:
    """Where a test comes: a long file that begins last keeps one worker busy while the others have nothing to do."""
    boots = HOSTS in getattr(item, "fixturenames", ())
    return not item.nodeid.startswith(CROWDED), not boots, not item.nodeid.startswith(ACROSS)


@pytest.fixture
def machine_shares() -> dict[str, Path]:
    """Folders of this machine that the hosts of `machines` see, by path there; a test module may override it."""
    return {}


@pytest.fixture
def machines(machine_shares: dict[str, Path]) -> Iterator[Machines]:
    """A network of its own for the test, to boot real SSH hosts in; skips the test where they can't be had."""
    from styx.testing.machines import Machines

    if reason := Machines.unavailable():
        pytest.skip(reason)
    with Machines(machine_shares) as room:
        yield room


@functools.cache
def works(probe: tuple[str, ...]) -> bool:
    """Whether the command of a `debian` mark is there and, if it has arguments, succeeds."""
    program = shutil.which(probe[0], path=EXTRA_PATH)
    if program is None or not probe[1:]:
        return program is not None
    return subprocess.run([program, *probe[1:]], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture(autouse=True)
def private_home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test may reach the user's own clusters: without a home of its own it gets an empty one.

    Child processes of a test marked `unmeasured` are not measured either.
    """
    if request.node.get_closest_marker("unmeasured"):
        for name in ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"):
            monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(prefix="styx-test-") as folder:
        monkeypatch.setenv("STYX_HOME", str(Path(folder) / "home"))
        yield


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """An empty folder, and the rights of a user who may not read everything, also when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="styx-test-"))
    root = os.geteuid() == 0
    if root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder, ignore_errors=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI a skipped test is a failed run; so is a package below the coverage floor."""
    config = session.config
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(config, "workerinput") or reporter is None:
        return
    faults = [*skipped(reporter), *uncovered(config)]
    if faults and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    for fault in ["", *faults] if faults else []:
        reporter.write_line(fault, red=True)


def skipped(reporter: pytest.TerminalReporter) -> list[str]:
    """One line per skip when `CI` is true: there, a test that did not run proves nothing."""
    if not IN_CI:
        return []
    reports = reporter.stats.get("skipped", [])
    return [f"CI: skipped tests are not allowed: {report.nodeid}: {report.longrepr[2]}" for report in reports]


def uncovered(config: pytest.Config) -> list[str]:
    """One line per package whose line coverage is below the floor; the figures go to `.nox/coverage.txt`."""
    import coverage

    floor = config.getoption("--coverage-floor")
    plugin = config.pluginmanager.get_plugin("_cov")
    if floor is None or plugin is None or plugin.cov_controller is None:
        return []
    try:
        figures = coverage_by_package(plugin.cov_controller.cov)
    except coverage.CoverageException as error:
        return [f"coverage could not be computed: {error}"]
    target = config.rootpath / ".nox" / "coverage.txt"
    target.parent.mkdir(exist_ok=True)
    target.write_text("".join(f"{name} {percent:.1f} %\n" for name, percent in figures.items()))
    low = {name: percent for name, percent in figures.items() if percent < floor}
    if low:
        plugin.cov_controller.cov.html_report(directory=str(config.rootpath / "htmlcov"), ignore_errors=True)
    return [
        f"{name}: coverage {percent:.1f} % is below {floor:g} %: htmlcov/index.html" for name, percent in low.items()
    ]


def coverage_by_package(cov: object) -> dict[str, float]:
    """Percent of lines run, for each measured package."""
    with tempfile.TemporaryDirectory() as folder:
        outfile = Path(folder) / "coverage.json"
        cov.json_report(outfile=str(outfile), ignore_errors=True)  # type: ignore[attr-defined]
        files = json.loads(outfile.read_text())["files"]
    figures = {}
    for name, prefix in MEASURED.items():
        summaries = [data["summary"] for path, data in files.items() if path.startswith(prefix)]
        lines = sum(summary["num_statements"] for summary in summaries)
        figures[name] = 100 * sum(summary["covered_lines"] for summary in summaries) / lines if lines else 0.0
    return figures
