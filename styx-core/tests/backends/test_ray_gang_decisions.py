"""The coordinator's decisions against a simulated world: agents with real rules, time that is ours, faults at will."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from styx.backends.ray.onnode import gang
from styx.backends.ray.onnode.gang import (
    Ask,
    Finish,
    LinkDown,
    LinkUp,
    Outcome,
    Progress,
    Relink,
    Reply,
    Stop,
    Tick,
    begin,
    step,
)

TICK_S = 0.25
RETURN_S = 2.0
"""How long a link takes to join Ray."""


@dataclass
class Phase:
    begun: float
    takes: float
    exit_code: int


@dataclass
class Agent:
    """A node's agent, as the protocol says it behaves."""

    plan: dict[str, tuple[float, int]]
    dies: float | None = None
    silent_when_dead: bool = False
    phases: dict[str, Phase] = field(default_factory=dict)
    cancelled_at: float | None = None
    begun: list[str] = field(default_factory=list)

    def dead(self, now):
        return self.dies is not None and now >= self.dies

    def running(self, now):
        ends = [phase.begun + phase.takes for phase in self.phases.values()]
        limit = self.cancelled_at if self.cancelled_at is not None else float("inf")
        return not self.dead(now) and any(min(end, limit) > now for end in ends)

    def answer(self, what, phase, now):
        if what == "cancel":
            self.cancelled_at = now if self.cancelled_at is None else self.cancelled_at
            return {"result": {"survivors": []}}
        if what == "start":
            if self.cancelled_at is not None:
                return {"error": "refused", "code": "bad_request", "message": "the job was cancelled"}
            if phase not in self.phases:
                self.phases[phase] = Phase(now, *self.plan[phase])
                self.begun.append(phase)
            return {"result": {}}
        found = self.phases[phase]
        if now < found.begun + found.takes:
            return {"result": {"running": True, "exit_code": None}}
        return {"result": {"running": False, "exit_code": found.exit_code, "reason": None}}


@dataclass
class World:
    """Ranks, and a Ray that may be away between two moments, either noticed at once or not at all."""

    agents: list[Agent]
    outage: tuple[float, float] | None = None
    noticed: bool = True
    latency: float = 0.1
    stop_at: float | None = None
    now: float = 0.0
    linked: bool = False
    sound: bool = False
    """Whether the link was made since Ray last came up; another one reaches nobody."""
    joins_at: float = RETURN_S
    pending: list[tuple[float, Reply]] = field(default_factory=list)
    finished: list[Outcome] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    asks: list[tuple[float, Ask]] = field(default_factory=list)

    def away(self):
        return self.outage is not None and self.outage[0] <= self.now < self.outage[1]

    def run(self, phases, limit_s):
        state, actions = begin(len(self.agents), phases, 0.0)
        self._perform(actions)
        told_stop = False
        while not self.finished and self.now < limit_s:
            self.now += TICK_S
            events: list[gang.Event] = [*self._ray(), Tick()]
            if self.stop_at is not None and not told_stop and self.now >= self.stop_at:
                told_stop = True
                events.append(Stop())
            for event in events + self._due():
                state, actions = step(state, event, self.now)
                self._perform(actions)

    def _ray(self):
        """What happens to the link."""
        if self.away() and self.sound:
            self.sound = False
            self.pending.clear()
            if self.noticed:
                self._unlink()
                return [LinkDown("Ray went away")]
        if self.linked or self.now < self.joins_at:
            return []
        if self.away():
            self._unlink()
            return [LinkDown("it does not answer")]
        self.linked = self.sound = True
        return [LinkUp()]

    def _unlink(self):
        self.linked = self.sound = False
        self.joins_at = self.now + RETURN_S
        self.pending.clear()

    def _due(self):
        due = [reply for when, reply in self.pending if when <= self.now]
        self.pending = [one for one in self.pending if one[0] > self.now]
        return due

    def _perform(self, actions):
        for action in actions:
            assert not self.finished, "acted after it finished"
            if isinstance(action, Finish):
                self.finished.append(action.outcome)
            elif isinstance(action, Progress):
                self.states.append(action.state)
            elif isinstance(action, Relink):
                self._unlink()
            elif isinstance(action, Ask):
                self.asks.append((self.now, action))
                assert self.linked, "asked without a link"
                agent = self.agents[action.rank]
                if not self.sound:
                    continue
                if agent.dead(self.now):
                    if not agent.silent_when_dead:
                        lost = Reply(action.call, error="unreachable", message="connection refused")
                        self.pending.append((self.now + self.latency, lost))
                    continue
                held = gang.POLL_S if action.what == "wait" and agent.running(self.now) else 0.0
                answer = agent.answer(action.what, action.phase, self.now + held)
                self.pending.append((self.now + held + self.latency, Reply(action.call, **answer)))


