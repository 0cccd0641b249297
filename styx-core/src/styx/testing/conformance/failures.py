"""Checks of what the driver makes of a vendor that fails."""

from __future__ import annotations

from styx.driver import Node, NodeState
from styx.errors import AmbiguousError, CloudError, DriverError, TransientError
from styx.testing.conformance import steps
from styx.testing.conformance.harness import AnyDriver, Fault, FaultKind, Harness


class FailureChecks:
    """Every error is an instruction to the engine, and no machine is forgotten."""

    def test_every_row_of_the_error_table(self, harness: Harness) -> None:
        """Each documented code of the vendor becomes the class the table says, with the vendor's words kept."""
        table = harness.error_table
        assert table or harness.driver().free, "the harness has no error_table; import the driver's own"
        for code, expected in table.items():
            driver = harness.driver()
            error = refused(harness, driver, code)
            assert type(error) is expected, f"{code} became {type(error).__name__}, the table says {expected.__name__}"
            assert error.vendor.code == code, f"{code}: the error's vendor.code is {error.vendor.code!r}"
            if isinstance(error, TransientError):
                assert error.retry_after_s > 0, f"{code}: retry_after_s is {error.retry_after_s}"

    def test_unknown_code_is_a_driver_error(self, harness: Harness) -> None:
        """A code nobody has heard of is a `DriverError` that quotes it, never a crash."""
        if harness.unknown_code is None:
            return
        error = refused(harness, harness.driver(), harness.unknown_code)
        assert type(error) is DriverError, f"an unknown code became {type(error).__name__} instead of DriverError"
        assert harness.unknown_code in (error.vendor.code or ""), f"vendor.code is {error.vendor.code!r}"

    def test_lost_reply(self, harness: Harness) -> None:
        """When the reply to create is lost, the machine is found again and not made twice."""
        if FaultKind.LOST_REPLY in harness.impossible:
            return
        driver, before = harness.driver(), steps.truth(harness)
        request = harness.request(driver, steps.several(driver))
        harness.fail_next(Fault(FaultKind.LOST_REPLY))
        try:
            driver.create(request)
        except AmbiguousError as error:
            settle_s, lag_s = error.settle_s, driver.limits.listing_lag_s
            assert settle_s >= lag_s, f"settle_s {settle_s} is shorter than the listing's lag, {lag_s}"
            harness.advance(settle_s)
            found = steps.ids(driver.nodes(request.place, request.cluster))
            assert found == sorted(steps.truth(harness) - before), "the machine behind a lost reply is not listed"
        except TransientError as error:
            features = request.offer.features or driver.features
            assert features.idempotent_create, (
                "a lost reply is a TransientError, but the row is not idempotent_create: raise AmbiguousError"
            )
            harness.advance(error.retry_after_s)
        nodes = steps.launch(harness, harness.driver(), request)  # the client that asked first may be dead
        made = sorted(steps.truth(harness) - before)
        assert steps.ids(nodes) == made, f"after a lost reply create returned {steps.ids(nodes)}, there are {made}"
        assert len(made) == request.count, f"asked for {request.count} machines, a lost reply made {len(made)}"

    def test_k_of_n(self, harness: Harness) -> None:
        """When a gang is made in part, the driver names exactly the machines that exist."""
        if FaultKind.PARTIAL in harness.impossible:
            return
        driver, before = harness.driver(), steps.truth(harness)
        request = harness.request(driver, steps.several(driver))
        harness.fail_next(Fault(FaultKind.PARTIAL, after=request.count - 1))
        told: list[Node]
        try:
            told = list(driver.create(request))
        except CloudError as error:
            told = list(error.created)
        else:
            failed = [node for node in told if node.state is NodeState.FAILED and node.problem]
            assert failed, "a gang made in part is reported as if it were whole"
        made = sorted(steps.truth(harness) - before)
        living = steps.ids(steps.living(told))
        assert living == made, f"the driver names {living} as made, there are {made}"
        steps.down(harness, driver, told)

    def test_refused_while_provisioning(self, harness: Harness) -> None:
        """A machine that was accepted and then fails is reported failed with a typed reason, and can be removed."""
        if FaultKind.LATE in harness.impossible:
            return
        driver = harness.driver()
        request = harness.request(driver)
        harness.fail_next(Fault(FaultKind.LATE))
        first = steps.accepted(harness, driver, request)
        harness.advance(driver.limits.listing_lag_s)
        for _ in range(steps.STEPS):
            seen = list(driver.nodes(request.place, request.cluster, known=first))
            if any(node.state in steps.ENDED for node in seen):
                break
            harness.advance(steps.STEP_S)
        failed = [node for node in seen if node.state is NodeState.FAILED and node.problem]
        states = [node.state.value for node in seen]
        assert failed, f"a machine refused late should be `failed` with a `problem`, the listing says {states}"
        steps.down(harness, driver, seen)
        listed = driver.nodes(request.place, request.cluster)
        left = steps.ids([node for node in listed if node.state is NodeState.FAILED and node.ended is None])
        assert not left, f"failed machines that are gone count as existing until they have `ended`: {left}"

    def test_failed_listing_is_not_empty(self, harness: Harness) -> None:
        """A listing that failed raises; an empty one would make the engine believe that all machines are gone."""
        if FaultKind.LISTING in harness.impossible:
            return
        driver = harness.driver()
        request = harness.request(driver)
        steps.up(harness, driver, request)
        harness.fail_next(Fault(FaultKind.LISTING))
        try:
            seen = driver.nodes(request.place, request.cluster)
        except CloudError:
            return
        raise AssertionError(f"the listing failed, and nodes() returned {len(seen)} nodes as if it had not")


def refused(harness: Harness, driver: AnyDriver, code: str) -> CloudError:
    """The error with which create answers to a vendor's code."""
    request = harness.request(driver)
    before = steps.truth(harness)
    harness.fail_next(Fault(FaultKind.REFUSED, code=code))
    refusal: CloudError | None = None
    try:
        driver.create(request)
    except CloudError as error:
        refusal = error
    assert refusal is not None, f"the vendor refused with {code}, and create returned as if it had not"
    assert str(refusal).strip(), f"{code}: the error has no message"
    assert not refusal.created, f"{code}: nothing was made, but the error names {steps.ids(refusal.created)}"
    assert steps.truth(harness) == before, f"{code}: refused, and yet the account holds something new"
    return refusal
