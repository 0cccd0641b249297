"""Several tasks in one file: pipelines (in order) and job groups (together)."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, field_validator, model_validator

from styx.models.base import Model, Problem, Problems, collect
from styx.models.scalars import Flag, choice, duration_s
from styx.models.task import Task, check_name

HEADER_KEYS: Final = frozenset({"name", "execution", "primary_tasks", "termination_delay", "inter_connection"})
DEFAULT_DELAY_KEY: Final = "default"


class Pipeline(Model):
    """Tasks run one after the other, each on a cluster of its own."""

    name: Annotated[str, BeforeValidator(check_name)] | None = None
    """The pipeline's name."""
    execution: Annotated[Literal["serial"], BeforeValidator(choice(("serial",)))] = "serial"
    """Always serial."""
    tasks: tuple[Task, ...]
    """The tasks, in order."""


class JobGroup(Model):
    """Tasks started together; when all primary ones have ended, the others are stopped."""

    name: Annotated[str, BeforeValidator(check_name)]
    """The group's name."""
    execution: Annotated[Literal["parallel"], BeforeValidator(choice(("parallel",)))]
    """Always parallel."""
    primary_tasks: tuple[str, ...] | None = None
    """Names of the tasks whose end ends the group; all of them when unset."""
    termination_delay: Any = None
    """Time the other tasks get after the last primary one ended: a duration, or a map by task with `default`."""
    inter_connection: Flag = True
    """Whether the tasks are placed together and can reach each other by name."""
    tasks: tuple[Task, ...]
    """The tasks, each with a name of its own."""

    @field_validator("primary_tasks", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Problem("must be a list of task names")
        return tuple(collect(enumerate(value), check_name).values())

    @field_validator("termination_delay", mode="before")
    @classmethod
    def _durations(cls, value: Any) -> Any:
        seconds = duration_s()
        if isinstance(value, dict):
            return collect(value.items(), seconds)
        return seconds(value)

    @model_validator(mode="after")
    def _names_fit(self) -> JobGroup:
        names = [task.name for task in self.tasks]
        problems = [
            Problem("needs a name, as it is part of a job group", at=("tasks", index))
            for index, name in enumerate(names)
            if name is None
        ]
        problems += [
            Problem(f"has the same name as task {names.index(name) + 1} of the group", at=("tasks", index, "name"))
            for index, name in enumerate(names)
            if name is not None and names.index(name) != index
        ]
        known = {name for name in names if name is not None}
        problems += [
            Problem("is not the name of a task of the group", at=("primary_tasks", index), suggestion=_list(known))
            for index, name in enumerate(self.primary_tasks or ())
            if name not in known
        ]
        if isinstance(self.termination_delay, dict):
            problems += [
                Problem(
                    "is not the name of a task of the group", at=("termination_delay", name), suggestion=_list(known)
                )
                for name in self.termination_delay
                if name not in known | {DEFAULT_DELAY_KEY}
            ]
        if problems:
            raise Problems(problems)
        return self

    def termination_delay_s(self, task_name: str) -> float:
        """Seconds that a task gets after the last primary one ended."""
        delay = self.termination_delay
        if isinstance(delay, dict):
            return float(delay.get(task_name, delay.get(DEFAULT_DELAY_KEY, 0)) or 0)
        return float(delay or 0)


def _list(names: set[str]) -> str | None:
    return f"its tasks are {', '.join(sorted(names))}" if names else None
