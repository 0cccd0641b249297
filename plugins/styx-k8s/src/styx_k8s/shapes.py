"""What a cluster has room for: its nodes and pods, read as offers. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from styx.plugin import CatalogRow, FeatureSet, Market, OfferQuery, canonical_accelerator
from styx_k8s.config import ContextConfig

GPU_RESOURCES: Final = {
    "nvidia.com/gpu": "nvidia",
    "amd.com/gpu": "amd",
    "google.com/tpu": "google",
    "aws.amazon.com/neuron": "aws",
    "gpu.intel.com/xe": "intel",
    "gpu.intel.com/i915": "intel",
    "habana.ai/gaudi": "intel",
}
"""Extended resources that are accelerators, and their makers."""
MODEL_LABELS: Final = (
    "styx/accelerator",
    "gpu.nvidia.com/class",
    "cloud.google.com/gke-accelerator",
    "cloud.google.com/gke-tpu-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "nebius.com/gpu-name",
    "skypilot.co/accelerator",
    "nvidia.com/gpu.product",
    "amd.com/gpu.product-name",
)
"""Labels that name the model: our own, CoreWeave, GKE, Karpenter (EKS), Nebius, the field's, feature discovery."""
MEMORY_LABELS: Final = ("nvidia.com/gpu.memory", "karpenter.k8s.aws/instance-gpu-memory")
"""In MiB, for models that are sold with two sizes."""
SPOT_LABELS: Final = (
    ("cloud.google.com/gke-spot", "true"),
    ("karpenter.sh/capacity-type", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
)
SIZES: Final = (1, 2, 4, 8, 16)
"""Accelerators for each pod that are offered when none is asked for."""
TTL_S: Final = 60.0
_GIB: Final = 2**30
_BEFORE: Final = re.compile(r"^(nvidia|tesla|geforce|amd|instinct)[-_ ]", re.IGNORECASE)
_AFTER: Final = re.compile(r"[-_ ](shared|mig[-_ ].*)$", re.IGNORECASE)
_FORM: Final = re.compile(r"-(SXM\d?|PCIE|NVLINK)$")


def quantity(text: Any) -> float:
    """`500m`, `16Gi`, `1e3` as a number; 0 for what is none."""
    from kubernetes.utils.quantity import parse_quantity

    try:
        return float(parse_quantity(str(text).strip()))
    except ValueError:
        return 0.0


def model_names(value: str, memory_gib: float | None) -> tuple[str, ...]:
    """What a node's accelerator may be asked for as, the plainest first: `H100`, then `H100-SXM`."""
    name = value
    while (shorter := _BEFORE.sub("", name)) != name:
        name = shorter
    exact = canonical_accelerator(_AFTER.sub("", name))
    if exact == exact.lower():  # not a known name: as people write it
        exact = canonical_accelerator(exact.upper())
    if exact == "A100" and (memory_gib or 0) > 60:
        exact = "A100-80GB"
    if exact == "V100" and (memory_gib or 0) > 24:
        exact = "V100-32GB"
    return tuple(dict.fromkeys((_FORM.sub("", exact), exact)))


@dataclass(frozen=True)
class Machine:
    """One node, or one future node of a pool."""

    total: Mapping[str, float]
    free: Mapping[str, float]
    names: tuple[str, ...] = ()
    resource: str | None = None
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that lead to machines with this accelerator."""
    spot: tuple[str, str] | None = None
    arch: str = "x86_64"
    reserved: bool = False
    """Taints keep pods without accelerators away."""
    planned: bool = False
    """It may be added by an autoscaler."""
    unseen: bool = False
    """It stands for nodes that may not be listed."""

    def has(self, resource: str) -> float:
        """What is free of it."""
        return self.free.get(resource, 0.0)


def _add(total: dict[str, float], more: Mapping[str, float]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, 0.0) + value


def requested(pod: Mapping[str, Any]) -> dict[str, float]:
    """What a pod takes of its node: the sum of its containers, or its largest init container, and its overhead."""
    spec = pod.get("spec") or {}

    def of(container: Mapping[str, Any]) -> dict[str, float]:
        resources = container.get("resources") or {}
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        return {name: quantity(value) for name, value in asked.items()}

    total: dict[str, float] = {}
    for container in spec.get("containers") or ():
        _add(total, of(container))
    for container in spec.get("initContainers") or ():
        total |= {name: max(total.get(name, 0.0), value) for name, value in of(container).items()}
    _add(total, {name: quantity(value) for name, value in (spec.get("overhead") or {}).items()})
    return total


def tolerated(taint: Mapping[str, Any], tolerations: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a pod with these tolerations may be put on a node with this taint."""
    if taint.get("effect") == "PreferNoSchedule":
        return True
    return any(
        one.get("key") in (None, "", taint.get("key"))
        and one.get("effect") in (None, "", taint.get("effect"))
        and (one.get("operator") == "Exists" or (one.get("value") or "") == (taint.get("value") or ""))
        for one in tolerations
    )


def usable(node: Mapping[str, Any]) -> bool:
    """Ready, and open for new pods."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
    return ready and not (node.get("spec") or {}).get("unschedulable")


def machines(
    nodes: Iterable[Mapping[str, Any]] | None, pods: Iterable[Mapping[str, Any]], settings: ContextConfig
) -> list[Machine]:
    """Usable nodes with what is free on them, and one machine for each autoscaled pool. None: nodes can't be seen."""
    taken: dict[str, dict[str, float]] = {}
    for pod in pods:
        name = (pod.get("spec") or {}).get("nodeName")
        if name and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            _add(taken.setdefault(name, {}), {**requested(pod), "pods": 1.0})
    tolerations = (settings.pod_config.get("spec") or {}).get("tolerations") or []
    seen = (_machine(node, taken.get(node["metadata"]["name"], {}), tolerations) for node in nodes or ())
    found = [machine for machine in seen if machine is not None]
    if nodes is None:
        room = {"cpu": 1024.0, "memory": 32768.0 * _GIB, "pods": 110.0}
        found.append(Machine(room, room, unseen=True))
    for pool in settings.pools:
        resources = {"cpu": pool.cpus, "memory": pool.memory_gib * _GIB, "pods": 110.0}
        if pool.accelerator:
            resources[pool.resource] = float(pool.accelerator_count)
        names = model_names(pool.accelerator, None) if pool.accelerator else ()
        spot = next(iter(pool.selector.items()), None) if pool.spot else None
        kind = pool.resource if pool.accelerator else None
        found.append(Machine(resources, resources, names, kind, pool.selector, spot, planned=True))
    return found


def _machine(
    node: Mapping[str, Any], used: Mapping[str, float], tolerations: Sequence[Mapping[str, Any]]
) -> Machine | None:
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    total = {name: quantity(value) for name, value in (node["status"].get("allocatable") or {}).items()}
    free = {name: max(0.0, value - used.get(name, 0.0)) for name, value in total.items()}
    spot = next((pair for pair in SPOT_LABELS if labels.get(pair[0]) == pair[1]), None)
    resource = next((name for name in GPU_RESOURCES if total.get(name)), None)
    ours = [{"key": spot[0], "operator": "Exists"}] if spot else []
    gpus = [{"key": resource, "operator": "Exists"}] if resource else []
    taints = (node.get("spec") or {}).get("taints") or ()
    if not usable(node) or not all(tolerated(taint, [*tolerations, *ours, *gpus]) for taint in taints):
        return None
    label = next((name for name in MODEL_LABELS if labels.get(name)), None) if resource else None
    memory = next((quantity(labels[name]) / 1024 for name in MEMORY_LABELS if name in labels), None)
    return Machine(
        total=total,
        free=free,
        names=model_names(labels[label], memory) if label else (),
        resource=resource if label else None,
        selector={label: labels[label]} if label else {},
        spot=spot,
        arch="arm64" if labels.get("kubernetes.io/arch") == "arm64" else "x86_64",
        reserved=not all(tolerated(taint, [*tolerations, *ours]) for taint in taints),
    )


def rows(
    context: str,
    found: Sequence[Machine],
    query: OfferQuery,
    settings: ContextConfig,
    features: FeatureSet,
    now: datetime,
) -> Iterator[CatalogRow]:
    """Offers made to measure: for each kind of machine, the shapes that one of them has room for."""
    groups: dict[tuple[Any, ...], list[Machine]] = {}
    plain = query.accelerator_name is None and not query.accelerator_count
    any_shape = plain and query.vcpus is None and query.memory_gib is None  # a listing; else no GPU is spent on CPUs
    for machine in found:
        if machine.resource and (not plain or any_shape) and query.accelerator_name in (None, *machine.names):
            kind = (machine.resource, machine.names, tuple(machine.selector.items()), machine.spot, machine.arch)
            groups.setdefault(kind, []).append(machine)
        if not machine.reserved and plain:
            selector = tuple(machine.selector.items()) if machine.planned else ()
            groups.setdefault((None, (), selector, machine.spot, machine.arch), []).append(machine)
    for (resource, names, selector, spot, arch), members in groups.items():
        name = query.accelerator_name or names[0] if resource else None
        words = f"context {context}: {_stock(members, resource, name)}"
        for count in _counts(query, resource, members):
            for cpus, memory_gib in dict.fromkeys(_sizes(query, resource, count, members)):
                yield CatalogRow(
                    cloud="kubernetes",
                    instance_type=shape(cpus, memory_gib, name, count),
                    region=context,
                    market=Market.SPOT if spot else Market.ON_DEMAND,
                    vcpus=cpus,
                    memory_gib=memory_gib,
                    arch=arch,
                    accelerator_name=name,
                    accelerator_count=count,
                    accelerator_vendor=GPU_RESOURCES.get(resource) if resource else None,
                    usd_per_hour=price(settings, cpus, memory_gib, name, count),
                    features=features.model_copy(update={"spot": spot is not None}),
                    ref=json.dumps({"resource": resource, "selector": dict(selector), "spot": spot}, sort_keys=True),
                    as_of=now,
                    ttl_s=TTL_S,
                    source=words,
                )


def _counts(query: OfferQuery, resource: str | None, members: Sequence[Machine]) -> list[float]:
    if resource is None:
        return [0.0]
    most = max(machine.has(resource) for machine in members)
    if query.accelerator_count:
        return [query.accelerator_count] if query.accelerator_count <= most else []
    return [float(size) for size in SIZES if size <= most]


def _sizes(
    query: OfferQuery, resource: str | None, count: float, members: Sequence[Machine]
) -> Iterator[tuple[float, float]]:
    """As asked; where nothing was asked, 4 CPUs for each accelerator or 2, four times as many GiB, and what fits."""
    fitting = [one for one in members if one.has("pods") >= 1 and (not resource or one.has(resource) >= count)]
    roomiest = sorted(fitting, key=lambda one: (one.has("cpu"), one.has("memory")), reverse=True)
    open_ended = query.vcpus is None and query.memory_gib is None and not any(one.unseen for one in members)
    for plain in (True, False) if open_ended else (True,):  # a modest shape, and all of the roomiest machine
        for machine in roomiest:
            cpus_free, memory_free = machine.has("cpu"), machine.has("memory") / _GIB
            most_cpus = math.floor(cpus_free) or math.floor(cpus_free * 10) / 10
            most_memory = math.floor(memory_free) or math.floor(memory_free * 10) / 10
            usual = min(4.0 * count if count else 2.0, most_cpus)
            cpus = query.vcpus if query.vcpus is not None else (usual if plain else most_cpus)
            usual_memory = min(max(4.0 * cpus, 1.0), most_memory)
            memory = query.memory_gib if query.memory_gib is not None else (usual_memory if plain else most_memory)
            if 0 < cpus <= cpus_free and 0 < memory <= memory_free:
                yield cpus, memory
                break


def _stock(members: Sequence[Machine], resource: str | None, name: str | None) -> str:
    """Free and total, in words."""
    if any(one.unseen for one in members):
        return "nodes may not be listed, the scheduler decides"
    key, what = (resource, name or "accelerators") if resource else ("cpu", "CPUs")
    present = [one for one in members if not one.planned]
    free = sum(one.has(key) for one in present)
    total = sum(one.total.get(key, 0.0) for one in present)
    more = " and an autoscaled pool" if len(present) < len(members) else ""
    return f"{free:g} of {total:g} {what} free{more}"


def shape(cpus: float, memory_gib: float, name: str | None, count: float) -> str:
    """The name of a made-to-measure shape: `4CPU--16GB--H100:8`."""
    return f"{cpus:g}CPU--{memory_gib:g}GB" + (f"--{name}:{count:g}" if name else "")


def price(settings: ContextConfig, cpus: float, memory_gib: float, name: str | None, count: float) -> float | None:
    """By the config's figures; None where one is missing. A free cluster has no figures."""
    rates = settings.pricing
    if name is not None:
        each = rates.accelerators.get(name)
        return each * count or None if each is not None else None
    if rates.cpu is None and rates.memory is None:
        return None
    return cpus * (rates.cpu or 0.0) + memory_gib * (rates.memory or 0.0) or None
