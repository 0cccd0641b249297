"""Runs one operation of the engine and dies by SIGKILL at one observed moment. Started as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from styx.api import LaunchOptions
from styx.api.inprocess import InProcess
from styx.models import Task

NAME = "victim"


def main() -> None:
    """`child.py HOME VERB MOMENT`: MOMENT is the number of the observation to die at, or -1 to live."""
    home, verb, moment = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    seen: list[str] = []

    def observe(name: str) -> None:
        if name.startswith("commit:") and name.endswith(":before"):
            return  # the same state as after the commit, or the driver call, before it
        seen.append(name)
        if len(seen) - 1 == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    client = InProcess.open(home=home, cwd=home.parent, observe=observe)
    if verb == "launch":
        task = Task.from_dict(
            {
                "workdir": str(home.parent / "work"),
                "setup": "echo set up",
                "run": "cat data.txt; sleep 300",
                "resources": {"infra": os.environ.get("CHAOS_INFRA", "local")},
            }
        )
        client.launch(task, LaunchOptions(cluster=NAME))
    else:
        getattr(client, verb)([NAME])
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
