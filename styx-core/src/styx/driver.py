"""The driver contract: what a cloud tells Styx, and what Styx asks of it.

The values are those of `styx.values`; the roles (`Cloud`, `CatalogSource`, `Provisioner`) are here; what a cloud can do
beside them are the mixins of `styx.abilities`. A one-file cloud subclasses `Driver`.

A driver never waits, never sleeps and never retries: the engine calls it again, in a thread, behind a deadline. It may
be called from several threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Protocol, TypeVar

from styx.abilities import (
    CAPABILITIES,
    EndsItself,
    HasVolumes,
    HasZones,
    MakesImages,
    MakesTransport,
    OpensPorts,
    QuotesLive,
    ReportsQuota,
    Stoppable,
    WarnsBeforeEnd,
    capabilities,
)
from styx.errors import StyxError, Unreachable, UnsupportedError
from styx.values import (
    CatalogRow,
    DiskPrice,
    Ended,
    Endpoint,
    Exec,
    FeatureSet,
    Image,
    Leftover,
    Limits,
    Local,
    Market,
    Node,
    NodeRequest,
    NodeState,
    OfferQuery,
    Place,
    PluginReach,
    Problem,
    Reach,
    SelfEnd,
    Ssh,
    Value,
    Waiting,
)

__all__ = [
    "CAPABILITIES",
    "CatalogRow",
    "CatalogSource",
    "Cloud",
    "Completed",
    "ConfigT",
    "Context",
    "DiskPrice",
    "Driver",
    "DriverConfig",
    "Ended",
    "Endpoint",
    "EndsItself",
    "Exec",
    "FeatureSet",
    "HasVolumes",
    "HasZones",
    "Identity",
    "Image",
    "Leftover",
    "Limits",
    "Local",
    "MakesImages",
    "MakesTransport",
    "Market",
    "Node",
    "NodeRequest",
    "NodeState",
    "OfferQuery",
    "OpensPorts",
    "Permissions",
    "Place",
    "PluginReach",
    "Problem",
    "Provisioner",
    "QuotesLive",
    "Reach",
    "ReportsQuota",
    "SelfEnd",
    "Ssh",
    "SshDoor",
    "SshFailed",
    "Stoppable",
    "Value",
    "Waiting",
    "WarnsBeforeEnd",
    "capabilities",
]


class DriverConfig(Value):
    """Base of a driver's own settings, read from `clouds.<name>` of the config; every field has a docstring."""


@dataclass(frozen=True)
class Identity:
    """Who we are at a cloud.

    Attributes:
        account: Stable name of the account (an id, never a secret).
        places: Every place that can be used, with None, or the reason why it can't.
        user: For display.
        notes: What `styx check` says beside that, and what stops nothing: one host of many that does not answer.
    """

    account: str
    places: Mapping[Place, StyxError | None]
    user: str | None = None
    notes: Sequence[str] = ()


class Permissions(Value):
    """Which of the vendor's permissions, by its own names, the credentials have."""

    granted: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    """Those that could not be asked about."""
    policy: str | None = None
    """Path of a document, in the vendor's format, that grants all that is needed."""


