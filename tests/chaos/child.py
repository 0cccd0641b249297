"""Runs one operation of the engine and dies by SIGKILL at one observed moment. Started as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from styx.api import LaunchOptions
from styx.api.inprocess import InProcess
from styx.errors import StyxError
from styx.models import Task

NAME = "victim"


def hurry(client: InProcess, cloud: str, limits: dict[str, float]) -> None:
    """Shorten the driver's pauses in this process."""
    cls = client.world.hub.driver_class(cloud)
    if cls is not None and limits:
        cls.limits = cls.limits.model_copy(update=limits)


def task(work: Path, asked: dict[str, Any]) -> Task:
    """A job that is still running when the client is gone; two nodes have none, for it would need Ray on them."""
    job = {"setup": "echo set up", "run": "cat data.txt; sleep 300"} if asked["nodes"] == 1 else {}
    fields = {"workdir": str(work), "num_nodes": asked["nodes"], "resources": asked["resources"]}
    return Task.from_dict(fields | job)


def perform(client: InProcess, verb: str, work: Path, asked: dict[str, Any]) -> None:
    """One operation, to its end."""
    if verb == "launch":
        client.launch(task(work, asked), LaunchOptions(cluster=NAME))
    elif verb == "sweep":
        client.sweep(delete=True)
    else:
        getattr(client, verb)([NAME])


def main() -> None:
    """`child.py HOME VERB MOMENT`: MOMENT is the observation to die at, such as `driver:local.create:after#2`.

    Of equal ones the number counts; empty: it lives.

    Prints what it observed, and ends with the exit code of the operation's error.
    """
    home, verb, moment = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    asked = json.loads(os.environ["CHAOS"])
    seen: list[str] = []
    counts: Counter[str] = Counter()

    def observe(name: str) -> None:
        if name.startswith("commit:") and name.endswith(":before"):
            return  # the same state as after the commit, or the driver call, before it
        seen.append(f"{name}#{counts[name]}")
        counts[name] += 1
        if seen[-1] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    client = InProcess.open(home=home, cwd=home.parent, observe=observe)
    hurry(client, asked["cloud"], asked["limits"])
    code = 0
    try:
        perform(client, verb, home.parent / "work", asked)
    except StyxError as error:
        print(error.message, file=sys.stderr)
        code = error.exit_code
    print(json.dumps(seen), flush=True)
    os._exit(code)


if __name__ == "__main__":
    main()
