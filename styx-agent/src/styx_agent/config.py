"""What clients tell a node about itself and its cluster."""

from __future__ import annotations

import os

from styx_agent.fields import Fields, bad
from styx_agent.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional


class Config(NamedTuple):
    """The last `node.configure`."""

    num_nodes: int
    ips: List[str]
    cpus: float
    gpus: float
    env: Dict[str, str]
    cluster: Dict[str, str]
    usd_per_hour: Optional[float]
    notice: List[str]


def parse_config(params: dict[str, Any], rank: int) -> Config:
    """The config in the params of `node.configure`.

    Raises:
        Fault: A field is wrong.
    """
    fields = Fields(params, "node.configure")
    config = Config(
        fields.whole("num_nodes", 1, least=1),
        fields.texts("ips", ["127.0.0.1"]),
        float(fields.number("cpus", default_cpus())),
        float(fields.number("gpus", 0.0)),
        fields.mapping("env", {}),
        fields.mapping("cluster", {}),
        fields.number("usd_per_hour", None),
        fields.texts("notice", []),
    )
    if len(config.ips) != config.num_nodes:
        raise bad("node.configure: %d addresses in 'ips' for %d nodes" % (len(config.ips), config.num_nodes))
    if rank >= config.num_nodes:
        raise bad("node.configure: this is rank %d, beyond %d nodes" % (rank, config.num_nodes))
    return config


def default_config() -> Config:
    """What a node is until a client says otherwise."""
    return Config(1, ["127.0.0.1"], default_cpus(), 0.0, {}, {}, None, [])


def default_cpus() -> float:
    """The processors of this machine."""
    return float(os.cpu_count() or 1)
