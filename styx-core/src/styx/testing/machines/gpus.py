"""GPUs that only `nvidia-smi` knows of."""

from __future__ import annotations

_SCRIPT = """#!/bin/sh
# Answers for GPUs that are not there.
gpus='{gpus}'
query= units=1 header=1
for word; do
    case $word in
        --query-gpu=*) query=${{word#*=}} ;;
        --format=*) case $word in *nounits*) units=0 ;; esac; case $word in *noheader*) header=0 ;; esac ;;
        -L | --list-gpus) echo "$gpus" | while IFS='|' read -r index name memory; do
            echo "GPU $index: $name (UUID: GPU-00000000-0000-0000-0000-00000000000$index)"; done; exit ;;
    esac
done
[ "$header" = 1 ] && [ -n "$query" ] && echo "$query"
echo "$gpus" | while IFS='|' read -r index name memory; do
    line=
    for column in $(echo "${{query:-index,name,memory.total}}" | tr , ' '); do
        unit=
        case $column in
            index) value=$index ;;
            name | gpu_name) value=$name ;;
            uuid | gpu_uuid) value=GPU-00000000-0000-0000-0000-00000000000$index ;;
            memory.total) value=$memory unit=' MiB' ;;
            memory.free) value=$memory unit=' MiB' ;;
            memory.used) value=0 unit=' MiB' ;;
            utilization.*) value=0 unit=' %' ;;
            driver_version) value=570.00 ;;
            *) value='[N/A]' ;;
        esac
        [ "$units" = 0 ] && unit=
        line="$line${{line:+, }}$value$unit"
    done
    echo "$line"
done
"""


def nvidia_smi(*names: str, memory_mib: int = 81559) -> str:
    """A program that reports one GPU per name, for `files` of a host: `{"/usr/bin/nvidia-smi": ...}`."""
    return _SCRIPT.format(gpus="\n".join(f"{index}|{name}|{memory_mib}" for index, name in enumerate(names)))
