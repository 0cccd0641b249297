"""What the nodes of a cluster say when they are asked, beside what their cloud says of them.

The cloud knows what exists and is charged; whether a machine can be reached only the machine can show. So a node that
its cloud calls running is UNREACHABLE while its agent does not answer, and running again as soon as it does.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from styx.driver import Node, NodeState
from styx.errors import StyxError
from styx.parallel import within
from styx.provision import nodeup, notices
from styx.provision.claim import Claim
from styx.provision.world import World
from styx.state.rows import ClusterRow, Event

STEP: Final = "answer"
"""Of events that say which nodes do not answer, and since when."""
ASK_S: Final = 20.0
"""How long nodes are waited for; a machine that is off takes 15 s to say nothing."""
SAY_S: Final = 5.0
"""How long an agent may take over one answer."""
ALIVE: Final = frozenset({NodeState.RUNNING, NodeState.UNREACHABLE})
"""What clouds call machines that may answer."""


@dataclass(frozen=True)
class Answer:
    """What came of asking one node.

    Attributes:
        rank: The node.
        silence: Why it did not answer; None when it did.
        notice_at: When it heard that its cloud will take it away, in Unix seconds.
        lease: As `lease.get` of the agent protocol; empty when none is set.
    """

    rank: int
    silence: str | None = None
    notice_at: float | None = None
    lease: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Heard:
    """A cluster's nodes, with what they said laid over what their cloud says.

    Attributes:
        silent: By rank, since when it has not answered, in Unix seconds.
        note: In words; None when all answer.
    """

    nodes: tuple[Node, ...]
    silent: Mapping[int, float]
    note: str | None = None


def hear(world: World, nodes: Sequence[Node]) -> tuple[Answer, ...]:
    """Ask all nodes at the same time, for `ASK_S` at most. Never raises."""
    asked = [node for node in nodes if node.state in ALIVE and node.reach is not None]
    found = within(lambda node: _ask(world, node), asked, ASK_S)
    late = f"no answer within {ASK_S:g} s"
    return tuple(each or Answer(node.rank, late) for node, each in zip(asked, found, strict=True))


def _ask(world: World, node: Node) -> Answer:
    try:
        with contextlib.closing(nodeup.connect(world, node, deadline_s=0.0)) as up:
            info = up.agent.call("node.info", {}, timeout_s=SAY_S)
            lease = up.agent.call("lease.get", {}, timeout_s=SAY_S)
            return Answer(node.rank, notice_at=info.get("notice_at"), lease=lease)
    except StyxError as error:
        return Answer(node.rank, error.message.partition("\n")[0])
    except Exception as error:  # noqa: BLE001 - the wall around a thread; what it says is shown
        return Answer(node.rank, f"{type(error).__name__}: {error}")


def merged(nodes: Iterable[Node], answers: Iterable[Answer], before: Mapping[int, float], now: float) -> Heard:
    """What the cloud says and what the nodes said, as one: the nodes decide who can be reached.

    Args:
        nodes: As their cloud lists them.
        answers: Of those that were asked.
        before: Ranks that did not answer when they were last asked, and since when. Who is not asked stays so.
        now: Unix seconds.
    """
    asked = {answer.rank: answer for answer in answers}
    shown, silent = [], {}
    for node in nodes:
        answer = asked.get(node.rank)
        if node.state not in ALIVE or (answer is None and node.rank not in before):
            shown.append(node)
        elif answer is None or answer.silence is not None:
            silent[node.rank] = before.get(node.rank, now)
            shown.append(node.model_copy(update={"state": NodeState.UNREACHABLE}))
        else:
            shown.append(node.model_copy(update={"state": NodeState.RUNNING}))
    return Heard(tuple(shown), silent, _words(silent, asked))


def _words(silent: Mapping[int, float], asked: Mapping[int, Answer]) -> str | None:
    told = []
    for rank, since in sorted(silent.items()):
        when = datetime.fromtimestamp(since, UTC)
        why = f": {asked[rank].silence}" if rank in asked else ""
        told.append(f"node {rank} has not answered since {when:%Y-%m-%d %H:%M:%S} UTC{why}")
    more = f"; and {len(told) - 3} more nodes" if len(told) > 3 else ""
    return "; ".join(told[:3]) + more if told else None


def silent_of(events: Iterable[Event]) -> dict[int, float]:
    """Ranks that did not answer when they were last asked, and since when."""
    last = next((event for event in reversed(list(events)) if event.step == STEP), None)
    return {int(rank): float(since) for rank, since in (last.data.get("silent") or {}).items()} if last else {}


def put_on_record(world: World, row: ClusterRow, heard: Heard, before: Mapping[int, float]) -> None:
    """Write down who fell silent and who answers again; nothing when that is as before."""
    if dict(heard.silent) == dict(before):
        return
    words = heard.note or "all nodes answer again"
    silent = {str(rank): since for rank, since in heard.silent.items()}
    world.tell(row.key, f"{STEP}-{uuid.uuid4().hex[:12]}", STEP, "note", words, silent=silent)


def all_answer(claim: Claim) -> dict[str, Any]:
    """What to write of a cluster all of whose nodes have just answered: nothing, unless some had not."""
    world, row = claim.world, claim.row()
    if not any(node.state is NodeState.UNREACHABLE for node in row.nodes):
        return {}
    heard = merged(row.nodes, [Answer(node.rank) for node in row.nodes], {}, world.timestamp())
    put_on_record(world, row, heard, silent_of(world.store.events(row.key)))
    return {"nodes": heard.nodes}


def with_notices(world: World, row: ClusterRow, answers: Iterable[Answer]) -> ClusterRow:
    """The row, with a note when a node has heard that its cloud will take it away."""
    told = [notices.note(world, row, answer.rank, answer.notice_at) for answer in answers]
    words = "; ".join(each for each in told if each)
    return row.model_copy(update={"note": words}) if words else row
