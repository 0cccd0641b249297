"""Wall time of a cold `styx launch` of hello and of a warm `styx exec`, from typing to exit code, split by step.

Both are given in seconds and as multiples of importing Typer and pydantic, measured in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from measure import BASELINE, ROOT, STYX, Cost, machine, private_home, run, table

GOALS_S = {"launch": 3.0, "exec": 1.0}
Splits = dict[str, list[float]]


def events(cluster: str, env: Mapping[str, str]) -> list[dict[str, Any]]:
    """The cluster's event log, as `styx why` tells it."""
    argv = [*STYX, "why", cluster, "--json"]
    told = json.loads(subprocess.run(argv, env=env, capture_output=True, check=True, cwd=ROOT).stdout)
    story = told[0] if isinstance(told, list) else told
    found: list[dict[str, Any]] = story["events"]
    return found


def steps(log: Sequence[Mapping[str, Any]], verb: str) -> dict[str, float]:
    """Seconds between start and end of each step of the newest operation of that verb."""
    operation = [event["operation"] for event in log if event["operation"].startswith(f"{verb}-")][-1]
    begun: dict[str, datetime] = {}
    took: dict[str, float] = defaultdict(float)
    for event in log:
        at = datetime.fromisoformat(event["at"])
        if event["operation"] != operation:
            continue
        if event["phase"] == "started":
            begun[event["step"]] = at
        elif event["phase"] in ("done", "failed") and event["step"] in begun:
            took[event["step"]] += (at - begun.pop(event["step"])).total_seconds()
    return took


def one_round(number: int, env: Mapping[str, str], costs: dict[str, list[Cost]], splits: dict[str, Splits]) -> None:
    """A new cluster, a job on it while it is warm, and its end."""
    name = f"bench{number}"
    commands = {
        "baseline": BASELINE,
        "launch": (*STYX, "launch", "--cluster", name, str(ROOT / "examples" / "hello.yaml")),
        "exec": (*STYX, "exec", name, "echo warm"),
    }
    for command, argv in commands.items():
        cost = run(argv, env)
        if number:
            costs[command].append(cost)
    log = events(name, env)
    for command in GOALS_S:
        for step, seconds in steps(log, command).items():
            if number:
                splits[command].setdefault(step, []).append(seconds)
    run((*STYX, "down", "--yes", name), env)


def main() -> None:
    """Measure, print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measured launches; one more warms the caches")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options, _ = parser.parse_known_args()
    costs: dict[str, list[Cost]] = defaultdict(list)
    splits: dict[str, Splits] = defaultdict(dict)
    setting = machine()
    with private_home() as env:
        for number in range(options.rounds + 1):
            one_round(number, env, costs, splits)
    report(costs, splits, setting, as_json=options.json)


def report(costs: Mapping[str, list[Cost]], splits: Mapping[str, Splits], setting: str, *, as_json: bool) -> None:
    """Medians of whole commands and of their steps."""
    base = statistics.median(cost.wall_s for cost in costs["baseline"])
    wall = {command: statistics.median(cost.wall_s for cost in runs) for command, runs in costs.items()}
    cpu = {command: statistics.median(cost.cpu_s for cost in runs) for command, runs in costs.items()}
    parts = {
        command: {step: statistics.median(seconds) for step, seconds in split.items()}
        for command, split in splits.items()
    }
    rounds = len(costs["baseline"])
    if as_json:
        figures = {"wall_s": wall, "cpu_s": cpu, "multiples": {name: value / base for name, value in wall.items()}}
        print(json.dumps({"machine": setting, "rounds": rounds, **figures, "steps_s": parts, "goals_s": GOALS_S}))
        return
    print(f"{setting}; median of {rounds} rounds; from typing to exit code; baseline: {BASELINE[-1]}\n")
    rows = [
        (name, f"{wall[name]:.2f}", f"{cpu[name]:.2f}", f"{wall[name] / base:.1f}", f"{GOALS_S.get(name, '')}")
        for name in wall
    ]
    print(table(("command", "wall s", "CPU s", "x baseline", "goal s"), rows))
    for command, split in parts.items():
        listed = [(step, f"{seconds:.3f}", f"{seconds / base:.2f}") for step, seconds in split.items()]
        rest = wall[command] - sum(split.values())
        listed.append(("start-up, log streaming, exit", f"{rest:.3f}", f"{rest / base:.2f}"))
        print(f"\n{table((f'step of {command}', 'wall s', 'x baseline'), listed)}")


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
