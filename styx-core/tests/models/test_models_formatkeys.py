"""Volume files, and the free-form settings of the format: each kind of value is checked where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from styx.errors import InvalidInput
from styx.models import read_volume_file
from styx.models.configkeys import FORMAT_KEYS, TASK_KEYS, is_secret_key
from styx.models.configschema import Items, Schema, check, find
from styx.models.reader import read_volume_text

VOLUME = """
name: shared
type: k8s-pvc
infra: k8s/prod
size: 1TB
use_existing: true
labels: {team: a}
config: {access_mode: ReadWriteMany, storage_class_name: fast, namespace: n}
"""


def test_volume_file(tmp_path: Path) -> None:
    path = tmp_path / "volume.yaml"
    path.write_text(VOLUME)
    spec = read_volume_file(path)
    assert (spec.name, str(spec.infra), spec.size, spec.use_existing) == ("shared", "kubernetes/prod", 1024, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\n", [(1, "type")]),
        ("name: x\ntype: k8s-pvcs\nsize: big\n", [(2, "type"), (3, "size")]),
        ("name: x\ntype: k8s-pvc\nconfig:\n  access_mode: RWX\n", [(4, "config.access_mode")]),
        ("name: x\nname: y\ntype: k8s-pvc\n", [(2, "name")]),
        ("name: x\ntype: k8s-pvc\n---\nname: y\n", [(None, None)]),
    ],
)
def test_volume_faults(text: str, told: list[tuple[int | None, str | None]]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_volume_text(text)
    assert [(fault.line, fault.field) for fault in caught.value.faults] == told


GOOD: dict[str, Any] = {
    "aws": {"security_group_name": [{"*": "sg"}], "remote_identity": [{"a-*": "role"}], "labels": {"a": 1},
            "specific_reservations": ["r1"], "capabilities": ["compute"], "ssh_proxy_command": {"us-east-1": "nc"}},
    "kubernetes": {"enable_docker": "ALL", "allowed_nodes": {"label_selector": [{"a": "b"}], "names": ["n"]},
                   "context_configs": {"ctx": {"ports": "ingress", "pod_config": {"spec": {"x": [1]}}}},
                   "set_pod_resource_limits": True, "pricing": {"accelerators": {"H100": 2.5}}},
    "slurm": {"cluster_configs": {"c": {"partition_configs": {"p": {"sbatch_options": {"time": 1}}}}}},
    "workspaces": {"team": {"private": True, "gcp": {"disabled": True}, "allowed_users": ["me"]}},
    "dashboard": {"external_links": [{"label": "x", "url": "https://e", "scope": ["cluster"]}]},
    "nebius": {"region_configs": {"r": {"filesystems": [{"filesystem_id": "f"}]}}},
    "jobs": {"controller": {"autostop": {"idle_minutes": 3}}, "status_check": {"min_retries": 2}, "plugin_key": 1},
    "rbac": {"roles": {"user": {"permissions": {"blocklist": []}}}},
    "vast": None,
}  # fmt: skip

BAD: list[tuple[dict[str, Any], tuple[str | int, ...]]] = [
    ({"aws": []}, ("aws",)),
    ({"aws": {"capabilities": ["compute", "fly"]}}, ("aws", "capabilities", 1)),
    ({"aws": {"labels": {"a": []}}}, ("aws", "labels")),
    ({"gcp": {"enable_gvnic": "yes"}}, ("gcp", "enable_gvnic")),
    ({"kubernetes": {"provision_timeout": True}}, ("kubernetes", "provision_timeout")),
    ({"kubernetes": {"enable_docker": "SOME"}}, ("kubernetes", "enable_docker")),
    ({"kubernetes": {"kueue": {"admission_timeout": "soon"}}}, ("kubernetes", "kueue", "admission_timeout")),
    ({"kubernetes": {"context_configs": {"c": {"prots": "x"}}}}, ("kubernetes", "context_configs", "c", "prots")),
    ({"nebius": {"region_configs": {"r": {"filesystems": {}}}}}, ("nebius", "region_configs", "r", "filesystems")),
    ({"jobs": {"status_check": {"min_elapsed_seconds": "x"}}}, ("jobs", "status_check", "min_elapsed_seconds")),
]


def test_usual_settings_are_accepted() -> None:
    assert list(check(FORMAT_KEYS, GOOD)) == []


@pytest.mark.parametrize(("settings", "at"), BAD, ids=[".".join(map(str, at)) for _, at in BAD])
def test_wrong_settings_are_told_where_they_stand(settings: dict[str, Any], at: tuple[str | int, ...]) -> None:
    (problem,) = check(FORMAT_KEYS, settings)
    assert problem.at == at


def test_a_task_overrides_only_what_the_configuration_knows() -> None:
    def walk(schema: Schema, path: tuple[str, ...]) -> None:
        assert find(FORMAT_KEYS, path) is not None
        if isinstance(schema, dict):
            for key, inner in schema.items():
                walk(inner, (*path, key))

    for key, schema in TASK_KEYS.items():
        walk(schema, (key,))
    assert find(FORMAT_KEYS, ("aws", "nope")) is None
    assert find({"a": Items({"b": "text"})}, ("a", 0, "b")) == "text"


def test_secret_keys() -> None:
    assert all(map(is_secret_key, ("service_account_token", "DB", "my-api-key", "clientSecret", "PASSWORD")))
    assert not any(map(is_secret_key, ("bucket", "idle", "vpc_name")))
