"""The words that clients and agents exchange. Importable by core; standard library only; Python >= 3.8.

Transport: newline-delimited JSON over the agent's unix socket, bridged to a client's stdio by `agent.pyz connect`.
A request is `{"id": int, "method": str, "params": {...}}`; an answer is `{"id": int, "result": ...}` or
`{"id": int, "error": {"code": str, "message": str}}`. Answers may come in any order: a long poll (`job.wait`,
`log.read`, `rank.wait`) does not hold up the others on the same connection. The first request is `hello`.
Bytes travel as base64 text. Unknown fields are ignored by the reader, so both sides may grow.
"""

from __future__ import annotations

from styx_agent.lean import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from typing import Dict, List, Optional

VERSIONS = (1,)
"""Protocol versions this package speaks, newest last; `hello` picks the highest common one."""

MAX_LINE_BYTES = 8 * 1024 * 1024
"""A longer line is refused and the connection closed."""

MAX_WAIT_S = 30.0
"""Longest time a long poll is held; clients ask again."""

PENDING = "PENDING"
SETTING_UP = "SETTING_UP"
RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
FAILED_SETUP = "FAILED_SETUP"
FAILED_DRIVER = "FAILED_DRIVER"
CANCELLED = "CANCELLED"
JOB_STATES = (PENDING, SETTING_UP, RUNNING, SUCCEEDED, FAILED, FAILED_SETUP, FAILED_DRIVER, CANCELLED)
TERMINAL_STATES = frozenset((SUCCEEDED, FAILED, FAILED_SETUP, FAILED_DRIVER, CANCELLED))

# Error codes of answers.
BAD_REQUEST = "bad_request"
UNKNOWN_METHOD = "unknown_method"
NOT_FOUND = "not_found"
WRONG_RANK = "wrong_rank"
VERSION_MISMATCH = "version_mismatch"
DISK_FULL = "disk_full"
INTERNAL = "internal"


class Hello(TypedDict, total=False):
    """Params of `hello`: {versions: [int], client: str}. This is its result."""

    version: int
    agent: str
    key: str
    rank: int
    pid: int
    started_at: float
    python: str
    home: str
    configured: bool


class NodeConfig(TypedDict, total=False):
    """Params of `node.configure`; persisted by the agent; sent again whenever it changes (start, resize).

    `notice` is a command that is run every few seconds: exit code 0 means that the cloud will take the node away. From
    then on `node.info` and `job.wait` give `notice_at`, and jobs find the file that `STYX_NOTICE_FILE` names.
    """

    num_nodes: int
    ips: List[str]
    cpus: float
    gpus: float
    env: Dict[str, str]
    cluster: Dict[str, str]
    usd_per_hour: Optional[float]
    notice: List[str]


class SelfAction(TypedDict, total=False):
    """What a node does to end itself.

    kind: `command` (run `argv`, then kill everything of this instance and exit), `poweroff`, `exit`, or `none`.
    stops_billing says whether the cloud stops charging after it.
    """

    kind: str
    argv: List[str]
    stops_billing: bool


class Lease(TypedDict, total=False):
    """Params of `lease.set`; the result of `lease.get` adds `ends_at`, `reason` and `ending`.

    `ending` is true when it has run out: the node ends itself, or waits for somebody to end it if its action is `none`.

    All times in seconds; None switches that limit off. `idle_s` is judged by rank 0 (no job pending, setting up or
    running; `wait_for` = `jobs`, `jobs_and_ssh` or `none`); `max_age_s` counts from `born_at`, or, where `age_s` is
    given, from so long ago by the node's own clock, which may be far from the client's; `max_usd` uses
    `usd_per_hour`; `dead_man_s` is judged by every node: no `lease.renew` by a client for that long ends the node,
    jobs or not. `action` is `stop` or `down`; `actions` holds the self action for each.
    """

    idle_s: Optional[float]
    max_age_s: Optional[float]
    max_usd: Optional[float]
    usd_per_hour: Optional[float]
    dead_man_s: Optional[float]
    born_at: float
    age_s: float
    wait_for: str
    action: str
    actions: Dict[str, SelfAction]


class DriverSpec(TypedDict, total=False):
    """How rank 0's agent coordinates a job of several nodes: it runs `argv` and reads the outcome it leaves.

    The process gets `STYX_JOB_FILE` (the JobSpec with its job_id as JSON, mode 0600), `STYX_AGENT_SOCKET`, and
    `STYX_OUTCOME_FILE`: before it ends it writes `{"state": ..., "exit_code": int|null, "reason": str|null}` there and,
    while it works, `{"state": "SETTING_UP"|"RUNNING"}`. No outcome after its end means FAILED_DRIVER.
    """

    argv: List[str]
    env: Dict[str, str]


