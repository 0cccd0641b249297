"""The suite, proven by deliberate faults: each check must fail on a driver that is broken in just the way it guards.

A fault is a subclass of FakeDriver and the name of the check that has to catch it. Every check has at least one, so
a check that is removed, or that no longer checks anything, breaks this proof.
"""

import contextlib
import importlib
import logging
import os
import sys
import threading
import time
import uuid
from time import sleep

import pytest
from pydantic import ConfigDict

from styx.driver import Driver, FeatureSet, Identity, Leftover, Limits, NodeState, SelfEnd, Ssh
from styx.errors import (
    AmbiguousError,
    CapacityError,
    CloudError,
    CredentialsError,
    DriverError,
    TransientError,
    VendorDetail,
)
from styx.plugin import DriverConfig, EndsItself, HasVolumes, MakesImages, OpensPorts
from styx.testing.conformance import DriverConformance
from styx.testing.fakecloud import ERRORS, ApiError, ConnectionLost, FakeConfig, FakeDriver
from styx.testing.fakecloud.harness import FakeHarness


class Suite(DriverConformance):
    """All checks. Not collected: `test_fake_driver_conforms.py` runs it under pytest."""

    driver_type = FakeDriver


CHECKS = sorted(name for name in dir(Suite) if name.startswith("test_"))
FAULTS = []


def caught_by(check, *, idempotent=True):
    """Registers a broken driver, the check that must catch it, and the kind of vendor at which it shows."""

    def register(broken):
        FAULTS.append(pytest.param(check, broken, idempotent, id=f"{broken.__name__}-{check}"))
        return broken

    return register


# ------------------------------------------------------------------------------------------------------- identity


@caught_by("test_name_is_the_entry_point")
class NamedOtherwise(FakeDriver):
    name = "feik"


@caught_by("test_plugin_api_version")
class WrittenForAnotherApi(FakeDriver):
    plugin_api = 2


@caught_by("test_settings_are_documented")
class UndocumentedSetting(FakeDriver):
    class Config(FakeConfig):
        network: str = "default"

    config_type = Config


@caught_by("test_settings_are_strict")
class AcceptsMisspeltSettings(FakeDriver):
    class Config(DriverConfig):
        model_config = ConfigDict(extra="ignore")

    config_type = Config


@caught_by("test_settings_are_strict")
class ChangeableSettings(FakeDriver):
    class Config(DriverConfig):
        model_config = ConfigDict(frozen=False)

    config_type = Config


@caught_by("test_settings_are_strict")
class PlainTextSecret(FakeDriver):
    class Config(FakeConfig):
        api_token: str = ""
        """The token."""

    config_type = Config


@caught_by("test_check_names_account_and_places")
class ForgetsItsAccount(FakeDriver):
    def check(self):
        identity = super().check()
        return type(identity)(account=uuid.uuid4().hex, places=identity.places)


@caught_by("test_check_names_account_and_places")
class PlacesOfAnotherCloud(FakeDriver):
    def _place(self, account, region, zone):
        return super()._place(account, region, zone).model_copy(update={"cloud": "other"})


@caught_by("test_check_names_account_and_places")
class NoUsablePlace(FakeDriver):
    def check(self):
        identity = super().check()
        return type(identity)(account=identity.account, places=dict.fromkeys(identity.places, CapacityError("full")))


@caught_by("test_check_names_account_and_places")
class ChecksByMakingSomething(FakeDriver):
    def check(self):
        self._cloud.plant("north-a")
        return super().check()


@caught_by("test_check_with_bad_credentials")
class BelievesAnyKey(FakeDriver):
    def check(self):
        return Identity(account="acct-1", places={self._place("acct-1", "north", "north-a"): None})


@caught_by("test_check_with_bad_credentials")
class NoHint(FakeDriver):
    def check(self):
        try:
            return super().check()
        except CredentialsError as error:
            raise CredentialsError(str(error)) from None


@caught_by("test_check_with_bad_credentials")
class AsksInItsConstructor(FakeDriver):
    def __init__(self, context):
        super().__init__(context)
        self.check()


