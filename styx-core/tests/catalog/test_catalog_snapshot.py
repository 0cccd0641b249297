from datetime import UTC, datetime

import pytest

from styx.catalog.schema import COLUMNS
from styx.catalog.snapshot import read_snapshot, write_snapshot
from styx.driver import CatalogRow, FeatureSet
from styx.errors import PluginError

HEAD = "# as_of: 2026-11-20\n# source: acme.example/prices\n# cloud: acme\n# any other words\n"


def test_columns_are_the_fields_of_a_row():
    assert set(COLUMNS) == set(CatalogRow.model_fields)


def test_notes_give_what_rows_leave_out(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(HEAD + "instance_type,region,usd_per_hour,source\nm1,r,0.5,\nm2,r,,own page\n")
    first, second = read_snapshot(path)
    assert first == CatalogRow(
        cloud="acme",
        instance_type="m1",
        region="r",
        usd_per_hour=0.5,
        as_of=datetime(2026, 11, 20, tzinfo=UTC),
        source="acme.example/prices",
    )
    assert second.usd_per_hour is None
    assert second.source == "own page"


def test_what_is_written_is_read_back(tmp_path):
    rows = [
        CatalogRow(
            cloud="acme",
            instance_type="g1",
            region="r",
            zone="z",
            market="spot",
            vcpus=8,
            memory_gib=61.5,
            arch="arm64",
            accelerator_name="H100",
            accelerator_count=0.5,
            accelerator_memory_gib=80,
            accelerator_vendor="nvidia",
            local_disk_gib=3500,
            usd_per_hour=1.234567,
            network_tier="best",
            features=FeatureSet(spot=True, ports="at_create"),
            ref="a,b",
            as_of=datetime(2026, 11, 1, 12, 30, tzinfo=UTC),
            ttl_s=3600,
            source="x",
        ),
        CatalogRow(cloud="acme", instance_type="m1", region="r", as_of=datetime(2026, 11, 1, tzinfo=UTC), source="x"),
    ]
    path = tmp_path / "rows.csv"
    assert write_snapshot(rows, path, notes=["Prices of Acme"]) == 2
    assert read_snapshot(path) == rows


def test_what_reading_fills_in_is_not_written(tmp_path):
    day = datetime(2026, 11, 1, tzinfo=UTC)
    row = CatalogRow(cloud="acme", instance_type="m1", region="r", usd_per_hour=0.5, as_of=day, source="x")
    arm = row.model_copy(update={"instance_type": "a1", "arch": "arm64", "source": "y"})
    other = row.model_copy(update={"cloud": "other", "as_of": day.replace(hour=12)})
    path = tmp_path / "rows.csv"
    write_snapshot([row, arm], path, notes=["cloud: acme", "source: x"])
    assert path.read_text().splitlines() == [
        "# cloud: acme",
        "# source: x",
        "instance_type,region,market,arch,usd_per_hour,as_of,source",
        "m1,r,on_demand,,0.5,2026-11-01,",
        "a1,r,on_demand,arm64,0.5,2026-11-01,y",
    ]
    assert read_snapshot(path) == [row, arm]
    write_snapshot([row, other], path, notes=["cloud: acme"])
    assert "other,m1,r,on_demand,0.5,2026-11-01T12:00:00Z,x" in path.read_text()
    assert read_snapshot(path) == [row, other]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("instance_type,region,vcpus\nm1,r,many\n", "line 6 of .*rows.csv: vcpus: .*got 'many'"),
        ("instance_type,region,usd_per_hr\nm1,r,1\n", "line 5 .*unknown column 'usd_per_hr'; did you mean \"usd_per_"),
        ("instance_type,region,features\nm1,r,nonsense\n", "line 6 .*features: is no JSON"),
        ("instance_type,region,usd_per_hour\nm1,r,0\n", "line 6 .*usd_per_hour: 0.0 is .*leave the cell empty"),
        ("instance_type,region,usd_per_hour\nm1,r,-1\n", "line 6 .*usd_per_hour: -1.0 is impossible"),
        ("instance_type,region,usd_per_hour\nm1,r,NaN\n", "line 6 .*usd_per_hour: nan is impossible"),
        ("instance_type,region,usd_per_hour\nm1,r,inf\n", "line 6 .*usd_per_hour: inf is impossible"),
        ("instance_type,region,usd_per_hour\nm1,r,0.00001\n", "line 6 .*price per second"),
        ("instance_type,region,memory_gib\nm1,r,131072\n", "line 6 .*memory_gib: .*MiB"),
        (
            "instance_type,region,accelerator_name,accelerator_count,accelerator_memory_gib\nm1,r,H100,8,81559\n",
            "line 6 .*accelerator_memory_gib: .*MiB",
        ),
        ("instance_type,region,accelerator_name\nm1,r,H100\n", "line 6 .*accelerator_count: 0 does not go with"),
        ("instance_type,region,accelerator_vendor\nm1,r,nvidia\n", "line 6 .*accelerator_name: is missing"),
        ("instance_type,region,accelerator_name,accelerator_count\nm1,r,h100,1\n", "line 6 .*is written 'H100'"),
        ("instance_type,region\nm1,r\nm2,r\nm1,r\n", "line 8 .*the same offer as line 6"),
        ("instance_type,region\nm1,r,x\n", "line 6 .*3 cells under 2 columns"),
        ('instance_type,region\nm1,"r\n', "line .*is no CSV"),
        ("instance_type\nm1\n", "line 5 .*no column region"),
        ("instance_type,region,region\nm1,r,r\n", "line 5 .*twice"),
    ],
)
def test_wrong_snapshots_are_refused_with_file_and_line(tmp_path, table, words):
    path = tmp_path / "rows.csv"
    path.write_text(HEAD + table)
    with pytest.raises(PluginError, match=words):
        read_snapshot(path)


def test_a_snapshot_without_date_or_source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("# cloud: acme\n# source: x\ninstance_type,region\nm1,r\n")
    with pytest.raises(PluginError, match=r"line 3 .*no column as_of, and there is no line '# as_of"):
        read_snapshot(path)
    path.write_text("# cloud: acme\ninstance_type,region,as_of,source\nm1,r,2026-11-20,\n")
    with pytest.raises(PluginError, match=r"line 3 .*needs as_of and source"):
        read_snapshot(path)


def test_a_snapshot_that_is_no_text(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(b"cloud\n\xff\xfe\n")
    with pytest.raises(PluginError, match="can't be read"):
        read_snapshot(path)
    path.write_text("")
    with pytest.raises(PluginError, match="is empty"):
        read_snapshot(path)


def test_other_formats_are_not_guessed(tmp_path):
    with pytest.raises(PluginError, match="CSV"):
        read_snapshot(tmp_path / "rows.parquet")
    with pytest.raises(PluginError, match="can't be read"):
        read_snapshot(tmp_path / "absent.csv")