@dataclass(frozen=True)
class Completed:
    """A command that ended."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class SshFailed(Unreachable):
    """A host was not reached over SSH, or lost while a command ran.

    Attributes:
        reason: At which step. Only after `lost` may the command have run.
    """

    def __init__(
        self,
        message: str,
        reason: Literal["dns", "refused", "timeout", "no_route", "proxy", "not_ssh", "host_key", "auth", "lost"],
        *,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class SshDoor(Protocol):
    """How a driver runs a command on a host that exists already: logins, keys and host keys are the engine's."""

    def run(self, reach: Ssh, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` in the login's home folder, to its end. Logins are kept and shared with the engine.

        Raises:
            SshFailed: The host was not reached, or lost meanwhile.
            DeadlineExceeded: The command did not end in time; it may still run.
        """

    def host_key(self, reach: Ssh) -> str:
        """The public key that the host proved to have, for `Ssh.host_key` of nodes.

        Raises:
            SshFailed: The host was not reached.
        """


@dataclass(frozen=True)
class Context:
    """All that a driver may know of the world; it reads nothing else, the process environment included.

    Attributes:
        workspace: Name of the workspace.
        user: Who acts, for tags.
        store: This installation's id.
        config: The driver's own settings, validated by its `config_type`.
        secrets: Environment-like look-up for credentials (`secrets("LAMBDA_API_KEY")`).
        clock: Unix seconds.
        http: Makes an HTTP client; only REST drivers call it.
        ssh: Runs commands on hosts; only drivers of machines that exist already call it.
        home: `$STYX_HOME`.
        user_home: The user's home folder, for credential files of the vendors' own conventions.
        remote: True on a node or server, where the environment must not be read for secrets.
    """

    workspace: str
    user: str
    store: str
    config: DriverConfig
    home: Path
    user_home: Path
    secrets: Callable[[str], str | None]
    clock: Callable[[], float]
    http: Callable[[], Any] | None = None
    remote: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    ssh: SshDoor | None = None


ConfigT = TypeVar("ConfigT", bound=DriverConfig)


class Cloud(ABC):
    """Who the cloud is."""

    name: ClassVar[str]
    """Equal to the entry point's name."""
    display_name: ClassVar[str]
    """For people."""
    config_type: ClassVar[type[DriverConfig]] = DriverConfig
    """Validates `clouds.<name>` of the config."""
    features: ClassVar[FeatureSet] = FeatureSet()
    """Defaults for the rows."""
    limits: ClassVar[Limits] = Limits()
    """The cloud's limits."""
    plugin_api: ClassVar[int] = 1
    """The plugin API version this driver was written for; see `styx.plugin.API_VERSION`."""
    free: ClassVar[bool] = False
    """Its machines cost nothing and hold no credentials: a launch there asks nothing."""

    @abstractmethod
    def check(self) -> Identity:
        """The account and its places. Costs nothing.

        Raises:
            CredentialsError: Says in `hint` how to fix it.
        """

    def account(self) -> str:
        """The account's name as `check` gives it, for comparison. Override it where `check` asks for much more.

        Raises:
            CredentialsError: As `check` does.
        """
        return self.check().account

    def former_accounts(self) -> Collection[str]:
        """Other names under which places of this account may be on record: where its name may change, and it stays."""
        return ()

    def account_hint(self, account: str) -> str | None:  # noqa: ARG002 - for drivers
        """What a user sets who knows that `account`, a name on record, is of the account behind the credentials."""
        return None

    def missing_permissions(self) -> Permissions | None:
        """What the credentials are not allowed to do and the driver needs. Changes nothing; None is no such check."""
        return None

    def disk_usd_per_gib_month(self, place: Place, tier: str | None) -> float | None:  # noqa: ARG002 - for drivers
        """List price of the disk under a machine, by the task's `disk_tier`, for estimates in the cost report.

        None is unknown; 0 where disks come with the machine.
        """
        return 0.0 if self.free else None

    def disk_price(
        self,
        place: Place,
        offer: CatalogRow | None,  # noqa: ARG002 - for drivers
        gib: float | None,
        tier: str | None,
    ) -> DiskPrice | None:
        """The same for one disk. Override it where the price has a date, a part for speed, or another one when stopped.

        Args:
            place: Where the machine is.
            offer: What it was made from, where that is known.
            gib: The size it has, else the one that was asked for; None is neither.
            tier: The task's `disk_tier`.
        """
        usd = self.disk_usd_per_gib_month(place, tier)
        if usd == 0:
            return DiskPrice(usd=0.0)
        return None if usd is None or gib is None else DiskPrice(usd=usd * gib, gib=gib)


class CatalogSource(ABC):
    """What can be bought."""

    def snapshot(self) -> Path | None:
        """A CSV or Parquet file shipped in the wheel, with the date its figures were true; None when there is none."""
        return None

    @abstractmethod
    def fetch(self) -> Iterable[CatalogRow]:
        """Rows live from the vendor's interface."""


class Provisioner(ABC):
    """Make and unmake machines. Never waits, never retries, never sleeps."""

    @abstractmethod
    def create(self, request: NodeRequest) -> Sequence[Node]:
        """Do the next possible step and return all nodes of the request as they are now.

        Called again with the same request until no node is pending. Idempotent on `request.token`: a repeat never
        makes more than `request.count` machines.

        Raises:
            CloudError: Any of the taxonomy; `.created` lists machines that do exist.
        """

    @abstractmethod
    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """Machines of this installation (`Context.store`) in `place`, of one cluster or (None) of all.

        One paged call answers for all clusters. Machines without this installation's key are never returned.
        `known` are nodes that the engine remembers: one that never appeared in a listing can be reported failed.
        """

    @abstractmethod
    def terminate(self, nodes: Sequence[Node]) -> None:
        """End these machines for good. One that is absent already is not an error. Returns without waiting."""

    def release(self, place: Place, cluster: str) -> None:  # noqa: B027 - most clouds have nothing to release
        """Remove groups, keys, addresses and volumes made for the cluster. Re-entrant; once per place ever tried."""

    def leftovers(self, place: Place) -> Sequence[Leftover]:  # noqa: ARG002 - overridden where there are any
        """Things of this installation in `place` that bill or spawn without being nodes."""
        return ()

    def discard(self, leftover: Leftover) -> None:
        """Remove one of `leftovers`. One that is absent already is not an error. `release` is for whole clusters."""
        if leftover.cluster is None:
            raise UnsupportedError(f"{leftover.kind} {leftover.id} in {leftover.place} belongs to no cluster")
        self.release(leftover.place, leftover.cluster)


class Driver(Cloud, CatalogSource, Provisioner, Generic[ConfigT]):
    """A cloud in one class: identity, catalog and provisioner."""

    def __init__(self, context: Context) -> None:
        """Keep the context; open nothing."""
        self.context = context

    @property
    def config(self) -> ConfigT:
        """The driver's own settings."""
        return self.context.config  # type: ignore[return-value] # the Hub validated it with config_type
