"""Times the catalog on generated rows: `python benchmarks/catalog.py [--rows N] [--runs N]`.

Makes the files of `catalog_gen` in a temporary folder, refreshes from them, and asks for offers over all clouds: first
in a fresh process (Polars is loaded, files are read), then again in the same one. Prints medians and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ASK = ("A100:8", "cpus 4+, memory 16+", "anything", "80GB+:4 spot")


def opened(home: Path) -> Any:
    """The catalog of a home."""
    from styx.catalog.query import Catalog
    from styx.plugins import Hub

    hub = Hub(home, environ={}, store_id="bench0", user="bench", report=print)
    return Catalog(hub.folders, hub)


def places_of(catalog: Any) -> list[Any]:
    """Every region of every cloud that has rows."""
    from styx.catalog.cache import cached_clouds
    from styx.driver import Place

    clouds = cached_clouds(catalog.stock.folder)
    return [Place(cloud=cloud, account="bench", region=region) for cloud, region in catalog.regions(clouds)]


def wanted() -> dict[str, Any]:
    """What is asked for."""
    from styx.optimizer.problem import Requirement

    return dict(
        zip(
            ASK,
            (
                Requirement(label="a", accelerator_name="A100", accelerator_count=8),
                Requirement(label="b", vcpus=4, memory_gib=16),
                Requirement(label="c"),
                Requirement(label="d", accelerator_memory_gib=80, accelerator_count=4, use_spot=True),
            ),
            strict=True,
        )
    )


def seconds(action: Callable[[], Any]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def ask(home: Path, runs: int) -> None:
    """In a fresh process: one cold question, then warm ones; prints JSON."""
    began = time.perf_counter()
    catalog = opened(home)
    questions = wanted()
    places = places_of(catalog)
    catalog.candidates(questions[ASK[0]], places)
    figures = {"cold s (load Polars, read files, answer)": time.perf_counter() - began}
    for name, question in questions.items():
        catalog.candidates(question, places)
        warm = [seconds(partial(catalog.candidates, question, places)) for _ in range(runs)]
        figures[f"warm ms: {name}"] = statistics.median(warm) * 1000
    figures["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(figures))


def main() -> None:
    """Everything, in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=220_000)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ask is not None:
        ask(given.ask, given.runs)
        return
    sys.path.insert(0, str(Path(__file__).parent))
    from catalog_gen import generate

    with tempfile.TemporaryDirectory() as folder:
        hosted, home = Path(folder, "hosted"), Path(folder, "home")
        home.mkdir()
        made = generate(hosted, given.rows)
        print(
            f"{sum(made.values())} rows over {len(made)} clouds; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs"
        )
        code = (
            "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import catalog, polars\n"
            "from styx.catalog.refresh import refresh\n"
            "stock = catalog.opened(Path(sys.argv[2])).stock; began = time.perf_counter()\n"
            "done = refresh(stock, (), sys.argv[3]); took = time.perf_counter() - began\n"
            "assert all(each.ok for each in done); print(took, sum(each.rows for each in done))"
        )
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(home), str(hosted)]
        outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(5)]
        took = [float(each[0]) for each in outputs]
        print(f"refresh s (CSV to Parquet, {outputs[0][1]} offers): median {statistics.median(took):.2f}, {took}")
        command = [sys.executable, __file__, "--ask", str(home), "--runs", str(given.runs)]
        asked = [
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(5)
        ]
        for name in asked[0]:
            values = [each[name] for each in asked]
            print(f"{name}: median {statistics.median(values):.3g}, least {min(values):.3g}, most {max(values):.3g}")


if __name__ == "__main__":
    main()
