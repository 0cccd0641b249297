"""A folder of wheels on this machine: what is in it, and what of it a node needs. Reads names only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from styx.errors import Fault, InvalidInput


@dataclass(frozen=True)
class Wheel:
    """One file of the folder, by its name (PEP 427)."""

    path: Path
    name: str
    version: str
    python: str
    platform: str

    @classmethod
    def parse(cls, path: Path) -> Wheel | None:
        """None for a file that is not named as a wheel."""
        parts = path.name.removesuffix(".whl").split("-")
        if path.suffix != ".whl" or len(parts) not in (5, 6):
            return None
        return cls(path, re.sub(r"[-_.]+", "_", parts[0]).lower(), parts[1], parts[-3], parts[-1])

    def fits(self, python: str, machine: str) -> bool:
        """Whether a Linux node with this Python (`3.11`) and machine (`x86_64`) can use it, by its name."""
        major, minor = (int(part) for part in python.split("."))
        if self.platform != "any" and not any(
            each.endswith(machine) and "linux" in each for each in self.platform.split(".")
        ):
            return False
        for tag in self.python.split("."):
            found = re.fullmatch(r"(py|cp)(\d)(\d*)", tag)
            if found is None or int(found[2]) != major:
                continue
            if not found[3] or int(found[3]) == minor or ("abi3" in self.path.name and int(found[3]) <= minor):
                return True
            if found[1] == "py" and int(found[3]) <= minor:
                return True
        return False


def wheels_in(folder: str) -> list[Wheel]:
    """The wheels of a folder.

    Raises:
        InvalidInput: It is no folder, or there is no Ray in it.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InvalidInput([Fault("is not a folder", field="ray.wheels", value=folder)])
    found = [wheel for each in sorted(path.iterdir()) if (wheel := Wheel.parse(each)) is not None]
    if not any(wheel.name == "ray" for wheel in found):
        raise InvalidInput(
            [
                Fault(
                    "holds no wheel of Ray",
                    field="ray.wheels",
                    value=folder,
                    suggestion=f"fill it with `pip download --only-binary :all: -d {path} ray uv`",
                )
            ]
        )
    return found


def missing(wheels: list[Wheel], python: str, machine: str, there: Mapping[str, int]) -> list[Wheel]:
    """What has to be sent to a node that has `there` (sizes by name) already."""
    wanted = [wheel for wheel in wheels if wheel.fits(python, machine)]
    return [wheel for wheel in wanted if there.get(wheel.path.name) != wheel.path.stat().st_size]
