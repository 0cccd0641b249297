"""What a job of several nodes does next: a pure function from its state and what was observed to actions.

All ranks go through the same phases (`setup`, then `run`) in step. One that fails ends all. A node that cannot be
reached for `NODE_LOST_S` while Ray works is lost; Ray itself may be away for `RAY_LOST_S`: the ranks do not need it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple, Union

NODE_LOST_S = 10.0
"""How long a node may refuse every question, while others answer, before it counts as lost."""
NODE_SILENT_S = 20.0
"""The same for a node that says nothing at all: it may only be very busy."""
RAY_LOST_S = 60.0
"""How long Ray may be away, or take to gather all nodes, before the job is given up."""
STOP_S = 11.0
"""How long ending the ranks may take: the agent of rank 0 kills this process 15 s after it asked for the end."""
POLL_S = 2.0
"""How long a node's agent holds the question whether its rank has ended."""
ANSWER_S = 8.0
"""An answer that takes longer is not waited for; the question is asked again."""
CANCEL_ANSWER_S = 9.0
RETRY_S = 0.5
DEAF_S = 10.0
"""Silence of all nodes after which the link is made anew: Ray may have been restarted under it."""
SETTLE_S = 45.0
"""The same, and the silence of one node, right after Ray was joined: its Ray may be starting, or be slow to answer."""
UNHEARD_S = 120.0
"""How long no rank may have answered at all, however often Ray was joined meanwhile."""
ABANDON_S = 180.0
"""A rank ends by itself when nobody has asked about it for so long: its coordinator or this node is gone."""

IDLE, STARTING, RUNNING, ENDED = "idle", "starting", "running", "ended"

SUCCEEDED, FAILED, FAILED_SETUP = "SUCCEEDED", "FAILED", "FAILED_SETUP"
FAILED_DRIVER, CANCELLED = "FAILED_DRIVER", "CANCELLED"
SETTING_UP = "SETTING_UP"
RUN_STATE = {"setup": SETTING_UP, "run": "RUNNING"}


@dataclass(frozen=True)
class Outcome:
    """How the job ended."""

    state: str
    exit_code: Optional[int] = None
    reason: Optional[str] = None


@dataclass(frozen=True)
class Rank:
    """What is known of one rank.

    Attributes:
        stage: Where it is in the current phase.
        touched: A start was sent: something may run there.
        call: The question that is open, if any, and what it asks.
        overdue: When the open question is given up.
        quiet_until: When to ask again.
        heard: When its agent last answered.
        refused: The last question could not be delivered.
        trouble: What the last failure to reach it said.
        stopped: Its agent confirmed that nothing of the job runs there.
    """

    stage: str = IDLE
    touched: bool = False
    call: Optional[int] = None
    asks: str = ""
    overdue: float = 0.0
    quiet_until: float = 0.0
    heard: float = 0.0
    refused: bool = False
    trouble: str = ""
    stopped: bool = False
    survivors: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Gang:
    """The whole job."""

    phases: Tuple[str, ...]
    ranks: Tuple[Rank, ...]
    now: float
    phase: int = 0
    link_up: bool = False
    link_since: float = 0.0
    link_trouble: str = ""
    ever_linked: bool = False
    verdict: Optional[Outcome] = None
    stop_by: float = 0.0
    finished: bool = False
    calls: int = 0
    heard: float = 0.0


@dataclass(frozen=True)
class LinkUp:
    """Ray is joined; ranks can be asked."""


@dataclass(frozen=True)
class LinkDown:
    """Ray is lost, or could not be joined."""

    reason: str


@dataclass(frozen=True)
class Reply:
    """An answer. `error` is None, `unreachable` (node or agent do not answer), or `refused` (the agent said no)."""

    call: int
    result: Optional[Dict[str, Any]] = None
    error: Optional[str] = None
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class Stop:
    """Somebody wants the job to end."""


