"""The flags that change a task, shared by `launch` and `exec`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer


@dataclass(frozen=True)
class TaskFlags:
    """Each flag replaces, or for variables adds to, what the task file says."""

    name: Annotated[str | None, typer.Option("--name", "-n", help="The task's name.")] = None
    workdir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder copied to every node, in which the task runs.")
    ] = None
    git_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Git repository cloned as the working folder instead.")
    ] = None
    git_ref: Annotated[str | None, typer.Option(metavar="REF", help="Branch, tag or commit of --git-url.")] = None
    infra: Annotated[
        str | None, typer.Option(metavar="CLOUD[/REGION[/ZONE]]", help="Where to run; * leaves a part open.")
    ] = None
    cloud: Annotated[str | None, typer.Option(hidden=True, help="Old form of --infra.")] = None
    region: Annotated[str | None, typer.Option(hidden=True, help="Old form of --infra.")] = None
    zone: Annotated[str | None, typer.Option(hidden=True, help="Old form of --infra.")] = None
    num_nodes: Annotated[int | None, typer.Option(min=1, metavar="N", help="How many nodes.")] = None
    gpus: Annotated[
        str | None, typer.Option(metavar="NAME[:COUNT]", help="Accelerators per node, such as A100:8 or L4:0.5.")
    ] = None
    cpus: Annotated[str | None, typer.Option(metavar="N[+]", help="Virtual CPUs per node; 4+ is at least 4.")] = None
    memory: Annotated[str | None, typer.Option(metavar="GB[+]", help="Memory per node; 4x is 4 GB per CPU.")] = None
    instance_type: Annotated[
        str | None, typer.Option("--instance-type", "-t", metavar="TYPE", help="The cloud's own machine type.")
    ] = None
    use_spot: Annotated[
        bool | None, typer.Option("--use-spot/--no-use-spot", help="Use machines that the cloud may take back.")
    ] = None
    disk_size: Annotated[str | None, typer.Option(metavar="GB", help="Disk per node.")] = None
    disk_tier: Annotated[
        str | None, typer.Option(metavar="TIER", help="low, medium, high, ultra, best, or none for the default.")
    ] = None
    network_tier: Annotated[str | None, typer.Option(metavar="TIER", help="standard or best.")] = None
    local_disk: Annotated[str | None, typer.Option(metavar="[nvme:|ssd:]GB[+]", help="Disks inside the machine.")] = (
        None
    )
    image_id: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Machine image, or docker:IMAGE for a container.")
    ] = None
    ports: Annotated[
        list[str] | None, typer.Option(metavar="PORT", help="Port, range 8000-8010, or list to open. Repeatable.")
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE]", help="Variable; without a value, yours is passed on. Repeatable."),
    ] = None
    env_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Variables from a dotenv file. Repeatable.")
    ] = None
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Variable that is never printed; without a value, yours is passed on, which keeps it out of the "
            "process list. Repeatable.",
        ),
    ] = None
    secret_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Secrets from a dotenv file. Repeatable.")
    ] = None
