"""Real SSH hosts on this machine: how fast bare ones get an agent and a job's first line, and files reach them.

    python benchmarks/machines.py bootstrap --hosts 1 50
    python benchmarks/machines.py start --hosts 1 4 16    # to the first line, without and with Ray
    python benchmarks/machines.py sync                    # 20,000 small files and 1 GiB, beside rsync and scp

Needs root and openssh-server; see `styx.testing.machines`. Each round boots nothing: the hosts are up and their SSH
answers. First every host is connected to and runs `python3 -c pass`, then, on new logins, every host gets an agent:
a Python is found, its program is put, started and greeted. Both in parallel over all hosts, in turns, with files and
logins of the round before removed. The figure is the ratio of the two medians. `machines_start` and `machines_sync`
hold the other two parts.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from styx.driver import Ssh
from styx.state.folders import HomeFolders
from styx.testing.machines import Machine, Machines
from styx.transport.agent import AgentConnection, ensure_agent
from styx.transport.agentfile import agent_file
from styx.transport.ssh import keys
from styx.transport.ssh.logins import Logins
from styx.transport.ssh.target import UserConfig
from styx.transport.ssh.transport import SshTransport

GOAL = 2.5


class Client:
    """Logins as a process of its own would make them."""

    def __init__(self, home: Path) -> None:
        self.folders = HomeFolders(home)
        self.key = keys.login_key(self.folders).public
        self.agent = agent_file(self.folders.cache_dir("agent"))
        self.logins = self._fresh()

    def _fresh(self) -> Logins:
        config = UserConfig(self.folders.home / "nobody", {}, user="root")
        return Logins(self.folders, config, lambda line: print(line, file=sys.stderr))

    def forget_logins(self) -> None:
        """The next command connects anew."""
        self.logins.close()
        self.logins = self._fresh()

    def way_to(self, machine: Machine, instance: str) -> SshTransport:
        """A transport whose host key is pinned."""
        reach = Ssh(host=machine.host, port=machine.port, user=machine.user, host_key=machine.host_key)
        return SshTransport(reach, self.logins, instance)


def timed(action: Callable[[Machine], Any], machines: Sequence[Machine], workers: int) -> tuple[float, list[Any]]:
    """Seconds until all have ended, and what they gave."""
    with ThreadPoolExecutor(max_workers=workers) as pool:
        began = time.monotonic()
        results = list(pool.map(action, machines))
        return time.monotonic() - began, results


def bootstrap(client: Client, machines: Sequence[Machine], rounds: int) -> dict[str, Any]:
    """Seconds to connect and run `python3 -c pass`, and to get an agent, over all machines in parallel."""
    base: list[float] = []
    ready: list[float] = []
    workers = min(32, len(machines))

    def touch(machine: Machine) -> None:
        done = client.way_to(machine, "styx-touch-00000000/0").run(("python3", "-c", "pass"), timeout_s=120)
        assert done.exit_code == 0, done.stderr

    for turn in range(rounds + 1):
        cluster = f"styx-bench-{turn:08d}"

        def start(machine: Machine, cluster: str = cluster) -> tuple[SshTransport, AgentConnection]:
            rank = machines.index(machine)
            transport = client.way_to(machine, f"{cluster}/{rank}")
            return transport, ensure_agent(transport, cluster, rank, client.agent, start_s=120)

        client.forget_logins()
        touched_s, _ = timed(touch, machines, workers)
        client.forget_logins()
        ready_s, ups = timed(start, machines, workers)
        for _, agent in ups:
            agent.shutdown()
        for machine in machines:
            shutil.rmtree(machine.root / "root" / ".styx-agent", ignore_errors=True)
        if turn:  # the first round warms the page cache for both
            base.append(touched_s)
            ready.append(ready_s)
    ratio = statistics.median(ready) / statistics.median(base)
    return {
        "hosts": len(machines),
        "rounds": rounds,
        "python_s": round(statistics.median(base), 3),
        "agent_s": round(statistics.median(ready), 3),
        "ratio": round(ratio, 2),
        "goal": GOAL,
        "ok": ratio <= GOAL,
    }


def run_bootstrap(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The measurement for each number of hosts."""
    found = []
    with tempfile.TemporaryDirectory(prefix="styx-bench-") as home, Machines() as room:
        client = Client(Path(home))
        hosts: list[Machine] = []
        for number in sorted(options.hosts):
            while len(hosts) < number:
                hosts.append(room.boot(f"bench{len(hosts)}", authorized_keys=[client.key]))
            for host in hosts:
                host.wait_for_ssh()
            found.append(bootstrap(client, hosts, options.rounds if number < 10 else max(3, options.rounds // 2)))
            print(_line(found[-1]), file=sys.stderr)
        client.logins.close()
    return found


def _line(row: Mapping[str, Any]) -> str:
    verdict = "within" if row["ok"] else "MISSES"
    return (
        f"{row['hosts']:>3} hosts: python3 -c pass {row['python_s']:.3f} s, agent ready {row['agent_s']:.3f} s, "
        f"ratio {row['ratio']:.2f}, {verdict} the goal of {row['goal']:g} ({row['rounds']} rounds)"
    )


def _start(options: argparse.Namespace) -> list[dict[str, Any]]:
    from machines_start import run_start

    return run_start(options)


def _sync(options: argparse.Namespace) -> list[dict[str, Any]]:
    from machines_sync import run_sync

    return run_sync(options)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data")
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("bootstrap", help="from `SSH answers` to `agent ready`")
    part.add_argument("--hosts", type=int, nargs="+", default=[1, 50], help="numbers of hosts")
    part.add_argument("--rounds", type=int, default=9)
    part.set_defaults(run=run_bootstrap)
    part = parts.add_parser("start", help="from `SSH answers` to the first line of a job")
    part.add_argument("--hosts", type=int, nargs="+", default=[1, 4, 16], help="numbers of hosts")
    part.add_argument("--rounds", type=int, default=3)
    part.add_argument("--no-ray", action="store_true", help="only jobs of one node")
    part.set_defaults(run=_start)
    part = parts.add_parser("sync", help="files to one host")
    part.add_argument("--files", type=int, default=20_000)
    part.add_argument("--gib", type=float, default=1.0)
    part.add_argument("--rounds", type=int, default=3)
    part.set_defaults(run=_sync)
    options = parser.parse_args()
    if reason := Machines.unavailable():
        print(f"no hosts can be had here: {reason}", file=sys.stderr)
        return 1
    rows = options.run(options)
    if options.json:
        print(json.dumps(rows, indent=2))
    return 0 if all(row.get("ok", True) for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
