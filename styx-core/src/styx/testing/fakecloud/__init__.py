"""FakeCloud: a vendor in one object, and FakeDriver: the reference driver for it.

`FakeCloud` plays the vendor. It has accounts and keys, regions and zones, machines with tags, paged listings that may
lag, firewall groups, addresses, volumes, images and quotas; it fails when told to; and it lives in memory, or in a
file that several processes share. `FakeDriver` is what an author writes for a vendor; read it as the worked example.
"""

from styx.testing.fakecloud.cloud import FakeCloud
from styx.testing.fakecloud.driver import ERRORS, FakeConfig, FakeDriver
from styx.testing.fakecloud.world import ApiError, ConnectionLost, Machine, MachineType, Status, Thing, World

__all__ = [
    "ERRORS",
    "ApiError",
    "ConnectionLost",
    "FakeCloud",
    "FakeConfig",
    "FakeDriver",
    "Machine",
    "MachineType",
    "Status",
    "Thing",
    "World",
]