Event = Union[LinkUp, LinkDown, Reply, Tick, Stop]


@dataclass(frozen=True)
class Ask:
    """Ask the agent of a rank: `start`, `wait` or `cancel`."""

    call: int
    rank: int
    what: str
    phase: str


@dataclass(frozen=True)
class Progress:
    """Tell the agent of rank 0 how far the job is."""

    state: str


@dataclass(frozen=True)
class Say:
    """A line for the driver's log."""

    text: str


@dataclass(frozen=True)
class Relink:
    """Make the link to Ray anew."""


@dataclass(frozen=True)
class Finish:
    """The job is over; nothing more will be asked."""

    outcome: Outcome


Action = Union[Ask, Progress, Say, Relink, Finish]


def begin(num_nodes: int, phases: Tuple[str, ...], now: float) -> Tuple[Gang, List[Action]]:
    """A new job; without phases it has succeeded."""
    gang = Gang(phases=phases, ranks=(Rank(),) * num_nodes, now=now, link_since=now, heard=now)
    if not phases:
        return replace(gang, finished=True), [Finish(Outcome(SUCCEEDED, 0))]
    return gang, [Progress(RUN_STATE[phases[0]])]


def step(gang: Gang, event: Event, now: float) -> Tuple[Gang, List[Action]]:
    """Take in one event at the time `now` and say what to do."""
    if gang.finished:
        return gang, []
    gang, said = _absorb(replace(gang, now=now), event)
    gang, decided = _decide(gang)
    gang, done = _advance(gang)
    return gang, [*said, *decided, *done]


def _absorb(gang: Gang, event: Event) -> Tuple[Gang, List[Action]]:
    if isinstance(event, LinkUp):
        ranks = tuple(replace(rank, call=None, heard=gang.now, refused=False, quiet_until=0.0) for rank in gang.ranks)
        text = "joined Ray again" if gang.ever_linked else "joined Ray; %d nodes are ready" % len(ranks)
        return replace(gang, ranks=ranks, link_up=True, link_since=gang.now, ever_linked=True), [Say(text)]
    if isinstance(event, LinkDown):
        ranks = tuple(replace(rank, call=None) for rank in gang.ranks)
        since = gang.now if gang.link_up else gang.link_since
        news: List[Action] = []
        if gang.link_up or event.reason != gang.link_trouble:
            news = [Say("Ray is away: %s" % event.reason)]
        return replace(gang, ranks=ranks, link_up=False, link_since=since, link_trouble=event.reason), news
    if isinstance(event, Stop) and gang.verdict is None:
        return _condemn(gang, Outcome(CANCELLED)), [Say("asked to end; cancelling all ranks")]
    if isinstance(event, Reply):
        for number, rank in enumerate(gang.ranks):
            if rank.call == event.call:
                return _answered(gang, number, rank, event)
    return gang, []


def _answered(gang: Gang, number: int, rank: Rank, reply: Reply) -> Tuple[Gang, List[Action]]:
    rank = replace(rank, call=None)
    if reply.error == "unreachable":
        rank = replace(rank, quiet_until=gang.now + RETRY_S, refused=True, trouble=reply.message)
        return _with(gang, number, rank), []
    gang = replace(gang, heard=gang.now)
    rank = replace(rank, heard=gang.now, refused=False, trouble="")
    if reply.error is not None:
        if rank.asks == "cancel" and reply.code == "not_found":
            return _with(gang, number, replace(rank, stopped=True)), []
        if rank.asks == "cancel":
            return _with(gang, number, replace(rank, quiet_until=gang.now + RETRY_S, trouble=reply.message)), []
        gang = _with(gang, number, rank)
        return _condemn(gang, Outcome(FAILED_DRIVER, None, "rank %d: %s" % (number, reply.message))), []
    result = reply.result or {}
    if rank.asks == "start":
        return _with(gang, number, replace(rank, stage=RUNNING)), []
    if rank.asks == "cancel":
        survivors = tuple(int(pid) for pid in result.get("survivors") or ())
        return _with(gang, number, replace(rank, stopped=True, survivors=survivors)), []
    if result.get("running"):
        return _with(gang, number, rank), []
    # An ended rank is still asked now and then: its node may be lost before the others are through.
    gang = _with(gang, number, replace(rank, stage=ENDED, quiet_until=gang.now + POLL_S))
    return _ended(gang, number, result.get("exit_code"), result.get("reason"))


