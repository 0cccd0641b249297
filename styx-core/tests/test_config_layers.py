"""Settings: layers in their order, each value with its source, faults with their lines, secrets hidden."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from styx.config import Config, Layer, Settings, load_config
from styx.errors import InvalidInput
from styx.models import read_text


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "project").mkdir()
    return tmp_path


def write(home: Path, settings: str, project: str | None = None) -> None:
    (home / "config.yaml").write_text(settings)
    if project is not None:
        (home / "project" / ".styx.yaml").write_text(project)


def sources(config: Config) -> dict[str, tuple[object, str]]:
    return {each.key: (each.value, each.source.rsplit("/", 1)[-1]) for each in config.show()}


def test_no_file_is_no_layer(home: Path) -> None:
    config = load_config(home, cwd=home / "project")
    assert config.layers == ()
    assert config.lease == {}
    assert config.allowed_clouds is None
    assert {each.source for each in config.show()} == {"default"}


def test_later_layers_win_key_by_key(home: Path) -> None:
    write(
        home,
        "allowed_clouds: [AWS, k8s]\nlease: {idle: 30m, action: stop, max_cost: 9}\nclouds: {k8s: {a: 1, b: 1}}\n",
        "lease: {idle: 1h}\nclouds: {kubernetes: {b: 2}}\n",
    )
    extra = home / "extra.yaml"
    extra.write_text("lease: {action: down, max_cost: null}\n")
    config = load_config(home, cwd=home / "project", overrides=[str(extra), "launch.retry_for=2h"])
    assert config.allowed_clouds == ("aws", "kubernetes")
    assert config.lease == {"idle_s": 3600, "action": "down"}
    assert config.clouds == {"kubernetes": {"a": 1, "b": 2}}
    assert config.launch.retry_for == 7200
    task = read_text("config: {lease: {idle: 5m}, hooks: [{run: x}]}\nrun: x").single_task()
    final = config.with_task(task.config)
    assert final.lease == {"idle_s": 300, "action": "down"}
    told = sources(final)
    assert told["lease.idle"] == (300, "task")
    assert told["lease.action"] == ("down", "extra.yaml")
    assert told["clouds.kubernetes.a"] == (1, "config.yaml")
    assert told["clouds.kubernetes.b"] == (2, ".styx.yaml")
    assert told["lease.max_cost"] == (None, "default")
    assert told["launch.retry_for"] == ("2h", "--config launch.retry_for=2h")
    assert config.with_task(None) is config


def test_every_fault_of_every_layer_is_told(home: Path) -> None:
    write(
        home,
        "allowed_cloud: [aws]\nlease:\n  idle: 30y\n  acton: down\nkubernetes:\n  namespce: x\nclouds: {awss: {}}\n",
        "allowed_clouds: [ibn]\nlogs: {stor: aws}\n",
    )
    overrides = ["lease.max_cost=-5", "nonsense", "launch.x=1", "a..b=1", str(home / "none.yaml")]
    with pytest.raises(InvalidInput) as caught:
        load_config(home, cwd=home / "project", overrides=overrides)
    told = [((fault.file or "").rsplit("/", 1)[-1], fault.line, fault.field) for fault in caught.value.faults]
    assert sorted(told, key=str) == sorted(
        [
            ("config.yaml", 1, "allowed_cloud"),
            ("config.yaml", 3, "lease.idle"),
            ("config.yaml", 4, "lease.acton"),
            ("config.yaml", 6, "kubernetes.namespce"),
            ("config.yaml", 7, "clouds.awss"),
            (".styx.yaml", 1, "allowed_clouds[0]"),
            (".styx.yaml", 2, "logs.stor"),
            ("", None, "--config lease.max_cost"),
            ("", None, "--config"),
            ("", None, "--config launch.x"),
            ("", None, "--config"),
            ("none.yaml", None, None),
        ],
        key=str,
    )


def test_secrets_are_hidden(home: Path) -> None:
    write(home, "clouds: {x: {api_token: canary, nested: {client_secret: canary}}}\ndb: canary\n")
    config = load_config(home, overrides=["clouds.y.password=canary"])
    assert "canary" not in repr(config.show()) + repr(config)
    assert config.clouds["x"]["api_token"] == "canary"
    write(home, "clouds: {x: [canary]}\ndb: [canary]\n")
    with pytest.raises(InvalidInput) as caught:
        load_config(home, overrides=["launch.token=canary"])
    assert "canary" not in str(caught.value)


def test_keys_of_the_format_are_read_with_a_warning(home: Path) -> None:
    write(home, "jobs: {controller: {resources: {cpus: 4+}}}\naws: {vpc_name: v, labels: {a: b}}\nlogs: {store: aws}\n")
    config = load_config(home)
    assert [(fault.line, fault.field) for fault in config.warnings] == [(2, "aws"), (1, "jobs")]


@pytest.mark.parametrize("text", ["- a\n", "a: b\n---\nc: d\n", "lease: [\n", "lease: 5\n", "x", "clouds: {local: 5}"])
def test_a_broken_file_is_one_clear_fault(home: Path, text: str) -> None:
    write(home, text)
    with pytest.raises(InvalidInput) as caught:
        load_config(home)
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].line is not None


LEAVES = st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8)
TABLES = st.dictionaries(st.sampled_from("abc"), TREES, max_size=3)


@given(st.lists(TABLES, min_size=1, max_size=4))
def test_shown_values_are_those_that_hold(tables: list[dict[str, object]]) -> None:
    config = Config(layers=())
    for index, table in enumerate(tables):
        layers = (*config.layers, Layer(f"layer {index}", {"clouds": {"x": table}}))
        config = Config(settings=Settings(), layers=layers)
    merged: dict[str, object] = {}
    for table in tables:
        merged = overlaid(merged, table)
    shown = {each.key: each.value for each in config.show() if each.key.startswith("clouds.x.")}
    assert shown == dict(flat(merged, "clouds.x"))


def overlaid(below: object, above: object) -> dict[str, object]:
    if not isinstance(below, dict) or not isinstance(above, dict):
        raise TypeError
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = overlaid(merged[key], value) if both else value
    return merged


def flat(value: object, prefix: str) -> list[tuple[str, object]]:
    if isinstance(value, dict) and value:
        return [pair for key, item in value.items() for pair in flat(item, f"{prefix}.{key}")]
    return [] if value is None or (prefix == "clouds.x" and not value) else [(prefix, value)]
