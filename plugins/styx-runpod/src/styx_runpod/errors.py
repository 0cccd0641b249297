"""What RunPod's refusals tell the engine. REST has a title for each status and a sentence, GraphQL has a sentence."""

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

ABSENT: Final = "Not Found"
CONFLICT: Final = "Conflict"

WORDS: Final[Mapping[str, type[CloudError]]] = {
    "no longer any instances available": CapacityError,
    "no instances currently available": CapacityError,
    "does not have the resources": CapacityError,  # "This machine ... to deploy your pod"
    "not enough free": CapacityError,  # "... GPUs on the host machine to start this pod"
    "supply_constraint": CapacityError,
    "not enough balance": BalanceError,
    "insufficient funds": BalanceError,
    "insufficient balance": BalanceError,
    "spend limit": QuotaError,
    "unauthorized": CredentialsError,
}
"""Parts of RunPod's sentences, and what each tells the engine: want of machines has no code of its own."""

ERRORS: Final[Mapping[str, type[CloudError]]] = {
    "Bad Request": UnsupportedError,
    "Unauthorized": CredentialsError,
    "Payment Required": BalanceError,
    "Forbidden": CredentialsError,
    ABSENT: DriverError,
    CONFLICT: DriverError,
    "Unprocessable Entity": UnsupportedError,
    "Too Many Requests": TransientError,
}
"""Titles of the REST API."""

CREATE_ERRORS: Final[Mapping[str, type[CloudError]]] = {
    **ERRORS,
    "Bad Request": DriverError,  # often want of machines in other words: the next candidate may do
    "Forbidden": QuotaError,  # the account may not have this kind of machine
}
"""Of a create."""


INTERNAL: Final = "INTERNAL_SERVER_ERROR"
"""GraphQL's code of nearly all refusals. With none of the sentences above it is a failure of RunPod's own."""


def classify(failure: Failure) -> type[CloudError] | None:
    """What the sentence says, before the title is believed."""
    return _said(failure) or (TransientError if failure.code == INTERNAL else None)


def classify_create(failure: Failure) -> type[CloudError] | None:
    """Of a create, which has no idempotency token: a pod may exist behind a failure of RunPod's own."""
    own = failure.status >= 500 or failure.code == INTERNAL
    return _said(failure) or (AmbiguousError if own else None)


def _said(failure: Failure) -> type[CloudError] | None:
    said = f"{failure.code} {failure.message}".lower()
    return next((kind for words, kind in WORDS.items() if words in said), None)