@caught_by("test_environment_is_not_read")
class ReadsTheEnvironment(FakeDriver):
    @property
    def _key(self):
        return self.context.secrets("FAKE_API_KEY") or os.environ.get("FAKE_API_KEY") or super()._key


class Without(Driver[FakeConfig]):
    """FakeDriver's answers from a class that lacks its mixins."""

    name = "fake"
    features = FakeDriver.features

    def __init__(self, context):
        super().__init__(context)
        self.whole = FakeDriver(context)

    def check(self):
        return self.whole.check()

    def fetch(self):
        return self.whole.fetch()

    def create(self, request):
        return self.whole.create(request)

    def nodes(self, place, cluster, known=()):
        return self.whole.nodes(place, cluster, known)

    def terminate(self, nodes):
        self.whole.terminate(nodes)


@caught_by("test_features_match_capabilities")
class StopsOnlyOnPaper(Without, OpensPorts):
    def open_ports(self, nodes, ports):
        self.whole.open_ports(nodes, ports)

    def close_ports(self, nodes, ports):
        self.whole.close_ports(nodes, ports)


@caught_by("test_features_match_capabilities")
class OpensPortsOnlyOnPaper(Without):
    features = FeatureSet(ports="any_time")

    def fetch(self):
        return [row.model_copy(update={"features": None}) for row in self.whole.fetch()]


# -------------------------------------------------------------------------------------------------------- catalog


def rows_with(**changes):
    """A `fetch` whose rows are all wrong in the same way."""

    def fetch(self):
        return [row.model_copy(update=changes) for row in FakeDriver.fetch(self)]

    return fetch


@caught_by("test_rows_say_what_and_where")
class RowsOfAnotherCloud(FakeDriver):
    fetch = rows_with(cloud="other")


@caught_by("test_rows_say_what_and_where")
class RowsOfNowhere(FakeDriver):
    fetch = rows_with(region="atlantis")


@caught_by("test_rows_say_what_and_where")
class RowsWithoutSource(FakeDriver):
    fetch = rows_with(source="")


@caught_by("test_rows_say_what_and_where")
class SpotOnlyByName(FakeDriver):
    fetch = rows_with(features=FeatureSet())


@caught_by("test_rows_say_what_and_where")
class EachRowTwice(FakeDriver):
    def fetch(self):
        return [*super().fetch(), *super().fetch()]


@caught_by("test_rows_say_what_and_where")
class SellsNothing(FakeDriver):
    def fetch(self):
        return []


@caught_by("test_rows_have_sane_units")
class MemoryInMib(FakeDriver):
    def fetch(self):
        return [row.model_copy(update={"memory_gib": row.memory_gib * 1024}) for row in super().fetch()]


@caught_by("test_rows_have_sane_units")
class UnknownPriceIsZero(FakeDriver):
    fetch = rows_with(usd_per_hour=0.0)


@caught_by("test_rows_have_sane_units")
class PriceForAMonthInCents(FakeDriver):
    def fetch(self):
        return [row.model_copy(update={"usd_per_hour": row.usd_per_hour * 73_000}) for row in super().fetch()]


@caught_by("test_rows_have_sane_units")
class AcceleratorsWithoutName(FakeDriver):
    fetch = rows_with(accelerator_name=None)


# ------------------------------------------------------------------------------------------------------ lifecycle


def nodes_with(**changes):
    """A `_node` whose result is always wrong in the same way."""

    def _node(self, machine):
        return FakeDriver._node(self, machine).model_copy(update=changes)

    return _node


@caught_by("test_create_list_terminate")
class EndsAllButOne(FakeDriver):
    def terminate(self, nodes):
        super().terminate(nodes[1:])


@caught_by("test_create_list_terminate")
class MakesOneMore(FakeDriver):
    def create(self, request):
        return super().create(request.model_copy(update={"count": request.count + 1}))[: request.count]


