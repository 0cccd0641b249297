"""Deliberate faults in dealing with failure, strangers and secrets, and the checks that catch them."""

import contextlib
import logging
import re
import sys
from collections.abc import Mapping

import pytest

from styx.driver import Leftover, Node, NodeState, Place
from styx.errors import (
    AmbiguousError,
    CapacityError,
    CloudError,
    CredentialsError,
    DriverError,
    TransientError,
    VendorDetail,
)
from styx.testing.conformance import FailureChecks, IsolationChecks
from styx.testing.conformance.proof import Proof
from styx.testing.fakecloud import ERRORS, ApiError, ConnectionLost, FakeDriver
from styx.testing.fakecloud.harness import FakeHarness

PROOF = Proof(FailureChecks, IsolationChecks)
caught_by = PROOF.caught_by


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


@caught_by("test_every_row_of_the_error_table", ", the table says")
class AllIsCapacity(FakeDriver):
    _translated = translated(lambda error, created: CapacityError(str(error), vendor=error.vendor, created=created))


@caught_by("test_every_row_of_the_error_table", ": the error's vendor.code is")
class LosesTheVendorsWords(FakeDriver):
    _translated = translated(_spoil(vendor=VendorDetail()))


@caught_by("test_every_row_of_the_error_table", ": retry_after_s is")
class RetryAtOnce(FakeDriver):
    _translated = translated(_spoil(retry_after_s=0.0))


@caught_by("test_unknown_code_is_a_driver_error", "'never-heard-of-it")
class CrashesOnNews(FakeDriver):
    @staticmethod
    def _translated(error, created=()):
        if isinstance(error, ApiError):
            ERRORS[error.code]
        return FakeDriver._translated(error, created)


@caught_by("test_unknown_code_is_a_driver_error", "an unknown code became")
class UnknownIsTransient(FakeDriver):
    _translated = translated(
        lambda error, created: TransientError(str(error), vendor=error.vendor) if type(error) is DriverError else error
    )


@caught_by(
    "test_lost_reply",
    "a lost reply is a TransientError, but the row is not",
    idempotent=False,
)
class AsksAgainBlindly(FakeDriver):
    @contextlib.contextmanager
    def _reporting(self, made):
        try:
            yield
        except ConnectionLost as error:
            raise TransientError(str(error)) from None
        except ApiError as error:
            raise self._translated(error, tuple(made.values())) from None


@caught_by("test_lost_reply", "is shorter than the listing's lag,", idempotent=False)
class SettlesTooSoon(FakeDriver):
    @contextlib.contextmanager
    def _reporting(self, made):
        try:
            with super()._reporting(made):
                yield
        except AmbiguousError as error:
            error.settle_s = 0.5
            raise


@caught_by("test_lost_reply", "after a lost reply create returned")
class TokenForEachClient(FakeDriver):
    """Makes up its own token, so that another client's repeat is a new order."""

    def create(self, request):
        return super().create(request.model_copy(update={"token": f"{id(self):032x}"}))


@caught_by("test_k_of_n", "as made, there are")
class KeepsPartialGangsToItself(FakeDriver):
    _translated = translated(lambda error, created: _spoil(created=())(error, created))


@caught_by("test_k_of_n", "a gang made in part is reported as if it were whole")
class PartIsTheWhole(FakeDriver):
    def create(self, request):
        try:
            return super().create(request)
        except CapacityError as error:
            return error.created


@caught_by("test_refused_while_provisioning", "a machine refused late should be `failed`")
class PendingForEver(FakeDriver):
    def _node(self, machine):
        node = super()._node(machine)
        broken = node.state is NodeState.FAILED
        return node.model_copy(update={"state": NodeState.PENDING, "problem": None}) if broken else node


@caught_by("test_refused_while_provisioning", "a machine refused late should be `failed`")
class FailsWithoutReason(FakeDriver):
    def _node(self, machine):
        return super()._node(machine).model_copy(update={"problem": None})


@caught_by("test_refused_while_provisioning", "failed machines that are gone count as existing")
class FailsForEver(FakeDriver):
    """As a vendor that lists machines for an hour after their end."""

    def nodes(self, place, cluster, known=()):
        found = list(super().nodes(place, cluster, known))
        failed = self.__dict__.setdefault("failed", {})
        failed.update({node.id: node for node in found if node.state is NodeState.FAILED})
        return [failed.get(node.id, node) for node in found] + [
            node for node in failed.values() if node.id not in {one.id for one in found}
        ]


