"""Gives this node a private virtual environment with Ray, made by uv or by pip. Runs under the node's own Python.

The environments lie beside `root`, so that a stopped cluster finds its own again when it is started.
"""

from __future__ import annotations

import fcntl
import glob
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from typing import IO, Any, Dict, List, Optional
from urllib.parse import urlsplit

from .layout import Layout, NodeFailure, read_json, write_json

DONE = "styx.json"
"""Written into an environment once it is whole."""
_UV_FOLDERS = ("~/.local/bin", "~/.cargo/bin", "/usr/local/bin", "/opt/homebrew/bin")
_SAID_BYTES = 600
_WITHIN_S = 540.0


def facts(layout: Layout) -> Dict[str, Any]:
    """What the client must know of this node: its Python, its machine, the environments and wheels that are there."""
    return {
        "python": python_version(),
        "machine": platform.machine(),
        "environments": environments(layout),
        "wheels": {os.path.basename(path): os.path.getsize(path) for path in glob.glob(layout.wheels + "/*.whl")},
    }


def python_version() -> str:
    """Major and minor version: all nodes of a Ray cluster must have the same."""
    return "%d.%d" % sys.version_info[:2]


def environments(layout: Layout) -> Dict[str, str]:
    """The interpreters of whole environments for this Python, by Ray's version."""
    found = {}
    for marker in glob.glob(os.path.join(layout.environments, "*", DONE)):
        said = read_json(marker)
        python = interpreter(os.path.dirname(marker))
        if said.get("python") == python_version() and os.path.exists(python):
            found[str(said.get("ray"))] = python
    return found


def interpreter(folder: str) -> str:
    """The Python of an environment."""
    return os.path.join(folder, "bin", "python")


