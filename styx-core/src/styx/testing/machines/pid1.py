"""The program inside a test host: makes the host's world, applies its user data, runs sshd, ends everything.

Run as a file by an interpreter without site packages, since nothing of that interpreter's own is to be seen in the
host: everything it needs is imported before the root changes. It reads one JSON order and then single words on
stdin; the end of stdin is the end of the host, so that no host outlives the process that made it.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import ctypes.util
import glob
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

POWERED_OFF, REBOOTING, STOPPED, BROKEN = 0, 3, 4, 5
"""Exit codes: what ended the host."""

_NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000  # mount, uts, ipc, pid, net
_RDONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_PARENT_DEATH_SIGNAL = 1
_LAYERED = ("usr", "etc")
_OWN = {"root": 0o700, "tmp": 0o1777, "var/tmp": 0o1777} | dict.fromkeys(
    ["home", "opt", "srv", "mnt", "media", "run", "proc", "sys", "dev", "var/log", "var/lib", "var/cache"], 0o755
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMMANDS_ROOTLESS = "/usr/local/sbin"
_GRACE_S = 1.0
_HALT = "#!/bin/sh\n# Ends this host, as the operating system of a machine would.\nexec kill -USR1 1\n"
_REBOOT = "#!/bin/sh\nexec kill -USR2 1\n"
_SHUTDOWN = """#!/bin/sh
signal=USR1 wait=60
for word; do
    case $word in
        -r | --reboot) signal=USR2 ;;
        -c) exit 0 ;;
        now | +0) wait=0 ;;
        +*) wait=$((${word#+} * 60)) ;;
    esac
done
kill -0 1 || exit 1
[ "$wait" = 0 ] && exec kill -$signal 1
(sleep "$wait"; kill -$signal 1) >/dev/null 2>&1 </dev/null &
"""

_libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)


def check(result: int, what: str) -> None:
    """Turn a failed call of libc into an error that says which."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Call the kernel's mount."""
    words = [os.fsencode(word) if word else None for word in (source, target, kind)]
    check(_libc.mount(*words, ctypes.c_ulong(flags), options.encode() or None), f"mount {kind or source} on {target}")


def write(path: str, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file, replacing whatever bears its name; folders above it are made."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    os.chmod(path, mode)


def make_world(order: dict[str, Any]) -> None:
    """Build the host's root and move into it."""
    disk = order["disk"]
    mount("none", "/", flags=_REC | _PRIVATE)
    for name, mode in _OWN.items():
        path = f"{disk}/{name}"
        if not os.path.isdir(path):
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)
    mount(disk, disk, flags=_BIND)
    for name in sorted(os.listdir("/")):
        if os.path.islink(f"/{name}"):
            if not os.path.lexists(f"{disk}/{name}"):
                os.symlink(os.readlink(f"/{name}"), f"{disk}/{name}")
        elif name in ("bin", "sbin") or name.startswith("lib"):  # a system whose /bin is not /usr/bin
            os.makedirs(f"{disk}/{name}", exist_ok=True)
            bind(f"/{name}", f"{disk}/{name}")
    for name in _LAYERED:
        layer(name, disk, order["layers"]) if is_real_root() else share(name, disk)
    for source, target in order["shares"].items():
        os.makedirs(f"{disk}{target}", exist_ok=True)
        bind(source, f"{disk}{target}")
    mount("proc", f"{disk}/proc", "proc", _NOSUID | _NODEV)
    mount("sysfs", f"{disk}/sys", "sysfs", _RDONLY)
    for name, access in {"run": "755", "tmp": "1777"}.items():
        mount("tmpfs", f"{disk}/{name}", "tmpfs", 0, f"mode={access}")
    make_devices(f"{disk}/dev")
    os.chdir(disk)
    if not os.path.lexists("var/run"):
        os.symlink("/run", "var/run")
    os.makedirs(".old", exist_ok=True)
    check(_libc.pivot_root(b".", b".old"), "pivot_root")
    os.chdir("/")
    check(_libc.umount2(b"/.old", _DETACH), "umount the old root")
    os.rmdir("/.old")


def layer(name: str, disk: str, layers: str) -> None:
    """A folder of this machine that the host may change for itself."""
    upper, work, target = f"{layers}/{name}", f"{layers}/.{name}", f"{disk}/{name}"
    for folder in (upper, work, target):
        os.makedirs(folder, exist_ok=True)
    mount("overlay", target, "overlay", 0, f"lowerdir=/{name},upperdir={upper},workdir={work},index=off,xino=off")


def share(name: str, disk: str) -> None:
    """The same where files of the real root can't be replaced: `/etc` is copied, of `/usr` one folder is writable."""
    target = f"{disk}/{name}"
    if name == "etc":
        if not os.path.isdir(target):
            with contextlib.suppress(shutil.Error):  # names the folders that this user may not read
                shutil.copytree("/etc", target, symlinks=True, copy_function=copy_readable)
        return
    os.makedirs(target, exist_ok=True)
    bind(f"/{name}", target)
    mount("tmpfs", f"{disk}{_COMMANDS_ROOTLESS}", "tmpfs", 0, "mode=755")


def copy_readable(source: str, target: str) -> None:
    """Copy what a user may read."""
    with contextlib.suppress(PermissionError):
        shutil.copy(source, target)


def is_real_root() -> bool:
    """Whether this root is not one of a user namespace only."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        return file.read().split()[:2] == ["0", "0"]


def bind(source: str, target: str) -> None:
    """Show a folder at another place too, read-only."""
    mount(source, target, flags=_BIND | _REC)
    mount("none", target, flags=_BIND | _REMOUNT | _RDONLY)


def make_devices(folder: str) -> None:
    """A small `/dev`."""
    mount("tmpfs", folder, "tmpfs", 0, "mode=755")
    for name in _DEVICES:
        with open(f"{folder}/{name}", "wb"):
            pass
        mount(f"/dev/{name}", f"{folder}/{name}", flags=_BIND)
    for name in ("pts", "shm"):
        os.mkdir(f"{folder}/{name}")
    mount("devpts", f"{folder}/pts", "devpts", 0, "newinstance,ptmxmode=666,mode=620")
    mount("tmpfs", f"{folder}/shm", "tmpfs", 0, "mode=1777")
    for name, target in _LINKS.items():
        os.symlink(target, f"{folder}/{name}")


def join_network(order: dict[str, Any]) -> None:
    """Name the host and bring up its interface. The default route leads to the bridge, where nothing goes on."""
    socket.sethostname(order["name"])
    script = [
        "link set lo up",
        f"address add {order['address']}/24 broadcast + dev eth0",
        "link set eth0 up",
        "route add default dev eth0",
    ]
    with contextlib.suppress(OSError), open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w") as file:
        file.write("1")
    subprocess.run(["ip", "-batch", "-"], input="\n".join(script).encode(), check=True)


def install(order: dict[str, Any]) -> None:
    """What happens once in the life of a disk: names, users, keys, the commands that end a host, the given files."""
    name, user = order["name"], order["user"]
    write("/etc/hostname", f"{name}\n")
    write("/etc/hosts", f"127.0.0.1 localhost\n{order['address']} {name}\n")
    write("/etc/resolv.conf", "")
    write("/etc/machine-id", f"{order['machine_id']}\n")
    for stale in glob.glob("/etc/ssh/ssh_host_*"):
        os.unlink(stale)
    add_user(user)
    write("/etc/ssh/ssh_host_ed25519_key", order["host_key"]["private"], 0o600)
    write("/etc/ssh/ssh_host_ed25519_key.pub", order["host_key"]["public"] + "\n")
    home = "/root" if user == "root" else f"/home/{user}"
    if order["authorized_keys"]:
        write(f"{home}/.ssh/authorized_keys", "".join(f"{key}\n" for key in order["authorized_keys"]), 0o600)
        os.chmod(f"{home}/.ssh", 0o700)
        own(f"{home}/.ssh", user)
        own(f"{home}/.ssh/authorized_keys", user)
    for path in [match for pattern in order["hidden"] for match in glob.glob(pattern)]:
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    for file in order["files"]:
        content, path = base64.b64decode(file["content"]), file["path"]
        if file.get("append") and os.path.exists(path):
            with open(path, "rb") as old:
                content = old.read() + content
        write(path, content, file["mode"])
        if file.get("owner"):
            own(path, *file["owner"].split(":"))


def install_commands() -> None:
    """The commands that end a host from within."""
    folder = "/usr/sbin" if is_real_root() else _COMMANDS_ROOTLESS
    for command, script in {"poweroff": _HALT, "halt": _HALT, "reboot": _REBOOT, "shutdown": _SHUTDOWN}.items():
        write(f"{folder}/{command}", script, 0o755)


def add_user(user: str) -> None:
    """Nobody has a password; `user`, unless it is root, may do all through sudo."""
    taken = ("root", user)
    for path, lines in {
        "/etc/passwd": ["root:x:0:0:root:/root:/bin/bash", f"{user}:x:1000:1000::/home/{user}:/bin/bash"],
        "/etc/shadow": ["root:*:19000:0:99999:7:::", f"{user}:*:19000:0:99999:7:::"],
        "/etc/group": ["root:x:0:", f"{user}:x:1000:"],
    }.items():
        kept = []
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8", errors="surrogateescape") as file:
            kept = [line for line in file.read().splitlines() if not clashes(line, taken)]
        mine = lines[:1] if user == "root" else lines
        text = "".join(f"{line}\n" for line in [*mine, *kept])
        write(path, text.encode("utf-8", "surrogateescape"), 0o640 if path.endswith("shadow") else 0o644)
    if user != "root":
        os.makedirs(f"/home/{user}", exist_ok=True)
        own(f"/home/{user}", user)
        write("/etc/sudoers.d/90-test-host", f"{user} ALL=(ALL) NOPASSWD:ALL\n", 0o440)


def clashes(line: str, names: tuple[str, ...]) -> bool:
    """Whether a line of passwd, shadow or group is about one of the users made here."""
    fields = line.split(":")
    return fields[0] in names or (len(fields) > 2 and fields[1] == "x" and fields[2] == "1000")


def own(path: str, user: str, _group: str = "") -> None:
    """Give a file to a user and to the group of that name."""
    number = 0 if user == "root" else 1000
    os.chown(path, number, number)


def serve_ssh(order: dict[str, Any]) -> None:
    """Start sshd, which stays this process's child."""
    os.makedirs("/run/sshd", exist_ok=True)
    options = {
        "Port": order["port"],
        "HostKey": "/etc/ssh/ssh_host_ed25519_key",
        "UsePAM": "no",
        "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no",
        "StrictModes": "no",
        "UseDNS": "no",
        "MaxStartups": 200,
        "MaxSessions": 200,
        "Subsystem": "sftp internal-sftp",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *words], stdin=subprocess.DEVNULL)


def in_the_background(work: Callable[[], None]) -> None:
    """Fork, so that pid 1 stays free to look after the host."""
    if os.fork() == 0:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        with contextlib.suppress(Exception):
            work()
        os._exit(0)


def finish_boot(order: dict[str, Any]) -> None:
    """The last stage of a boot: scripts of every boot, then, the first time, what the user data wants run."""
    with open("/var/log/cloud-init-output.log", "ab") as log:
        boot = sorted(glob.glob("/var/lib/cloud/scripts/per-boot/*"))
        commands = [[path] for path in boot if os.stat(path).st_mode & stat.S_IXUSR]
        for command in commands + (order["once"] if order["first"] else []):
            try:
                ran = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
                log.write(f"{command[0]}: exit code {ran.returncode}\n".encode())
            except OSError as error:
                log.write(f"{command[0]}: {error}\n".encode())
            log.flush()


class Host:
    """Pid 1 of the host, from the moment its network stands."""

    def __init__(self, order: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> None:
        self.order, self.say = order, say
        self.ending: int | None = None
        self.buffer = b""

    def run(self) -> int:
        """Boot, then live until something ends the host."""
        wake, woken = os.pipe()
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self.end(POWERED_OFF))
        signal.signal(signal.SIGUSR2, lambda _number, _frame: self.end(REBOOTING))
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        ssh_at = time.monotonic() + self.order["boot_s"] if self.order["sshd"] else None
        self.boot()
        while self.ending is None:
            wait = None if ssh_at is None else max(0.0, ssh_at - time.monotonic())
            readable, _, _ = select.select([0, wake], [], [], wait)
            if wake in readable:
                os.read(wake, 4096)
                self.reap()
            if 0 in readable:
                self.listen()
            if ssh_at is not None and time.monotonic() >= ssh_at:
                ssh_at = None
                serve_ssh(self.order)
                self.say({"ssh": True})
                in_the_background(lambda: finish_boot(self.order))
        self.wind_down()
        return self.ending

    def boot(self) -> None:
        """What has to be there before sshd listens."""
        install_commands()
        if self.order["first"]:
            install(self.order)
        self.say({"up": True})
        for command in self.order["bootcmd"]:
            subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        if not self.order["sshd"]:
            in_the_background(lambda: finish_boot(self.order))

    def end(self, ending: int) -> None:
        """Note the first wish to end."""
        if self.ending is None:
            self.ending = ending

    def listen(self) -> None:
        """One word from outside; its end means that the test process is gone."""
        data = os.read(0, 4096)
        if not data:
            os._exit(STOPPED)
        self.buffer += data
        if b"stop\n" in self.buffer:
            self.end(STOPPED)

    def reap(self) -> bool:
        """Collect the dead; False when there are no children left."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True

    def wind_down(self) -> None:
        """Ask all processes to end, and give them a moment; the kernel kills the rest when pid 1 ends."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while self.reap() and time.monotonic() < deadline:
            time.sleep(0.01)


def tell(channel: int) -> Callable[[dict[str, Any]], None]:
    """A way to say things to the process that made the host."""

    def say(event: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(channel, json.dumps(event).encode() + b"\n")

    return say


def inside(order: dict[str, Any], say: Callable[[dict[str, Any]], None]) -> int:
    """Everything that pid 1 does."""
    check(_libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL), "prctl")
    if os.read(0, 3) != b"go\n":
        return STOPPED
    os.environ["PATH"] = _PATH
    join_network(order)
    make_world(order)
    return Host(order, say).run()


def main() -> int:
    """Make the namespaces, and be the parent of pid 1."""
    line = b""
    while not line.endswith(b"\n"):
        read = os.read(0, 1)
        if not read:
            return STOPPED
        line += read
    order = json.loads(line)
    channel = os.dup(1)
    os.dup2(2, 1)
    say = tell(channel)
    os.umask(0o022)
    check(_libc.unshare(_NEW_NAMESPACES), "unshare")
    pid = os.fork()
    if pid == 0:
        code = BROKEN
        try:
            code = inside(order, say)
        except Exception as error:  # noqa: BLE001 - nobody above would tell
            say({"error": f"{type(error).__name__}: {error}"})
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    say({"pid": pid})
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