@caught_by("test_failed_listing_is_not_empty", "the listing failed, and nodes() returned")
class FailedIsEmpty(FakeDriver):
    def nodes(self, place, cluster, known=()):
        try:
            return super().nodes(place, cluster, known)
        except CloudError:
            return []


class HasNoTable(FakeHarness):
    error_table: Mapping[str, type[CloudError]] = {}


@caught_by("test_every_row_of_the_error_table", "the harness has no error_table", harness=HasNoTable)
class Healthy(FakeDriver):
    pass


@caught_by("test_every_row_of_the_error_table", ", and create returned as if it had not")
class SwallowsRefusals(FakeDriver):
    def create(self, request):
        try:
            return super().create(request)
        except CloudError:
            return []


@caught_by("test_every_row_of_the_error_table", ": the error has no message")
class RefusesWithoutAWord(FakeDriver):
    _translated = translated(lambda error, created: type(error)("", vendor=error.vendor, created=created))


@caught_by("test_every_row_of_the_error_table", ": nothing was made, but the error names")
class NamesGhosts(FakeDriver):
    def create(self, request):
        try:
            return super().create(request)
        except CloudError as error:
            error.created = (GHOST,)
            raise


GHOST = Node(
    id="m-0",
    cluster="styx-a-st0re101",
    rank=0,
    place=Place(cloud="fake", account="acct-1", region="north", zone="north-a"),
    state=NodeState.PENDING,
)


@caught_by("test_every_row_of_the_error_table", ": refused, and yet the account holds something new")
class MakesAnotherInstead(FakeDriver):
    def create(self, request):
        try:
            return super().create(request)
        except CloudError:
            self._cloud.plant("north-a")
            raise


@caught_by("test_unknown_code_is_a_driver_error", "vendor.code is")
class ForgetsTheUnknownCode(FakeDriver):
    _translated = translated(lambda error, created: DriverError(str(error)) if type(error) is DriverError else error)


@caught_by("test_lost_reply", "the machine behind a lost reply is not listed", idempotent=False)
class ListsOnlyTheAcknowledged(FakeDriver):
    def nodes(self, place, cluster, known=()):
        mine = {one for ranks in self._made.values() for one in ranks.values()}
        return [node for node in super().nodes(place, cluster, known) if node.id in mine]


@caught_by("test_lost_reply", "machines, a lost reply made")
class MakesOneMore(FakeDriver):
    def create(self, request):
        return super().create(request.model_copy(update={"count": request.count + 1}))


class SeesAll(FakeDriver):
    """Filters its listing here instead of at the vendor, and badly."""

    def ours(self, machine):
        raise NotImplementedError

    def _list(self, region, tags):
        have = {name: value for name, value in tags.items() if name != "styx-store"}
        seen = [one for one in super()._list(region, {}) if have.items() <= one.tags.items() and self.ours(one)]
        filler = {"styx-cluster": "unknown", "styx-rank": "0"}
        return [one.model_copy(update={"tags": {**filler, **one.tags}}) for one in seen]


@caught_by("test_foreign_machines", "machines that are not ours are listed:")
class ListsTheWholeAccount(SeesAll):
    def ours(self, machine):
        return True


@caught_by("test_foreign_machines", "machines that are not ours are listed:")
class GoesByTheNamePrefix(SeesAll):
    def ours(self, machine):
        return machine.name.startswith("styx-") and machine.tags.get("styx-store", "").startswith(self.context.store)


@caught_by("test_foreign_machines", "machines that are not ours were removed:")
class EndsEverythingInSight(FakeDriver):
    def terminate(self, nodes):
        super().terminate(nodes)
        for machine in self._list("north", {}):
            self._unless_absent(self._cloud.delete_machine, self._key, machine.id)


@caught_by("test_another_store", "our machines are")
class AnyStyxIsOurs(SeesAll):
    def ours(self, machine):
        return "styx-store" in machine.tags and not machine.tags["styx-store"].endswith("x")


@caught_by("test_another_store", "our machines are")
class SearchesForItsIdAnywhere(SeesAll):
    def ours(self, machine):
        return self.context.store in machine.tags.get("styx-cluster", "")


@caught_by("test_another_store", "another installation's things are called our leftovers")
class LeftoversOfAll(FakeDriver):
    def leftovers(self, place):
        things = self._cloud.list_things(self._key, "address", region=place.region, tags={})
        return [Leftover(id=one.id, kind="address", place=place, cluster=one.tags["styx-cluster"]) for one in things]


