"""What an author supplies so that the suite can move the (fake or real) vendor behind a driver."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Any

from styx.driver import CatalogRow, Driver, NodeRequest, OfferQuery, Place, QuotesLive
from styx.errors import CloudError
from styx.testing.contexts import OTHER_STORE, STORE

AnyDriver = Driver[Any]
PRIVATE = "styx_private_drivers"
"""Package under which Styx loads the files of `$STYX_HOME/drivers`."""
SSH_PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGNvbmZvcm1hbmNlY29uZm9ybWFuY2Vjb25mb3JtYW5j styx"


class FaultKind(StrEnum):
    """Ways in which a vendor can let a driver down."""

    REFUSED = "refused"
    """The next create is refused with the vendor's `code`; nothing is made."""
    LOST_REPLY = "lost_reply"
    """The next machine is made, and the reply never arrives."""
    PARTIAL = "partial"
    """Of the next machines, `after` are made; the one after them is refused for want of capacity."""
    LATE = "late"
    """The next machine is accepted, and then fails or vanishes instead of running."""
    LISTING = "listing"
    """The next listing of machines fails."""


@dataclass(frozen=True)
class Fault:
    """One failure to be staged."""

    kind: FaultKind
    code: str | None = None
    after: int = 0


@dataclass(frozen=True)
class Truth:
    """One machine as the vendor itself knows it. Leave None where the vendor keeps no such thing.

    Attributes:
        id: The vendor's id, equal to `Node.id`.
        ssh_keys: Public keys that open it.
        boot_script: User data it was given.
        labels: All its tags or labels.
        ports: Ports open to the outside.
    """

    id: str
    ssh_keys: frozenset[str] | None = None
    boot_script: str | None = None
    labels: Mapping[str, str] | None = None
    ports: frozenset[int] | None = None