def install(layout: Layout, order: Dict[str, Any]) -> Dict[str, Any]:
    """Have an environment with `order["ray"]`; one that is there is taken as it is.

    Args:
        layout: This node's.
        order: `ray` (a version), `find_links` (folders or pages with wheels), `index` (a URL, or None), `uploaded`
            (whether wheels were put into `layout.wheels`), `within_s` (seconds that all steps together may take).

    Raises:
        NodeFailure: It cannot be made; with the last line that the installer said.
    """
    os.makedirs(layout.environments, mode=0o700, exist_ok=True)
    with open(os.path.join(layout.environments, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        version = str(order["ray"])
        there = environments(layout).get(version)
        if there:
            return {"interpreter": there, "by": None, "seconds": 0.0}
        began = time.monotonic()
        folder = os.path.join(layout.environments, "%s-py%s" % (version, python_version()))
        shutil.rmtree(folder, ignore_errors=True)
        by = Installer(layout, order, folder).run()
        write_json(os.path.join(folder, DONE), {"ray": version, "python": python_version(), "by": by})
        shutil.rmtree(layout.wheels, ignore_errors=True)  # they are installed
        return {"interpreter": interpreter(folder), "by": by, "seconds": round(time.monotonic() - began, 2)}


class Installer:
    """One attempt to fill `folder`."""

    def __init__(self, layout: Layout, order: Dict[str, Any], folder: str) -> None:
        self.layout, self.folder = layout, folder
        self.ray, self.index = "ray==%s" % order["ray"], order.get("index")
        self.links = [os.path.expanduser(link) for link in order.get("find_links") or ()]
        if order.get("uploaded"):
            self.links.append(layout.wheels)
        self.deadline = time.monotonic() + float(order.get("within_s") or _WITHIN_S)
        self.log = os.path.join(layout.environments, "install.log")
        self.cache = os.path.join(layout.environments, "cache")

    def run(self) -> str:
        """Make the environment; says by which tool."""
        open(self.log, "wb").close()
        try:
            uv = self.find_uv()
            if uv is not None:
                self.by_uv(uv)
                return "uv"
            self.by_pip()
            return "pip"
        finally:
            shutil.rmtree(self.cache, ignore_errors=True)

    def by_uv(self, uv: str) -> None:
        """Faster by far."""
        env = {"UV_PYTHON_DOWNLOADS": "never", "UV_CACHE_DIR": self.cache, "UV_NO_PROGRESS": "1"}
        if self.index:
            env["UV_DEFAULT_INDEX"] = self.index
        if self.pages():
            env["UV_FIND_LINKS"] = ",".join(page.replace(",", "%2C") for page in self.pages())
        self.call([uv, "venv", "--quiet", "--no-project", "--python", sys.executable, self.folder], env)
        self.call(
            [uv, "pip", "install", "--quiet", "--python", interpreter(self.folder), *self.sources(), self.ray], env
        )

    def by_pip(self) -> None:
        """What every Python brings, but for Debian's, which has it in a package of its own."""
        pip = ["-m", "pip"]
        wheel = self.wheel("pip")
        if wheel is not None:
            pip = [wheel + "/pip"]
            self.call([sys.executable, "-m", "venv", "--without-pip", self.folder], {})
        else:
            try:
                self.call([sys.executable, "-m", "venv", self.folder], {})
            except NodeFailure:
                raise NodeFailure(
                    "there is neither uv nor a working `%s -m venv` (Debian: the package python3-venv)" % sys.executable
                ) from None
        env = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PIP_NO_CACHE_DIR": "1"}
        if self.index:
            env["PIP_INDEX_URL"] = self.index
        if self.pages():
            env["PIP_FIND_LINKS"] = " ".join(page.replace(" ", "%20") for page in self.pages())
        command = [interpreter(self.folder), *pip, "install", "--quiet", "--only-binary", ":all:", *self.sources()]
        self.call([*command, self.ray], env)

    def sources(self) -> List[str]:
        """Where packages come from. What may hold a password, an index or a page, is an environment variable."""
        folders = [link for link in self.links if "://" not in link]
        links = [word for link in folders for word in ("--find-links", link)]
        return [*links, "--no-index"] if self.links and not self.index else links

    def pages(self) -> List[str]:
        """The links that are addresses."""
        return [link for link in self.links if "://" in link]

    def find_uv(self) -> Optional[str]:
        """Uv as it is installed, or from a wheel that was given with the others."""
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(os.path.expanduser, _UV_FOLDERS)])
        found = shutil.which("uv", path=path)
        if found and works(found):
            return found
        wheel = self.wheel("uv")
        if wheel is None:
            return None
        target = os.path.join(self.layout.environments, "uv")
        with zipfile.ZipFile(wheel) as archive:
            inside = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
            if not inside:
                return None
            with archive.open(inside[0]) as source, open(target, "wb") as out:
                shutil.copyfileobj(source, out)
        os.chmod(target, 0o700)
        return target if works(target) else None

    def wheel(self, name: str) -> Optional[str]:
        """A wheel of a tool among the given ones, that fits this machine."""
        for folder in self.links:
            for path in sorted(glob.glob(os.path.join(folder, name + "-[0-9]*.whl")), reverse=True):
                if path.endswith(("-any.whl", platform.machine() + ".whl")):
                    return path
        return None

    def call(self, argv: List[str], env: Dict[str, str]) -> None:
        """Run a step; its output is kept in the log.

        Raises:
            NodeFailure: It failed.
        """
        with open(self.log, "ab") as log:
            log.write(("$ %s\n" % " ".join(argv)).encode("utf-8", "surrogateescape"))
            log.flush()
            code = self.wait(argv, environment(env), log)
        if code != 0:
            said = last_words(self.log, [self.index or "", *self.pages()])
            what = "it took too long, and was ended: %s" % said if code is None else said
            raise NodeFailure("%s cannot be installed for Python %s: %s" % (self.ray, python_version(), what))

    def wait(self, argv: List[str], env: Dict[str, str], log: IO[bytes]) -> Optional[int]:
        """The exit code of a command; None when the time for all steps was over, and it was ended with its children."""
        running = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return running.wait(max(0.1, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()


def environment(more: Dict[str, str]) -> Dict[str, str]:
    """What an installer sees: this process's variables, but for those that would lead it to another Python."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    kept.setdefault("PATH", os.defpath)
    kept.setdefault("HOME", os.path.expanduser("~"))
    return {**kept, **more}


def works(program: str) -> bool:
    """Whether a program of another system, or a stub, is not what was found."""
    try:
        done = subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        return done.returncode == 0
    except OSError:
        return False


def last_words(log: str, addresses: List[str]) -> str:
    """The lines at the end of a log that say why, as one; never an index or page, which may hold a password."""
    with open(log, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in stream if line.strip() and not line.startswith("$ ")]
    telling: List[str] = lines[-6:]
    errors = [line for line in telling if "rror" in line or "No " in line or "because" in line]
    again = [line for line in errors if line.startswith("WARNING: Retrying")]  # the same each time, and long
    errors = again[-1:] + [line for line in errors if line not in again]
    text = " ".join(errors or telling) or "the installer said nothing"
    for address in filter(None, addresses):
        text = text.replace(address, "the index")
        password = urlsplit(address).password
        text = text.replace(password, "****") if password else text
    return text[-_SAID_BYTES:]
