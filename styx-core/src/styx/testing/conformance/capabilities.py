"""Checks of the capability mixins; one class for each. They run only for drivers that have the mixin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from styx.driver import (
    EndsItself,
    HasVolumes,
    HasZones,
    MakesImages,
    Node,
    NodeRequest,
    NodeState,
    OfferQuery,
    OpensPorts,
    QuotesLive,
    ReportsQuota,
    Stoppable,
    WarnsBeforeEnd,
)
from styx.errors import TransientError, UnsupportedError
from styx.testing.conformance import steps
from styx.testing.conformance.harness import OTHER_STORE, AnyDriver, Harness
from styx.testing.conformance.identity import assert_sane


class StoppableConformance:
    """Stop and start."""

    def test_stopped_nodes_stay_listed(self, harness: Harness) -> None:
        """Stopped machines are listed as stopped under their ranks, and a second stop changes nothing."""
        driver, _, request, nodes = self.stopped(harness)
        assert isinstance(driver, Stoppable)
        driver.stop(nodes)
        seen = driver.nodes(request.place, request.cluster, known=nodes)
        states = {node.rank: node.state.value for node in seen}
        assert states == {node.rank: "stopped" for node in nodes}, f"after stop the ranks are {states}"
        assert all(node.reach is None or node.state is NodeState.RUNNING for node in seen), "a stopped node has a reach"

    def test_start_replaces_by_rank(self, harness: Harness) -> None:
        """Started machines run under the ranks they had, as many as before, whatever their ids."""
        driver, before, request, nodes = self.stopped(harness)
        started = self.start(harness, driver, nodes)
        assert sorted(node.rank for node in started) == sorted(node.rank for node in nodes), "start changed the ranks"
        seen = self.settle(harness, driver, request, NodeState.RUNNING)
        assert {node.rank: node.id for node in seen} == {node.rank: node.id for node in started}, (
            "the nodes that start returned are not the ones that run"
        )
        assert all(node.reach is not None for node in seen), "a started node can't be reached"
        assert len(steps.truth(harness) - before) == request.count, "start made machines beside the stopped ones"

    def test_start_twice(self, harness: Harness) -> None:
        """A repeated start, told the same old nodes because the first reply was lost, starts nothing else."""
        driver, before, request, nodes = self.stopped(harness)
        first = self.start(harness, driver, nodes)
        again = self.start(harness, driver, nodes)
        assert steps.ids(again) == steps.ids(first), f"the second start returned {steps.ids(again)}"
        assert len(steps.truth(harness) - before) == request.count, "a repeated start made machines"

    def test_stopped_nodes_can_be_removed(self, harness: Harness) -> None:
        """A stopped machine can be terminated without being started."""
        driver, _, _, nodes = self.stopped(harness)
        steps.down(harness, driver, nodes)

    def stopped(self, harness: Harness) -> tuple[AnyDriver, set[str], NodeRequest, list[Node]]:
        """A gang that was made and stopped: driver, what was there before, request, nodes as listed now."""
        driver, before = harness.driver(), steps.truth(harness)
        request = harness.request(driver, steps.several(driver))
        nodes = steps.up(harness, driver, request)
        assert isinstance(driver, Stoppable)
        driver.stop(nodes)
        return driver, before, request, self.settle(harness, driver, request, NodeState.STOPPED)

    @staticmethod
    def settle(harness: Harness, driver: AnyDriver, request: NodeRequest, state: NodeState) -> list[Node]:
        """The listing once all nodes are in `state`."""
        seen: list[Node] = []
        for _ in range(steps.STEPS):
            seen = steps.living(driver.nodes(request.place, request.cluster))
            if len(seen) == request.count and all(node.state is state for node in seen):
                return seen
            harness.advance(steps.STEP_S)
        raise AssertionError(f"nodes should be {state.value} by now, but are {[node.state.value for node in seen]}")

    @staticmethod
    def start(harness: Harness, driver: AnyDriver, nodes: Sequence[Node]) -> list[Node]:
        """Repeat `start` while it asks for patience."""
        assert isinstance(driver, Stoppable)
        for _ in range(steps.STEPS):
            try:
                return list(driver.start(nodes))
            except TransientError as error:
                harness.advance(error.retry_after_s)
        raise AssertionError(f"start still asks for patience after {steps.STEPS} repeats")


class OpensPortsConformance:
    """Ports after creation."""

    def test_ports_open_and_close(self, harness: Harness) -> None:
        """An opened port has an endpoint, a closed one has none; either can be repeated; others stay as they are."""
        driver = harness.driver()
        assert isinstance(driver, OpensPorts)
        request = harness.request(driver)
        nodes = steps.up(harness, driver, request)
        kept = set(request.ports)
        for change, wanted in ((driver.open_ports, kept | {9001, 9002}), (driver.close_ports, kept)):
            for _ in range(2):
                change(nodes, (9001, 9002))
            nodes = list(driver.nodes(request.place, request.cluster))
            for node in nodes:
                have = set(node.endpoints)
                assert have == wanted, f"after {change.__name__} the endpoints are {sorted(have)}, not {sorted(wanted)}"
                for port, end in node.endpoints.items():
                    assert end.url or (end.host and end.port), f"the endpoint of port {port} says nowhere to connect to"


class QuotesLiveConformance:
    """Live quotes."""

    def test_quotes_are_sane(self, harness: Harness) -> None:
        """Quotes are rows like any other, and at least one can be had."""
        driver = harness.driver()
        assert isinstance(driver, QuotesLive)
        rows = driver.offers(OfferQuery(), 30.0)
        assert rows, "no quote at all for a query without limits"
        assert all(row.cloud == driver.name for row in rows), "a quote is of another cloud"
        assert_sane(rows, free=driver.free)

    def test_quotes_meet_the_query(self, harness: Harness) -> None:
        """Every limit of the query holds for every quote; what cannot be met has no quotes and is no error."""
        driver = harness.driver()
        assert isinstance(driver, QuotesLive)
        rows = driver.offers(OfferQuery(), 30.0)
        largest = max(rows, key=lambda row: (row.accelerator_count, row.vcpus or 0, row.memory_gib or 0))
        query = OfferQuery(
            region=largest.region,
            zone=largest.zone,
            accelerator_name=largest.accelerator_name,
            accelerator_count=largest.accelerator_count,
            vcpus=largest.vcpus,
            memory_gib=largest.memory_gib,
        )
        for limit in type(query).model_fields:
            wanted: Any = getattr(query, limit)
            if wanted is None:
                continue
            for row in driver.offers(OfferQuery.model_validate({limit: wanted}), 30.0):
                have = getattr(row, limit)
                met = have == wanted if isinstance(wanted, str) else (have or 0) >= wanted
                assert met, f"asked for {limit} {wanted}, {row.instance_type} in {row.region} has {have}"
        assert driver.offers(query, 30.0), "the largest row can't be found by its own figures"
        assert not driver.offers(OfferQuery(vcpus=10_000_000), 30.0), "ten million vCPUs are on offer"


class ReportsQuotaConformance:
    """Quotas."""

    def test_quota_is_a_count(self, harness: Harness) -> None:
        """A quota is a number of machines, or None for unknown; it shrinks when a machine is made."""
        driver = harness.driver()
        assert isinstance(driver, ReportsQuota)
        request = harness.request(driver)
        before = driver.quota(request.place, request.offer)
        steps.up(harness, driver, request)
        after = driver.quota(request.place, request.offer)
        for value in (before, after):
            assert value is None or (value >= 0 and math.isfinite(value)), f"a quota of {value} machines"
        if before is not None and after is not None and harness.quota_counts_down:
            assert after < before, f"{before} machines could be made, one was, and still it is {after}"


class HasVolumesConformance:
    """Named volumes."""

    def test_volumes_come_and_go(self, harness: Harness) -> None:
        """A volume is made once for each name, listed, and deleted; deleting it again is a success."""
        driver = harness.driver()
        assert isinstance(driver, HasVolumes)
        place = harness.place(driver)
        volume = driver.create_volume(place, "data", 10, {})
        assert driver.create_volume(place, "data", 10, {}) == volume, "the same name again made another volume"
        listed = [one.id for one in driver.volumes(place)]
        assert listed == [volume], f"made {volume}, listed {listed}"
        for _ in range(2):
            driver.delete_volume(place, volume)
        harness.advance(driver.limits.listing_lag_s)
        left = [one.id for one in driver.volumes(place)]
        assert not left, f"deleted volumes are still listed: {left}"

    def test_volumes_of_another_store(self, harness: Harness) -> None:
        """Two installations may use the same name for two volumes, and see only their own."""
        ours, theirs = harness.driver(), harness.driver(store=OTHER_STORE)
        assert isinstance(ours, HasVolumes)
        assert isinstance(theirs, HasVolumes)
        place = harness.place(ours)
        mine = ours.create_volume(place, "data", 10, {})
        his = theirs.create_volume(place, "data", 10, {})
        assert mine != his, "two installations share one volume"
        listed = [one.id for one in ours.volumes(place)]
        assert listed == [mine], f"our volume is {mine}, the listing says {listed}"
        ours.delete_volume(place, mine)
        theirs.delete_volume(place, his)

    def test_volumes_outlive_clusters(self, harness: Harness) -> None:
        """Releasing a cluster leaves named volumes alone: they hold the user's data."""
        driver = harness.driver()
        assert isinstance(driver, HasVolumes)
        request = harness.request(driver)
        volume = driver.create_volume(request.place, "data", 10, {})
        steps.down(harness, driver, steps.up(harness, driver, request))
        assert [one.id for one in driver.volumes(request.place)] == [volume], "releasing a cluster deleted a volume"
        driver.delete_volume(request.place, volume)


