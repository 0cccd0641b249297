"""A vendor's interface on loopback: a real HTTP server around one function from request to reply."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What the emulator was asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False, default=b"")

    def json(self) -> Any:
        """The body, when it is JSON."""
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        """The body, when it is a form."""
        return dict(parse_qsl(self.body.decode()))


@dataclass(frozen=True)
class Reply:
    """What it answers: JSON, or text and bytes as they are."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class NoReply(Exception):
    """The request was received, and perhaps carried out, and the connection ends without a reply."""


class Emulator:
    """Serves on a free port while it is entered.

    Args:
        answer: From request to reply; raises `NoReply` to break the connection.
        host: The address to serve on: loopback, or one of a network that the test made.

    Attributes:
        url: Its address, without a slash at the end.
        requests: Everything it was asked, in order.
    """

    def __init__(self, answer: Callable[[Request], Reply], host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self._answer = answer
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://{host}:{self._server.server_address[1]}"

    def __enter__(self) -> Emulator:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def lines(self) -> list[str]:
        """Request lines with their queries: where no secret may be."""
        return [f"{one.method} {one.path} {dict(one.query)}" for one in self.requests]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        emulator = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or the body waits 40 ms for the headers to be confirmed

            def _serve(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                parts = urlsplit(self.path)
                request = Request(
                    method=self.command,
                    path=parts.path,
                    query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(length),
                )
                emulator.requests.append(request)
                try:
                    reply = emulator._answer(request)
                except NoReply:
                    self.close_connection = True
                    return
                raw = reply.body
                kind = "text/plain"
                if not isinstance(raw, (str, bytes)):
                    raw, kind = ("" if raw is None else json.dumps(raw)), "application/json"
                content = raw.encode() if isinstance(raw, str) else raw
                self.send_response(reply.status)
                for name, value in {"Content-Type": kind, **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler


def plain_client() -> Any:
    """An HTTP client for loopback: it reads no certificates, which takes longer than a test, and no proxy settings."""
    import httpx

    return httpx.Client(verify=False, trust_env=False)  # noqa: S501 - plain HTTP, on loopback
