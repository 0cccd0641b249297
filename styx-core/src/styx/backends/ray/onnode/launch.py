"""Starts Ray on this node once, through Ray's own command line, and reports its processes. Runs under Ray's Python."""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
from typing import Any, Dict, List, Tuple

from .layout import Layout, NodeFailure, read_json

OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Close to Ray's minimum: Styx passes a few hundred bytes through it; jobs that want one bring a Ray of their own."""

HEAD_PATIENCE_S = 60.0


def ray_environment(layout: Layout) -> Dict[str, str]:
    """What Ray's processes are told through their environment."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": layout.token,
        "RAY_USAGE_STATS_ENABLED": "0",
        # Nodes of one cluster may differ in the last digit of their Python's version; the client compares the others.
        "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL": "minor",
        # Would start one idle worker for each processor as soon as the first job comes.
        "RAY_prestart_worker_first_driver": "0",
        # Would kill Ray's own small workers when a job, which is none of them, fills the memory.
        "RAY_memory_monitor_refresh_ms": "0",
        # A node that lost its power says nothing: without this, work is sent to it for minutes.
        "RAY_health_check_period_ms": "2000",
        "RAY_health_check_timeout_ms": "5000",
        "RAY_health_check_failure_threshold": "3",
        # A node whose head came back with a new life leaves after this long; its keeper starts it again.
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
        # Below a `uv run`, however far, Ray would upload the working folder and start its workers by uv, without Ray.
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        # Ray's workers rename themselves over their environment, and nobody could tell whose they are any more.
        "SPT_NOENV": "1",
        "RAY_ROTATION_MAX_BYTES": "5000000",
        "RAY_ROTATION_BACKUP_COUNT": "1",
    }


def arguments(spec: Dict[str, Any], ports: Dict[str, int], temp: str) -> List[str]:
    """The arguments of `ray start` for one node."""
    rank = int(spec["rank"])
    if rank == 0:
        place = ["--head", "--port=%d" % ports["gcs"], "--include-dashboard=false", "--disable-usage-stats"]
    else:
        place = ["--address=%s" % spec["address"]]
    return [
        *place,
        "--node-ip-address=%s" % spec["ip"],
        "--node-manager-port=%d" % ports["node_manager"],
        "--object-manager-port=%d" % ports["object_manager"],
        "--runtime-env-agent-port=%d" % ports["runtime_env_agent"],
        "--metrics-export-port=%d" % ports["metrics"],
        "--dashboard-agent-listen-port=%d" % ports["agent_http"],
        "--dashboard-agent-grpc-port=%d" % ports["agent_grpc"],
        "--min-worker-port=%d" % ports["worker_min"],
        "--max-worker-port=%d" % ports["worker_max"],
        # Whole numbers only; the agent of rank 0 admits jobs, so Ray must never be the stricter of the two.
        "--num-cpus=%d" % max(1, math.ceil(float(spec["cpus"]))),
        "--num-gpus=%d" % math.ceil(float(spec["gpus"])),
        "--resources=%s" % json.dumps({rank_resource(rank): 1}),
        "--object-store-memory=%d" % OBJECT_STORE_BYTES,
        "--temp-dir=%s" % temp,
        "--include-log-monitor=false",
        "--no-monitor",
    ]


def rank_resource(rank: int) -> str:
    """The resource that only the node of this rank offers."""
    return "styx_rank_%d" % rank


def allow_loopback() -> None:
    """Make Ray take a loopback address as it is given.

    Ray replaces 127.0.0.1 by the host's outer address, and then listens on all interfaces.
    """
    import ray._private.services as services

    if not hasattr(services, "resolve_ip_for_localhost"):
        raise NodeFailure("this version of Ray cannot be kept on the loopback address; install the tested one")
    services.resolve_ip_for_localhost = lambda host: host


def leave_out_dashboard() -> List[Tuple[str, int]]:
    """Keep Ray from starting its dashboard server; returns the list that fills with (name, pid) of what it does start.

    Also makes its agents run as with the plain `ray` package, opening no ports, where `ray[default]` is installed.
    """
    import ray._private.services as services
    import ray._private.utils as ray_utils
    from ray._private.node import Node

    seen: List[Tuple[str, int]] = []
    start = services.start_ray_process

    def remember(command: Any, process_type: str, *args: Any, **options: Any) -> Any:
        made = start(command, process_type, *args, **options)
        seen.append((process_type, made.process.pid))
        return made

    services.start_ray_process = remember
    ray_utils.get_dashboard_dependency_error = lambda: ImportError("Styx runs Ray without its dashboard")
    setattr(Node, "start_api_server", _nothing)  # noqa: B010 - assigning a method is an error to mypy
    return seen


def _nothing(*_: Any, **__: Any) -> None:
    """Stands for a step of Ray's that is left out."""


def wait_for_head(address: str) -> None:
    """Return as soon as the head accepts connections; Ray's own retries are slower and noisier."""
    host, _, port = address.rpartition(":")
    give_up = time.monotonic() + HEAD_PATIENCE_S
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise NodeFailure("rank 0's Ray does not answer on %s: %s" % (address, error)) from error
        time.sleep(0.05)


def main(root: str) -> int:
    """Start Ray as the files in `root` say. The last line on the standard output is the report."""
    report = os.dup(1)
    os.dup2(2, 1)
    layout = Layout(root)
    spec, ports = read_json(layout.spec), read_json(layout.ports)
    try:
        import ray.scripts.scripts as scripts

        if spec["loopback"]:
            allow_loopback()
        processes = leave_out_dashboard()
        if int(spec["rank"]) != 0:
            wait_for_head(str(spec["address"]))
        scripts.start.main(arguments(spec, ports, layout.temp), prog_name="ray start", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - Ray raises every kind; the keeper's log gets the trace, the user a line
        import traceback

        traceback.print_exc()
        text = " ".join(str(error).split()) or type(error).__name__
        os.write(report, json.dumps({"error": text[:500]}).encode("utf-8"))
        return 1
    os.write(report, json.dumps({"processes": processes}).encode("utf-8"))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Ray's exit handlers would take time, and there is nothing to clean up
