"""The way to a pod: the API server's `exec` and `portforward` over websockets. Needs `sh` and a Python in the pod."""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Final, cast
from urllib.parse import urlencode

from styx.plugin import (
    Channel,
    Completed,
    DeadlineExceeded,
    LocalIOError,
    NodeGone,
    PortForward,
    Transport,
    Unreachable,
    Unusable,
)
from styx_k8s.api import Api
from styx_k8s.pods import CONTAINER, LENT, ROOM

STDIN, STDOUT, STDERR, STATUS, RESIZE = range(5)
OPEN_S: Final = 15.0
_FRAME_BYTES: Final = 1 << 16
_PROBE: Final = f"""
for python in python3 /usr/bin/python3 /usr/local/bin/python3 /opt/conda/bin/python3 python {LENT}; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && break
    python=
done
home=${{HOME:-/}}; [ -w "$home" ] && [ "$home" != / ] || home={ROOM}/home
mkdir -p "$home" {ROOM}/agent && printf '%s\\n' "$home" "$(command -v "$python")"
"""
_PUT: Final = """
mkdir -p "$(dirname "$1")" && umask 077 && head -c "$4" > "$1.$3" && [ "$(wc -c < "$1.$3")" -eq "$4" ] &&
    chmod "$2" "$1.$3" && mv -f "$1.$3" "$1" || { rm -f "$1.$3"; exit 1; }
"""
_FEED: Final = 'size=$1; shift; head -c "$size" | "$@"'
"""Older servers can't close one direction of a connection: the command is told how much input there is."""
_IN_HOME: Final = 'export HOME="$1"; cd "$1" || exit 97; shift; exec "$@"'
_WITH_ENV: Final = '. "$1"; rm -f "$1"; shift; exec "$@"'


class Stream:
    """One websocket of channels, read by a thread of its own."""

    def __init__(self, api: Api, pod: str, verb: str, query: Sequence[tuple[str, str]]) -> None:
        import websocket
        from kubernetes.stream.ws_client import create_websocket

        path = f"{api.of('pods', pod)}/{verb}"
        url = f"ws{api.server.removeprefix('http')}{path}?{urlencode(query)}"
        headers = {name.lower(): value for name, value in api.headers(path).items()}
        headers["sec-websocket-protocol"] = "v4.channel.k8s.io"
        try:
            websocket.setdefaulttimeout(OPEN_S)
            self._socket = create_websocket(api.client.configuration, url, headers)
        except websocket.WebSocketBadStatusException as error:
            raise _refused(api, pod, error) from None
        except (websocket.WebSocketException, OSError) as error:
            raise Unreachable(f"pod {pod} in context {api.context}: {str(error) or type(error).__name__}") from None
        self._socket.settimeout(None)
        self._lock = threading.Lock()
        self.closed = False

    def send(self, channel: int, data: bytes | memoryview) -> None:
        """One frame; raises OSError when the connection is gone."""
        from websocket import ABNF, WebSocketException

        try:
            with self._lock:
                self._socket.send(bytes((channel,)) + bytes(data), ABNF.OPCODE_BINARY)
        except (WebSocketException, OSError) as error:
            raise BrokenPipeError(f"the connection to the pod is gone: {error}") from None

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Channel and content of every frame, until the connection ends."""
        from websocket import ABNF, WebSocketException

        with contextlib.suppress(WebSocketException, OSError, ValueError):
            while (received := self._socket.recv_data())[0] != ABNF.OPCODE_CLOSE:
                if data := received[1]:
                    yield data[0], bytes(data[1:])
        self._socket.shutdown()

    def close(self) -> None:
        """Close the connection; what reads or writes wakes up."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._socket.abort()  # wakes the reader up