def _ended(gang: Gang, number: int, exit_code: Optional[int], reason: Optional[str]) -> Tuple[Gang, List[Action]]:
    phase = gang.phases[gang.phase]
    if exit_code == 0:
        return gang, []
    if exit_code is None:
        why = "rank %d: %s" % (number, reason or "its %s ended without an exit code" % phase)
        state = FAILED if (reason or "").startswith("disk full") else FAILED_DRIVER
        return _condemn(gang, Outcome(state, None, why)), [Say(why)]
    detail = " (%s)" % reason if reason else ""
    what = "setup of rank" if phase == "setup" else "rank"
    why = "%s %d exited with code %d%s; others stopped" % (what, number, exit_code, detail)
    state = FAILED_SETUP if phase == "setup" else FAILED
    return _condemn(gang, Outcome(state, exit_code, why)), [Say(why)]


def _condemn(gang: Gang, outcome: Outcome) -> Gang:
    """Settle how the job ends; the first verdict stays. From now on ranks are only told to end."""
    if gang.verdict is not None:
        return gang
    # A start that is under way is waited for: a cancel must not overtake it.
    ranks = tuple(
        replace(rank, call=rank.call if rank.asks == "start" else None, quiet_until=0.0) for rank in gang.ranks
    )
    return replace(gang, verdict=outcome, stop_by=gang.now + STOP_S, ranks=ranks)


def _decide(gang: Gang) -> Tuple[Gang, List[Action]]:
    """Judge silence, and go on to the next phase when all ranks have ended this one."""
    actions: List[Action] = []
    ranks = list(gang.ranks)
    for number, rank in enumerate(ranks):
        if rank.call is not None and gang.now >= rank.overdue:
            ranks[number] = replace(rank, call=None, trouble="no answer to `%s`" % rank.asks)
    gang = replace(gang, ranks=tuple(ranks))
    if gang.verdict is not None:
        return gang, actions
    if not gang.link_up:
        if gang.now - gang.link_since > RAY_LOST_S:
            why = "the Ray cluster was lost" if gang.ever_linked else "the Ray cluster could not be joined"
            detail = ": %s" % gang.link_trouble if gang.link_trouble else ""
            gang = _condemn(gang, Outcome(FAILED_DRIVER, None, why + detail))
        return gang, actions
    if gang.now - gang.heard > UNHEARD_S:
        trouble = next((rank.trouble for rank in gang.ranks if rank.trouble), "no answer")
        return _condemn(gang, Outcome(FAILED_DRIVER, None, "no node can be reached through Ray: " + trouble)), actions
    silent = [number for number, rank in enumerate(gang.ranks) if _lost(gang, rank)]
    if silent and len(silent) < len(gang.ranks):
        lost = "node %d was lost" % silent[0] if len(silent) == 1 else "nodes %s were lost" % _listed(silent)
        trouble = gang.ranks[silent[0]].trouble
        actions.append(Say("%s%s" % (lost, " (%s)" % trouble if trouble else "")))
        return _condemn(gang, Outcome(FAILED_DRIVER, None, lost)), actions
    if all(gang.now - rank.heard > (SETTLE_S if _fresh(gang, rank) else DEAF_S) for rank in gang.ranks):
        down = replace(gang, link_up=False, link_since=gang.now, link_trouble="no node answers through it")
        ranks = [replace(rank, call=None) for rank in gang.ranks]
        return replace(down, ranks=tuple(ranks)), [Say("no node answers through Ray; joining it anew"), Relink()]
    if all(rank.stage == ENDED for rank in gang.ranks):
        if gang.phase + 1 == len(gang.phases):
            return replace(gang, verdict=Outcome(SUCCEEDED, 0), stop_by=gang.now), actions
        ranks = [replace(rank, stage=IDLE, call=None, quiet_until=0.0) for rank in gang.ranks]
        gang = replace(gang, phase=gang.phase + 1, ranks=tuple(ranks))
        actions.append(Progress(RUN_STATE[gang.phases[gang.phase]]))
    return gang, actions


