"""What runs on a pod does it: the start command lets the owner in, and a pod ends itself with its own key alone."""

import contextlib
import subprocess
import time

import pytest

from styx.plugin import NodeState
from styx.state.folders import HomeFolders
from styx.testing.conformance import steps
from styx.testing.emulator import plain_client
from styx.transport.ssh.keys import host_key, login_key
from styx_runpod import RunPod, RunPodConfig
from tests.simcloud.runpod import KEY, RunPodCloud, pod_key


@pytest.fixture
def cloud(machines):
    with RunPodCloud(room=machines) as cloud:
        yield cloud
    assert not cloud.broken


class Account:
    """A driver on the clock of the wall, as the suite's steps need it."""

    def __init__(self, home, cloud):
        from styx.testing.contexts import make_context

        config = RunPodConfig(endpoint=cloud.url, graphql_endpoint=cloud.graphql_url)
        secrets = {"RUNPOD_API_KEY": KEY}
        self.driver = RunPod(make_context(home, config=config, secrets=secrets, http=plain_client))
        self.folders = HomeFolders(home)

    def request(self):
        from styx.testing.conformance.harness import order

        row = next(row for row in self.driver.fetch() if row.features.stop)
        place = next(place for place in self.driver.check().places if place.region == row.region)
        request = order(self.driver, row, place)
        keys = {"ssh_public_key": login_key(self.folders).public}
        keys["host_key"] = host_key(self.folders, request.cluster).private()
        script = "#!/bin/sh\nenv >~/booted\n"
        return request.model_copy(update=keys | {"boot_script": script, "env": {"TASK": "mine"}})

    def advance(self, seconds):
        time.sleep(min(seconds, 0.2))

    def up(self):
        node = steps.launch(self, self.driver, self.request())[0]
        assert node.state is NodeState.RUNNING
        return node

    def ssh(self, node, command, *, timeout_s=30):
        """As the owner, with the host key pinned; repeated until sshd is there."""
        known = self.folders.key_path("known")
        known.write_text(f"[{node.reach.host}]:{node.reach.port} {node.reach.host_key}\n")
        options = [
            f"-oUserKnownHostsFile={known}",
            "-oStrictHostKeyChecking=yes",
            "-oBatchMode=yes",
            "-oConnectTimeout=5",
        ]
        key = login_key(self.folders).path
        argv = [
            "ssh",
            "-F",
            "/dev/null",
            "-i",
            str(key),
            *options,
            "-p",
            str(node.reach.port),
            f"root@{node.reach.host}",
        ]
        deadline = time.monotonic() + timeout_s
        while True:
            done = subprocess.run(
                [*argv, command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
            )
            if done.returncode != 255 or time.monotonic() > deadline:
                assert done.returncode == 0, done.stderr
                return done.stdout
            time.sleep(0.2)


@pytest.fixture
def account(tmp_path, cloud):
    return Account(tmp_path, cloud)


def test_the_start_command_lets_the_owner_in_and_keeps_the_home(account, cloud):
    node = account.up()
    said = account.ssh(node, "echo kept > ~/kept; echo gone > /root/gone; pwd; env")
    assert said.splitlines()[0].endswith("/workspace/home")
    assert "RUNPOD_POD_ID=" in said
    booted = account.ssh(node, "cat ~/booted")
    for told in (said, booted):
        assert "TASK=mine" in told
        for secret in ("RUNPOD_API_KEY", "STYX_HOST_KEY", "STYX_TOKEN", KEY):
            assert secret not in told
    account.driver.stop([node])
    again = account.driver.start([node])
    again = steps.launch(account, _listing(account.driver, again), None)
    assert account.ssh(again[0], "cat ~/kept; ls /root").split() == ["kept"]
    assert "RUNPOD_API_KEY" not in account.ssh(again[0], "cat ~/booted")
    account.driver.terminate(again)
    assert not cloud.pods()


def test_a_pod_ends_itself_and_no_other(account, cloud):
    mine, other = account.up(), cloud.plant("theirs")
    end = account.driver.self_action(mine, "down")
    account.ssh(mine, "true")
    machine = cloud.pods()[0].host.result()
    stolen = end.argv[2].replace('given["RUNPOD_POD_ID"]', repr(other.id))
    done = machine.run([*end.argv[:2], stolen, *end.argv[3:]])
    assert (done.returncode, b"RunPod does not end this pod" in done.stderr) == (1, True)
    assert len(cloud.pods()) == 2
    with contextlib.suppress(subprocess.TimeoutExpired):  # the machine may be gone before its command has ended
        machine.run(end.argv, timeout_s=20)
    deadline = time.monotonic() + 20
    while len(cloud.pods()) > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [pod.id for pod in cloud.pods()] == [other.id]
    keys = {one.headers.get("authorization") for one in cloud.server.requests if one.path == "/graphql"}
    assert keys == {f"Bearer {KEY}", f"Bearer {pod_key(mine.id)}"}


def test_a_pod_stops_itself(account, cloud):
    node = account.up()
    account.ssh(node, "true")
    end = account.driver.self_action(node, "stop")
    with contextlib.suppress(subprocess.TimeoutExpired):
        cloud.pods()[0].host.result().run(end.argv, timeout_s=20)
    deadline = time.monotonic() + 20
    while account.driver.nodes(node.place, None)[0].state is not NodeState.STOPPED:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _listing(driver, nodes):
    """A driver whose `create` only looks, for `steps.launch`."""

    class Looks:
        limits = driver.limits

        def create(self, _request):
            return driver.nodes(nodes[0].place, nodes[0].cluster)

    return Looks()
