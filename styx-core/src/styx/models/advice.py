"""What is worth saying about a task that is valid: unknown clouds, missing plugins, odd names, old keys."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from styx.errors import Fault
from styx.models.accelerators import accelerator_suggestion, is_known_accelerator
from styx.models.base import Problem
from styx.models.infra import KNOWN_CLOUDS, canonical_cloud, cloud_suggestion
from styx.models.resources import Resources
from styx.models.task import Task
from styx.models.yamlnodes import Document, Location


@dataclass(frozen=True)
class Advice:
    """Faults that only the whole task shows, and warnings."""

    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def advise(task: Task, document: Document, installed_clouds: Collection[str] | None) -> Advice:
    """Everything to say about a task that its models accepted."""
    faults: list[Fault] = []
    warnings: list[Fault] = []
    for loc, resources in _resources(task):
        place, problem, is_fault = _cloud(resources, installed_clouds)
        if problem is not None:
            (faults if is_fault else warnings).append(document.fault((*loc, place), problem))
        warnings += [document.fault(at, problem) for at, problem in _accelerators(loc, resources)]
        warnings += [document.fault(at, problem) for at, problem in _deprecated(loc, resources, document)]
    return Advice(tuple(faults), tuple(warnings))


def _resources(task: Task) -> Iterator[tuple[Location, Resources]]:
    yield ("resources",), task.resources
    for key, variants in (("any_of", task.resources.any_of), ("ordered", task.resources.ordered)):
        for index, variant in enumerate(variants or ()):
            yield ("resources", key, index), variant


def _cloud(resources: Resources, installed: Collection[str] | None) -> tuple[str, Problem | None, bool]:
    """The key to point at, what to say about the cloud, and whether it is a fault."""
    cloud = resources.infra.cloud if resources.infra else None
    if cloud is None or (installed is not None and cloud in {canonical_cloud(name) for name in installed}):
        return "infra", None, False
    if cloud in KNOWN_CLOUDS:
        if installed is None:
            return "infra", None, False
        message = f'names the cloud "{cloud}", whose plugin is not installed'
        return "infra", Problem(message, suggestion=f"install styx-{cloud} before launching"), False
    near = cloud_suggestion(cloud)
    if near is not None:
        return "infra", Problem(f'names the unknown cloud "{cloud}"', suggestion=near), True
    message = f'names the cloud "{cloud}", which no installed plugin provides'
    return "infra", Problem(message, suggestion="check the name, or install the plugin that provides it"), False


def _accelerators(loc: Location, resources: Resources) -> Iterator[tuple[Location, Problem]]:
    ordered = resources.accelerators is not None and resources.accelerators.ordered
    for index, option in enumerate(resources.accelerators.options if resources.accelerators else ()):
        if option.name is not None and not is_known_accelerator(option.name):
            at = (*loc, "accelerators", *((index,) if ordered else ()))
            yield (
                at,
                Problem(
                    f'names the accelerator "{option.name}", which is not a usual name',
                    suggestion=accelerator_suggestion(option.name),
                ),
            )


def _deprecated(loc: Location, resources: Resources, document: Document) -> Iterator[tuple[Location, Problem]]:
    if document.has((*loc, "ephemeral_storage")):
        yield (*loc, "ephemeral_storage"), Problem("is an old name", suggestion='write "disk_size"')
    if resources.autostop is not None and resources.autostop.hook is not None:
        yield (*loc, "autostop", "hook"), Problem("is an old way", suggestion='write it under "config.hooks"')
