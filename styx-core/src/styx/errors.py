"""Every error Styx raises, in one tree.

StyxError                         exit code
├── UsageError                     2   the command line itself is wrong
├── InvalidInput                  65   a task or config file is wrong: carries `Fault`s
│   └── CatalogRefused            65   a catalog file is broken or not to be believed
├── NotFound                      66   no such cluster, job, plugin
├── WrongState                    67   the cluster exists but cannot do that now
├── Unreachable                   68   a node or its agent does not answer
├── NoPlaceLeft                   69   every place refused: carries the attempts
├── InternalError                 70   a bug in Styx or in a plugin
├── NotExecutable                 71   a valid field that this release does not execute
├── Interrupted                   72   the user pressed Ctrl-C
├── NotConfirmed                  73   a paid or destructive action was not confirmed
├── LocalIOError                  74   disk full, unreadable file, damaged database
├── DeadlineExceeded              75   a wait ended, or another client holds the cluster
├── ProtocolMismatch              76   client and agent speak different versions
├── PermissionRefused             77   a policy or the operating system says no
│   └── BudgetExceeded            77   it would cost more than a budget of the config allows
├── PluginError                   78   a plugin is missing, broken or incompatible
└── CloudError                         raised by drivers, read by the engine
    ├── CredentialsError          77   block the account
    ├── BalanceError              69   block the account
    ├── QuotaError                69   block the scope
    ├── CapacityError             69   block the scope; remembered, decays
    ├── TransientError            75   same call again after `retry_after_s`
    ├── AmbiguousError            75   list until `settle_s` has passed, then adopt or retry
    ├── UnsupportedError          71   block the scope: no repeat can mend it there
    └── DriverError               70   next region, and report

The exit codes 64 to 78 follow the spirit of BSD's sysexits(3). A job's own exit code is never one of ours to choose:
it is passed through, and `--json` says which of the two it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from styx.driver import Node


class Scope(StrEnum):
    """How far a cloud's refusal reaches, narrowest first."""

    OFFER = "offer"
    ZONE = "zone"
    REGION = "region"
    ACCOUNT = "account"
    CLOUD = "cloud"


@dataclass(frozen=True)
class Fault:
    """One thing wrong in one file: what `styx validate` prints as one line."""

    message: str
    file: str | None = None
    line: int | None = None
    field: str | None = None
    value: str | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        """`file:line: field: message (got value); suggestion`."""
        where = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        got = f" (got {self.value})" if self.value is not None else ""
        lead = ": ".join(part for part in (where, self.field) if part)
        tail = f"; {self.suggestion}" if self.suggestion else ""
        return f"{lead}: {self.message}{got}{tail}" if lead else f"{self.message}{got}{tail}"


class StyxError(Exception):
    """Base of all. `str(error)` is one sentence for the user; `hint` says what to do next."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def retold(self, message: str) -> Self:
        """The same error, which now says this: for who knows more about it than its maker."""
        self.message = message
        self.args = (message,)
        return self


class UsageError(StyxError):
    """The command line itself is wrong."""

    exit_code = 2


class InvalidInput(StyxError):
    """A task, config or env file is wrong; `faults` has one entry per mistake."""

    exit_code = 65

    def __init__(self, faults: Sequence[Fault], *, hint: str | None = None) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults), hint=hint)


class NotFound(StyxError):
    """No cluster, job or plugin has that name."""

    exit_code = 66


class WrongState(StyxError):
    """The cluster exists but cannot do that in its present state."""

    exit_code = 67


class Unreachable(StyxError):
    """A node, or the agent on it, does not answer, or was lost while its job ran."""

    exit_code = 68


class NoPlaceLeft(StyxError):
    """Every place that could run the task refused, or none exists; the message lists the reasons."""

    exit_code = 69

    def __init__(self, message: str, *, hint: str | None = None, lasting: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.lasting = lasting
        """Nothing is gained by trying again later."""


class InternalError(StyxError):
    """A bug in Styx or in a plugin; the traceback is in the log file named by `hint`."""

    exit_code = 70


class NotExecutable(StyxError):
    """The task is valid but uses fields that this release, or this place, does not execute."""

    exit_code = 71


class Interrupted(StyxError):
    """The user pressed Ctrl-C; the message says what exists and what goes on."""

    exit_code = 72


class NotConfirmed(StyxError):
    """A paid or destructive action was declined, or could not be asked about."""

    exit_code = 73


class LocalIOError(StyxError):
    """This machine's disk, a file on it, or the state database failed."""

    exit_code = 74


