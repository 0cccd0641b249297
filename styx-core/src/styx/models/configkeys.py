"""The settings that files of this format may carry: which keys exist, and which a task may override.

These are keys of the format as recipes use it. Styx's own settings are the models of `styx.config`; a key listed here
is read and checked, and `styx.models.executed` says what happens to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from styx.models.configschema import Either, Items, Schema

_IDENTITY: Final[Schema] = Either("text", Either({"*": "text"}, Items({"*": "text"})))
_NETWORK: Final[dict[str, Schema]] = {
    "use_internal_ips": "flag",
    "ssh_proxy_command": Either("text", {"*": "text"}),
    "ssh_proxy_jump": "text",
    "use_ssm": "flag",
    "vpc_name": "text",
    "vpc_names": "texts",
    "subnet_names": "texts",
}
_CAPABILITIES: Final[Schema] = Items(("compute", "storage"))
_KUEUE: Final[Schema] = {"local_queue_name": "text", "admission_timeout": "duration"}
_DWS: Final[Schema] = {"enabled": "flag", "max_run_duration": "duration"}
_PRICING: Final[Schema] = {"cpu": "number", "memory": "number", "accelerators": {"*": "number"}}
_QUOTA: Final[Schema] = {"queue": "text", "account": "text"}
_RESERVATIONS: Final[dict[str, Schema]] = {"prioritize_reservations": "flag", "specific_reservations": "texts"}

_KUBERNETES_CONTEXT: Final[dict[str, Schema]] = {
    "allowed_nodes": {"label_selector": Either({"*": "any"}, Items("any")), "names": "texts", "ips": "texts"},
    "rdma": {"mode": "text", "resource": "text", "networks": "texts"},
    "networking": "text",
    "ports": ("ingress", "loadbalancer", "podip"),
    "pod_config": {"*": "any"},
    "provision_timeout": "whole",
    "max_inline_command_length": "whole",
    "custom_metadata": {"labels": "labels", "annotations": "labels"},
    "namespace": "text",
    "autoscaler": ("gke", "karpenter", "coreweave", "nebius", "generic"),
    "high_availability": {"storage_class_name": "text"},
    "kueue": _KUEUE,
    "quota": _QUOTA,
    "dws": _DWS,
    "remote_identity": _IDENTITY,
    "post_provision_runcmd": "texts",
    "apt_mirrors": "any",
    "set_pod_resource_limits": Either("flag", "number"),
    "pricing": _PRICING,
    "auto_mounts": Items({"volume_name": "text", "mount_paths": "texts", "scope": ("personal", "workspace", "global")}),
    "enable_docker": Either("flag", Either(("ALL", "BUILD"), {"mode": ("ALL", "BUILD"), "cache_volume": "text"})),
}
_SSH: Final[dict[str, Schema]] = {
    key: _KUBERNETES_CONTEXT[key]
    for key in ("pod_config", "provision_timeout", "custom_metadata", "max_inline_command_length")
}
_SLURM_CLUSTER: Final[dict[str, Schema]] = {
    "provision_timeout": "whole",
    "submit_as_user": "any",
    "username_map": "labels",
    "pricing": _PRICING,
    "sbatch_options": {"*": "any"},
    "quota": _QUOTA,
    "gpu_partition_map": {"*": "any"},
    "cpu_partition": "text",
    "container_mounts": "any",
    "prometheus": {"url": "text", "via": "text", "filter": "text"},
    "workdir": "text",
    "tmpdir": "text",
}
_NEBIUS_REGION: Final[dict[str, Schema]] = {
    "project_id": "text",
    "subnet_id": "text",
    "fabric": "text",
    "disk_encrypted": "flag",
    "filesystems": Items({"filesystem_id": "text", "attach_mode": "text", "mount_path": "text"}),
}
_CONTROLLER: Final[Schema] = {
    "controller": {
        "resources": {"*": "any"},
        "autostop": "any",
        "high_availability": "flag",
        "consolidation_mode": "flag",
        "controller_logs_gc_retention_hours": "number",
        "task_logs_gc_retention_hours": "number",
    },
    "bucket": "text",
    "force_disable_cloud_bucket": "flag",
    "status_check": {"min_elapsed_seconds": "number", "min_retries": "whole"},
    "*": "any",
}

FORMAT_KEYS: Final[Mapping[str, Schema]] = {
    "jobs": _CONTROLLER,
    "serve": _CONTROLLER,
    "admin_policy": "text",
    "nvidia_gpus": {"disable_ecc": "flag"},
    "provision": {"ssh_timeout": "whole", "install_conda": "flag"},
    "active_workspace": "text",
    "workspace": "text",
    "db": "text",
    "api_server": {
        "endpoint": "text",
        "service_account_token": "text",
        **dict.fromkeys(
            (
                "requests_retention_hours", "logs_retention_hours", "cluster_event_retention_hours",
                "cluster_debug_event_retention_hours", "cluster_terminal_event_retention_hours",
                "launch_attempt_retention_hours", "daemon_log_max_bytes",
            ),
            "number",
        ),
    },
    "rbac": {
        "default_role": ("admin", "user", "viewer"),
        "restrict_config_to_admins": "flag",
        "roles": {"*": {"permissions": {"blocklist": "any", "allowlist": "any"}}},
    },
    "workspaces": {
        "*": {
            "private": "flag",
            "allowed_users": "texts",
            "read_access": Either(("all", "allowed_users"), "text"),
            "*": {"disabled": "flag", "*": "any"},
        }
    },
    "workspace_config": {"read_access": "text"},
    "daemons": {"*": {"log_level": "text", "interval_seconds": "number"}},
    "dashboard": {
        "external_links": Items(
            {"label": "text", "regex": "text", "url": "text", "scope": Either(("cluster", "jobs"), "texts")}
        )
    },
    "metrics": {"prometheus": {"namespace": "text", "service": "text", "port": "whole"}},
    "plugins": "any",
    "data": {"mount_cached": {"sequential_upload": "flag"}},
    "aws": {
        **_RESERVATIONS,
        **_NETWORK,
        "disk_encrypted": "flag",
        "ssh_user": "text",
        "security_group_name": Either("text", Items({"*": "text"})),
        "post_provision_runcmd": "texts",
        "enforce_tags": {"instance": "any", "volume": "any"},
        "capabilities": _CAPABILITIES,
        "labels": "labels",
        "remote_identity": _IDENTITY,
    },
    "gcp": {
        **_RESERVATIONS,
        **_NETWORK,
        "managed_instance_group": {"run_duration": "whole", "provision_timeout": "whole"},
        "force_enable_external_ips": "flag",
        "enable_gvnic": "flag",
        "enable_gpu_direct": "flag",
        "placement_policy": "text",
        "capabilities": _CAPABILITIES,
        "labels": "labels",
        "remote_identity": _IDENTITY,
        "project_id": "text",
    },
    "azure": {
        **_NETWORK,
        "storage_account": "text",
        "resource_group_vm": "text",
        "labels": "labels",
        "capabilities": _CAPABILITIES,
        "remote_identity": _IDENTITY,
    },
    "kubernetes": {
        **_KUBERNETES_CONTEXT,
        "allowed_contexts": "texts",
        "context_configs": {"*": _KUBERNETES_CONTEXT},
    },
    "ssh": {**_SSH, "allowed_node_pools": "texts", "context_configs": {"*": _SSH}},
    "slurm": {
        **_SLURM_CLUSTER,
        "allowed_clusters": "texts",
        "cluster_configs": {"*": {**_SLURM_CLUSTER, "partition_configs": {"*": _SLURM_CLUSTER}}},
    },
    "oci": {
        "region_configs": {
            "*": dict.fromkeys(
                ("compartment_ocid", "image_tag_general", "image_tag_gpu", "vcn_ocid", "vcn_subnet"), "text"
            )
        }
    },
    "vast": {"datacenter_only": "flag", "create_instance_kwargs": {"*": "any"}},
    "nebius": {
        **_NETWORK,
        "use_static_ip_address": "flag",
        "disk_encrypted": "flag",
        "tenant_id": "text",
        "domain": "text",
        "use_personal_pricing": "flag",
        "security_group_name": "text",
        "region_configs": {"*": _NEBIUS_REGION},
    },
}  # fmt: skip
"""Keys of the format's configuration file, beyond those that `styx.config` has models for."""

