"""What runs on the nodes as one file: the package `onnode` as a zipapp, named after its contents."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from styx.transport.agentfile import zip_sources

PACKAGE = "styx_ray_node"
_MAIN = f"from {PACKAGE}.main import main\n\nraise SystemExit(main())\n"


@dataclass(frozen=True)
class Bundle:
    """The sources, and the name that follows from them: equal names mean equal programs."""

    name: str
    contents: tuple[tuple[str, bytes], ...]

    def build(self) -> bytes:
        """The zipapp; the same bytes for the same sources."""
        return zip_sources(list(self.contents))


def bundle() -> Bundle:
    """Read the sources; a dozen small files, so nothing is cached."""
    root = Path(__file__).with_name("onnode")
    contents = [(f"{PACKAGE}/{path.name}", path.read_bytes()) for path in sorted(root.glob("*.py"))]
    contents.append(("__main__.py", _MAIN.encode("ascii")))
    digest = hashlib.sha256()
    for name, data in contents:
        digest.update(f"{name} {len(data)}\n".encode())
        digest.update(data)
    return Bundle(f"styx-ray-{digest.hexdigest()[:12]}.pyz", tuple(contents))
