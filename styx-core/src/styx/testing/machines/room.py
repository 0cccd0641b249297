"""A private network and the hosts on it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from styx.testing.machines.machine import Machine
from styx.testing.machines.network import Network, network, program
from styx.testing.machines.userdata import file_order, parse

_PROGRAMS = {"ip": "iproute2", "sshd": "openssh-server", "ssh-keygen": "openssh-client", "nsenter": "util-linux"}
_FIRST, _LAST = 2, 254
_PYTHON = ("/usr/bin/python*", "/usr/local/bin/python*")
_END_S = 20.0


class Machines:
    """A network for hosts, while it is entered; leaving it removes the hosts and everything they had.

    Args:
        shares: Folders of this machine that hosts see read-only, as `{path in the host: folder here}`.
    """

    def __init__(self, shares: Mapping[str, Path] | None = None) -> None:
        self._shares = {str(folder): inside for inside, folder in (shares or {}).items()}
        self._stack = ExitStack()
        self._network: Network | None = None
        self._hosts: dict[int, Machine] = {}
        self._used: list[int] = []
        self._lock = threading.Lock()

    @staticmethod
    @functools.cache
    def unavailable() -> str | None:
        """Why hosts can't be had here; None when they can. Asked once: it makes and drops a set of namespaces."""
        if sys.platform != "linux":
            return "test hosts are made of Linux namespaces"
        if os.geteuid() != 0:
            return "test hosts need root, or `python -m styx.testing.machines pytest ...`"
        for name, package in _PROGRAMS.items():
            if program(name) is None:
                return f"test hosts need `{name}` of Debian's package {package}"
        try:
            with Machines() as machines:
                machines.boot("probe", ssh=False)
        except (OSError, subprocess.SubprocessError) as error:
            return f"test hosts can't be made here: {error}"
        return None

    @property
    def gateway(self) -> str:
        """The address by which hosts reach this machine, an emulator for instance."""
        return self._entered().address(1)

    @property
    def hosts(self) -> list[Machine]:
        """Those that were not removed, in the order of their addresses."""
        with self._lock:
            return [self._hosts[number] for number in sorted(self._hosts)]

    def boot(
        self,
        name: str,
        *,
        user_data: str = "",
        authorized_keys: Sequence[str] = (),
        user: str = "root",
        env: Mapping[str, str] | None = None,
        boot_s: float = 0.0,
        ssh: bool = True,
        files: Mapping[str, str | bytes] | None = None,
        port: int = 22,
        hide_python: bool = False,
        on_poweroff: Callable[[Machine], None] | None = None,
    ) -> Machine:
        """Make a host and switch it on; see `Machine.wait_for_ssh` for when it answers.

        Args:
            name: Its host name; need not be unique.
            user_data: `#cloud-config` or a script, applied as cloud-init does.
            authorized_keys: Whom to let in, beside those of the user data and of `env["PUBLIC_KEY"]`.
            user: The login; one that is not root has sudo without a password.
            env: Variables of its first process, as a container has them.
            boot_s: How long after power-on sshd begins to listen.
            ssh: False: it never listens.
            files: Written before sshd listens, by absolute path; what begins with `#!` is executable.
            port: Where sshd listens.
            hide_python: The host has no Python.
            on_poweroff: Called after the host ended itself from within.

        Raises:
            OSError: It did not boot; with what its console says.
        """
        net = self._entered()
        data = parse(user_data)
        own = (data.host_private, data.host_public)
        private, public = own if own[0] and own[1] else _new_key(net.folder, name)
        order = {
            "name": name,
            "user": user,
            "machine_id": uuid.uuid4().hex,
            "host_key": {"private": private, "public": public},
            "authorized_keys": [*authorized_keys, *data.authorized_keys, *_keys_of(env or {})],
            "files": [*_file_orders(files or {}), *data.files],
            "hidden": list(_PYTHON) if hide_python else [],
            "bootcmd": list(data.bootcmd),
            "once": list(data.once),
            "shares": self._shares,
            "sshd": ssh,
            "port": port,
            "boot_s": boot_s,
        }
        machine = self._add(order, env or {})
        machine.on_poweroff = on_poweroff
        machine.start()
        return machine

    def _add(self, order: dict[str, Any], env: Mapping[str, str]) -> Machine:
        """A host with an address of its own, switched off."""
        with self._lock:
            number = self._free_number()
            self._used.append(number)
        machine = Machine(self._entered(), number, order, env)
        machine.when_removed(lambda: self._forget(number))
        with self._lock:
            self._hosts[number] = machine
        return machine

    def __enter__(self) -> Machines:
        self._network = self._stack.enter_context(network())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            hosts = self.hosts
            for host in hosts:
                host.kill()
            deadline = time.monotonic() + _END_S
            for host in hosts:
                host.wait_until_gone(max(0.0, deadline - time.monotonic()))
        finally:
            self._network = None
            self._stack.close()

    def _entered(self) -> Network:
        if self._network is None:
            raise RuntimeError("enter `Machines` first: `with Machines() as machines`")
        return self._network

    def _free_number(self) -> int:
        """An address that nobody has, preferably one that nobody had."""
        fresh = [number for number in range(_FIRST, _LAST + 1) if number not in self._used]
        for number in fresh or self._used:
            if number not in self._hosts:
                if not fresh:
                    self._used.remove(number)
                return number
        raise OSError(f"a network of test hosts holds {_LAST - _FIRST + 1} at a time")

    def _forget(self, number: int) -> None:
        with self._lock:
            self._hosts.pop(number, None)


def _keys_of(env: Mapping[str, str]) -> list[str]:
    return [line for line in env.get("PUBLIC_KEY", "").splitlines() if line.strip()]


def _file_orders(files: Mapping[str, str | bytes]) -> list[dict[str, Any]]:
    return [
        file_order(path, content.encode() if isinstance(content, str) else content) for path, content in files.items()
    ]


def _new_key(folder: Path, name: str) -> tuple[str, str]:
    path = folder / f"key-{uuid.uuid4().hex}"
    make = [program("ssh-keygen") or "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(make, check=True, capture_output=True)
    public = path.with_suffix(".pub")
    pair = path.read_text(), " ".join(public.read_text().split()[:2])
    path.unlink()
    public.unlink()
    return pair
