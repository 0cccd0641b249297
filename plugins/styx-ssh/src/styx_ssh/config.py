"""Settings under `clouds.ssh`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from styx.plugin import DriverConfig


class SshConfig(DriverConfig):
    """Settings of your own machines; the pools themselves are in a file of their own."""

    pools_file: Path | None = None
    """The YAML file with the pools; `ssh_node_pools.yaml` in the Styx home when left out."""
    allowed_node_pools: tuple[str, ...] | None = None
    """Only these pools of the file are used; all when left out."""
    lease_folder: str = "/var/tmp"  # noqa: S108 - a sticky folder that survives a restart is what is wanted
    """Folder on every host where it is written down who uses it. It must be writable for every login that Styx uses on
    the host, and the same for everybody who shares the hosts."""
    reach_s: float = Field(default=10.0, gt=0, le=120)
    """How many seconds a host may take to answer before it counts as unreachable."""
