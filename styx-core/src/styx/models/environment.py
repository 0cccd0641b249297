"""Environment variables and secrets of a task: names, values, and `$NAME` in other fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, SecretStr, model_serializer, model_validator

from styx.models.base import Model, Problem, Problems, collect
from styx.models.scalars import Text

ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ALWAYS_SECRET: Final = frozenset({"SKYPILOT_DOCKER_PASSWORD", "STYX_DOCKER_PASSWORD"})
"""Variables that are secrets even when a task writes them under `envs`."""

_REFERENCE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_MANAGED: Final = "secrets:"
_SCOPES: Final = ("personal", "workspace", "global")


def check_env_name(name: Any) -> str:
    """A variable's name as the shell allows it."""
    if isinstance(name, str) and ENV_NAME.fullmatch(name):
        return name
    fixed = re.sub(r"[^A-Za-z0-9_]+", "_", str(name)).strip("_")
    suggestion = f'such as "{fixed}"' if ENV_NAME.fullmatch(fixed) else None
    raise Problem(
        "must be a name of letters, digits and underscores that starts with no digit",
        suggestion=suggestion,
        shown=repr(name),
    )


def environment(value: Any) -> dict[str, str]:
    """The `envs` table: every value as text, none missing."""
    pairs = _pairs(value)
    return {str(key): text for key, text in collect(pairs, lambda pair: _entry(pair, _env_value)).items()}


def secret_environment(value: Any) -> dict[str, SecretStr | None]:
    """The `secrets` table: values that are never printed; None where the value was left out of a dump."""
    pairs = _pairs(value)
    return {str(key): item for key, item in collect(pairs, lambda pair: _entry(pair, _secret_value)).items()}


def _pairs(value: Any) -> list[tuple[str, tuple[Any, Any]]]:
    if not isinstance(value, Mapping):
        raise Problem("must be a mapping from names to values")
    return [(key, (key, item)) for key, item in value.items()]


def _entry(pair: tuple[Any, Any], convert: Callable[[str, Any], Any]) -> Any:
    name, value = pair
    return convert(check_env_name(name), value)


def _env_value(name: str, value: Any) -> str:
    if value is None:
        raise Problem("has no value", suggestion=f"give it with --env {name}=VALUE")
    return _scalar(value)


def _secret_value(_: str, value: Any) -> SecretStr | None:
    if value is None or isinstance(value, SecretStr):
        return value
    return SecretStr(_scalar(value))


def _scalar(value: Any) -> str:
    if not isinstance(value, (str, bool, int, float)):
        raise Problem("must be text or a number, not a list or a mapping")
    text = str(value)
    if "\0" in text:
        raise Problem("holds a zero byte, which no environment can carry")
    return text


class ManagedSecret(Model):
    """A secret kept by a team server, given to the job by name."""

    name: Text
    """Its name in the store."""
    scope: str | None = None
    """Where to look it up: personal, workspace or global; None looks in that order."""
    mount_path: Text | None = None
    """A file to put it in, in place of an environment variable."""

    @model_validator(mode="before")
    @classmethod
    def _read_name(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        name = data.strip().removeprefix(_MANAGED)
        scope, dot, rest = name.partition(".")
        if dot and scope in _SCOPES:
            return {"name": check_env_name(rest), "scope": scope}
        return {"name": check_env_name(name)}

    @model_serializer(mode="plain")
    def _write(self) -> Any:
        name = f"{self.scope}.{self.name}" if self.scope else self.name
        return {name: {"mount_path": self.mount_path}} if self.mount_path else name


def managed_secrets(value: Any) -> tuple[ManagedSecret, ...]:
    """A list of names, or of `{name: {mount_path}}`, or one map of those."""
    if isinstance(value, Mapping):
        checked = collect(((key, (key, item)) for key, item in value.items()), _managed_pair)
    elif isinstance(value, (list, tuple)):
        checked = collect(enumerate(value), _managed_item)
    else:
        raise Problem("must be a list of names")
    return tuple(checked.values())


def _managed_item(item: Any) -> ManagedSecret:
    if isinstance(item, ManagedSecret):
        return item
    if isinstance(item, str):
        return ManagedSecret.model_validate(item)
    if isinstance(item, Mapping) and len(item) == 1:
        return _managed_pair(next(iter(item.items())))
    raise Problem("must be a name, or one name with its mount_path")


def _managed_pair(pair: tuple[Any, Any]) -> ManagedSecret:
    name, options = pair
    named = ManagedSecret.model_validate(str(name))
    if options is None:
        return named
    if not isinstance(options, Mapping):
        raise Problem("must be a mapping with mount_path")
    unknown = [key for key in options if key != "mount_path"]
    if unknown:
        raise Problems(Problem("is not a known key", at=(key,), suggestion="known keys: mount_path") for key in unknown)
    path = options.get("mount_path")
    if path is not None and not isinstance(path, str):
        raise Problem("must be the path of a file", at=("mount_path",))
    return named.model_copy(update={"mount_path": path})


def apart(data: Mapping[str, Any]) -> dict[str, Any]:
    """A task's data with references to managed secrets taken out of `secrets` and put under `managed_secrets`."""
    fields = dict(data)
    secrets, already = fields.get("secrets"), fields.get("managed_secrets") or []
    if isinstance(secrets, (list, tuple)):
        plain, managed = {}, list(secrets)
    elif isinstance(secrets, Mapping):
        managed = [key if item is None else {key: item} for key, item in secrets.items() if _is_managed(key)]
        plain = {key: item for key, item in secrets.items() if not _is_managed(key)}
    else:
        return fields
    if isinstance(already, Mapping):
        already = [{key: item} for key, item in already.items()]
    if managed and isinstance(already, (list, tuple)):
        fields |= {"secrets": plain, "managed_secrets": [*already, *managed]}
    return fields


def _is_managed(key: Any) -> bool:
    return isinstance(key, str) and key.startswith(_MANAGED)


def substitute(value: Any, variables: Mapping[str, str]) -> Any:
    """`value` with `$X` and `${X}` replaced in every text and key, for the variables given; others stay as they are."""
    if isinstance(value, str):
        return substitute_text(value, variables)
    if isinstance(value, Mapping):
        return {substitute(key, variables): substitute(item, variables) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [substitute(item, variables) for item in value]
    return value


def substitute_text(text: str, variables: Mapping[str, str]) -> str:
    """One text with `$X` and `${X}` replaced for the variables given."""
    if "$" not in text:
        return text
    return _REFERENCE.sub(lambda match: variables.get(match[1] or match[2], match[0]), text)


Envs = Annotated[dict[str, str], BeforeValidator(environment)]
Secrets = Annotated[dict[str, SecretStr | None], BeforeValidator(secret_environment)]
ManagedSecrets = Annotated[tuple[ManagedSecret, ...], BeforeValidator(managed_secrets)]