FORMAT_LOG_KEYS: Final[Mapping[str, Schema]] = {
    "store": ("gcp", "aws"),
    "gcp": {"project_id": "text", "credentials_file": "text", "additional_labels": "labels"},
    "aws": {
        "region": "text",
        "credentials_file": "text",
        "log_group_name": "text",
        "log_stream_prefix": "text",
        "auto_create_group": "flag",
        "additional_tags": "labels",
    },
}
"""Keys of the format under `logs`, beside Styx's own."""


def _pick(table: str, *keys: str) -> dict[str, Schema]:
    schema = FORMAT_KEYS[table]
    if not isinstance(schema, Mapping):
        raise TypeError(f"{table} is not a table")
    return {key: schema[key] for key in keys}


TASK_KEYS: Final[Mapping[str, Schema]] = {
    "nvidia_gpus": FORMAT_KEYS["nvidia_gpus"],
    "ssh": _pick("ssh", "custom_metadata", "pod_config", "provision_timeout"),
    "kubernetes": _pick(
        "kubernetes", "custom_metadata", "pod_config", "provision_timeout", "dws", "kueue", "quota",
        "remote_identity", "enable_docker", "set_pod_resource_limits",
    ),
    "azure": _pick("azure", "remote_identity", "vpc_name"),
    "gcp": _pick(
        "gcp", "vpc_name", "subnet_names", "managed_instance_group", "enable_gvnic", "enable_gpu_direct",
        "placement_policy",
    ),
    "vast": _pick("vast", "datacenter_only", "create_instance_kwargs"),
    "slurm": _pick("slurm", "sbatch_options", "quota", "cpu_partition"),
    "active_workspace": "text",
}  # fmt: skip
"""Keys of the format that a task's `config` may override."""

SECRET_KEYS: Final = frozenset({"service_account_token", "db"})
"""Keys whose values are never shown, wherever they stand; see also `is_secret_key`."""

_SECRET_WORDS: Final = ("secret", "token", "password", "passwd", "api_key", "apikey", "private_key", "access_key")


def is_secret_key(key: Any) -> bool:
    """Whether a key's name says that its value must not be printed."""
    lowered = str(key).lower().replace("-", "_")
    return lowered in SECRET_KEYS or any(word in lowered for word in _SECRET_WORDS)
