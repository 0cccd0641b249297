"""Tasks that name a zone, over private clouds: one with zones of its own naming, one whose regions have none."""

from __future__ import annotations

import pytest

from styx.api import OptimizeOptions, connect
from styx.api.views import AcceleratorQuery
from styx.errors import NoPlaceLeft, Scope, UsageError
from styx.models import Task
from styx.optimizer.failover import block_of
from styx.provision.search import Search

DRIVER = """
from pathlib import Path
from styx.plugin import CatalogRow, CredentialsError, Driver, FeatureSet, HasZones, Identity, Place, UnsupportedError
class {title}(Driver{mixin}):
    name = "{name}"
    display_name = "{title}"
    features = FeatureSet(spot=True)
    def check(self):
        places = [Place(cloud="{name}", account="acct", region=region) for region in ("r1", "r2")]
        return Identity(account="acct", places=dict.fromkeys(places))
    def fetch(self):
        for region, usd in (("r1", 2.0), ("r2", 1.0)):
            yield CatalogRow(cloud="{name}", instance_type="plain", region=region, vcpus=8, usd_per_hour=usd,
                             accelerator_name="L4", accelerator_count=1, accelerator_memory_gib=24)
            for zone in ("z1", "z2"):
                yield CatalogRow(cloud="{name}", instance_type="spot", region=region, zone=region + "-" + zone, vcpus=8,
                                 market="spot", usd_per_hour=usd / 2)
    def zone_named(self, place, name, *, ask):
        if not name.startswith(place.region):
            raise UnsupportedError(f"{{name}} is no zone of {{place.region}}", hint="see the list")
        if not ask:
            return name
        asked = Path(self.context.home, "asked")
        if asked.exists() and asked.read_text() == "refuse":
            raise CredentialsError("who are you?")
        asked.write_text(name)
        known = {{place.region + "a": place.region + "-z1", place.region + "b": place.region + "-z2"}}
        if name not in known and name not in known.values():
            raise UnsupportedError(f"{{place.region}} has no zone {{name}} but {{', '.join(known)}}")
        return known.get(name, name)
    def create(self, request): return ()
    def nodes(self, place, cluster, known=()): return ()
    def terminate(self, nodes): pass
"""


@pytest.fixture
def client(private_clouds):
    mixins = {"ibm": ", HasZones", "do": ""}
    return private_clouds(
        {name: DRIVER.format(name=name, title=name.title(), mixin=mixin) for name, mixin in mixins.items()}
    )


def search(client, **resources):
    return Search(client.world, Task.from_dict({"run": "true", "resources": resources}))


def where(choices):
    return [(str(choice.place), choice.offer.instance_type) for choice in choices]


@pytest.mark.parametrize("name", ["r1a", "r1-z1"])
def test_a_row_of_a_region_sells_each_zone_of_it_under_the_clouds_own_name(client, name):
    assert where(search(client, infra=f"ibm/r1/{name}").choices(())) == [("ibm/r1/r1-z1", "plain")]
    assert where(search(client, infra=f"ibm/r1/{name}", use_spot=True).choices(())) == [("ibm/r1/r1-z1", "spot")]


def test_plans_of_one_and_of_many_agree(client):
    task = Task.from_dict({"run": "true", "resources": {"infra": "ibm/r1/r1b"}})
    (planned,) = client.optimize(task).tasks
    assert (planned.region, planned.zone, planned.alternatives) == ("r1", "r1-z2", ())
    explained = client.optimize(task, options=OptimizeOptions(explain=True))
    cheaper = next(each for each in explained.details.what_ifs if each.what == "anywhere, not only in ibm/r1/r1b")
    assert "r2" in cheaper.where


def test_a_zone_without_its_region_is_looked_for_in_all(client):
    assert where(search(client, infra="ibm/*/r1b").choices(())) == [("ibm/r1/r1-z2", "plain")]
    assert where(search(client, infra="*/r2/r2b").choices(())) == [("ibm/r2/r2-z2", "plain")]


def test_several_zones_are_several_places_and_a_refusal_stays_in_its_own(client):
    both = search(client, any_of=[{"infra": "ibm/r1/r1a"}, {"infra": "ibm/r1/r1-z2"}])
    first, second = both.choices(())
    assert {str(first.place), str(second.place)} == {"ibm/r1/r1-z1", "ibm/r1/r1-z2"}
    assert [str(each.place) for each in both.choices([block_of(first, Scope.ZONE)])] == [str(second.place)]
    with pytest.raises(NoPlaceLeft):
        both.choices([block_of(first, Scope.REGION)])
    alone = search(client, infra="ibm/r1/r1a")
    for scope in Scope:
        with pytest.raises(NoPlaceLeft):
            alone.choices([block_of(alone.choices(())[0], scope)])


@pytest.mark.parametrize(
    ("infra", "says"),
    [
        ("ibm/r1/r1z", "r1 has no zone r1z but r1a, r1b"),
        ("ibm/r1/elsewhere", "elsewhere is no zone of r1"),
        ("do/r1/r1a", "needs zone r1a; there is region r1 as a whole, which has no zones to choose from here"),
    ],
)
def test_a_zone_that_there_is_not(client, infra, says):
    with pytest.raises(NoPlaceLeft, match=says):
        search(client, infra=infra).choices(())
    with pytest.raises(NoPlaceLeft, match="r1z"):
        search(client, any_of=[{"infra": "ibm/r1/r1z"}, {"infra": "ibm/r2/r1z"}]).choices(())


def test_one_wrong_alternative_is_told_and_the_other_taken(client, tmp_path):
    told = []
    other = connect(home=tmp_path, environ={"HOME": str(tmp_path)}, report=told.append)
    found = search(other, any_of=[{"infra": "ibm/r1/r1z"}, {"infra": "ibm/r2"}]).choices(())
    assert where(found) == [("ibm/r2", "plain")]
    assert told == ["r1 has no zone r1z but r1a, r1b"]
    other.close()


def test_a_cloud_that_does_not_answer_is_not_taken_to_lack_the_zone(client, tmp_path):
    (tmp_path / "asked").write_text("refuse")
    with pytest.raises(Exception, match="who are you"):
        search(client, infra="ibm/r1/r1a").choices(())


def test_what_is_assumed_to_be_enabled_is_not_asked(client, tmp_path):
    task = Task.from_dict({"run": "true", "resources": {"infra": "ibm/r1/r1a"}})
    (planned,) = client.optimize(task, options=OptimizeOptions(assume_enabled=("ibm",))).tasks
    assert planned.zone == "r1a"
    assert not (tmp_path / "asked").exists()


def test_lists_of_accelerators_in_a_zone(client):
    (view,) = client.accelerators(AcceleratorQuery(infra="ibm/r1/r1a"))
    assert view.instance_types == ("plain",)
    assert client.accelerators(AcceleratorQuery(infra="do/r1/r1a")) == []
    with pytest.raises(UsageError, match="elsewhere is no zone of r1"):
        client.accelerators(AcceleratorQuery(infra="ibm/r1/elsewhere"))
