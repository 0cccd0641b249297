"""A real OpenSSH server of this user on loopback, with a home of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from styx.driver import Ssh
from styx.state.folders import HomeFolders
from styx.transport.ssh import keys
from styx.transport.ssh.logins import Logins
from styx.transport.ssh.target import UserConfig
from styx.transport.ssh.transport import SshTransport

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    """One server; `home` is what its commands find as their home."""

    folder: Path
    authorized: str
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.make_host_key()
        (self.folder / "authorized").write_text(f"{self.authorized}\n")
        self._process: subprocess.Popen[bytes] | None = None

    def make_host_key(self) -> None:
        path = self.folder / "hostkey"
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        self.host_key = path.with_name("hostkey.pub").read_text().strip()

    def start(self) -> Sshd:
        lines = [
            f"ListenAddress 127.0.0.1:{self.port}",
            f"HostKey {self.folder}/hostkey",
            f"AuthorizedKeysFile {self.folder}/authorized",
            "StrictModes no",
            "UsePAM no",
            "UseDNS no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "PidFile none",
            f"SetEnv HOME={self.home} STYX_SOCKET_DIR={self.folder}/s",
            *self.options,
        ]
        (self.folder / "config").write_text("\n".join(lines) + "\n")
        Path("/run/sshd").mkdir(exist_ok=True) if os.getuid() == 0 else None
        self._process = subprocess.Popen(
            [SSHD, "-D", "-f", f"{self.folder}/config", "-E", f"{self.folder}/log"], start_new_session=True
        )
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            assert self._process.poll() is None, self.log()
            time.sleep(0.02)
        raise AssertionError("sshd did not listen")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        """The listener and every login ends."""
        if self._process is None:
            return
        from psutil import NoSuchProcess, Process

        try:
            children = Process(self._process.pid).children(recursive=True)
        except NoSuchProcess:
            children = []
        self._process.kill()
        self._process.wait(10)
        for child in children:
            with contextlib.suppress(NoSuchProcess):
                if child.name().startswith("sshd"):
                    child.kill()
        self._process = None

    def reach(self, **more) -> Ssh:
        return Ssh(**{"host": "127.0.0.1", "port": self.port, "user": getpass.getuser(), **more})


@dataclass
class Client:
    """One Styx home with its logins."""

    folders: HomeFolders
    user_home: Path
    said: list[str]
    logins: Logins

    def again(self, **environ: str) -> Client:
        """As a later process sees it."""
        self.logins.close()
        return make_client(self.folders.home, self.user_home, environ)

    def transport(self, reach: Ssh, instance: str = "styx-a-00000001/0") -> SshTransport:
        return SshTransport(reach, self.logins, instance)


def make_client(home: Path, user_home: Path, environ: dict[str, str] | None = None) -> Client:
    folders, said = HomeFolders(home), []
    (user_home / ".ssh").mkdir(parents=True, exist_ok=True)
    config = UserConfig(user_home, environ or {}, user=getpass.getuser())
    return Client(folders, user_home, said, Logins(folders, config, said.append))


@pytest.fixture
def client(tmp_path: Path):
    made = make_client(tmp_path / "styx", tmp_path / "user")
    yield made
    made.logins.close()


@pytest.fixture
def make_sshd(tmp_path: Path, client: Client):
    made: list[Sshd] = []

    def make(*options: str, authorized: str | None = None) -> Sshd:
        key = authorized or keys.login_key(client.folders).public
        made.append(Sshd(tmp_path / f"sshd{len(made)}", key, options))
        return made[-1].start()

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def sshd(make_sshd) -> Sshd:
    return make_sshd()
