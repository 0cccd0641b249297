"""Run as root on a machine of Lambda: end this machine, with a key that its owner chose to put here.

Written for Python 3.8 and its standard library. Arguments: the address of Lambda's API, the file with the key, and the
cluster key. The machine finds itself among those that carry the cluster's tag, by its own address.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import urllib.parse
import urllib.request
from typing import Any


def ask(endpoint: str, key: str, path: str, body: Any = None) -> Any:
    """One call; what it answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "styx", "Authorization": "Bearer " + key}
    request = urllib.request.Request(endpoint.rstrip("/") + "/" + path, data, headers)  # noqa: S310 - the driver's own
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
        return json.load(reply)["data"]


def own_address(endpoint: str) -> str:
    """The address from which this machine speaks to the API; nothing is sent."""
    there = urllib.parse.urlsplit(endpoint)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((there.hostname or "", there.port or 443))
        return str(probe.getsockname()[0])


def myself(instances: Any, cluster: str, address: str) -> list[str]:
    """Ids of the cluster's instances that have this address."""
    return [
        str(one["id"])
        for one in instances
        if {"key": "styx-cluster", "value": cluster} in [dict(tag) for tag in one.get("tags") or ()]
        and address in (one.get("private_ip"), one.get("ip"))
    ]


def main(endpoint: str, file: str, cluster: str) -> int:
    """Ask once; the exit code is 0 when Lambda agrees. Whoever runs this runs it again until then."""
    with open(file, encoding="ascii") as stream:
        key = stream.read().strip()
    try:
        ids = myself(ask(endpoint, key, "instances"), cluster, own_address(endpoint))
        if len(ids) == 1:
            time.sleep(1.1)  # Lambda takes one request in a second
            ask(endpoint, key, "instance-operations/terminate", {"instance_ids": ids})
            return 0
        said = f"{len(ids)} instances of {cluster} have this address"
    except (OSError, ValueError, KeyError) as error:
        said = str(error)
    sys.stderr.write(f"Lambda does not end this machine: {said}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
