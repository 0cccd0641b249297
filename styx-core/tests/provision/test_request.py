"""What a cloud is asked for, and what is said while it takes its time."""

from __future__ import annotations

import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import Field, SecretStr

from styx.driver import CatalogRow, DriverConfig, FeatureSet, Image, Market, Node, NodeState, Place, Waiting
from styx.errors import (
    AmbiguousError,
    CapacityError,
    CloudError,
    CredentialsError,
    QuotaError,
    Scope,
    TransientError,
    UnsupportedError,
    VendorDetail,
)
from styx.models import Resources
from styx.models.settings import LaunchSettings
from styx.optimizer.problem import Choice
from styx.provision import gang
from styx.provision.attempts import Doubt, Refused, all_refused, table, waiting_for
from styx.provision.request import bid, ends_at, first_lease_s, image_of, network_of, options_of, unfit
from styx.state.rows import ClusterRow, ClusterState
from styx.transport import revive

NOW = datetime(2030, 1, 1, tzinfo=UTC)
PLACE = Place(cloud="c", account="a", region="r1")


def row_of(lease: dict[str, Any], born: datetime) -> ClusterRow:
    return ClusterRow(
        key="k",
        name="n",
        owner="me",
        state=ClusterState.INIT,
        num_nodes=1,
        created_at=born,
        last_use_at=born,
        lease=lease,
    )


def choice(market: Market = Market.ON_DEMAND, region: str = "r1", usd_per_hour: float | None = 2.0) -> Choice:
    row = CatalogRow(cloud="c", instance_type="big", region=region, market=market, usd_per_hour=usd_per_hour)
    place = Place(cloud="c", account="a", region=region)
    return Choice(place=place, offer=row, usd_per_hour=usd_per_hour, requirement="any")


def asked(**fields: Any) -> Resources:
    return Resources.model_validate(fields)


@pytest.mark.parametrize(
    ("image_id", "container", "image"),
    [
        (None, "none", None),
        ("ami-1", "docker", Image(kind="machine", ref="ami-1")),
        ({"r1": "ami-1", "r2": "ami-2"}, "docker", Image(kind="machine", ref="ami-1")),
        ("docker:ubuntu:24.04", "node", Image(kind="container", ref="ubuntu:24.04")),
        ("docker:ubuntu:24.04", "docker", None),
    ],
)
def test_image(image_id: Any, container: Any, image: Image | None) -> None:
    wanted = asked(image_id=image_id) if image_id else asked()
    assert image_of(wanted, choice(), FeatureSet(container=container, custom_image=True)) == image


def test_an_image_for_other_regions_is_a_reason() -> None:
    wanted = asked(image_id={"r2": "ami-2"})
    assert unfit(choice(region="r1"), wanted) == "image_id names no image for r1"
    assert unfit(choice(region="r2"), wanted) is None


def test_bids() -> None:
    assert bid(choice(Market.ON_DEMAND), asked(max_hourly_cost=3)) is None
    assert bid(choice(Market.SPOT), asked()) is None
    assert bid(choice(Market.SPOT), asked(max_hourly_cost=3)) == 3
    assert bid(choice(Market.BID), asked()) == 2.0
    assert bid(choice(Market.BID), asked(max_hourly_cost=3)) == 3


@pytest.mark.parametrize(
    ("lease", "seconds"),
    [
        ({}, None),
        ({"max_age_s": 60.0}, None),
        ({"max_age_s": 60.0, "action": "down"}, 60.0),
        ({"action": "down"}, None),
    ],
)
def test_a_cloud_is_given_an_end_only_where_the_end_removes(lease: dict[str, Any], seconds: float | None) -> None:
    end = ends_at(row_of(lease, NOW))
    assert (None if end is None else (end - NOW).total_seconds()) == seconds


@pytest.mark.parametrize(
    ("settings", "lease", "seconds"),
    [
        ({}, {}, 3600.0),
        ({"ready_timeout": 7200}, {}, 10800.0),
        ({"first_lease": 600, "ready_timeout": 7200}, {}, 600.0),
        ({}, {"max_age_s": 1000.0}, 900.0),  # the row is 100 s old
        ({}, {"max_age_s": 50.0}, 1.0),
        ({}, {"max_usd": 0.5}, 900.0),
        ({}, {"idle_s": 60.0, "dead_man_s": 60.0}, 3600.0),
    ],
)
def test_how_long_a_machine_waits_for_its_first_lease(
    settings: dict[str, Any], lease: dict[str, Any], seconds: float
) -> None:
    old = NOW - timedelta(seconds=100)
    row = row_of(lease, old)
    launch = LaunchSettings.model_validate(settings)
    world = SimpleNamespace(config=SimpleNamespace(launch=launch), now=lambda: NOW)
    assert first_lease_s(world, row, choice()) == seconds  # type: ignore[arg-type] # all that it looks at


