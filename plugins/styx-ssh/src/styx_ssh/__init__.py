"""Machines that exist already as a cloud of Styx: pools of hosts in a file, leased one cluster at a time."""

from styx_ssh.config import SshConfig
from styx_ssh.driver import SshPools

__all__ = ["SshConfig", "SshPools"]
