"""The driver keeps the contract, against a double whose every object is held against the published API document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.testing.conformance import DriverConformance
from styx_k8s import Kubernetes
from tests.simcloud.kube_harness import KubeHarness


class TestKubernetes(DriverConformance):
    driver_type = Kubernetes

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[KubeHarness]:
        harness = KubeHarness(tmp_path)
        yield harness
        harness.close()
