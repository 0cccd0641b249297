"""Reading task files: one task, a pipeline, or a job group.

`read_task_file` and `read_text` are the only doors. They report every fault of a file at once, with its line, and they
look at nothing but the text given: no network, no catalog, no check that local paths exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from yaml.nodes import MappingNode

from styx.errors import Fault, InvalidInput, NotExecutable
from styx.models.advice import advise
from styx.models.base import Problem
from styx.models.dag import HEADER_KEYS, JobGroup, Pipeline
from styx.models.environment import ENV_NAME, apart, substitute
from styx.models.faults import faults_of
from styx.models.storage import VolumeSpec
from styx.models.suggest import closest
from styx.models.task import SUBSTITUTED_FIELDS, Task
from styx.models.textfile import read_text_file
from styx.models.yamlnodes import Document as YamlDocument
from styx.models.yamlnodes import Location, Spot, compose

VERBATIM_KEYS: Final = frozenset({"envs", "secrets", "labels", "headers"})
"""Below these, `1.10` stays `1.10`: the values are text, whatever YAML would make of them."""

OLD_KEYS: Final = {"accelerators": "gpus", "disk_size": "ephemeral_storage", "infra": "cloud"}
"""Where to look for a field that the task wrote under its other name."""


@dataclass(frozen=True)
class Document:
    """What a task file says, and what is worth knowing about it although nothing is wrong."""

    root: Task | Pipeline | JobGroup
    """The task, or the tasks with what binds them."""
    warnings: tuple[Fault, ...] = field(default=())
    """Things to tell on stderr: deprecated keys, clouds without a plugin, unusual accelerators."""
    file: str | None = None
    """Where it was read from."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks, in order."""
        return (self.root,) if isinstance(self.root, Task) else self.root.tasks

    @property
    def name(self) -> str | None:
        """The name of the task, pipeline or group."""
        return self.root.name

    def single_task(self) -> Task:
        """The only task.

        Raises:
            NotExecutable: There are several.
        """
        if len(self.tasks) == 1:
            return self.tasks[0]
        kind = "a job group" if isinstance(self.root, JobGroup) else "a pipeline"
        raise NotExecutable(
            f"{self.file or 'the file'} is {kind} of {len(self.tasks)} tasks, which this release does not execute",
            hint="launch its tasks one by one, each from a file of its own",
        )


def read_task_file(
    path: str | Path,
    *,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    installed_clouds: Collection[str] | None = None,
) -> Document:
    """The task, pipeline or job group in a YAML file.

    Args:
        path: The file.
        env: Values from `--env` and `--env-file`: they fill nulls, replace what the file says, and add to it. A name
            that the file has under `secrets` stays a secret.
        secrets: Values from `--secret` and `--secret-file`, likewise.
        installed_clouds: Names of clouds that have a plugin, to warn about others; None to say nothing about plugins.

    Raises:
        InvalidInput: With every fault of the file.
    """
    text = read_text_file(path)
    return read_text(text, file=str(path), env=env, secrets=secrets, installed_clouds=installed_clouds)


def read_text(
    text: str,
    *,
    file: str | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    installed_clouds: Collection[str] | None = None,
) -> Document:
    """The same as `read_task_file`, for a text."""
    documents = [_mapping_document(node, file) for node in compose(text, file)]
    if not documents:
        raise InvalidInput([Fault("the file is empty", file=file, suggestion="write at least a run script")])
    header = documents[0] if _is_header(documents[0].data, alone=len(documents) == 1) else None
    bodies = documents[1:] if header else documents
    readings = [_read_task(body, env or {}, secrets or {}, installed_clouds) for body in bodies]
    faults = [*(header.faults if header else ()), *(fault for reading in readings for fault in reading.faults)]
    warnings = tuple(warning for reading in readings for warning in reading.warnings)
    tasks = tuple(reading.task for reading in readings if reading.task is not None)
    root: Task | Pipeline | JobGroup | None = None
    if header is not None or len(bodies) > 1:
        root, header_faults = _bind(header, bodies, tasks)
        faults += header_faults
    elif tasks:
        root = tasks[0]
    if faults or root is None:
        raise InvalidInput(sorted(faults, key=lambda fault: fault.line or 0))
    return Document(root=root, warnings=warnings, file=file)


def read_volume_file(path: str | Path) -> VolumeSpec:
    """The volume in a volume file.

    Raises:
        InvalidInput: With every fault of the file.
    """
    return read_volume_text(read_text_file(path), file=str(path))


def read_volume_text(text: str, *, file: str | None = None) -> VolumeSpec:
    """The same as `read_volume_file`, for a text."""
    documents = [_mapping_document(node, file) for node in compose(text, file)]
    if len(documents) != 1:
        raise InvalidInput([Fault(f"a volume file holds one document, not {len(documents)}", file=file)])
    document = documents[0]
    try:
        spec = VolumeSpec.model_validate(document.data)
    except ValidationError as error:
        raise InvalidInput([*document.faults, *faults_of(error, VolumeSpec, document)]) from None
    if document.faults:
        raise InvalidInput(document.faults)
    return spec


@dataclass(frozen=True)
class _Reading:
    task: Task | None
    faults: Sequence[Fault]
    warnings: Sequence[Fault] = ()


