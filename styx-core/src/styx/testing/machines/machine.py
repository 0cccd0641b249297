"""One test host, seen from outside."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from styx.testing.machines import pid1
from styx.testing.machines.network import Network, ip, program

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_S = 60.0
_END_S = 60.0


@dataclass
class _Life:
    """One power-on of a host: the processes and the cable."""

    process: subprocess.Popen[bytes]
    cable: str
    events: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)
    pid: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


class Machine:
    """A host; made by `Machines.boot`.

    Attributes:
        name: Its host name.
        host: Its address, the same over all of its lives.
        port: Where its sshd listens.
        user: Whom the authorised keys let in; allowed to do all through sudo.
        host_key: Its public key, `ssh-ed25519 AAAA...`.
        on_poweroff: Called, in another thread, after the host ended itself from within.
        console: What its first process and its sshd printed.
    """

    def __init__(self, network: Network, number: int, order: dict[str, Any], env: Mapping[str, str]) -> None:
        self.name: str = order["name"]
        self.host = network.address(number)
        self.port: int = order["port"]
        self.user: str = order["user"]
        self.host_key: str = order["host_key"]["public"]
        self.on_poweroff: Callable[[Machine], None] | None = None
        self._network, self._number, self._order, self._env = network, number, order, dict(env)
        self._home = network.folder / "hosts" / str(number)
        self._home.mkdir(parents=True)
        self.console = self._home / "console.log"
        self._lock = threading.RLock()
        self._life: _Life | None = None
        self._last: _Life | None = None
        self._lives = 0
        self._gone = self._rebooting = False
        self._on_removed: Callable[[], None] | None = None

    @property
    def running(self) -> bool:
        """Whether the power is on; SSH may not answer yet."""
        return self._life is not None or self._rebooting

    @property
    def root(self) -> Path:
        """The host's files, seen from outside. While it is off only `/root`, `/home`, `/var` and `/opt` are there."""
        life = self._life
        return Path(f"/proc/{life.pid}/root") if life else self._home / "disk"

    @property
    def pid(self) -> int | None:
        """The host's first process, as this process's namespace numbers it; None while the host is off."""
        life = self._life
        return life.pid if life else None

    def start(self) -> None:
        """Switch it on, with the disk and the address that it had. Does not wait for SSH."""
        with self._lock:
            if self._life is not None:
                return
            if self._gone:
                raise OSError(f"host {self.name} was removed")
            if not self.wait_until_gone(_END_S):
                raise TimeoutError(f"host {self.name} is still going down")
            self._lives += 1
            life = self._begin(self._lives)
            self._life = self._last = life
        threading.Thread(target=self._watch, args=(life,), name=f"host-{self.name}", daemon=True).start()

    def wait_for_ssh(self, timeout_s: float = 60.0) -> None:
        """Return when its port answers as an SSH server.

        Raises:
            TimeoutError: It does not; with the end of its console.
        """
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            wait = min(left, 2.0)
            with suppress(OSError), socket.create_connection((self.host, self.port), timeout=wait) as connection:
                if connection.recv(4) == b"SSH-":
                    return
            time.sleep(0.02)
        raise TimeoutError(f"{self.name} does not answer SSH after {timeout_s:g} s; its console: {self._said()}")

    def kill(self) -> None:
        """Cut the power: the cable is dead at once, processes get no word, the disk stays."""
        life = self._off()
        if life is not None:
            with suppress(OSError):
                ip(f"link delete {life.cable}")
            _signal(life.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Shut it down from outside, as a cloud's stop does: processes get SIGTERM and a second. Waits for the end."""
        life = self._off()
        if life is not None:
            with suppress(OSError):
                os.write(_stdin(life), b"stop\n")
            if not life.ended.wait(5.0):
                _signal(life.pid, signal.SIGKILL)
                life.ended.wait(_END_S)

    def remove(self) -> None:
        """Cut the power and give up the disk and the address. Does not wait for the kernel to be done with it."""
        with self._lock:
            gone, self._last, self._gone = self._last, None, True
        self.kill()
        threading.Thread(target=self._dispose, args=(gone,), name=f"remove-{self.name}", daemon=True).start()

    def when_removed(self, call: Callable[[], None]) -> None:
        """Have `call` called once a removed host is gone for good."""
        self._on_removed = call

    def wait_until_gone(self, timeout_s: float = 20.0) -> bool:
        """Whether every process of a host that was switched off has ended in time."""
        last = self._last
        return last is None or last.ended.wait(timeout_s)

    def cut(self) -> None:
        """Pull the network cable; the host lives on."""
        ip(f"link set {self._alive().cable} down")

    def mend(self) -> None:
        """Plug the cable in again."""
        ip(f"link set {self._alive().cable} up")

    def hang(self) -> None:
        """Stop every process of the host, the first one last; connections open and nothing answers."""
        life = self._alive()
        for _ in range(3):  # a process may fork while the others are being stopped
            for pid in self.processes():
                if pid != life.pid:
                    _signal(pid, signal.SIGSTOP)
        _signal(life.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a hung host go on."""
        for pid in self.processes():
            _signal(pid, signal.SIGCONT)

    def processes(self) -> list[int]:
        """Its processes, as this process's namespace numbers them."""
        life = self._alive()
        mine = os.readlink(f"/proc/{life.pid}/ns/pid")
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if os.readlink(entry / "ns" / "pid") == mine:
                    found.append(int(entry.name))
        return found

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 60.0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in the host as root, not through SSH."""
        enter = [program("nsenter") or "nsenter", "--target", str(self._alive().pid)]
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
        environment = ["env", "-i", f"PATH={_SEARCH_PATH}", "HOME=/root"]
        return subprocess.run(
            [*enter, *spaces, *environment, *argv], input=stdin, capture_output=True, timeout=timeout_s, check=False
        )

    def __repr__(self) -> str:
        """Its name, address and whether it runs."""
        return f"Machine({self.name!r}, {self.host}, {'on' if self.running else 'off'})"

    def _begin(self, life_number: int) -> _Life:
        interpreter = [sys.executable, "-I", "-S", pid1.__file__]
        with self.console.open("ab") as console:
            process = subprocess.Popen(
                interpreter,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=console,
                env={"PATH": _SEARCH_PATH, "LANG": "C.UTF-8", **self._env},
                cwd="/",
                start_new_session=True,
            )
        life = _Life(process, f"sx{self._network.number}h{self._number}l{life_number}")
        order = self._order | {
            "address": self.host,
            "disk": str(self._home / "disk"),
            "layers": str(self._home / "layers"),
            "first": life_number == 1,
        }
        threading.Thread(target=_read_events, args=(life,), name=f"events-{self.name}", daemon=True).start()
        os.write(_stdin(life), json.dumps(order).encode() + b"\n")
        life.pid = int(self._expect(life, "pid"))
        self._network.note(life.pid)
        mac = "02:00:" + ":".join(f"{int(part):02x}" for part in self.host.split("."))
        ip(
            f"link add {life.cable} type veth peer name eth0 address {mac} netns {process.pid}",
            f"link set {life.cable} master {self._network.bridge} up",
        )
        os.write(_stdin(life), b"go\n")
        self._expect(life, "up")
        return life

    def _expect(self, life: _Life, key: str) -> Any:
        deadline = time.monotonic() + _BOOT_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                event = life.events.get(timeout=left)
            except queue.Empty:
                break
            if event is None or "error" in event:
                life.process.kill()
                raise OSError(f"host {self.name} did not boot: {event or self._said()}")
            if key in event:
                return event[key]
        life.process.kill()
        raise TimeoutError(f"host {self.name} did not boot in {_BOOT_S:g} s; its console: {self._said()}")

    def _watch(self, life: _Life) -> None:
        ending = life.process.wait()
        for pipe in (life.process.stdin, life.process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        with suppress(OSError):
            ip(f"link delete {life.cable}")
        life.ended.set()
        with self._lock:
            of_itself = self._life is life
            self._rebooting = of_itself and ending == pid1.REBOOTING
            if of_itself:
                self._life = None
            if self._rebooting:
                try:
                    self.start()
                finally:
                    self._rebooting = False
        if of_itself and ending == pid1.POWERED_OFF and self.on_poweroff is not None:
            self.on_poweroff(self)

    def _off(self) -> _Life | None:
        with self._lock:
            life, self._life = self._life, None
        return life

    def _alive(self) -> _Life:
        if self._life is None:
            raise OSError(f"host {self.name} is off")
        return self._life

    def _said(self) -> str:
        with suppress(OSError):
            return self.console.read_text(errors="replace")[-2000:]
        return ""

    def _dispose(self, last: _Life | None) -> None:
        if last is None or last.ended.wait(_END_S):
            shutil.rmtree(self._home, ignore_errors=True)
            if self._on_removed is not None:
                self._on_removed()


def _read_events(life: _Life) -> None:
    assert life.process.stdout is not None
    with suppress(OSError, ValueError):
        for line in life.process.stdout:
            life.events.put(json.loads(line))
    life.events.put(None)


def _stdin(life: _Life) -> int:
    assert life.process.stdin is not None
    return life.process.stdin.fileno()


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
