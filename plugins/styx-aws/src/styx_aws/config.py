"""Settings of AWS."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from styx.plugin import DriverConfig

MAIN_REGIONS: Final = (
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
)


class AwsConfig(DriverConfig):
    """Settings under `clouds.aws`; none is needed."""

    profile: str | None = None
    """Profile of `~/.aws/config` to use; without it, the keys of the environment, then AWS_PROFILE, then `default`."""
    regions: tuple[str, ...] = Field(default=MAIN_REGIONS, min_length=1)
    """Regions whose prices a refresh reads, and whose machines are considered, as far as the account has them."""
    spot_prices: bool = True
    """Read spot prices too, where there are credentials: AWS has no public list of them."""
    price_endpoint: str = "https://pricing.us-east-1.amazonaws.com"
    """Address of the public price list."""
    vpc: str | None = None
    """Id or Name tag of the network for machines; without it, the default one of the region."""
    subnets: tuple[str, ...] = ()
    """Ids of the only subnets to use; those of other regions are passed over."""
    security_groups: tuple[str, ...] = ()
    """Ids of groups to use as they are; Styx then makes none, and can open no ports."""
    private_ips: bool = False
    """Give machines no public address and reach them by their private one, from within the network or by `jump`."""
    jump: str | None = None
    """Hosts to go through on the way to machines, `[user@]host[:port]`, several separated by commas."""
    proxy_command: str | None = None
    """Command that connects to a machine, as ProxyCommand of ssh_config(5), such as one of Session Manager."""
    ssh_from: tuple[str, ...] = ("0.0.0.0/0",)
    """Addresses (CIDR) that may log in to machines."""
    ports_from: tuple[str, ...] = ("0.0.0.0/0",)
    """Addresses (CIDR) that may connect to opened ports."""
    image: str | None = None
    """AMI, or the name of a public Systems Manager parameter that holds one, instead of the usual choice."""
    ssh_user: str | None = None
    """Who logs in; without it, the usual name of the image: `ubuntu`, `ec2-user` or `admin`."""
    key_pair: str | None = None
    """Name of a key pair of yours that may log in too. Styx's own key does not need one."""
    instance_profile: str | None = None
    """Name or ARN of the instance profile that machines get; without it they can call nothing of AWS."""
    encrypt_disks: bool = False
    """Ask for an encrypted root disk, also where the account does not by default."""
    spot: Literal["one-time", "persistent"] = "one-time"
    """Kind of spot requests. Machines of persistent ones can be stopped, and an interruption stops them as well."""
    capacity_reservations: tuple[str, ...] = ()
    """Ids of capacity reservations or capacity blocks to fill first, where one fits the machine."""
    placement_group: str | None = None
    """Name of a placement group of yours for all machines."""
    launch_size: int = Field(default=100, ge=1, le=1000)
    """Most machines of one request to AWS; those of one request come all together or not at all."""