def test_a_boot_script_is_a_script_whatever_ends_the_machine() -> None:
    odd = ("python3", "-c", "print('$left `x` \\ \"')\n", "it's")
    for end in (revive.POWEROFF, odd):
        script = revive.boot_script("styx-a-abc00001", first_lease_s=9.6, end=end)
        assert shlex.join(end) in script
        assert "left=10" in script
        assert "@" not in script.replace("$@", "")
        subprocess.run(["sh", "-n"], input=script.encode(), check=True)
    assert revive.boot_script("k", first_lease_s=9.6, end=()) == revive.boot_script()


class Settings(DriverConfig):
    """Of a test's driver."""

    network: dict[str, str | None] = Field(default_factory=lambda: {"vpc": "vpc-1", "subnet": None})
    """Where."""
    token: SecretStr = SecretStr("canary")
    """Not to be passed on."""
    fleet: bool = False
    """Something else."""


def test_settings_reach_the_request_and_secrets_do_not() -> None:
    assert network_of(Settings()) == {"vpc": "vpc-1"}
    given = options_of(Settings(token=SecretStr("canary"), fleet=True, network={}))
    assert given == {"fleet": True}
    assert network_of(DriverConfig()) == {}


def test_what_is_said_of_a_wait() -> None:
    booting = Waiting(kind="booting", reason="the machine boots")
    nodes = [
        Node(id=f"n{rank}", cluster="k", rank=rank, place=PLACE, state=state, waiting=waiting)
        for rank, (state, waiting) in enumerate([(NodeState.PENDING, booting), (NodeState.RUNNING, None)])
    ]
    assert waiting_for(gang.Made(tuple(nodes))) == "waiting for 1 of 2 machines (the machine boots)"
    assert waiting_for(gang.Made(tuple(nodes[1:]))) is None
    assert waiting_for(None) is None
    assert waiting_for(gang.Raised(TransientError("503"))) == "not now: 503"
    assert "lost" in (waiting_for(gang.Raised(AmbiguousError("gone"))) or "")


def test_the_table_has_the_vendors_codes_and_plain_words() -> None:
    errors: list[CloudError] = [
        CapacityError("none left", vendor=VendorDetail(code="InsufficientInstanceCapacity")),
        QuotaError("the quota is used up"),
    ]
    text = table([Refused(choice(), error, Scope.ZONE) for error in errors])
    assert text.splitlines()[1:] == [
        "  c/r1  big  InsufficientInstanceCapacity  none left",
        "  c/r1  big  QuotaError                    the quota is used up",
    ]


def test_the_end_says_what_the_refusals_say_to_do_about_it() -> None:
    def told(*errors: CloudError) -> tuple[str | None, bool]:
        ended = all_refused([Refused(choice(), error, Scope.REGION) for error in errors])
        return ended.hint, ended.lasting

    keys, quota = CredentialsError("wrong", hint="set the key"), QuotaError("used up", hint="ask for more")
    wait = "see `styx why` for the clouds' own words, or use --retry-until-up"
    assert told(quota, quota, CapacityError("none left")) == (f"ask for more; {wait}", False)
    assert told(keys, quota) == (f"set the key; ask for more; {wait}", False)
    assert told(keys, UnsupportedError("never")) == ("set the key", True)
    assert told(UnsupportedError("never")) == ("see `styx why` for the clouds' own words", True)


def test_a_cloud_is_silent_until_it_says_something() -> None:
    def silent(*seen: gang.Seen) -> bool:
        held = Doubt()
        for each in seen:
            held.heed(each)
        return held.silent

    lost = gang.Raised(TransientError("host can't be reached"))
    throttled = gang.Raised(TransientError("slow down", vendor=VendorDetail(code="Throttled")))
    assert not silent()
    assert silent(lost, gang.Raised(AmbiguousError("no answer")), lost)
    assert not silent(lost, throttled)
    assert not silent(throttled, lost)
    assert not silent(gang.Raised(CapacityError("none left")))
    assert not silent(lost, gang.Listed(()))


def test_only_a_plain_refusal_of_the_first_call_leaves_no_doubt() -> None:
    node = Node(id="n", cluster="k", rank=0, place=PLACE, state=NodeState.PENDING)

    def doubt(*seen: gang.Seen) -> bool:
        held = Doubt()
        for each in seen:
            held.heed(each)
        return held.exists

    refused = gang.Raised(CapacityError("none left"))
    assert not doubt(refused)
    assert not doubt(gang.Raised(QuotaError("used up")))
    assert not doubt(gang.Raised(UnsupportedError("never")))
    assert doubt(gang.Raised(CapacityError("none left", created=(node,))))
    assert doubt(gang.Raised(TransientError("timed out")), refused)
    assert doubt(gang.Raised(AmbiguousError("lost")))
    assert doubt(gang.Made((node,)), refused)
    assert not doubt(gang.Made(()), refused)
