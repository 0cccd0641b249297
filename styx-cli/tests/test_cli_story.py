"""`styx why` in words."""

from datetime import UTC, datetime, timedelta
from typing import Any

from styx.api import Attempt, ClusterState, Event, Story
from styx.driver import Place
from styx_cli.story import step_times, story_text

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def event(second: float, step: str, phase: Any, message: str = "", operation: str = "launch-1") -> Event:
    at = START + timedelta(seconds=second)
    return Event(seq=int(second * 10), cluster="k", operation=operation, step=step, phase=phase, at=at, message=message)


def test_steps_have_their_times_in_the_order_they_began() -> None:
    events = [
        event(0, "create", "started", "2 machines"),
        event(1, "attempt", "started"),
        event(3, "attempt", "failed", "no room"),
        event(4, "attempt", "started"),
        event(9, "attempt", "done"),
        event(9, "create", "done"),
        event(10, "reach", "started"),
    ]
    times = step_times(events)
    assert [(each.step, each.seconds, each.phase) for each in times] == [
        ("create", 9.0, "done"),
        ("attempt", 2.0, "failed"),
        ("attempt", 5.0, "done"),
        ("reach", None, "started"),
    ]
    assert times[0].message == "2 machines"


def test_the_story_tells_attempts_with_the_clouds_own_words() -> None:
    failed = Attempt(
        cluster="k", operation="launch-1", token="t", place=Place(cloud="acme", account="1", region="eu-1"),
        offer={"instance_type": "big"}, count=2, state="failed", started_at=START,
        ended_at=START + timedelta(seconds=4), error="CapacityError", scope="zone", message="no room",
        vendor_code="409", vendor_message="sold out",
    )  # fmt: skip
    story = Story(
        cluster="train", key="k", state=ClusterState.LOST, note="preempted", attempts=(failed,),
        events=(event(0, "create", "started"), event(5, "create", "note", "trying us-1")),
    )  # fmt: skip
    text = story_text(story)
    assert text.startswith("train (k) is LOST: preempted\n")
    assert "acme/eu-1" in text
    assert "CapacityError [zone]: no room (the cloud said: 409 sold out)" in text
    told = failed.model_copy(update={"message": "it says 409: sold out", "vendor_message": "sold out."})
    assert "the cloud said" not in story_text(story.model_copy(update={"attempts": (told,)}))
    assert "did not end" in text
    assert "create: trying us-1" in text
