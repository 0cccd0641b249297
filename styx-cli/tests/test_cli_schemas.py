"""What `--json` prints fits the published schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from styx.api import ClusterState, LogLine, Story
from styx_cli.group import make_group
from styx_cli.reference import markdown
from styx_cli.schemas import OUTPUTS, all_schemas, error_schema
from styx_cli.verbs import VERBS

SCHEMAS = all_schemas()


@pytest.mark.parametrize("command", sorted(SCHEMAS))
def test_every_schema_is_one(command: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[command])


@pytest.mark.parametrize(
    "arguments",
    [
        ("launch", "x"),
        ("launch --dryrun", "x"),
        ("exec", "dev", "x"),
        ("status",),
        ("queue",),
        ("logs", "dev"),
        ("logs --status", "dev"),
        ("logs --sync-down", "dev"),
        ("why", "dev"),
        ("cost-report",),
        ("cost-report --by", "user"),
        ("cancel", "dev"),
        ("stop", "dev"),
        ("start", "dev"),
        ("autostop", "dev"),
        ("down", "dev"),
        ("sweep",),
        ("check",),
        ("validate", "missing.yaml"),
        ("config show",),
        ("plugins list",),
        ("version",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_output_fits_its_schema(client: Any, cli: Any, made: Any, arguments: tuple[str, ...]) -> None:
    client.clusters = [made.cluster("dev")]
    client.jobs = [made.job("dev", 1)]
    client.output = [LogLine(rank=0, stream="run", data=b"a\n")]
    client.story = Story(cluster="dev", key="k", state=ClusterState.UP, note=None, attempts=(), events=())
    ran = cli(*arguments[0].split(), *arguments[1:], "--json")
    jsonschema.validate(json.loads(ran.out), SCHEMAS[arguments[0]])


def test_every_command_with_json_is_published_and_tested() -> None:
    group = make_group()
    with_json = set()
    for verb in VERBS:
        command = group.get_command(None, verb)
        commands = getattr(command, "commands", {"": command})
        for name, each in commands.items():
            if any("--json" in parameter.opts for parameter in each.params):
                with_json.add(f"{verb} {name}".strip())
    assert with_json == {output.command.split(" --")[0] for output in OUTPUTS}


def test_a_failure_fits_its_schema(cli: Any) -> None:
    jsonschema.validate(json.loads(cli("status", "--json", "nope").err), error_schema())


def test_the_reference_names_every_command_and_flag() -> None:
    page = markdown()
    for verb in VERBS:
        assert f"## styx {verb}\n" in page
    assert "`-i, --idle-minutes-to-autostop MINUTES`" in page
    assert "json.md#clusterview" in page
