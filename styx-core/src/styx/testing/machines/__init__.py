"""Real SSH hosts for tests: each has its own address, files, processes and name, and boots in a fraction of a second.

    with Machines() as machines:
        machine = machines.boot("one", user="ubuntu", authorized_keys=[public_key])
        machine.wait_for_ssh()

A host is a set of Linux namespaces on the machine that runs the tests. It sees this machine's `/usr` and `/etc` through
an overlay and nothing else of its files: `/root`, `/home`, `/var`, `/tmp` and `/opt` are its own. All hosts of one
`Machines` share a private bridge that the test process reaches directly; there is no route out. Nothing here imitates
SSH: it is the `sshd` of this machine.

Root is needed. Without root, run the tests in a user namespace, in which one is root:
`python -m styx.testing.machines pytest ...` (Debian's package `uidmap`, and a range in `/etc/subuid`). Such hosts have
a read-only `/usr` and no sudo, and the tests have no network but theirs.

`machine` holds one host, `room` the network with its hosts, `network` finds a free subnet and tidies up after test
processes that died, `userdata` reads what a cloud gives a new machine, `pid1` is the program inside a host.
"""

from styx.testing.machines.gpus import nvidia_smi
from styx.testing.machines.machine import Machine
from styx.testing.machines.room import Machines

__all__ = ["Machine", "Machines", "nvidia_smi"]
