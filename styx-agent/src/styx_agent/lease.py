"""When a node has to end, and why: a pure decision."""

from __future__ import annotations

from styx_agent.fields import Fields, bad
from styx_agent.lean import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, Dict, Optional

    Lease = Dict[str, Any]

ACTION_KINDS = ("command", "poweroff", "exit", "none")
WAIT_FOR = ("jobs", "jobs_and_ssh", "none")
_READER_S = 5.0


class Observation(NamedTuple):
    """What a node sees. Times are Unix seconds.

    Attributes:
        now: The time.
        rank: Only rank 0 judges idleness.
        busy: A job has not ended.
        ssh: Somebody is logged in.
        idle_since: The last time that the node was seen at work or the lease was set, whichever is later.
        set_at: When the lease was set, or the node started, whichever is later.
        renewed_at: The last sign of the owner.
        usd_per_hour: What the node costs, if the lease does not say it.
        read_at: The last time that somebody was given output of a job.
    """

    now: float
    rank: int
    busy: bool
    ssh: bool
    idle_since: float
    set_at: float
    renewed_at: float
    usd_per_hour: Optional[float]
    read_at: float = 0.0


class Verdict(NamedTuple):
    """The earliest end that is known now, and whether it is due."""

    ends_at: Optional[float]
    reason: Optional[str]
    due: bool


def decide(lease: Lease, seen: Observation) -> Verdict:
    """The limit of the lease that ends the node first."""
    ends = [end for end in (_idle(lease, seen), _age(lease), _cost(lease, seen), _dead_man(lease, seen)) if end]
    if not ends:
        return Verdict(None, None, False)
    ends_at, reason = min(ends)
    return Verdict(ends_at, reason, seen.now >= ends_at)


def _idle(lease: Lease, seen: Observation) -> tuple[float, str] | None:
    idle_s = lease.get("idle_s")
    if idle_s is None or seen.rank != 0:
        return None
    wait_for = lease.get("wait_for") or "jobs"
    if wait_for == "none":
        return seen.set_at + idle_s, "%g s have passed since autostop was set" % idle_s
    if seen.busy or (wait_for == "jobs_and_ssh" and seen.ssh):
        return None
    # Whoever reads the last job's output, over whatever line, gets it to the end.
    return max(seen.idle_since + idle_s, seen.read_at + _READER_S), "idle for %g s" % idle_s


def _age(lease: Lease) -> tuple[float, str] | None:
    if lease.get("max_age_s") is None:
        return None
    return lease["born_at"] + lease["max_age_s"], "older than %g s" % lease["max_age_s"]


def _cost(lease: Lease, seen: Observation) -> tuple[float, str] | None:
    rate = lease.get("usd_per_hour")
    if rate is None:
        rate = seen.usd_per_hour
    if lease.get("max_usd") is None or not rate:
        return None
    return lease["born_at"] + lease["max_usd"] / rate * 3600, "has cost $%g" % lease["max_usd"]


def _dead_man(lease: Lease, seen: Observation) -> tuple[float, str] | None:
    if lease.get("dead_man_s") is None:
        return None
    return seen.renewed_at + lease["dead_man_s"], "no sign of its owner for %g s" % lease["dead_man_s"]


def parse(params: dict[str, Any], now: float) -> Lease:
    """The Lease in the params of `lease.set`, which comes at `now` by the node's clock.

    Raises:
        Fault: A field is wrong.
    """
    fields = Fields(params, "lease.set")
    lease: Lease = {
        name: fields.number(name, None) for name in ("idle_s", "max_age_s", "max_usd", "usd_per_hour", "dead_man_s")
    }
    age_s = fields.number("age_s", None)
    lease["born_at"] = fields.number("born_at", None) if age_s is None else now - age_s
    if lease["born_at"] is None and (lease["max_age_s"] is not None or lease["max_usd"] is not None):
        raise bad("lease.set: 'max_age_s' and 'max_usd' need 'born_at'")
    lease["wait_for"] = fields.one_of("wait_for", WAIT_FOR, "jobs")
    lease["action"] = fields.one_of("action", ("stop", "down"), "stop")
    lease["actions"] = {}
    for name in fields.mapping_of("actions"):
        actions = Fields(fields.mapping_of("actions"), "lease.set: actions")
        action = Fields(actions.mapping_of(name), "lease.set: actions: %s" % name)
        kind = action.one_of("kind", ACTION_KINDS)
        argv = action.texts("argv", [])
        if kind == "command" and not argv:
            raise bad("lease.set: the field 'argv' of the action %r is empty" % name)
        lease["actions"][name] = {"kind": kind, "argv": argv, "stops_billing": action.flag("stops_billing", False)}
    return lease