class DeadlineExceeded(StyxError):
    """A wait ended without its answer, or another client held the cluster for too long."""

    exit_code = 75


class ProtocolMismatch(StyxError):
    """The agent on a node speaks a protocol version that this client does not."""

    exit_code = 76


class PermissionRefused(StyxError):
    """An organisation policy, or the operating system, refused the action."""

    exit_code = 77


class BudgetExceeded(PermissionRefused):
    """It would cost more than a budget of the config allows, or nobody knows what it costs."""


class PluginError(StyxError):
    """A plugin is missing, fails to load, or was built for another plugin API version."""

    exit_code = 78


@dataclass(frozen=True)
class VendorDetail:
    """What the cloud itself said, kept word for word for `styx why`. Never contains a secret."""

    code: str | None = None
    message: str | None = None
    request_id: str | None = None
    extra: dict[str, str] = field(default_factory=dict)


class CatalogRefused(InvalidInput):
    """A catalog file is broken or not to be believed; the rows in use stay as they were."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__([Fault(message)], hint=hint)


class CloudError(StyxError):
    """Base of what drivers raise. Each class is an instruction to the engine.

    Args:
        message: One sentence in plain words.
        scope: How far the refusal reaches; the engine blocks that much and plans again.
        vendor: The cloud's own code, message and request id.
        created: Machines that do exist in spite of the error; the engine adopts or removes them.
        hint: What the user can do.
    """

    default_scope: ClassVar[Scope] = Scope.REGION

    def __init__(
        self,
        message: str,
        *,
        scope: Scope | None = None,
        vendor: VendorDetail | None = None,
        created: Sequence[Node] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.scope = scope or self.default_scope
        self.vendor = vendor or VendorDetail()
        self.created = tuple(created)


class CredentialsError(CloudError):
    """Missing, wrong or expired credentials; `hint` says how to fix them."""

    exit_code = 77
    default_scope = Scope.ACCOUNT


class BalanceError(CloudError):
    """The account has no money left."""

    exit_code = 69
    default_scope = Scope.ACCOUNT


class QuotaError(CloudError):
    """A quota of the account is used up."""

    exit_code = 69


class CapacityError(CloudError):
    """The cloud has none left there. Remembered with a decaying weight."""

    exit_code = 69
    default_scope = Scope.ZONE


class TransientError(CloudError):
    """Not now: make the same call again after `retry_after_s` seconds."""

    exit_code = 75
    default_scope = Scope.OFFER

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float = 1.0,
        vendor: VendorDetail | None = None,
        created: Sequence[Node] = (),
    ) -> None:
        super().__init__(message, vendor=vendor, created=created)
        self.retry_after_s = retry_after_s


class AmbiguousError(CloudError):
    """The reply was lost: list until `settle_s` has passed, then adopt what exists or call again."""

    exit_code = 75
    default_scope = Scope.OFFER

    def __init__(self, message: str, *, settle_s: float = 10.0, vendor: VendorDetail | None = None) -> None:
        super().__init__(message, vendor=vendor)
        self.settle_s = settle_s


class UnsupportedError(CloudError):
    """The request cannot work in that scope, now or later (a wish that it lacks, a bug): the engine goes elsewhere."""

    exit_code = 71
    default_scope = Scope.CLOUD


class DriverError(CloudError):
    """Anything else; the engine tries the next region and reports."""

    exit_code = 70
