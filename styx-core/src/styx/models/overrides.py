"""Task options of the command line, applied to a task that was read; and tasks made from a command alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any, Final

from styx.errors import Fault, InvalidInput, UsageError
from styx.models.base import Problem
from styx.models.environment import environment, secret_environment
from styx.models.faults import validate_plain
from styx.models.infra import Infra, canonical_cloud
from styx.models.resources import OldPlace, Resources
from styx.models.task import Task
from styx.models.variables import Variables

_PLACE: Final = ("cloud", "region", "zone")
_RESOURCE_FLAGS: Final[Mapping[str, str]] = {
    "infra": "--infra",
    "cpus": "--cpus",
    "memory": "--memory",
    "disk_size": "--disk-size",
    "disk_tier": "--disk-tier",
    "network_tier": "--network-tier",
    "local_disk": "--local-disk",
    "use_spot": "--use-spot",
    "image_id": "--image-id",
    "accelerators": "--gpus",
    "instance_type": "--instance-type",
    "ports": "--ports",
    "autostop": "--idle-minutes-to-autostop",
    "max_hourly_cost": "--max-hourly-cost",
}
_TASK_FLAGS: Final[Mapping[str, str]] = {"name": "--name", "workdir": "--workdir", "num_nodes": "--num-nodes"}


@dataclass(frozen=True)
class Overrides:
    """Task options as they were typed; None means not given."""

    name: str | None = None
    workdir: str | None = None
    num_nodes: int | str | None = None
    infra: str | None = None
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    cpus: str | None = None
    memory: str | None = None
    disk_size: int | str | None = None
    disk_tier: str | None = None
    network_tier: str | None = None
    local_disk: str | None = None
    use_spot: bool | None = None
    image_id: str | None = None
    gpus: str | None = None
    instance_type: str | None = None
    ports: Sequence[str] = ()
    git_url: str | None = None
    git_ref: str | None = None
    autostop: Any = None
    max_hourly_cost: float | str | None = None

    def is_empty(self) -> bool:
        """Whether nothing was given."""
        return all(getattr(self, each.name) in (None, ()) for each in fields(self))


def is_task_file(entrypoint: Sequence[str]) -> bool:
    """Whether the words after the verb name a YAML file rather than a command to run."""
    return len(entrypoint) == 1 and PurePath(entrypoint[0].strip()).suffix.lower() in (".yaml", ".yml")


def task_from_command(command: str | Sequence[str], variables: Variables | None = None) -> Task:
    """A task that runs one command.

    Raises:
        UsageError: The command is empty.
    """
    text = command if isinstance(command, str) else " ".join(command)
    if not text.strip():
        raise UsageError("the command to run is empty", hint="give a task file, or a command in quotes")
    if "\0" in text:
        raise UsageError("the command holds a zero byte, which no shell can run")
    return with_variables(Task(run=text), variables or Variables())


def with_variables(task: Task, variables: Variables) -> Task:
    """A task that was not read from a file, with the command line's variables."""
    if not variables.env and not variables.secrets:
        return task
    hidden = {**task.secret_values(), **{k: v for k, v in variables.env.items() if k in task.secrets}}
    hidden |= variables.secrets
    envs = {k: v for k, v in {**task.envs, **variables.env}.items() if k not in hidden}
    secrets = {**task.secrets, **secret_environment(hidden)}
    return task.model_copy(update={"envs": environment(envs), "secrets": secrets})


def apply_overrides(task: Task, overrides: Overrides) -> Task:
    """The task with the command line's options; they hold for every alternative of `any_of` and `ordered`.

    Raises:
        UsageError: An option is wrong; the message has one line for each, and names the flag.
    """
    if overrides.is_empty():
        return task
    faults: list[Fault] = []
    update: dict[str, Any] = {}
    for key, value in _task_options(task, overrides, faults).items():
        checked = _checked(Task, {key: value}, _TASK_FLAGS, faults)
        if checked is not None:
            update[key] = getattr(checked, key)
    options = _resource_options(task.resources, overrides, faults)
    _checked(Resources, {key: value for key, value in options.items() if value is not None}, _RESOURCE_FLAGS, faults)
    if not faults and options:
        update["resources"] = _merge(task.resources, options)
    if faults:
        raise UsageError("\n".join(map(str, faults)))
    return task.model_copy(update=update)


