"""What every driver of a REST interface needs: a client that speaks JSON and turns failures into the taxonomy.

    api = RestApi(context, name="Lambda", endpoint=config.endpoint, headers=bearer(key), table=ERRORS, hint=HINT)
    api.get("instance-types")

Secrets travel in headers only. No redirect is followed: it could carry a key to another host. Nothing here waits or
retries; the engine does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from styx.driver import Node, NodeState, Problem
from styx.errors import (
    AmbiguousError,
    CloudError,
    CredentialsError,
    DriverError,
    TransientError,
    UnsupportedError,
    VendorDetail,
)

if TYPE_CHECKING:
    from styx.driver import Context, Place

Headers = Callable[[], Mapping[str, SecretStr]]
"""Secret headers of one call; asked for each call, because tokens expire."""

DEFAULT_RETRY_AFTER_S: Final = 2.0
LONGEST_RETRY_AFTER_S: Final = 600.0
VANISHED_S: Final = 60.0
"""When a machine that was ordered and never listed is given up."""
_QUOTED_CHARS: Final = 300

BY_STATUS: Final[Mapping[int, type[CloudError]]] = {
    400: UnsupportedError,
    401: CredentialsError,
    403: CredentialsError,
    404: DriverError,
    408: TransientError,
    422: UnsupportedError,
    425: TransientError,
    429: TransientError,
    500: TransientError,
    502: TransientError,
    503: TransientError,
    504: TransientError,
}
"""What a status means where the vendor's own code says nothing. Any other is a `DriverError`."""


@dataclass(frozen=True)
class Failure:
    """A refusal as the vendor said it.

    Attributes:
        status: Of HTTP.
        code: The vendor's own code, or `http_<status>`.
        message: The vendor's words.
        request_id: For the vendor's support.
        retry_after_s: As the vendor asks, or None.
        body: The JSON of the reply, or its text.
    """

    status: int
    code: str
    message: str
    request_id: str | None = None
    retry_after_s: float | None = None
    body: Any = None


ReadFailure = Callable[[Any], tuple[str | None, str | None]]
"""The vendor's code and message from the body of a failed reply; either may be None."""

Classify = Callable[[Failure], type[CloudError] | None]
"""The class of a failure, or None to go by the table and then by the status."""


def bearer(secret: SecretStr) -> Headers:
    """`Authorization: Bearer ...`."""
    return lambda: {"Authorization": SecretStr(f"Bearer {secret.get_secret_value()}")}


def read_failure(body: Any) -> tuple[str | None, str | None]:
    """Code and message in the shapes that most vendors use: `{"error": {...}}`, `{"error": text}` and RFC 9457."""
    if not isinstance(body, Mapping):
        return None, body if isinstance(body, str) else None
    inner = body.get("error")
    if isinstance(inner, Mapping):
        body = inner
    code = body.get("code") or body.get("type") or body.get("title")
    if isinstance(inner, str):
        code = inner
    message = body.get("message") or body.get("detail") or body.get("error_description")
    return str(code) if code is not None else None, str(message) if message is not None else None


