"""The cost report over a real store: by cluster, user, job and cloud; disks, traffic, and what nobody knows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from styx.api.estimates import HOURS_PER_MONTH
from styx.api.inprocess import InProcess
from styx.driver import Place
from styx.state.rows import ClusterRow, ClusterState, JobRow, Rate

DRIVER = """
from styx.testing.fakecloud import FakeDriver

class Fake(FakeDriver):
    def disk_usd_per_gib_month(self, place, tier):
        return 0.1
"""


class Books:
    """A home whose ledger is written by hand."""

    def __init__(self, folder: Path) -> None:
        (folder / "home" / "drivers").mkdir(parents=True)
        (folder / "home" / "drivers" / "fake.py").write_text(DRIVER)
        environ = {"STYX_USER": "ada", "HOME": str(folder)}
        self.client = InProcess.open(home=folder / "home", cwd=folder, environ=environ)
        self.store = self.client.world.store
        self.now = self.client.world.now()

    def ago(self, hours: float) -> datetime:
        return self.now - timedelta(hours=hours)

    def cluster(self, name: str, usd: float | None, *, cloud: str = "fake", hours: float = 10.0, **fields: Any) -> str:
        key = self.store.new_key(name)
        place = Place(cloud=cloud, account="1", region="north")
        values = {
            "key": key, "name": name, "owner": "ada", "state": ClusterState.UP, "place": place, "num_nodes": 1,
            "created_at": self.ago(hours), "last_use_at": self.now, "ended_at": self.now,
        }  # fmt: skip
        self.store.insert_cluster(ClusterRow.model_validate(values | fields))
        rate = Rate(cluster=key, node="n", rank=0, place=place, usd_per_hour=usd, start=self.ago(hours), end=self.now)
        self.store.open_rate(rate)
        return key

    def job(self, key: str, job_id: int, begin: float, end: float | None, name: str | None = None) -> None:
        self.store.save_job(
            JobRow(
                cluster=key,
                job_id=job_id,
                name=name,
                user="ada",
                state="SUCCEEDED" if end is not None else "RUNNING",
                started_at=self.ago(begin),
                ended_at=None if end is None else self.ago(end),
            )
        )


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    books = Books(tmp_path)
    yield books
    books.client.close()


def lines(view: Any) -> dict[str, float | None]:
    return {each.item: each.usd for each in view.items}


def test_each_kind_of_charge_is_a_line_and_estimates_are_no_part_of_the_total(books: Books) -> None:
    key = books.cluster("dev", 2.0, resources={"disk_size": 73, "disk_tier": None}, num_nodes=2)
    place = Place(cloud="fake", account="1", region="north")
    sent = {"cluster": key, "node": "n", "rank": 0, "place": place, "item": "egress", "usd_per_hour": 0.5}
    books.store.open_rate(Rate.model_validate(sent | {"start": books.ago(2), "end": books.now}))
    (view,) = books.client.cost_report()
    assert (view.usd, view.usd_known) == (pytest.approx(21.0), pytest.approx(21.0))
    assert lines(view) == {
        "compute": pytest.approx(20.0),
        "disk": pytest.approx(0.1 * 73 * 2 * 10 / HOURS_PER_MONTH),
        "egress": pytest.approx(1.0),
    }
    assert [each.item for each in view.items if each.estimated] == ["disk"]


def test_what_nobody_knows_is_none_and_what_is_free_is_nothing(books: Books) -> None:
    books.cluster("sizeless", 1.0)
    books.cluster("gone", None, cloud="zeus")
    books.cluster("here", 0.0, cloud="local")
    views = {view.cluster: view for view in books.client.cost_report()}
    assert lines(views["sizeless"]) == {"compute": pytest.approx(10), "disk": None, "egress": None}
    assert lines(views["gone"]) == {"compute": None, "disk": None, "egress": None}
    assert lines(views["here"]) == {"compute": 0.0, "disk": 0.0, "egress": 0.0}


def test_by_user_and_by_cloud(books: Books) -> None:
    books.cluster("a", 1.0)
    books.cluster("b", 2.0, cloud="zeus")
    books.cluster("c", 3.0, owner="bob")
    books.cluster("d", None, owner="bob")
    ada, bob = sorted(books.client.cost_groups("user"), key=lambda group: group.name)
    assert (ada.name, ada.usd, ada.hours) == ("ada", pytest.approx(30), pytest.approx(20))
    assert (bob.name, bob.usd, bob.usd_known) == ("bob", None, pytest.approx(30))
    clouds = {group.name: (group.usd_known, lines(group)["compute"]) for group in books.client.cost_groups("cloud")}
    assert clouds == {"fake": (pytest.approx(40), None), "zeus": (pytest.approx(20), pytest.approx(20))}


def test_by_job_adds_up_to_the_cluster(books: Books) -> None:
    key = books.cluster("dev", 2.0, resources={"disk_size": 730})
    books.job(key, 1, 8, 4, "train")
    books.job(key, 2, 5, 3)
    groups = books.client.cost_groups("job")
    assert {group.name: group.usd for group in groups} == {
        "dev (no job)": pytest.approx(10),
        "dev/1 train": pytest.approx(7),
        "dev/2": pytest.approx(3),
    }
    by_id = {group.job_id: group for group in groups}
    assert lines(by_id[None]) == {"compute": pytest.approx(10), "disk": pytest.approx(1.0), "egress": None}
    assert lines(by_id[1]) == {"compute": pytest.approx(7)}
    assert sum(group.usd or 0 for group in groups) == pytest.approx(books.client.cost_report()[0].usd)


def test_only_the_days_asked_for(books: Books) -> None:
    key = books.cluster("old", 1.0, hours=72)
    books.job(key, 1, 60, 12)
    assert books.client.cost_report(days=1)[0].usd == pytest.approx(24, rel=1e-3)
    assert books.client.cost_report(days=0)[0].usd == pytest.approx(72)
    assert {group.job_id: group.usd for group in books.client.cost_groups("job", days=1)} == {
        None: pytest.approx(12), 1: pytest.approx(12, rel=1e-3),
    }  # fmt: skip


def notes(view: Any) -> dict[str, str | None]:
    return {each.item: each.note for each in view.items}


def test_what_is_not_known_says_why_and_estimates_say_from_what(books: Books) -> None:
    books.cluster("sized", 1.0, resources={"disk_size": 73})
    books.cluster("sizeless", 1.0)
    books.cluster("gone", 1.0, cloud="zeus", resources={"disk_size": 73})
    books.cluster("nowhere", 1.0, place=None)
    views = {view.cluster: notes(view) for view in books.client.cost_report()}
    assert views["sized"]["disk"] == "a disk of 73 GiB for $7.30 a month, list price"
    assert views["sizeless"]["disk"] == "the size of the disks is not known"
    assert "zeus" in (views["gone"]["disk"] or "")
    assert "no machine" in (views["nowhere"]["disk"] or "")
    assert "neither fake nor Styx counts what the machines send" in (views["sized"]["egress"] or "")
    merged = {item.item: item.note for group in books.client.cost_groups("user") for item in group.items}
    assert "73 GiB" in (merged["disk"] or "")
    assert "not known" in (merged["disk"] or "")


STOPS = """
from datetime import date
from styx.plugin import DiskPrice
from styx.testing.fakecloud import FakeDriver

