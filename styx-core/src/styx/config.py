"""Settings from four layers: `$STYX_HOME/config.yaml`, `./.styx.yaml`, `--config`, and a task's `config`.

A later layer wins, key by key; lists are replaced as a whole; null takes a key back. Every value remembers its layer,
which `styx config show` prints. A file that does not exist is no layer; one that is wrong is told like a task file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BeforeValidator, ConfigDict, ValidationError, field_validator

from styx.errors import Fault, InvalidInput
from styx.models.base import Model, Nested, Problem, Problems, collect
from styx.models.configkeys import FORMAT_KEYS, FORMAT_LOG_KEYS, is_secret_key
from styx.models.configschema import check
from styx.models.infra import KNOWN_CLOUDS, canonical_cloud, cloud_suggestion
from styx.models.placement import PlacementSettings
from styx.models.scalars import listed
from styx.models.settings import (
    Budget,
    DockerSettings,
    Duration,
    LaunchSettings,
    LeaseSettings,
    RaySettings,
    TaskConfig,
    cloud_tables,
    distinct_budgets,
)

if TYPE_CHECKING:
    from styx.models.faults import Source

CONFIG_NAME: Final = "config.yaml"
PROJECT_NAME: Final = ".styx.yaml"
HIDDEN: Final = "***"


class LogSettings(Model):
    """What happens to the logs that Styx keeps under its home. Keys of the format are kept in `model_extra`."""

    model_config = ConfigDict(extra="allow")

    keep_for: Duration | None = None
    """How long logs of clusters that are gone are kept; for ever when unset."""


class StateSettings(Model):
    """The state database."""

    lock_timeout: Duration | None = None
    """How long a command waits for another client that holds the cluster; 60 seconds when unset."""


def cloud_names(value: Any) -> tuple[str, ...]:
    """A list of clouds by their canonical names."""

    def name(item: Any) -> str:
        if not isinstance(item, str) or not item.strip():
            raise Problem("must be the name of a cloud")
        return canonical_cloud(item)

    return tuple(collect(enumerate(listed(value)), name).values())


class Settings(Model):
    """Every setting, as the layers together give it.

    Keys of the task format's own configuration file are kept in `model_extra`: they are read and checked, and have no
    effect in this release.
    """

    model_config = ConfigDict(extra="allow")

    allowed_clouds: Annotated[tuple[str, ...], BeforeValidator(cloud_names)] | None = None
    """The only clouds that may be used; all enabled ones when unset."""
    clouds: dict[str, dict[str, Any]] | None = None
    """Settings of each cloud's driver, by cloud; the driver's own documentation lists them."""
    budgets: Annotated[tuple[Budget, ...], BeforeValidator(distinct_budgets)] | None = None
    """Limits on what may be spent; each is looked at when something is planned."""
    lease: LeaseSettings | None = None
    """Limits on the life of every cluster."""
    launch: LaunchSettings | None = None
    """How launches behave."""
    placement: PlacementSettings | None = None
    """Where machines may be made, and where rather."""
    logs: LogSettings | None = None
    """What happens to logs."""
    docker: DockerSettings | None = None
    """How containers are run."""
    ray: RaySettings | None = None
    """How Ray comes to the nodes of a cluster of several."""
    state: StateSettings | None = None
    """The state database."""

    @field_validator("clouds", mode="before")
    @classmethod
    def _cloud_tables(cls, value: Any) -> Any:
        return cloud_tables(value)


@dataclass(frozen=True)
class Layer:
    """One place that settings come from."""

    source: str
    """What `styx config show` calls it."""
    data: Mapping[str, Any] = field(repr=False)
    """Its settings, nested."""


@dataclass(frozen=True)
class Shown:
    """One line of `styx config show`."""

    key: str
    """Dotted."""
    value: Any
    """As it holds; secrets as `***`."""
    source: str
    """The layer that decided it, or `default`."""


@dataclass(frozen=True)
class Config:
    """Merged settings and where each came from."""

    settings: Settings = field(default_factory=Settings.model_construct, repr=False)
    """The values."""
    layers: tuple[Layer, ...] = ()
    """Lowest first."""
    warnings: tuple[Fault, ...] = ()
    """Keys that are read and have no effect, for stderr."""

    @property
    def allowed_clouds(self) -> tuple[str, ...] | None:
        """The only clouds that may be used; None for all."""
        return self.settings.allowed_clouds

    @property
    def clouds(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings for drivers, by cloud."""
        return self.settings.clouds or {}

    @property
    def lease(self) -> dict[str, Any]:
        """Limits on every cluster, by the names of the agent's lease; only those that are set."""
        return self.settings.lease.in_agent_terms() if self.settings.lease else {}

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """Limits on what may be spent."""
        return self.settings.budgets or ()

    @property
    def launch(self) -> LaunchSettings:
        """How launches behave."""
        return self.settings.launch or LaunchSettings.model_construct()

    @property
    def docker_options(self) -> tuple[str, ...]:
        """Further options of `docker run`."""
        return (self.settings.docker.run_options or ()) if self.settings.docker else ()

    @property
    def placement(self) -> PlacementSettings:
        """Where machines may be made, and where rather."""
        return self.settings.placement or PlacementSettings.model_construct()

    @property
    def logs(self) -> LogSettings:
        """What happens to logs."""
        return self.settings.logs or LogSettings.model_construct()

    @property
    def state(self) -> StateSettings:
        """The state database."""
        return self.settings.state or StateSettings.model_construct()

    def with_task(self, config: TaskConfig | None, *, source: str = "task") -> Config:
        """The settings that hold for one task: its `config` is the last layer. Hooks are not settings."""
        if config is None:
            return self
        data = config.model_dump(mode="json")
        data.pop("hooks", None)
        return replace(_merged((*self.layers, Layer(source, data))), warnings=self.warnings) if data else self

    def show(self) -> list[Shown]:
        """Every value with its source, in the order of keys; Styx's own unset keys too, with their default."""
        decided: dict[str, Shown] = {}
        for layer in self.layers:
            for path, value in _leaves(layer.data):
                key = ".".join(path)
                if value == {} and any(old.startswith(f"{key}.") for old in decided):
                    continue  # an empty table adds nothing to what stands there
                for covered in [old for old in decided if old.startswith(f"{key}.") or key.startswith(f"{old}.")]:
                    del decided[covered]
                decided[key] = Shown(key, HIDDEN if any(map(is_secret_key, path)) else value, layer.source)
        shown = {key: each for key, each in decided.items() if each.value is not None}
        for key in _own_keys():
            if key not in shown and not any(given.startswith(f"{key}.") for given in shown):
                shown[key] = Shown(key, None, "default")
        return [shown[key] for key in sorted(shown)]