@dataclass
class RestApi:
    """One vendor's interface.

    Attributes:
        context: Of the driver; its `http` makes the client, so that tests and proxies come in there.
        name: The vendor's, for messages.
        endpoint: Base address; paths are joined to it.
        headers: Secret headers of each call; None sends none.
        table: The vendor's codes, and what each tells the engine.
        classify: Asked before the table, for vendors whose codes don't say enough.
        read_failure: Finds code and message in a failed reply.
        hint: How to fix the credentials.
        request_id_header: Where the vendor names the request.
        timeout_s: For one call.
    """

    context: Context = field(repr=False)
    name: str
    endpoint: str
    headers: Headers | None = field(default=None, repr=False)
    table: Mapping[str, type[CloudError]] = field(default_factory=dict, repr=False)
    classify: Classify | None = field(default=None, repr=False)
    read_failure: ReadFailure = field(default=read_failure, repr=False)
    hint: str | None = None
    request_id_header: str = "x-request-id"
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if urlsplit(self.endpoint).scheme not in {"http", "https"}:
            raise UnsupportedError(
                f"the endpoint {self.endpoint!r} of {self.name} is no address",
                hint="write it as https://host/path",
            )
        self._client: Any = None

    # calls -------------------------------------------------------------------------------------------------------

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON at a path."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, query: Mapping[str, Any] | None = None, *, safe: bool = False) -> Any:
        """Send JSON. `safe` says that a repeat changes nothing, as for queries that only read."""
        return self.call("POST", path, body=body, query=query, safe=safe)

    def delete(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """Remove what is at a path; the vendor's word for "gone already" is raised like any other."""
        return self.call("DELETE", path, query=query)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        safe: bool | None = None,
    ) -> Any:
        """One call: the JSON of its reply, text where it is no JSON, None where it is empty.

        Args:
            method: Of HTTP.
            path: Joined to the endpoint; a whole address is taken as it is.
            query: Left out of messages, because some vendors put tokens there.
            body: Sent as JSON.
            form: Sent as a form; may hold secrets.
            content: Sent as it is.
            headers: Beside the secret ones.
            safe: Whether a repeat changes nothing; None goes by the method.

        Raises:
            CloudError: Of the class that the vendor's code, or else the status, stands for. A reply that was lost
                after something may have been changed is an `AmbiguousError`.
        """
        safe = method in {"GET", "HEAD", "PUT", "DELETE"} if safe is None else safe
        payload = {"json": body, "data": dict(form) if form is not None else None, "content": content}
        reply = self._send(method, self.url(path), query, payload, dict(headers or {}), safe)
        if 300 <= reply.status_code < 400:
            raise DriverError(
                f"{self.name} redirects {method} {self._shown(path)} to another address, which is not followed",
                vendor=VendorDetail(code=f"http_{reply.status_code}"),
                hint=f"set the cloud's `endpoint` if {self.name} has moved",
            )
        if reply.status_code >= 400:
            raise self.error(self._failure(reply), path=path)
        return _content(reply)

    def lines(self, path: str, query: Mapping[str, Any] | None = None) -> Iterator[str]:
        """The text at a path, line by line, for files too large to hold."""
        import httpx

        secret = {name: value.get_secret_value() for name, value in (self.headers() if self.headers else {}).items()}
        headers = {"User-Agent": "styx", **secret}
        timeout = httpx.Timeout(self.timeout_s)
        try:
            with self._http().stream(
                "GET", self.url(path), params=dict(query) if query else None, headers=headers, timeout=timeout
            ) as reply:
                if reply.status_code >= 300:
                    reply.read()
                    raise self.error(self._failure(reply), path=path)
                yield from reply.iter_lines()
        except httpx.TransportError as error:
            raise TransientError(f"{self._host()} stopped answering: {_reason(error)}", retry_after_s=5.0) from None

    def pages(
        self,
        path: str,
        query: Mapping[str, Any] | None = None,
        *,
        next_query: Callable[[Any], Mapping[str, Any] | str | None],
        limit: int = 10_000,
    ) -> Iterator[Any]:
        """Every page of a listing.

        Args:
            path: Of the first page.
            query: Of every page.
            next_query: From a page, what is added to the query for the next one; a whole address; or None at the end.
            limit: Most pages; more is taken for a listing that never ends.
        """
        asked: Mapping[str, Any] | None = query
        where = path
        for _ in range(limit):
            page = self.get(where, asked)
            yield page
            after = next_query(page)
            if not after:
                return
            if isinstance(after, str):
                where, asked = self.own(after), None
            else:
                asked = {**(query or {}), **after}
        raise DriverError(f"{self.name} gave {limit} pages of {self._shown(path)} without an end")

    def url(self, path: str) -> str:
        """A path as a whole address."""
        if urlsplit(path).scheme:
            return path
        return f"{self.endpoint.rstrip('/')}/{path.lstrip('/')}" if path else self.endpoint

    def own(self, url: str) -> str:
        """The address of a next page, which a vendor names itself, moved to the endpoint.

        Credentials never go to a host that only a reply named, and an emulator that answers with the vendor's real
        addresses still works.
        """
        base, there = urlsplit(self.endpoint), urlsplit(url)
        return there._replace(scheme=base.scheme, netloc=base.netloc).geturl()

    # workings ----------------------------------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        url: str,
        query: Mapping[str, Any] | None,
        payload: Mapping[str, Any],
        headers: dict[str, str],
        safe: bool,
    ) -> Any:
        import httpx

        shown = {"Accept": "application/json", "User-Agent": "styx", **headers}
        secret = {name: value.get_secret_value() for name, value in (self.headers() if self.headers else {}).items()}
        for name, value in secret.items():
            if not value.isascii() or any(sign in value for sign in "\r\n\0"):
                raise CredentialsError(f"{self.name}'s {name} holds signs that no header may have", hint=self.hint)
        try:
            return self._http().request(
                method,
                url,
                params=dict(query) if query else None,
                **{kind: value for kind, value in payload.items() if value is not None},
                headers={**shown, **secret},
                timeout=self.timeout_s,
                follow_redirects=False,
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise TransientError(f"{self._host()} can't be reached: {_reason(error)}", retry_after_s=5.0) from None
        except httpx.TransportError as error:
            if not safe:  # sent, and perhaps carried out
                raise AmbiguousError(f"no reply from {self._host()}: {_reason(error)}", settle_s=10.0) from None
            message = f"no reply from {self._host()}: {_reason(error)}"
            raise TransientError(message, retry_after_s=DEFAULT_RETRY_AFTER_S) from None
        except httpx.InvalidURL:
            raise UnsupportedError(f"{self._host()!r} is no address of {self.name}", hint="mend `endpoint`") from None

    def _http(self) -> Any:
        if self._client is None:
            if self.context.http is None:
                raise UnsupportedError(f"{self.name} needs an HTTP client, and the context has none")
            self._client = self.context.http()
        return self._client

    def _host(self) -> str:
        return urlsplit(self.endpoint).netloc.rpartition("@")[2] or self.name

    def _shown(self, path: str) -> str:
        return urlsplit(path).path or "/"

    def _failure(self, reply: Any) -> Failure:
        body = _content(reply, lenient=True)
        code, message = self.read_failure(body)
        return Failure(
            status=reply.status_code,
            code=code or f"http_{reply.status_code}",
            message=(message or reply.reason_phrase or "no reason given")[:_QUOTED_CHARS],
            request_id=reply.headers.get(self.request_id_header),
            retry_after_s=retry_after(reply.headers.get("retry-after"), self.context.clock()),
            body=body,
        )

    def error(self, failure: Failure, *, path: str = "") -> CloudError:
        """A failure as an instruction to the engine, with the vendor's words kept.

        Also for vendors that answer 200 with a refusal in the body.
        """
        kind = self.classify(failure) if self.classify else None
        kind = kind or self.table.get(failure.code) or BY_STATUS.get(failure.status, DriverError)
        what = f" to {self._shown(path)}" if path else ""
        message = f"{self.name} says {failure.code}{what}: {failure.message}"
        vendor = VendorDetail(code=failure.code, message=failure.message, request_id=failure.request_id)
        if issubclass(kind, TransientError):
            pause = DEFAULT_RETRY_AFTER_S if failure.retry_after_s is None else failure.retry_after_s
            return kind(message, retry_after_s=max(0.1, pause), vendor=vendor)
        if issubclass(kind, AmbiguousError):
            return kind(message, vendor=vendor)
        hint = self.hint if issubclass(kind, CredentialsError) else None
        return kind(message, vendor=vendor, hint=hint)


@contextmanager
def expecting(name: str, what: str) -> Iterator[None]:
    """Around code that picks a vendor's reply apart: a reply of another shape is the vendor's fault, not a crash."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:_QUOTED_CHARS]
        raise DriverError(f"{name} answered {what} in a shape that it does not document ({said})") from None


def still_to_come(node: Node, name: str, now: float) -> Node:
    """A node that was ordered and that no listing shows: still on its way or, after `VANISHED_S`, failed.

    For clouds whose listings are late and that take an order back without a word.

    Args:
        node: As the order was answered.
        name: The vendor's, for messages.
        now: Unix seconds.
    """
    born = node.created_at.timestamp() if node.created_at is not None else 0.0
    if node.state is NodeState.PENDING and now - born < VANISHED_S:
        return node
    problem = Problem(error="CapacityError", message=f"{name} took the order, and the machine never came up")
    return node.model_copy(update={"state": NodeState.FAILED, "problem": problem, "waiting": None, "reach": None})


def with_those_to_come(
    listed: Sequence[Node], known: Sequence[Node], place: Place, *, name: str, now: float
) -> list[Node]:
    """What is listed, and those pending nodes of the place that the engine remembers and the listing does not show."""
    shown = {one.id for one in listed}
    missing = [
        one for one in known if one.id not in shown and one.state is NodeState.PENDING and _may_be_in(one.place, place)
    ]
    return [*listed, *(still_to_come(one, name, now) for one in missing)]


def _may_be_in(mine: Place, place: Place) -> bool:
    """Whether a node's place is this one; a zone that one of the two does not name may be the other's."""
    same_region = mine.model_copy(update={"zone": place.zone}) == place
    return same_region and (mine.zone is None or place.zone is None or mine.zone == place.zone)


def credential_file(path: Path, *, hint: str) -> str | None:
    """The text of a vendor's own credential file; None where there is none.

    Raises:
        CredentialsError: It is there and can't be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is no text"
        raise CredentialsError(f"the credential file {path} can't be read: {reason}", hint=hint) from None


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds from a `Retry-After` header, which is a number or a date; None where it says nothing sensible."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.fromtimestamp(now, UTC)).total_seconds()
    if not seconds >= 0:  # NaN too
        return 0.0 if seconds < 0 else None
    return min(seconds, LONGEST_RETRY_AFTER_S)


def _content(reply: Any, *, lenient: bool = False) -> Any:
    if not reply.content:
        return None
    kind = reply.headers.get("content-type", "")
    if not lenient and "json" not in kind and reply.content[:1] not in (b"{", b"["):
        return reply.text
    try:
        return reply.json()
    except ValueError:
        if lenient:
            return reply.text
        where = reply.url.copy_with(query=None)
        raise TransientError(f"{where} answered with something that is not the JSON it announced") from None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
