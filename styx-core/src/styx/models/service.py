"""Services (replicas behind one endpoint) and pools (workers that take jobs)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, field_validator, model_validator

from styx.models.base import Model, Problem, collect
from styx.models.scalars import Flag, ScalarText, Text, amount, choice, whole

LOAD_BALANCING_POLICIES = ("round_robin", "least_load", "instance_aware_least_load")
SPOT_PLACERS = ("dynamic_fallback",)

Seconds = Annotated[float, BeforeValidator(amount(at_least=0, unit="seconds"))]
Count = Annotated[int, BeforeValidator(whole(at_least=0))]
_qps = amount(above=0, unit="requests per second")


class ReadinessProbe(Model):
    """How to tell that a replica can take requests."""

    path: Text
    """The HTTP path to ask, such as `/health`."""
    initial_delay_seconds: Seconds = 1200
    """How long a new replica may take to become ready."""
    timeout_seconds: Seconds = 15
    """How long one probe may take."""
    endpoint_probe_interval_seconds: Seconds = 10
    """Time between probes."""
    consecutive_failure_threshold_timeout: Seconds | None = None
    """How long probes may go on failing before the replica is replaced."""
    post_data: Any = None
    """A body; with it the probe is a POST."""
    headers: dict[str, ScalarText] | None = None
    """HTTP headers of the probe."""

    @field_validator("post_data")
    @classmethod
    def _text_or_json(cls, value: Any) -> Any:
        if not isinstance(value, (str, Mapping, list)):
            raise Problem("must be text, a mapping or a list")
        return value

    @model_validator(mode="before")
    @classmethod
    def _read_path(cls, data: Any) -> Any:
        if isinstance(data, str):
            data = {"path": data}
        if not isinstance(data, (Mapping, cls)):
            raise Problem("must be a path such as /health, or a mapping")
        if isinstance(data, Mapping) and isinstance(data.get("path"), str) and not data["path"].startswith("/"):
            raise Problem('must start with "/"', suggestion=f'write "/{data["path"]}"', at=("path",))
        return data


class ReplicaPolicy(Model):
    """How many replicas to run, and when to change it."""

    min_replicas: Count
    """The fewest replicas; 0 lets the service sleep."""
    max_replicas: Count | None = None
    """The most replicas; unset means a fixed number."""
    num_overprovision: Count | None = None
    """Replicas kept beyond what the load asks for."""
    target_qps_per_replica: float | dict[str, float] | None = None
    """Requests per second that one replica takes, or a map from accelerator to that number."""
    dynamic_ondemand_fallback: Flag | None = None
    """Whether on-demand replicas stand in for spot replicas that are not ready."""
    base_ondemand_fallback_replicas: Count | None = None
    """On-demand replicas always kept beside spot ones."""
    spot_placer: Annotated[str, BeforeValidator(choice(SPOT_PLACERS))] | None = None
    """How spot replicas are spread over places."""
    upscale_delay_seconds: Seconds = 300
    """How long the load must stay high before replicas are added."""
    downscale_delay_seconds: Seconds = 1200
    """How long the load must stay low before replicas are removed."""

    @field_validator("target_qps_per_replica", mode="before")
    @classmethod
    def _qps_or_map(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return _qps(value)
        return collect(value.items(), _qps)

    @model_validator(mode="after")
    def _bounds(self) -> ReplicaPolicy:
        if self.max_replicas is None:
            return self
        if self.max_replicas < self.min_replicas:
            raise Problem("must not be below min_replicas", at=("max_replicas",))
        if self.max_replicas > self.min_replicas and self.target_qps_per_replica is None:
            raise Problem(
                "above min_replicas needs a load to follow",
                at=("max_replicas",),
                suggestion="add target_qps_per_replica",
            )
        return self


class LoadBalancer(Model):
    """Settings of the load balancer."""

    stream_timeout_seconds: Seconds = 120
    """How long a response may be silent before it is cut."""


class Tls(Model):
    """Certificate of the endpoint."""

    keyfile: Text
    """Path of the private key."""
    certfile: Text
    """Path of the certificate chain."""


class ServiceSpec(Model):
    """A service: replicas of the task behind one endpoint."""

    readiness_probe: ReadinessProbe
    """A path such as `/health`, or a mapping."""
    replicas: Count | None = None
    """A fixed number of replicas; exclusive with `replica_policy`."""
    replica_policy: ReplicaPolicy | None = None
    """Autoscaling; exclusive with `replicas`."""
    ports: Annotated[int, BeforeValidator(whole(at_least=1, at_most=65535))] | None = None
    """The port that replicas listen on; needed when `resources.ports` gives none or several."""
    load_balancing_policy: Annotated[str, BeforeValidator(choice(LOAD_BALANCING_POLICIES))] | None = None
    """How requests are spread; `least_load` when unset."""
    load_balancer: LoadBalancer | None = None
    """Settings of the load balancer."""
    tls: Tls | None = None
    """Certificate of the endpoint."""

    @field_validator("replica_policy", mode="before")
    @classmethod
    def _one_of_two(cls, value: Any, info: Any) -> Any:
        if value is not None and info.data.get("replicas") is not None:
            raise Problem('cannot stand beside "replicas"', suggestion="keep one of the two")
        return value


class PoolSpec(Model):
    """A pool: workers set up once that then take jobs."""

    workers: Count | None = None
    """A fixed number of workers; exclusive with `min_workers` and `max_workers`."""
    min_workers: Count | None = None
    """The fewest workers; 0 lets the pool sleep."""
    max_workers: Count | None = None
    """The most workers."""
    queue_length_threshold: Annotated[int, BeforeValidator(whole(at_least=1))] = 1
    """Waiting jobs from which a worker is added."""
    upscale_delay_seconds: Seconds | None = None
    """How long the queue must stay long before a worker is added."""
    downscale_delay_seconds: Seconds | None = None
    """How long the queue must stay short before a worker is removed."""

    @model_validator(mode="after")
    def _fixed_or_scaled(self) -> PoolSpec:
        scaled = self.model_fields_set & {"min_workers", "max_workers"}
        if self.workers is not None and scaled:
            raise Problem(f'cannot stand beside "{min(scaled)}"', at=("workers",), suggestion="keep one of the two")
        if self.workers is None and not scaled:
            raise Problem("needs workers, or min_workers and max_workers")
        if self.min_workers is not None and self.max_workers is not None and self.max_workers < self.min_workers:
            raise Problem("must not be below min_workers", at=("max_workers",))
        return self
