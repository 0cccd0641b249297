"""The environment of set-up and run: built from nothing, never inherited from the agent."""

from __future__ import annotations

import os
import pwd

from styx_agent.config import Config
from styx_agent.identity import JOB_MARK, Identity
from styx_agent.lean import TYPE_CHECKING, NamedTuple, dumps
from styx_agent.slots import rounded_gpus, visible_devices

if TYPE_CHECKING:
    from typing import Dict

    from styx_agent.slots import Shares

_PREFIXES = ("STYX_", "SKYPILOT_")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_WORKDIR = "sky_workdir"


class Task(NamedTuple):
    """What a phase's environment depends on. `env` already holds the secrets."""

    job_id: int
    phase: str
    task_id: str
    user: str
    num_nodes: int
    gpus_per_node: float
    shares: Shares
    env: Dict[str, str]


def task_env(who: Identity, config: Config, task: Task, *, contained: bool = False) -> dict[str, str]:
    """All variables of one phase of a job on this node. The job's own override the basics, never the ranks.

    In a container the image says where programs are and who one is.
    """
    own = {"LANG": "C.UTF-8", "HOME": who.home} if contained else basics(who, config)
    env = {**own, **task.env}
    if task.shares:
        env["CUDA_VISIBLE_DEVICES"] = visible_devices(task.shares, config.env.get("CUDA_VISIBLE_DEVICES"))
    for name, value in rank_variables(who.rank, config, task).items():
        for prefix in _PREFIXES:
            env[prefix + name] = value
    return {**env, **marks(who, task.job_id)}


def basics(who: Identity, config: Config) -> dict[str, str]:
    """What every process of a user finds: HOME, PATH, who they are, and what the client gave for all."""
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        login = str(os.getuid())
    env = {"PATH": _PATH, "USER": login, "LOGNAME": login, "SHELL": "/bin/bash", "LANG": "C.UTF-8", **config.env}
    env["HOME"] = who.home
    return env


def marks(who: Identity, job_id: int) -> dict[str, str]:
    """The variables by which the processes of a job are found again."""
    return {**who.marks(), JOB_MARK: job_mark(who, job_id)}


def job_mark(who: Identity, job_id: int) -> str:
    """The value of STYX_JOB."""
    return "%s/%d" % (who.mark, job_id)


def rank_variables(rank: int, config: Config, task: Task) -> dict[str, str]:
    """The rank variables without their prefix."""
    ips = "\n".join(config.ips[: task.num_nodes])
    gpus = rounded_gpus(task.gpus_per_node)
    variables = {
        "NODE_RANK": str(rank),
        "NODE_IPS": ips,
        "NUM_NODES": str(task.num_nodes),
        "NUM_GPUS_PER_NODE": gpus,
        "TASK_ID": task.task_id,
        "INTERNAL_JOB_ID": str(task.job_id),
        "CLUSTER_INFO": dumps(config.cluster),
        "USER": task.user,
    }
    if task.phase == "setup":
        variables.update({"SETUP_NODE_IPS": ips, "SETUP_NODE_RANK": str(rank), "SETUP_NUM_GPUS_PER_NODE": gpus})
    return variables


def working_folder(home: str, workdir: str | None) -> str:
    """Where a phase runs: relative to the home; the runner falls back to the home when it is missing."""
    path = workdir or DEFAULT_WORKDIR
    if path == "~" or path.startswith("~/"):
        path = path[2:]
    return os.path.join(home, path) if path else home
