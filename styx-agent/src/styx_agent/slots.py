"""Which waiting jobs may start now: pure decisions over the CPU and GPU slots of a node."""

from __future__ import annotations

import math

from styx_agent.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Dict, List, Sequence, Tuple

    Shares = Dict[int, float]
    """GPU index -> the share of it that a job holds, up to 1."""

_EPSILON = 1e-6


class Capacity(NamedTuple):
    """What jobs may use: the number of nodes, and CPUs and GPUs of each."""

    num_nodes: int
    cpus: float
    gpus: float


class Need(NamedTuple):
    """What one waiting job asks for, CPUs and GPUs per node."""

    job_id: int
    num_nodes: int
    cpus: float
    gpus: float


class Held(NamedTuple):
    """What one active job holds on this node."""

    cpus: float
    shares: Shares


class Admission(NamedTuple):
    """Jobs to start with their GPUs, and jobs that can never run with the reason."""

    starts: List[Tuple[int, Shares]]
    rejects: List[Tuple[int, str]]


def admit(capacity: Capacity, held: Sequence[Held], waiting: Sequence[Need]) -> Admission:
    """Strictly first in, first out: a job that does not fit yet holds up all behind it.

    Every job uses this node (rank 0), and nodes are alike, so this node's ledger speaks for all.
    """
    admission = Admission([], [])
    free_cpus = capacity.cpus - sum(one.cpus for one in held)
    free_gpus = free_shares(capacity.gpus, [one.shares for one in held])
    blocked = False
    for need in waiting:
        reason = never_fits(capacity, need)
        if reason is not None:
            admission.rejects.append((need.job_id, reason))
            continue
        shares = pick_gpus(free_gpus, need.gpus)
        if blocked or shares is None or need.cpus > free_cpus + _EPSILON:
            blocked = True
            continue
        free_cpus -= need.cpus
        for index, share in shares.items():
            free_gpus[index] -= share
        admission.starts.append((need.job_id, shares))
    return admission


def never_fits(capacity: Capacity, need: Need) -> str | None:
    """Why a job could not start even on an idle cluster, or None."""
    for what, wanted, have in (
        ("nodes", need.num_nodes, capacity.num_nodes),
        ("CPUs per node", need.cpus, capacity.cpus),
        ("GPUs per node", need.gpus, capacity.gpus),
    ):
        if wanted > have + _EPSILON:
            return "the job asks for %g %s, the cluster has %g" % (wanted, what, have)
    if pick_gpus(free_shares(capacity.gpus, []), need.gpus) is None:
        return "the job asks for %g GPUs per node, which %g GPUs cannot be split into" % (need.gpus, capacity.gpus)
    return None


def free_shares(gpus: float, held: Sequence[Shares]) -> list[float]:
    """The free share of each GPU. Shares of GPUs that are no longer there are ignored."""
    whole = int(gpus + _EPSILON)
    free = [1.0] * whole
    if gpus - whole > _EPSILON:
        free.append(gpus - whole)
    for shares in held:
        for index, share in shares.items():
            if index < len(free):
                free[index] -= share
    return free


def pick_gpus(free: Sequence[float], wanted: float) -> Shares | None:
    """GPUs for one job: whole ones from the lowest index, a fraction where the least is left over. None: no room."""
    whole = int(wanted + _EPSILON)
    fraction = wanted - whole
    picked = dict.fromkeys([i for i, share in enumerate(free) if share > 1 - _EPSILON][:whole], 1.0)
    if len(picked) < whole:
        return None
    if fraction > _EPSILON:
        fitting = [i for i, share in enumerate(free) if i not in picked and share >= fraction - _EPSILON]
        if not fitting:
            return None
        picked[min(fitting, key=lambda i: (free[i], i))] = fraction
    return picked


def visible_devices(shares: Shares, listed: str | None) -> str:
    """The value of CUDA_VISIBLE_DEVICES; `listed` is the node's own, when it sees only some of the devices."""
    names = [name.strip() for name in (listed or "").split(",") if name.strip()]
    return ",".join(names[i] if i < len(names) else str(i) for i in sorted(shares))


def rounded_gpus(gpus: float) -> str:
    """The number that recipes start processes by: a shared GPU counts as one."""
    return str(math.ceil(gpus - _EPSILON))
