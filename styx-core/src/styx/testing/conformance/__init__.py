"""The conformance suite: what every driver must do, as pytest checks that its author adopts in one class.

    class TestHetzner(DriverConformance):
        driver_type = Hetzner

        @pytest.fixture
        def harness(self, tmp_path: Path) -> HetznerHarness:
            return HetznerHarness(tmp_path)

`Harness` is the author's side: a handful of levers on a fake of the vendor. The checks of each capability mixin join
by themselves when `driver_type` has the mixin; none is ever skipped. Needs pytest.
"""

from __future__ import annotations

from typing import Any, ClassVar

from styx.driver import Driver
from styx.testing.conformance.capabilities import (
    SUITES,
    EndsItselfConformance,
    HasVolumesConformance,
    HasZonesConformance,
    MakesImagesConformance,
    OpensPortsConformance,
    QuotesLiveConformance,
    ReportsQuotaConformance,
    StoppableConformance,
    WarnsBeforeEndConformance,
)
from styx.testing.conformance.failures import FailureChecks
from styx.testing.conformance.harness import (
    OTHER_STORE,
    STORE,
    Fault,
    FaultKind,
    Harness,
    Truth,
    cluster_key,
)
from styx.testing.conformance.identity import CatalogChecks, IdentityChecks
from styx.testing.conformance.isolation import IsolationChecks
from styx.testing.conformance.lifecycle import LifecycleChecks


class DriverConformance(IdentityChecks, CatalogChecks, LifecycleChecks, FailureChecks, IsolationChecks):
    """Subclass it in a test module under a name that begins with `Test`, and define a fixture called `harness`.

    Attributes:
        driver_type: The driver's class. Its capability mixins decide which further checks join.
    """

    driver_type: ClassVar[type[Driver[Any]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Add the checks of the mixins that `driver_type` has."""
        super().__init_subclass__(**kwargs)
        driver_type = cls.__dict__.get("driver_type")
        if driver_type is None:
            return
        for mixin, suite in SUITES.items():
            if issubclass(driver_type, mixin):
                for name, member in vars(suite).items():
                    if not name.startswith("__") and not hasattr(cls, name):
                        setattr(cls, name, member)


__all__ = [
    "OTHER_STORE",
    "STORE",
    "SUITES",
    "CatalogChecks",
    "DriverConformance",
    "EndsItselfConformance",
    "FailureChecks",
    "Fault",
    "FaultKind",
    "Harness",
    "HasVolumesConformance",
    "HasZonesConformance",
    "IdentityChecks",
    "IsolationChecks",
    "LifecycleChecks",
    "MakesImagesConformance",
    "OpensPortsConformance",
    "QuotesLiveConformance",
    "ReportsQuotaConformance",
    "StoppableConformance",
    "Truth",
    "WarnsBeforeEndConformance",
    "cluster_key",
]
