"""Deliberate faults in who a driver is and what it sells, and the checks that catch them."""

import dataclasses
import importlib
import os
import re
import uuid
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import ConfigDict

from styx.driver import Driver, FeatureSet, Identity
from styx.errors import CapacityError, CredentialsError
from styx.plugin import DriverConfig, OpensPorts
from styx.testing.conformance import CatalogChecks, IdentityChecks
from styx.testing.conformance.proof import Proof
from styx.testing.fakecloud import FakeConfig, FakeDriver
from styx.testing.fakecloud.harness import KEY, FakeHarness

PROOF = Proof(IdentityChecks, CatalogChecks)
caught_by = PROOF.caught_by


@caught_by("test_name_is_the_entry_point", "name is 'feik'")
class NamedOtherwise(FakeDriver):
    name = "feik"


@caught_by("test_plugin_api_version", "plugin_api is 2")
class WrittenForAnotherApi(FakeDriver):
    plugin_api = 2


@caught_by("test_settings_are_documented", "needs a docstring that ends with a full stop, has")
class UndocumentedSetting(FakeDriver):
    class Config(FakeConfig):
        network: str = "default"

    config_type = Config


@caught_by("test_settings_are_strict", "an unknown setting is accepted; keep extra='forbid'")
class AcceptsMisspeltSettings(FakeDriver):
    class Config(DriverConfig):
        model_config = ConfigDict(extra="ignore")

    config_type = Config


@caught_by("test_settings_are_strict", "settings can be changed after validation; keep frozen=True")
class ChangeableSettings(FakeDriver):
    class Config(DriverConfig):
        model_config = ConfigDict(frozen=False)

    config_type = Config


@caught_by("test_settings_are_strict", "should be a SecretStr")
class PlainTextSecret(FakeDriver):
    class Config(FakeConfig):
        api_token: str = ""
        """The token."""

    config_type = Config


@caught_by("test_check_names_account_and_places", "check names another account the second time")
class ForgetsItsAccount(FakeDriver):
    def check(self):
        identity = super().check()
        return type(identity)(account=uuid.uuid4().hex, places=identity.places)


@caught_by("test_check_names_account_and_places", "says cloud")
class PlacesOfAnotherCloud(FakeDriver):
    def _place(self, account, region, zone):
        return super()._place(account, region, zone).model_copy(update={"cloud": "other"})


@caught_by("test_check_names_account_and_places", "no place is usable")
class NoUsablePlace(FakeDriver):
    def check(self):
        identity = super().check()
        return type(identity)(account=identity.account, places=dict.fromkeys(identity.places, CapacityError("full")))


@caught_by("test_check_names_account_and_places", "check made or removed machines")
class ChecksByMakingSomething(FakeDriver):
    def check(self):
        self._cloud.plant("north-a")
        return super().check()


@caught_by("test_check_with_bad_credentials", "check accepts wrong credentials")
class BelievesAnyKey(FakeDriver):
    def check(self):
        return Identity(account="acct-1", places={self._place("acct-1", "north", "north-a"): None})


@caught_by("test_check_with_bad_credentials", "credentials: the error's hint must say how to fix it")
class NoHint(FakeDriver):
    def check(self):
        try:
            return super().check()
        except CredentialsError as error:
            raise CredentialsError(str(error)) from None


@caught_by("test_check_with_bad_credentials", "The fake cloud says invalid_key: the key is not valid")
class AsksInItsConstructor(FakeDriver):
    def __init__(self, context):
        super().__init__(context)
        self.check()


@caught_by("test_environment_is_not_read", "the driver found its credentials in the environment:")
class ReadsTheEnvironment(FakeDriver):
    @property
    def _key(self):
        return self.context.secrets("FAKE_API_KEY") or os.environ.get("FAKE_API_KEY") or super()._key


class Without(Driver[FakeConfig]):
    """FakeDriver's answers from a class that lacks its mixins."""

    name = "fake"
    features = FakeDriver.features

    def __init__(self, context):
        super().__init__(context)
        self.whole = FakeDriver(context)

    def check(self):
        return self.whole.check()

    def fetch(self):
        return self.whole.fetch()

    def create(self, request):
        return self.whole.create(request)

    def nodes(self, place, cluster, known=()):
        return self.whole.nodes(place, cluster, known)

    def terminate(self, nodes):
        self.whole.terminate(nodes)


caught_by("test_name_is_the_entry_point", "no entry point in group `styx.drivers` leads to Without")(Without)


@caught_by("test_features_match_capabilities", "can stop, but the class is not Stoppable")
class StopsOnlyOnPaper(Without, OpensPorts):
    def open_ports(self, nodes, ports):
        self.whole.open_ports(nodes, ports)

    def close_ports(self, nodes, ports):
        self.whole.close_ports(nodes, ports)


@caught_by("test_features_match_capabilities", "opens ports, the class is not OpensPorts")
class OpensPortsOnlyOnPaper(Without):
    features = FeatureSet(ports="any_time")

    def fetch(self):
        return [row.model_copy(update={"features": None}) for row in self.whole.fetch()]


@caught_by("test_name_is_the_entry_point", "display_name is empty")
class Nameless(FakeDriver):
    display_name = ""


@caught_by("test_settings_are_strict", "an unknown setting is not refused as such; keep extra='forbid'")
class DemandsASetting(FakeDriver):
    class Config(DriverConfig):
        model_config = ConfigDict(extra="ignore")
        region: str

    config_type = Config


