"""Write the newest version of every dependency, transitive ones too, into `[tool.uv]` of the root `pyproject.toml`.

`uv run` reads no constraints file and `uv.lock` is not committed (it names hosts), so the pins live there. They are
resolved from scratch in a scratch copy of the workspace's metadata: for all platforms and all supported Pythons.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
METADATA = ("pyproject.toml", "styx-*/pyproject.toml", "plugins/styx-*/pyproject.toml")
EXPORT = ("export", "--quiet", "--no-hashes", "--no-annotate", "--no-header", "--no-emit-workspace")
EVERYTHING = ("--all-packages", "--all-extras", "--all-groups")
COMPILE = ("pip", "compile", "--quiet", "--universal", "--no-annotate", "--no-header", "--python-version=3.11")
BUILD_BACKENDS = ("editables", "hatchling>=1.25")


def uv(*arguments: str, cwd: Path, stdin: str | None = None) -> list[str]:
    """Lines that `uv ARGUMENTS` prints, without the environment's own settings in the way."""
    env = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")}
    argv = ["uv", *arguments]
    done = subprocess.run(argv, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed:\n{done.stderr}")
    return [line.strip() for line in done.stdout.splitlines() if line.strip() and not line.startswith(("#", "-"))]


def with_pins(text: str, key: str, pins: list[str]) -> str:
    """`text` with the list `key` of `[tool.uv]` replaced."""
    body = "".join(f"    {literal(pin)},\n" for pin in pins)
    new = f"{key} = [\n{body}]\n" if pins else f"{key} = []\n"
    changed, count = re.subn(rf"^{key} = \[(?:\]|.*?^\])\n", lambda _: new, text, flags=re.MULTILINE | re.DOTALL)
    if count != 1:
        raise SystemExit(f"pyproject.toml: expected exactly one `{key} = [...]` in [tool.uv], found {count}")
    return changed


def literal(pin: str) -> str:
    """A TOML string for a requirement, whose markers use single quotes."""
    return '"' + re.sub(r"\s*;\s*", "; ", pin).replace("\\", "\\\\").replace('"', '\\"') + '"'


def resolve(scratch: Path) -> tuple[list[str], list[str]]:
    """Pins of the workspace and of its build backends, resolved without the present pins."""
    for pattern in METADATA:
        for source in ROOT.glob(pattern):
            target = scratch / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    project = scratch / "pyproject.toml"
    text = with_pins(project.read_text(), "constraint-dependencies", [])
    project.write_text(with_pins(text, "build-constraint-dependencies", []))
    uv("lock", "--quiet", "--upgrade", cwd=scratch)
    runtime = uv(*EXPORT, *EVERYTHING, cwd=scratch)
    build = uv(*COMPILE, "-", cwd=scratch, stdin="\n".join(BUILD_BACKENDS))
    return sorted(runtime, key=str.lower), sorted(build, key=str.lower)


def main() -> None:
    """Refresh both lists."""
    with tempfile.TemporaryDirectory() as folder:
        runtime, build = resolve(Path(folder))
    for pin in (*runtime, *build):
        if "==" not in pin or "://" in pin or " @ " in pin:
            raise SystemExit(f"not a plain pin: {pin}")
    project = ROOT / "pyproject.toml"
    text = with_pins(project.read_text(), "constraint-dependencies", runtime)
    project.write_text(with_pins(text, "build-constraint-dependencies", build))
    print(f"{len(runtime)} packages and {len(build)} build packages pinned")


if __name__ == "__main__":
    main()
