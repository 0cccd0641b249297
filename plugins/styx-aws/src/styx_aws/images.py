"""Which machine image (AMI) a machine boots, who logs in to it, and what its root disk is.

Ids differ by region and change with every release, so they are looked up in AWS's public Systems Manager parameters.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any, Final

from styx.plugin import CatalogRow, NodeRequest, Scope, UnsupportedError, VendorDetail
from styx_aws.families import family
from styx_aws.session import Clients

_UBUNTU: Final = "/aws/service/canonical/ubuntu/server/22.04/stable/current/{}/hvm/ebs-gp2/ami-id"
_NVIDIA: Final = "/aws/service/deeplearning/ami/{}/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
_NVIDIA_CLOSED: Final = (
    "/aws/service/deeplearning/ami/x86_64/base-proprietary-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
)
_NEURON: Final = "/aws/service/neuron/dlami/multi-framework/ubuntu-22.04/latest/image_id"

_OLD_NVIDIA: Final = frozenset({"g3", "g3s", "p2", "p3", "p3dn"})
"""Families whose GPUs NVIDIA's open kernel modules do not drive."""
_USERS: Final = (("debian", "admin"), ("al2023", "ec2-user"), ("amzn", "ec2-user"), ("amazon linux", "ec2-user"))
KEEP_FOR_S: Final = 3600.0


@dataclass(frozen=True)
class Ami:
    """An image as it is in one region.

    Attributes:
        id: Of the image.
        user: Who logs in.
        root_device: Name of its root disk, such as `/dev/sda1`.
        smallest_gib: The root disk can't be smaller.
    """

    id: str
    user: str
    root_device: str
    smallest_gib: int


def parameter(offer: CatalogRow) -> str:
    """The public parameter that names the image for a machine."""
    arm = offer.arch == "arm64"
    if offer.accelerator_vendor == "aws":
        return _NEURON
    if offer.accelerator_vendor == "nvidia":
        if family(offer.instance_type) in _OLD_NVIDIA:
            return _NVIDIA_CLOSED
        return _NVIDIA.format("arm64" if arm else "x86_64")
    return _UBUNTU.format("arm64" if arm else "amd64")


def wanted(request: NodeRequest, configured: str | None) -> str:
    """AMI or parameter for a request: the task's own image, else that of the settings, else the usual one."""
    if request.image is not None and request.image.kind == "machine":
        return request.image.ref
    return configured or parameter(request.offer)


def user_of(image: dict[str, Any]) -> str:
    """Who logs in to an image, by its name; Ubuntu's way is the most common one."""
    text = f"{image.get('Name', '')} {image.get('Description', '')}".lower()
    if "ubuntu" in text:
        return "ubuntu"
    return next((user for word, user in _USERS if word in text), "ubuntu")


class Images:
    """Looks images up, and remembers them for an hour: a create that is repeated must ask for the same one."""

    def __init__(self, clients: Clients, clock: Any) -> None:
        self._clients = clients
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, Ami]] = {}

    def find(self, region: str, name: str) -> Ami:
        """The image behind an AMI's id, or behind a parameter's name (also written `ssm:/path` or `resolve:ssm:/path`).

        Raises:
            UnsupportedError: There is none in this region.
        """
        with self._lock:
            known = self._known.get((region, name))
        if known is not None and self._clock() - known[0] < KEEP_FOR_S:
            return known[1]
        found = self._look_up(region, name)
        with self._lock:
            self._known[region, name] = (self._clock(), found)
        return found

    def _look_up(self, region: str, name: str) -> Ami:
        image_id = name
        if not name.startswith("ami-"):
            path = name.removeprefix("resolve:").removeprefix("ssm:")
            reply = self._clients.call("ssm", region, "get_parameters", Names=[path])
            values = [str(one["Value"]) for one in reply.get("Parameters", ())]
            if not values:
                raise UnsupportedError(
                    f"region {region} has no image {name}",
                    scope=Scope.REGION,
                    hint="name an AMI of that region in `image_id` of the task, or in clouds.aws.image",
                )
            image_id = values[0]
        try:
            images = self._clients.call("ec2", region, "describe_images", ImageIds=[image_id]).get("Images", ())
        except UnsupportedError as error:
            if error.vendor.code == "InvalidAMIID.Malformed":
                raise
            raise _not_there(image_id, region, error.vendor) from None
        if not images:
            raise _not_there(image_id, region, None)
        return _ami(images[0])


def _not_there(image_id: str, region: str, vendor: VendorDetail | None) -> UnsupportedError:
    return UnsupportedError(
        f"AMI {image_id} is not in region {region}, or not shared with this account",
        scope=Scope.REGION,
        hint="AMIs belong to one region: name one for each, or copy it there",
        vendor=vendor,
    )


def _ami(image: dict[str, Any]) -> Ami:
    root = image.get("RootDeviceName") or "/dev/sda1"
    disks = [disk for disk in image.get("BlockDeviceMappings", ()) if disk.get("DeviceName") == root]
    sizes = [int(disk.get("Ebs", {}).get("VolumeSize") or 0) for disk in disks]
    return Ami(str(image["ImageId"]), user_of(image), root, max(sizes, default=0))
