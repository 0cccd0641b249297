"""Where to run: `cloud[/region[/zone]]`, `k8s/context`, `ssh/pool`, `slurm/cluster[/partition]`, `*`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from styx.models.base import Compact, Problem
from styx.models.suggest import did_you_mean

KNOWN_CLOUDS: Final = frozenset(
    (
        "aws", "azure", "cudo", "do", "fluidstack", "gcp", "hyperbolic", "ibm", "kubernetes", "lambda", "local",
        "mithril", "nebius", "oci", "paperspace", "primeintellect", "runpod", "scp", "seeweb", "shadeform", "slurm",
        "ssh", "vast", "verda", "vsphere", "yotta",
    )
)  # fmt: skip
"""Clouds that recipes of this format name, whether or not a plugin for them is installed."""

CLOUD_ALIASES: Final[Mapping[str, str]] = {"k8s": "kubernetes", "digitalocean": "do"}
"""Other names of the same clouds."""

_WHOLE_REST_IS_REGION: Final = frozenset({"kubernetes", "ssh"})


def canonical_cloud(name: str) -> str:
    """Lower case, and the one name of a cloud that has two."""
    lowered = name.strip().lower()
    return CLOUD_ALIASES.get(lowered, lowered)


def cloud_suggestion(name: str) -> str | None:
    """`did you mean "aws"?` when the name looks like a known cloud mistyped."""
    cutoff = 0.75 if len(name) > 3 else 0.66
    return did_you_mean(name, KNOWN_CLOUDS | CLOUD_ALIASES.keys(), cutoff=cutoff)


class Infra(Compact):
    """A place, as precisely as the user cares: every part may be left open."""

    cloud: str | None = None
    """The cloud's name in lower case, or None for any cloud."""
    region: str | None = None
    """A region; for Kubernetes the context, for SSH the pool, for Slurm the cluster."""
    zone: str | None = None
    """An availability zone; for Slurm the partition."""

    @classmethod
    def parts(cls, value: str | float) -> Mapping[str, Any]:
        """Split `aws/us-east-1/us-east-1a`; `*` leaves a part open."""
        text = str(value).strip()
        shape = "cloud, cloud/region or cloud/region/zone"
        pieces = [piece.strip() for piece in text.split("/")]
        if not all(pieces):
            raise Problem(f"must be {shape}, without empty parts", suggestion=_without_empty(pieces))
        cloud = None if pieces[0] == "*" else canonical_cloud(pieces[0])
        if cloud in _WHOLE_REST_IS_REGION:
            rest = "/".join(pieces[1:])
            return {"cloud": cloud, "region": rest if rest and rest != "*" else None}
        if len(pieces) > 3:
            raise Problem(f"must be {shape}; it has {len(pieces)} parts")
        region, zone = (None if len(pieces) <= index or pieces[index] == "*" else pieces[index] for index in (1, 2))
        return {"cloud": cloud, "region": region, "zone": zone}

    def __str__(self) -> str:
        parts = [self.cloud or "*", self.region or "*", self.zone or "*"]
        while len(parts) > 1 and parts[-1] == "*":
            parts.pop()
        return "/".join(parts)

    def covers(self, cloud: str, region: str | None = None, zone: str | None = None) -> bool:
        """Whether a concrete place is one of those meant."""
        return all(
            wanted is None or wanted == got
            for wanted, got in ((self.cloud, cloud), (self.region, region), (self.zone, zone))
        )


def _without_empty(pieces: list[str]) -> str | None:
    kept = "/".join(piece for piece in pieces if piece)
    return f'write "{kept}"' if kept else 'write a cloud, such as "aws", or "*" for any'