def load_config(
    home: Path,
    *,
    cwd: Path | None = None,
    overrides: Sequence[str] = (),
    installed_clouds: Collection[str] | None = None,
) -> Config:
    """The settings of this installation, this folder and this command.

    Args:
        home: `$STYX_HOME`.
        cwd: Where `.styx.yaml` is looked for; None for nowhere.
        overrides: Values of `--config`: paths of YAML files, or `a.b=value` pairs.
        installed_clouds: Names of clouds that have a plugin, beside those that Styx knows.

    Raises:
        InvalidInput: With every fault of every layer.
    """
    layers: list[Layer] = []
    faults: list[Fault] = []
    warnings: list[Fault] = []
    paths = [home / CONFIG_NAME, *([cwd / PROJECT_NAME] if cwd is not None else [])]
    origins: list[tuple[str, Path | str]] = [(str(path), path) for path in paths if path.exists()]
    origins += [(f"--config {_told(text)}", text) for text in overrides]
    for source, origin in origins:
        try:
            layer, notes = _read_layer(source, origin, installed_clouds)
        except InvalidInput as error:
            faults.extend(error.faults)
        else:
            layers.append(layer)
            warnings.extend(notes)
    if faults:
        raise InvalidInput(faults)
    return replace(_merged(tuple(layers)), warnings=tuple(warnings))


def _read_layer(source: str, origin: Path | str, installed: Collection[str] | None) -> tuple[Layer, list[Fault]]:
    if isinstance(origin, str) and not _is_path(origin):
        return _read_pair(source, origin, installed)
    from styx.models.textfile import read_text_file
    from styx.models.yamlnodes import Document, compose

    name = str(origin)
    nodes = compose(read_text_file(origin), name)
    if not nodes:
        return Layer(source, {}), []
    document = Document(nodes[0], name)
    if len(nodes) > 1 or not isinstance(document.data, dict):
        raise InvalidInput([Fault("a configuration file holds one mapping of settings", file=name, line=1)])
    faults, warnings = _judge(document.data, document, installed)
    if document.faults or faults:
        raise InvalidInput([*document.faults, *faults])
    return Layer(source, _canonical(document.data)), warnings


