"""Which account an API key belongs to.

Lambda's interface has no call for it. Its audit log names the owner of what each event was about, so one look at it
tells; what a key was found to belong to is remembered beside the catalog, by a digest of the key. Where the log tells
nothing, the account is named after the key, and a new key of the same account looks like another account.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from styx.plugin import CloudError, TransientError, write_atomically
from styx.rest import expecting

MEMORY: Final = Path("cache") / "lambda-accounts.json"
_OWNER: Final = "lrn:cloud:account:"
_UNTOLD: Final = frozenset({"global/forbidden", "global/not-found", "global/object-does-not-exist"})
"""Refusals that say only that this key may not read the log."""


def name_of(key: SecretStr) -> str:
    """The name that a key gives to its account."""
    return f"key-{hashlib.sha256(key.get_secret_value().encode()).hexdigest()[:12]}"


def owner(reply: Mapping[str, Any]) -> str | None:
    """The account in a page of the audit log; None unless exactly one is named."""
    with expecting("Lambda", "audit-events"):
        told = {str(event["resource_owner_lrn"] or "") for event in reply["data"]}
    owners = {one.removeprefix(_OWNER) for one in told if one.startswith(_OWNER)}
    return owners.pop() if len(owners) == 1 else None


class Accounts:
    """Remembers accounts under `home`."""

    def __init__(self, home: Path) -> None:
        self._path = home / MEMORY

    def known(self) -> dict[str, str]:
        """What was found of each key, by the key's name."""
        with suppress(OSError, ValueError):
            found = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return {str(name): str(account) for name, account in found.items()}
        return {}

    def of(self, key: SecretStr, ask: Callable[[], Mapping[str, Any]]) -> str:
        """The account of a key. `ask` reads the audit log, and is called unless the key is known.

        Raises:
            CloudError: Lambda did not answer, or refuses the key.
        """
        name, known = name_of(key), self.known()
        if name in known:
            return known[name]
        try:
            found = owner(ask())
        except CloudError as error:
            if isinstance(error, TransientError) or error.vendor.code not in _UNTOLD:
                raise
            found = None
        if found is None:
            return name
        with suppress(OSError):  # then it is asked for again
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps({**known, name: found}))
        return found

    def others(self, key: SecretStr, account: str) -> frozenset[str]:
        """Names under which the account of a key was known before: of this key, and of older ones that it had."""
        return frozenset({name_of(key), *(name for name, owner in self.known().items() if owner == account)})
