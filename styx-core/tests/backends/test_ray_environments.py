"""How Ray comes to nodes: what is decided here, and what a node's installer does with a wheel folder."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from styx.backends.ray.backend import RayBackend
from styx.backends.ray.environments import NodeEnvironments
from styx.backends.ray.formation import Report, the_python
from styx.backends.ray.onnode import install
from styx.backends.ray.onnode.layout import Layout, NodeFailure
from styx.backends.ray.runtime import TESTED
from styx.backends.ray.wheels import Wheel, missing, wheels_in
from styx.config import Settings
from styx.errors import InvalidInput, PluginError, Unreachable, WrongState
from styx.models.settings import RaySettings

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str] | None = None, tag="py3-none-any") -> Path:
    """A wheel that installers accept."""
    info = f"{name}-{version}.dist-info"
    content = {
        f"{name}/__init__.py": f"__version__ = {version!r}\n",
        **(files or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    rows = []
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in content.items():
            archive.writestr(path, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return target


@pytest.mark.parametrize(
    ("name", "python", "machine", "fits"),
    [
        ("ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl", "3.11", "x86_64", True),
        ("ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl", "3.12", "x86_64", False),
        ("ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl", "3.11", "aarch64", False),
        ("protobuf-7.36.2-cp310-abi3-manylinux2014_x86_64.whl", "3.13", "x86_64", True),
        ("protobuf-7.36.2-cp310-abi3-manylinux2014_x86_64.whl", "3.9", "x86_64", False),
        ("idna-3.20-py3-none-any.whl", "3.8", "aarch64", True),
        ("six-1.17.0-py2.py3-none-any.whl", "3.11", "x86_64", True),
        ("old-1.0-py2-none-any.whl", "3.11", "x86_64", False),
        ("uv-0.13.9-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "3.11", "x86_64", True),
        ("thing-1.0-cp311-cp311-macosx_11_0_x86_64.whl", "3.11", "x86_64", False),
        ("thing-1.0-1-cp39-none-any.whl", "3.9", "x86_64", True),
    ],
)
def test_what_a_node_can_use_is_told_by_a_wheels_name(name, python, machine, fits):
    assert Wheel.parse(Path(name)).fits(python, machine) is fits


def test_only_what_is_missing_is_sent(tmp_path):
    ray = make_wheel(tmp_path, "ray", "2.60.0")
    other = make_wheel(tmp_path, "other", "1.0", tag="cp35-cp35m-any")
    click = make_wheel(tmp_path, "click", "8.0")
    (tmp_path / "notes.txt").write_text("no wheel")
    wheels = wheels_in(str(tmp_path))
    assert {wheel.path for wheel in wheels} == {ray, other, click}
    there = {ray.name: ray.stat().st_size, click.name: 1}
    assert [wheel.path for wheel in missing(wheels, "3.11", "x86_64", there)] == [click]


def test_the_version_comes_from_the_settings_or_the_folder(tmp_path):
    assert NodeEnvironments().version() == TESTED
    for version in ("2.60.0", "2.59.1", "2.9.3"):
        make_wheel(tmp_path, "ray", version)
    wheels = str(tmp_path)
    assert NodeEnvironments(RaySettings(wheels=wheels)).version() == "2.60.0"
    assert NodeEnvironments(RaySettings(wheels=wheels, version="2.59.1")).version() == "2.59.1"
    with pytest.raises(PluginError, match="too old"):
        NodeEnvironments(RaySettings(wheels=wheels, version="2.9.3")).version()
    with pytest.raises(PluginError, match=r"ray\.version is 2\.61\.0, but .* holds Ray 2\.59\.1, 2\.60\.0, 2\.9\.3"):
        NodeEnvironments(RaySettings(wheels=wheels, version="2.61.0")).version()


def test_a_wheel_folder_that_is_none_is_refused_before_anything_is_made(tmp_path):
    settings = Settings.model_validate({"ray": {"wheels": str(tmp_path / "none")}})
    backend = RayBackend().with_settings(settings)
    with pytest.raises(InvalidInput, match="is not a folder"):
        backend.require(shares_host=False)
    make_wheel(tmp_path / "none", "click", "8.0")
    with pytest.raises(InvalidInput, match="no wheel of Ray") as caught:
        backend.require(shares_host=False)
    assert "pip download" in str(caught.value)
    backend.require(shares_host=True)


def test_nodes_with_different_pythons_are_refused():
    reports = [Report("absent", python=python) for python in ("3.11", "3.10", "3.11")]
    with pytest.raises(WrongState, match=r"3\.10 on rank 1; 3\.11 on rank 0, 2"):
        the_python("styx-x", reports)
    assert the_python("styx-x", reports[::2]) == "3.11"


class Member:
    """A node as far as installing goes: the zipapp's verb is called in this process."""

    key = "styx-x"

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(str(folder / "ray"))
        self.wheels = self.layout.wheels
        self.sent: list[str] = []
        self.ready = SimpleNamespace(transport=self)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_bytes(data)
        self.sent.append(Path(path).name)

    def ask(self, verb, *, wait_s, order):
        assert verb == "install"
        return install.install(self.layout, json.loads(json.dumps(order)))

    def report(self) -> Report:
        return Report.parse({"state": "absent", **install.facts(self.layout)})


