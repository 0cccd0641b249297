from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