class MakesImagesConformance:
    """Images."""

    def test_image_twice(self, harness: Harness) -> None:
        """The same name again is the same image; another name is another."""
        driver = harness.driver()
        request = harness.request(driver)
        node = steps.up(harness, driver, request)[0]
        if isinstance(driver, Stoppable):
            driver.stop([node])
            harness.advance(steps.STEP_S)
        node = next(iter(driver.nodes(request.place, request.cluster)))
        assert isinstance(driver, MakesImages)
        image = driver.make_image(node, "first")
        assert image, "the image has an empty id"
        assert driver.make_image(node, "first") == image, "the same name again made another image"
        assert driver.make_image(node, "second") != image, "another name returned the same image"


class HasZonesConformance:
    """Zones by name."""

    def test_a_zone_has_one_name(self, harness: Harness) -> None:
        """A zone that nodes are in is called that, asked or not, and what it is called is its own answer."""
        driver = harness.driver()
        assert isinstance(driver, HasZones)
        request = harness.request(driver)
        (node,) = steps.up(harness, driver, request)
        zone = node.place.zone
        assert zone is not None, "the node does not say in which zone it is"
        region = request.place.model_copy(update={"zone": None})
        for ask in (True, False):
            name = driver.zone_named(region, zone, ask=ask)
            assert name == zone, f"a node is in zone {zone}, which is said to be called {name}"

    def test_nodes_are_made_in_the_zone(self, harness: Harness) -> None:
        """A node that is asked for in a zone, by a row that names none, is made there and listed there."""
        driver = harness.driver()
        assert isinstance(driver, HasZones)
        request = harness.request(driver)
        (first,) = steps.up(harness, driver, request)
        place = request.place.model_copy(update={"zone": first.place.zone})
        offer = request.offer.model_copy(update={"zone": None})
        again = harness.request(driver, slug="zoned").model_copy(update={"place": place, "offer": offer})
        (node,) = steps.up(harness, driver, again)
        assert node.place.zone == place.zone, f"asked for zone {place.zone}, made in {node.place.zone}"
        listed = driver.nodes(place, again.cluster)
        assert steps.ids(listed) == [node.id], f"the listing of {place} has {steps.ids(listed)}"

    def test_no_such_zone(self, harness: Harness) -> None:
        """What can't be a zone there is refused in words that name it, asked or not."""
        driver = harness.driver()
        assert isinstance(driver, HasZones)
        region = harness.place(driver).model_copy(update={"zone": None})
        for ask in (True, False):
            said = ""
            try:
                name = driver.zone_named(region, "no zone", ask=ask)
            except UnsupportedError as error:
                said = error.message
            else:
                raise AssertionError(f"'no zone' is said to be zone {name}")
            assert "no zone" in said, f"the refusal does not name the zone: {said}"


