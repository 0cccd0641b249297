"""Checks of making, listing and unmaking machines when nothing goes wrong."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from styx.driver import Local, Node, NodeState, Ssh
from styx.errors import AmbiguousError, TransientError
from styx.testing.conformance import steps
from styx.testing.conformance.harness import AnyDriver, Harness, cluster_key


class LifecycleChecks:
    """create, nodes, terminate, release."""

    def test_create_list_terminate(self, harness: Harness) -> None:
        """A gang comes up, is listed as it is, and leaves nothing behind."""
        driver, before = harness.driver(), steps.truth(harness)
        request = harness.request(driver, steps.several(driver))
        nodes = steps.up(harness, driver, request)
        assert len(nodes) == request.count, f"asked for {request.count} nodes, create returned {len(nodes)}"
        made = steps.truth(harness) - before
        assert steps.ids(nodes) == sorted(made), f"create returned {steps.ids(nodes)}, the vendor made {sorted(made)}"
        listed = steps.living(driver.nodes(request.place, request.cluster))
        assert steps.ids(listed) == sorted(made), f"nodes() lists {steps.ids(listed)}, there are {sorted(made)}"
        assert {node.state for node in listed} == {NodeState.RUNNING}, "nodes() does not list them as running"
        steps.down(harness, driver, nodes)
        harness.advance(driver.limits.listing_lag_s)
        left = steps.living(driver.nodes(request.place, request.cluster))
        assert not left, f"terminated machines are still listed as living: {steps.ids(left)}"
        assert steps.truth(harness) == before, "the account does not hold what it held before"

    def test_nodes_say_where_they_are(self, harness: Harness) -> None:
        """Cluster key, place, token, shape and price belong to the request; that is how a lost node is found again."""
        driver = harness.driver()
        request = harness.request(driver)
        created = steps.up(harness, driver, request)
        for node in [*created, *driver.nodes(request.place, None)]:
            assert node.cluster == request.cluster, f"node says cluster {node.cluster!r}, asked for {request.cluster!r}"
            where, asked = node.place, request.place
            assert (where.cloud, where.account, where.region) == (asked.cloud, asked.account, asked.region), (
                f"node says it is in {where} of account {where.account}, asked for {asked} of {asked.account}"
            )
            assert asked.zone in (None, where.zone), f"node says zone {where.zone}, asked for {asked.zone}"
            assert node.token in (None, request.token), "node carries the token of another request"
            assert node.instance_type in (None, request.offer.instance_type), f"made a {node.instance_type} instead"
            assert node.usd_per_hour is None or driver.free or node.usd_per_hour > 0, "a paid machine costs 0"
            assert node.created_at is None or node.created_at.tzinfo, "created_at has no time zone"

    def test_running_nodes_can_be_reached(self, harness: Harness) -> None:
        """A node that runs says how to reach it; a local one keeps the agent's state apart from the user's home."""
        driver = harness.driver()
        for node in steps.up(harness, driver, harness.request(driver)):
            assert node.reach is not None, "a running node has no `reach`"
            if isinstance(node.reach, Ssh):
                assert node.reach.host, "the SSH host is empty"
                assert node.reach.user, "the SSH user is empty"
            if isinstance(node.reach, Local):
                assert node.reach.home.startswith("/"), "a local node's home must be absolute"
                assert not f"{node.reach.state}/".startswith(f"{node.reach.home}/"), (
                    "the agent's state lies in the home"
                )

    def test_request_is_carried(self, harness: Harness) -> None:
        """SSH key, boot script, labels and ports of the request arrive at the machine."""
        driver = harness.driver()
        request = harness.request(driver)
        node = steps.up(harness, driver, request)[0]
        machine = next((one for one in harness.machines() if one.id == node.id), None)
        assert machine is not None, f"the vendor knows no machine {node.id}"
        features = request.offer.features or driver.features
        if isinstance(node.reach, Ssh):
            assert machine.ssh_keys is not None, "nodes are reached by SSH, but the harness tells no ssh_keys"
            added = request.ssh_public_key in machine.ssh_keys
            assert added or not harness.installs_key, "the request's SSH key does not open the machine"
            assert harness.installs_key or not added, "a key was added to a machine that is not the driver's to change"
        if features.user_data:
            assert (request.boot_script or "") in (machine.boot_script or ""), "the boot script did not arrive"
        if machine.labels is not None:
            assert request.labels.items() <= machine.labels.items(), f"labels are {dict(machine.labels)}"
        if machine.ports is not None:
            assert set(request.ports) <= machine.ports, f"ports are {sorted(machine.ports)}, asked for {request.ports}"

    def test_ranks_are_stable(self, harness: Harness) -> None:
        """Ranks are 0 to n-1, the same in each listing and for each client, also when one node is gone."""
        driver = harness.driver()
        request = harness.request(driver, steps.several(driver))
        ranks = {node.id: node.rank for node in steps.up(harness, driver, request)}
        assert sorted(ranks.values()) == list(range(request.count)), f"ranks are {sorted(ranks.values())}"
        listed = {node.id: node.rank for node in harness.driver().nodes(request.place, request.cluster)}
        assert listed == ranks, f"a new client sees the ranks {listed} instead of {ranks}"
        first = [node for node in driver.nodes(request.place, request.cluster) if node.rank == 0]
        driver.terminate(first)
        harness.advance(steps.STEP_S)
        for node in steps.living(driver.nodes(request.place, request.cluster)):
            assert node.rank == ranks[node.id], f"rank {ranks[node.id]} became {node.rank} when another node ended"

    def test_create_twice(self, harness: Harness) -> None:
        """The same request again makes nothing new, whoever asks."""
        driver, before = harness.driver(), steps.truth(harness)
        request = harness.request(driver, steps.several(driver))
        first = steps.up(harness, driver, request)
        for client in (driver, harness.driver()):
            again = list(client.create(request))
            assert steps.ids(again) == steps.ids(first), f"a repeat returned {steps.ids(again)}, not {steps.ids(first)}"
        made = steps.truth(harness) - before
        assert len(made) == request.count, f"asked for {request.count} machines, repeats made {len(made)}"

    def test_create_in_two_threads(self, harness: Harness) -> None:
        """The same request from two threads of one client at the same moment makes each node once."""
        driver, before = harness.driver(), steps.truth(harness)
        request = harness.request(driver, steps.several(driver))
        gate, surprises = threading.Barrier(2), []

        def call() -> None:
            gate.wait(timeout=10)
            try:
                driver.create(request)
            except (TransientError, AmbiguousError):
                pass  # "not now" is a fair answer to the slower one
            except BaseException as error:  # noqa: BLE001 - reported by the other thread
                surprises.append(error)

        threads = [threading.Thread(target=call, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        assert not surprises, f"create fails when called from two threads: {surprises[0]!r}"
        steps.up(harness, driver, request)
        made = steps.truth(harness) - before
        assert len(made) == request.count, f"asked for {request.count} machines, two threads made {len(made)}"

    def test_nodes_survive_json(self, harness: Harness) -> None:
        """A node stored as JSON is enough for another client to list, recognise and end the machine."""
        driver = harness.driver()
        request = harness.request(driver)
        nodes = steps.up(harness, driver, request)
        stored = [Node.model_validate_json(node.model_dump_json()) for node in nodes]
        assert stored == nodes, "a node changes when it is stored and read back"
        later = harness.driver()
        listed = later.nodes(request.place, request.cluster, known=stored)
        assert steps.ids(steps.living(listed)) == steps.ids(nodes), (
            "a new client does not list what it is told is known"
        )
        steps.down(harness, later, stored)

    def test_pages(self, harness: Harness) -> None:
        """A listing of more than three pages is complete, each machine once, for one cluster and for all."""
        driver = harness.driver()
        total = 3 * harness.page_size + 1 if harness.page_size else 4
        made: dict[str, list[str]] = {}
        place = harness.place(driver)
        while (missing := total - sum(map(len, made.values()))) > 0:
            request = harness.request(driver, min(missing, driver.limits.max_nodes), slug=f"p{len(made)}", place=place)
            made[request.cluster] = steps.ids(steps.up(harness, driver, request))
        everything = sorted(one for cluster in made.values() for one in cluster)
        listed = steps.ids(driver.nodes(place, None))
        assert listed == everything, f"{len(everything)} machines, but the listing has {len(listed)}"
        for cluster, expected in made.items():
            assert steps.ids(driver.nodes(place, cluster)) == expected, f"the listing of {cluster} is not complete"

    def test_listing_lag(self, harness: Harness) -> None:
        """Within `limits.listing_lag_s` a new machine may be missing, but is neither made again nor called dead."""
        driver, before = harness.driver(), steps.truth(harness)
        request = harness.request(driver, steps.several(driver))
        first = steps.accepted(harness, driver, request)
        again = list(driver.create(request))
        assert steps.ids(again) == steps.ids(first), "create, repeated while listings lag, returns other machines"
        for node in driver.nodes(request.place, request.cluster, known=first):
            assert node.state not in steps.ENDED, f"a machine too new to be listed is called {node.state.value}"
        harness.advance(driver.limits.listing_lag_s)
        listed = steps.ids(driver.nodes(request.place, request.cluster))
        lag_s = driver.limits.listing_lag_s
        assert listed == steps.ids(first), f"{lag_s} s (limits.listing_lag_s) after create, {listed} are listed"
        assert len(steps.truth(harness) - before) == request.count, "machines were made twice while listings lagged"

    def test_absent_machines(self, harness: Harness) -> None:
        """To end what is gone already, or to release what never was, is a success."""
        driver = harness.driver()
        request = harness.request(driver)
        nodes = steps.up(harness, driver, request)
        driver.terminate(nodes)
        driver.terminate(nodes)  # being removed
        steps.down(harness, driver, nodes)
        harness.advance(steps.STEP_S)
        driver.terminate(nodes)  # gone
        driver.terminate([])
        nowhere = cluster_key("nowhere", driver.context.store)
        assert not driver.nodes(request.place, nowhere), "a cluster that never was has nodes"
        driver.release(request.place, nowhere)

    def test_release_is_reentrant(self, harness: Harness) -> None:
        """Release removes whatever else was made for the cluster, can be repeated, and works before create did."""
        driver, before = harness.driver(), set(harness.remains())
        request = harness.request(driver)
        steps.release(harness, driver, request.place, request.cluster)
        nodes = steps.up(harness, driver, request)
        steps.down(harness, driver, nodes)
        steps.release(harness, driver, request.place, request.cluster)
        left = set(harness.remains()) - before
        assert not left, f"release left behind: {sorted(left)}"
        leftovers = [one.id for one in driver.leftovers(request.place)]
        assert not leftovers, f"leftovers() still names {leftovers}"

    def test_never_sleeps(self, harness: Harness) -> None:
        """The engine waits; a driver that sleeps holds a thread and outlives its deadline."""
        driver = harness.driver()
        request = harness.request(driver)
        with awake(driver):
            driver.check()
            steps.accepted(harness, driver, request)
        nodes = steps.up(harness, driver, request)
        with awake(driver):
            driver.nodes(request.place, request.cluster)
            driver.terminate(nodes)
        harness.advance(steps.STEP_S)
        with awake(driver):
            steps.release(harness, driver, request.place, request.cluster)


@contextmanager
def awake(driver: AnyDriver) -> Iterator[None]:
    """Fail if the driver, or anything it calls, sleeps within the block.

    `subprocess` is let through: it sleeps for milliseconds to wait for a command that it was told to wait for.
    """
    module = type(driver).__module__
    package = sys.modules[module].__package__ or module
    real, caught = time.sleep, list[str]()

    def within(name: str) -> bool:
        return name in {module, package} or name.startswith(f"{package}.")

    def sleep(seconds: float) -> None:
        frame: FrameType | None = sys._getframe(1)
        caller = frame.f_globals.get("__name__", "") if frame else ""
        while frame is not None and caller != "subprocess":
            if within(frame.f_globals.get("__name__", "")):
                caught.append(f"{frame.f_code.co_filename}:{frame.f_lineno} sleeps {seconds} s (in {caller})")
                return
            frame = frame.f_back
        real(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", sleep)
        for holder in [value for name, value in list(sys.modules.items()) if within(name)]:
            for name, value in list(vars(holder).items()):
                if value is real:
                    patch.setattr(holder, name, sleep)
        yield
    assert not caught, f"a driver never sleeps: {caught[0]}"
