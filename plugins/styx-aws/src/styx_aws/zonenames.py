"""Zones by their names, which each account has its own of, and by their ids, which all accounts share. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from styx.plugin import UnsupportedError

_DIRECTIONS: Final = {"north": "n", "south": "s", "east": "e", "west": "w", "central": "c", "gov": "g", "iso": "i"}


def id_prefix(region: str) -> str:
    """`use1` for `us-east-1`, `apne1` for `ap-northeast-1`: how the ids of a region's zones begin."""
    words = re.sub("|".join(_DIRECTIONS), lambda word: _DIRECTIONS[word.group()], region)
    return words.replace("-", "")


def plausible(region: str, name: str) -> str:
    """The zone's name or id, if it may be one of the region's.

    Raises:
        UnsupportedError: It can't be.
    """
    own = re.compile(rf"{re.escape(region)}([a-z]|-[a-z0-9-]+)|{re.escape(id_prefix(region))}-[a-z0-9-]+")
    if own.fullmatch(name):
        return name
    raise UnsupportedError(
        f"AWS has no zone {name} in {region}: zones there have names like {region}a or ids like {id_prefix(region)}-az1"
    )


def known(region: str, name: str, zones: Mapping[str, str]) -> str:
    """The id of a zone.

    Args:
        region: Where.
        name: Its name or its id.
        zones: The names that this account has, and their ids.

    Raises:
        UnsupportedError: This account has no such zone.
    """
    if name in zones:
        return zones[name] or name
    if name in zones.values():
        return name
    there = ", ".join(f"{each} ({zones[each]})" for each in sorted(zones))
    raise UnsupportedError(
        f"AWS has no zone {name} in {region} for this account: there is {there or 'none'}",
        hint="zones that must be opted into count once the account has done so",
    )
