"""Deliberate faults in making, listing and unmaking, and the checks that catch them."""

import contextlib
import dataclasses
import re
import sys
import threading
import time
import uuid
from datetime import datetime
from time import sleep

import pytest

from styx.driver import Leftover, Limits, Local, Node, NodeState, Place, Ssh
from styx.errors import DriverError, TransientError
from styx.testing.conformance import LifecycleChecks
from styx.testing.conformance.proof import Proof
from styx.testing.fakecloud import FakeDriver
from styx.testing.fakecloud.harness import FakeHarness

PROOF = Proof(LifecycleChecks)
caught_by = PROOF.caught_by


def nodes_with(**changes):
    """A `_node` whose result is always wrong in the same way."""

    def _node(self, machine):
        return FakeDriver._node(self, machine).model_copy(update=changes)

    return _node


@caught_by("test_create_list_terminate", "terminate left machines behind:")
class EndsAllButOne(FakeDriver):
    def terminate(self, nodes):
        super().terminate(nodes[1:])


@caught_by("test_create_list_terminate", ", the vendor made")
class MakesOneMore(FakeDriver):
    def create(self, request):
        return super().create(request.model_copy(update={"count": request.count + 1}))[: request.count]


@caught_by("test_create_list_terminate", "nodes() does not list them as running")
class ListsAllAsStopped(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return [one.model_copy(update={"state": NodeState.STOPPED}) for one in super().nodes(place, cluster, known)]


@caught_by("test_create_list_terminate", "terminated machines are still listed as living:")
class NeverForgets(FakeDriver):
    def __init__(self, context):
        super().__init__(context)
        self.seen = {}

    def nodes(self, place, cluster, known=()):
        for node in super().nodes(place, cluster, known):
            self.seen.setdefault(node.id, node)
        return list(self.seen.values())


@caught_by("test_nodes_say_where_they_are", "node says zone")
class PlaceWithoutZone(FakeDriver):
    def _place(self, account, region, zone):
        return super()._place(account, region, zone if sys._getframe(1).f_code.co_name != "_node" else None)


@caught_by("test_nodes_say_where_they_are", "node says it is in")
class SaysAnotherAccount(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        return node.model_copy(update={"place": node.place.model_copy(update={"account": "me"})})


@caught_by("test_nodes_say_where_they_are", "node says cluster")
class SaysAnotherCluster(FakeDriver):
    _node = nodes_with(cluster="styx-other-st0re101")


@caught_by("test_nodes_say_where_they_are", "node carries the token of another request")
class SaysAnotherToken(FakeDriver):
    _node = nodes_with(token="0" * 32)


@caught_by("test_nodes_say_where_they_are", "a paid machine costs 0")
class CostsNothing(FakeDriver):
    _node = nodes_with(usd_per_hour=0.0)


@caught_by("test_running_nodes_can_be_reached", "a running node has no `reach`")
class Unreachable(FakeDriver):
    _node = nodes_with(reach=None)


@caught_by("test_running_nodes_can_be_reached", "the SSH host is empty")
class ReachedAtNoAddress(FakeDriver):
    _node = nodes_with(reach=Ssh(host="", user="root"))


def requests_without(**changes):
    """A `create` that drops something of the request."""

    def create(self, request):
        return FakeDriver.create(self, request.model_copy(update=changes))

    return create


@caught_by("test_request_is_carried", "the request's SSH key does not open the machine")
class LosesTheKey(FakeDriver):
    create = requests_without(ssh_public_key=None)


@caught_by("test_request_is_carried", "the boot script did not arrive")
class LosesTheBootScript(FakeDriver):
    create = requests_without(boot_script=None)


@caught_by("test_request_is_carried", "labels are")
class LosesTheLabels(FakeDriver):
    create = requests_without(labels={})


@caught_by("test_request_is_carried", "ports are []")
class LosesThePorts(FakeDriver):
    create = requests_without(ports=())


@caught_by("test_ranks_are_stable", "when another node ended")
class RanksByPosition(FakeDriver):
    def nodes(self, place, cluster, known=()):
        seen = super().nodes(place, cluster, known)
        living = [node for node in seen if node.state is not NodeState.TERMINATED]
        return [node.model_copy(update={"rank": rank}) for rank, node in enumerate(living)]


@caught_by("test_ranks_are_stable", "ranks are [1, 2, 3]")
class RanksFromOne(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        return node.model_copy(update={"rank": node.rank + 1})


@caught_by("test_create_twice", "a repeat returned")
class TokenForEachClient(FakeDriver):
    """Makes up its own token, so that another client's repeat is a new order."""

    def __init__(self, context):
        super().__init__(context)
        self.own = uuid.uuid4().hex[:16]

    def create(self, request):
        return super().create(request.model_copy(update={"token": self.own + request.token[16:]}))


@caught_by("test_create_twice", "a repeat returned", idempotent=False)
class IdempotentOnlyInMemory(FakeDriver):
    def _existing(self, request):
        mine = self._made.get(request.token, {})
        return {rank: self._node(self._cloud.get_machine(self._key, one)) for rank, one in mine.items()}


@caught_by("test_create_in_two_threads", "machines, two threads made", idempotent=False)
class LooksThenLeaps(FakeDriver):
    def __init__(self, context):
        super().__init__(context)
        self._creating = contextlib.nullcontext()
        self._meeting = threading.Barrier(2)

    def _existing(self, request):
        found = super()._existing(request)
        with contextlib.suppress(threading.BrokenBarrierError):
            self._meeting.wait(timeout=0.3)
        return found


@caught_by("test_create_in_two_threads", "create fails when called from two threads:")
class CrashesWhenBusy(FakeDriver):
    def create(self, request):
        if self._creating.locked():
            raise RuntimeError("busy")
        with self._creating:
            time.sleep(0.05)
        return super().create(request)


@caught_by("test_nodes_survive_json", "terminate left machines behind:")
class EndsOnlyWhatItRemembers(FakeDriver):
    def terminate(self, nodes):
        mine = {one for ranks in self._made.values() for one in ranks.values()}
        super().terminate([node for node in nodes if node.id in mine])


@caught_by("test_nodes_survive_json", "a node changes when it is stored and read back")
class KeepsTuplesInData(FakeDriver):
    _node = nodes_with(data={"disks": ("root", "scratch")})


@caught_by("test_pages", "machines, but the listing has")
class ReadsOnePage(FakeDriver):
    def _list(self, region, tags):
        return self._cloud.list_machines(self._key, region=region, tags=tags).machines


@caught_by("test_pages", "machines, but the listing has")
class RepeatsThePageBreak(FakeDriver):
    def _list(self, region, tags):
        machines = super()._list(region, tags)
        return machines + machines[4:5]


@caught_by("test_listing_lag", "a machine too new to be listed is called")
class DeniesItsLag(FakeDriver):
    limits = Limits(min_poll_s=0.05, listing_lag_s=0)


@caught_by("test_listing_lag", "create, repeated while listings lag, returns other machines", idempotent=False)
class TrustsItsListing(FakeDriver):
    def _existing(self, request):
        tags = {**self._tags(request.cluster), "styx-token": request.token}
        return {int(one.tags["styx-rank"]): self._node(one) for one in self._list(request.place.region, tags)}


@caught_by("test_listing_lag", "a machine too new to be listed is called")
class BuriesTheUnborn(FakeDriver):
    def _missing(self, node):
        return node.model_copy(update={"state": NodeState.TERMINATED})


@caught_by("test_absent_machines", "The fake cloud says not_found: no such machine")
class InsistsOnPresence(FakeDriver):
    def terminate(self, nodes):
        for node in nodes:
            self._call(self._cloud.delete_machine, self._key, node.id)


@caught_by("test_absent_machines", "no such cluster")
class ReleasesOnlyWhatIsThere(FakeDriver):
    def release(self, place, cluster):
        if cluster.startswith("styx-nowhere"):
            raise DriverError("no such cluster")
        super().release(place, cluster)


@caught_by("test_release_is_reentrant", "release left behind:")
class ForgetsTheAddress(FakeDriver):
    def release(self, place, cluster):
        things = self._cloud.list_things(self._key, "group", region=place.region, tags=self._tags(cluster))
        for thing in things:
            self._unless_absent(self._cloud.delete_thing, self._key, thing.id)


@caught_by("test_release_is_reentrant", "released already")
class ReleasesOnce(FakeDriver):
    done = frozenset()

    def release(self, place, cluster):
        if cluster in self.done:
            raise DriverError("released already")
        super().release(place, cluster)
        self.done |= {cluster}


@caught_by("test_release_is_reentrant", "leftovers() still names")
class EternalLeftovers(FakeDriver):
    def leftovers(self, place):
        return [Leftover(id="address-0", kind="address", place=place)]


@caught_by("test_never_sleeps", "a driver never sleeps:")
class WaitsForTheMachine(FakeDriver):
    def create(self, request):
        time.sleep(0.001)
        return super().create(request)


@caught_by("test_never_sleeps", "a driver never sleeps:")
class WaitsByAnotherName(FakeDriver):
    def terminate(self, nodes):
        sleep(0.001)
        super().terminate(nodes)


@caught_by("test_create_list_terminate", "nodes, create returned")
class ReturnsTheHead(FakeDriver):
    def create(self, request):
        return super().create(request)[:1]


@caught_by("test_create_list_terminate", "nodes() lists")
class ListsTheHead(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place, cluster, known)[:1]


@caught_by("test_create_list_terminate", "the account does not hold what it held before")
class ReleasesByMaking(FakeDriver):
    def release(self, place, cluster):
        super().release(place, cluster)
        self._cloud.plant("north-a")


@caught_by("test_create_list_terminate", "create still reports pending nodes after")
class NeverReady(FakeDriver):
    _node = nodes_with(state=NodeState.PENDING)


@caught_by("test_create_list_terminate", "nodes should run by now, but are")
class ReadyButBroken(FakeDriver):
    _node = nodes_with(state=NodeState.FAILED)


@caught_by("test_create_list_terminate", "release still asks for patience after")
class NeverDoneReleasing(FakeDriver):
    def release(self, place, cluster):
        raise TransientError("still in use")


@caught_by("test_nodes_say_where_they_are", "made a large instead")
class MakesAnotherShape(FakeDriver):
    _node = nodes_with(instance_type="large")


@caught_by("test_nodes_say_where_they_are", "created_at has no time zone")
class MadeInNoTimeZone(FakeDriver):
    _node = nodes_with(created_at=datetime(2026, 1, 1))


@caught_by("test_running_nodes_can_be_reached", "the SSH user is empty")
class ReachedAsNobody(FakeDriver):
    _node = nodes_with(reach=Ssh(host="192.0.2.1", user=""))


@caught_by("test_running_nodes_can_be_reached", "a local node's home must be absolute")
class RelativeHome(FakeDriver):
    _node = nodes_with(reach=Local(home="nodes/0", state="/state"))


@caught_by("test_running_nodes_can_be_reached", "the agent's state lies in the home")
class StateInTheHome(FakeDriver):
    _node = nodes_with(reach=Local(home="/nodes/0", state="/nodes/0/.agent"))


@caught_by("test_request_is_carried", "the vendor knows no machine")
class IdsOfItsOwn(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        return node.model_copy(update={"id": f"fake:{node.id}"})


class TellsNoKeys(FakeHarness):
    def machines(self):
        return [dataclasses.replace(one, ssh_keys=None) for one in super().machines()]


class OwnLogin(FakeHarness):
    installs_key = False


@caught_by("test_request_is_carried", "a key was added to a machine that is not the driver's", harness=OwnLogin)
class AddsItsKey(FakeDriver):
    pass


@caught_by("test_request_is_carried", "the harness tells no ssh_keys", harness=TellsNoKeys)
class Healthy(FakeDriver):
    pass


@caught_by("test_ranks_are_stable", "a new client sees the ranks")
class RanksForEachClient(FakeDriver):
    def nodes(self, place, cluster, known=()):
        seen = super().nodes(place, cluster, known)
        if self._made:
            return seen
        return [node.model_copy(update={"rank": len(seen) - 1 - node.rank}) for node in seen]


class MakesASpareOnEachRepeat(FakeDriver):
    def create(self, request):
        if request.token in self._made:
            self._cloud.plant("north-a")
        return super().create(request)


caught_by("test_create_twice", "machines, repeats made")(MakesASpareOnEachRepeat)
caught_by("test_listing_lag", "machines were made twice while listings lagged")(MakesASpareOnEachRepeat)


@caught_by("test_nodes_survive_json", "a new client does not list what it is told is known")
class ListsOnlyWhatItMade(FakeDriver):
    def nodes(self, place, cluster, known=()):
        mine = {one for ranks in self._made.values() for one in ranks.values()}
        return [node for node in super().nodes(place, cluster, known) if node.id in mine]


@caught_by("test_pages", "is not complete")
class PagesOnlyForAll(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place, cluster, known)[: 5 if cluster else None]


@caught_by("test_listing_lag", "s (limits.listing_lag_s) after create,")
class LagsLongerThanItSays(FakeDriver):
    def nodes(self, place, cluster, known=()):
        now = self.context.clock()
        return [one for one in super().nodes(place, cluster, known) if now - one.created_at.timestamp() > 20]


@caught_by("test_listing_lag", "create does not name")
class AcceptsNothing(FakeDriver):
    def create(self, request):
        return []


@caught_by("test_absent_machines", "a cluster that never was has nodes")
class InventsNodes(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place, cluster, known) or super().nodes(place, None, known) or [INVENTED]


INVENTED = Node(
    id="m-0",
    cluster="styx-a-st0re101",
    rank=0,
    place=Place(cloud="fake", account="acct-1", region="north", zone="north-a"),
    state=NodeState.RUNNING,
)


# ------------------------------------------------------------------------------------------------------ the proof


@pytest.mark.parametrize("fault", PROOF.faults, ids=str)
def test_fault_is_caught(fault, tmp_path):
    with pytest.raises(Exception, match=re.escape(fault.says)):
        PROOF.run(fault, tmp_path)


def test_every_check_is_proven():
    assert not PROOF.unproven()