def _task_options(task: Task, overrides: Overrides, faults: list[Fault]) -> dict[str, Any]:
    options: dict[str, Any] = {
        key: getattr(overrides, key) for key in ("name", "workdir", "num_nodes") if getattr(overrides, key) is not None
    }
    if overrides.git_url is None and overrides.git_ref is None:
        return options
    if overrides.workdir is not None:
        faults.append(Fault("cannot stand beside --workdir", field="--git-url", suggestion="keep one of the two"))
        return options
    url = overrides.git_url or getattr(task.workdir, "url", None)
    if url is None:
        faults.append(Fault("needs a repository", field="--git-ref", suggestion="add --git-url"))
        return options
    options["workdir"] = {"url": url, "ref": overrides.git_ref or None}
    return options


def _resource_options(resources: Resources, overrides: Overrides, faults: list[Fault]) -> dict[str, Any]:
    """Changed fields of `resources`; None clears one."""
    options: dict[str, Any] = {
        key: getattr(overrides, key)
        for key in _RESOURCE_FLAGS
        if key not in ("infra", "accelerators", "ports") and getattr(overrides, key, None) is not None
    }
    if overrides.gpus is not None:
        options["accelerators"] = None if overrides.gpus.strip().lower() == "none" else overrides.gpus
    if overrides.ports:
        options["ports"] = list(overrides.ports)
    old = {key: getattr(overrides, key) for key in _PLACE if getattr(overrides, key) is not None}
    if overrides.infra is not None and old:
        names = " and ".join(f"--{key}" for key in old)
        faults.append(Fault(f"cannot stand beside {names}", field="--infra", suggestion="keep --infra"))
    elif overrides.infra is not None:
        options["infra"] = None if overrides.infra.strip().lower() == "none" else overrides.infra
    elif old:
        try:
            options["infra"] = _changed_place(resources, old)
        except Problem as problem:
            key = problem.at[0] if problem.at else "cloud"
            faults.append(Fault(problem.message, field=f"--{key}", suggestion=problem.suggestion))
    return options


def _changed_place(resources: Resources, old: Mapping[str, str]) -> Infra | None:
    """A place with some parts replaced; another cloud forgets the region and zone of the one before."""
    place: dict[str, str | None] = {key: getattr(resources.infra, key, None) for key in _PLACE}
    if "cloud" in old and canonical_cloud(old["cloud"]) != place.get("cloud"):
        place = {}
    if "region" in old:
        place.pop("zone", None)
    for key, value in old.items():
        word = value.strip()
        place[key] = None if word.lower() in ("none", "*", "") else canonical_cloud(word) if key == "cloud" else word
    kept = {key: value for key, value in place.items() if value is not None}
    return OldPlace(kept).as_infra() if kept else None


def _checked(model: Any, data: dict[str, Any], flags: Mapping[str, str], faults: list[Fault]) -> Any:
    try:
        return validate_plain(model, data)
    except InvalidInput as error:
        for fault in error.faults:
            key = (fault.field or "").split(".")[0].split("[")[0]
            shown = fault.value if not isinstance(data.get(key), list) else None
            faults.append(
                Fault(fault.message, field=flags.get(key, f"--{key}"), value=shown, suggestion=fault.suggestion)
            )
        return None


def _merge(resources: Resources, options: Mapping[str, Any]) -> Resources:
    """The resources with fields replaced in the base, and removed from the alternatives so that the base holds."""
    data = resources.model_dump(mode="json")
    data.update({key: value for key, value in options.items() if value is not None})
    for key, value in options.items():
        if value is None:
            data.pop(key, None)
    for kind in ("any_of", "ordered"):
        variants: list[dict[str, Any]] = []
        for variant in data.get(kind) or ():
            kept = {key: value for key, value in variant.items() if key not in options}
            if kept not in variants:
                variants.append(kept)
        if variants and variants != [{}]:
            data[kind] = variants
        else:
            data.pop(kind, None)
    return Resources.model_validate(data)
