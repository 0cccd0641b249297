"""Checks of who the driver is and what it sells; nothing is made."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
from pydantic import SecretStr, ValidationError

from styx.driver import CatalogRow, Market, OpensPorts, Stoppable
from styx.errors import CredentialsError, StyxError
from styx.models.fields import field_docs
from styx.plugin import API_VERSION
from styx.testing.conformance.harness import Harness, sold_in

SECRET_WORDS = ("password", "secret", "token", "api_key")

PROBE = """
import importlib, json, sys
import importlib.util
import styx.plugin
before = set(sys.modules)
if sys.argv[1].endswith(".py"):
    spec = importlib.util.spec_from_file_location("probed", sys.argv[1])
    sys.modules["probed"] = module = importlib.util.module_from_spec(spec)
    before.add("probed")
    spec.loader.exec_module(module)
else:
    importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


class IdentityChecks:
    """Name, import, settings, credentials, features."""

    def test_name_is_the_entry_point(self, harness: Harness) -> None:
        """`styx launch --infra NAME` finds the driver by its entry point, and the catalog by `name`."""
        driver_type = type(harness.driver())
        registered = harness.registered_name(driver_type)
        assert registered is not None, f"no entry point in group `styx.drivers` leads to {driver_type.__qualname__}"
        assert driver_type.name == registered, f"name is {driver_type.name!r}, the entry point is {registered!r}"
        assert driver_type.display_name, "display_name is empty"

    def test_import_is_light(self, harness: Harness) -> None:
        """SDKs are imported inside methods: an installed plugin costs nothing until it is used."""
        driver_type = type(harness.driver())
        module = driver_type.__module__
        installed = importlib.util.find_spec(module.partition(".")[0]) is not None
        target = module if installed else inspect.getfile(driver_type)  # a private cloud is only a file
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        probe = subprocess.run(
            [sys.executable, "-c", PROBE, target], capture_output=True, text=True, env=env, timeout=60, check=False
        )
        last = (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
        assert probe.returncode == 0, f"{module} can't be imported by itself: {last}"
        own = {"styx", module.partition(".")[0]}
        heavy = set(json.loads(probe.stdout)) - sys.stdlib_module_names - own - harness.light_imports
        assert not heavy, (
            f"importing {module} also loads {sorted(heavy)}; import them inside the methods that need them"
        )

    def test_plugin_api_version(self, harness: Harness) -> None:
        """The driver was written for the plugin API that this Styx speaks."""
        version = type(harness.driver()).plugin_api
        assert version == API_VERSION, f"plugin_api is {version}, this Styx speaks {API_VERSION}"

    def test_settings_are_documented(self, harness: Harness) -> None:
        """Each setting has a docstring, a full sentence; `styx config` and the reference pages print it."""
        config_type = type(harness.driver()).config_type
        docs = field_docs(config_type)
        for name, field in config_type.model_fields.items():
            text = (docs.get(name) or field.description or "").strip()
            assert text.endswith("."), f"setting {name!r} needs a docstring that ends with a full stop, has {text!r}"

    def test_settings_are_strict(self, harness: Harness) -> None:
        """A misspelt setting is refused, a setting never changes, and secrets are of type SecretStr."""
        config_type = type(harness.driver()).config_type
        try:
            config_type.model_validate({"no_such_setting_exists": 1})
        except ValidationError as error:
            kinds = {one["type"] for one in error.errors()}
            assert "extra_forbidden" in kinds, "an unknown setting is not refused as such; keep extra='forbid'"
        else:
            raise AssertionError("an unknown setting is accepted; keep extra='forbid'")
        assert config_type.model_config.get("frozen"), "settings can be changed after validation; keep frozen=True"
        for name, field in config_type.model_fields.items():
            if any(word in name for word in SECRET_WORDS):
                assert "SecretStr" in str(field.annotation), f"setting {name!r} should be a {SecretStr.__name__}"

    def test_check_names_account_and_places(self, harness: Harness) -> None:
        """`check` with good credentials: the same account each time, places of this cloud, nothing made."""
        driver, before = harness.driver(), harness.machines()
        identity = driver.check()
        assert identity.account, "check returned an empty account"
        assert driver.check().account == identity.account, "check names another account the second time"
        assert identity.account not in harness.credentials.values(), "the account is named by its secret"
        for place, problem in identity.places.items():
            assert place.cloud == driver.name, f"{place} says cloud {place.cloud!r} instead of {driver.name!r}"
            assert place.account == identity.account, f"{place} is of account {place.account!r}"
            assert problem is None or isinstance(problem, StyxError), f"{place} has a problem that is no StyxError"
        assert None in identity.places.values(), "no place is usable"
        assert len(harness.machines()) == len(before), "check made or removed machines"

    def test_check_with_bad_credentials(self, harness: Harness) -> None:
        """Wrong and missing credentials are a `CredentialsError` with a hint, and only when something is asked."""
        if not harness.credentials:
            harness.driver(secrets={}).check()
            return
        for secrets in (harness.bad_credentials(), {}):
            driver = harness.driver(secrets=secrets)
            told, refusal = "wrong" if secrets else "missing", None
            try:
                driver.check()
            except CredentialsError as error:
                refusal = error
            assert refusal is not None, f"check accepts {told} credentials"
            assert refusal.hint, f"{told} credentials: the error's hint must say how to fix it"

    def test_environment_is_not_read(self, harness: Harness) -> None:
        """Credentials come from the context alone, so that two accounts can live in one process."""
        if not harness.credentials:
            return
        with pytest.MonkeyPatch.context() as patch:
            for name, value in harness.credentials.items():
                patch.setenv(name, value)
            try:
                harness.driver(secrets={}).check()
            except CredentialsError:
                return
        raise AssertionError(f"the driver found its credentials in the environment: {sorted(harness.credentials)}")

    def test_features_match_capabilities(self, harness: Harness) -> None:
        """A row promises only what the class has a mixin for."""
        driver = harness.driver()
        for row in harness.rows(driver):
            features = row.features or driver.features
            if features.stop:
                assert isinstance(driver, Stoppable), f"{row.instance_type} can stop, but the class is not Stoppable"
            if features.ports == "any_time":
                assert isinstance(driver, OpensPorts), f"{row.instance_type} opens ports, the class is not OpensPorts"


class CatalogChecks:
    """What the rows say."""

    def test_rows_say_what_and_where(self, harness: Harness) -> None:
        """Rows are of this cloud, in regions that `check` knows, no two alike, and say where their figures are from."""
        driver = harness.driver()
        rows, places = harness.rows(driver), driver.check().places
        assert rows, "the driver sells nothing: fetch() has no rows, and there are no live quotes"
        seen = set()
        for row in rows:
            assert row.cloud == driver.name, f"row {row.instance_type} is of cloud {row.cloud!r}"
            assert any(sold_in(row, place) for place in places), f"{row.region}/{row.zone} is not a place of `check`"
            key = (row.instance_type, row.region, row.zone, row.market, row.ref)
            assert key not in seen, f"two rows for {key}"
            seen.add(key)
            spot = (row.features or driver.features).spot
            assert spot == (row.market in {Market.SPOT, Market.BID}), (
                f"{row.instance_type}: market {row.market}, {spot=}"
            )
            assert row.source, f"{row.instance_type} does not say where its figures come from (`source`)"
            assert row.as_of is None or row.as_of.tzinfo, f"{row.instance_type}: as_of has no time zone"
        snapshot = driver.snapshot()
        assert snapshot is None or snapshot.is_file(), f"the shipped snapshot {snapshot} does not exist"

    def test_rows_have_sane_units(self, harness: Harness) -> None:
        """Dollars and not cents, GiB and not MiB or bytes, hours and not months."""
        driver = harness.driver()
        assert_sane(harness.rows(driver), free=driver.free)


def assert_sane(rows: Sequence[CatalogRow], *, free: bool) -> None:
    """Fail on the first row whose figures can't be in the units that their names say."""
    for row in rows:
        name = row.instance_type
        if row.usd_per_hour is not None:
            low = 0.0 if free else 0.0001
            assert low <= row.usd_per_hour <= 2000, f"{name}: {row.usd_per_hour} is no price in dollars for an hour"
        if row.vcpus is not None:
            assert 0.05 <= row.vcpus <= 2048, f"{name}: {row.vcpus} is no number of vCPUs"
        if row.memory_gib is not None:
            assert 0.1 <= row.memory_gib <= 32768, f"{name}: {row.memory_gib} is no memory in GiB"
        if row.vcpus and row.memory_gib:
            ratio = row.memory_gib / row.vcpus
            assert 0.05 <= ratio <= 256, f"{name}: {ratio:.4g} GiB for each vCPU; which unit is memory_gib in?"
        if row.accelerator_name is None:
            assert row.accelerator_count == 0, f"{name}: {row.accelerator_count} accelerators without a name"
        else:
            assert 0 < row.accelerator_count <= 1024, f"{name}: {row.accelerator_count} x {row.accelerator_name}"
        if row.accelerator_memory_gib is not None:
            assert 1 <= row.accelerator_memory_gib <= 1024, f"{name}: {row.accelerator_memory_gib} GiB per accelerator"
        if row.local_disk_gib is not None:
            assert 0 <= row.local_disk_gib <= 1_000_000, f"{name}: {row.local_disk_gib} is no disk in GiB"