class WarnsBeforeEndConformance:
    """Preemption notices."""

    def test_notice_probe_is_a_command(self, harness: Harness) -> None:
        """The probe is an argument list that the agent can run as it is, without a secret in it."""
        driver = harness.driver()
        assert isinstance(driver, WarnsBeforeEnd)
        for node in steps.up(harness, driver, harness.request(driver)):
            argv = driver.notice_probe(node)
            assert not isinstance(argv, str), "the probe is one string; return a list of arguments"
            assert_command(harness, argv)


class EndsItselfConformance:
    """Self action."""

    def test_self_action_says_what_it_stops(self, harness: Harness) -> None:
        """A command has arguments and no secret, nothing else has any, and what does nothing stops no billing."""
        driver = harness.driver()
        assert isinstance(driver, EndsItself)
        actions: tuple[Literal["stop", "down"], ...] = ("stop", "down")
        for node in steps.up(harness, driver, harness.request(driver)):
            for action in actions:
                for _ in range(2):
                    driver.prepare_self_action([node], action)
                end = driver.self_action(node, action)
                if end.kind == "command":
                    assert_command(harness, end.argv)
                else:
                    assert not end.argv, f"{action}: kind {end.kind} has no arguments"
                assert end.kind != "none" or not end.stops_billing, f"{action}: doing nothing does not stop billing"


def assert_command(harness: Harness, argv: Sequence[str]) -> None:
    """Fail unless `argv` is a command without secrets."""
    assert argv, "the command is empty"
    assert all(isinstance(one, str) and one for one in argv), f"the command has odd arguments: {list(argv)}"
    for canary in harness.credentials.values():
        assert not any(canary in one for one in argv), "a credential is in a command that runs on the node"


SUITES: dict[type, type] = {
    EndsItself: EndsItselfConformance,
    HasVolumes: HasVolumesConformance,
    HasZones: HasZonesConformance,
    MakesImages: MakesImagesConformance,
    OpensPorts: OpensPortsConformance,
    QuotesLive: QuotesLiveConformance,
    ReportsQuota: ReportsQuotaConformance,
    Stoppable: StoppableConformance,
    WarnsBeforeEnd: WarnsBeforeEndConformance,
}
"""Each capability mixin, and its checks."""
