"""What holds for the tree as a whole."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = sorted(
    path.parent for pattern in ("styx-*/pyproject.toml", "plugins/*/pyproject.toml") for path in ROOT.glob(pattern)
)
# Written in pieces: this file is committed too.
REGISTRY_HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"))]
CLOUDS = {
    "aws",
    "azure",
    "cudo",
    "digitalocean",
    "fluidstack",
    "gcp",
    "hetzner",
    "hyperbolic",
    "ibm",
    "lambdalabs",
    "mithril",
    "nebius",
    "oci",
    "paperspace",
    "primeintellect",
    "runpod",
    "scp",
    "seeweb",
    "shadeform",
    "vastai",
    "verda",
    "vsphere",
    "yotta",
}
CORE = ROOT / "styx-core" / "src" / "styx"
# Formats of others that name clouds: the task format, and the published catalog files. Nothing else in core may.
FORMATS = (CORE / "models", CORE / "catalog" / "adapters.py", CORE / "optimizer" / "egress.py")


NEEDS_GIT = pytest.mark.debian("git", "git")


def committed() -> list[Path]:
    """Files that git tracks or would track."""
    argv = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.name)
def test_package_is_complete(project: Path) -> None:
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert metadata["license"] == "Apache-2.0"
    assert metadata["description"].endswith(".")
    assert (project / metadata["readme"]).read_text().strip()
    assert list(project.glob("src/*/py.typed")), "py.typed is missing"
    assert list(project.glob("tests/**/test_*.py")), "no tests"


def test_root_is_complete() -> None:
    for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"):
        assert (ROOT / name).read_text().strip(), f"{name} is empty"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_extras_name_only_packages_that_exist() -> None:
    ours = {tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] for project in PROJECTS}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for names in project["optional-dependencies"].values() for name in names),
    ]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in wanted}
    assert {name for name in names if name.startswith("styx")} <= ours


def test_versions_are_pinned_without_hosts() -> None:
    uv = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    pins = uv["constraint-dependencies"]
    assert {"nox", "pydantic", "pytest", "typer"} <= {pin.split("==")[0] for pin in pins}
    assert all(re.match(r"[\w.-]+==[\w.+!-]+(; .+)?$", pin) for pin in pins)


@NEEDS_GIT
def test_no_registry_host_is_committed() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in committed()
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes()
    ]
    assert not wrong
    assert not [path for path in committed() if path.name == "uv.lock"]


@NEEDS_GIT
def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    drawers = {"utils.py", "common.py", "helpers.py", "misc.py", "util.py"}
    assert not [path.relative_to(ROOT) for path in committed() if path.name in drawers]


def words(path: Path) -> Iterator[tuple[int, str]]:
    """Words in a file's names and strings, but for docstrings and comments, which may explain by example."""
    tree = ast.parse(path.read_text())
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        texts = {ast.Name: "id", ast.Attribute: "attr", ast.arg: "arg", ast.FunctionDef: "name", ast.ClassDef: "name"}
        text = getattr(node, texts[type(node)]) if type(node) in texts else getattr(node, "value", None)
        if isinstance(text, str) and id(node) not in prose:
            media_types = text.lower().replace("vnd.oci.", "")  # the Open Container Initiative's
            for word in re.findall(r"[a-z0-9]+", media_types):
                yield node.lineno, word


@pytest.mark.parametrize("package", ["styx-core/src", "styx-cli/src", "styx-agent/src"])
def test_shared_code_names_no_cloud(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if not {path, *path.parents} & set(FORMATS)
        for line, word in words(path)
        if word in CLOUDS
    ]
    assert not wrong
