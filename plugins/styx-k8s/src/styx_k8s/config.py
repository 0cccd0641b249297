"""Settings: `clouds.kubernetes` of the config, and their exceptions for single contexts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from styx.plugin import DriverConfig, Value


class Pricing(Value):
    """What a pod is charged by the hour; unset is unknown."""

    cpu: float | None = None
    """USD for one CPU."""
    memory: float | None = None
    """USD for one GiB of memory."""
    accelerators: dict[str, float] = Field(default_factory=dict)
    """USD for one accelerator, its CPUs and memory included, by name."""


class Pool(Value):
    """A node pool that an autoscaler fills: counts as an offer although no node of it may exist."""

    cpus: float
    """Allocatable CPUs of one node."""
    memory_gib: float
    """Allocatable memory of one node in GiB."""
    accelerator: str | None = None
    """Accelerator of its nodes."""
    accelerator_count: int = 0
    """Accelerators of one node."""
    resource: str = "nvidia.com/gpu"
    """Name of the extended resource that its accelerators are requested by."""
    spot: bool = False
    """Its nodes may be taken away."""
    selector: dict[str, str] = Field(default_factory=dict)
    """Node labels that lead to this pool."""


class ContextConfig(DriverConfig):
    """What may differ between contexts."""

    namespace: str | None = None
    """Namespace for everything; the context's own, or `default`, when unset."""
    image: str = "python:3.12-slim"
    """Image of tasks that name none."""
    python_image: str | None = None
    """Image with a Python 3.8 or newer and glibc that lends it to images without one, by an init container."""
    pull_credentials: tuple[str, ...] = ()
    """Names of image pull secrets for private registries."""
    service_account: str | None = None
    """Service account of the pods; its token is mounted only when this is set."""
    priority_class: str | None = None
    """Priority class of the pods."""
    queue: str | None = None
    """Kueue local queue; the nodes of a cluster are admitted as one pod group."""
    queue_timeout_s: float = 6 * 3600.0
    """How long a pod may wait for its admission by a queue."""
    schedule_timeout_s: float = 30.0
    """How long pods that no node has room for are waited for, where no autoscaler is at work."""
    scale_timeout_s: float = 900.0
    """How long an autoscaler may take after its last sign of progress."""
    autoscaler: bool = False
    """An autoscaler is there: pods without room wait for its first sign at least 60 seconds."""
    ports: Literal["podip", "nodeport", "loadbalancer", "ingress"] = "podip"
    """How opened ports of rank 0 are reached: the pod's own address, or what is made for them."""
    ingress_host: str | None = None
    """Host name under which the ingress controller answers, with `ports: ingress`."""
    ingress_class: str | None = None
    """Ingress class, with `ports: ingress`."""
    storage_class: str | None = None
    """Storage class of volumes; the cluster's default when unset."""
    access_mode: str = "ReadWriteOnce"
    """Access mode of volumes; `ReadWriteMany` where several nodes mount one."""
    shm_gib: float | None = None
    """Size of /dev/shm in GiB, taken from the pod's memory; half of it when unset."""
    pod_config: dict[str, Any] = Field(default_factory=dict)
    """Merged into each pod, key by key; of lists with names, entry by entry (`spec.containers` by `name: node`)."""
    pricing: Pricing = Field(default_factory=Pricing)
    """What pods are charged."""
    pools: tuple[Pool, ...] = ()
    """Node pools that an autoscaler fills."""


class K8sConfig(ContextConfig):
    """`clouds.kubernetes`."""

    kubeconfig: str | None = None
    """Kubeconfig files, with `:` between several; `$KUBECONFIG` or ~/.kube/config when unset."""
    allowed_contexts: tuple[str, ...] | None = None
    """The only contexts that may be used; when unset, the kubeconfig's current one; `all` stands for every one."""
    context_configs: dict[str, ContextConfig] = Field(default_factory=dict)
    """Exceptions, by context."""

    def of(self, context: str) -> ContextConfig:
        """The settings that hold in one context."""
        special = self.context_configs.get(context)
        if special is None:
            return self
        return self.model_copy(update={name: getattr(special, name) for name in special.model_fields_set})
