"""The REST base: what failures become, where secrets may not be, how pages are followed."""

import logging

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from styx.driver import DriverConfig
from styx.errors import (
    AmbiguousError,
    BalanceError,
    CapacityError,
    CredentialsError,
    DriverError,
    TransientError,
    UnsupportedError,
)
from styx.rest import RestApi, bearer, credential_file, expecting, retry_after
from styx.testing.contexts import make_context
from styx.testing.emulator import Emulator, Reply, plain_client

SECRET = "canary-8d1f02c7"


def api(tmp_path, endpoint, *, http=plain_client, secret=SECRET, **settings):
    context = make_context(tmp_path, config=DriverConfig(), http=http)
    return RestApi(context, name="Acme", endpoint=endpoint, headers=bearer(SecretStr(secret)), **settings)


def broken(error):
    def handler(request):
        raise error("gone", request=request)

    return lambda: httpx.Client(transport=httpx.MockTransport(handler))


def test_json_comes_back_and_the_key_goes_in_a_header(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with Emulator(lambda request: Reply({"path": request.path, "query": request.query})) as emulator:
        acme = api(tmp_path, f"{emulator.url}/v1/")
        assert acme.get("things", {"page": 2}) == {"path": "/v1/things", "query": {"page": "2"}}
        (request,) = emulator.requests
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert SECRET not in "".join(emulator.lines())
    assert SECRET not in repr(acme)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("status", "body", "expected", "code"),
    [
        (400, {"error": {"code": "sold_out", "message": "none left"}}, CapacityError, "sold_out"),
        (400, {"error": {"code": "odd", "message": "hm"}}, UnsupportedError, "odd"),
        (401, {"title": "Unauthorized", "detail": "bad key"}, CredentialsError, "Unauthorized"),
        (402, {"error": "no_money", "error_description": "pay"}, BalanceError, "no_money"),
        (404, None, DriverError, "http_404"),
        (429, "slow down", TransientError, "http_429"),
        (503, "<html>", TransientError, "http_503"),
        (418, {}, DriverError, "http_418"),
    ],
)
def test_refusals_become_the_taxonomy(tmp_path, status, body, expected, code):
    table = {"sold_out": CapacityError, "no_money": BalanceError}
    with Emulator(lambda request: Reply(body, status, {"X-Request-Id": "r-7"})) as emulator:
        acme = api(tmp_path, emulator.url, table=table, hint="make a key")
        with pytest.raises(expected) as caught:
            acme.get("things")
    assert type(caught.value) is expected
    assert (caught.value.vendor.code, caught.value.vendor.request_id) == (code, "r-7")
    assert caught.value.hint == ("make a key" if expected is CredentialsError else None)


def test_classify_comes_before_the_table(tmp_path):
    with Emulator(lambda request: Reply({"error": {"code": "x", "message": "quota of GPUs"}}, 400)) as emulator:
        acme = api(tmp_path, emulator.url, classify=lambda why: CapacityError if "GPUs" in why.message else None)
        with pytest.raises(CapacityError):
            acme.get("")


def test_a_lost_reply_is_ambiguous_only_where_something_may_have_changed(tmp_path):
    lost = api(tmp_path, "https://acme.example", http=broken(httpx.ReadTimeout))
    with pytest.raises(AmbiguousError, match=r"no reply from acme\.example"):
        lost.post("machines", {"a": 1})
    with pytest.raises(TransientError):
        lost.get("machines")
    with pytest.raises(TransientError):
        lost.post("query", {"a": 1}, safe=True)
    with pytest.raises(TransientError, match="can't be reached"):
        api(tmp_path, "https://acme.example", http=broken(httpx.ConnectError)).post("machines", {})


def test_a_redirect_carries_no_key_away(tmp_path):
    with Emulator(lambda request: Reply({"mine": True})) as other:
        with Emulator(lambda request: Reply(None, 302, {"Location": f"{other.url}/stolen"})) as emulator:
            acme = api(tmp_path, emulator.url)
            with pytest.raises(DriverError, match="redirects GET things to another address"):
                acme.get("things")
        assert other.requests == []


def test_pages_are_followed_on_the_own_host(tmp_path):
    def answer(request):
        number = int(request.query.get("page", 1))
        after = f"https://elsewhere.example/list?page={number + 1}" if number < 3 else None
        return Reply({"items": [number], "next": after})

    with Emulator(answer) as emulator:
        acme = api(tmp_path, emulator.url)
        found = [item for page in acme.pages("list", next_query=lambda page: page["next"]) for item in page["items"]]
        assert found == [1, 2, 3]
        by_token = acme.pages(
            "list", {"size": 1}, next_query=lambda page: page["next"] and {"page": page["items"][0] + 1}
        )
        assert [page["items"][0] for page in by_token] == [1, 2, 3]
        assert emulator.requests[-1].query == {"size": "1", "page": "3"}
        with pytest.raises(DriverError, match="without an end"):
            list(acme.pages("list", next_query=lambda page: {"page": 1}, limit=3))


def test_lines_of_a_large_file(tmp_path):
    with Emulator(
        lambda request: Reply(
            "a,b\n1,2\n" if request.path == "/file" else "gone", 200 if request.path == "/file" else 404
        )
    ) as emulator:
        acme = api(tmp_path, emulator.url)
        assert list(acme.lines("file")) == ["a,b", "1,2"]
        with pytest.raises(DriverError, match="http_404"):
            list(acme.lines("none"))


def test_a_key_that_no_header_may_have(tmp_path):
    with pytest.raises(CredentialsError, match="Acme's Authorization holds signs") as caught:
        api(tmp_path, "http://127.0.0.1:1", secret=f"{SECRET}\nX: y").get("")
    assert SECRET not in str(caught.value)


def test_an_endpoint_that_is_no_address(tmp_path):
    with pytest.raises(UnsupportedError, match="'acme' of Acme is no address"):
        api(tmp_path, "acme")


@given(st.one_of(st.none(), st.text(max_size=40), st.floats().map(str)))
def test_retry_after_is_sensible_or_nothing(value):
    seconds = retry_after(value, 1_795_000_000.0)
    assert seconds is None or 0 <= seconds <= 600


def test_retry_after_reads_numbers_and_dates():
    assert retry_after("12", 0) == 12
    assert retry_after("Wed, 18 Nov 2026 20:28:00 GMT", 1795033650.0) == pytest.approx(30, abs=1)


def test_credential_files(tmp_path):
    assert credential_file(tmp_path / "none", hint="h") is None
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CredentialsError, match="can't be read: it is no text"):
        credential_file(tmp_path / "binary", hint="h")
    with pytest.raises(CredentialsError, match="can't be read"):
        credential_file(tmp_path, hint="h")


def test_expecting_names_the_vendor():
    words = "Acme answered prices in a shape that it does not document"
    with pytest.raises(DriverError, match=words), expecting("Acme", "prices"):
        {}["missing"]