@caught_by("test_clusters_are_apart", "cluster styx-a-st0re101 has")
class IgnoresTheCluster(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place, None, known)


@caught_by("test_clusters_are_apart", "the listing of all says")
class ListsNothingForAll(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place, cluster, known) if cluster else []


@caught_by("test_places_are_apart", "are listed in fake/north/north-b")
class IgnoresTheZone(FakeDriver):
    def nodes(self, place, cluster, known=()):
        return super().nodes(place.model_copy(update={"zone": None}), cluster, known)


@caught_by("test_secrets_stay_secret", "a credential is in repr(driver)")
class SecretInRepr(FakeDriver):
    def __repr__(self):
        return f"SecretInRepr({self._key})"


@caught_by("test_secrets_stay_secret", "a credential is in the log")
class SecretInLog(FakeDriver):
    def create(self, request):
        logging.getLogger("fake").debug("POST /v1/machines Authorization: Bearer %s", self._key)
        return super().create(request)


@caught_by("test_secrets_stay_secret", "a credential is in the error for bad credentials")
class SecretInError(FakeDriver):
    def check(self):
        try:
            return super().check()
        except CredentialsError as error:
            key = self.context.secrets("FAKE_API_KEY")
            raise CredentialsError(f"{key} is not valid", hint="Another one, please.") from error


@caught_by("test_secrets_stay_secret", "a credential is in the error for bad credentials")
class SecretInCause(FakeDriver):
    def _call(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ApiError as error:
            error.add_note(f"called with {args}")
            raise FakeDriver._translated(error) from error


@caught_by("test_secrets_stay_secret", "a credential is in a node")
class SecretInNode(FakeDriver):
    def _node(self, machine):
        return super()._node(machine).model_copy(update={"data": {"key": self._key}})


@caught_by("test_secrets_stay_secret", "a credential is in the terminal")
class SecretOnTheTerminal(FakeDriver):
    def terminate(self, nodes):
        sys.stdout.write(f"deleting with {self._key}")
        super().terminate(nodes)


@caught_by("test_secrets_stay_secret", "a credential is in a request's URL")
class SecretInUrl(FakeDriver):
    def check(self):
        identity = super().check()
        with self._cloud._shelf.books() as books:
            books.requests.append(f"GET /v1/whoami?api_key={self._key}")
        return identity


@caught_by("test_foreign_machines", "things that are not ours are called leftovers:")
class ForeignLeftovers(FakeDriver):
    def leftovers(self, place):
        page = self._cloud.list_machines(self._key, region=place.region)
        return [Leftover(id=one.id, kind="machine", place=place) for one in page.machines if not one.tags]


@caught_by("test_another_store", "their machines are")
class KnowsOnlyOneStore(FakeDriver):
    def nodes(self, place, cluster, known=()):
        if self.context.store == "st0re1":
            return super().nodes(place, cluster, known)
        return [self._node(one) for one in self._list(place.region, {})]


@caught_by("test_another_store", "another installation's cluster can be listed by its key")
class TheKeyIsEnough(FakeDriver):
    def nodes(self, place, cluster, known=()):
        tags = {"styx-cluster": cluster} if cluster else self._tags(None)
        return [self._node(one) for one in self._list(place.region, tags) if one.zone == place.zone]


@caught_by("test_another_store", "another installation's machines were removed")
class ReleasesWhoeversItIs(FakeDriver):
    def release(self, place, cluster):
        for machine in self._list(place.region, {"styx-cluster": cluster}):
            self._unless_absent(self._cloud.delete_machine, self._key, machine.id)
        super().release(place, cluster)


class ShortCredentials(FakeHarness):
    credentials: Mapping[str, str] = {"FAKE_API_KEY": "short"}


@caught_by("test_secrets_stay_secret", "credentials of at least eight characters", harness=ShortCredentials)
class HealthyToo(FakeDriver):
    pass


# ------------------------------------------------------------------------------------------------------ the proof


@pytest.mark.parametrize("fault", PROOF.faults, ids=str)
def test_fault_is_caught(fault, tmp_path):
    with pytest.raises(Exception, match=re.escape(fault.says)):
        PROOF.run(fault, tmp_path)


def test_every_check_is_proven():
    assert not PROOF.unproven()
