"""Runs scripts on hosts, many at a time, and says in the driver's words what went wrong."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from styx.plugin import Context, CredentialsError, DeadlineExceeded, DriverError, Ssh, SshDoor, SshFailed, StyxError
from styx_ssh import scripts
from styx_ssh.pools import Host

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 32


class Hosts:
    """The way to the hosts of all pools."""

    def __init__(self, context: Context, reach_s: float) -> None:
        self._context = context
        self._reach_s = reach_s

    @property
    def _door(self) -> SshDoor:
        if self._context.ssh is None:
            raise DriverError("this Styx has no way to log in to hosts", hint="upgrade styx-core")
        return self._context.ssh

    def ask(
        self, reach: Ssh, script: str, *arguments: str, stdin: bytes = b"", timeout_s: float | None = None
    ) -> scripts.Answer:
        """What a script says on a host.

        Raises:
            SshFailed: The host was not reached, or did not let the script end; after reason `lost` it may have run.
        """
        argv = scripts.command(script, *arguments)
        try:
            done = self._door.run(reach, argv, stdin=stdin, timeout_s=timeout_s or self._reach_s)
        except DeadlineExceeded as error:
            raise SshFailed(error.message, "lost", hint=error.hint) from error
        answer = scripts.parse(done.stdout)
        if answer is None:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
            raise SshFailed(
                f"{reach.host} did not run a command to its end (exit code {done.exit_code})"
                + (f": {said[-1][:200]}" if said else ""),
                "lost",
            )
        return answer

    def key(self, reach: Ssh) -> str | None:
        """The host key that this host has proved to have; None when it has just gone away."""
        try:
            return self._door.host_key(reach) or None
        except SshFailed:
            return None


def each(items: Sequence[T], action: Callable[[T], R], *, within_s: float | None = None) -> list[R | StyxError]:
    """The result for each item, or why there is none; in order, in parallel.

    With `within_s`, what has not ended by then counts as a host that does not answer, and is left to itself: one that
    is hung must not keep the others.
    """
    done: dict[int, R | StyxError] = {}
    broken: list[BaseException] = []
    left = deque(range(len(items)))

    def work() -> None:
        with contextlib.suppress(IndexError):
            while not broken:
                index = left.popleft()
                try:
                    done[index] = action(items[index])
                except StyxError as error:
                    done[index] = error
                except BaseException as error:  # noqa: BLE001 - raised below, where the caller is
                    broken.append(error)

    threads = [
        threading.Thread(target=work, name="styx ssh pool", daemon=True) for _ in range(min(WORKERS, len(items)))
    ]
    for thread in threads:
        thread.start()
    deadline = None if within_s is None else time.monotonic() + within_s
    for thread in threads:
        thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    if broken:
        raise broken[0]
    late = SshFailed(f"no answer within {within_s or 0:g} s", "timeout")
    return [done.get(index, late) for index in range(len(items))]


def unusable(host: Host | str, error: StyxError) -> StyxError:
    """A host's failure as an instruction to the engine."""
    name = host if isinstance(host, str) else host.id
    message = f"{name}: {error.message}"
    if isinstance(error, SshFailed) and error.reason in ("auth", "host_key"):
        return CredentialsError(message, hint=error.hint or f"log in by hand once: ssh {name.rpartition('/')[2]}")
    return DriverError(message, hint=error.hint)
