"""A deadline and an error wall around every driver call: a hanging or crashing driver never takes Styx down."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar, cast

from styx.driver import (
    Cloud,
    EndsItself,
    Identity,
    Leftover,
    Node,
    NodeRequest,
    OpensPorts,
    Place,
    Provisioner,
    SelfEnd,
    Stoppable,
    WarnsBeforeEnd,
)
from styx.errors import AmbiguousError, CredentialsError, DriverError, StyxError, TransientError, UnsupportedError

T = TypeVar("T")

CREATE_DEADLINE_S = 120.0
"""A create that has not answered by then may still have happened: it counts as a lost reply."""
CALL_DEADLINE_S = 60.0
"""For every other call."""
INTERRUPTED_S = 40.0
"""How long a create that Ctrl-C met is given to end, so that what it makes is there to be removed; longer than a driver
waits for one reply."""


class NoAnswer(TransientError):
    """The call is still running after its deadline; it may or may not have taken effect."""


class StillRunning(KeyboardInterrupt):
    """The user did not wait for a call, which goes on; it may still take effect."""


_log = logging.getLogger("styx.drivers")


def call(
    what: str, action: Callable[[], T], deadline_s: float, observe: Callable[[str], None], *, interrupted_s: float = 0.0
) -> T:
    """Run one driver call in a thread of its own and return its result.

    Ctrl-C ends the wait for it, after at most `interrupted_s` more seconds; a second one ends that wait, too.

    Raises:
        StillRunning: The user did not wait for its end.
        StyxError: Whatever the driver raised of the taxonomy.
        NoAnswer: It did not answer within the deadline.
        DriverError: It raised something that is not of the taxonomy; the traceback goes to the log.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(action())
        except BaseException as error:  # noqa: BLE001 - the error wall: handed to the caller below
            failure.append(error)

    observe(f"driver:{what}:before")
    thread = threading.Thread(target=run, name=f"styx {what}", daemon=True)
    thread.start()
    try:
        thread.join(deadline_s)
    except KeyboardInterrupt as stop:
        with contextlib.suppress(KeyboardInterrupt):
            thread.join(interrupted_s)
        if thread.is_alive():
            raise StillRunning from stop
        raise
    observe(f"driver:{what}:after")
    if thread.is_alive():
        raise NoAnswer(f"{what} did not answer within {deadline_s:g} s")
    if not failure:
        return outcome[0]
    error = failure[0]
    if isinstance(error, StyxError):
        raise error
    _log.error("driver call %s failed", what, exc_info=error)
    raise DriverError(f"the plugin failed in {what}: {type(error).__name__}: {error}") from error