@caught_by("test_create_list_terminate")
class ListsAllAsStopped(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return [one.model_copy(update={"state": NodeState.STOPPED}) for one in super().nodes(place, cluster, known)]


@caught_by("test_create_list_terminate")
class NeverForgets(FakeDriver):
    def __init__(self, context):
        super().__init__(context)
        self.seen = {}

    def nodes(self, place, cluster, known=()):
        for node in super().nodes(place, cluster, known):
            self.seen.setdefault(node.id, node)
        return list(self.seen.values())


@caught_by("test_nodes_say_where_they_are")
class PlaceWithoutZone(FakeDriver):
    def _place(self, account, region, zone):
        return super()._place(account, region, zone if sys._getframe(1).f_code.co_name != "_node" else None)


@caught_by("test_nodes_say_where_they_are")
class SaysAnotherAccount(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        return node.model_copy(update={"place": node.place.model_copy(update={"account": "me"})})


@caught_by("test_nodes_say_where_they_are")
class SaysAnotherCluster(FakeDriver):
    _node = nodes_with(cluster="styx-other-st0re101")


@caught_by("test_nodes_say_where_they_are")
class SaysAnotherToken(FakeDriver):
    _node = nodes_with(token="0" * 32)


@caught_by("test_nodes_say_where_they_are")
class CostsNothing(FakeDriver):
    _node = nodes_with(usd_per_hour=0.0)


@caught_by("test_running_nodes_can_be_reached")
class Unreachable(FakeDriver):
    _node = nodes_with(reach=None)


@caught_by("test_running_nodes_can_be_reached")
class ReachedAtNoAddress(FakeDriver):
    _node = nodes_with(reach=Ssh(host="", user="root"))


def requests_without(**changes):
    """A `create` that drops something of the request."""

    def create(self, request):
        return FakeDriver.create(self, request.model_copy(update=changes))

    return create


@caught_by("test_request_is_carried")
class LosesTheKey(FakeDriver):
    create = requests_without(ssh_public_key=None)


@caught_by("test_request_is_carried")
class LosesTheBootScript(FakeDriver):
    create = requests_without(boot_script=None)


@caught_by("test_request_is_carried")
class LosesTheLabels(FakeDriver):
    create = requests_without(labels={})


@caught_by("test_request_is_carried")
class LosesThePorts(FakeDriver):
    create = requests_without(ports=())


@caught_by("test_ranks_are_stable")
class RanksByPosition(FakeDriver):
    def nodes(self, place, cluster, known=()):
        seen = super().nodes(place, cluster, known)
        living = [node for node in seen if node.state is not NodeState.TERMINATED]
        return [node.model_copy(update={"rank": rank}) for rank, node in enumerate(living)]


@caught_by("test_ranks_are_stable")
class RanksFromOne(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        return node.model_copy(update={"rank": node.rank + 1})


@caught_by("test_lost_reply")
@caught_by("test_create_twice")
class TokenForEachClient(FakeDriver):
    """Makes up its own token, so that another client's repeat is a new order."""

    def __init__(self, context):
        super().__init__(context)
        self.own = uuid.uuid4().hex[:16]

    def create(self, request):
        return super().create(request.model_copy(update={"token": self.own + request.token[16:]}))


@caught_by("test_create_twice", idempotent=False)
class IdempotentOnlyInMemory(FakeDriver):
    def _existing(self, request):
        mine = self._made.get(request.token, {})
        return {rank: self._node(self._cloud.get_machine(self._key, one)) for rank, one in mine.items()}


@caught_by("test_create_in_two_threads", idempotent=False)
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


@caught_by("test_create_in_two_threads")
class CrashesWhenBusy(FakeDriver):
    def create(self, request):
        if self._creating.locked():
            raise RuntimeError("busy")
        with self._creating:
            time.sleep(0.05)
        return super().create(request)


@caught_by("test_nodes_survive_json")
class EndsOnlyWhatItRemembers(FakeDriver):
    def terminate(self, nodes):
        mine = {one for ranks in self._made.values() for one in ranks.values()}
        super().terminate([node for node in nodes if node.id in mine])


@caught_by("test_nodes_survive_json")
class KeepsTuplesInData(FakeDriver):
    _node = nodes_with(data={"disks": ("root", "scratch")})


@caught_by("test_pages")
class ReadsOnePage(FakeDriver):
    def _list(self, region, tags):
        return self._cloud.list_machines(self._key, region=region, tags=tags).machines


@caught_by("test_pages")
class RepeatsThePageBreak(FakeDriver):
    def _list(self, region, tags):
        machines = super()._list(region, tags)
        return machines + machines[4:5]


@caught_by("test_listing_lag")
class DeniesItsLag(FakeDriver):
    limits = Limits(min_poll_s=0.05, listing_lag_s=0)


@caught_by("test_listing_lag", idempotent=False)
class TrustsItsListing(FakeDriver):
    def _existing(self, request):
        tags = {**self._tags(request.cluster), "styx-token": request.token}
        return {int(one.tags["styx-rank"]): self._node(one) for one in self._list(request.place.region, tags)}


@caught_by("test_listing_lag")
class BuriesTheUnborn(FakeDriver):
    def _missing(self, node):
        return node.model_copy(update={"state": NodeState.TERMINATED})


@caught_by("test_absent_machines")
class InsistsOnPresence(FakeDriver):
    def terminate(self, nodes):
        for node in nodes:
            self._call(self._cloud.delete_machine, self._key, node.id)


@caught_by("test_absent_machines")
class ReleasesOnlyWhatIsThere(FakeDriver):
    def release(self, place, cluster):
        if cluster.startswith("styx-nowhere"):
            raise DriverError("no such cluster")
        super().release(place, cluster)


@caught_by("test_release_is_reentrant")
class ForgetsTheAddress(FakeDriver):
    def release(self, place, cluster):
        things = self._cloud.list_things(self._key, "group", region=place.region, tags=self._tags(cluster))
        for thing in things:
            self._unless_absent(self._cloud.delete_thing, self._key, thing.id)


@caught_by("test_release_is_reentrant")
class ReleasesOnce(FakeDriver):
    done = frozenset()

    def release(self, place, cluster):
        if cluster in self.done:
            raise DriverError("released already")
        super().release(place, cluster)
        self.done |= {cluster}


@caught_by("test_release_is_reentrant")
class EternalLeftovers(FakeDriver):
    def leftovers(self, place):
        return [Leftover(id="address-0", kind="address", place=place)]


@caught_by("test_never_sleeps")
class WaitsForTheMachine(FakeDriver):
    def create(self, request):
        time.sleep(0.001)
        return super().create(request)


@caught_by("test_never_sleeps")
class WaitsByAnotherName(FakeDriver):
    def terminate(self, nodes):
        sleep(0.001)
        super().terminate(nodes)


# ------------------------------------------------------------------------------------------------------- failures


def translated(change):
    """A `_translated` that spoils the error."""

    def _translated(error, created=()):
        return change(FakeDriver._translated(error, created), created)

    return staticmethod(_translated)


def _spoil(**changes):
    def change(error, _):
        for name, value in changes.items():
            setattr(error, name, value)
        return error

    return change


@caught_by("test_every_row_of_the_error_table")
class AllIsCapacity(FakeDriver):
    _translated = translated(lambda error, created: CapacityError(str(error), vendor=error.vendor, created=created))


@caught_by("test_every_row_of_the_error_table")
class LosesTheVendorsWords(FakeDriver):
    _translated = translated(_spoil(vendor=VendorDetail()))


@caught_by("test_every_row_of_the_error_table")
class RetryAtOnce(FakeDriver):
    _translated = translated(_spoil(retry_after_s=0.0))


@caught_by("test_unknown_code_is_a_driver_error")
class CrashesOnNews(FakeDriver):
    @staticmethod
    def _translated(error, created=()):
        if isinstance(error, ApiError):
            ERRORS[error.code]
        return FakeDriver._translated(error, created)


@caught_by("test_unknown_code_is_a_driver_error")
class UnknownIsTransient(FakeDriver):
    _translated = translated(
        lambda error, created: TransientError(str(error), vendor=error.vendor) if type(error) is DriverError else error
    )


@caught_by("test_lost_reply", idempotent=False)
class AsksAgainBlindly(FakeDriver):
    @contextlib.contextmanager
    def _reporting(self, made):
        try:
            yield
        except ConnectionLost as error:
            raise TransientError(str(error)) from None
        except ApiError as error:
            raise self._translated(error, tuple(made.values())) from None


@caught_by("test_lost_reply", idempotent=False)
class SettlesTooSoon(FakeDriver):
    @contextlib.contextmanager
    def _reporting(self, made):
        try:
            with super()._reporting(made):
                yield
        except AmbiguousError as error:
            error.settle_s = 0.5
            raise


@caught_by("test_k_of_n")
class KeepsPartialGangsToItself(FakeDriver):
    _translated = translated(lambda error, created: _spoil(created=())(error, created))


@caught_by("test_k_of_n")
class PartIsTheWhole(FakeDriver):
    def create(self, request):
        try:
            return super().create(request)
        except CapacityError as error:
            return error.created


@caught_by("test_refused_while_provisioning")
class PendingForEver(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        broken = node.state is NodeState.FAILED
        return node.model_copy(update={"state": NodeState.PENDING, "problem": None}) if broken else node


@caught_by("test_refused_while_provisioning")
class FailsWithoutReason(FakeDriver):
    _node = nodes_with(problem=None)


@caught_by("test_failed_listing_is_not_empty")
class FailedIsEmpty(FakeDriver):
    def nodes(self, place, cluster, known=()):
        try:
            return super().nodes(place, cluster, known)
        except CloudError:
            return []


# ------------------------------------------------------------------------------------------------------ isolation


class SeesAll(FakeDriver):
    """Filters its listing here instead of at the vendor, and badly."""

    def ours(self, machine):
        raise NotImplementedError

    def _list(self, region, tags):
        have = {name: value for name, value in tags.items() if name != "styx-store"}
        seen = [one for one in super()._list(region, {}) if have.items() <= one.tags.items() and self.ours(one)]
        filler = {"styx-cluster": "unknown", "styx-rank": "0"}
        return [one.model_copy(update={"tags": {**filler, **one.tags}}) for one in seen]


@caught_by("test_foreign_machines")
class ListsTheWholeAccount(SeesAll):
    def ours(self, machine):
        return True


@caught_by("test_foreign_machines")
class GoesByTheNamePrefix(SeesAll):
    def ours(self, machine):
        return machine.name.startswith("styx-") and machine.tags.get("styx-store", "").startswith(self.context.store)


@caught_by("test_foreign_machines")
class EndsEverythingInSight(FakeDriver):
    def terminate(self, nodes):
        super().terminate(nodes)
        for machine in self._list("north", {}):
            self._unless_absent(self._cloud.delete_machine, self._key, machine.id)


@caught_by("test_another_store")
class AnyStyxIsOurs(SeesAll):
    def ours(self, machine):
        return "styx-store" in machine.tags and not machine.tags["styx-store"].endswith("x")


@caught_by("test_another_store")
class SearchesForItsIdAnywhere(SeesAll):
    def ours(self, machine):
        return self.context.store in machine.tags.get("styx-cluster", "")


@caught_by("test_another_store")
class LeftoversOfAll(FakeDriver):
    def leftovers(self, place):
        things = self._cloud.list_things(self._key, "address", region=place.region, tags={})
        return [Leftover(id=one.id, kind="address", place=place, cluster=one.tags["styx-cluster"]) for one in things]


@caught_by("test_clusters_are_apart")
class IgnoresTheCluster(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place, None, known)


@caught_by("test_clusters_are_apart")
class ListsNothingForAll(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place, cluster, known) if cluster else []


@caught_by("test_places_are_apart")
class IgnoresTheZone(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place.model_copy(update={"zone": None}), cluster, known)


@caught_by("test_secrets_stay_secret")
class SecretInRepr(FakeDriver):
    def __repr__(self):
        return f"SecretInRepr({self._key})"


@caught_by("test_secrets_stay_secret")
class SecretInLog(FakeDriver):
    def create(self, request):
        logging.getLogger("fake").debug("POST /v1/machines Authorization: Bearer %s", self._key)
        return super().create(request)


@caught_by("test_secrets_stay_secret")
class SecretInError(FakeDriver):
    def check(self):
        try:
            return super().check()
        except CredentialsError as error:
            key = self.context.secrets("FAKE_API_KEY")
            raise CredentialsError(f"{key} is not valid", hint="Another one, please.") from error


@caught_by("test_secrets_stay_secret")
class SecretInCause(FakeDriver):
    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ApiError as error:
            error.add_note(f"called with {args}")
            raise FakeDriver._translated(error) from error


@caught_by("test_secrets_stay_secret")
class SecretInNode(FakeDriver):
    def _node(self, machine):
        return super()._node(machine).model_copy(update={"data": {"key": self._key}})


@caught_by("test_secrets_stay_secret")
class SecretOnTheTerminal(FakeDriver):
    def terminate(self, nodes):
        sys.stdout.write(f"deleting with {self._key}")
        super().terminate(nodes)


@caught_by("test_secrets_stay_secret")
class SecretInUrl(FakeDriver):
    def check(self):
        identity = super().check()
        with self._cloud._shelf.books() as books:
            books.requests.append(f"GET /v1/whoami?api_key={self._key}")
        return identity


# --------------------------------------------------------------------------------------------------- capabilities


@caught_by("test_stopped_nodes_stay_listed")
class HidesTheStopped(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return [one for one in super().nodes(place, cluster, known) if one.state is not NodeState.STOPPED]


@caught_by("test_stopped_nodes_stay_listed")
class StopsOnce(FakeDriver):
    def stop(self, nodes):
        if any(node.state is NodeState.STOPPED for node in nodes):
            raise DriverError("stopped already")
        super().stop(nodes)


@caught_by("test_start_replaces_by_rank")
class StartsUnderNewRanks(FakeDriver):
    def start(self, nodes):
        count = len(nodes)
        return [one.model_copy(update={"rank": count - one.rank}) for one in super().start(nodes)]


@caught_by("test_start_replaces_by_rank")
class ReturnsTheOldIds(FakeDriver):
    def start(self, nodes):
        super().start(nodes)
        return nodes


@caught_by("test_start_twice")
class StartsOnlyById(FakeDriver):
    def start(self, nodes):
        return [self._node(self._call(self._cloud.start_machine, self._key, node.id)) for node in nodes]


@caught_by("test_stopped_nodes_can_be_removed")
class EndsOnlyTheRunning(FakeDriver):
    def terminate(self, nodes):
        super().terminate([node for node in nodes if node.state is NodeState.RUNNING])


@caught_by("test_ports_open_and_close")
class OpensNothing(FakeDriver):
    def open_ports(self, nodes, ports):
        return None


@caught_by("test_ports_open_and_close")
class ClosesAll(FakeDriver):
    def close_ports(self, nodes, ports):
        super().close_ports(nodes, [*ports, 8080])


@caught_by("test_quotes_are_sane")
class QuotesInMib(FakeDriver):
    def offers(self, query, deadline_s):
        return [one.model_copy(update={"memory_gib": one.memory_gib * 1024}) for one in super().offers(query, 5)]


@caught_by("test_quotes_meet_the_query")
class IgnoresTheQuery(FakeDriver):
    def offers(self, query, deadline_s):
        return list(self.fetch())


@caught_by("test_quotes_meet_the_query")
class PromisesTheImpossible(FakeDriver):
    def offers(self, query, deadline_s):
        return super().offers(query, 5) or list(self.fetch())


@caught_by("test_quotes_meet_the_query")
class MissesItsOwnRow(FakeDriver):
    def offers(self, query, deadline_s):
        return [row for row in super().offers(query, 5) if query.vcpus is None or row.vcpus > query.vcpus]


@caught_by("test_quota_is_a_count")
class QuotaOfTheVendor(FakeDriver):
    def quota(self, place, row):
        return float(self._cloud.world.machines_per_region)


@caught_by("test_quota_is_a_count")
class InfiniteQuota(FakeDriver):
    def quota(self, place, row):
        return float("inf")


@caught_by("test_volumes_come_and_go")
class AVolumeForEachCall(FakeDriver):
    def create_volume(self, place, name, size_gib, options):
        return super().create_volume(place, uuid.uuid4().hex, size_gib, options)


@caught_by("test_volumes_come_and_go")
class DeletesVolumesOnce(FakeDriver):
    def delete_volume(self, place, volume):
        self._call(self._cloud.delete_thing, self._key, volume)


@caught_by("test_volumes_of_another_store")
class SharesVolumes(FakeDriver):
    def _tags(self, cluster):
        return {name: value for name, value in super()._tags(cluster).items() if cluster or name != "styx-store"}


@caught_by("test_volumes_outlive_clusters")
class ReleasesVolumesToo(FakeDriver):
    def release(self, place, cluster):
        super().release(place, cluster)
        for volume in self.volumes(place):
            self.delete_volume(place, volume.id)


@caught_by("test_image_twice")
class AnImageForEachCall(FakeDriver):
    def make_image(self, node, name):
        return super().make_image(node, uuid.uuid4().hex)


@caught_by("test_image_twice")
class OneImageForAll(FakeDriver):
    def make_image(self, node, name):
        return super().make_image(node, "image")


@caught_by("test_notice_probe_is_a_command")
class ProbeIsAString(FakeDriver):
    def notice_probe(self, node):
        return "curl http://169.254.169.254/"


@caught_by("test_notice_probe_is_a_command")
class ProbeWithAKey(FakeDriver):
    def notice_probe(self, node):
        return ("curl", "-H", f"Authorization: {self._key}", "http://169.254.169.254/")


@caught_by("test_self_action_says_what_it_stops")
class NothingStopsBilling(FakeDriver):
    def self_action(self, node, action):
        return SelfEnd(kind="none", stops_billing=True)


@caught_by("test_self_action_says_what_it_stops")
class EmptyCommand(FakeDriver):
    def self_action(self, node, action):
        return SelfEnd(kind="command", stops_billing=True)


# ------------------------------------------------------------------------------------------------------ the proof


def run(check, harness):
    getattr(Suite(), check)(harness)


@pytest.mark.parametrize(("check", "broken", "idempotent"), FAULTS)
def test_fault_is_caught(check, broken, idempotent, tmp_path):
    with pytest.raises(AssertionError):
        run_strictly(check, FakeHarness(tmp_path, broken, idempotent=idempotent))


def run_strictly(check, harness):
    """Run a check; a driver that crashes, or raises where it must not, fails it like an assertion."""
    try:
        run(check, harness)
    except Exception as error:
        raise AssertionError(str(error)) from error


def test_heavy_import_is_caught(tmp_path, monkeypatch):
    """The fault that needs a module of its own."""
    (tmp_path / "heavy_fake.py").write_text(
        "import httpx\nfrom styx.testing.fakecloud import FakeDriver\n\n\nclass Heavy(FakeDriver):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    broken = importlib.import_module("heavy_fake").Heavy
    with pytest.raises(AssertionError, match="httpx"):
        run("test_import_is_light", FakeHarness(tmp_path, broken))


def test_every_check_has_a_fault():
    proven = {fault.values[0] for fault in FAULTS} | {"test_import_is_light"}
    assert proven == set(CHECKS), f"unproven: {set(CHECKS) - proven}; gone: {proven - set(CHECKS)}"
    assert len(FAULTS) >= 20


def test_checks_join_by_mixin():
    """A driver without mixins has the core checks only, and an author cannot forget those of a mixin."""

    class Plain(DriverConformance):
        driver_type = Without

    class Some(DriverConformance):
        driver_type = type("Some", (Without, HasVolumes, MakesImages, EndsItself), {})

    core = {name for name in dir(DriverConformance) if name.startswith("test_")}
    assert {name for name in dir(Plain) if name.startswith("test_")} == core
    joined = {name for name in dir(Some) if name.startswith("test_")} - core
    assert {"test_volumes_come_and_go", "test_image_twice", "test_self_action_says_what_it_stops"} <= joined
    assert "test_start_twice" not in joined
