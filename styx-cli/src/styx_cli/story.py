"""What happened to a cluster, in words: for `styx why`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from styx_cli.render import clock, elapsed, table

if TYPE_CHECKING:
    from styx.api import Attempt, Event, Story


class StepTime(NamedTuple):
    """One step of one operation."""

    operation: str
    step: str
    started_at: datetime
    seconds: float | None
    """None when it never ended: the client died, or it is under way."""
    phase: str
    """done, failed, or started."""
    message: str


def step_times(events: Sequence[Event]) -> list[StepTime]:
    """The steps of every operation, in the order in which they began."""
    begun: dict[tuple[str, str], Event] = {}
    order: list[StepTime] = []
    for event in sorted(events, key=lambda each: (each.at, each.seq)):
        key = (event.operation, event.step)
        if event.phase == "started":
            if key in begun:
                order.append(_unended(begun[key]))
            begun[key] = event
        elif event.phase in ("done", "failed"):
            start = begun.pop(key, event)
            took = (event.at - start.at).total_seconds()
            order.append(
                StepTime(event.operation, event.step, start.at, took, event.phase, event.message or start.message)
            )
    order += [_unended(event) for event in begun.values()]
    return sorted(order, key=lambda each: each.started_at)


def story_text(story: Story) -> str:
    """The whole story: state, attempts with their reasons, steps with their times, notes."""
    head = f"{story.cluster} ({story.key}) is {story.state.value}"
    parts = [f"{head}: {story.note}\n" if story.note else f"{head}\n"]
    if story.attempts:
        parts.append("Attempts:\n" + _indent(_attempts(story.attempts)))
    steps = step_times(story.events)
    by_operation: dict[str, list[StepTime]] = {}
    for step in steps:
        by_operation.setdefault(step.operation, []).append(step)
    for operation, its_steps in by_operation.items():
        rows = [[step.step, _took(step), _outcome(step)] for step in its_steps]
        title = f"{operation} at {clock(its_steps[0].started_at)}:\n"
        parts.append(title + _indent(table(("STEP", "TIME", ""), rows, right=("TIME",))))
    notes = [event for event in story.events if event.phase == "note" and event.message]
    if notes:
        parts.append(
            "Notes:\n" + _indent("\n".join(f"{clock(note.at)}  {note.step}: {note.message}" for note in notes))
        )
    return "\n".join(parts)


def _attempts(attempts: Sequence[Attempt]) -> str:
    rows = []
    for number, attempt in enumerate(attempts, start=1):
        took = elapsed((attempt.ended_at - attempt.started_at).total_seconds()) if attempt.ended_at else "-"
        what = str(attempt.offer.get("instance_type") or "-")
        rows.append([str(number), str(attempt.place), what, str(attempt.count), attempt.state, took, _reason(attempt)])
    return table(("#", "PLACE", "INSTANCE", "NODES", "RESULT", "TIME", "REASON"), rows, right=("#", "NODES", "TIME"))


def _reason(attempt: Attempt) -> str:
    if not attempt.error:
        return "-"
    told = attempt.message or ""
    parts = (attempt.vendor_code, attempt.vendor_message)
    said = " ".join(part for part in parts if part and part.rstrip(".") not in told)
    scope = f" [{attempt.scope}]" if attempt.scope else ""
    cloud = f" (the cloud said: {said})" if said else ""
    return f"{attempt.error}{scope}: {told}{cloud}"


def _took(step: StepTime) -> str:
    return "?" if step.seconds is None else elapsed(step.seconds)


def _outcome(step: StepTime) -> str:
    if step.phase == "started":
        return "did not end" + (f": {step.message}" if step.message else "")
    if step.phase == "failed":
        return f"failed: {step.message}"
    return step.message


def _unended(event: Event) -> StepTime:
    return StepTime(event.operation, event.step, event.at, None, "started", event.message)


def _indent(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
