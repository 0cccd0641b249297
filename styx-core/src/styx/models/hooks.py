"""Lifecycle hooks of a cluster (`config.hooks`)."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, field_validator

from styx.models.base import Model, Problem, collect
from styx.models.scalars import Text, choice, whole

HOOK_EVENTS: Final = ("stop", "preemption", "down")
MAX_HOOKS: Final = 32
MAX_HOOK_BYTES: Final = 16 * 1024


class Hook(Model):
    """A script that runs on the head node before something happens to the cluster."""

    run: Text
    """The script, at most 16 KiB; it sees the event as $SKYPILOT_HOOK_EVENT and $STYX_HOOK_EVENT."""
    events: tuple[str, ...] = HOOK_EVENTS
    """The events it runs before: stop, preemption, down; all of them when unset."""
    timeout: Annotated[int, BeforeValidator(whole(at_least=1, unit="seconds"))] = 3600
    """Seconds it may take."""

    @field_validator("run")
    @classmethod
    def _short_enough(cls, value: str) -> str:
        if not value.strip():
            raise Problem("must not be empty")
        if len(value.encode("utf-8", "replace")) > MAX_HOOK_BYTES:
            raise Problem("must be at most 16 KiB", suggestion="put the script in workdir and call it")
        return value

    @field_validator("events", mode="before")
    @classmethod
    def _known_events(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Problem("must be a list of events: stop, preemption, down")
        events = collect(enumerate(value), choice(HOOK_EVENTS)).values()
        if not events:
            raise Problem("is an empty list", suggestion="leave the key out for all events")
        return tuple(dict.fromkeys(events))
