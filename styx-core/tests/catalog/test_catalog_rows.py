import sys

import pytest

from styx.catalog.rows import merged, rows_for
from styx.driver import CatalogRow, FeatureSet, Market
from styx.errors import CredentialsError, PluginError
from styx.plugins import Hub

DRIVER = """
from pathlib import Path
from styx.errors import CredentialsError
from styx.plugin import CatalogRow, Driver, Identity
class Acme(Driver):
    name = "acme"
    display_name = "Acme"
    def check(self): return Identity(account="acct", places={})
    def snapshot(self):
        path = self.context.home / "rows.csv"
        return path if path.exists() else None
    def fetch(self):
        if self.context.secrets("ACME_KEY") is None:
            raise CredentialsError("no key")
        yield CatalogRow(cloud="acme", instance_type="m1", region="r", usd_per_hour=1.0, source="live")
        yield CatalogRow(cloud=self.context.secrets("ACME_KEY"), instance_type="m3", region="r", source="live")
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""
SNAPSHOT = """# as_of: 2026-11-20
cloud,instance_type,region,market,vcpus,usd_per_hour,features,source
acme,m1,r,on_demand,4,9.0,,old
acme,m2,r,spot,,,"{""fuse"": true}",old
"""


@pytest.fixture
def home(tmp_path):
    (tmp_path / "drivers").mkdir()
    (tmp_path / "drivers" / "acme.py").write_text(DRIVER)
    yield tmp_path
    sys.modules.pop("styx_private_drivers.acme", None)


def hub_of(home, key="acme", report=None):
    environ = {"ACME_KEY": key} if key else {}
    return Hub(home, environ=environ, store_id="abc123", user="me", report=report)


def test_live_rows_replace_those_of_the_snapshot(home):
    (home / "rows.csv").write_text(SNAPSHOT)
    rows = {row.instance_type: row for row in rows_for("acme", hub_of(home))}
    assert {name: row.source for name, row in rows.items()} == {"m1": "live", "m2": "old", "m3": "live"}
    assert rows["m2"].usd_per_hour is None
    assert rows["m2"].market is Market.SPOT
    assert rows["m2"].features == FeatureSet(fuse=True)


def test_without_live_rows_the_snapshot_is_used_and_said_so(home):
    (home / "rows.csv").write_text(SNAPSHOT)
    reports = []
    rows = rows_for("acme", hub_of(home, key=None, report=reports.append))
    assert [row.source for row in rows] == ["old", "old"]
    assert len(reports) == 1
    assert "no key" in reports[0]


def test_without_either_the_reason_is_told(home):
    with pytest.raises(CredentialsError, match="no key"):
        rows_for("acme", hub_of(home, key=None))


def test_rows_of_another_cloud_are_refused(home):
    with pytest.raises(PluginError, match="not a row of it"):
        rows_for("acme", hub_of(home, key="other"))


def test_a_cloud_without_a_plugin(home):
    with pytest.raises(PluginError, match="no plugin for cloud 'acne' is installed"):
        rows_for("acne", hub_of(home))


def test_merging_keeps_offers_apart():
    def row(source, **changes):
        return CatalogRow.model_validate(
            {"cloud": "acme", "instance_type": "m1", "region": "r", "source": source} | changes
        )

    groups = [[row("a"), row("b", market="spot"), row("c", zone="z")], [row("d"), row("e", zone="y")]]
    assert [each.source for each in merged(groups)] == ["d", "b", "c", "e"]
