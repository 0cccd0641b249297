"""Time of a plan over a catalog of 220,000 offers: one task, alternatives, processors only, chains, and graphs.

    python benchmarks/optimizer.py [--rows N] [--only NAME ...] [--sky-python PYTHON] [--json]

`catalog_gen.py` makes the catalog in the hosted layout. With `--sky-python`, an interpreter that has `skypilot`, the
same files are given to it, and the plans that it can make are timed side by side in the same run. A plan's time is that
of the whole call: offers from the catalog, candidates, model, solver, and the answer in words.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import catalog_gen
from measure import STYX, machine, table

from styx.api import OptimizeOptions, OptimizeResult
from styx.api.inprocess import InProcess
from styx.models import Task

GPUS = ("A100", "H100", "V100", "L4", "T4", "A10G", "L40S", "H200")
WANTS: tuple[dict[str, Any], ...] = (
    {"accelerators": "A100:8"},
    {"accelerators": "H100:8"},
    {"accelerators": "V100:4"},
    {"accelerators": {"L4": 1, "T4": 1}},
    {"cpus": "8+"},
    {"cpus": "32+", "memory": "128+"},
)
BOUNDED = ("graph of 20, 40 edges, 1-20 GB", "graph of 50, 100 edges, 1-20 GB")
"""Of these it is also asked what the incumbent can't be: a deadline, a budget, and the least time at the least cost."""
Edges = list[tuple[str, str, float]]


def task(name: str, **resources: Any) -> Task:
    return Task.from_dict({"name": name, "run": "true", "resources": resources})


def dag(count: int, edges: int, gb: tuple[float, float], seed: int = 7) -> tuple[list[Task], Edges]:
    """A random graph of that many tasks and edges, each task after some earlier one."""
    chance = random.Random(f"{count}:{edges}:{gb}:{seed}")
    tasks = [task(f"t{n}", **chance.choice(WANTS)) for n in range(count)]
    pairs = {(chance.randrange(max(0, n - 8), n), n) for n in range(1, count)}
    while len(pairs) < edges:
        first, second = sorted(chance.sample(range(count), 2))
        if second - first <= 12:
            pairs.add((first, second))
    return tasks, [(f"t{a}", f"t{b}", round(chance.uniform(*gb), 1)) for a, b in sorted(pairs)]


def cases() -> dict[str, tuple[list[Task], Edges]]:
    chain = [task(f"t{n}", **WANTS[n % len(WANTS)]) for n in range(20)]
    small = (1.0, 20.0)
    return {
        "one A100:8": ([task("t0", accelerators="A100:8")], []),
        "any of 8 accelerators": ([task("t0", accelerators=dict.fromkeys(GPUS, 1))], []),
        "processors only": ([task("t0", cpus="8+")], []),
        "chain of 20": (chain, [(f"t{n}", f"t{n + 1}", 5.0 + n) for n in range(19)]),
        **{f"graph of {n}, {2 * n} edges, 1-20 GB": dag(n, 2 * n if n > 10 else 15, small) for n in (10, 20, 50, 200)},
        "graph of 50, 100 edges, 1-500 GB": dag(50, 100, (1.0, 500.0)),
        "graph of 50, 100 edges, 100-500 GB": dag(50, 100, (100.0, 500.0)),
    }


def plan(
    client: InProcess, given: tuple[list[Task], Edges], clouds: Sequence[str], **bounds: Any
) -> tuple[float, OptimizeResult]:
    began = time.perf_counter()
    result = client.optimize(given[0], given[1], OptimizeOptions(assume_enabled=tuple(clouds), **bounds))
    return time.perf_counter() - began, result


def bounded(cheapest: OptimizeResult) -> dict[str, dict[str, Any]]:
    """What else can be asked of a graph whose cheapest plan is known."""
    return {
        "by time": {"minimize": "time"},
        "deadline of the cheapest": {"deadline_s": cheapest.seconds_total},
        "deadline that cannot be met": {"deadline_s": (cheapest.seconds_total or 0.0) / 2},
        "budget of the cheapest": {"budget_usd": cheapest.usd_total},
    }


def open_client(home: Path) -> InProcess:
    return InProcess.open(home=home, environ={"HOME": str(home)}, cwd=home, report=lambda _: None)


def refresh(home: Path, files: Path) -> dict[str, Any]:
    """Read the hosted files into the cache."""
    client = open_client(home)
    began = time.perf_counter()
    refreshed = client.catalog_refresh(source=str(files))
    seconds = time.perf_counter() - began
    clouds = [each.cloud for each in refreshed if each.ok]
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    regions = len(client.world.catalog().regions(clouds))
    offers = sum(each.rows for each in refreshed)
    return {"offers": offers, "clouds": clouds, "regions": regions, "seconds": seconds, "peak_mib": peak_mib}


def refresh_apart(home: Path, files: Path) -> dict[str, Any]:
    """In a process of its own, so that its memory is not counted with that of plans."""
    argv = [sys.executable, __file__, "--refresh", str(home), str(files)]
    found: dict[str, Any] = json.loads(subprocess.run(argv, capture_output=True, check=True, text=True).stdout)
    return found


