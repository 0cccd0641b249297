"""What a command loads before it knows what it is asked: next to nothing, and no plugin."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured
HEAVY = {
    "azure", "boto3", "botocore", "google", "highspy", "httpx", "ibm_vpc", "kubernetes", "kubernetes_asyncio", "oci",
    "openstack", "paramiko", "polars", "ray", "requests", "rich", "sqlalchemy", "textual",
}  # fmt: skip
PROBE = """
import atexit, json, os, sys
atexit.register(lambda: open(os.environ["STYX_PROBE"], "w").write(json.dumps(sorted(sys.modules))))
"""
RUN = "import sys; sys.argv[0] = 'styx'; from styx_cli.main import main; sys.exit(main())"


def plugin_modules() -> set[str]:
    """Top-level modules that entry points of ours name, but for our own core and command line."""
    groups = ("styx", "styx.drivers", "styx.stores", "styx.commands")
    points = [point for group in groups for point in importlib.metadata.entry_points(group=group)]
    return {point.value.split(":")[0].split(".")[0] for point in points} - {"styx", "styx_cli"}


def modules_after(code: str, *arguments: str, folder: Path) -> set[str]:
    """Modules loaded when a fresh interpreter has run `code`."""
    report = folder / "modules.json"
    env = os.environ | {"STYX_PROBE": str(report), "STYX_HOME": str(folder / "home")}
    argv = [sys.executable, "-c", PROBE + code, *arguments]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(report.read_text()))


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (RUN, ("--help",)),
        (RUN, ("--version",)),
        (RUN, ("launch", "--help")),
        ("import styx", ()),
        ("import styx.plugin", ()),
    ],
    ids=["help", "version", "launch-help", "import-styx", "import-plugin"],
)
def test_loads_nothing_heavy_and_no_plugin(code: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    assert "styx_local" in plugin_modules()
    loaded = modules_after(code, *arguments, folder=tmp_path)
    assert not {name.split(".")[0] for name in loaded} & (HEAVY | plugin_modules())


def test_import_styx_loads_only_itself(tmp_path: Path) -> None:
    loaded = modules_after("import styx", folder=tmp_path)
    assert {name for name in loaded if name.split(".")[0] in ("styx", "styx_agent", "pydantic", "typer")} == {"styx"}


def test_status_loads_nothing_heavy_and_no_launch(tmp_path: Path) -> None:
    loaded = modules_after(RUN, "status", folder=tmp_path)
    assert not {name.split(".")[0] for name in loaded} & (HEAVY | plugin_modules())
    assert "styx.provision.follow" in loaded
    only_for_others = {"launch", "attempts", "gang", "search", "placing", "sweep"}
    assert not loaded & {f"styx.provision.{name}" for name in only_for_others}