class Guarded:
    """A provisioner as the engine calls it: the same verbs, none of which can hang or raise outside the taxonomy."""

    def __init__(
        self,
        name: str,
        inner: Provisioner,
        cloud: Cloud,
        observe: Callable[[str], None],
        accounts: dict[Cloud, str] | None = None,
    ) -> None:
        self.name = name
        self.inner = inner
        self.cloud = cloud
        self._observe = observe
        self._accounts = accounts

    def require_account(self, place: Place) -> None:
        """Refuse to act on, or to believe a listing of, another account than the place's. Asks the cloud once.

        Raises:
            CredentialsError: Our credentials belong to another account.
        """
        if self._accounts is None:
            return
        if self.cloud not in self._accounts:
            self._accounts[self.cloud] = self._call("account", self.cloud.account)
        ours = self._accounts[self.cloud]
        if ours != place.account and place.account not in self._call("former_accounts", self.cloud.former_accounts):
            ways = [f"use the credentials of {place.account}", self.cloud.account_hint(place.account)]
            ways.append(f"run `styx check {self.name}` to launch with these")
            raise CredentialsError(
                f"{place} is in account {place.account} of {self.cloud.display_name}, "
                f"but the credentials found now are of account {ours}",
                hint=", or ".join(way for way in ways if way),
            )

    def _require_accounts(self, nodes: Sequence[Node]) -> None:
        for place in dict.fromkeys(node.place for node in nodes):
            self.require_account(place)

    def _call(self, verb: str, action: Callable[[], T], deadline_s: float = CALL_DEADLINE_S) -> T:
        return call(f"{self.name}.{verb}", action, deadline_s, self._observe)

    def check(self) -> Identity:
        """See `Cloud.check`."""
        return self._call("check", self.cloud.check)

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """See `Provisioner.create`; a create without an answer is an `AmbiguousError`."""
        what = f"{self.name}.create"
        self.require_account(request.place)
        try:
            return call(
                what,
                lambda: self.inner.create(request),
                CREATE_DEADLINE_S,
                self._observe,
                interrupted_s=INTERRUPTED_S,
            )
        except NoAnswer as error:
            settle_s = max(10.0, self.cloud.limits.listing_lag_s)
            raise AmbiguousError(error.message, settle_s=settle_s) from error

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """See `Provisioner.nodes`; never called with the credentials of another account."""
        self.require_account(place)
        return self._call("nodes", lambda: self.inner.nodes(place, cluster, known))

    def terminate(self, nodes: Sequence[Node]) -> None:
        """See `Provisioner.terminate`."""
        self._require_accounts(nodes)
        self._call("terminate", lambda: self.inner.terminate(nodes))

    def release(self, place: Place, cluster: str) -> None:
        """See `Provisioner.release`."""
        self.require_account(place)
        self._call("release", lambda: self.inner.release(place, cluster))

    def leftovers(self, place: Place) -> Sequence[Leftover]:
        """See `Provisioner.leftovers`."""
        self.require_account(place)
        return self._call("leftovers", lambda: self.inner.leftovers(place))

    def discard(self, leftover: Leftover) -> None:
        """See `Provisioner.discard`."""
        self.require_account(leftover.place)
        self._call("discard", lambda: self.inner.discard(leftover))

    @property
    def warns(self) -> bool:
        """Whether nodes learn in advance that they will be taken away."""
        return isinstance(self.inner, WarnsBeforeEnd)

    def notice_probe(self, node: Node) -> Sequence[str]:
        """See `WarnsBeforeEnd.notice_probe`; empty for clouds that do not warn."""
        if not isinstance(self.inner, WarnsBeforeEnd):
            return ()
        warns = self.inner
        return self._call("notice_probe", lambda: warns.notice_probe(node))

    @property
    def can_stop(self) -> bool:
        """Whether nodes can be stopped at all."""
        return isinstance(self.inner, Stoppable)

    def stop(self, nodes: Sequence[Node]) -> None:
        """See `Stoppable.stop`."""
        self._need(Stoppable, "stop machines")
        self._require_accounts(nodes)
        self._call("stop", lambda: cast(Stoppable, self.inner).stop(nodes))

    def start(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """See `Stoppable.start`."""
        self._need(Stoppable, "start machines")
        self._require_accounts(nodes)
        return self._call("start", lambda: cast(Stoppable, self.inner).start(nodes), CREATE_DEADLINE_S)

    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """See `OpensPorts.open_ports`."""
        self._need(OpensPorts, "open ports")
        self._require_accounts(nodes)
        self._call("open_ports", lambda: cast(OpensPorts, self.inner).open_ports(nodes, ports))

    def prepare_self_action(self, nodes: Sequence[Node], action: str) -> None:
        """See `EndsItself.prepare_self_action`; nothing to do on clouds without it."""
        ends = self.inner
        if isinstance(ends, EndsItself):
            wanted: Literal["stop", "down"] = "down" if action == "down" else "stop"
            self._call("prepare_self_action", lambda: ends.prepare_self_action(nodes, wanted))

    @property
    def ends_itself(self) -> bool:
        """Whether nodes can end themselves at all."""
        return isinstance(self.inner, EndsItself)

    def self_action(self, node: Node, action: str) -> SelfEnd:
        """See `EndsItself.self_action`; clouds without it answer with `none`."""
        if not isinstance(self.inner, EndsItself):
            return SelfEnd(kind="none")
        ends = self.inner
        return self._call("self_action", lambda: ends.self_action(node, "down" if action == "down" else "stop"))

    def _need(self, mixin: type, what: str) -> None:
        if not isinstance(self.inner, mixin):
            raise UnsupportedError(f"{self.cloud.display_name} cannot {what}")