plans = st.fixed_dictionaries(
    {
        "setup": st.tuples(st.floats(0, 20), st.sampled_from([0, 0, 0, 0, 1, 137])),
        "run": st.tuples(st.floats(0, 60), st.sampled_from([0, 0, 0, 3, 255])),
    }
)
phase_lists = st.sampled_from([("setup", "run"), ("run",), ("setup",)])


@settings(max_examples=100, deadline=None)
@given(
    plan=st.lists(plans, min_size=2, max_size=4),
    phases=phase_lists,
    latency=st.floats(0.01, 1.5),
    outage=st.none() | st.tuples(st.floats(0, 50), st.floats(0.5, 35)),
    noticed=st.booleans(),
)
def test_without_lost_nodes_the_outcome_is_what_the_ranks_did(plan, phases, latency, outage, noticed):
    gone = (outage[0], outage[0] + outage[1]) if outage else None
    world = World([Agent(one) for one in plan], outage=gone, noticed=noticed, latency=latency)
    world.run(phases, limit_s=400)
    (outcome,) = world.finished
    failing = next((phase for phase in phases if any(one[phase][1] for one in plan)), None)
    if failing is None:
        assert outcome == Outcome("SUCCEEDED", 0)
    else:
        assert outcome.state == ("FAILED_SETUP" if failing == "setup" else "FAILED")
        named = int(re.search(r"rank (\d+) exited", outcome.reason).group(1))
        assert outcome.exit_code == plan[named][failing][1] != 0
        assert not any(agent.running(world.now) for agent in world.agents[1:]), outcome
    for agent in world.agents:
        assert agent.begun == [phase for phase in phases if phase in agent.begun]
    if failing == "setup":
        assert all("run" not in agent.begun for agent in world.agents)
    if phases[0] == "setup" and "RUNNING" in world.states:
        run_began = min(agent.phases["run"].begun for agent in world.agents if "run" in agent.phases)
        assert all(run_began >= agent.phases["setup"].begun + agent.phases["setup"].takes for agent in world.agents)


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(2, 5),
    victim=st.integers(1, 4),
    dies=st.floats(3, 40),
    silent=st.booleans(),
    ended_early=st.booleans(),
)
def test_a_lost_node_is_named_in_time_and_the_others_are_ended(size, victim, dies, silent, ended_early):
    victim %= size
    agents = [Agent({"run": (300.0, 0)}) for _ in range(size)]
    if ended_early:
        agents[victim].plan["run"] = (0.5, 0)
    agents[victim].dies, agents[victim].silent_when_dead = dies, silent
    world = World(agents)
    world.run(("run",), limit_s=400)
    (outcome,) = world.finished
    assert outcome == Outcome("FAILED_DRIVER", None, f"node {victim} was lost")
    assert world.now - dies < (gang.NODE_SILENT_S if silent else gang.NODE_LOST_S) + gang.ANSWER_S + 5
    assert not any(agent.running(world.now) for agent in agents[1:])


@settings(max_examples=60, deadline=None)
@given(stop_at=st.floats(0, 30), size=st.integers(2, 4), phases=phase_lists, latency=st.floats(0.01, 1.0))
def test_a_request_to_end_ends_every_rank_in_time(stop_at, size, phases, latency):
    world = World(
        [Agent({"setup": (5.0, 0), "run": (300.0, 0)}) for _ in range(size)], stop_at=stop_at, latency=latency
    )
    world.run(phases, limit_s=400)
    (outcome,) = world.finished
    if phases == ("setup",) and outcome.state == "SUCCEEDED":
        return
    assert outcome == Outcome("CANCELLED")
    assert world.now - stop_at <= gang.STOP_S + 1
    assert not any(agent.running(world.now) for agent in world.agents[1:])
    after = [ask.what for when, ask in world.asks if when > stop_at + TICK_S]
    assert set(after) <= {"cancel"}


@given(dies=st.floats(3, 20))
def test_a_ray_that_stays_away_ends_the_job_and_says_what_may_still_run(dies):
    world = World([Agent({"run": (500.0, 0)}) for _ in range(3)], outage=(dies, 1000.0))
    world.run(("run",), limit_s=400)
    (outcome,) = world.finished
    assert outcome.state == "FAILED_DRIVER"
    assert outcome.reason.startswith("the Ray cluster was lost: ")
    assert "could not reach rank 1, 2 to end it" in outcome.reason
    assert gang.RAY_LOST_S <= world.now - dies < gang.RAY_LOST_S + 5
    assert gang.ABANDON_S > gang.RAY_LOST_S + 10  # an agent must not end a rank whose coordinator may still return


