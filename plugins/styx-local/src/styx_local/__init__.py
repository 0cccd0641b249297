"""The embedded cloud of Styx: its nodes are folders of this machine, each with an agent."""

from styx_local.config import LocalConfig
from styx_local.driver import Local

__all__ = ["Local", "LocalConfig"]
