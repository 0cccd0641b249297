from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from styx.api import connect
from styx.api.inprocess import InProcess
from styx.testing.processes import marked
from tests.enginebench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    assert [each.ok for each in bench.client.check(["fake"])] == [True]
    yield bench
    bench.cloud.relent()
    for view in bench.client.status():
        bench.client.down([view.name])
    bench.client.close()
    assert bench.alive() == []
    left = marked("STYX_HOME", str(bench.home))
    assert {pid: Path(f"/proc/{pid}/cmdline").read_text() for pid in left} == {}
    assert [thing for thing in bench.cloud.things() if thing.kind in ("address", "group")] == []


@pytest.fixture
def private_clouds(tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], InProcess]]:
    """Makes a client whose clouds are private drivers, given as code by their names; all are enabled."""
    with ExitStack() as stack:

        def make(drivers: Mapping[str, str]) -> InProcess:
            (tmp_path / "drivers").mkdir()
            for name, code in drivers.items():
                (tmp_path / "drivers" / f"{name}.py").write_text(code)
                stack.callback(sys.modules.pop, f"styx_private_drivers.{name}", None)
            made = connect(home=tmp_path, environ={"HOME": str(tmp_path)})
            stack.callback(made.close)
            assert [view.ok for view in made.check(list(drivers))] == [True] * len(drivers)
            return made

        yield make
