"""A folder with the wheels of Ray for the Python of this machine's system, which test hosts have, filled once."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock

from styx.backends.ray.runtime import TESTED

SYSTEM_PYTHON = "/usr/bin/python3"


def ray_wheels() -> Path:
    """The folder; downloaded the first time, by pip as it is configured here, into this user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "styx-tests"
    base.mkdir(parents=True, exist_ok=True)
    asked = [SYSTEM_PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    folder = base / f"ray-{TESTED}-py{version}"
    with FileLock(base / "ray-wheels.lock", timeout=600):
        if not folder.is_dir():
            _download(folder)
    return folder


def _download(folder: Path) -> None:
    partial = Path(tempfile.mkdtemp(prefix=".filling-", dir=folder.parent))
    try:
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", str(partial / "env")], check=True, capture_output=True)
        wanted = ["--only-binary", ":all:", "--dest", str(partial / "wheels"), f"ray=={TESTED}", "uv"]
        pip = [str(partial / "env" / "bin" / "python"), "-m", "pip", "download", "--quiet", *wanted]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (partial / "wheels").rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
