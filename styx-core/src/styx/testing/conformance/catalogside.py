"""Conformance of a driver that sells but does not make machines yet: identity, catalog and shipped snapshot.

class TestAcme(CatalogConformance):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> AcmeHarness:
        return AcmeHarness(tmp_path)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from styx.driver import Place, Provisioner
from styx.errors import CredentialsError, StyxError
from styx.testing.clock import ManualClock
from styx.testing.conformance.harness import Fault, Harness, Truth
from styx.testing.conformance.identity import CatalogChecks, IdentityChecks, assert_sane


class CatalogHarness(Harness):
    """The levers of a vendor that nothing is made at: only `driver` and `credentials` are left to write."""

    def __init__(self) -> None:
        self.clock = ManualClock()

    def machines(self) -> Sequence[Truth]:
        """None can be made."""
        return ()

    def plant_foreign(self, place: Place) -> Sequence[str]:  # noqa: ARG002 - nothing is listed
        """None can be made."""
        return ()

    def fail_next(self, fault: Fault) -> None:
        """Never asked: no check of this suite makes a machine."""
        raise AssertionError(f"nothing to fail: {fault}")

    def advance(self, seconds: float) -> None:
        """Move the context's clock."""
        self.clock.advance(seconds)


class CatalogConformance(IdentityChecks, CatalogChecks):
    """Subclass it in a test module under a name that begins with `Test`, and define a fixture called `harness`."""

    def test_features_match_capabilities(self, harness: Harness) -> None:
        """The rows say what the vendor can do; only a class that makes machines must have the mixins for it."""
        if isinstance(harness.driver(), Provisioner):
            super().test_features_match_capabilities(harness)

    def test_snapshot(self, harness: Harness) -> None:
        """The shipped rows keep every rule of the schema, are this cloud's, and have figures in sane units."""
        from styx.catalog.snapshot import read_snapshot

        driver = harness.driver()
        path = driver.snapshot()
        assert path is not None, f"{driver.name} ships no snapshot"
        rows = read_snapshot(path)
        assert rows, f"{path} has no rows"
        strange = {row.cloud for row in rows} - {driver.name}
        assert not strange, f"{path} has rows of {sorted(strange)}"
        assert_sane(rows, free=driver.free)
        late = [row for row in rows if row.as_of is None or row.as_of.year < 2020]
        assert not late, f"{path} has a row from before 2020: {late[:1]}"

    def test_snapshot_and_live_rows_are_the_same_offers(self, harness: Harness) -> None:
        """A live price replaces the shipped one, because both name machine, region, zone and accelerators alike."""
        from styx.catalog.schema import fault_of, key_of
        from styx.catalog.snapshot import read_snapshot

        driver = harness.driver()
        live = {key_of(row): row for row in harness.rows(driver)}
        for row in live.values():
            assert fault_of(row) is None, f"live row {row.instance_type} in {row.region}: {fault_of(row)}"
        path = driver.snapshot()
        shipped = {key_of(row) for row in read_snapshot(path)} if path else set()
        assert live.keys() & shipped, f"no live row of {driver.name} has the key of a shipped one"

    def test_secrets_stay_inside(self, harness: Harness) -> None:
        """Credentials show up in no repr, row, error or address."""
        secrets = [*harness.credentials.values(), *harness.bad_credentials().values()]
        shown: list[Any] = []
        driver = harness.driver()
        shown += [repr(driver), repr(driver.check()), *map(repr, harness.rows(driver)), repr(vars(driver))]
        for given in (harness.bad_credentials(), {}):
            try:
                harness.driver(secrets=given).check()
            except CredentialsError as error:
                shown.append(_all_of(error))
        shown += harness.request_lines()
        for secret in secrets:
            assert not any(secret in str(text) for text in shown), "a secret left the driver"


def _all_of(error: StyxError) -> str:
    """Everything that an error shows, its causes included."""
    parts = [str(error), repr(error), repr(vars(error))]
    cause: BaseException | None = error
    while cause is not None:
        parts.append(repr(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\n".join(parts)
