"""What a machine of a FakeCloud runs to end itself: `python -m styx.testing.fakecloud.selfend BOOKS ID stop|down`."""

from __future__ import annotations

import sys
from pathlib import Path

from styx.testing.fakecloud.cloud import FakeCloud


def main(argv: list[str]) -> int:
    """End the machine named on the command line."""
    if len(argv) != 3 or argv[2] not in {"stop", "down"}:
        sys.stderr.write("usage: python -m styx.testing.fakecloud.selfend BOOKS ID stop|down\n")
        return 2
    FakeCloud(path=Path(argv[0])).end_from_within(argv[1], "stop" if argv[2] == "stop" else "down")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
