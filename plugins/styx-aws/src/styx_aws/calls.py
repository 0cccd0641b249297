"""Signed calls of AWS's query interfaces (EC2 and STS), and their XML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlencode
from xml.etree import ElementTree

from styx.plugin import Context, DriverError
from styx.rest import RestApi
from styx_aws.errors import ERRORS, HINT
from styx_aws.sigv4 import Keys, Scope, signed

_FORM: Final = "application/x-www-form-urlencoded; charset=utf-8"


def query(
    context: Context, endpoint: str, region: str, service: str, keys: Keys | None, parameters: Mapping[str, str]
) -> ElementTree.Element:
    """One action of a query interface; the root of its reply, names without their XML namespace. No keys: unsigned."""
    body = urlencode(sorted(parameters.items())).encode()
    headers = {"Content-Type": _FORM}
    url = endpoint.rstrip("/") + "/"
    scope = Scope(region, service, context.clock())
    api = RestApi(
        context,
        name="AWS",
        endpoint=url,
        headers=(lambda: signed("POST", url, headers, body, keys, scope)) if keys else None,
        table=ERRORS,
        read_failure=read_failure,
        hint=f"the credentials are from {keys.origin}; {HINT}" if keys else HINT,
        request_id_header="x-amzn-requestid",
    )
    text = api.call("POST", "", content=body, headers=headers, safe=True)
    return parsed(text)


def pages(
    context: Context, endpoint: str, region: str, keys: Keys, parameters: Mapping[str, str], *, limit: int = 1000
) -> Iterator[ElementTree.Element]:
    """Every page of an action of EC2."""
    token: str | None = None
    for _ in range(limit):
        more = {"NextToken": token} if token else {}
        page = query(context, endpoint, region, "ec2", keys, {**parameters, **more})
        yield page
        token = page.findtext("nextToken")
        if not token:
            return
    raise DriverError(f"AWS gave {limit} pages of {parameters['Action']} without an end")


def parsed(text: Any) -> ElementTree.Element:
    """The root of a reply, its names without namespaces."""
    try:
        root = ElementTree.fromstring(text if isinstance(text, str) else "")  # noqa: S314 - AWS's own reply; no entities
    except ElementTree.ParseError as error:
        raise DriverError(f"AWS answered with something that is not XML ({error})") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def read_failure(body: Any) -> tuple[str | None, str | None]:
    """Code and message of a refusal: XML of EC2 and STS, JSON of single sign-on."""
    if isinstance(body, Mapping):
        code = str(body.get("__type") or body.get("code") or "").rpartition("#")[2]
        return code or None, str(body.get("message") or "") or None
    text = body if isinstance(body, str) else ""
    code_tag, message_tag = re.search(r"<Code>([^<]+)</Code>", text), re.search(r"<Message>([^<]*)</Message>", text)
    return code_tag[1] if code_tag else None, message_tag[1] if message_tag else None
