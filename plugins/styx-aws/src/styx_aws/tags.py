"""The tags by which things are ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

CLUSTER: Final = "styx-cluster"
STORE: Final = "styx-store"
TOKEN: Final = "styx-token"  # noqa: S105 - a tag's name
RANK: Final = "styx-rank"
"""Rank of the first machine of its RunInstances; the others follow by their launch index."""
USER: Final = "styx-login"
HOST_KEY: Final = "styx-host-key"
PRICE: Final = "styx-usd-per-hour"
DISK: Final = "styx-disk-gib"
"""Size of a machine's root disk, which no listing of machines has."""
SPOT: Final = "styx-spot"
"""Kind of the spot request that made a machine."""


def tag_list(table: Mapping[str, str]) -> list[dict[str, str]]:
    """As AWS writes tags."""
    return [{"Key": name, "Value": value} for name, value in table.items()]


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """The tags of an instance, group, address, disk or request."""
    return {str(tag["Key"]): str(tag["Value"]) for tag in thing.get("Tags") or ()}


def filters(store: str, cluster: str | None = None, token: str | None = None) -> list[dict[str, Any]]:
    """Filters for things of this installation, of one cluster, of one request."""
    wanted = {STORE: store, CLUSTER: cluster, TOKEN: token}
    return [{"Name": f"tag:{name}", "Values": [value]} for name, value in wanted.items() if value is not None]


def carries(thing: Mapping[str, Any], wanted: list[dict[str, Any]]) -> bool:
    """Whether a thing has all tags of `filters`, whole: nothing is removed because a filter was not applied."""
    named = tags_of(thing)
    return all(named.get(str(one["Name"]).removeprefix("tag:")) in one["Values"] for one in wanted)


def is_ours(thing: Mapping[str, Any], store: str, cluster: str | None) -> bool:
    """Whether a thing carries this installation's key, whole: a filter that AWS did not apply is caught here."""
    named = tags_of(thing)
    key = named.get(CLUSTER, "")
    return named.get(STORE) == store and key.startswith("styx-") and store in key and cluster in (None, key)
