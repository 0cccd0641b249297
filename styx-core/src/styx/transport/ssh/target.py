"""Where an SSH login goes: a reach and the user's own SSH config, resolved into hops."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from styx.driver import Ssh
from styx.errors import Fault, InvalidInput

SSH_OPTIONS: Mapping[str, str] = {
    "ConnectTimeout": "seconds to wait for the connection",
    "HostKeyAlias": "the name to look the host up by in known_hosts",
    "HostName": "the address behind the host's name",
    "IdentitiesOnly": "`yes`: try only the key files that are named",
    "IdentityAgent": "socket of the key agent, or `none`",
    "IdentityFile": "a private key file",
    "ProxyCommand": "a command whose input and output are the connection",
    "ProxyJump": "hosts to go through",
    "ServerAliveCountMax": "unanswered keep-alives after which a login is lost",
    "ServerAliveInterval": "seconds of silence before a keep-alive is sent; 0 sends none",
}
"""What `Ssh.options` may hold, by the names of ssh_config(5)."""

_MOST_HOPS = 8
_MOST_INCLUDES = 16
_BLOCK = re.compile(r"\s*(host|match)\b", re.IGNORECASE)
_INCLUDE = re.compile(r"\s*include(?:\s*=\s*|\s+)(.+?)\s*$", re.IGNORECASE)
_KEY_IN_HOME = re.compile(r"^(\s*identityfile(?:\s*=\s*|\s+)\"?)(?:~|%d)/", re.IGNORECASE | re.MULTILINE)
_JUMP = re.compile(r"(?:(?P<user>[^@]+)@)?(?:\[(?P<v6>[^\]]+)\]|(?P<host>[^:@\s]+))(?::(?P<port>\d+))?")


@dataclass(frozen=True)
class Hop:
    """One login on the way, resolved.

    Attributes:
        name: As the user, or the cloud, calls it.
        host: Name or address to connect to.
        port: TCP port.
        user: Login name.
        pinned: The only host key that is accepted.
        known_as: How `known_hosts` files name it.
        first_keys: Key files to try before the installation's own key.
        keys: Key files to try after it.
        only_keys: Try neither the agent nor other files.
        agent: Socket of the user's key agent.
        command: A proxy command whose input and output are the connection.
        connect_s: How long to wait for each step of a login.
        alive_s: Seconds of silence before a keep-alive is sent; 0 sends none.
        alive_count: So many intervals without a word, and the login is lost.
    """

    name: str
    host: str
    port: int
    user: str
    pinned: str | None = None
    known_as: str = ""
    first_keys: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    only_keys: bool = False
    agent: str | None = None
    command: str | None = None
    connect_s: float = 15.0
    alive_s: float = 10.0
    alive_count: int = 3

    def __str__(self) -> str:
        """`user@host[:port]`, for messages."""
        return f"{self.user}@{self.host}" if self.port == 22 else f"{self.user}@{self.host}:{self.port}"


Route = tuple[Hop, ...]
"""Jump hosts, the nearest first, and the host itself last."""


class UserConfig:
    """The user's own SSH settings, read once: their config file with its includes, key files and agent."""

    def __init__(self, user_home: Path, environ: Mapping[str, str], *, user: str) -> None:
        """`user` is the login name where neither a cloud nor the config has one."""
        self.home = user_home
        self.user = user
        self.agent = environ.get("SSH_AUTH_SOCK") or None
        self._file = user_home / ".ssh" / "config"
        self._text: str | None = None

    @property
    def known_hosts(self) -> Path:
        """The user's own file; read, never written."""
        return self.home / ".ssh" / "known_hosts"

    def text(self) -> str:
        """The config file with its includes in place."""
        if self._text is None:
            # Paramiko knows only the home of this process's user.
            self._text = _KEY_IN_HOME.sub(rf"\g<1>{self.home}/", _with_includes(self._file, self.home))
        return self._text

    def lookup(self, host: str, given: Mapping[str, str]) -> Mapping[str, object]:
        """What holds for a host, by lower-case names; `given` goes before what the file says.

        Raises:
            InvalidInput: The file can't be understood.
        """
        from paramiko.config import SSHConfig
        from paramiko.ssh_exception import ConfigParseError

        lines = [f"Host {host}", *(f"{name} {value}" for name, value in given.items()), "Host *", self.text()]
        try:
            found: Mapping[str, object] = SSHConfig.from_text("\n".join(lines)).lookup(host)
        except (ConfigParseError, ValueError, KeyError, ImportError, RuntimeError) as error:
            raise InvalidInput([Fault(f"can't be used: {error}", file=str(self._file))]) from None
        return found


def route_to(reach: Ssh, config: UserConfig) -> Route:
    """The hops of a reach.

    Raises:
        InvalidInput: An option, a jump host or the user's config file is wrong.
    """
    given = _checked(reach)
    if reach.port != 22:
        given["Port"] = str(reach.port)
    if reach.user:
        given["User"] = reach.user
    if reach.jump:
        given["ProxyJump"] = reach.jump
    return _route(reach.host, given, config, pinned=reach.host_key, left=_MOST_HOPS)