class PodChannel:
    """A command in the pod with its three streams. See `styx.plugin.Channel`."""

    def __init__(self, api: Api, pod: str, argv: Sequence[str], *, tty: bool = False) -> None:
        flags = [("container", CONTAINER), ("stdin", "true"), ("stdout", "true"), ("tty", str(tty).lower())]
        flags += [] if tty else [("stderr", "true")]
        self.stream = Stream(api, pod, "exec", [*(("command", word) for word in argv), *flags])
        reading, writing = os.pipe()  # whoever fills it too fast is held back, and reading it is like any other file
        self.stdout = cast(BinaryIO, os.fdopen(reading, "rb", buffering=0))
        self._out, self._err = writing, bytearray()
        self._status: dict[str, Any] | None = None
        self._over = threading.Event()
        self.stdin = cast(BinaryIO, _Writer(self.stream))
        threading.Thread(target=self._read, name=f"exec {pod}", daemon=True).start()

    def _read(self) -> None:
        for channel, data in self.stream.frames():
            if channel == STDOUT:
                with contextlib.suppress(BrokenPipeError):  # nobody reads it any more
                    while data:
                        data = data[os.write(self._out, data) :]
            elif channel == STDERR:
                self._err = (self._err + data)[-(1 << 20) :]
            elif channel == STATUS:
                with contextlib.suppress(ValueError):
                    self._status = json.loads(data)
        os.close(self._out)
        self._over.set()

    def stderr_tail(self) -> str:
        """The last 8 KiB of standard error."""
        return bytes(self._err[-8192:]).decode("utf-8", "replace")

    def stderr(self) -> bytes:
        """Standard error, at most its last MiB."""
        return bytes(self._err)

    def wait(self, timeout_s: float) -> int:
        """Exit code; a connection that ended without one counts as the node being lost."""
        if not self._over.wait(timeout_s):
            raise DeadlineExceeded(f"the command did not end within {timeout_s:g} s")
        status = self._status
        if status is None:
            raise Unreachable("the connection to the pod broke off")
        if status.get("status") == "Success":
            return 0
        for cause in (status.get("details") or {}).get("causes") or ():
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
        raise Unreachable(f"the command could not be run: {status.get('message')}")

    def close(self) -> None:
        """End the connection; the command sees the end of its input."""
        self.stream.close()
        if self._over.wait(1.0):  # else the reader is stuck in a full pipe: closing the other end frees it
            return
        with contextlib.suppress(OSError):
            self.stdout.close()


class _Writer(io.RawIOBase):
    """Bytes as frames of standard input."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """A part of the data, as one frame."""
        part = memoryview(data)[:_FRAME_BYTES]
        self._stream.send(STDIN, part)
        return len(part)


class PodTransport(Transport):
    """See the module."""

    def __init__(self, api: Api, pod: str) -> None:
        self._api, self._pod = api, pod
        self.home, self.agent_state, self.python = "/", f"{ROOM}/agent", ""
        done = self._bare(("sh", "-c", _PROBE), timeout_s=60.0)
        lines = done.stdout.decode("utf-8", "surrogateescape").splitlines()
        if done.exit_code or len(lines) != 2:
            raise Unreachable(f"pod {pod} can't be used: {_last_line(done.stderr)}")
        self.home, self.python = lines
        if not self.python:
            raise Unusable(
                f"the image of pod {pod} has no Python 3.8 or newer",
                hint="set `clouds.kubernetes.python_image` to an image that lends one, such as python:3.12-slim",
            )

    def _bare(self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        until = time.monotonic() + timeout_s
        if stdin:
            argv = ("sh", "-c", _FEED, "sh", str(len(stdin)), *argv)
        channel = PodChannel(self._api, self._pod, argv)
        try:
            for start in range(0, len(stdin), _FRAME_BYTES):
                with contextlib.suppress(BrokenPipeError):  # the command may have ended without reading all
                    channel.stdin.write(stdin[start : start + _FRAME_BYTES])
            timer = threading.Timer(max(0.1, until - time.monotonic()), channel.close)
            timer.daemon = True
            timer.start()
            out = channel.stdout.read()
            timer.cancel()
            if channel.stream.closed:
                raise DeadlineExceeded(f"{argv[0]} did not end within {timeout_s:g} s in pod {self._pod}")
            return Completed(channel.wait(max(5.0, until - time.monotonic())), out, channel.stderr())
        finally:
            channel.close()

    def _argv(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[str, ...]:
        """In the node's home. Variables travel in a private file: arguments can be seen by all."""
        with_env: tuple[str, ...] = ()
        if env:
            path = f"{self.agent_state}/env-{secrets.token_hex(8)}"
            lines = [f"export {name}={shlex.quote(value)}\n" for name, value in env.items()]
            self.put("".join(lines).encode("utf-8", "surrogateescape"), path, mode=0o600)
            with_env = ("sh", "-c", _WITH_ENV, "sh", path)
        return ("sh", "-c", _IN_HOME, "sh", self.home, *with_env, *argv)

    def open(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> Channel:
        """Start `argv` in the node's home."""
        return PodChannel(self._api, self._pod, self._argv(argv, env))

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30.0) -> Completed:
        """Run `argv` in the node's home to its end."""
        return self._bare(self._argv(argv), stdin, timeout_s)

    def put(self, data: bytes, path: str, *, mode: int = 0o644) -> None:
        """Write a file by a streamed copy."""
        argv = ("sh", "-c", _PUT, "sh", path, f"{mode:o}", secrets.token_hex(4), str(len(data)))
        done = self._bare(argv, data, timeout_s=300.0 + len(data) / 50_000)  # a slow line, a large wheel
        if done.exit_code:
            raise Unreachable(f"cannot write {path} in pod {self._pod}: {_last_line(done.stderr)}")

    def forward(self, forwards: Sequence[PortForward], say: Callable[[str], None]) -> Forwarder:
        """Let ports of this machine lead to ports of the pod."""
        return Forwarder(self._api, self._pod, forwards, say)

    def interactive(self, argv: Sequence[str]) -> int:
        """A command, or a login shell, on this terminal."""
        tty = sys.stdin.isatty()
        term = f"TERM={os.environ.get('TERM', 'dumb')}"
        shell = ("sh", "-c", 'command -v bash >/dev/null && exec bash -l; exec "${SHELL:-sh}" -l')
        channel = PodChannel(self._api, self._pod, self._argv(("env", term, *(argv or shell))), tty=tty)
        with _raw_terminal(channel.stream) if tty else contextlib.nullcontext():
            threading.Thread(target=_type_into, args=(channel,), daemon=True).start()
            while data := channel.stdout.read(_FRAME_BYTES):
                os.write(1, data)
        os.write(2, channel.stderr())
        return channel.wait(10.0)


