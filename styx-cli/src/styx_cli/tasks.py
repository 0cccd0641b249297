"""From the words and flags of `launch` and `exec` to a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from styx.errors import UsageError
from styx_cli.entrypoint import read_entrypoint
from styx_cli.task_flags import TaskFlags

if TYPE_CHECKING:
    from styx.models import Document, Task
    from styx.models.variables import Variables
    from styx_cli.app import App

_VARIABLE_FLAGS: Final = frozenset({"env", "env_file", "secret", "secret_file"})


def build_task(app: App, words: Sequence[str], flags: TaskFlags) -> Task:
    """The task that a command line means; warnings about it go to stderr.

    Raises:
        InvalidInput: The file, or a variable, is wrong.
        NotFound: The file does not exist.
        NotExecutable: The file holds several tasks.
        UsageError: A flag is wrong.
    """
    from styx.models.overrides import Overrides, apply_overrides

    variables = given_variables(app, flags.env, flags.env_file, flags.secret, flags.secret_file)
    task = _read(app, words, variables)
    options = {key: value for key, value in asdict(flags).items() if key not in _VARIABLE_FLAGS and value is not None}
    return apply_overrides(task, Overrides(**options))


def build_tasks(app: App, words: Sequence[str], flags: TaskFlags) -> Document:
    """The same for commands that take several tasks: flags that change a task are for a file of one.

    Raises:
        UsageError: Flags were given for a file of several tasks.
    """
    from styx.models.overrides import Overrides, apply_overrides
    from styx.models.reader import Document

    variables = given_variables(app, flags.env, flags.env_file, flags.secret, flags.secret_file)
    document = _document(app, words, variables)
    options = {key: value for key, value in asdict(flags).items() if key not in _VARIABLE_FLAGS and value is not None}
    if not options:
        return document
    if len(document.tasks) > 1:
        flag = next(iter(options)).replace("_", "-")
        raise UsageError(f"--{flag} changes one task, and the file has {len(document.tasks)}")
    return Document(root=apply_overrides(document.tasks[0], Overrides(**options)), file=document.file)


def given_variables(
    app: App,
    env: Sequence[str] | None,
    env_file: Sequence[str] | None,
    secret: Sequence[str] | None,
    secret_file: Sequence[str] | None,
) -> Variables:
    """The values of `--env`, `--env-file`, `--secret` and `--secret-file`.

    Raises:
        InvalidInput: One of them is wrong.
    """
    from styx.models.variables import variables_from_flags

    return variables_from_flags(env or (), env_file or (), secret or (), secret_file or (), process_env=app.environ)


def _read(app: App, words: Sequence[str], variables: Variables) -> Task:
    return _document(app, words, variables).single_task()


def _document(app: App, words: Sequence[str], variables: Variables) -> Document:
    from styx.models.overrides import task_from_command, with_variables
    from styx.models.reader import Document, read_task_file

    entrypoint = read_entrypoint(words)
    if entrypoint.kind == "command":
        return Document(root=task_from_command(entrypoint.text, variables))
    if entrypoint.kind == "nothing":
        from styx.models.task import Task

        return Document(root=with_variables(Task(), variables))
    document = read_task_file(entrypoint.text, env=variables.env, secrets=variables.secrets)
    for warning in document.warnings:
        app.warn(str(warning))
    return document
