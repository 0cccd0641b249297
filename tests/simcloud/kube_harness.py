"""The conformance harness on the double."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from styx.plugin import CloudError, Place
from styx.testing.clock import ManualClock
from styx.testing.conformance import STORE, Fault, FaultKind, Harness, Truth
from styx.testing.contexts import make_context
from styx_k8s import Kubernetes
from styx_k8s.config import K8sConfig, Pricing
from styx_k8s.faults import ERRORS, QUOTA
from tests.simcloud.kube import TOKEN, Kube, Script

STATUS = {"Unauthorized": 401, "Forbidden": 403, QUOTA: 403, "BadRequest": 400, "Invalid": 422, "MethodNotAllowed": 405,
          "RequestEntityTooLarge": 413, "NotFound": 404, "Conflict": 409, "TooManyRequests": 429}  # fmt: skip


class KubeHarness(Harness):
    """One context with six nodes, on a clock that the suite moves."""

    error_table: Mapping[str, type[CloudError]] = ERRORS
    namespace = "default"
    page_size = 5

    def __init__(self, home: Path) -> None:
        self.home = home
        self.clock = ManualClock()
        self.kube = Kube(clock=self.clock, run=False, start_s=5.0, grace_s=3.0)
        self.kube.objects.clear()
        for number in range(6):
            self.kube.node(f"node-{number}", cpu="16", memory="64Gi")
        self.kube.__enter__()
        good = str(self.kube.kubeconfig(home / "good-config-canary"))
        self._bad = str(self.kube.kubeconfig(home / "wrong-config-canary", token="wrong-token-canary"))
        self.credentials = {"KUBECONFIG": good}

    def bad_credentials(self) -> Mapping[str, str]:
        return {"KUBECONFIG": self._bad}

    def driver(self, *, store: str = STORE, secrets: Mapping[str, str] | None = None) -> Kubernetes:
        given = self.credentials if secrets is None else secrets
        config = K8sConfig(pricing=Pricing(cpu=0.04, memory=0.005))
        return Kubernetes(make_context(self.home, config=config, store=store, secrets=given, clock=self.clock))

    def machines(self) -> Sequence[Truth]:
        self.kube.step()
        return [
            Truth(id=one["metadata"]["name"], labels=one["metadata"].get("labels"), ports=frozenset(self._ports(one)))
            for one in self.kube.all("pods")
        ]

    def _ports(self, pod: dict[str, Any]) -> list[int]:
        labels = pod["metadata"].get("labels") or {}
        return [
            port["port"]
            for service in self.kube.all("services", self.namespace)
            if (selector := service["spec"].get("selector")) and selector.items() <= labels.items()
            for port in service["spec"].get("ports") or ()
        ]

    def plant_foreign(self, place: Place) -> Sequence[str]:
        near = {"styx/cluster": "styx-conform-else0101", "styx/rank": "0", "styx/store": f"{STORE}x"}
        for name, labels in (("web-5f6d", {"app": "web"}), ("styx-conform-else0101-0", near)):
            spec = {"containers": [{"name": "c", "image": "nginx"}]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
            self.kube.put("pods", "default", {**pod, "status": {"phase": "Pending"}})
        meta = {"name": "styx-conform-else0101", "labels": near}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": meta,
                   "spec": {"clusterIP": "None"}}  # fmt: skip
        self.kube.put("services", "default", service)
        return ["web-5f6d", "styx-conform-else0101-0"]

    def fail_next(self, fault: Fault) -> None:
        kube, code = self.kube, fault.code or "Forbidden"
        match fault.kind:
            case FaultKind.REFUSED:
                words = 'pods "x" is forbidden: exceeded quota: compute' if code == QUOTA else f"no: {code}"
                kube.scripts.append(Script(STATUS.get(code, 500), "Forbidden" if code == QUOTA else code, words))
            case FaultKind.PARTIAL:
                kube.scripts.append(Script(403, "Forbidden", "exceeded quota: compute", after=fault.after))
            case FaultKind.LOST_REPLY:
                kube.scripts.append(Script(0, "", "", lose=True))
            case FaultKind.LATE:
                kube.doomed += 1
            case FaultKind.LISTING:
                kube.broken_listings += 1

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.kube.step()

    def remains(self) -> Sequence[str]:
        self.kube.step()
        return [one["metadata"]["name"] for kind in ("services", "ingresses") for one in self.kube.all(kind)]

    def request_lines(self) -> Sequence[str]:
        return self.kube.lines

    def close(self) -> None:
        """End the double; the token never was in a URL, and every object was as the published document has it."""
        self.kube.__exit__()
        assert TOKEN not in "\n".join(self.kube.lines)
        assert not self.kube.document, self.kube.document[:3]