class Forwarder:
    """Listens until it is closed; each connection gets a websocket of its own."""

    def __init__(self, api: Api, pod: str, forwards: Sequence[PortForward], say: Callable[[str], None]) -> None:
        self._api, self._pod, self._say = api, pod, say
        self.forwards: list[PortForward] = []
        self._servers: list[socketserver.BaseServer] = []
        try:
            for each in forwards:
                self._listen(each)
        except BaseException:
            self.close()
            raise

    def _listen(self, each: PortForward) -> None:
        if each.host not in ("127.0.0.1", "localhost", "::1"):
            raise Unreachable(f"{each.host} is not the pod itself: only its own ports can be forwarded")

        def carry(connection: socket.socket, *_: object) -> None:
            try:
                self._carry(connection, each.remote)
            except Unreachable as error:
                self._say(f"no connection to port {each.remote} of the pod: {error.message}")

        try:
            server = socketserver.ThreadingTCPServer((each.bind, each.local), carry)  # type: ignore[arg-type]
        except OSError as error:
            raise LocalIOError(f"port {each.local} of this machine can't be used: {error.strerror}") from None
        server.daemon_threads = True
        self._servers.append(server)
        self.forwards.append(replace(each, local=int(server.server_address[1])))
        threading.Thread(target=server.serve_forever, args=(0.1,), name="forward", daemon=True).start()

    def _carry(self, connection: socket.socket, port: int) -> None:
        stream = Stream(self._api, self._pod, "portforward", [("ports", str(port))])

        def down() -> None:
            begun = set()  # the first frame of each channel repeats the port's number
            with contextlib.suppress(OSError):
                for channel, data in stream.frames():
                    if channel == 0 and 0 in begun:
                        connection.sendall(data)
                    elif channel == 1 and 1 in begun and data:
                        self._say(f"port {port} of the pod: {data.decode('utf-8', 'replace').strip()}")
                    begun |= {channel} if data else set()
                connection.shutdown(socket.SHUT_RDWR)

        reader = threading.Thread(target=down, daemon=True)
        reader.start()
        with contextlib.suppress(OSError):
            while data := connection.recv(_FRAME_BYTES):
                stream.send(0, data)
            reader.join(60.0)  # half closed: let the answer come
        stream.close()

    def close(self) -> None:
        """Stop listening. Idempotent."""
        for server in self._servers:
            server.shutdown()
            server.server_close()


def _type_into(channel: PodChannel) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, _FRAME_BYTES):
            channel.stdin.write(data)
        time.sleep(1.0)  # the end of a piped input can't be sent to older servers: let the command answer first
        channel.close()


@contextlib.contextmanager
def _raw_terminal(stream: Stream) -> Iterator[None]:
    """Keys go through as they are, and the pod learns of the window's size."""
    import termios
    import tty

    def resize(*_: object) -> None:
        size = shutil.get_terminal_size()
        with contextlib.suppress(OSError):
            stream.send(RESIZE, json.dumps({"Width": size.columns, "Height": size.lines}).encode())

    before, handler = termios.tcgetattr(0), signal.getsignal(signal.SIGWINCH)
    main = threading.current_thread() is threading.main_thread()
    try:
        tty.setraw(0)
        resize()
        if main:
            signal.signal(signal.SIGWINCH, resize)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        if main:
            signal.signal(signal.SIGWINCH, handler)


def _refused(api: Api, pod: str, error: Any) -> Unreachable:
    """The server's own words for a connection that it did not open."""
    body = getattr(error, "resp_body", None) or b""
    try:
        words = str(json.loads(body).get("message"))
    except (ValueError, AttributeError):
        words = str(error).splitlines()[0]
    kind = NodeGone if error.status_code == 404 else Unreachable
    return kind(f"pod {pod} in context {api.context}: {words}")


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
