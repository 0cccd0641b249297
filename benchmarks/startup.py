"""CPU time of short commands, as multiples of importing Typer and pydantic, in one run.

When the incumbent (`skypilot`) can be found, its `sky --help` and `sky status` are measured in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from measure import BASELINE, ROOT, STYX, Subject, interleave, machine, private_home, run, table

GOALS = {"styx --help": ("sky --help", 10), "styx status": ("sky status", 7)}


def find_sky(asked: str | None) -> list[str] | None:
    """How to run the incumbent: with the interpreter asked for, this one, or from PATH; None when there is none."""
    for python in [asked] if asked else [sys.executable]:
        found = subprocess.run([python, "-c", "import sky"], capture_output=True, check=False).returncode == 0
        script = Path(python).with_name("sky")
        if found and script.exists():
            return [str(script)]
        if asked:
            raise SystemExit(f"--sky-python {asked}: `import sky` fails there, or there is no `sky` beside it")
    on_path = shutil.which("sky")
    return [on_path] if on_path else None


@contextmanager
def sky_server(sky: Sequence[str] | None, env: Mapping[str, str]) -> Iterator[None]:
    """The incumbent's `status` talks to a server of its own: started before, so that its start is not counted."""
    if sky is None:
        yield
        return
    run([*sky, "api", "start"], env)
    try:
        yield
    finally:
        run([*sky, "api", "stop"], env)


def main() -> None:
    """Measure, print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="measured runs of each command")
    parser.add_argument("--sky-python", metavar="PATH", help="an interpreter that has the incumbent installed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    sky, setting = find_sky(options.sky_python), machine()
    with private_home() as env:
        env["SKYPILOT_DISABLE_USAGE_COLLECTION"] = "1"
        run((*STYX, "launch", "--cluster", "bench", str(ROOT / "examples" / "hello.yaml")), env)
        subjects = [
            Subject("baseline", BASELINE, env),
            Subject("import styx", (sys.executable, "-c", "import styx"), env),
            Subject("styx --version", (*STYX, "--version"), env),
            Subject("styx --help", (*STYX, "--help"), env),
            Subject("styx status", (*STYX, "status"), env),
            Subject("styx queue", (*STYX, "queue", "bench"), env),
            Subject("styx logs", (*STYX, "logs", "bench", "1"), env),
            Subject("styx exec", (*STYX, "exec", "bench", "true"), env),
            Subject("styx optimize", (*STYX, "optimize", str(ROOT / "examples" / "hello.yaml")), env),
        ]
        if sky is not None:
            subjects += [Subject("sky --help", (*sky, "--help"), env), Subject("sky status", (*sky, "status"), env)]
        with sky_server(sky, env):
            interleave(subjects, options.rounds)
    report(subjects, setting, as_json=options.json)


def report(subjects: Sequence[Subject], setting: str, *, as_json: bool) -> None:
    """Medians, multiples of the baseline, and how many times less than the incumbent."""
    by_name = {subject.name: subject for subject in subjects}
    base = by_name["baseline"].cpu_s
    figures = [
        {"command": name, "cpu_s": subject.cpu_s, "wall_s": subject.wall_s, "multiple": subject.cpu_s / base}
        for name, subject in by_name.items()
    ]
    goals = [
        {
            "command": ours,
            "against": theirs,
            "times_less_cpu": by_name[theirs].cpu_s / by_name[ours].cpu_s,
            "goal": goal,
        }
        for ours, (theirs, goal) in GOALS.items()
        if theirs in by_name
    ]
    if as_json:
        print(json.dumps({"machine": setting, "rounds": len(subjects[0].runs), "figures": figures, "goals": goals}))
        return
    print(f"{setting}; median of {len(subjects[0].runs)} rounds; CPU time is user + system; baseline: {BASELINE[-1]}\n")
    rows = [
        (str(row["command"]), f"{row['cpu_s']:.3f}", f"{row['wall_s']:.3f}", f"{row['multiple']:.2f}")
        for row in figures
    ]
    print(table(("command", "CPU s", "wall s", "x baseline"), rows))
    for goal in goals:
        print(f"\n{goal['command']}: {goal['times_less_cpu']:.1f} times less CPU than {goal['against']}", end="")
        print(f" (goal: {goal['goal']})", end="")
    print(
        "" if goals else "\nThe incumbent is not installed here: `--sky-python PATH` names an interpreter that has it."
    )


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
