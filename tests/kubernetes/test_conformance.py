"""The driver keeps the contract on a real control plane and kubelet. On the double: `plugins/styx-k8s/tests`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from styx.plugin import CloudError, OfferQuery, Place
from styx.testing.conformance import STORE, DriverConformance, Fault, FaultKind, Truth
from styx.testing.contexts import make_context
from styx_k8s import Kubernetes
from styx_k8s.config import K8sConfig, Pricing
from styx_k8s.faults import ERRORS, QUOTA
from tests.kubernetes.cluster import RealKube
from tests.kubernetes.conftest import REAL, SETTINGS
from tests.simcloud.kube import TOKEN
from tests.simcloud.kube_harness import KubeHarness

pytestmark = pytest.mark.timeout(600)
NUMBERS = itertools.count(1)


class RealHarness(KubeHarness):
    """A namespace of its own for each check, on the one node that there is."""

    error_table: Mapping[str, type[CloudError]] = {QUOTA: ERRORS[QUOTA]}
    """Other refusals of a sound request can't be had of a sound server."""
    unknown_code = None  # it has none
    page_size = None  # the driver asks for pages of 500
    impossible = frozenset({FaultKind.LOST_REPLY})  # only something between the two could swallow an answer

    def __init__(self, kube: RealKube, home: Path) -> None:
        self.kube, self.home = kube, home  # type: ignore[assignment]
        self.namespace = f"conform-{next(NUMBERS)}"
        kube.namespace(self.namespace)
        self.stopped, self._drivers = False, list[Kubernetes]()
        paths = {name: home / f"{name}-config-canary" for name in ("good", "wrong")}
        for name, token in (("good", TOKEN), ("wrong", "wrong-token-canary")):
            paths[name].write_text(json.dumps(kube.config({"real": token}, {"real": self.namespace})))
        self.credentials, self._bad = {"KUBECONFIG": str(paths["good"])}, str(paths["wrong"])

    def driver(self, *, store: str = STORE, secrets: Mapping[str, str] | None = None) -> Kubernetes:
        given = self.credentials if secrets is None else secrets
        config = K8sConfig(pricing=Pricing(cpu=0.04, memory=0.005), **SETTINGS)
        self._drivers.append(
            Kubernetes(make_context(self.home, config=config, store=store, secrets=given, clock=time.time))
        )
        return self._drivers[-1]

    def rows(self, driver: Any) -> Any:
        return list(driver.offers(OfferQuery(vcpus=0.05, memory_gib=0.125), 30.0))

    def machines(self) -> Sequence[Truth]:
        return [
            Truth(id=one["metadata"]["name"], labels=one["metadata"].get("labels"), ports=frozenset(self._ports(one)))
            for one in self.kube.all("pods", self.namespace)
        ]

    def plant_foreign(self, place: Place) -> Sequence[str]:
        near = {"styx/cluster": "styx-conform-else0101", "styx/rank": "0", "styx/store": f"{STORE}x"}
        self.kube.foreign("web-5f6d", self.namespace)
        self.kube.foreign("styx-conform-else0101-0", self.namespace, labels=near)
        return ["web-5f6d", "styx-conform-else0101-0"]

    def fail_next(self, fault: Fault) -> None:
        match fault.kind:
            case FaultKind.REFUSED | FaultKind.PARTIAL:
                self.kube.limit_pods(self.namespace, len(self.machines()) + fault.after)
            case FaultKind.LATE:  # the kubelet can't have the image
                driver = self._drivers[-1]
                config = driver.config.model_copy(update={"image": "localhost/missing:1"})
                driver.context = replace(driver.context, config=config)
            case FaultKind.LISTING:
                self.stopped = True
                self.kube.stop_api()

    def advance(self, seconds: float) -> None:
        time.sleep(min(seconds, 2.0))  # a pod that is deleted while it starts takes the kubelet half a minute

    def remains(self) -> Sequence[str]:
        kinds = ("services", "ingresses")
        return [one["metadata"]["name"] for kind in kinds for one in self.kube.all(kind, self.namespace)]

    def request_lines(self) -> Sequence[str]:
        return ()

    def close(self) -> None:
        """The namespace goes, and with it all that is in it."""
        if self.stopped:
            self.kube.start_api()
        self.kube.clear((self.namespace,))
        self.kube.call("DELETE", f"/api/v1/namespaces/{self.namespace}")


if REAL:

    class TestKubernetesForReal(DriverConformance):
        driver_type = Kubernetes

        @pytest.fixture
        def harness(self, kube: RealKube, tmp_path: Path) -> Iterator[RealHarness]:
            harness = RealHarness(kube, tmp_path)
            yield harness
            harness.close()
