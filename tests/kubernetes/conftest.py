"""One cluster for the tests of a process: a real one where `$KUBE_BIN_DIR` has been built, else the double."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from styx.api import LaunchOptions
from styx.api.inprocess import InProcess
from styx.models import Task
from tests.kubernetes.cluster import PYTHON_IMAGE, RealKube, available
from tests.simcloud.kube import TOKEN, Kube

REAL = available(os.environ.get("KUBE_BIN_DIR"))
SETTINGS: dict[str, Any] = {
    "image": PYTHON_IMAGE,
    "schedule_timeout_s": 4,
    "pod_config": {"spec": {"containers": [{"name": "node", "imagePullPolicy": "Never"}]}},
}
"""`clouds.kubernetes` of the tests' config."""


@pytest.fixture(scope="session")
def kube() -> Iterator[Any]:
    if REAL:
        with RealKube(Path(os.environ["KUBE_BIN_DIR"])) as cluster:
            yield cluster
    else:
        with Kube() as cluster:
            yield cluster
            assert not cluster.document, cluster.document[:3]


class Engine:
    """Styx in this process, with a home and a kubeconfig of its own: a command of its own costs a second of CPU."""

    def __init__(self, home: Path) -> None:
        self.home, self.kubeconfig = home, home.parent / "kubeconfig"
        self.client: InProcess | None = None

    def configure(self, kubeconfig: dict[str, Any], *, ray: dict[str, str] | None = None, **settings: Any) -> Any:
        """Write both files and ask the cloud who we are."""
        self.close()
        self.home.mkdir(parents=True, exist_ok=True)
        self.kubeconfig.write_text(json.dumps(kubeconfig))
        config = {"clouds": {"kubernetes": {**SETTINGS, **settings}}, "ray": ray or {}}
        (self.home / "config.yaml").write_text(json.dumps(config))
        self.client = InProcess.open(home=self.home, cwd=self.home.parent, environ=self.environ)
        return self.client.check(["kubernetes"])[0]

    @property
    def environ(self) -> dict[str, str]:
        return {**os.environ, "STYX_HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig), "NO_COLOR": "1"}

    def launch(self, run: str = "echo ran", *, cluster: str = "one", **fields: Any) -> int:
        """Launch a task for one small pod; returns the job."""
        resources = {"infra": "k8s", "cpus": 0.5, "memory": 0.5, **fields.pop("resources", {})}
        task = Task.from_dict({"resources": resources, "run": run, **fields})
        return self.client.launch(task, LaunchOptions(cluster=cluster)).job_id

    def output(self, job_id: int, cluster: str = "one") -> bytes:
        return b"".join(line.data for line in self.client.tail(cluster, job_id))

    def state(self, cluster: str = "one") -> Any:
        return next(each for each in self.client.status([cluster], refresh=True) if each.name == cluster)

    def close(self) -> None:
        if self.client is not None:
            self.client.close()


@pytest.fixture
def engine(kube: Any, tmp_path: Path) -> Iterator[Engine]:
    """One enabled context, `main`; its namespace must be empty before and after."""
    assert kube.names() == []
    made = Engine(tmp_path / "styx-home")
    assert made.configure(kube.config({"main": TOKEN})).ok
    yield made
    made.client.down(["*"])
    made.close()
    assert kube.names() == [], "objects are left"
