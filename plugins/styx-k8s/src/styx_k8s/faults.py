"""What the API server and the cluster say, as errors that instruct the engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from styx.plugin import (
    CapacityError,
    CloudError,
    CredentialsError,
    DriverError,
    Problem,
    QuotaError,
    Scope,
    TransientError,
    UnsupportedError,
    VendorDetail,
)

QUOTA: Final = "ExceededQuota"
"""Our own code for the 403 of a resource quota, which shares `Forbidden` with missing permissions."""
ERRORS: Final[Mapping[str, type[CloudError]]] = {
    "Unauthorized": CredentialsError,
    "Forbidden": CredentialsError,
    QUOTA: QuotaError,
    "BadRequest": UnsupportedError,
    "Invalid": UnsupportedError,
    "MethodNotAllowed": UnsupportedError,
    "RequestEntityTooLarge": UnsupportedError,
    "NotFound": DriverError,
    "Conflict": TransientError,
    "TooManyRequests": TransientError,
    "InternalError": TransientError,
    "ServiceUnavailable": TransientError,
    "Timeout": TransientError,
    "ServerTimeout": TransientError,
}
"""The `reason` of a Status object to the class of error."""
_BY_STATUS: Final = {
    401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 413: "RequestEntityTooLarge",
    422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 502: "ServiceUnavailable",
    503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip
HINTS: Final = {
    "Unauthorized": "log in again, or mend the user's entry in the kubeconfig; `kubectl auth can-i --list` tells more",
    "Forbidden": "`styx check kubernetes` names the missing permissions",
}
IMAGE_TROUBLE: Final = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
SPEC_TROUBLE: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}
)


class NoConnection(TransientError):
    """The API server did not answer."""


class AlreadyThere(TransientError):
    """An object of that name exists."""


def refusal(context: str, status: int, body: bytes | str | None, retry_after_s: float = 1.0) -> CloudError:
    """The error for a reply that is no success."""
    told: dict[str, Any] = {}
    try:
        parsed = json.loads(body or "{}")
        told = parsed if isinstance(parsed, dict) else {}
    except ValueError:
        pass  # a proxy's page
    code = str(told.get("reason") or _BY_STATUS.get(status) or status)
    words = str(told.get("message") or f"the API server answered {status}")
    if code == "Forbidden" and "exceeded quota" in words:
        code = QUOTA
    message = f"context {context}: {words}"
    vendor = VendorDetail(code=code, message=words)
    if code == "AlreadyExists":
        return AlreadyThere(message, retry_after_s=retry_after_s, vendor=vendor)
    kind = ERRORS.get(code, DriverError)
    if issubclass(kind, TransientError):
        return kind(message, retry_after_s=retry_after_s, vendor=vendor)
    scope = None if kind is UnsupportedError else Scope.REGION  # another context is another cluster
    return kind(message, scope=scope, vendor=vendor, hint=HINTS.get(code))


def capacity(words: str) -> Problem:
    """No node has room, in the scheduler's own words."""
    return Problem(error=CapacityError.__name__, message=words, code="Unschedulable")


def container_problem(waiting: Mapping[str, Any], image: str) -> Problem | None:
    """Why a container that waits will never start; None while it may."""
    reason, words = str(waiting.get("reason", "")), str(waiting.get("message", "")).strip()
    if reason in IMAGE_TROUBLE:
        message = f"the image {image} can't be had ({reason}): {words}"
    elif reason in SPEC_TROUBLE:
        message = f"the container of image {image} can't be started ({reason}): {words}"
    else:
        return None
    return Problem(error=UnsupportedError.__name__, message=message, code=reason)
