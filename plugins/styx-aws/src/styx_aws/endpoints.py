"""Where AWS is, by the conventions of its own tools: AWS_ENDPOINT_URL and `endpoint_url` of a profile.

In their order: the variable of the service, the variable for all, the profile's table of services, the profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from styx.plugin import Context
from styx_aws import credentials

IDS: Final[Mapping[str, str]] = {
    "ec2": "ec2",
    "iam": "iam",
    "service-quotas": "service_quotas",
    "ssm": "ssm",
    "sso": "sso",
    "sts": "sts",
}
"""A service's name for boto3, and its name in variables and profiles."""

_TRUE: Final = frozenset({"1", "true", "yes", "on"})


def configured(context: Context, profile: str | None, service: str) -> str | None:
    """The address that the user names for a service; None leaves it to AWS's own."""
    name = IDS[service]
    table = credentials.profile_table(context, profile)
    ignore = context.secrets("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or table.get("ignore_configured_endpoint_urls", "")
    if ignore.lower() in _TRUE:
        return None
    for variable in (f"AWS_ENDPOINT_URL_{name.upper()}", "AWS_ENDPOINT_URL"):
        if url := context.secrets(variable):
            return url
    if services := table.get("services"):
        known = credentials.files(context).services.get(services, {})
        if url := nested(known.get(name, "")).get("endpoint_url"):
            return url
    return table.get("endpoint_url") or None


def endpoint(context: Context, profile: str | None, service: str, region: str) -> str:
    """The address of a service in a region."""
    host = "portal.sso" if service == "sso" else service
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return configured(context, profile, service) or f"https://{host}.{region}.{suffix}"


def nested(text: str) -> dict[str, str]:
    """The indented lines below a name, as AWS's configuration files have them."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, found, value in pairs if found}