class Fake(FakeDriver):
    def disk_price(self, place, offer, gib, tier):
        assert offer is None or offer.cloud == "fake"
        return None if tier == "best" else DiskPrice(usd=73.0, usd_stopped=146.0, gib=gib or 50, as_of=date(2026, 1, 2), source="here")
"""  # noqa: E501


def test_the_time_that_a_cluster_was_stopped_has_a_price_of_its_own(books: Books) -> None:
    (books.client.world.store.folders.home / "drivers" / "fake.py").write_text(STOPS)
    key = books.cluster("dev", 1.0, hours=10, ended_at=None, num_nodes=1)
    place = Place(cloud="fake", account="1", region="north")
    books.store.close_rates(key, books.now)
    early = Rate(cluster=key, node="n", rank=0, place=place, usd_per_hour=1.0, start=books.ago(20), end=books.ago(16))
    books.store.open_rate(early)  # up for 4 hours, stopped for 6, up for 10
    books.cluster("best", 1.0, resources={"disk_tier": "best", "disk_size": 10})
    views = {view.cluster: view for view in books.client.cost_report()}
    assert lines(views["dev"])["disk"] == pytest.approx((14 * 73 + 6 * 146) / HOURS_PER_MONTH, rel=1e-3)
    told = "a disk of 50 GiB for $73.00 a month ($146.00 while stopped), list price (here, 2026-01-02)"
    assert notes(views["dev"])["disk"] == told
    assert lines(views["best"])["disk"] is None
    assert notes(views["best"])["disk"] == "no list price of Fake cloud's disks of tier best in north is known"


def test_traffic_is_free_where_the_cloud_charges_none_and_named_where_it_does(books: Books) -> None:
    books.cluster("l", 1.0, cloud="lambda")
    books.cluster("a", 1.0, cloud="aws", place=Place(cloud="aws", account="1", region="us-east-1"))
    books.cluster("k", 1.0, cloud="kubernetes")
    views = {view.cluster: view for view in books.client.cost_report()}
    assert {name: lines(view)["egress"] for name, view in views.items()} == {"l": 0.0, "a": None, "k": None}
    assert "lambda charges nothing for traffic" in (notes(views["l"])["egress"] or "")
    assert "a GB to the internet is $0.09" in (notes(views["a"])["egress"] or "")
