"""All that an operation may touch: the store, the hub, the clock. Passed as one argument; nothing is global."""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from styx.state.rows import Event
from styx.state.store import Store

if TYPE_CHECKING:
    from styx.backends.base import Backend
    from styx.catalog.query import Catalog
    from styx.config import Config
    from styx.driver import Cloud
    from styx.models import Task
    from styx.plugins import Hub
    from styx.provision.guard import Guarded


def quiet(_: str) -> None:
    """The observer that observes nothing."""


class Parts:
    """Settings and plugins, read when first asked for: a look at the store alone needs neither."""

    def __init__(self, load_config: Callable[[], Config], make_hub: Callable[[Config], Hub]) -> None:
        self._load_config = load_config
        self._make_hub = make_hub

    @cached_property
    def config(self) -> Config:
        """Merged settings."""
        return self._load_config()

    @cached_property
    def hub(self) -> Hub:
        """Plugins."""
        return self._make_hub(self.config)

    def close(self) -> None:
        """End the SSH logins, if there are any."""
        if "hub" in self.__dict__:
            self.hub.ssh.close()

    def for_task(self, task: Task) -> Parts:
        """The same, as one task's `config` has it."""
        settings = self.config.with_task(task.config)
        same = settings.clouds == self.config.clouds
        return Parts(lambda: settings, lambda config: self.hub if same else self.hub.with_clouds(config.clouds))


@dataclass(frozen=True)
class World:
    """What operations act on.

    Attributes:
        store: What Styx remembers.
        parts: Settings and plugins.
        backend: Looks a backend up by name.
        user: Who acts.
        workspace: Where the clusters belong.
        holder: This process, as it claims clusters: `host:pid:start:nonce`.
        now: Aware UTC time.
        sleep: Waits; tests pass their own.
        observe: Told the name of every moment at which a dying process could leave something behind: before and after
            each driver call. The store tells the same for its commits. Tests kill the process in it.
        say: Receives each event after it was stored.
        catalogs: The open catalog of each hub; shared by the worlds that are made from this one.
        accounts: Whose account each cloud's credentials open, asked once.
    """

    store: Store
    parts: Parts
    backend: Callable[[str], Backend]
    user: str
    workspace: str
    holder: str
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    observe: Callable[[str], None] = quiet
    say: Callable[[Event], None] | None = None
    catalogs: dict[Hub, Catalog] = field(default_factory=dict, repr=False, compare=False)
    accounts: dict[Cloud, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def config(self) -> Config:
        """Merged settings."""
        return self.parts.config

    @property
    def hub(self) -> Hub:
        """Plugins."""
        return self.parts.hub

    def retry_for_s(self, asked: float | None = None) -> float:
        """How long `--retry-until-up` goes on: as asked, as configured, or a day. Nothing is tried for ever."""
        for limit in (asked, self.config.launch.retry_for):
            if limit is not None:
                return limit
        return 86400.0

    def timestamp(self) -> float:
        """Unix seconds of `now`."""
        return self.now().timestamp()

    def cloud(self, name: str) -> Cloud:
        """The identity of a cloud."""
        return self.hub.cloud(name)

    def catalog(self) -> Catalog:
        """What all clouds sell; opened once for each hub, so that its rows are read once. Loads Polars when asked."""
        from styx.catalog.query import Catalog
        from styx.provision.guard import call

        if self.hub not in self.catalogs:
            observe = self.observe
            self.catalogs[self.hub] = Catalog(
                self.store.folders,
                self.hub,
                guard=lambda what, action, deadline_s: call(what, action, deadline_s, observe),
                now=self.now,
            )
        return self.catalogs[self.hub]

    def provisioner(self, name: str) -> Guarded:
        """The cloud's provisioner behind a deadline and an error wall."""
        from styx.provision.guard import Guarded

        cloud = self.hub.cloud(name)
        accounts = None if cloud.free else self.accounts
        return Guarded(name, self.hub.provisioner(name), cloud, self.observe, accounts)

    def tell(self, cluster: str, operation: str, step: str, phase: str, message: str = "", **data: Any) -> None:
        """Store an event of an operation, then show it to whoever listens."""
        event = Event.model_validate(
            {
                "cluster": cluster,
                "operation": operation,
                "step": step,
                "phase": phase,
                "at": self.now(),
                "message": message,
                "data": data,
            }
        )
        stored = event.model_copy(update={"seq": self.store.append_event(event)})
        self.hub.emit(stored)
        if self.say is not None:
            self.say(stored)


def utc_now() -> datetime:
    """The time, aware."""
    return datetime.now(UTC)


def current_user(environ: Mapping[str, str]) -> str:
    """Who acts, for tags and listings."""
    try:
        return environ.get("STYX_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def new_holder() -> str:
    """A fresh holder name for this process."""
    return f"{_host()}:{os.getpid()}:{_started(os.getpid())}:{uuid.uuid4().hex[:8]}"


def _host() -> str:
    """This machine and its space of process ids: containers that share a name and a home see not each other's."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()}/{''.join(filter(str.isdigit, space))}"


def holder_is_dead(holder: str) -> bool:
    """Whether the process that claimed a cluster is known to be gone: same host, and no such process any more."""
    host, _, rest = holder.partition(":")
    pid, _, rest = rest.partition(":")
    if host != _host() or not pid.isdigit():
        return False
    started = rest.partition(":")[0]
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process started, in the kernel's own units; empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return ""
    except (OSError, IndexError):
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"
