"""`--env`, `--env-file`, `--secret` and `--secret-file`: values for a task's variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from styx.errors import Fault, InvalidInput
from styx.models.dotenv import read_env_file
from styx.models.environment import ENV_NAME


@dataclass(frozen=True)
class Variables:
    """What the command line gives for `envs` and `secrets`."""

    env: Mapping[str, str] = field(default_factory=dict)
    """For `envs`, or for `secrets` where the task has the name there."""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For `secrets`."""


def variables_from_flags(
    env: Sequence[str] = (),
    env_files: Sequence[str] = (),
    secrets: Sequence[str] = (),
    secret_files: Sequence[str] = (),
    *,
    process_env: Mapping[str, str],
) -> Variables:
    """Values from the flags; a pair on the command line wins over a file, a later one over an earlier one.

    Args:
        env: Each `NAME=VALUE`, or `NAME` to take the value from `process_env`.
        env_files: Paths of `.env` files.
        secrets: As `env`.
        secret_files: As `env_files`.
        process_env: The user's own environment.

    Raises:
        InvalidInput: With every wrong flag and every wrong line; values are never shown.
    """
    faults: list[Fault] = []
    given = _collect("--env", env, env_files, process_env, faults)
    hidden = _collect("--secret", secrets, secret_files, process_env, faults)
    if faults:
        raise InvalidInput(faults)
    return Variables(env=given, secrets=hidden)


def _collect(
    flag: str, pairs: Sequence[str], files: Sequence[str], process_env: Mapping[str, str], faults: list[Fault]
) -> dict[str, str]:
    values: dict[str, str] = {}
    for path in files:
        try:
            values |= read_env_file(path, process_env)
        except InvalidInput as error:
            faults.extend(error.faults)
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not ENV_NAME.fullmatch(name):
            message = "must be NAME=VALUE or NAME, where NAME is letters, digits and underscores"
            faults.append(Fault(message, field=flag, value=name[:60]))
        elif equals:
            values[name] = value
        elif name in process_env:
            values[name] = process_env[name]
        else:
            message = f"{name} is not set in your environment"
            faults.append(Fault(message, field=flag, suggestion=f"export {name}, or write {flag} {name}=VALUE"))
    return values
