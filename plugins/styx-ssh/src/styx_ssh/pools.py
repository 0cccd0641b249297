"""The file with the pools: what may stand there, and clear words when it is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from styx.plugin import CredentialsError, Ssh

if TYPE_CHECKING:
    import yaml

_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
_ADDRESS = re.compile(r"^[A-Za-z0-9_.:%\[\]-]+$")
_WITH_PORT = re.compile(r"^(\[.*\]|[^:]*):\d*$")
_ACCELERATORS = re.compile(r"^([A-Za-z0-9._+-]+)(?::(\d+))?$")
_JUMP = ("jump", "proxy_jump")
_COMMON = ("user", "identity_file", "port", *_JUMP, "proxy_command", "usd_per_hour", "labels", "accelerators")
_POOL_KEYS = (*_COMMON, "hosts", "network")
_HOST_KEYS = (*_COMMON, "ip", "name", "private_ip")
_KEY_FILE = "must be the path of a private key that exists, not of its .pub"
_PASSWORD = "passwords are never kept; log in with `identity_file`, an SSH agent, or what ~/.ssh/config says"  # noqa: S105


@dataclass(frozen=True)
class Host:
    """One machine of a pool, with the pool's defaults filled in.

    Attributes:
        name: As the file calls it: unique in its pool, part of node ids.
        address: An address, a name, or an alias of the user's SSH config.
        user: Empty: as the SSH config says.
        usd_per_hour: None: it costs nothing.
        accelerators: Name and count, where the host's own tools are not to be believed or not there.
    """

    pool: str
    name: str
    address: str
    user: str = ""
    port: int = 22
    identity_file: str | None = None
    jump: str | None = None
    proxy_command: str | None = None
    usd_per_hour: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    accelerators: tuple[str, int] | None = None
    private_ip: str | None = None
    network: str | None = None

    @property
    def id(self) -> str:
        """The node id of whatever is leased here."""
        return f"{self.pool}/{self.name}"

    @property
    def reach(self) -> Ssh:
        """How to log in."""
        options = {}
        if self.identity_file:
            options["IdentityFile"] = self.identity_file
        if self.proxy_command:
            options["ProxyCommand"] = self.proxy_command
        return Ssh(host=self.address, port=self.port, user=self.user, jump=self.jump, options=options)


def read_pools(path: Path, user_home: Path) -> dict[str, tuple[Host, ...]]:
    """The pools of a file, by name.

    Raises:
        CredentialsError: It is missing, or wrong; the message has a line for each mistake.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CredentialsError(
            f"there is no file {path} with pools of machines", hint=_first_steps(path, user_home)
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(f"{path} cannot be read: {error}", hint="mend the file") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise CredentialsError(
            f"{where}: is not YAML: {getattr(error, 'problem', error)}", hint="mend the file"
        ) from None
    reader = _Reader(path, _lines(root), user_home)
    reader.twice(root)
    pools = reader.pools(value)
    if reader.faults:
        raise CredentialsError("\n".join(reader.faults), hint=f"mend {path}; its format is in the README of styx-ssh")
    return pools


def _first_steps(path: Path, user_home: Path) -> str:
    theirs = user_home / ".sky" / "ssh_node_pools.yaml"
    if theirs.is_file():
        return f"yours for SkyPilot has the same format: cp {theirs} {path}"
    return f"write one: a pool's name, and below it `user`, `identity_file` and `hosts`, a list of addresses ({path})"


def _lines(node: yaml.Node | None, prefix: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], int]:
    """The line of every value of a YAML document."""
    import yaml

    found: dict[tuple[str | int, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*prefix, str(key.value))
            found[inner] = key.start_mark.line + 1
            found.update(_lines(value, inner))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found[(*prefix, index)] = value.start_mark.line + 1
            found.update(_lines(value, (*prefix, index)))
    return found


class _Reader:
    """Turns the file's values into hosts, and gathers what is wrong."""

    def __init__(self, path: Path, lines: Mapping[tuple[str | int, ...], int], user_home: Path) -> None:
        self.faults: list[str] = []
        self._path = path
        self._lines = lines
        self._user_home = user_home

    def fault(self, where: tuple[str | int, ...], message: str, value: object = None) -> None:
        line = next((self._lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in self._lines), None)
        name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).removeprefix(".")
        got = "" if value is None else f" (got {str(value)[:80]!r})"
        self.faults.append(f"{self._path}{f':{line}' if line else ''}: {f'{name}: ' if name else ''}{message}{got}")

    def twice(self, node: yaml.Node | None, prefix: tuple[str | int, ...] = ()) -> None:
        """A key that stands twice in one mapping: YAML's parser keeps the last and says nothing."""
        pairs = getattr(node, "value", None) if getattr(node, "id", "") == "mapping" else None
        seen: set[str] = set()
        for key, value in pairs or ():
            name = str(key.value)
            if name in seen:
                self.fault((*prefix, name), "stands there twice; only one can hold")
            seen.add(name)
            self.twice(value, (*prefix, name))

    def pools(self, value: object) -> dict[str, tuple[Host, ...]]:
        if not isinstance(value, dict) or not value:
            self.fault((), "must map names of pools to their hosts", type(value).__name__)
            return {}
        pools = {}
        for name, settings in value.items():
            if not isinstance(name, str) or not _NAME.match(name):
                self.fault((str(name),), "a pool's name has up to 63 letters, digits, dots and dashes", name)
            elif not isinstance(settings, dict):
                self.fault((name,), "must have `hosts`, a list of addresses", settings)
            else:
                pools[name] = self._pool(name, settings)
        return pools

    def _pool(self, pool: str, settings: dict[Any, Any]) -> tuple[Host, ...]:
        self._known((pool,), settings, _POOL_KEYS)
        defaults = self._common((pool,), settings)
        network = self._checked(
            (pool, "network"), settings.get("network"), _network, "must be a network such as 10.0.0.0/24"
        )
        listed = settings.get("hosts")
        if not isinstance(listed, list) or not listed:
            self.fault((pool, "hosts"), "must be a list of addresses, names or `{ip: ...}`", listed)
            return ()
        hosts: dict[str, Host] = {}
        for index, entry in enumerate(listed):
            where = (pool, "hosts", index)
            host = self._host(pool, where, entry, {**defaults, "network": network})
            if host is None:
                continue
            if host.name in hosts:
                self.fault(where, "is in the pool already; give it another `name` if it is another machine", host.name)
            hosts[host.name] = host
        return tuple(hosts.values())

    def _host(self, pool: str, where: tuple[str | int, ...], entry: object, defaults: dict[str, Any]) -> Host | None:
        if isinstance(entry, str):
            entry = {"ip": entry}
        if not isinstance(entry, dict):
            self.fault(where, "must be an address or `{ip: ...}`", entry)
            return None
        self._known(where, entry, _HOST_KEYS)
        address = entry.get("ip")
        if isinstance(address, str) and ("@" in address or _WITH_PORT.match(address)):
            apart = "must be an address alone; write `{ip: ADDRESS, user: NAME, port: NUMBER}`"
            self.fault((*where, "ip"), apart, address)
            return None
        if not isinstance(address, str) or not _ADDRESS.match(address):
            self.fault((*where, "ip"), "must be an address, a name, or an alias of ~/.ssh/config", address)
            return None
        address = address.removeprefix("[").removesuffix("]")
        name = entry.get("name", address)
        named = isinstance(name, str) and _NAME.match(name.replace(":", "-").replace("_", "-"))
        if not named and (name != address or name.startswith("-")):
            self.fault((*where, "name"), "must be a short name of letters, digits, dots and dashes", name)
            return None
        own = self._common(where, entry)
        private = self._checked(
            (*where, "private_ip"), entry.get("private_ip"), _ip, "must be an address such as 10.0.0.7"
        )
        labels = {**defaults["labels"], **own["labels"]}
        given = {key: value for key, value in own.items() if value is not None}
        return Host(
            pool=pool, name=name, address=address, **{**defaults, **given, "labels": labels, "private_ip": private}
        )

    def _known(self, where: tuple[str | int, ...], settings: dict[Any, Any], allowed: tuple[str, ...]) -> None:
        for key in settings:
            if key == "password":
                self.fault((*where, key), _PASSWORD)
            elif key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, n=1)
                self.fault((*where, str(key)), "is not a setting here" + (f"; did you mean {near[0]}?" if near else ""))

    def _common(self, where: tuple[str | int, ...], settings: dict[Any, Any]) -> dict[str, Any]:
        """The settings that a pool may give for all its hosts; None where it does not."""

        def get(key: str, check: Callable[[Any], Any], message: str) -> Any:
            return self._checked((*where, key), settings.get(key), check, message)

        jump = next(
            (get(key, _text, "must be `[user@]host[:port]`") for key in _JUMP if settings.get(key) is not None), None
        )
        found = {
            "user": get("user", _text, "must be a login name"),
            "port": get("port", _port, "must be a port, 1 to 65535"),
            "identity_file": get("identity_file", self._file, _KEY_FILE),
            "jump": jump,
            "proxy_command": get("proxy_command", _text, "must be a command"),
            "usd_per_hour": get("usd_per_hour", _price, "must be dollars for an hour, 0 to 2000"),
            "labels": get("labels", _labels, "must map names to texts") or {},
            "accelerators": get("accelerators", _accelerators, "must be a name and a count, such as H100:8"),
        }
        if len(where) == 1:  # a pool: the defaults
            found["user"] = found["user"] or ""
            found["port"] = found["port"] or 22
        return found

    def _checked(self, where: tuple[str | int, ...], value: Any, check: Callable[[Any], Any], message: str) -> Any:
        if value is None:
            return None
        checked = check(value)
        if checked is None:
            self.fault(where, message, value)
        return checked

    def _file(self, value: Any) -> str | None:
        if not isinstance(value, str):
            return None
        path = self._user_home / value[2:] if value.startswith("~/") else Path(value)
        if not path.is_absolute():
            path = self._path.parent / path
        return str(path) if path.is_file() and path.suffix != ".pub" else None


def _text(value: Any) -> str | None:
    return (
        value if isinstance(value, str) and value.strip() and "\n" not in value and not value.startswith("-") else None
    )


def _port(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536 else None


def _price(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 2000 else None


def _labels(value: Any) -> dict[str, str] | None:
    if not isinstance(value, dict):
        return None
    simple = all(isinstance(each, (str, int, float)) for pair in value.items() for each in pair)
    return {str(key): str(text) for key, text in value.items()} if simple else None


def _accelerators(value: Any) -> tuple[str, int] | None:
    if isinstance(value, dict) and len(value) == 1:
        name, count = next(iter(value.items()))
        value = f"{name}:{count}"
    found = _ACCELERATORS.match(value) if isinstance(value, str) else None
    return (found[1], int(found[2] or 1)) if found and found[2] != "0" else None


def _ip(value: Any) -> str | None:
    import ipaddress

    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        return None


def _network(value: Any) -> str | None:
    import ipaddress

    try:
        return str(ipaddress.ip_network(str(value)))
    except ValueError:
        return None
