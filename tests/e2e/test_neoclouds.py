"""From `styx launch` to `styx down` on Lambda and RunPod: emulated accounts, real hosts, nothing left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.simcloud.neoclouds import Neoclouds, neoclouds
from tests.simcloud.vendor import LOSE

if TYPE_CHECKING:
    from styx.testing.machines import Machines
    from tests.conftest import Styx


@pytest.fixture
def clouds(styx: Styx, machines: Machines) -> Iterator[Neoclouds]:
    with neoclouds(styx, machines) as made:
        yield made


ON_LAMBDA = ("--infra", "lambda/us-east-1", "--instance-type", "gpu_1x_a10", "--yes")
ON_RUNPOD = ("--infra", "runpod", "--gpus", "A10:1", "--yes")


def until(condition: Callable[[], bool], what: str, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.2)


@pytest.mark.slow
def test_lambda_from_launch_to_down(styx: Styx, clouds: Neoclouds) -> None:
    clouds.lambda_.script("launch", LOSE)  # the first machine is made, and nobody is told
    said = styx("launch", "-c", "one", *ON_LAMBDA, "--ports", "8080", "--", "hostname; whoami")
    assert said.stdout.split()[-1] == "ubuntu"
    (name,) = [one.name for one in clouds.lambda_.instances() if one.name not in clouds.foreign]
    assert name in said.stdout
    assert "no lease" in said.stderr
    assert styx("exec", "one", "--", "exit 7", code=7)
    (mine,) = [one for one in clouds.lambda_.instances() if one.name == name]
    for tag in mine.tags:  # as anybody with a key of the account can write it
        if tag["key"] == "styx-host-key":
            tag["value"] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvcmVpZ25mb3JlaWduZm9yZWlnbmZvcmVpZ25mb3I="
    assert styx.json("status", "--refresh")[0]["state"] == "UP"  # our own file counts
    machine = next(one for one in clouds.lambda_.instances() if one.name == name).host
    assert machine is not None
    clouds.assert_no_secret_told(styx.home, machine.result().root / "home")
    styx("down", "one", "--yes")
    clouds.assert_as_before()


@pytest.mark.slow
def test_a_lease_on_lambda_is_carried_out_by_the_next_look(styx: Styx, clouds: Neoclouds) -> None:
    brief = ("--config", "lease.idle=2s", "--config", "lease.action=down")
    said = styx("launch", "-c", "late", *ON_LAMBDA, *brief, "--", "true")
    assert "until a command of yours ends them: `styx status --refresh`, `styx sweep --delete`" in said.stderr
    until(lambda: bool(styx.json("sweep")["orphans"]), "the node has called itself overdue")
    (found,) = styx.json("sweep")["orphans"]
    assert (found["cluster"], "idle for" in found["why"]) == ("late", True)
    looked = styx("status", "--refresh")
    assert "late was ended, as its lease has run out: a node says: idle for" in looked.stderr
    clouds.assert_as_before()


@pytest.mark.slow
def test_a_new_api_key_of_the_same_account_on_lambda(styx: Styx, clouds: Neoclouds) -> None:
    clouds.lambda_.keys.add("secret_new_canary.Zz1")
    new = {"LAMBDA_API_KEY": "secret_new_canary.Zz1"}
    styx("launch", "-c", "kept", *ON_LAMBDA, "--", "true")
    assert styx.json("status", "--refresh", env=new)[0]["state"] == "UP"
    styx("down", "kept", "--yes", env=new)
    clouds.assert_as_before()

    clouds.lambda_.logged = False  # Lambda tells nothing of whose key it is
    for file in styx.home.rglob("lambda-accounts.json"):
        file.unlink()
    styx("check", "lambda")
    styx("launch", "-c", "kept", *ON_LAMBDA, "--", "true")
    place = styx.json("why", "kept")["attempts"][0]["place"]
    refused = styx("down", "kept", "--yes", env=new, code=77)
    named = f"--config clouds.lambda.account={place['account']}"
    assert (
        f"if that is the same account with a new API key, say so: `clouds: {{lambda: {{account: {place['account']}"
        in (refused.stderr.replace("\n", " "))
    )
    assert named in refused.stderr
    styx("down", "kept", "--yes", *named.split(), env=new)
    clouds.assert_as_before()


@pytest.mark.slow
def test_machines_on_lambda_end_themselves_with_a_key_that_their_owner_lent_them(styx: Styx, clouds: Neoclouds) -> None:
    own = "secret_for_machines_canary.Qq2"
    clouds.lambda_.keys.add(own)
    lent = ("--config", "clouds.lambda.end_key_variable=LAMBDA_END_KEY", "--config", "lease.action=down")
    refused = styx("launch", "-c", "lent", *ON_LAMBDA, *lent, "--", "true", code=None)
    assert "LAMBDA_END_KEY is not set" in refused.stderr
    assert not clouds.ours()

    env = {"LAMBDA_END_KEY": own}
    said = styx("launch", "-c", "lent", *ON_LAMBDA, *lent, "--config", "lease.idle=2s", "--", "true", env=env)
    assert "ends the billing by itself" not in said.stderr
    (mine,) = [one for one in clouds.lambda_.instances() if one.name not in clouds.foreign]
    host = mine.host.result() if mine.host else None
    assert host is not None
    held = host.run(["sh", "-c", "stat -c '%a %U' /etc/styx/lambda-end-key; cat /proc/*/cmdline | tr '\\0' ' '"])
    assert held.stdout.startswith(b"600 root\n")
    assert own.encode() not in held.stdout
    until(lambda: not [one for one in clouds.lambda_.instances() if one.id == mine.id], "the machine has ended itself")
    assert styx.json("status", "--refresh", *lent, env=env) == []
    clouds.assert_as_before()
    assert not [file for file in styx.home.rglob("*") if file.is_file() and own.encode() in file.read_bytes()]
    assert not any(own in line for line in clouds.lambda_.server.lines())

    client = styx.begin(
        "launch", "-c", "orphan", *ON_LAMBDA, *lent, "--config", "launch.first_lease=3s", "--", "true", env=env
    )
    until(lambda: bool([one for one in clouds.lambda_.instances() if one.name not in clouds.foreign]), "a machine")
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    until(lambda: {one.name for one in clouds.lambda_.instances()} == {*clouds.foreign}, "it has ended itself")
    styx("sweep", "--delete", "--yes")
    clouds.assert_as_before()


@pytest.mark.slow
def test_a_host_with_another_key_is_not_believed(styx: Styx, clouds: Neoclouds) -> None:
    clouds.lambda_.doom(own_host_key=True)
    soon = ("--config", "launch.ready_timeout=10s")
    said = styx("launch", "-c", "two", *ON_LAMBDA, *soon, "--", "true", code=None)
    assert said.returncode in (68, 69)
    assert "host key" in said.stderr
    styx("down", "two", "--yes", code=None)
    clouds.assert_as_before()


@pytest.mark.slow
def test_runpod_over_stop_and_start_and_a_loss_to_down(styx: Styx, clouds: Neoclouds) -> None:
    styx("catalog", "refresh", "--cloud", "runpod")
    said = styx("launch", "-c", "three", *ON_RUNPOD, "--", "echo here > kept; id -un")
    assert said.stdout.split()[-1] == "root"
    (pod,) = [one for one in clouds.runpod.pods() if one.name not in clouds.foreign]
    assert pod.host is not None
    clouds.assert_no_secret_told(styx.home, pod.host.result().root / "var", pod.host.result().root / "root")
    styx("stop", "three", "--yes")
    assert styx.json("status", "--refresh")[0]["state"] == "STOPPED"
    styx("start", "three", "--yes")
    assert styx("exec", "three", "--", "cat kept").stdout == "here\n"
    clouds.runpod.vanish(pod.id)
    assert styx.json("status", "--refresh")[0]["state"] == "LOST"
    clouds.runpod.alive = False
    refused = styx("down", "three", "--yes", code=77)
    assert "RunPod says Unauthorized" in refused.stderr
    clouds.runpod.alive = True
    styx("down", "three", "--yes")
    clouds.assert_as_before()

    styx("launch", "-c", "four", "--down", *ON_RUNPOD, "--", "true")  # nobody is there to end it when its job has ended
    until(lambda: not clouds.ours(), "the pod has ended itself")
    assert styx.json("status", "--refresh") == []
    clouds.assert_as_before()


@pytest.mark.slow
def test_a_pod_whose_client_dies_before_it_was_set_up_ends_itself(styx: Styx, clouds: Neoclouds) -> None:
    styx("catalog", "refresh", "--cloud", "runpod")
    client = styx.begin("launch", "-c", "five", *ON_RUNPOD, "--config", "launch.first_lease=4s", "--", "true")
    until(lambda: bool(clouds.ours()), "there is a pod")
    os.killpg(client.pid, signal.SIGKILL)
    client.wait()
    until(lambda: not clouds.ours(), "the pod has ended itself")
    styx("sweep", "--delete", "--yes")
    clouds.assert_as_before()
