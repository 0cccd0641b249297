"""Deliberate faults in the capability mixins, and the checks that catch them."""

import re
import uuid

import pytest

from styx.driver import Endpoint, NodeState, SelfEnd, Ssh
from styx.errors import DriverError, TransientError
from styx.testing.conformance import SUITES
from styx.testing.conformance.proof import Proof
from styx.testing.fakecloud import FakeDriver

PROOF = Proof(*SUITES.values())
caught_by = PROOF.caught_by


@caught_by("test_stopped_nodes_stay_listed", "nodes should be stopped by now")
class HidesTheStopped(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return [one for one in super().nodes(place, cluster, known) if one.state is not NodeState.STOPPED]


@caught_by("test_stopped_nodes_stay_listed", "stopped already")
class StopsOnce(FakeDriver):
    def stop(self, nodes):
        if any(node.state is NodeState.STOPPED for node in nodes):
            raise DriverError("stopped already")
        super().stop(nodes)


@caught_by("test_start_replaces_by_rank", "start changed the ranks")
class StartsUnderNewRanks(FakeDriver):
    def start(self, nodes):
        count = len(nodes)
        return [one.model_copy(update={"rank": count - one.rank}) for one in super().start(nodes)]


@caught_by("test_start_replaces_by_rank", "the nodes that start returned are not the ones that run")
class ReturnsTheOldIds(FakeDriver):
    def start(self, nodes):
        super().start(nodes)
        return nodes


@caught_by("test_start_twice", "The fake cloud says not_found: no such machine")
class StartsOnlyById(FakeDriver):
    def start(self, nodes):
        return [self._node(self._call(self._cloud.start_machine, self._key, node.id)) for node in nodes]


@caught_by("test_stopped_nodes_can_be_removed", "terminate left machines behind:")
class EndsOnlyTheRunning(FakeDriver):
    def terminate(self, nodes):
        super().terminate([node for node in nodes if node.state is NodeState.RUNNING])


@caught_by("test_ports_open_and_close", "after open_ports the endpoints are")
class OpensNothing(FakeDriver):
    def open_ports(self, nodes, ports):
        return None


@caught_by("test_ports_open_and_close", "after close_ports the endpoints are")
class ClosesAll(FakeDriver):
    def close_ports(self, nodes, ports):
        super().close_ports(nodes, [*ports, 8080])


@caught_by("test_quotes_are_sane", "GiB for each vCPU; which unit is memory_gib in?")
class QuotesInMib(FakeDriver):
    def offers(self, query, deadline_s):
        return [one.model_copy(update={"memory_gib": one.memory_gib * 1024}) for one in super().offers(query, 5)]


@caught_by("test_quotes_meet_the_query", "asked for zone north-a")
class IgnoresTheQuery(FakeDriver):
    def offers(self, query, deadline_s):
        return list(self.fetch())


@caught_by("test_quotes_meet_the_query", "ten million vCPUs are on offer")
class PromisesTheImpossible(FakeDriver):
    def offers(self, query, deadline_s):
        return super().offers(query, 5) or list(self.fetch())


@caught_by("test_quotes_meet_the_query", "the largest row can't be found by its own figures")
class MissesItsOwnRow(FakeDriver):
    def offers(self, query, deadline_s):
        return [row for row in super().offers(query, 5) if query.vcpus is None or row.vcpus > query.vcpus]


@caught_by("test_quota_is_a_count", "machines could be made, one was, and still it is")
class QuotaOfTheVendor(FakeDriver):
    def quota(self, place, row):
        return float(self._cloud.world.machines_per_region)


@caught_by("test_quota_is_a_count", "a quota of")
class InfiniteQuota(FakeDriver):
    def quota(self, place, row):
        return float("inf")


@caught_by("test_volumes_come_and_go", "the same name again made another volume")
class AVolumeForEachCall(FakeDriver):
    def create_volume(self, place, name, size_gib, options):
        return super().create_volume(place, uuid.uuid4().hex, size_gib, options)


@caught_by("test_volumes_come_and_go", "The fake cloud says not_found: no such thing")
class DeletesVolumesOnce(FakeDriver):
    def delete_volume(self, place, volume):
        self._call(self._cloud.delete_thing, self._key, volume)


@caught_by("test_volumes_of_another_store", "our volume is")
class SharesVolumes(FakeDriver):
    def _tags(self, cluster):
        return {name: value for name, value in super()._tags(cluster).items() if cluster or name != "styx-store"}


@caught_by("test_volumes_outlive_clusters", "releasing a cluster deleted a volume")
class ReleasesVolumesToo(FakeDriver):
    def release(self, place, cluster):
        super().release(place, cluster)
        for volume in self.volumes(place):
            self.delete_volume(place, volume.id)


@caught_by("test_image_twice", "the same name again made another image")
class AnImageForEachCall(FakeDriver):
    def make_image(self, node, name):
        return super().make_image(node, uuid.uuid4().hex)


@caught_by("test_image_twice", "another name returned the same image")
class OneImageForAll(FakeDriver):
    def make_image(self, node, name):
        return super().make_image(node, "image")


@caught_by("test_notice_probe_is_a_command", "the probe is one string; return a list of arguments")
class ProbeIsAString(FakeDriver):
    def notice_probe(self, node):
        return "curl http://169.254.169.254/"


@caught_by("test_notice_probe_is_a_command", "a credential is in a command that runs on the node")
class ProbeWithAKey(FakeDriver):
    def notice_probe(self, node):
        return ("curl", "-H", f"Authorization: {self._key}", "http://169.254.169.254/")


@caught_by("test_self_action_says_what_it_stops", ": doing nothing does not stop billing")
class NothingStopsBilling(FakeDriver):
    def self_action(self, node, action):
        return SelfEnd(kind="none", stops_billing=True)


@caught_by("test_self_action_says_what_it_stops", "the command is empty")
class EmptyCommand(FakeDriver):
    def self_action(self, node, action):
        return SelfEnd(kind="command", stops_billing=True)


@caught_by("test_stopped_nodes_stay_listed", "after stop the ranks are")
class StopTwiceIsStart(FakeDriver):
    def stop(self, nodes):
        stopped = [node for node in nodes if node.state is NodeState.STOPPED]
        super().stop(nodes)
        super().start(stopped)


@caught_by("test_stopped_nodes_stay_listed", "a stopped node has a reach")
class ReachableWhenStopped(FakeDriver):
    def _node(self, machine):
        return super()._node(machine).model_copy(update={"reach": Ssh(host=machine.public_ip, user="root")})


@caught_by("test_start_replaces_by_rank", "a started node can't be reached")
class LosesItsAddress(FakeDriver):
    def _node(self, machine):
        restarted = machine.booted_at > machine.created_at + 25
        return super()._node(machine).model_copy(update={"reach": None} if restarted else {})


class StartsASpare(FakeDriver):
    calls = 0

    def start(self, nodes):
        self.calls += 1
        if self.calls >= self.spare_at:
            self._cloud.plant("north-a")
        return super().start(nodes)


@caught_by("test_start_replaces_by_rank", "start made machines beside the stopped ones")
class StartsASpareAtOnce(StartsASpare):
    spare_at = 1


@caught_by("test_start_twice", "a repeated start made machines")
class StartsASpareOnRepeat(StartsASpare):
    spare_at = 2


@caught_by("test_start_twice", "the second start returned")
class AnotherAnswerOnRepeat(FakeDriver):
    calls = 0

    def start(self, nodes):
        self.calls += 1
        return super().start(nodes)[: None if self.calls == 1 else 1]


@caught_by("test_start_twice", "start still asks for patience after")
class NeverReadyToStart(FakeDriver):
    def start(self, nodes):
        raise TransientError("still halting")


@caught_by("test_ports_open_and_close", "says nowhere to connect to")
class EndpointsToNowhere(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        return node.model_copy(update={"endpoints": {port: Endpoint(port=port) for port in node.endpoints}})


@caught_by("test_quotes_are_sane", "no quote at all for a query without limits")
class QuotesNothing(FakeDriver):
    def offers(self, query, deadline_s):
        return []


@caught_by("test_quotes_are_sane", "a quote is of another cloud")
class QuotesOfAnotherCloud(FakeDriver):
    def offers(self, query, deadline_s):
        return [one.model_copy(update={"cloud": "other"}) for one in super().offers(query, deadline_s)]


@caught_by("test_volumes_come_and_go", "listed []")
class HidesVolumes(FakeDriver):
    def volumes(self, place):
        return []


@caught_by("test_volumes_come_and_go", "deleted volumes are still listed:")
class KeepsVolumes(FakeDriver):
    def delete_volume(self, place, volume):
        return None


@caught_by("test_volumes_of_another_store", "two installations share one volume")
class OneVolumeForAll(FakeDriver):
    def create_volume(self, place, name, size_gib, options):
        tags = self._tags(None)
        return self._cloud.create_thing(self._key, "volume", region=place.region, name=name, tags=tags).id


@caught_by("test_image_twice", "the image has an empty id")
class NamelessImage(FakeDriver):
    def make_image(self, node, name):
        return ""


@caught_by("test_notice_probe_is_a_command", "the command has odd arguments:")
class ProbeWithAGap(FakeDriver):
    def notice_probe(self, node):
        return ("curl", "", "http://169.254.169.254/")


@caught_by("test_self_action_says_what_it_stops", "has no arguments")
class PowersOffWithArguments(FakeDriver):
    def self_action(self, node, action):
        return SelfEnd(kind="poweroff", argv=("-f",), stops_billing=False)


@caught_by("test_a_zone_has_one_name", "a node is in zone north-a, which is said to be called NORTH-A")
class ShoutsZones(FakeDriver):
    def zone_named(self, place, name, *, ask):
        return super().zone_named(place, name, ask=ask).upper()


@caught_by("test_nodes_are_made_in_the_zone", "asked for zone north-a, made in north-b")
class TakesAnyZone(FakeDriver):
    def create(self, request):
        place = request.place if request.offer.zone else request.place.model_copy(update={"zone": "north-b"})
        return super().create(request.model_copy(update={"place": place}))


@caught_by("test_no_such_zone", "'no zone' is said to be zone no zone")
class BelievesAnyZone(FakeDriver):
    def zone_named(self, place, name, *, ask):
        return name


# ------------------------------------------------------------------------------------------------------ the proof


@pytest.mark.parametrize("fault", PROOF.faults, ids=str)
def test_fault_is_caught(fault, tmp_path):
    with pytest.raises(Exception, match=re.escape(fault.says)):
        PROOF.run(fault, tmp_path)


def test_every_check_is_proven():
    assert not PROOF.unproven()
