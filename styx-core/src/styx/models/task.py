"""A task: what to run, on what, with which files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, field_serializer, field_validator, model_validator

from styx.models.base import Model, Problem, Problems, collect
from styx.models.environment import (
    ALWAYS_SECRET,
    Envs,
    ManagedSecrets,
    Secrets,
    apart,
    substitute,
)
from styx.models.resources import Resources
from styx.models.scalars import Flag, Text, amount, whole
from styx.models.service import PoolSpec, ServiceSpec
from styx.models.settings import TaskConfig, task_config
from styx.models.storage import FileMount, Storage, VolumeMount, file_mount, is_url

if TYPE_CHECKING:
    from collections.abc import Collection

TASK_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
SUBSTITUTED_FIELDS: Final = ("workdir", "file_mounts", "volumes", "service")
"""Fields in which `$X` and `${X}` stand for the task's variables."""


def check_name(name: Any) -> str:
    """A task's name: letters, digits, dots, dashes, underscores."""
    if not isinstance(name, str):
        raise Problem("must be text", suggestion=f'put it in quotes: "{name}"' if _is_scalar(name) else None)
    if not TASK_NAME.fullmatch(name):
        fixed = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")
        raise Problem(
            "must be letters, digits, dots, dashes and underscores, starting and ending with a letter or digit",
            suggestion=f'such as "{fixed}"' if fixed else None,
        )
    return name


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


class GitWorkdir(Model):
    """A working folder cloned from git."""

    url: Text
    """The repository, by https or ssh."""
    ref: Text | None = None
    """A branch, tag or commit; the default branch when unset."""


def check_workdir(value: Any) -> Any:
    """A local folder, or a git repository."""
    if isinstance(value, GitWorkdir):
        return value
    if isinstance(value, Mapping):
        return GitWorkdir.model_validate(value)
    if not isinstance(value, str) or not value.strip():
        raise Problem("must be a local folder, or a mapping with url and ref")
    return value