def _read_pair(source: str, pair: str, installed: Collection[str] | None) -> tuple[Layer, list[Fault]]:
    """A layer from `a.b=value`; the value is read as YAML."""
    from styx.models.faults import PlainSource
    from styx.models.yamlnodes import Document, compose

    key, equals, text = pair.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        message = "must be a key and a value, or the path of a YAML file"
        raise InvalidInput(
            [Fault(message, field="--config", value=_told(pair), suggestion="such as --config lease.idle=30m")]
        )
    nodes = compose(text, None)
    value = Document(nodes[0], None).data if nodes else None
    data: Any = value
    for part in reversed(parts):
        data = {part: data}
    faults, warnings = _judge(data, PlainSource(data), installed)
    if faults:
        raise InvalidInput([replace(fault, field=f"--config {fault.field}") for fault in faults])
    return Layer(source, _canonical(data)), warnings


def _canonical(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings with one name for each cloud, so that layers meet."""
    tables = data.get("clouds")
    return {**data, "clouds": cloud_tables(tables)} if tables is not None else dict(data)


def _is_path(text: str) -> bool:
    return "=" not in text and ("/" in text or text.endswith((".yaml", ".yml")))


def _told(text: str) -> str:
    """A `--config` value for messages: pairs whose key is secret lose their value."""
    key, equals, _ = text.partition("=")
    return f"{key}={HIDDEN}" if equals and any(map(is_secret_key, key.split("."))) else text


def _judge(data: dict[str, Any], source: Source, installed: Collection[str] | None) -> tuple[list[Fault], list[Fault]]:
    """Faults and warnings of one layer."""
    from styx.models.faults import faults_of

    own = Settings.known_keys()
    problems = list(check({**FORMAT_KEYS, **dict.fromkeys(own, "any")}, data))
    logs = data.get("logs")
    if isinstance(logs, dict):
        schema = {**FORMAT_LOG_KEYS, **dict.fromkeys(LogSettings.known_keys(), "any")}
        problems += check(schema, logs, ("logs",))
    problems += _unknown_clouds(data, installed)
    faults: list[Fault] = []
    try:
        _raise_all(data, problems)
    except ValidationError as error:
        faults = faults_of(error, Settings, source)
    return faults, [_no_effect(key, source) for key in sorted(data.keys() & FORMAT_KEYS.keys())]


def _raise_all(data: dict[str, Any], problems: list[Problem]) -> None:
    """Report the problems of free-form keys and those of the models as one error of one model."""
    own = {key: value for key, value in data.items() if key in Settings.known_keys()}
    try:
        Settings.model_validate(own)
    except ValidationError as error:
        problems = [*problems, Nested(error)]
    if problems:
        _Carrier.model_validate({"problems": Problems(problems)})


class _Carrier(Model):
    """Turns problems found outside of pydantic into a pydantic error."""

    problems: Any = None
    """The problems."""

    @field_validator("problems", mode="before")
    @classmethod
    def _raise(cls, value: Any) -> Any:
        raise value


def _unknown_clouds(data: Mapping[str, Any], installed: Collection[str] | None) -> Iterator[Problem]:
    known = KNOWN_CLOUDS | {canonical_cloud(name) for name in installed or ()}
    tables = data.get("clouds")
    for name in tables if isinstance(tables, Mapping) else ():
        near = cloud_suggestion(str(name))
        if canonical_cloud(str(name)) not in known and near:
            yield Problem("is not a known cloud", suggestion=near, at=("clouds", name))
    allowed = data.get("allowed_clouds")
    for index, name in enumerate(allowed if isinstance(allowed, list) else ()):
        if isinstance(name, str) and canonical_cloud(name) not in known:
            near = cloud_suggestion(name)
            if near:
                yield Problem("is not a known cloud", suggestion=near, at=("allowed_clouds", index))


def _no_effect(key: str, source: Source) -> Fault:
    spot = source.spot((key,))
    return Fault("is read, but has no effect in this release", file=source.file, line=spot.line, field=key)


def _merged(layers: tuple[Layer, ...]) -> Config:
    if not layers:
        return Config()  # without building the validators, which most commands never need
    data: dict[str, Any] = {}
    for layer in layers:
        data = _overlay(data, layer.data)
    return Config(settings=Settings.model_validate(data), layers=layers)


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _overlay(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _leaves(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*path, str(key)))
        else:
            yield (*path, str(key)), value


def _own_keys() -> Iterator[str]:
    """Dotted names of the settings that have a model."""
    models: Mapping[str, type[Model]] = {
        "lease": LeaseSettings,
        "launch": LaunchSettings,
        "placement": PlacementSettings,
        "logs": LogSettings,
        "state": StateSettings,
    }
    for key in Settings.model_fields:
        if key in models:
            yield from (f"{key}.{name}" for name in models[key].model_fields)
        else:
            yield key
