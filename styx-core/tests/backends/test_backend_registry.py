import subprocess
import sys

import pytest

from styx.backends.base import Backend
from styx.backends.process import ProcessBackend
from styx.backends.ray.backend import RayBackend
from styx.backends.ray.runtime import OLDEST, OwnRuntime, numbers
from styx.backends.registry import NAMES, builtin
from styx.errors import NotFound, PluginError


def test_built_in_names_resolve_to_backends_of_that_name():
    assert NAMES == ("process", "ray")
    for name in NAMES:
        backend = builtin(name)
        assert isinstance(backend, Backend)
        assert backend.name == name


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(NotFound, match="'slurm'") as caught:
        builtin("slurm")
    assert "process, ray" in str(caught.value.hint)


def test_the_process_backend_needs_and_makes_nothing(tmp_path):
    backend = ProcessBackend()
    backend.require(shares_host=True)
    assert backend.prepare("key", (), tmp_path, print) is None
    backend.teardown("key", ())
    assert list(tmp_path.iterdir()) == []


def test_asking_for_the_ray_backend_imports_no_ray():
    code = (
        "import sys; from styx.backends.registry import builtin; backend = builtin('ray')\n"
        "try:\n    backend.require(shares_host=True)\n"
        "except Exception as error:\n    assert type(error).__name__ == 'PluginError'\n"
        "assert not [name for name in sys.modules if name == 'ray' or name.startswith('ray.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_ray_the_install_command_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # how Python marks a module that cannot be imported
    with pytest.raises(PluginError, match="not installed") as caught:
        RayBackend().require(shares_host=True)
    assert "uv sync --extra ray" in str(caught.value.hint)
    assert "styx-core[ray]" in str(caught.value.hint)


def test_a_ray_without_tokens_is_too_old(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", sys)  # found, whatever it is
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.40.0")
    with pytest.raises(PluginError, match=r"Ray 2\.40\.0 is too old: 2\.52 or newer"):
        OwnRuntime().version()


def test_versions_are_compared_by_their_numbers():
    assert numbers("2.100.1rc1") > numbers("2.60.0") > OLDEST > numbers("2.9.3")
    assert numbers("nightly") == ()
