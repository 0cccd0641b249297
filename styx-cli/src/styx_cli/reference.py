"""The command reference as Markdown, made from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from styx_cli.schemas import OUTPUTS, Output
from styx_cli.verbs import VERBS

_INTRO = """\
# Commands

Made from the commands themselves; `styx COMMAND --help` says the same.

**Output.** stdout carries data only: the job's output, a table, or JSON. Everything else goes to stderr: progress,
questions, warnings, the output of set-up. With several nodes each line of a job's output begins with `(rank N) `.

**JSON.** `--json`, or `-o json`, makes a command print JSON, described in [JSON output](json.md). When such a command
fails, stdout stays empty and the last line of stderr is an [ErrorReport](json.md#errorreport). `launch` and `exec`
are different: once the command line has been read, they print one [RunResult](json.md#runresult) on stdout in every
case. Its `exit_code_source` says whether the code is the job's or Styx's; the job's output goes to stderr.

**Exit codes.** `launch`, `exec`, `logs` and `ssh` exit with the code of the job or the command; a signal N is 128+N.
Styx's own failures exit with 2 (the command line is wrong) or one of 64 to 78, see [errors](errors.md). `validate`
exits with 1 when a file is wrong. 141 means that the reader of stdout went away.

**Questions.** What costs money is asked about on a terminal; without a terminal and without `-y` it is refused with
exit code 73. What costs nothing is asked about only on a terminal, and only when several clusters, a glob or `--all`
were given to `stop`, `start` or `down`.

**Ctrl-C.** Before the job is submitted it stops the launch and says what exists. After that it only stops following:
the job goes on. Both exit with 72.
"""


def markdown() -> str:
    """The page of all built-in commands."""
    return "\n".join([_INTRO, *(_section(path, command, context) for path, command, context in _commands())])


def _commands() -> Iterator[tuple[str, Any, Any]]:
    """Every built-in command and sub-command with its path and context, in the order of the help."""
    import typer
    from typer.core import TyperGroup

    from styx_cli.group import make_group

    group = make_group()
    root = typer.Context(group, info_name="styx", help_option_names=["-h", "--help"])
    for verb in VERBS:
        command = group.get_command(root, verb)
        context = typer.Context(command, info_name=verb, parent=root)
        yield f"styx {verb}", command, context
        if isinstance(command, TyperGroup):
            for name, below in command.commands.items():
                yield f"styx {verb} {name}", below, typer.Context(below, info_name=name, parent=context)


def _section(path: str, command: Any, context: Any) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    lines = [f"## {path}", "", "```text", usage, "```", "", _prose(command.help or ""), ""]
    records = [(parameter, parameter.get_help_record(context)) for parameter in command.get_params(context)]
    for kind, title in (("argument", "Argument"), ("option", "Option")):
        rows = [record for parameter, record in records if record and parameter.param_type_name == kind]
        if rows:
            lines += [f"| {title} | Meaning |", "|---|---|", *(_row(row) for row in rows), ""]
    outputs = [output for output in OUTPUTS if f"styx {output.command.split(' --')[0]}" == path]
    if outputs:
        lines += ["JSON:", "", *(f"- `styx {output.command} --json` prints {_shape(output)}" for output in outputs), ""]
    return "\n".join(lines)


def _shape(output: Output) -> str:
    if output.shape == "plain":
        return f"`{output.type_name}`: {output.says[0].lower()}{output.says[1:]}"
    name = output.type_name.partition(":")[2]
    many = {"list": "an array of ", "lines": "lines, each one "}.get(output.shape, "one ")
    return f"{many}[{name}](json.md#{name.lower()}): {output.says[0].lower()}{output.says[1:]}"


def _prose(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


def _row(record: Sequence[str]) -> str:
    name, meaning = (" ".join(part.split()).replace("|", "\\|") for part in record)
    return f"| `{name}` | {meaning} |"
