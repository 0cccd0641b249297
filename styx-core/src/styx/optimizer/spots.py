"""In which places a row can be bought, and which of them are open. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from styx.driver import CatalogRow, Place


class Spots:
    """Enabled places by row. A place or a row without a zone takes the other's."""

    def __init__(self, enabled: Sequence[Place]) -> None:
        self._enabled: defaultdict[tuple[str, str], list[Place]] = defaultdict(list)
        for place in dict.fromkeys(enabled):
            self._enabled[place.cloud, place.region].append(place)
        self._known: dict[tuple[str, str, str | None], tuple[Place, ...]] = {}

    def of(self, row: CatalogRow, zone: str | None = None) -> tuple[Place, ...]:
        """Places where it could be bought, in the order they were enabled, each once.

        Args:
            row: The offer.
            zone: The one that it is to be held to; None is the row's own, if any.
        """
        return self.at((row.cloud, row.region, zone or row.zone))

    def at(self, where: tuple[str, str, str | None]) -> tuple[Place, ...]:
        """Places of a cloud's region, or of one zone of it."""
        found = self._known.get(where)
        if found is None:
            cloud, region, zone = where
            places = [
                place if zone is None or place.zone else _in_zone(place, zone)
                for place in self._enabled.get((cloud, region), ())
                if place.zone is None or zone is None or place.zone == zone
            ]
            found = self._known[where] = tuple(dict.fromkeys(places))
        return found


def _in_zone(place: Place, zone: str) -> Place:
    return Place(cloud=place.cloud, account=place.account, region=place.region, zone=zone)


def covers(block: Place, place: Place) -> bool:
    """Whether a blocked place (`*` or nothing: any) takes this one in."""
    return (
        block.cloud == place.cloud
        and block.account in ("", "*", place.account)
        and block.region in ("", "*", place.region)
        and block.zone in (None, place.zone)
    )
