"""The door for plugin authors: all that a plugin may import from Styx, beside `styx.rest` and `styx.objectstore`."""

from __future__ import annotations

import pluggy

from styx.atomic import write_atomically
from styx.driver import (
    CatalogRow,
    CatalogSource,
    Cloud,
    Completed,
    Context,
    DiskPrice,
    Driver,
    DriverConfig,
    Ended,
    Endpoint,
    EndsItself,
    Exec,
    FeatureSet,
    HasVolumes,
    HasZones,
    Identity,
    Image,
    Leftover,
    Limits,
    Local,
    MakesImages,
    MakesTransport,
    Market,
    Node,
    NodeRequest,
    NodeState,
    OfferQuery,
    OpensPorts,
    Permissions,
    Place,
    PluginReach,
    Problem,
    Provisioner,
    QuotesLive,
    Reach,
    ReportsQuota,
    SelfEnd,
    Ssh,
    SshDoor,
    SshFailed,
    Stoppable,
    Value,
    Waiting,
    WarnsBeforeEnd,
    capabilities,
)
from styx.errors import (
    AmbiguousError,
    BalanceError,
    CapacityError,
    CloudError,
    CredentialsError,
    DeadlineExceeded,
    DriverError,
    LocalIOError,
    QuotaError,
    Scope,
    StyxError,
    TransientError,
    Unreachable,
    UnsupportedError,
    VendorDetail,
)
from styx.hookspecs import PROJECT
from styx.models.forwards import PortForward
from styx.transport.base import Channel, NodeGone, Transport, Unusable
from styx.userdata import cloud_config, public_half

API_VERSION = 1
"""Version of the plugin API. A plugin built for another one is refused with the command that upgrades it."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function or method as an implementation of a hook in `styx.hookspecs`."""


def canonical_accelerator(name: str) -> str:
    """The usual name of an accelerator, which rows must carry: `A6000` for `RTXA6000`. Others stay as they are."""
    from styx.models import accelerators

    return accelerators.canonical_accelerator(name)


def accelerator_of_product(product: str, memory_gib: float) -> str:
    """The usual name of what `nvidia-smi` calls a product: `A100-80GB` for `NVIDIA A100-SXM4-80GB`."""
    from styx.models import accelerators

    return accelerators.accelerator_of_product(product, memory_gib)


__all__ = [
    "API_VERSION",
    "AmbiguousError",
    "BalanceError",
    "CapacityError",
    "CatalogRow",
    "CatalogSource",
    "Channel",
    "Cloud",
    "CloudError",
    "Completed",
    "Context",
    "CredentialsError",
    "DeadlineExceeded",
    "DiskPrice",
    "Driver",
    "DriverConfig",
    "DriverError",
    "Ended",
    "Endpoint",
    "EndsItself",
    "Exec",
    "FeatureSet",
    "HasVolumes",
    "HasZones",
    "Identity",
    "Image",
    "Leftover",
    "Limits",
    "Local",
    "LocalIOError",
    "MakesImages",
    "MakesTransport",
    "Market",
    "Node",
    "NodeGone",
    "NodeRequest",
    "NodeState",
    "OfferQuery",
    "OpensPorts",
    "Permissions",
    "Place",
    "PluginReach",
    "PortForward",
    "Problem",
    "Provisioner",
    "QuotaError",
    "QuotesLive",
    "Reach",
    "ReportsQuota",
    "Scope",
    "SelfEnd",
    "Ssh",
    "SshDoor",
    "SshFailed",
    "Stoppable",
    "StyxError",
    "TransientError",
    "Transport",
    "Unreachable",
    "UnsupportedError",
    "Unusable",
    "Value",
    "VendorDetail",
    "Waiting",
    "WarnsBeforeEnd",
    "accelerator_of_product",
    "canonical_accelerator",
    "capabilities",
    "cloud_config",
    "hookimpl",
    "public_half",
    "write_atomically",
]