def simply(action, items):
    return map(action, items)


def without_uv(monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name, path=None: None)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


@pytest.mark.parametrize("tool", ["uv", "pip"])
def test_wheels_are_sent_and_installed_once(tmp_path, tool, monkeypatch):
    if tool == "uv" and shutil.which("uv") is None:
        pytest.skip("needs uv")
    if tool == "pip":
        without_uv(monkeypatch)
    folder = tmp_path / "wheels"
    make_wheel(folder, "ray", "2.60.0")
    make_wheel(folder, "foreign", "1.0", tag="cp35-cp35m-win32")
    runtime = NodeEnvironments(RaySettings(wheels=str(folder)))
    members = [Member(tmp_path / str(rank)) for rank in range(2)]
    said: list[str] = []
    found = runtime.pythons(members, [each.report() for each in members], simply, said.append)
    assert said[0] == "installing Ray 2.60.0 on 2 nodes"
    assert said[1].startswith("installed Ray 2.60.0 on 2 nodes in ")
    assert said[1].endswith(f"by {tool}")
    for member, python in zip(members, found, strict=True):
        assert python.startswith(str(tmp_path))
        code = "import ray; print(ray.__version__)"
        assert subprocess.run([python, "-s", "-c", code], capture_output=True, text=True).stdout == "2.60.0\n"
        assert member.sent == ["ray-2.60.0-py3-none-any.whl"]
        assert not os.path.exists(member.wheels)
    again = runtime.pythons(members, [each.report() for each in members], simply, said.append)
    assert (again, len(said)) == (found, 2)


def test_an_interrupted_installation_is_made_anew(tmp_path, monkeypatch):
    without_uv(monkeypatch)
    folder = tmp_path / "wheels"
    make_wheel(folder, "ray", "2.60.0")
    layout = Layout(str(tmp_path / "agent" / "ray"))
    half = Path(layout.environments) / f"2.60.0-py{PYTHON}"
    (half / "bin").mkdir(parents=True)
    (half / "bin" / "python").write_text("half")
    assert install.environments(layout) == {}
    made = install.install(layout, {"ray": "2.60.0", "find_links": [str(folder)]})
    assert install.environments(layout) == {"2.60.0": made["interpreter"]}


def test_what_the_installer_said_is_told_and_an_index_with_a_password_is_not(tmp_path, monkeypatch):
    without_uv(monkeypatch)
    layout = Layout(str(tmp_path / "agent" / "ray"))
    with pytest.raises(NodeFailure, match=rf"ray==2\.60\.0 cannot be installed for Python {PYTHON}: .*ray"):
        install.install(layout, {"ray": "2.60.0", "find_links": [str(tmp_path)]})
    url = "http://user:canary@127.0.0.1:1/simple"
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(NodeFailure) as caught:
        install.install(layout, {"ray": "2.60.0", "index": url})
    assert "canary" not in str(caught.value)
    log = Path(layout.environments, "install.log").read_text()
    assert f"{install.interpreter('')}"[-6:] in log
    assert "canary" not in "\n".join(line for line in log.splitlines() if line.startswith("$ "))


