"""Every check of the project: `uv run nox` proves it, `uv run nox -s NAME` runs one.

All sessions share one environment, `.nox/env`, which uv fills from the workspace with the pinned versions: a check
starts in a fraction of a second once it exists. Packages are found by glob, so a new plugin needs no edit here.
Success is quiet: the last line of a full run is pytest's summary.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import nox

ROOT = Path(__file__).parent
ENV = ROOT / ".nox" / "env"
COVERAGE_FLOOR = 85
WORKERS = max(2, round(1.5 * (os.cpu_count() or 1)))
"""Of pytest: a third of what tests do is to wait for processes, so as many as there are cores leave these idle."""
NODE_CODE = ("styx-agent/src", "styx-core/src/styx/backends/ray/onnode")

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "contracts", "docs", "wheels", "tests"]
nox.options.stop_on_first_error = True
logging.getLogger("nox").setLevel(logging.WARNING)


def sources() -> list[str]:
    """The `src` folder of every package in the workspace, as paths from the root."""
    found = [*ROOT.glob("styx-*/src"), *ROOT.glob("plugins/styx-*/src")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def ready(session: nox.Session) -> dict[str, str | None]:
    """Bring `.nox/env` up to date and return the variables that make commands run in it.

    Bytecode is written whatever the caller's environment says: the tests start thousands of short processes.
    """
    env: dict[str, str | None] = {"UV_PROJECT_ENVIRONMENT": str(ENV), "VIRTUAL_ENV": None, "PYTHONHASHSEED": "0"}
    env["PYTHONDONTWRITEBYTECODE"] = None
    sync = ["uv", "sync", "--quiet", "--all-packages", "--all-extras", "--all-groups"]
    session.run(*sync, env=env, external=True, silent=True)
    return env | {"PATH": f"{ENV / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def quietly(session: nox.Session, env: dict[str, str | None], *command: str) -> None:
    """Run a command of the environment; show its output only when it fails."""
    session.run(str(ENV / "bin" / command[0]), *command[1:], env=env, external=True, silent=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Style of all files, and that the agent's code needs no more than Python 3.8."""
    env = ready(session)
    quietly(session, env, "ruff", "check", "--quiet", ".")
    quietly(session, env, "ruff", "format", "--check", "--quiet", ".")
    quietly(session, env, "vermin", "--quiet", "--no-tips", "--violations", "--target=3.8-", *NODE_CODE)


@nox.session
def types(session: nox.Session) -> None:
    """`mypy --strict` on every package, the tools and the benchmarks."""
    env = ready(session)
    quietly(session, env, "mypy", *sources(), "tools", "benchmarks", "noxfile.py")


@nox.session
def contracts(session: nox.Session) -> None:
    """The import rules, and what else must hold across packages (`tests/contracts`)."""
    env = ready(session)
    quietly(session, env, "lint-imports", "--no-cache")
    quietly(session, env, "pytest", "-q", *(session.posargs or ["tests/contracts"]))


@nox.session
def docs(session: nox.Session) -> None:
    """The generated reference pages are up to date; `-- --write` brings them up to date."""
    env = ready(session)
    quietly(session, env, "python", "-m", "tools.reference", *(session.posargs or ["--check"]))


@nox.session
def wheels(session: nox.Session) -> None:
    """Every package builds, and the wheels alone give a working `styx` in an empty environment."""
    env = ready(session)
    quietly(session, env, "pytest", "-q", "-m", "wheels", "tests/test_wheels.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests and the coverage floor; `-- ARGS` passes ARGS to pytest in place of both."""
    env = ready(session)
    pytest = [str(ENV / "bin" / "pytest"), "-q"]
    if session.posargs:
        session.run(*pytest, *session.posargs, env=env, external=True)
        return
    for stale in ROOT.glob(".coverage*"):
        stale.unlink()
    quietly(session, env, "python", "-m", "tools.measured", "--write", ".nox/measured", str(ROOT / ".coverage"))
    env["STYX_TEST_AGENT_PYTHON"] = str(ROOT / ".nox" / "measured" / "measured-python")
    measured = ["--cov", "--cov-report=", f"--coverage-floor={COVERAGE_FLOOR}"]
    spread = ["-n", str(WORKERS), "--dist", "loadscope", "--no-loadscope-reorder"]
    session.run(*pytest, *spread, *measured, env=env, external=True)


@nox.session
def chaos(session: nox.Session) -> None:
    """The client dies at every moment on every cloud, and 300 times by chance; `-- ARGS` passes ARGS to pytest.

    Takes about an hour on two idle cores. `STYX_CHAOS_RUNS`, `STYX_CHAOS_SEED` and `STYX_CHAOS_AT_ONCE` change how much
    is done.
    """
    env = ready(session)
    pytest = [str(ENV / "bin" / "pytest"), "-q", "-m", "chaos or slow", "tests/chaos"]
    session.run(*pytest, *session.posargs, env=env, external=True)


@nox.session
def machines(session: nox.Session) -> None:
    """More of Ray on real SSH hosts than the tests have time for: about 10 minutes; `-- ARGS` passes ARGS to pytest."""
    env = ready(session)
    pytest = [str(ENV / "bin" / "pytest"), "-q", "-m", "machines or slow", "tests/e2e/test_ray_on_hosts.py"]
    session.run(*pytest, *session.posargs, env=env, external=True)


@nox.session
def kubernetes(session: nox.Session) -> None:
    """Pods on a real control plane, containerd and kubelet, built first where `$KUBE_BIN_DIR` has none; needs root."""
    env = ready(session)
    folder = os.environ.get("KUBE_BIN_DIR") or str(ROOT / ".nox" / "kube")
    quietly(session, env, "python", "-m", "tests.kubernetes.build", folder)
    env |= {"KUBE_BIN_DIR": folder, "STYX_KUBE_MATRIX": os.environ.get("STYX_KUBE_MATRIX", "1")}
    paths = session.posargs or ["tests/kubernetes", "plugins/styx-k8s/tests"]
    session.run(str(ENV / "bin" / "pytest"), "-q", "--timeout=3600", *paths, env=env, external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Start-up and launch, as multiples of a baseline measured in the same run; `-- ARGS` passes ARGS to both."""
    env = ready(session)
    for script in ("startup.py", "launch.py"):
        session.run(str(ENV / "bin" / "python"), f"benchmarks/{script}", *session.posargs, env=env, external=True)


@nox.session
def new_plugin(session: nox.Session) -> None:
    """`-- NAME` makes `plugins/styx-NAME` from the template, installs it and runs its conformance suite."""
    env = ready(session)
    made = session.run(
        str(ENV / "bin" / "python"), "-m", "tools.new_plugin", *session.posargs, env=env, external=True, silent=True
    )
    folder = str(made).strip().splitlines()[-1]
    ready(session)
    session.run(str(ENV / "bin" / "pytest"), "-q", folder, env=env, external=True)
    print(f"{folder} is ready: fill in its src/, then run `uv run nox -s tests -- {folder}`")


@nox.session
def constraints(session: nox.Session) -> None:
    """Refresh the pinned versions of everything, transitive too, in the root `pyproject.toml`."""
    env = ready(session)
    quietly(session, env, "python", "-m", "tools.constraints")
    (ROOT / "uv.lock").unlink(missing_ok=True)


@nox.session
def clean(_session: nox.Session) -> None:
    """Remove what the other sessions left."""
    for folder in (".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"):
        shutil.rmtree(ROOT / folder, ignore_errors=True)
    for stale in ROOT.glob(".coverage*"):
        stale.unlink()