def _mapping_document(node: Any, file: str | None) -> YamlDocument:
    if not isinstance(node, MappingNode):
        line = node.start_mark.line + 1
        message = "the file must be a mapping of keys such as run, setup and resources"
        raise InvalidInput([Fault(message, file=file, line=line, suggestion="write keys, such as run: CMD")])
    document = YamlDocument(node, file, verbatim=VERBATIM_KEYS)
    document.aliases.update(OLD_KEYS)
    return document


def _is_header(data: Mapping[str, Any], *, alone: bool) -> bool:
    """Whether a document only names and binds the tasks after it."""
    if alone:
        return bool(data.keys() & (HEADER_KEYS - {"name"})) and not data.keys() - HEADER_KEYS
    known = Task.known_keys() - HEADER_KEYS
    return all(
        key in HEADER_KEYS or (key not in known and closest(key, HEADER_KEYS) and not closest(key, known))
        for key in data
    )


def _read_task(
    document: YamlDocument,
    env: Mapping[str, str],
    secrets: Mapping[str, str],
    installed_clouds: Collection[str] | None,
) -> _Reading:
    faults = list(document.faults)
    data = apart(document.data)
    faults += _fill(document, data, env, secrets)
    _substitute(document, data)
    try:
        task = Task.model_validate(data)
    except ValidationError as error:
        told = {(fault.line, fault.field) for fault in faults}
        found = faults_of(error, Task, document)
        return _Reading(None, [*faults, *(each for each in found if (each.line, each.field) not in told)])
    advice = advise(task, document, installed_clouds)
    return _Reading(task, [*faults, *advice.faults], advice.warnings)


def _fill(
    document: YamlDocument, data: dict[str, Any], env: Mapping[str, str], secrets: Mapping[str, str]
) -> list[Fault]:
    """Put values from the command line into `envs` and `secrets`; say which secrets still have none."""
    written_envs = data.get("envs") if data.get("envs") is not None else {}
    written_secrets = data.get("secrets") if data.get("secrets") is not None else {}
    if not isinstance(written_envs, Mapping) or not isinstance(written_secrets, Mapping):
        return []
    envs, hidden = dict(written_envs), dict(written_secrets)
    for name, value in env.items():
        (hidden if name in hidden else envs)[name] = value
    for name, value in secrets.items():
        envs.pop(name, None)
        hidden[name] = value
    if envs:
        data["envs"] = envs
    if hidden:
        data["secrets"] = hidden
    return [
        document.fault(
            ("secrets", name),
            Problem("has no value", suggestion=f"give it with --secret {name}=VALUE (or --secret {name})"),
        )
        for name, value in hidden.items()
        if value is None and ENV_NAME.fullmatch(name)
    ]


def _substitute(document: YamlDocument, data: dict[str, Any]) -> None:
    """Replace `$X` by the task's `envs` where the format allows it. Secrets are replaced at use (`Task.revealed`)."""
    envs = data.get("envs")
    if not isinstance(envs, Mapping):
        return
    variables = {name: str(value) for name, value in envs.items() if isinstance(value, (str, bool, int, float))}
    for key in SUBSTITUTED_FIELDS:
        if key in data:
            before = data[key]
            data[key] = substitute(before, variables)
            if isinstance(before, Mapping):
                document.aliases.update(zip(data[key], before, strict=False))


def _bind(
    header: YamlDocument | None, bodies: Sequence[YamlDocument], tasks: Sequence[Task]
) -> tuple[Pipeline | JobGroup | None, list[Fault]]:
    """The pipeline or group of the tasks; checked even when some tasks are faulty, as far as that goes."""
    if header is None:
        return Pipeline(tasks=tuple(tasks)), []
    if not bodies:
        return None, [Fault("no task follows the header", file=header.file, line=1, suggestion='add "---" and a task')]
    data = header.data
    group = data.get("execution") == "parallel" or data.keys() & {"primary_tasks", "termination_delay"}
    model: type[Pipeline | JobGroup] = JobGroup if group else Pipeline
    if "execution" in data and data["execution"] not in ("serial", "parallel"):
        near = closest(str(data["execution"]), ("serial", "parallel"))
        problem = Problem("must be serial or parallel", suggestion=f'did you mean "{near}"?' if near else None)
        return None, [header.fault(("execution",), problem)]
    if len(tasks) < len(bodies):
        tasks = [Task(name=f"faulty-{index}") for index, _ in enumerate(bodies)]
    try:
        return model.model_validate({**data, "tasks": tuple(tasks)}), []
    except ValidationError as error:
        return None, faults_of(error, model, _GroupSource(header, bodies))


class _GroupSource:
    """Finds `tasks[2].name` in the third document after the header, and everything else in the header."""

    def __init__(self, header: YamlDocument, bodies: Sequence[YamlDocument]) -> None:
        self.file = header.file
        self._header = header
        self._bodies = bodies

    def spot(self, loc: Location) -> Spot:
        """Where `loc` stands."""
        if len(loc) > 1 and loc[0] == "tasks" and isinstance(loc[1], int):
            return self._bodies[loc[1]].spot(loc[2:])
        return self._header.spot(loc)

    def missing(self, loc: Location) -> Spot:
        """Where a missing key should stand."""
        return self._header.missing(loc)