def _advance(gang: Gang) -> Tuple[Gang, List[Action]]:
    """Ask each rank the question that is due, or finish."""
    actions: List[Action] = []
    if gang.verdict is not None:
        unsure = _unsure(gang)
        hopeless = all(_lost(gang, gang.ranks[number]) for number in unsure)
        if hopeless or gang.now >= gang.stop_by or _ray_is_gone(gang):
            return replace(gang, finished=True), [Finish(_final(gang, gang.verdict, unsure))]
    if not gang.link_up:
        return gang, actions
    for number, rank in enumerate(gang.ranks):
        what = _question(gang, number, rank)
        if what is None or rank.call is not None or gang.now < rank.quiet_until:
            continue
        call = gang.calls + 1
        patience = CANCEL_ANSWER_S if what == "cancel" else ANSWER_S
        stage = STARTING if what == "start" else rank.stage
        asked = replace(
            rank,
            call=call,
            asks=what,
            overdue=gang.now + patience,
            stage=stage,
            touched=rank.touched or what == "start",
        )
        gang = replace(_with(gang, number, asked), calls=call)
        actions.append(Ask(call, number, what, gang.phases[gang.phase]))
    return gang, actions


def _question(gang: Gang, number: int, rank: Rank) -> Optional[str]:
    if gang.verdict is not None:
        return "cancel" if number in _unsure(gang) else None
    return "start" if rank.stage in (IDLE, STARTING) else "wait"


def _lost(gang: Gang, rank: Rank) -> bool:
    patience = NODE_LOST_S if rank.refused else SETTLE_S if _fresh(gang, rank) else NODE_SILENT_S
    return gang.link_up and gang.now - rank.heard > patience


def _fresh(gang: Gang, rank: Rank) -> bool:
    """Whether the node has not been heard since Ray was joined."""
    return rank.heard <= gang.link_since


def _unsure(gang: Gang) -> List[int]:
    """Ranks where something of the job may still run.

    Never rank 0: a cancel there would end this coordinator too, and what it leaves its agent ends after it.
    """
    if gang.verdict == Outcome(SUCCEEDED, 0):
        return []
    return [number for number, rank in enumerate(gang.ranks) if number and rank.touched and not rank.stopped]


def _ray_is_gone(gang: Gang) -> bool:
    return not gang.link_up and gang.now - gang.link_since > RAY_LOST_S


def _final(gang: Gang, outcome: Outcome, unsure: List[int]) -> Outcome:
    """The outcome with what could not be ended named in its reason."""
    notes = [outcome.reason] if outcome.reason else []
    left = [number for number in unsure if not _lost(gang, gang.ranks[number])]
    if left:
        notes.append("could not reach rank %s to end it; it ends by itself within %d s" % (_listed(left), ABANDON_S))
    for number, rank in enumerate(gang.ranks):
        if rank.survivors:
            notes.append("rank %d: processes %s could not be ended" % (number, _listed(rank.survivors)))
    return replace(outcome, reason="; ".join(notes) or None)


def _with(gang: Gang, number: int, rank: Rank) -> Gang:
    return replace(gang, ranks=(*gang.ranks[:number], rank, *gang.ranks[number + 1 :]))


def _listed(numbers: Any) -> str:
    return ", ".join(str(number) for number in numbers)