def _checked(reach: Ssh) -> dict[str, str]:
    known = {name.lower(): name for name in SSH_OPTIONS}
    faults = [
        Fault(f"is not an SSH option that Styx knows; those are {', '.join(SSH_OPTIONS)}", field=name)
        for name in reach.options
        if name.lower() not in known
    ]
    every = {"host": reach.host, "user": reach.user, "jump": reach.jump or "", **reach.options}
    faults += [Fault("holds a line end", field=name) for name, value in every.items() if set(value) & set("\r\n\0")]
    if not reach.host or _is_odd(reach.host) or any(part.isspace() for part in reach.host):
        faults.append(Fault("is not a host name", field="host", value=reach.host))
    if _is_odd(reach.user):
        faults.append(Fault("is not a login name", field="user", value=reach.user))
    if faults:
        raise InvalidInput(faults)
    return {known[name.lower()]: value for name, value in reach.options.items()}


def _is_odd(name: str) -> bool:
    """Whether a name, which a cloud may have told, holds what a shell acts on: proxy commands have it (%h, %r)."""
    return name.startswith("-") or name.endswith("\\") or bool(set(name) & set("'`\"$;&<>|(){}"))


def _route(
    host: str,
    given: Mapping[str, str],
    config: UserConfig,
    *,
    pinned: str | None,
    left: int,
    key_behind: str | None = None,
) -> Route:
    if left <= 0:
        raise InvalidInput([Fault(f"has more than {_MOST_HOPS} jump hosts, or they go in a circle", field=host)])
    found = config.lookup(host, given)

    def text(name: str, default: str = "") -> str:
        value = found.get(name, default)
        return value if isinstance(value, str) else default

    port = _number(text("port", "22"), host, "Port")
    named = tuple(_path(each, config.home) for each in _strings(found.get("identityfile")) if each.lower() != "none")
    first = (
        tuple(_path(each, config.home) for each in [given["IdentityFile"]] if each) if "IdentityFile" in given else ()
    )
    only = text("identitiesonly").lower() == "yes"
    defaults = () if named or only else tuple(str(config.home / ".ssh" / f"id_{kind}") for kind in _KINDS)
    behind = tuple(each for each in first or (key_behind,) if each)
    agent = text("identityagent")
    jump = text("proxyjump")
    jumps = [] if jump.lower() in ("", "none") else [each.strip() for each in jump.split(",") if each.strip()]
    hop = Hop(
        name=host,
        host=text("hostname", host),
        port=port,
        user=text("user") or config.user,
        pinned=pinned,
        known_as=text("hostkeyalias"),
        first_keys=first,
        keys=tuple(dict.fromkeys(each for each in (*named, *behind, *defaults) if each not in first)),
        only_keys=only,
        agent={"": config.agent, "none": None, "ssh_auth_sock": config.agent}.get(
            agent.lower(), _path(agent, config.home)
        ),
        command=None if jumps else text("proxycommand") or None,
        connect_s=_number(text("connecttimeout", "15"), host, "ConnectTimeout") or 15,
        alive_s=_number(text("serveraliveinterval", "10"), host, "ServerAliveInterval"),
        alive_count=max(1, _number(text("serveralivecountmax", "3"), host, "ServerAliveCountMax")),
    )
    before: Route = ()
    for index, each in enumerate(jumps):
        before += _jump(
            each, config, first=index == 0, left=left - 1 - len(before), key_behind=behind[0] if behind else None
        )
    if len(before) >= _MOST_HOPS:
        raise InvalidInput([Fault(f"has more than {_MOST_HOPS} jump hosts", field=host)])
    return (*before, hop)


def _jump(spec: str, config: UserConfig, *, first: bool, left: int, key_behind: str | None) -> Route:
    """One jump host. Only the first is reached as the config says: the others through their predecessor.

    The key that the cloud or pool names for the host behind it is tried there too, after those of the config.
    """
    match = _JUMP.fullmatch(spec.removeprefix("ssh://"))
    if match is None:
        raise InvalidInput([Fault("is not [user@]host[:port]", field="jump host", value=spec)])
    given = {name: value for name, value in (("User", match["user"]), ("Port", match["port"])) if value}
    if not first:
        given["ProxyJump"] = "none"
    return _route(match["v6"] or match["host"], given, config, pinned=None, left=left, key_behind=key_behind)


_KINDS = ("ed25519", "ecdsa", "rsa")


def _strings(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _path(text: str, home: Path) -> str:
    text = text.replace("%d", str(home)).strip('"')
    return str(home / text[2:]) if text.startswith("~/") else text


def _number(text: str, host: str, name: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 65535:
        raise InvalidInput([Fault("is not a number from 0 to 65535", field=f"{name} of {host}", value=text)])
    return value


def _with_includes(path: Path, home: Path, depth: int = 0) -> str:
    """A config file's lines, with those of included files in place, and the block around an `Include` opened again."""
    if depth > _MOST_INCLUDES:
        raise InvalidInput([Fault("is included by itself, or too deeply", file=str(path))])
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise InvalidInput([Fault(f"can't be read: {error.strerror}", file=str(path))]) from None
    out: list[str] = []
    block = "Host *"
    for line in lines:
        if _BLOCK.match(line):
            block = line
        match = _INCLUDE.match(line)
        if match is None:
            out.append(line)
            continue
        for pattern in match[1].split():
            place = os.path.join(home / ".ssh", _path(pattern, home))
            out.extend(_with_includes(Path(each), home, depth + 1) for each in sorted(glob.glob(place)))
        out.append(block)
    return "\n".join(out)