def test_a_ray_that_cannot_be_joined_starts_nothing():
    world = World([Agent({"run": (5.0, 0)}) for _ in range(2)], outage=(0.0, 1000.0))
    world.run(("run",), limit_s=200)
    (outcome,) = world.finished
    assert outcome == Outcome("FAILED_DRIVER", None, "the Ray cluster could not be joined: it does not answer")
    assert world.asks == []


def test_a_ray_through_which_nobody_is_ever_reached_does_not_hold_the_job_for_ever():
    agents = [Agent({"run": (5.0, 0)}, dies=0.0, silent_when_dead=True) for _ in range(3)]
    world = World(agents)
    world.run(("run",), limit_s=1000)
    (outcome,) = world.finished
    assert outcome.state == "FAILED_DRIVER"
    assert outcome.reason.startswith("no node can be reached through Ray: no answer to `start`")
    assert world.now < gang.UNHEARD_S + gang.STOP_S + gang.SETTLE_S


def test_a_job_without_phases_has_succeeded():
    _, actions = begin(3, (), 0.0)
    assert actions == [Finish(Outcome("SUCCEEDED", 0))]


def drive(events):
    """Two ranks that run; feed `events` (functions of the open calls) and return the last actions."""
    state, _ = begin(2, ("run",), 0.0)
    state, asked = step(state, LinkUp(), 1.0)
    for ask in [one for one in asked if isinstance(one, Ask)]:
        state, _ = step(state, Reply(ask.call, {}), 1.1)
    now, actions = 1.2, []
    for event in events:
        state, actions = step(state, event(state), now)
        now += 0.1
    return state, actions


def test_a_full_disk_is_the_jobs_failure_and_a_killed_runner_the_drivers():
    for reason, expected in (("disk full: no space left", "FAILED"), ("its runner was killed", "FAILED_DRIVER")):
        ended = {"running": False, "exit_code": None, "reason": reason}
        state, _ = drive([lambda gang_, ended=ended: Reply(gang_.ranks[1].call, ended)])
        assert state.verdict == Outcome(expected, None, f"rank 1: {reason}")


def test_what_an_agent_refuses_ends_the_job_with_its_words():
    state, _ = drive(
        [lambda gang_: Reply(gang_.ranks[1].call, error="refused", code="not_found", message="no such job")]
    )
    assert state.verdict == Outcome("FAILED_DRIVER", None, "rank 1: no such job")


def test_survivors_of_a_cancel_are_named():
    state, actions = drive(
        [
            lambda gang_: Reply(gang_.ranks[0].call, {"running": False, "exit_code": 9}),
            lambda gang_: Reply(gang_.ranks[1].call, {"survivors": [41, 42]}),
        ]
    )
    assert state.finished
    (finish,) = [action for action in actions if isinstance(action, Finish)]
    assert finish.outcome.state == "FAILED"
    assert finish.outcome.reason == (
        "rank 0 exited with code 9; others stopped; rank 1: processes 41, 42 could not be ended"
    )


def asked(actions):
    return {action.rank: action for action in actions if isinstance(action, Ask)}


def test_a_start_whose_answer_was_lost_is_asked_again():
    state, _ = begin(2, ("run",), 0.0)
    state, first = step(state, LinkUp(), 1.0)
    state, _ = step(state, Reply(asked(first)[0].call, error="unreachable", message="?"), 1.1)
    state, again = step(state, Tick(), 1.1 + gang.RETRY_S)
    assert asked(again)[0].what == "start"
    state, late = step(state, Tick(), 1.0 + gang.ANSWER_S)
    assert asked(late)[1].what == "start"


def test_a_cancel_never_overtakes_a_start():
    state, _ = begin(3, ("run",), 0.0)
    state, first = step(state, LinkUp(), 1.0)
    calls = asked(first)
    for rank in (0, 1):
        state, actions = step(state, Reply(calls[rank].call, {}), 1.1)
    failed = {"running": False, "exit_code": 5, "reason": None}
    state, actions = step(state, Reply(asked(actions)[1].call, failed), 1.2)
    assert {rank: ask.what for rank, ask in asked(actions).items()} == {1: "cancel"}
    state, actions = step(state, Reply(calls[2].call, {}), 1.3)
    assert {rank: ask.what for rank, ask in asked(actions).items()} == {2: "cancel"}


def test_the_first_verdict_stays():
    state, _ = drive(
        [
            lambda gang_: Reply(gang_.ranks[1].call, {"running": False, "exit_code": 9}),
            lambda gang_: Stop(),
        ]
    )
    assert (state.verdict.state, state.verdict.exit_code) == ("FAILED", 9)
