"""Checks that the driver touches only what is its own, and tells nobody its secrets."""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
from collections.abc import Iterator

from styx.errors import CloudError
from styx.testing.conformance import steps
from styx.testing.conformance.harness import OTHER_STORE, STORE, Fault, FaultKind, Harness


class IsolationChecks:
    """Foreign machines, other installations, other clusters, other places, secrets."""

    def test_foreign_machines(self, harness: Harness) -> None:
        """Machines that no Styx made are never listed, and never touched."""
        driver = harness.driver()
        request = harness.request(driver)
        foreign = set(harness.plant_foreign(request.place))
        nodes = steps.up(harness, driver, request)
        for cluster in (None, request.cluster):
            caught = foreign & {node.id for node in driver.nodes(request.place, cluster)}
            assert not caught, f"machines that are not ours are listed: {sorted(caught)}"
        caught = foreign & {one.id for one in driver.leftovers(request.place)}
        assert not caught, f"things that are not ours are called leftovers: {sorted(caught)}"
        steps.down(harness, driver, nodes)
        missing = foreign - steps.truth(harness)
        assert not missing, f"machines that are not ours were removed: {sorted(missing)}"

    def test_another_store(self, harness: Harness) -> None:
        """Another installation in the same account is as foreign as anybody, whatever its clusters are called."""
        ours, theirs = harness.driver(), harness.driver(store=OTHER_STORE)
        request = harness.request(ours)
        # Its cluster's name holds our store's id: a driver that searches for the id anywhere is taken in.
        other = harness.request(theirs, slug=STORE, place=request.place)
        mine, his = steps.up(harness, ours, request), steps.up(harness, theirs, other)
        listed = steps.ids(ours.nodes(request.place, None))
        assert listed == steps.ids(mine), f"our machines are {steps.ids(mine)}, the listing says {listed}"
        listed = steps.ids(theirs.nodes(request.place, None))
        assert listed == steps.ids(his), f"their machines are {steps.ids(his)}, the listing says {listed}"
        assert not ours.nodes(request.place, other.cluster), "another installation's cluster can be listed by its key"
        leftovers = {one.cluster for one in ours.leftovers(request.place)}
        assert other.cluster not in leftovers, "another installation's things are called our leftovers"
        ours.release(request.place, other.cluster)
        steps.down(harness, ours, mine)
        assert set(steps.ids(his)) <= steps.truth(harness), "another installation's machines were removed"

    def test_clusters_are_apart(self, harness: Harness) -> None:
        """A listing for one cluster has its nodes alone; one for all has all, each under its own key."""
        driver = harness.driver()
        first = harness.request(driver, slug="a")
        second = harness.request(driver, slug="aa", place=first.place)
        made = {request.cluster: steps.ids(steps.up(harness, driver, request)) for request in (first, second)}
        for cluster, expected in made.items():
            listed = steps.ids(driver.nodes(first.place, cluster))
            assert listed == expected, f"cluster {cluster} has {expected}, the listing says {listed}"
        seen = {node.id: node.cluster for node in driver.nodes(first.place, None)}
        assert seen == {one: cluster for cluster, ids in made.items() for one in ids}, f"the listing of all says {seen}"

    def test_places_are_apart(self, harness: Harness) -> None:
        """A listing of one place does not show the machines of another."""
        driver = harness.driver()
        request = harness.request(driver)
        made = set(steps.ids(steps.up(harness, driver, request)))
        for place, problem in driver.check().places.items():
            if place != request.place and problem is None:
                caught = made & {node.id for node in driver.nodes(place, None)}
                assert not caught, f"machines made in {request.place} are listed in {place}"

    def test_secrets_stay_secret(self, harness: Harness) -> None:
        """Credentials are in no repr, log line, error, node, row or URL, nor on the terminal."""
        canaries = [*harness.credentials.values(), *harness.bad_credentials().values()]
        assert all(len(one) >= 8 for one in canaries), "the harness needs credentials of at least eight characters"
        for where, text in confessions(harness):
            for canary in canaries:
                assert canary not in text, f"a credential is in {where}"


def confessions(harness: Harness) -> Iterator[tuple[str, str]]:
    """Everything that a driver lets out in a normal and in a bad day, with where it was found."""
    log, terminal = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
            said = list(_a_day(harness))
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
    yield from said
    yield "the log", log.getvalue()
    yield "the terminal", terminal.getvalue()
    yield "a request's URL", "\n".join(harness.request_lines())


def _a_day(harness: Harness) -> Iterator[tuple[str, str]]:
    driver = harness.driver()
    yield "repr(driver)", f"{driver!r} {driver}"
    yield "the settings", f"{driver.config!r} {driver.config} {driver.config.model_dump_json()}"
    yield "the identity", repr(driver.check())
    yield "a catalog row", "".join(row.model_dump_json() for row in harness.rows(driver))
    request = harness.request(driver)
    nodes = steps.up(harness, driver, request)
    yield "a node", "".join(node.model_dump_json() for node in [*nodes, *driver.nodes(request.place, None)])
    steps.down(harness, driver, nodes)
    for code in [*harness.error_table, *([harness.unknown_code] if harness.unknown_code else [])]:
        harness.fail_next(Fault(FaultKind.REFUSED, code=code))
        try:
            driver.create(harness.request(driver))
        except CloudError as error:
            yield f"the error for {code}", _all_of(error)
    for secrets in (harness.bad_credentials(), {}):
        try:
            harness.driver(secrets=secrets).check()
        except CloudError as error:
            yield "the error for bad credentials", _all_of(error)


def _all_of(error: CloudError) -> str:
    """An error with its hint, the vendor's words, and the chain of its causes."""
    return f"{error!r} {error.hint} {error.vendor!r} {''.join(traceback.format_exception(error))}"