def measure(home: Path, clouds: Sequence[str], only: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    client = open_client(home)
    found = []

    def look(name: str, given: tuple[list[Task], Edges], **bounds: Any) -> OptimizeResult:
        first_s, result = plan(client, given, clouds, **bounds)
        times = [plan(client, given, clouds, **bounds)[0] for _ in range(rounds if first_s < 2 else 1)]
        found.append(
            {
                "case": name,
                "first_s": first_s,
                "median_s": statistics.median(times),
                "status": result.status,
                "gap": result.gap,
                "usd_total": result.usd_total,
                "method": result.details.method,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
        return result

    for name, given in cases().items():
        if only and not any(part in name for part in only):
            continue
        result = look(name, given)
        if name in BOUNDED:
            for what, bounds in bounded(result).items():
                look(f"{name}, {what}", given, **bounds)
    client.close()
    return found


# ------------------------------------------------------------------------------------------------- the other planner

SKY = """
import copy, json, os, sys, time
given = json.load(sys.stdin)
stdout = os.dup(1)
os.dup2(2, 1)
import sky
from sky import check, optimizer
from sky.utils import common, registry
clouds = []
for name in given["clouds"]:
    try:
        clouds.append(registry.CLOUD_REGISTRY.from_str(name))
    except ValueError:
        pass
check.get_cached_enabled_clouds_or_refresh = lambda *args, **kwargs: list(clouds)
found = {}
for name, (tasks, edges) in given["cases"].items():
    times, error = [], None
    for _ in range(given["rounds"] + 1):
        try:
            with sky.Dag() as dag:
                made = {each["name"]: sky.Task.from_yaml_config(copy.deepcopy(each)) for each in tasks}
                for source, target, gb in edges:
                    made[source].set_outputs("s3://data", gb)
                    made[source] >> made[target]
            began = time.perf_counter()
            optimizer.Optimizer.optimize(dag, minimize=common.OptimizeTarget.COST, quiet=True)
        except BaseException as problem:
            error = f"{type(problem).__name__}: {problem}"
            break
        times.append(time.perf_counter() - began)
        best = [str(each.best_resources) for each in dag.tasks]
        if times[-1] > 60:
            break
    found[name] = {"times": times, "error": error, "best": best if times else None}
    print(name, found[name], file=sys.stderr)
os.write(stdout, json.dumps({"clouds": [str(each) for each in clouds], "cases": found}).encode())
"""
"""Runs in the incumbent's interpreter. On both sides all clouds count as enabled."""


def lend(files: Path, target: Path) -> None:
    """Copy the catalog to where the incumbent keeps its own, with the two small files that it would download.

    Some things that it takes for granted are put right first: machine types of Azure begin with `Standard_`, and one
    machine type has the same size everywhere, and the same price in all zones of a region.
    """
    for cloud in (files / "catalogs" / "v8").iterdir():
        (target / cloud.name).mkdir(parents=True)
        with (cloud / "vms.csv").open(encoding="utf-8", newline="") as source:
            reader = csv.DictReader(source)
            rows, columns = list(reader), list(reader.fieldnames or ())
        told: dict[str, dict[tuple[str, ...], str]] = {"Price": {}, "MemoryGiB": {}, "vCPUs": {}}
        rows.sort(key=lambda row: not row["Price"] or float(row["Price"]) <= 0)  # holes take their neighbours' price
        for row in rows:
            if cloud.name == "azure":
                row["InstanceType"] = f"Standard_N{row['InstanceType'].replace('-', '_')}"
            kind = row["InstanceType"] or row["AcceleratorName"] + row["AcceleratorCount"]
            for column, key in (("Price", (kind, row["Region"])), ("MemoryGiB", (kind,)), ("vCPUs", (kind,))):
                known = told[column].setdefault(key, row[column])
                row[column] = told[column][key] = known if known and float(known) > 0 else row[column]
        with (target / cloud.name / "vms.csv").open("w", encoding="utf-8", newline="") as copied:
            writer = csv.DictWriter(copied, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    (target / "common").mkdir()
    accelerators = "".join(f"{name},all\n" for name in catalog_gen.GPUS)
    (target / "common" / "accelerators.csv").write_text(f"AcceleratorName,Clouds\n{accelerators}")
    (target / "common" / "metadata.csv").write_text("GPU,MemoryGB,Manufacturer\n")


def measure_sky(
    python: str, files: Path, clouds: Sequence[str], only: Sequence[str], limit_s: float
) -> tuple[dict[str, Any], float | None]:
    """Plans of the incumbent over the same files, each case in a process of its own, and the wall time of a process
    that plans the first case once: what a command would take, its own imports and its reading of catalogs included."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        lend(files, Path(home) / ".sky" / "catalogs" / "v8")
        env = {
            **os.environ,
            "HOME": home,
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
            "SKYPILOT_SUPPRESS_SENSITIVE_LOG": "1",
        }

        def run(name: str, given: tuple[list[Task], Edges], rounds: int) -> dict[str, Any]:
            tasks, edges = given
            plain = [each.model_dump(mode="json", include={"name", "run", "resources"}, exclude_none=True)
                     for each in tasks]  # fmt: skip
            text = json.dumps({"cases": {name: (plain, edges)}, "clouds": list(clouds), "rounds": rounds})
            began = time.perf_counter()
            try:
                done = subprocess.run(
                    [python, "-c", SKY], input=text, env=env, capture_output=True, text=True, timeout=limit_s
                )
            except subprocess.TimeoutExpired:
                return {"error": f"more than {limit_s:.0f} s", "times": []}
            if done.returncode or not done.stdout:
                return {"error": f"it did not run: {done.stderr[-200:]}", "times": []}
            answer: dict[str, Any] = json.loads(done.stdout)
            case: dict[str, Any] = answer["cases"][name]
            return case | {"clouds": answer["clouds"], "wall_s": time.perf_counter() - began}

        wanted = {name: given for name, given in cases().items() if not only or any(part in name for part in only)}
        for name, given in wanted.items():
            found[name] = run(name, given, 1)
            print(f"incumbent: {name}: {found[name].get('times') or found[name].get('error')}", file=sys.stderr)
        first = next(iter(wanted))
        walls = [run(first, wanted[first], 0).get("wall_s") for _ in range(3)]
    known = [each for each in walls if each is not None]
    return found, statistics.median(known) if known else None


def cold(home: Path, clouds: Sequence[str]) -> float | None:
    """Wall time of a whole `styx optimize` process; None where the verb is not there."""
    file = home / "task.yaml"
    file.write_text("name: cold\nrun: 'true'\nresources: {accelerators: 'A100:8'}\n")
    argv = [*STYX, "optimize", str(file), "--assume-enabled", ",".join(clouds), "--json"]
    times = []
    for _ in range(4):
        began = time.perf_counter()
        done = subprocess.run(argv, env={**os.environ, "STYX_HOME": str(home)}, capture_output=True, timeout=300)
        if done.returncode:
            return None
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Measure, print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=220_000, help="offers in the catalog, at least")
    parser.add_argument("--rounds", type=int, default=5, help="plans of each case after the first")
    parser.add_argument("--only", nargs="*", default=(), help="parts of the names of cases")
    parser.add_argument("--sky-python", help="an interpreter with skypilot, to compare with")
    parser.add_argument("--sky-limit", type=float, default=300.0, metavar="S", help="seconds for each of its cases")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--refresh", nargs=2, metavar=("HOME", "FILES"), help="only read files into a home, and tell")
    options = parser.parse_args()
    if options.refresh:
        print(json.dumps(refresh(*map(Path, options.refresh))))
        return
    with tempfile.TemporaryDirectory() as folder:
        files, home = Path(folder) / "hosted", Path(folder) / "home"
        home.mkdir()
        counts = catalog_gen.generate(files, options.rows)
        loaded = refresh_apart(home, files)
        found = measure(home, loaded["clouds"], options.only, options.rounds)
        cold_s = cold(home, loaded["clouds"])
        sky: dict[str, Any] = {}
        sky_cold_s: float | None = None
        if options.sky_python:
            sky, sky_cold_s = measure_sky(options.sky_python, files, list(counts), options.only, options.sky_limit)
    for each in found:
        theirs = sky.get(each["case"], {})
        times = theirs.get("times", [])
        each["sky_s"] = min(times) if times else None
        each["sky_error"] = theirs.get("error")
    if options.json:
        told = {"machine": machine(), "refresh": loaded, "cold_s": cold_s, "sky_cold_s": sky_cold_s, "cases": found}
        print(json.dumps(told, indent=2))
        return
    print(
        f"{machine()}; {sum(counts.values())} rows in the files, {loaded['offers']} offers of "
        f"{len(loaded['clouds'])} clouds in {loaded['regions']} regions, read in {loaded['seconds']:.2f} s"
    )
    lines = [
        (
            each["case"], f"{each['first_s']:.3f}", f"{each['median_s']:.3f}", each["status"],
            "-" if each["gap"] is None else f"{each['gap']:.2%}", each["method"], f"{each['peak_mib']:.0f}",
            f"{each['sky_s']:.2f}" if each["sky_s"] else (each["sky_error"] or "-")[:40],
            f"{each['sky_s'] / each['median_s']:.0f}x" if each["sky_s"] else "-",
        )
        for each in found
    ]  # fmt: skip
    print(table(("case", "first s", "then s", "status", "gap", "by", "peak MiB", "incumbent s", "ratio"), lines))
    theirs = f"; of the incumbent's plan: {sky_cold_s:.2f} s" if sky_cold_s is not None else ""
    print(f"cold `styx optimize` process: {'the verb is not there' if cold_s is None else f'{cold_s:.2f} s'}{theirs}")
    print(f"peak memory: {loaded['peak_mib']:.0f} MiB in the refresh, {found[-1]['peak_mib']:.0f} MiB in the plans")


if __name__ == "__main__":
    main()