class JobSpec(TypedDict, total=False):
    """Params of `job.submit` (rank 0 only) -> {job_id}. Idempotent on `token`.

    `workdir` is relative to the node's home. `env` is visible in listings; `secret_env` is kept in a file of mode 0600
    until the job ends. `cpus` and `gpus` are slots per node (fractions allowed). Several nodes need `driver`.
    """

    token: str
    name: Optional[str]
    user: str
    task_id: str
    setup: Optional[str]
    run: Optional[str]
    workdir: str
    env: Dict[str, str]
    secret_env: Dict[str, str]
    num_nodes: int
    cpus: float
    gpus: float
    gpus_per_node: float
    driver: Optional[DriverSpec]


class Job(TypedDict, total=False):
    """One job as `job.list`, `job.get` and `job.wait` show it. Times are Unix seconds; ids count from 1."""

    job_id: int
    name: Optional[str]
    user: str
    task_id: str
    state: str
    exit_code: Optional[int]
    reason: Optional[str]
    submitted_at: float
    started_at: Optional[float]
    ended_at: Optional[float]
    num_nodes: int
    cpus: float
    gpus: float
    notice_at: Optional[float]


class RankSpec(TypedDict, total=False):
    """Params of `rank.start` -> {} on any node: run one phase of one rank of a job here. Idempotent on (job_id, phase).

    `phase` is `setup` or `run`; `script` is a bash script. The agent adds the rank variables from its NodeConfig.
    `rank.wait {job_id, phase, wait_s}` -> {running: bool, exit_code: int|None, reason: str|None};
    `rank.cancel {job_id}` kills every phase of it, verifies, and returns {survivors: [pid]}; later starts are refused.
    With `abandon_s` the agent kills the phase when nobody has asked after it by `rank.wait` for so long: a node must
    not go on working for a driver that is gone.
    """

    job_id: int
    phase: str
    script: str
    workdir: str
    env: Dict[str, str]
    secret_env: Dict[str, str]
    num_nodes: int
    gpus_per_node: float
    task_id: str
    user: str
    abandon_s: Optional[float]


class LogChunk(TypedDict, total=False):
    """Result of `log.read {job_id, stream, offset, max_bytes, wait_s}`; every node serves its own rank's streams.

    stream: `setup`, `run`, or `driver` (rank 0). `data` is base64. `eof` is true once the writer has ended and
    `offset + len(data)` reached the end: nothing more will ever come. With `wait_s` the call is held until there is
    data, or eof, or the time has passed. A negative `offset` -N means the start of the last N lines.
    """

    offset: int
    data: str
    eof: bool


class ContainerSpec(TypedDict, total=False):
    """Params of `container.start` -> {}: from now on set-up and run of this node are run in one container of `image`.

    `options` are added to `docker run`; `mounts` are folders of the node, beside its home, that the container shows
    under the same path. `login` ({server, username, password}) is used for the pull, and is not kept. It returns at
    once; `container.wait` tells how far it is. The same spec again changes nothing, unless it failed before.
    """

    image: str
    options: List[str]
    mounts: List[str]
    login: Optional[Dict[str, str]]
    pull_s: float


class ContainerView(TypedDict, total=False):
    """Result of `container.wait {seen, wait_s}`, held until `message` differs from `seen` or the stage is final.

    stage: `none` (jobs run on the node itself), `starting`, `ready`, or `failed` with the reason as message.
    """

    stage: str
    message: str
    image: str
    name: Optional[str]
    mounts: List[str]


METHODS = {
    "hello": "versions, client -> Hello",
    "ping": "-> {time}",
    "node.configure": "NodeConfig -> {}",
    "node.info": "-> {key, rank, home, python, cpus, memory_bytes, gpus: [{name, memory_bytes}], config, "
    "notice_at: float|null}",
    "node.metrics": "-> {time, load1, cpu_percent, memory_used_bytes, memory_total_bytes, disk_used_bytes, "
    "disk_total_bytes, gpus: [{index, utilization_percent, memory_used_bytes, memory_total_bytes}]}",
    "job.submit": "JobSpec -> {job_id}",
    "job.list": "{limit?} -> {jobs: [Job]} newest first",
    "job.get": "{job_id} -> Job",
    "job.wait": "{job_id, not_state, wait_s} -> Job as soon as its state differs from not_state",
    "job.cancel": "{job_ids: [int] | null, grace_s?} -> {cancelled: [int], survivors: [pid]}; null means all that are "
    "not ended",
    "rank.start": "RankSpec -> {}",
    "rank.wait": "{job_id, phase, wait_s} -> {running, exit_code, reason}",
    "rank.cancel": "{job_id, grace_s?} -> {survivors}",
    "log.read": "{job_id, stream, offset, max_bytes, wait_s} -> LogChunk",
    "container.start": "ContainerSpec -> {}",
    "container.wait": "{seen?, wait_s} -> ContainerView",
    "lease.set": "Lease -> Lease",
    "lease.get": "-> Lease",
    "lease.renew": "-> {} (any client contact that proves that the owner is alive)",
    "shutdown": "-> {survivors: [pid]}: kill every job and all processes of the node, then end the agent; for stop and "
    "down. Only `start` brings it back",
}
"""Every method with its params and result; the agent's tests check that it answers each of them."""
