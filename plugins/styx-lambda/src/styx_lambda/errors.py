"""What Lambda's error codes tell the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from styx.plugin import (
    AmbiguousError,
    BalanceError,
    CapacityError,
    CloudError,
    CredentialsError,
    DriverError,
    QuotaError,
    TransientError,
    UnsupportedError,
)
from styx.rest import Failure

ABSENT: Final = "global/object-does-not-exist"
INVALID: Final = "global/invalid-parameters"


class Throttled(TransientError):
    """Too many calls: this one was not carried out."""


ERRORS: Final[Mapping[str, type[CloudError]]] = {
    "firewall-rulesets/firewall-ruleset-in-use": TransientError,
    "global/account-inactive": BalanceError,
    "global/conflict": TransientError,
    "global/duplicate": UnsupportedError,
    "global/forbidden": CredentialsError,
    "global/internal-error": TransientError,
    "global/invalid-address": BalanceError,
    "global/invalid-api-key": CredentialsError,
    INVALID: UnsupportedError,
    "global/not-found": DriverError,
    ABSENT: DriverError,
    "global/quota-exceeded": QuotaError,
    "instance-operations/launch/file-system-in-wrong-region": UnsupportedError,
    "instance-operations/launch/insufficient-capacity": CapacityError,
}
"""Lambda's error codes. Any other goes by its HTTP status."""

LAUNCH_ERRORS: Final[Mapping[str, type[CloudError]]] = {**ERRORS, "global/internal-error": AmbiguousError}
"""Of a launch, which has no idempotency token: Lambda may have failed after it had made the machine."""


def classify(failure: Failure) -> type[CloudError] | None:
    """What the code alone does not say: too many calls come under several codes, and so do troubles upstream."""
    if failure.status == 429:
        return Throttled
    return TransientError if failure.code.startswith("provider/") else None


def classify_launch(failure: Failure) -> type[CloudError] | None:
    """Of a launch: a machine may exist behind a failure of Lambda's own."""
    return AmbiguousError if failure.status >= 500 else classify(failure)
