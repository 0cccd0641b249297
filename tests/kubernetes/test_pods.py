"""Pods as nodes: on a real cluster where there is one, else on the double, whose pods are real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from styx.errors import NoPlaceLeft, NotFound
from styx.testing.contexts import make_context
from styx_k8s import Kubernetes
from styx_k8s.config import K8sConfig
from tests.kubernetes.build import BARE_IMAGE, PYTHON_IMAGE
from tests.kubernetes.conftest import REAL, Engine
from tests.simcloud.kube import NOBODY, TOKEN

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]


def pod_names(kube: Any) -> list[str]:
    return [one["metadata"]["name"] for one in kube.pods()]


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)
    return found


def remove(kube: Any, name: str) -> None:
    if REAL:
        kube.call("DELETE", f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0")
    else:
        kube.kill(name)
    until(lambda: name not in pod_names(kube))


def test_a_job_from_launch_to_down(engine: Engine, kube: Any, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "data.txt").write_text("carried over\n")
    kube.foreign("somebody-elses")
    try:
        job = engine.launch("cat data.txt", workdir=str(tmp_path / "work"))
        assert engine.output(job) == b"carried over\n"
        done = subprocess.run(
            [str(Path(sys.executable).with_name("styx")), "ssh", "one", "--", "sh", "-c", "echo through exec; exit 7"],
            env=engine.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (7, "through exec\n"), done.stderr
        engine.client.down(["one"])
        assert pod_names(kube) == ["somebody-elses"]
        assert engine.client.sweep().orphans == ()
    finally:
        remove(kube, "somebody-elses")


def test_a_gang_without_room_tells_the_schedulers_words(engine: Engine, kube: Any) -> None:
    kube.label(**{"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"})
    kube.capacity("nvidia.com/gpu", 6)
    driver = driver_of(engine, "st0re1")
    until(lambda: any(row.accelerator_name == "H100" for row in driver.offers(query(), 20)))
    with pytest.raises(NoPlaceLeft, match=r"Insufficient nvidia\.com/gpu"):
        engine.launch(num_nodes=2, resources={"accelerators": "H100:4"})
    assert kube.names() == []
    attempt = engine.client.why("one").attempts[0]
    assert attempt.error == "CapacityError"
    assert "nodes are available" in attempt.message


def query() -> Any:
    from styx.plugin import OfferQuery

    return OfferQuery(accelerator_name="H100", accelerator_count=4)


def driver_of(engine: Engine, store: str) -> Kubernetes:
    secrets = {"KUBECONFIG": str(engine.kubeconfig)}
    return Kubernetes(make_context(engine.home, config=K8sConfig(), secrets=secrets, store=store))


def test_an_image_that_does_not_exist_is_named(engine: Engine, kube: Any) -> None:
    if not REAL:
        kube.images = "(?!.*missing).*"
    with pytest.raises(NoPlaceLeft, match="localhost/missing:1"):
        engine.launch(resources={"image_id": "docker:localhost/missing:1"})


def test_a_namespace_without_permissions_names_the_verbs(kube: Any, tmp_path: Path) -> None:
    engine = Engine(tmp_path / "home")
    check = engine.configure(kube.config({"nobody": NOBODY}))
    engine.close()
    assert not check.ok
    assert check.message == (
        "context nobody, namespace default: not allowed to create pods, get pods, list pods, delete pods, patch pods, "
        "create pods/exec, get pods/exec, create pods/portforward, get pods/portforward, create services, "
        "get services, list services, delete services, patch services, list events, create persistentvolumeclaims, "
        "get persistentvolumeclaims, list persistentvolumeclaims, delete persistentvolumeclaims"
    )
    assert "rbac.yaml" in check.hint


def test_a_full_context_is_passed_over(engine: Engine, kube: Any) -> None:
    kube.quota("full")
    prices = {"full": {"pricing": {"cpu": 0.01, "memory": 0.01}}, "main": {"pricing": {"cpu": 0.1, "memory": 0.1}}}
    both = kube.config({"full": TOKEN, "main": TOKEN, "stale": TOKEN}, {"full": "full"})
    both["clusters"].append({"name": "away", "cluster": {"server": f"http://127.0.0.1:{free_port()}"}})
    both["contexts"][-1]["context"]["cluster"] = "away"
    check = engine.configure(both, allowed_contexts=["all"], context_configs=prices)
    assert check.ok
    assert "stale" in check.message
    assert engine.output(engine.launch()) == b"ran\n"
    first, second = engine.client.why("one").attempts
    assert (first.place.region, first.error, second.place.region) == ("full", "QuotaError", "main")
    assert "exceeded quota" in first.message
    assert kube.names("full") == []


def test_the_control_plane_may_be_away_for_a_while(engine: Engine, kube: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        launch = pool.submit(engine.launch)
        until(lambda: pod_names(kube) or launch.done())
        kube.stop_api()
        time.sleep(3)
        kube.start_api()
        assert engine.output(launch.result(300)) == b"ran\n"


def test_an_evicted_pod_is_a_lost_node(engine: Engine, kube: Any) -> None:
    engine.launch("sleep 600")
    kube.cordon(True)  # as `kubectl drain` does
    try:
        kube.evict(pod_names(kube)[0])
        until(lambda: not pod_names(kube))
        seen = engine.state()
    finally:
        kube.cordon(False)
    assert seen.state == "LOST"
    assert seen.note == (
        "node 0 was evicted: the pod is gone, and node-1, where it was, takes no new ones: it is being drained"
    )


def test_a_preempted_pod_is_a_lost_node(engine: Engine, kube: Any) -> None:
    engine.launch("sleep 600")
    try:
        kube.preempt(pod_names(kube)[0])
        seen = engine.state()
    finally:
        remove(kube, "urgent")
    assert (seen.state, seen.note) == ("LOST", "node 0 was preempted: Preempted by default/urgent on node node-1")


if REAL:  # the double has no images, only this machine's files, and its pods share one address

    def test_a_gang_meets_at_the_address_of_rank_0(engine: Engine, kube: Any, tmp_path: Path) -> None:
        """Ray is installed in both pods from wheels that travel through the API server: they have no way out."""
        from tests.e2e.test_ray_on_hosts import ALL_REDUCE
        from tests.raywheels import ray_wheels

        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "reduce.py").write_text(ALL_REDUCE)
        engine.configure(kube.config({"main": TOKEN}), ray={"wheels": str(ray_wheels())})
        gang = {"num_nodes": 2, "workdir": str(tmp_path / "work"), "resources": {"memory": 2}}
        job = engine.launch("python3 reduce.py; echo $STYX_NODE_IPS", **gang)
        addresses = [one["status"]["podIP"] for one in sorted(kube.pods(), key=lambda one: one["metadata"]["name"])]
        said = sorted(engine.output(job).decode().splitlines())
        hosts = sorted(pod_names(kube))
        sums = [f"rank {rank} of 2 on {host}: sum 11" for rank, host in enumerate(hosts)]
        assert said == sorted([*sums, *2 * [" ".join(addresses)]])
        (service,) = kube.all("services", "default")
        path = f"/api/v1/namespaces/default/endpoints/{service['metadata']['name']}"
        assert service["spec"]["clusterIP"] == "None"
        found = [each["ip"] for subset in kube.call("GET", path)["subsets"] for each in subset["addresses"]]
        assert sorted(found) == sorted(addresses)

    def test_an_image_without_python_is_lent_one(engine: Engine, kube: Any) -> None:
        """A busybox, and a user id that nobody knows."""
        lender = {"name": "python", "imagePullPolicy": "Never"}
        node = {"name": "node", "imagePullPolicy": "Never"}
        spec = {"securityContext": {"runAsUser": 12345}, "initContainers": [lender], "containers": [node]}
        engine.configure(kube.config({"main": TOKEN}), python_image=PYTHON_IMAGE, pod_config={"spec": spec})
        job = engine.launch("id -u; command -v python3 || echo none", resources={"image_id": f"docker:{BARE_IMAGE}"})
        assert engine.output(job) == b"12345\nnone\n"


def test_a_pod_can_end_itself(engine: Engine, kube: Any) -> None:
    engine.launch("sleep 600")
    node = engine.client.world.store.cluster("one", engine.client.world.workspace).nodes[0]
    driver = driver_of(engine, engine.client.world.store.store_id)
    way = driver.transport(node.reach)
    for content in (b"", b"x" * 200_000):
        way.put(content, f"{way.home}/there/file", mode=0o600)
        assert way.run(("sh", "-c", "stat -c %a there/file; wc -c < there/file")).stdout == b"600\n%d\n" % len(content)
    end = driver.self_action(node, "down")
    assert end.stops_billing
    way.open(end.argv)
    until(lambda: kube.pods()[0]["status"]["phase"] == "Succeeded")
    assert not [each for each in engine.client.status(refresh=True) if each.state == "UP"]


def test_ports_are_forwarded_through_the_api(engine: Engine) -> None:
    port = free_port()
    engine.launch(f"python3 -m http.server --bind 127.0.0.1 {port}")
    node = engine.client.world.store.cluster("one", engine.client.world.workspace).nodes[0]
    way = driver_of(engine, engine.client.world.store.store_id).transport(node.reach)

    from styx.plugin import PortForward

    forwarded = way.forward([PortForward(0, port)], lambda _: None)

    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", forwarded.forwards[0].local), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(9)

    try:
        assert until(answer) == b"HTTP/1.0 "
    finally:
        forwarded.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def child(engine: Engine, moment: str) -> subprocess.CompletedProcess[str]:
    resources = {"infra": "k8s", "cpus": 0.5, "memory": 0.5}
    asked = {"cloud": "kubernetes", "limits": {}, "nodes": 1, "resources": resources}
    argv = [sys.executable, str(ROOT / "tests/chaos/child.py"), str(engine.home), "launch", moment]
    env = {**engine.environ, "CHAOS": json.dumps(asked)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=300, check=False)


def test_a_killed_client_leaves_nothing(engine: Engine, kube: Any) -> None:
    """At two moments; in the session `kubernetes` at every one (or every Nth) that the engine observes."""
    (engine.home.parent / "work").mkdir()
    (engine.home.parent / "work" / "data.txt").write_text("some data\n")
    moments = ["driver:kubernetes.create:before#0", "driver:kubernetes.create:after#0"]
    if step := int(os.environ.get("STYX_KUBE_MATRIX", "0")):
        whole = child(engine, "")
        assert whole.returncode == 0, whole.stderr
        moments = json.loads(whole.stdout.splitlines()[-1])[::step]
        engine.client.down(["*"])
    died_at = []
    for moment in moments:
        died = child(engine, moment)
        if died.returncode == 0:  # how often a listing is asked differs from launch to launch
            engine.client.down(["*"])
            continue
        assert died.returncode == -signal.SIGKILL, died.stderr
        died_at.append(moment)
        engine.client.sweep(delete=True)
        engine.client.down(["*"])
        assert kube.names() == [], f"killed at {moment}"
    assert len(died_at) > len(moments) * 0.8
    print(f"killed at {len(died_at)} moments, nothing left")


def test_a_volume_outlives_its_cluster(engine: Engine, kube: Any) -> None:
    from styx.models.reader import read_volume_text

    spec = read_volume_text('{"name": "data", "type": "k8s-pvc", "infra": "k8s/main", "size": "1Gi"}')
    made = engine.client.volume_apply(spec)
    try:
        use(engine, kube, spec, made)
    finally:
        engine.client.down(["*"])
        engine.client.volume_delete([each.name for each in engine.client.volumes()[0]])
        until(lambda: not kube.names())


def use(engine: Engine, kube: Any, spec: Any, made: Any) -> None:
    assert engine.client.volume_apply(spec).id == made.id
    kube.back_volume(made.id)
    engine.launch("sleep 600", volumes={"/styx/data": "data"})
    (pod,) = kube.pods()
    claims = [
        one["persistentVolumeClaim"]["claimName"] for one in pod["spec"]["volumes"] if "persistentVolumeClaim" in one
    ]
    assert claims == [made.id]
    engine.client.down(["one"])
    found, unreadable = engine.client.volumes()
    assert ([each.name for each in found], found[0].size_gib, unreadable) == (["data"], 1.0, [])
    with pytest.raises(NotFound, match="no volume called other"):
        engine.launch(cluster="two", volumes={"/styx/data": "other"})


def test_a_pod_whose_client_died_before_it_was_set_up_ends_itself(engine: Engine, kube: Any) -> None:
    size = ("--infra", "k8s", "--cpus", "0.5", "--memory", "0.5", "--config", "launch.first_lease=4s")
    client = subprocess.Popen(
        [str(Path(sys.executable).with_name("styx")), "launch", "-y", "-c", "one", *size, "--", "sleep 900"],
        env=engine.environ, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: pod_names(kube))
    finally:
        os.killpg(client.pid, signal.SIGKILL)
        client.wait()
    until(lambda: all(one["status"].get("phase") == "Succeeded" for one in kube.pods()))
    engine.client.sweep(delete=True)
    until(lambda: kube.names() == [])
