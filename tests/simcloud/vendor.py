"""What the emulated vendors have in common: scripted faults, a clock, real hosts, and the vendor's own document."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from styx.testing.emulator import Emulator, NoReply, Reply, Request

if TYPE_CHECKING:
    from styx.testing.machines import Machine, Machines
    from styx.testing.openapi import Document

LOSE = "lose"
"""Carry the request out, and never answer."""
PASS = "pass"
"""Nothing: for scripts that only want to know of a request. Others may meet it, too."""


@dataclass
class Script:
    """What is to happen to the next requests of one operation.

    Attributes:
        operation: Its name, such as `launch`.
        effect: A reply instead of the vendor's own, `LOSE` or `PASS`.
        skip: So many requests pass first.
        times: So many requests are met.
        when: Only requests with such a body.
        strike: Called as the request is met, before anything comes of it.
    """

    operation: str
    effect: Reply | str
    skip: int = 0
    times: int = 1
    when: Callable[[Any], bool] = field(default=lambda _body: True)
    strike: Callable[[], None] = field(default=lambda: None)


@dataclass
class Fate:
    """What becomes of the next machine.

    Attributes:
        fails: It is accepted, and never runs.
        boot_s: How long it boots, instead of the usual time.
        ssh: Whether it ever answers on its SSH port.
        own_host_key: It ignores the host key that it was given.
    """

    fails: bool = False
    boot_s: float | None = None
    ssh: bool = True
    own_host_key: bool = False


class Vendor:
    """One account of one vendor. Subclasses answer requests; all else is here.

    Args:
        clock: Unix seconds; moved by hand in tests without hosts.
        room: Where the machines get real hosts; None: there are none behind them.
        document: The vendor's OpenAPI document, which requests and replies are held against.
        listing_lag_s: How long a new machine is missing from listings.

    Attributes:
        broken: What the driver or the emulator did against the document; a test that sees any has failed.
        alive: Whether credentials work; false makes them expire.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        room: Machines | None = None,
        document: Document | None = None,
        listing_lag_s: float = 0.0,
        boot_s: float = 0.0,
    ) -> None:
        self.clock, self.room, self.document = clock, room, document
        self.listing_lag_s, self.boot_s = listing_lag_s, boot_s
        self.scripts: list[Script] = []
        self.fates: list[Fate] = []
        self.broken: list[str] = []
        self.alive = True
        self.lock = threading.RLock()
        self._booting = ThreadPoolExecutor(8, thread_name_prefix="boot")
        address = room.gateway if room is not None else "127.0.0.1"
        self.server = Emulator(self._serve, address)

    def __enter__(self) -> Vendor:
        self.server.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.__exit__(*error)
        self._booting.shutdown(wait=True)

    def script(self, operation: str, effect: Reply | str, **more: Any) -> Script:
        """Stage a fault; see `Script`."""
        with self.lock:
            self.scripts.append(Script(operation, effect, **more))
            return self.scripts[-1]

    def unscript(self, script: Script) -> None:
        """Take a fault back; one that has happened is none any more."""
        with self.lock:
            self.scripts = [each for each in self.scripts if each is not script]

    def doom(self, **fate: Any) -> None:
        """Say what becomes of the next machine; see `Fate`."""
        self.fates.append(Fate(**fate))

    # for subclasses ----------------------------------------------------------------------------------------------

    def operation(self, request: Request) -> str:
        """The name under which scripts know a request."""
        raise NotImplementedError

    def answer(self, request: Request, operation: str) -> Reply:
        """The vendor's own reply."""
        raise NotImplementedError

    def documented(self, request: Request) -> bool:
        """Whether the document knows the interface that was asked."""
        return self.document is not None

    def fate(self) -> Fate:
        """Of the machine that is being made."""
        return self.fates.pop(0) if self.fates else Fate()

    def host(self, name: str, fate: Fate, **options: Any) -> Future[Machine] | None:
        """Begin to boot a real host; None without a room."""
        if self.room is None:
            return None
        return self._booting.submit(self.room.boot, name, ssh=fate.ssh, **options)

    # serving -----------------------------------------------------------------------------------------------------

    def _serve(self, request: Request) -> Reply:
        with self.lock:
            try:
                return self._scripted(request)
            except NoReply:
                raise
            except Exception as error:  # noqa: BLE001 - told to the test, which fails on it
                self.broken.append(f"{request.method} {request.path}: {error}")
                traceback.print_exc()
                return Reply(f"the emulator refuses this: {error}", 418)

    def _scripted(self, request: Request) -> Reply:
        body = json.loads(request.body) if request.body else None
        if self.documented(request):
            assert self.document is not None
            self.document.check_request(request.method, request.path, request.query, body)
        operation = self.operation(request)
        effect = self._due(operation, body)
        if isinstance(effect, Reply):
            return effect  # faults need not be in the document
        reply = self.answer(request, operation)
        if effect == LOSE:
            raise NoReply
        if self.documented(request) and reply.status != 429:
            assert self.document is not None
            self.document.check(request.method, request.path, reply.status, json.loads(json.dumps(reply.body)))
        return reply

    def _due(self, operation: str, body: Any) -> Reply | str | None:
        for script in list(self.scripts):
            if script.operation != operation or not script.when(body):
                continue
            if script.skip:
                script.skip -= 1
                return None
            script.times -= 1
            if script.times <= 0:
                self.unscript(script)
            script.strike()
            if script.effect != PASS:
                return script.effect
        return None


def without_host_key(user_data: str) -> str:
    """The user data, with the host key taken out: the machine makes its own."""
    if not user_data.startswith("#cloud-config"):
        return user_data
    head, _, body = user_data.partition("\n")
    config: Mapping[str, Any] = json.loads(body)
    return f"{head}\n{json.dumps({key: value for key, value in config.items() if key != 'ssh_keys'})}"
