"""Clients of boto3, made from the context alone: the process environment and its files are not looked at.

boto3 is imported here, inside functions, and nowhere else. Its own retries are off: the engine decides.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

from styx.plugin import Context, CredentialsError
from styx_aws import endpoints
from styx_aws.errors import translated
from styx_aws.sigv4 import Keys

T = TypeVar("T")

KEYS_FOR_S: Final = 300.0
"""How long keys are believed before they are looked up again: those of a sign-on or a role change."""
CONNECT_TIMEOUT_S: Final = 10.0
READ_TIMEOUT_S: Final = 40.0


class Clients:
    """The clients of one driver, one for each service and region, made when first asked for. Thread-safe."""

    def __init__(self, context: Context, profile: str | None, keys: Callable[[], Keys]) -> None:
        self._context = context
        self._profile = profile
        self._find_keys = keys
        self._lock = threading.Lock()
        self._keys: tuple[float, Keys] | None = None
        self._clients: dict[tuple[str, str, str], Any] = {}
        self._accounts: dict[str, str] = {}

    def __repr__(self) -> str:
        """Without the keys."""
        return f"Clients({len(self._clients)})"

    def call(self, service: str, region: str, action: str, **parameters: Any) -> Any:
        """One call of a service; `action` is boto3's name of it, such as `run_instances`.

        Raises:
            CloudError: What AWS, or the way to it, said.
        """
        return self.told(service, region, action, lambda client: getattr(client, action)(**parameters))

    def pages(self, service: str, region: str, action: str, field: str, **parameters: Any) -> list[Any]:
        """Everything in a field of all pages of a listing."""

        def collect(client: Any) -> list[Any]:
            found: list[Any] = []
            for page in client.get_paginator(action).paginate(**parameters):
                found.extend(page.get(field) or ())
            return found

        return self.told(service, region, action, collect)

    def told(self, service: str, region: str, action: str, run: Callable[[Any], T]) -> T:
        """Run something on a client, its errors in our words. The chain of causes ends there: it may quote headers."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        keys = self.keys()
        client = self._client(service, region, keys)
        try:
            return run(client)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            name = "".join(part.title() for part in action.split("_"))
            told = translated(error, f"{name} in {region}", keys.origin)
            if isinstance(told, CredentialsError):
                self.forget()
            raise told from None

    def keys(self) -> Keys:
        """The credentials in use."""
        now = self._context.clock()
        with self._lock:
            if self._keys is not None and now - self._keys[0] < KEYS_FOR_S:
                return self._keys[1]
        found = self._find_keys()
        with self._lock:
            if self._keys is not None and self._keys[1] != found:
                self._clients.clear()
            self._keys = (now, found)
        return found

    def forget(self) -> None:
        """Look the credentials up again at the next call."""
        with self._lock:
            self._keys = None

    def account(self, region: str) -> str:
        """The account of the credentials in use; asked once for each key."""
        key = self.keys().access_key_id
        if key not in self._accounts:
            self._accounts[key] = str(self.call("sts", region, "get_caller_identity")["Account"])
        return self._accounts[key]

    def _client(self, service: str, region: str, keys: Keys) -> Any:
        name = (service, region, keys.access_key_id)
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = self._make(service, region, keys)
        return client

    def _make(self, service: str, region: str, keys: Keys) -> Any:
        import boto3.session
        from botocore.config import Config

        token = keys.session_token.get_secret_value() if keys.session_token else None
        session = boto3.session.Session(
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key.get_secret_value(),
            aws_session_token=token,
            botocore_session=_blind_session(),
        )
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent_appid="styx",
            max_pool_connections=32,
        )
        url = endpoints.configured(self._context, self._profile, service)
        verify = self._context.secrets("AWS_CA_BUNDLE") or None
        return session.client(service, region_name=region, endpoint_url=url, config=config, verify=verify)


@functools.cache
def _loader() -> Any:
    """AWS's descriptions of its services: large, never changing, read once.

    From then on botocore writes no debugging log: it would hold session tokens, and the host keys of user data.
    """
    from botocore.loaders import create_loader

    for name in ("boto3", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)

    return create_loader()


def _blind_session() -> Any:
    """A session of botocore that knows no environment variable and no file."""
    import botocore.session
    from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ChainProvider, ConstantProvider

    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    store = session.get_component("config_store")
    for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items():
        if name in {"config_file", "credentials_file"}:
            default = "/nonexistent/styx"
        store.set_config_provider(name, ChainProvider([ConstantProvider(default)], conversion_func=convert))
    return session