def identity_with(**changes):
    """A `check` whose answer is always wrong in the same way."""

    def check(self):
        identity = FakeDriver.check(self)
        return dataclasses.replace(identity, **changes)

    return check


@caught_by("test_check_names_account_and_places", "check returned an empty account")
class NoAccount(FakeDriver):
    check = identity_with(account="")


@caught_by("test_check_names_account_and_places", "the account is named by its secret")
class AccountIsTheKey(FakeDriver):
    check = identity_with(account=KEY)


@caught_by("test_check_names_account_and_places", "is of account")
class PlacesOfAnotherAccount(FakeDriver):
    def _place(self, account, region, zone):
        return super()._place("acct-2", region, zone)


@caught_by("test_check_names_account_and_places", "has a problem that is no StyxError")
class ProblemIsAString(FakeDriver):
    def check(self):
        identity = super().check()
        problems = {place: problem and str(problem) for place, problem in identity.places.items()}
        return dataclasses.replace(identity, places=problems)


def rows_with(**changes):
    """A `fetch` whose rows are all wrong in the same way."""

    def fetch(self):
        return [row.model_copy(update=changes) for row in FakeDriver.fetch(self)]

    return fetch


@caught_by("test_rows_say_what_and_where", "is of cloud")
class RowsOfAnotherCloud(FakeDriver):
    fetch = rows_with(cloud="other")


@caught_by("test_rows_say_what_and_where", "is not a place of `check`")
class RowsOfNowhere(FakeDriver):
    fetch = rows_with(region="atlantis")


@caught_by("test_rows_say_what_and_where", "does not say where its figures come from (`source`)")
class RowsWithoutSource(FakeDriver):
    fetch = rows_with(source="")


@caught_by("test_rows_say_what_and_where", "market spot, spot=False")
class SpotOnlyByName(FakeDriver):
    fetch = rows_with(features=FeatureSet())


@caught_by("test_rows_say_what_and_where", "two rows for")
class EachRowTwice(FakeDriver):
    def fetch(self):
        return [*super().fetch(), *super().fetch()]


@caught_by("test_rows_say_what_and_where", "the driver sells nothing")
class SellsNothing(FakeDriver):
    def fetch(self):
        return []


@caught_by("test_rows_have_sane_units", "GiB for each vCPU; which unit is memory_gib in?")
class MemoryInMib(FakeDriver):
    def fetch(self):
        return [row.model_copy(update={"memory_gib": row.memory_gib * 1024}) for row in super().fetch()]


@caught_by("test_rows_have_sane_units", "is no price in dollars for an hour")
class UnknownPriceIsZero(FakeDriver):
    fetch = rows_with(usd_per_hour=0.0)


@caught_by("test_rows_have_sane_units", "is no price in dollars for an hour")
class PriceForAMonthInCents(FakeDriver):
    def fetch(self):
        return [row.model_copy(update={"usd_per_hour": row.usd_per_hour * 73_000}) for row in super().fetch()]


@caught_by("test_rows_have_sane_units", "accelerators without a name")
class AcceleratorsWithoutName(FakeDriver):
    fetch = rows_with(accelerator_name=None)


@caught_by("test_rows_say_what_and_where", ": as_of has no time zone")
class NoTimeZone(FakeDriver):
    fetch = rows_with(as_of=datetime(2026, 1, 1))


@caught_by("test_rows_say_what_and_where", "the shipped snapshot")
class SnapshotIsMissing(FakeDriver):
    def snapshot(self):
        return Path("/nonexistent/rows.csv")


@caught_by("test_rows_have_sane_units", "is no number of vCPUs")
class NoProcessors(FakeDriver):
    fetch = rows_with(vcpus=0)


@caught_by("test_rows_have_sane_units", "is no memory in GiB")
class MemoryInBytes(FakeDriver):
    fetch = rows_with(memory_gib=64 * 2**30)


@caught_by("test_rows_have_sane_units", "0 x H100")
class AcceleratorByNameOnly(FakeDriver):
    fetch = rows_with(accelerator_count=0, accelerator_name="H100")


@caught_by("test_rows_have_sane_units", "GiB per accelerator")
class AcceleratorMemoryInMib(FakeDriver):
    fetch = rows_with(accelerator_memory_gib=81920)


@caught_by("test_rows_have_sane_units", "is no disk in GiB")
class DiskInBytes(FakeDriver):
    fetch = rows_with(local_disk_gib=10**12)


# ------------------------------------------------------------------------------------------------------ the proof


@pytest.mark.parametrize("fault", PROOF.faults, ids=str)
def test_fault_is_caught(fault, tmp_path):
    with pytest.raises(Exception, match=re.escape(fault.says)):
        PROOF.run(fault, tmp_path)


def test_heavy_import_is_caught(tmp_path, monkeypatch):
    """The fault that needs a module of its own."""
    module = tmp_path / "heavy_fake.py"
    module.write_text(
        "import httpx\nfrom styx.testing.fakecloud import FakeDriver\n\n\nclass Heavy(FakeDriver):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    harness = FakeHarness(tmp_path, importlib.import_module("heavy_fake").Heavy)
    with pytest.raises(AssertionError, match=r"also loads .*'httpx'"):
        IdentityChecks().test_import_is_light(harness)
    module.write_text("import no_such_module_exists\n")
    with pytest.raises(AssertionError, match=r"can't be imported by itself.*no_such_module_exists"):
        IdentityChecks().test_import_is_light(harness)


def test_every_check_is_proven():
    assert not PROOF.unproven({"test_import_is_light"})
