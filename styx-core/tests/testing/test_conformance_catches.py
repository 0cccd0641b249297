"""The suite is proven whole: the files `test_conformance_catches_*.py` have a fault for each of its checks.

Each of those files proves all checks of some classes; this one, that there are no other classes, and that the checks of
a mixin join when a driver has it.
"""

from styx.driver import CAPABILITIES, Driver, EndsItself, HasVolumes, MakesImages, MakesTransport
from styx.testing.conformance import (
    SUITES,
    CatalogChecks,
    DriverConformance,
    FailureChecks,
    IdentityChecks,
    IsolationChecks,
    LifecycleChecks,
)
from styx.testing.conformance.proof import Proof
from styx.testing.fakecloud import FakeDriver


def checks(suite):
    return {name for name in dir(suite) if name.startswith("test_")}


def test_no_check_lies_outside_the_proof():
    class Whole(DriverConformance):
        driver_type = FakeDriver

    proof = Proof(IdentityChecks, CatalogChecks, LifecycleChecks, FailureChecks, IsolationChecks, *SUITES.values())
    assert checks(Whole) == set(proof.checks)
    assert proof.unproven() == checks(Whole)
    needs_agents = {MakesTransport}  # only a node that runs programs shows it: held by each such driver's own tests
    assert set(SUITES) == set(CAPABILITIES) - needs_agents


def test_checks_join_by_mixin():
    """A driver without mixins has the core checks only, and an author cannot forget those of a mixin."""

    class Plain(DriverConformance):
        driver_type = Driver

    class Some(DriverConformance):
        driver_type = type("Some", (Driver, HasVolumes, MakesImages, EndsItself), {})

    assert checks(Plain) == checks(DriverConformance)
    joined = checks(Some) - checks(DriverConformance)
    assert joined == checks(SUITES[HasVolumes]) | checks(SUITES[MakesImages]) | checks(SUITES[EndsItself])