def test_uv_and_pip_are_found_among_the_wheels(tmp_path, monkeypatch):
    without_uv(monkeypatch)
    folder = tmp_path / "wheels"
    script = "#!/bin/sh\necho uv 9.9\n"
    make_wheel(folder, "uv", "9.9", {"uv-9.9.data/scripts/uv": script})
    layout = Layout(str(tmp_path / "agent" / "ray"))
    os.makedirs(layout.environments)
    installer = install.Installer(layout, {"ray": "2.60.0", "find_links": [str(folder)]}, str(tmp_path / "env"))
    found = installer.find_uv()
    assert found is not None
    assert subprocess.run([found], capture_output=True, text=True).stdout == "uv 9.9\n"
    assert installer.sources() == ["--find-links", str(folder), "--no-index"]
    assert install.Installer(layout, {"ray": "2.60.0", "index": "http://x"}, "").sources() == []


FAKE_UV = """#!/bin/sh
[ "$1" = --version ] && exit 0
echo "$*" >> {notes}/argv
env >> {notes}/environment
[ "$1" = venv ] && exit 0
{then}
"""


def with_fake_uv(tmp_path, monkeypatch, then):
    """A `uv` that notes how it was called, and then does something."""
    (tmp_path / "bin").mkdir()
    uv = tmp_path / "bin" / "uv"
    uv.write_text(FAKE_UV.format(notes=tmp_path, then=then))
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


PAGE = "https://user:canary@wheels.example.org/a,b/"


def test_a_page_of_wheels_with_a_password_is_no_argument(tmp_path, monkeypatch):
    with_fake_uv(tmp_path, monkeypatch, f"echo 'error: no ray at {PAGE} (user, canary)'; exit 1")
    layout = Layout(str(tmp_path / "agent" / "ray"))
    with pytest.raises(NodeFailure, match="no ray at the index") as caught:
        install.install(layout, {"ray": "2.60.0", "find_links": [str(tmp_path), PAGE]})
    assert "canary" not in str(caught.value)
    argv = (tmp_path / "argv").read_text()
    assert f"--find-links {tmp_path} --no-index ray==2.60.0" in argv
    assert "canary" not in argv
    assert "UV_FIND_LINKS=https://user:canary@wheels.example.org/a%2Cb/" in (tmp_path / "environment").read_text()


def test_pip_gets_a_page_with_a_password_by_its_environment(tmp_path, monkeypatch):
    without_uv(monkeypatch)
    seen = []

    def wait(self, argv, env, log):
        seen.append((argv, env))
        return 0

    monkeypatch.setattr(install.Installer, "wait", wait)
    layout = Layout(str(tmp_path / "agent" / "ray"))
    os.makedirs(layout.environments)
    install.Installer(layout, {"ray": "2.60.0", "find_links": [PAGE, "http://b/"]}, str(tmp_path / "env")).run()
    (_, (argv, env)) = seen
    assert argv[-2:] == ["--no-index", "ray==2.60.0"]
    assert not any("canary" in word for word in argv)
    assert env["PIP_FIND_LINKS"] == f"{PAGE} http://b/"


def test_an_installer_that_hangs_is_ended_with_its_children(tmp_path, monkeypatch):
    with_fake_uv(tmp_path, monkeypatch, f"sleep 300 & echo $! > {tmp_path}/child; echo fetching ray; wait")
    layout = Layout(str(tmp_path / "agent" / "ray"))
    with pytest.raises(NodeFailure, match="it took too long, and was ended: fetching ray"):
        install.install(layout, {"ray": "2.60.0", "within_s": 3.0})
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    deadline = time.monotonic() + 20
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_failed_installation_points_to_the_ways_without_an_index(tmp_path, monkeypatch):
    class Failing(Member):
        def ask(self, verb, *, wait_s, order):
            assert 0 < order["within_s"] < wait_s
            raise Unreachable("no route to any index")

    member = Failing(tmp_path)
    with pytest.raises(Unreachable, match="no route") as caught:
        NodeEnvironments(RaySettings()).pythons([member], [member.report()], simply, lambda _: None)
    for words in ("ray.wheels", "ray.find_links", "nodes-without-internet"):
        assert words in caught.value.hint
