"""The verbs of the zipapp. Every verb prints one JSON object, or ends with one clear line on its standard error."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import time
from typing import Any, Dict, List, Optional

from .layout import Layout, NodeFailure, read_json, spec_digest, write_json, write_private

_REPORTED = ("state", "error", "digest", "address", "cluster", "lives", "launched_s")


def main(argv: Optional[List[str]] = None) -> int:
    """Run one verb."""
    parser = argparse.ArgumentParser(prog="styx-ray-node")
    parser.add_argument("verb", choices=sorted(_VERBS))
    parser.add_argument("--root", required=True, help="the folder `ray` in the agent's state folder")
    parser.add_argument("--timeout", type=float, default=60.0)
    given = parser.parse_args(argv)
    os.umask(0o077)
    try:
        return _VERBS[given.verb](given)
    except (NodeFailure, OSError) as error:
        sys.stderr.write("%s\n" % error)
        return 1


def _status(given: argparse.Namespace) -> int:
    """How Ray is on this node, judged by its processes and not by what they wrote, and what it could run in."""
    from . import install

    layout = Layout(given.root)
    _print({**observe(layout), **install.facts(layout)})
    return 0


def _install(given: argparse.Namespace) -> int:
    """Have an environment with the Ray that the standard input asks for."""
    from . import install

    _print(install.install(Layout(given.root), json.load(sys.stdin)))
    return 0


def observe(layout: Layout) -> Dict[str, Any]:
    """The recorded status, corrected by which processes live: `absent`, `starting`, `up` or `failed`."""
    from . import processes

    status = read_json(layout.status)
    seen = {name: status.get(name) for name in _REPORTED}
    keeper = status.get("keeper") or [0, None]
    if not status or status.get("state") == "ended":
        seen["state"] = "absent"
    elif status.get("state") == "failed":
        pass
    elif not processes.alive(*keeper):
        seen["state"] = "absent"
    elif status.get("state") == "up" and not all(processes.alive(*one) for one in status["processes"]):
        seen["state"] = "starting"  # its keeper is about to notice
    return seen


def _ensure(given: argparse.Namespace) -> int:
    """Make a keeper run for the spec on the standard input; returns as soon as its ports are known."""
    layout = Layout(given.root)
    wanted = json.load(sys.stdin)
    token = wanted.pop("token")
    agent = wanted.pop("agent_path")
    os.makedirs(layout.root, mode=0o700, exist_ok=True)
    with open(layout.ensure_lock, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        seen = observe(layout)
        _point_to_agent(layout, agent)
        if seen["state"] not in ("starting", "up") or seen["digest"] != spec_digest(wanted):
            _replace_keeper(layout, wanted, token)
        _print(_wait(layout, given.timeout, lambda seen: bool(seen["address"])))
    return 0


def _replace_keeper(layout: Layout, spec: Dict[str, Any], token: str) -> None:
    from . import keeper

    survivors = keeper.remove_leftovers(layout, read_json(layout.spec) or spec)
    if survivors:
        raise NodeFailure("processes of an earlier Ray on this node do not end: %s" % survivors)
    write_private(layout.token, token)
    write_json(layout.spec, spec)
    if os.path.exists(layout.status):
        os.unlink(layout.status)
    with open(layout.log, "ab") as log:
        if log.tell() > 1_000_000:
            log.truncate(0)
        subprocess.Popen(
            [sys.executable, "-s", os.path.abspath(sys.argv[0]), "keep", "--root", layout.root],
            env=keeper.keeper_environment(layout, spec, dict(os.environ)),
            cwd=layout.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _point_to_agent(layout: Layout, agent: str) -> None:
    """Keep the stable name under which Ray's workers import the agent's client."""
    if os.path.islink(layout.agent) and os.readlink(layout.agent) == agent:
        return
    new = layout.agent + ".new"
    if os.path.lexists(new):
        os.unlink(new)
    os.symlink(agent, new)
    os.replace(new, layout.agent)


def _await(given: argparse.Namespace) -> int:
    """Wait until Ray is up on this node."""
    _print(_wait(Layout(given.root), given.timeout, lambda seen: seen["state"] == "up"))
    return 0


def _wait(layout: Layout, timeout_s: float, enough: Any) -> Dict[str, Any]:
    """Watch the status until it is good enough, has failed, or the time is over."""
    give_up = time.monotonic() + timeout_s
    born = time.monotonic()
    while True:
        seen = observe(layout)
        absent = seen["state"] == "absent" and time.monotonic() - born > 10.0
        if seen["state"] == "failed" or absent or time.monotonic() > give_up or enough(seen):
            return seen
        time.sleep(0.03)


def _secret(given: argparse.Namespace) -> int:
    """The token, which a node that joins later needs of rank 0."""
    with open(Layout(given.root).token, encoding="ascii") as stream:
        _print({"token": stream.read()})
    return 0


def _down(given: argparse.Namespace) -> int:
    """End Ray on this node and remove everything it made."""
    import shutil

    from . import keeper

    layout = Layout(given.root)
    if not os.path.isdir(layout.root):
        keeper.remove_temp(layout, None)
        _print({"survivors": []})
        return 0
    with open(layout.ensure_lock, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        spec = read_json(layout.spec)
        survivors = keeper.remove_leftovers(layout, spec)
        keeper.remove_temp(layout, spec.get("key"))
        if not survivors:
            shutil.rmtree(layout.root, ignore_errors=True)
    _print({"survivors": survivors})
    return 0


def _keep(given: argparse.Namespace) -> int:
    from .keeper import Keeper

    return Keeper(Layout(given.root)).run()


def _launch(given: argparse.Namespace) -> int:
    from . import launch

    return launch.main(given.root)


def _drive(given: argparse.Namespace) -> int:
    from . import driver

    return driver.main(given.root)


def _link(given: argparse.Namespace) -> int:
    from . import link

    return link.main(given.root)


def _print(value: Dict[str, Any]) -> None:
    # On a line of its own: the login's shell may have printed something without a line end.
    sys.stdout.write("\n" + json.dumps(value) + "\n")
    sys.stdout.flush()


_VERBS = {
    "await": _await,
    "down": _down,
    "drive": _drive,
    "ensure": _ensure,
    "install": _install,
    "keep": _keep,
    "launch": _launch,
    "link": _link,
    "secret": _secret,
    "status": _status,
}
