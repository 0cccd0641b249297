"""How AWS names its zones."""

import pytest

from styx.catalog.snapshot import read_snapshot
from styx.plugin import UnsupportedError
from styx_aws import zonenames
from styx_aws.driver import SNAPSHOT

ZONES = {"us-east-1a": "use1-az6", "us-east-1b": "use1-az1", "us-east-1-bos-1a": "use1-bos1-az1"}


def test_each_zone_of_the_shipped_rows_is_of_its_region():
    rows = [row for row in read_snapshot(SNAPSHOT) if row.zone]
    assert len({row.region for row in rows}) > 10
    for row in rows:
        assert zonenames.plausible(row.region, row.zone) == row.zone


@pytest.mark.parametrize("name", [*ZONES, *ZONES.values()])
def test_a_zone_goes_by_name_and_by_id(name):
    assert zonenames.plausible("us-east-1", name) == name
    assert zonenames.known("us-east-1", name, ZONES) == ZONES.get(name, name)


@pytest.mark.parametrize("name", ["us-east-1", "us-east-1zz", "us-east-1A", "eu-west-1a", "euw1-az1", "a", "1", ""])
def test_what_is_no_name_of_a_zone_there_is_told_unasked(name):
    with pytest.raises(UnsupportedError, match=r"names like us-east-1a or ids like use1-az1"):
        zonenames.plausible("us-east-1", name)


def test_a_zone_that_the_account_has_not():
    with pytest.raises(UnsupportedError, match=r"no zone us-east-1z .*there is .*us-east-1a \(use1-az6\)"):
        zonenames.known("us-east-1", zonenames.plausible("us-east-1", "us-east-1z"), ZONES)