class Task(Model):
    """What to run, on what, with which files: one document of the task format."""

    model_config = ConfigDict(populate_by_name=True)  # a dump by attribute name has `metadata_`

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "env": "envs",
        "environment": "envs",
        "secret": "secrets",
        "command": "run",
        "script": "run",
        "resource": "resources",
        "nodes": "num_nodes",
        "experimental": "config",
        "mounts": "file_mounts",
    }

    name: Annotated[str, BeforeValidator(check_name)] | None = None
    """The task's name."""
    workdir: Annotated[str | GitWorkdir, BeforeValidator(check_workdir)] | None = None
    """A local folder copied to every node, in which setup and run start; or `{url, ref}` of a git repository."""
    num_nodes: Annotated[int, BeforeValidator(whole(at_least=1))] = 1
    """How many nodes."""
    setup: Text | None = None
    """Shell script that prepares each node; runs before `run`, and not again on `exec`."""
    run: Text | None = None
    """Shell script that is the job; runs on every node."""
    envs: Envs = Field(default_factory=dict)
    """Environment variables of setup and run; null must be given by `--env`."""
    secrets: Secrets = Field(default_factory=dict)
    """Environment variables that are never printed; null must be given by `--secret` or `--env`."""
    managed_secrets: ManagedSecrets | None = None
    """Secrets kept by a team server, by name."""
    resources: Resources = Field(default_factory=Resources)
    """What each node needs."""
    file_mounts: dict[str, FileMount] | None = None
    """Paths on the node, each with a local path, a bucket URL or a storage object. Those without `/` or `~` in front
    are in the folder that jobs start in."""
    volumes: dict[str, VolumeMount] | None = None
    """Paths on the node, each with a volume."""
    service: ServiceSpec | None = None
    """Makes the task a service of replicas."""
    pool: PoolSpec | None = None
    """Makes the task a pool of workers."""
    config: Annotated[TaskConfig | None, BeforeValidator(task_config)] = None
    """Settings for this task only, and lifecycle hooks."""
    inputs: dict[str, float] | None = None
    """At most one bucket URL that the task reads, with its size in GB; for the planner only."""
    outputs: dict[str, float] | None = None
    """At most one bucket URL that the task writes, with its size in GB; for the planner only."""
    event_callback: Text | None = None
    """Shell script run when a managed job's state changes."""
    api_server_access: Flag = True
    """Whether a managed job gets a short-lived token of the team server."""
    volume_mounts: Any = None
    """Internal to another tool; never written by people."""
    file_mounts_mapping: dict[str, Any] | None = None
    """Internal to another tool; never written by people."""
    metadata_: dict[str, Any] | None = Field(default=None, alias="_metadata")
    """Internal to another tool; never written by people."""

    @model_validator(mode="before")
    @classmethod
    def _sort_secrets(cls, data: Any) -> Any:
        """Move managed secrets, and variables that are always secret, to where they belong."""
        if not isinstance(data, Mapping):
            return data
        fields = apart(data)
        plain, envs = fields.get("secrets"), fields.get("envs")
        hidden = ALWAYS_SECRET & envs.keys() if isinstance(envs, Mapping) else frozenset()
        if isinstance(envs, Mapping) and hidden and isinstance(plain, (Mapping, type(None))):
            fields["secrets"] = {**{key: envs[key] for key in hidden}, **(plain or {})}
            fields["envs"] = {key: item for key, item in envs.items() if key not in hidden}
        return fields

    @field_validator("secrets")
    @classmethod
    def _not_both(cls, value: Any, info: Any) -> Any:
        both = sorted(value.keys() & (info.data.get("envs") or {}).keys())
        if both:
            raise Problems(
                Problem("is in envs as well", at=(key,), suggestion="keep it in secrets only") for key in both
            )
        return value

    @field_validator("resources", mode="before")
    @classmethod
    def _resources_mapping(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            raise Problem("must be a mapping", suggestion="put alternatives under resources.any_of")
        return value

    @field_validator("file_mounts", mode="before")
    @classmethod
    def _check_mounts(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Problem("must be a mapping from a path on the node to a source")
        return collect(((key, (key, item)) for key, item in value.items()), _mount_pair(set()))

    @field_validator("volumes", mode="before")
    @classmethod
    def _check_volumes(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Problem("must be a mapping from a path on the node to a volume")
        relative = [key for key in value if not str(key).startswith(("/", "~", "$"))]
        if relative:
            raise Problems(
                Problem("must be an absolute path", at=(key,), suggestion=f'write "/{key}"', shown=repr(key))
                for key in relative
            )
        return value

    @field_validator("pool", mode="before")
    @classmethod
    def _service_or_pool(cls, value: Any, info: Any) -> Any:
        if value is not None and info.data.get("service") is not None:
            raise Problem('cannot stand beside "service"', suggestion="keep one of the two")
        return value

    @field_validator("inputs", "outputs", mode="before")
    @classmethod
    def _one_transfer(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise Problem("must be a mapping from a bucket URL to GB")
        if len(value) > 1:
            raise Problem(f"has {len(value)} entries; at most one is allowed")
        return collect(value.items(), amount(at_least=0, unit="GB"))

    @field_serializer("secrets")
    def _hide_secrets(self, secrets: dict[str, SecretStr | None]) -> dict[str, None]:
        return dict.fromkeys(secrets)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Task:
        """A task from plain data, such as a JSON body.

        Raises:
            InvalidInput: With every fault, by field.
        """
        from styx.models.faults import validate_plain

        return validate_plain(cls, data)

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        *,
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        installed_clouds: Collection[str] | None = None,
    ) -> Task:
        """The task in a file of exactly one.

        Raises:
            InvalidInput: The file is wrong, or holds a pipeline or a job group.
        """
        from styx.models.reader import read_task_file

        return read_task_file(path, env=env, secrets=secrets, installed_clouds=installed_clouds).single_task()

    def to_yaml(self) -> str:
        """The task as YAML for people, with every secret hidden."""
        import yaml

        data = self.model_dump(mode="json", by_alias=True)
        if "secrets" in data:
            data["secrets"] = dict.fromkeys(data["secrets"], "***")
        return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)

    def secret_values(self) -> dict[str, str]:
        """The secrets in clear, for the node's environment. Never log or store the result."""
        return {name: value.get_secret_value() for name, value in self.secrets.items() if value is not None}

    def with_secrets(self, values: Mapping[str, str]) -> Task:
        """The same task with secret values put back, as a dump leaves them out."""
        if not values:
            return self
        filled: dict[str, SecretStr | None] = {**self.secrets}
        filled |= {name: SecretStr(value) for name, value in values.items()}
        return self.model_copy(update={"secrets": filled})

    def revealed(self) -> Task:
        """The task with `$SECRET` replaced in paths, mounts, volumes and service.

        Reading a task replaces only `envs` there, so that a task which is stored or shown holds no secret; the engine
        calls this at the moment of use and keeps the result in memory.
        """
        values = self.secret_values()
        if not values:
            return self
        fields = self.model_dump(mode="python", include=set(SUBSTITUTED_FIELDS))
        changed = {key: item for key, item in fields.items() if substitute(item, values) != item}
        if not changed:
            return self
        filled = Task.model_validate(substitute(changed, values))
        return self.model_copy(update={key: getattr(filled, key) for key in changed})

    @property
    def local_mounts(self) -> dict[str, str]:
        """Paths on the node, each with the local file or folder copied there."""
        mounts = self.file_mounts or {}
        return {dst: src for dst, src in mounts.items() if isinstance(src, str) and not is_url(src)}

    @property
    def named_volumes(self) -> dict[str, str]:
        """Paths on the node, each with the name of the volume mounted there, `NAME` or `NAME:FOLDER`."""
        mounts = {path: each for path, each in (self.volumes or {}).items() if each.name is not None}
        return {
            path: f"{each.name}:{each.sub_path}" if each.sub_path else str(each.name) for path, each in mounts.items()
        }

    @property
    def bucket_mounts(self) -> dict[str, str | Storage]:
        """Paths on the node, each with a bucket URL or a storage object."""
        return {dst: src for dst, src in (self.file_mounts or {}).items() if dst not in self.local_mounts}


def _mount_pair(seen: set[str]) -> Any:
    def check(pair: tuple[Any, Any]) -> Any:
        path, source = pair
        if not isinstance(path, str) or not path.strip():
            raise Problem("must be a path on the node", shown=repr(path))
        if is_url(path):
            raise Problem(
                "is a URL, but the key is the path on the node",
                suggestion=f"write {source}: {path}" if isinstance(source, str) else None,
                shown=repr(path),
            )
        normal = path.rstrip("/") or "/"
        if normal in seen:
            raise Problem("is the same path as another mount's", shown=repr(path))
        seen.add(normal)
        return file_mount(source)

    return check