class Harness(ABC):
    """The levers of one vendor with one account in it, fresh for each check.

    Seven methods must be written. What legitimately differs between vendors is a value of the attributes below, not a
    skipped check.
    """

    credentials: Mapping[str, str] = {}
    """Secrets that work, by the names the driver asks `Context.secrets` for. Each value must be distinctive (at least
    eight characters), because the suite searches everything the driver lets out for it. Empty: the cloud needs none."""

    error_table: Mapping[str, type[CloudError]] = {}
    """The driver's own table, imported from its module: vendor code to error class. Only a free cloud may have none."""

    unknown_code: str | None = "never-heard-of-it"
    """A code that is in no table. None only where the vendor has no codes at all."""

    impossible: frozenset[FaultKind] = frozenset()
    """Failures that cannot happen at this vendor; say why beside it."""

    page_size: int | None = None
    """Machines in one page of the (fake) vendor's listing; make it small. None: listings are not paged."""

    installs_key: bool = True
    """Whether the request's SSH key is put on the machine. False for machines that exist already and are reached with
    the user's own login: then the suite checks that no key is added."""

    quota_counts_down: bool = True
    """Whether the (fake) vendor's quota takes the machines that exist into account."""

    light_imports: frozenset[str] = frozenset()
    """Top-level modules, beside the standard library, that importing the driver may load."""

    # ----------------------------------------------------------------------------------------- must be written

    @abstractmethod
    def driver(self, *, store: str = STORE, secrets: Mapping[str, str] | None = None) -> AnyDriver:
        """A new driver instance that talks to the vendor.

        `store` goes to `Context.store`; `secrets` (by default `credentials`) is all that `Context.secrets` knows.
        `styx.testing.contexts.make_context` makes the context.
        """

    @abstractmethod
    def machines(self) -> Sequence[Truth]:
        """Every machine that exists or is being made in the account, asked of the vendor and not of the driver."""

    @abstractmethod
    def plant_foreign(self, place: Place) -> Sequence[str]:
        """Make machines in the account that no Styx made, and return their ids.

        Make one as unlike ours as can be, and one that comes as close as a person could: a name that begins with
        `styx-`, labels of the same names. Empty only where such a thing cannot exist.
        """

    @abstractmethod
    def fail_next(self, fault: Fault) -> None:
        """Stage a failure. Never called for a kind in `impossible`."""

    @abstractmethod
    def advance(self, seconds: float) -> None:
        """Let the vendor's time, and `Context.clock`, move on. On real time, sleep no longer than the vendor needs."""

    # ------------------------------------------------------------------------------------- may be overridden

    def remains(self) -> Sequence[str]:
        """Names of whatever else the driver made in the account and has not removed: groups, keys, addresses."""
        return ()

    def request_lines(self) -> Sequence[str]:
        """URLs that the vendor was asked for, with their query strings; headers and bodies left out."""
        return ()

    def bad_credentials(self) -> Mapping[str, str]:
        """Secrets of the right names that do not work."""
        return {name: f"wrong-{name.lower()}-canary" for name in self.credentials}

    def registered_name(self, driver_type: type[AnyDriver]) -> str | None:
        """The name of the entry point in group `styx.drivers` that leads to the class, or of a private cloud's file."""
        package, _, module = driver_type.__module__.partition(".")
        if package == PRIVATE:
            return module
        for point in entry_points(group="styx.drivers"):
            if point.module.partition(".")[0] == package and point.load() is driver_type:
                return point.name
        return None

    def rows(self, driver: AnyDriver) -> Sequence[CatalogRow]:
        """What the driver sells: its catalog, or its live quotes where it has no catalog."""
        rows = list(driver.fetch())
        if not rows and isinstance(driver, QuotesLive):
            rows = list(driver.offers(OfferQuery(), 30.0))
        return rows

    def place(self, driver: AnyDriver) -> Place:
        """Where the suite makes machines: by default the first usable place for which there is a row."""
        places = [place for place, problem in driver.check().places.items() if problem is None]
        for place in places:
            if any(sold_in(row, place) for row in self.rows(driver)):
                return place
        raise AssertionError(f"no usable place of {driver.name} has a row: places {[str(one) for one in places]}")

    def request(
        self, driver: AnyDriver, count: int = 1, *, slug: str = "conform", place: Place | None = None
    ) -> NodeRequest:
        """A request for the cheapest row in `place`, under the key of a cluster of the driver's store."""
        where = place or self.place(driver)
        rows = [row for row in self.rows(driver) if sold_in(row, where)]
        if not rows:
            raise AssertionError(f"{driver.name} sells nothing in {where}")
        offer = min(rows, key=lambda row: row.usd_per_hour if row.usd_per_hour is not None else float("inf"))
        return order(driver, offer, where, count, slug=slug)


def order(driver: AnyDriver, offer: CatalogRow, place: Place, count: int = 1, *, slug: str = "conform") -> NodeRequest:
    """A request for `count` machines of a row, with a fresh token and all that the row's features can carry."""
    features = offer.features or driver.features
    return NodeRequest(
        token=uuid.uuid4().hex,
        cluster=cluster_key(slug, driver.context.store),
        store=driver.context.store,
        place=place,
        offer=offer,
        count=count,
        ssh_public_key=SSH_PUBLIC_KEY,
        boot_script="#!/bin/sh\n: conformance\n" if features.user_data else None,
        ports=(8080,) if features.ports != "never" else (),
        labels={"team": "conformance"},
    )


def sold_in(row: CatalogRow, place: Place) -> bool:
    """Whether a row can be bought in a place."""
    return row.region == place.region and (row.zone is None or place.zone is None or row.zone == place.zone)


def cluster_key(slug: str, store: str, generation: int = 1) -> str:
    """A cluster key as the store makes it."""
    return f"styx-{slug[:10]}-{store}{generation:02d}"


__all__ = [
    "OTHER_STORE",
    "SSH_PUBLIC_KEY",
    "STORE",
    "AnyDriver",
    "Fault",
    "FaultKind",
    "Harness",
    "Truth",
    "cluster_key",
    "order",
    "sold_in",
]
