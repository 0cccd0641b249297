"""The pure parts: labels to models, nodes to offers, pods to states, requests to objects."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from styx.plugin import (
    CredentialsError,
    DriverError,
    FeatureSet,
    Image,
    Market,
    NodeRequest,
    NodeState,
    OfferQuery,
    Place,
)
from styx.testing.contexts import make_context
from styx_k8s import Kubernetes, observe, pods, shapes
from styx_k8s.config import ContextConfig, K8sConfig, Pool
from tests.simcloud.kube_harness import KubeHarness
from tests.simcloud.kubedocument import wrong

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
PLACE = Place(cloud="kubernetes", account="kubeconfig", region="main")


@pytest.mark.parametrize(
    ("label", "memory", "names"),
    [
        ("NVIDIA-H100-80GB-HBM3", None, ("H100", "H100-SXM")),
        ("NVIDIA-A100-SXM4-80GB", None, ("A100-80GB", "A100-80GB-SXM")),
        ("NVIDIA-A100-SXM4-40GB", None, ("A100",)),
        ("Tesla-T4-SHARED", None, ("T4",)),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", None, ("A100",)),
        ("nvidia-tesla-t4", None, ("T4",)),
        ("nvidia-l4", None, ("L4",)),
        ("nvidia-h100-80gb", None, ("H100",)),
        ("a10g", None, ("A10G",)),
        ("a100", 80.0, ("A100-80GB",)),
        ("NVIDIA-L40S", None, ("L40S",)),
        ("H100", None, ("H100",)),
    ],
)
def test_models_by_their_labels(label: str, memory: float | None, names: tuple[str, ...]) -> None:
    assert shapes.model_names(label, memory) == names


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("2", 2),
        ("16Gi", 16 * 2**30),
        ("24581684Ki", 24581684 * 1024),
        ("1e3", 1000),
        ("5M", 5e6),
        ("", 0),
    ],
)
def test_quantities(text: str, value: float) -> None:
    assert shapes.quantity(text) == pytest.approx(value)


def node(name: str = "n", taints: list[dict[str, str]] | None = None, **more: Any) -> dict[str, Any]:
    has = {"cpu": "16", "memory": "64Gi", "pods": "110", **more.pop("has", {})}
    status = {"allocatable": has, "conditions": [{"type": "Ready", "status": more.pop("ready", "True")}]}
    return {
        "metadata": {"name": name, "labels": more.pop("labels", {})},
        "spec": {"taints": taints or []},
        "status": status,
    }


def offered(nodes: list[Any], running: list[Any] = [], query: OfferQuery | None = None, **settings: Any) -> list[Any]:  # noqa: B006
    config = ContextConfig(**settings)
    found = shapes.machines(nodes, running, config)
    return list(shapes.rows("main", found, query or OfferQuery(), config, FeatureSet(), NOW))


def test_what_is_free_is_what_no_pod_requests() -> None:
    gpus = {"labels": {"nvidia.com/gpu.product": "NVIDIA-L4"}, "has": {"nvidia.com/gpu": "8"}}
    container = {"name": "c", "resources": {"requests": {"cpu": "2"}, "limits": {"nvidia.com/gpu": "5"}}}
    busy = {"spec": {"nodeName": "n", "containers": [container]}, "status": {"phase": "Running"}}
    done = {"spec": {"nodeName": "n", "containers": [container]}, "status": {"phase": "Succeeded"}}
    asked = OfferQuery(accelerator_name="L4", accelerator_count=3, vcpus=4, memory_gib=8)
    (row,) = offered([node(**gpus)], [busy, done], asked)
    assert (row.instance_type, row.source) == ("4CPU--8GB--L4:3", "context main: 3 of 8 L4 free")
    assert offered([node(**gpus)], [busy], asked.model_copy(update={"accelerator_count": 4})) == []


def test_any_node_with_room_will_do() -> None:
    tall = node("tall", has={"cpu": "4", "memory": "256Gi"})
    (row,) = offered([node(), tall], query=OfferQuery(vcpus=2, memory_gib=200))
    assert (row.vcpus, row.memory_gib) == (2, 200)
    assert offered([node(), tall], query=OfferQuery(vcpus=8, memory_gib=200)) == []


def test_clusters_in_a_context_that_is_current_no_more(tmp_path: Path) -> None:
    harness = KubeHarness(tmp_path)
    try:
        driver = harness.driver()
        asked = harness.request(driver)
        (made,) = driver.create(asked)
        config = json.loads(Path(harness.credentials["KUBECONFIG"]).read_text())
        config["contexts"].append({"name": "other", "context": {"cluster": "test", "user": "double"}})
        config["current-context"] = "other"
        Path(harness.credentials["KUBECONFIG"]).write_text(json.dumps(config))
        later = harness.driver()
        assert [place.region for place in later.check().places] == ["other"]
        assert [one.id for one in later.nodes(asked.place, asked.cluster, [made])] == [made.id]
        config["contexts"][0]["context"]["namespace"] = "elsewhere"
        Path(harness.credentials["KUBECONFIG"]).write_text(json.dumps(config))
        with pytest.raises(DriverError, match="was made in namespace default"):
            harness.driver().nodes(asked.place, asked.cluster, [made])
    finally:
        harness.close()


def test_who_may_not_see_nodes_lets_the_scheduler_decide(tmp_path: Path) -> None:
    harness = KubeHarness(tmp_path)
    try:
        harness.kube.denied.add(("list", "nodes"))
        (row,) = harness.driver().offers(OfferQuery(vcpus=2, memory_gib=4), 20.0)
        assert row.source == "context double: nodes may not be listed, the scheduler decides"
        assert harness.driver().offers(OfferQuery(accelerator_name="H100", accelerator_count=1), 20.0) == []
    finally:
        harness.close()


def test_nodes_that_take_no_pods_offer_nothing() -> None:
    taint = {"key": "dedicated", "value": "team-a", "effect": "NoSchedule"}
    assert offered([node(ready="False")]) == []
    assert offered([node(taints=[taint])]) == []
    tolerating = {"spec": {"tolerations": [{"key": "dedicated", "operator": "Equal", "value": "team-a"}]}}
    assert offered([node(taints=[taint])], pod_config=tolerating)
    gpu = {"labels": {"styx/accelerator": "H100"}, "has": {"nvidia.com/gpu": "8"}}
    rows = offered([node(taints=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}], **gpu)])
    assert rows
    assert all(row.accelerator_name == "H100" for row in rows)


def test_spot_nodes_are_their_own_market() -> None:
    rows = offered([node(labels={"eks.amazonaws.com/capacityType": "SPOT"}), node("m")])
    assert {(row.market, row.features.spot) for row in rows} == {(Market.SPOT, True), (Market.ON_DEMAND, False)}


def test_autoscaled_pools_are_offers_without_nodes() -> None:
    pool = Pool(cpus=96, memory_gib=900, accelerator="H100", accelerator_count=8, selector={"pool": "big"})
    (row,) = offered([], query=OfferQuery(accelerator_name="H100", accelerator_count=8, vcpus=32), pools=(pool,))
    assert "autoscaled" in row.source
    spec = pods.pod(request(row), 0, ContextConfig(), OWNER, NOW.timestamp())["spec"]
    assert spec["nodeSelector"] == {"pool": "big"}
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert {"key": "nvidia.com/gpu", "operator": "Exists"} in spec["tolerations"]


OWNER = {"metadata": {"name": "styx-a-st0re101", "uid": "u"}}


def request(offer: Any, **more: Any) -> NodeRequest:
    return NodeRequest(token="0" * 32, cluster="styx-a-st0re101", store="st0re1", place=PLACE, offer=offer, **more)


def test_a_pod_carries_what_was_asked() -> None:
    (row,) = offered([node()], query=OfferQuery(vcpus=2, memory_gib=4), pricing={"cpu": 0.1})
    never = {"name": "node", "imagePullPolicy": "Never"}
    settings = ContextConfig(
        queue="team", priority_class="low", service_account="me", pull_credentials=("registry",),
        python_image="python:3", pod_config={"spec": {"containers": [never], "runtimeClassName": "nvidia"}},
    )  # fmt: skip
    asked = request(
        row, count=2, image=Image(kind="container", ref="me/it:1"), env={"A": "$(B) $$"}, ports=(80,),
        mounts={"/data": "claim:folder"}, labels={"team": "x", "note": "not a label!"},
        ends_at=datetime(2026, 11, 28, 13, 0, tzinfo=UTC),
    )  # fmt: skip
    made = pods.pod(asked, 1, settings, OWNER, NOW.timestamp())
    assert wrong(made) == []
    meta, spec = made["metadata"], made["spec"]
    (container,) = spec["containers"]
    assert (container["image"], container["imagePullPolicy"], spec["runtimeClassName"]) == (
        "me/it:1",
        "Never",
        "nvidia",
    )
    assert container["env"] == [{"name": "A", "value": "$$(B) $$$$"}]
    assert container["resources"]["requests"] == {"cpu": "2000m", "memory": "4096Mi"}
    assert {"name": "data-0", "mountPath": "/data", "subPath": "folder"} in container["volumeMounts"]
    assert spec["activeDeadlineSeconds"] == 3600
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("me", "low")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["initContainers"][0]["image"] == "python:3"
    assert meta["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert meta["annotations"]["kueue.x-k8s.io/pod-group-total-count"] == "2"
    assert (meta["labels"]["team"], meta["annotations"]["note"]) == ("x", "not a label!")
    assert meta["ownerReferences"][0]["uid"] == "u"


def pod(phase: str = "Pending", **status: Any) -> dict[str, Any]:
    labels = {pods.STORE: "st0re1", pods.CLUSTER: "styx-a-st0re101", pods.RANK: "0", pods.TOKEN: "t"}
    meta = {"name": "p", "uid": "u", "labels": labels, "creationTimestamp": "2026-11-28T11:59:00Z"}
    spec = {"containers": [{"name": "node", "image": "me/it:1"}], **status.pop("spec", {})}
    return {"metadata": meta, "spec": spec, "status": {"phase": phase, **status}}


def seen(value: dict[str, Any], events: list[dict[str, Any]] | None = None, **settings: Any) -> Any:
    look = observe.Seen(
        PLACE, ContextConfig(**settings), NOW.timestamp(), "https://here", "default", {"p": events or []}
    )
    return observe.node_of(value, look)


def unscheduled(words: str = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.") -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    return pod(conditions=[condition])


def test_no_room_is_a_want_of_capacity_in_the_schedulers_words() -> None:
    found = seen(unscheduled())
    assert (found.state, found.problem.error) == (NodeState.FAILED, "CapacityError")
    assert "3 Insufficient nvidia.com/gpu" in found.problem.message
    assert seen(unscheduled(), schedule_timeout_s=90).state is NodeState.PENDING
    assert seen(unscheduled(), autoscaler=True, schedule_timeout_s=61).waiting is not None


def test_patience_lasts_while_an_autoscaler_makes_progress() -> None:
    def event(reason: str, at: str, message: str = "") -> dict[str, Any]:
        return {"reason": reason, "lastTimestamp": at, "message": message}

    found = seen(unscheduled(), [event("TriggeredScaleUp", "2026-11-28T11:59:30Z")])
    assert (found.waiting.kind, found.waiting.patience_s) == ("scaling", 870.0)
    late = seen(unscheduled(), [event("TriggeredScaleUp", "2026-11-28T11:40:00Z")])
    assert late.state is NodeState.FAILED
    no = seen(
        unscheduled(), [event("NotTriggerScaleUp", "2026-11-28T11:59:30Z", "max node group size")], autoscaler=True
    )
    assert "max node group size" in no.problem.message


def test_a_queue_is_waited_for() -> None:
    gated = pod(spec={"schedulingGates": [{"name": "kueue.x-k8s.io/admission"}]})
    assert seen(gated).waiting.kind == "queued"
    assert seen(gated).waiting.patience_s == 6 * 3600


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"reason": "Evicted", "message": "low on memory"}, "evicted"),
        ({"reason": "Preempting"}, "preempted"),
        ({"reason": "DeadlineExceeded"}, "walltime"),
        (
            {
                "containerStatuses": [
                    {"name": "node", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
                ]
            },
            "oom",
        ),
        ({"containerStatuses": [{"name": "node", "state": {"terminated": {"exitCode": 0}}}]}, "requested"),
    ],
)
def test_why_a_pod_ended(status: dict[str, Any], cause: str) -> None:
    found = seen(pod("Failed", **status))
    assert (found.state, found.ended.cause) == (NodeState.TERMINATED, cause)


def test_images_and_specs_that_can_never_start() -> None:
    for reason in ("ImagePullBackOff", "ErrImageNeverPull", "CreateContainerConfigError"):
        held = {"name": "node", "state": {"waiting": {"reason": reason, "message": "no such thing"}}}
        scheduled = {"type": "PodScheduled", "status": "True"}
        found = seen(pod(containerStatuses=[held], conditions=[scheduled]))
        assert (found.state, found.problem.error) == (NodeState.FAILED, "UnsupportedError")
        assert "me/it:1" in found.problem.message


def test_a_node_that_is_gone_is_not_a_pod_that_ended() -> None:
    status = [{"name": "node", "ready": False, "state": {"running": {}}}]
    lost = pod("Running", containerStatuses=status, conditions=[{"type": "Ready", "status": "False"}])
    assert seen(lost).state is NodeState.UNREACHABLE
    known = seen(pod("Running", containerStatuses=[{"name": "node", "ready": True, "state": {"running": {}}}]))
    assert known.state is NodeState.UNREACHABLE or known.reach is not None


def test_why_a_pod_is_gone() -> None:
    """Its own events first, then the machine it was on; what is said of an earlier pod of that name does not count."""
    known = seen(pod("Running", spec={"nodeName": "n"}))
    assert known.data["host"] == "n"

    def cause(event: dict[str, Any] | None = None, *machines: dict[str, Any]) -> tuple[str, str]:
        ended = observe.gone(known, [event] if event else [], {one["metadata"]["name"]: one for one in machines}).ended
        return ended.cause, ended.message

    by_priority = {"reason": "Preempted", "message": "by a pod of higher priority"}
    drained = node()
    drained["spec"]["unschedulable"] = True
    assert cause(by_priority, drained) == ("preempted", "by a pod of higher priority")
    assert cause({**by_priority, "involvedObject": {"uid": "u"}}, node())[0] == "preempted"
    assert cause({**by_priority, "involvedObject": {"uid": "before"}}, node())[0] == "unknown"
    assert cause(None, drained) == (
        "evicted",
        "the pod is gone, and n, where it was, takes no new ones: it is being drained",
    )
    assert cause(None, node("m")) == ("evicted", "the pod is gone, and n, where it was, too")
    assert cause(None, node())[0] == cause()[0] == "unknown"


@pytest.mark.parametrize(
    ("reason", "cause"),
    [("PreemptionByScheduler", "preempted"), ("EvictionByEvictionAPI", "evicted"), ("New", "evicted")],
)
def test_a_pod_that_is_being_taken_says_why(reason: str, cause: str) -> None:
    target = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "in its words"}
    leaving = pod("Running", conditions=[target])
    assert seen(leaving).state is not NodeState.TERMINATED
    leaving["metadata"]["deletionTimestamp"] = "2026-11-28T11:59:30Z"
    found = seen(leaving)
    assert (found.state, found.ended.cause, found.ended.message) == (NodeState.TERMINATED, cause, "in its words")


def test_ports_by_every_way() -> None:
    service = pods.ports_service("styx-a-st0re101", "st0re1", OWNER, [80], "loadbalancer")
    assert wrong(service) == []
    assert not observe.endpoints_of(service, None, None)[80].public
    service["status"] = {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}
    assert observe.endpoints_of(service, None, None)[80].host == "lb.example"
    by_node = pods.ports_service("styx-a-st0re101", "st0re1", OWNER, [80], "nodeport")
    by_node["spec"]["ports"][0]["nodePort"] = 30080
    assert observe.endpoints_of(by_node, None, "10.0.0.1")[80].port == 30080
    entry = pods.ingress("styx-a-st0re101", "st0re1", OWNER, [80], ContextConfig(ingress_host="in.example"))
    assert wrong(entry) == []
    assert observe.endpoints_of(service, entry, None)[80].url == "http://in.example/styx/styx-a-st0re101/80/"


def test_settings_of_a_context_win() -> None:
    config = K8sConfig(image="a", namespace="one", context_configs={"burst": ContextConfig(namespace="two")})
    assert (config.of("burst").namespace, config.of("burst").image, config.of("main").namespace) == ("two", "a", "one")


def test_a_damaged_kubeconfig_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "config"
    for text in ("not: [a kubeconfig", "[]", "kind: Config", ""):
        damaged.write_text(text)
        driver = Kubernetes(make_context(tmp_path, config=K8sConfig(), secrets={"KUBECONFIG": str(damaged)}))
        with pytest.raises(CredentialsError, match="kubeconfig"):
            driver.check()
    with pytest.raises(CredentialsError, match="there is no kubeconfig"):
        Kubernetes(make_context(tmp_path, config=K8sConfig())).check()


def test_nothing_but_the_plugin_knows_the_cloud() -> None:
    """Core and command line have no special case: the words are in the formats of others only."""
    root = Path(__file__).resolve().parents[3]
    wrong_files = [
        path.relative_to(root)
        for folder in ("styx-core/src/styx", "styx-cli/src", "styx-agent/src")
        for path in (root / folder).rglob("*.py")
        if "models" not in path.parts
        and path.name != "egress.py"
        and re.search(r"styx_k8s|[\"']kubernetes[\"']|[\"']k8s[\"']", path.read_text())
    ]
    assert wrong_files == []


def test_a_pod_ends_itself_unless_an_agent_in_it_gets_a_lease_in_time(tmp_path):
    def held(room, first_lease_s):
        argv = ["sh", "-c", pods.hold(str(room), first_lease_s)]
        return subprocess.Popen(argv, stderr=subprocess.PIPE, start_new_session=True)

    lonely = held(tmp_path / "lonely", 1.0)
    _, said = lonely.communicate(timeout=60)
    assert (lonely.returncode, b"no client came" in said) == (0, True)

    leased = tmp_path / "leased"
    (leased / "agent").mkdir(parents=True)
    (leased / "agent" / "lease.json").write_text("{}")
    for room, first_lease_s in ((leased, 1.0), (tmp_path / "old", None)):
        kept = held(room, first_lease_s)
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                kept.wait(3)
            assert int((room / "pid").read_text()) == kept.pid
            kept.terminate()
            assert kept.wait(60) == 0  # told to end, as `pods.END` does
        finally:
            os.killpg(kept.pid, signal.SIGKILL)  # what it sleeps with goes with the pod, otherwise
