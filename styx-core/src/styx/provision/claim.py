"""The right to act on a cluster: one holder at a time, fenced by an epoch, kept alive while it is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from styx.errors import DeadlineExceeded, StyxError, WrongState
from styx.provision.world import World, holder_is_dead
from styx.state.rows import ClusterRow, ClusterState, Event

WAIT_S = 60.0
"""How long a command waits for another client, unless the config says otherwise; longer than a claim lasts."""
TTL_S = 30.0
"""How long a claim holds without being renewed: the longest that a vanished client of another host delays us."""


class Claim:
    """A live claim on one cluster. Every write carries its epoch; every cloud call asks `check` first."""

    def __init__(self, world: World, key: str, epoch: int) -> None:
        self.world = world
        self.key = key
        self.epoch = epoch
        self._until = world.timestamp() + TTL_S
        self._lost: StyxError | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="styx claim", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(TTL_S / 3):
            until = self.world.timestamp() + TTL_S
            try:
                self.world.store.renew(self.key, self.epoch, until)
            except StyxError as error:
                self._lost = error
                return
            self._until = until

    def check(self) -> None:
        """Refuse to go on without a live claim.

        Raises:
            WrongState: Another process took the cluster over, or this one slept too long.
        """
        if self._lost is not None:
            raise WrongState(f"another process took over cluster {self.row().name}: {self._lost.message}")
        if self.world.timestamp() > self._until:
            raise WrongState("this process slept for longer than its claim on the cluster lasts; run the command again")

    def row(self) -> ClusterRow:
        """The cluster as it is stored now."""
        row = self.world.store.cluster_by_key(self.key)
        if row is None:
            raise WrongState(f"the record of {self.key} is gone")
        return row

    def update(self, **changes: Any) -> ClusterRow:
        """Write fields, fenced by the epoch; what plain `ssh` knows of the cluster follows."""
        row = self.world.store.update_cluster(self.key, self.epoch, changes)
        if "nodes" in changes or "state" in changes:
            from styx.provision import sshconfig

            sshconfig.keep_true(self.world)
        return row

    def close(self) -> None:
        """Give the cluster back."""
        self._stop.set()
        self.world.store.relinquish(self.key, self.epoch)


@contextmanager
def claimed(world: World, row: ClusterRow, *, wait_s: float | None = None, fresh: bool = False) -> Iterator[Claim]:
    """Hold a cluster for the body, waiting for another holder at most `wait_s` seconds (None: as configured).

    A holder on this host whose process is gone is passed over at once. Work that its client left unfinished is put on
    record. A row that this process has just made (`fresh`) is held by it already.

    Raises:
        DeadlineExceeded: Another client still holds it; the message names it.
    """
    claim = Claim(world, row.key, row.epoch if fresh else _wait_for(world, row, wait_s))
    try:
        if not fresh:
            _note_unfinished(world, claim.row())
        yield claim
    finally:
        claim.close()


def _wait_for(world: World, row: ClusterRow, wait_s: float | None) -> int:
    """The epoch of the claim, once it is ours."""
    longest_s = wait_s if wait_s is not None else world.config.state.lock_timeout or WAIT_S
    deadline = world.timestamp() + longest_s
    told = False
    while True:
        current = world.store.cluster_by_key(row.key) or row
        if current.holder and holder_is_dead(current.holder):
            world.store.forget_holder(row.key, current.holder)
        try:
            return world.store.acquire(row.key, world.holder, TTL_S, world.timestamp())
        except DeadlineExceeded:
            if world.timestamp() >= deadline:
                raise
        if not told:
            told = True
            world.tell(row.key, "claim", "claim", "note", f"waiting for another client that works on {row.name}")
        world.sleep(0.3)


def _note_unfinished(world: World, row: ClusterRow) -> None:
    """Say in the story which step a vanished client never ended: nobody else is at work, for we hold the cluster."""
    events = world.store.events(row.key)
    unfinished = open_step(events)
    if unfinished is not None:
        world.tell(row.key, unfinished.operation, unfinished.step, "failed", "its client died during this step")
    elif not events and row.state is ClusterState.INIT:
        world.tell(row.key, "launch", "intend", "failed", "its client died before the first step")


def open_step(events: Sequence[Event]) -> Event | None:
    """The step that was started last and never ended."""
    pending: dict[tuple[str, str], Event] = {}
    for event in events:
        at = (event.operation, event.step)
        if event.phase == "started":
            pending.pop(at, None)
            pending[at] = event
        elif event.phase in ("done", "failed"):
            pending.pop(at, None)
    return next(reversed(pending.values()), None)
