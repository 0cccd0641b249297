"""Finds keys where AWS's own tools do, and in their order: the environment, the two files, what is around.

A profile may hold keys, name a program that prints them (`credential_process`), use single sign-on, or assume a role
with the keys of another profile, of a web identity, or of its surroundings. Everything is read through the context,
never from the process.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from styx.plugin import Context, CredentialsError
from styx.rest import RestApi, credential_file, expecting
from styx_aws import surroundings
from styx_aws.calls import read_failure
from styx_aws.errors import ERRORS, HINT
from styx_aws.sigv4 import Keys
from styx_aws.surroundings import Assume as Assume

_PROCESS_TIMEOUT_S: Final = 20.0
_DEEPEST: Final = 5
_KEYS: Final = frozenset(
    ["aws_access_key_id", "role_arn", "web_identity_token_file", "sso_session", "sso_start_url", "credential_process"]
)
"""A profile with one of these has keys, or should; one with only a region, say, leaves them to what is around."""


@dataclass(frozen=True)
class Files:
    """The two files, merged: one table for each profile, the sign-on sessions, and the tables of services."""

    profiles: Mapping[str, Mapping[str, str]]
    sessions: Mapping[str, Mapping[str, str]]
    services: Mapping[str, Mapping[str, str]]
    places: str
    """Where they were looked for, for messages."""


def files(context: Context) -> Files:
    """Read both files; one that is absent is empty.

    Raises:
        CredentialsError: One can't be read.
    """
    home = context.user_home
    secret_path = Path(context.secrets("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws" / "credentials").expanduser()
    config_path = Path(context.secrets("AWS_CONFIG_FILE") or home / ".aws" / "config").expanduser()
    profiles: dict[str, dict[str, str]] = {}
    sessions: dict[str, dict[str, str]] = {}
    services: dict[str, dict[str, str]] = {}
    for name, table in _sections(config_path).items():
        kind, _, rest = name.partition(" ")
        if kind == "profile" and rest.strip():
            profiles.setdefault(rest.strip(), {}).update(table)
        elif kind == "sso-session":
            sessions[rest.strip()] = table
        elif kind == "services":
            services[rest.strip()] = table
        elif name == "default":
            profiles.setdefault("default", {}).update(table)
    for name, table in _sections(secret_path).items():  # keys there win
        profiles.setdefault(name, {}).update(table)
    return Files(profiles, sessions, services, f"{_short(secret_path, home)} and {_short(config_path, home)}")


def find(context: Context, profile: str | None, assume: Assume, sso_endpoint: Callable[[str], str]) -> Keys:
    """The keys of the profile that the settings name; else of the environment, of AWS_PROFILE, of what is around.

    Raises:
        CredentialsError: There are none; the hint says how to get some.
    """
    if profile is None:
        if keys := _of_environment(context):
            return keys
        if keys := surroundings.web_identity_of_environment(context, assume, region_of(context, None)):
            return keys
    named = context.secrets("AWS_PROFILE") or None if profile is None else profile
    known = files(context)
    table = known.profiles.get(named or "default")
    silent = named is None if table is None else not _KEYS.intersection(table)
    if silent and (keys := surroundings.container(context) or surroundings.machine(context)):
        return keys
    return _of_profile(context, named or "default", known, assume, sso_endpoint, ())


def _of_environment(context: Context) -> Keys | None:
    key_id, secret = context.secrets("AWS_ACCESS_KEY_ID"), context.secrets("AWS_SECRET_ACCESS_KEY")
    if not key_id or not secret:
        return None
    token = context.secrets("AWS_SESSION_TOKEN")
    return Keys(
        key_id.strip(), SecretStr(secret.strip()), SecretStr(token.strip()) if token else None, "the environment"
    )


def region_of(context: Context, profile: str | None) -> str | None:
    """The region that the user works in by default."""
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if value := context.secrets(variable):
            return value
    return profile_table(context, profile).get("region")


def profile_table(context: Context, profile: str | None) -> Mapping[str, str]:
    """What the files say of the profile in use; empty where they don't know it."""
    return files(context).profiles.get(profile or context.secrets("AWS_PROFILE") or "default", {})


def _of_profile(
    context: Context, name: str, known: Files, assume: Assume, sso_endpoint: Callable[[str], str], seen: tuple[str, ...]
) -> Keys:
    table = known.profiles.get(name)
    if table is None:
        others = ", ".join(sorted(known.profiles)) or "none"
        raise CredentialsError(
            f"no credentials of AWS: the environment has none, and {known.places} have no profile {name!r} (there: "
            f"{others})",
            hint=HINT,
        )
    if name in seen or len(seen) > _DEEPEST:
        raise CredentialsError(f"AWS profile {name!r} leads back to itself: {' -> '.join((*seen, name))}", hint=HINT)
    origin = f"profile {name!r}"
    if keys := surroundings.web_identity(table, assume, origin):
        return keys
    if role := table.get("role_arn"):
        source, credential_source = table.get("source_profile"), table.get("credential_source")
        if source == name and "aws_access_key_id" in table:
            keys = _static(table, origin)
        elif source:
            keys = _of_profile(context, source, known, assume, sso_endpoint, (*seen, name))
        elif credential_source:
            keys = surroundings.of_source(context, credential_source, lambda: _of_environment(context), origin)
        else:
            raise CredentialsError(
                f"AWS {origin} assumes a role and does not say with which keys",
                hint="add source_profile, credential_source or web_identity_token_file to it",
            )
        return _of_role(role, table, keys, assume, origin)
    if "aws_access_key_id" in table:
        return _static(table, origin)
    if "sso_session" in table or "sso_start_url" in table:
        return _single_sign_on(context, name, table, known, sso_endpoint)
    if command := table.get("credential_process"):
        return _from_process(command, origin)
    raise CredentialsError(f"AWS {origin} of {known.places} has no keys", hint=HINT)


def _of_role(role: str, table: Mapping[str, str], keys: Keys, assume: Assume, origin: str) -> Keys:
    if table.get("mfa_serial"):
        raise CredentialsError(
            f"AWS {origin} assumes a role that asks for a second factor, which Styx can't type",
            hint="get keys with `aws sts assume-role` or single sign-on, or name a program in credential_process",
        )
    parameters = {"RoleArn": role, "RoleSessionName": table.get("role_session_name", "styx")}
    if external := table.get("external_id"):
        parameters["ExternalId"] = external
    made = assume(keys, table.get("region", "us-east-1"), parameters)
    return Keys(made.access_key_id, made.secret_access_key, made.session_token, origin)


def _static(table: Mapping[str, str], origin: str) -> Keys:
    secret = table.get("aws_secret_access_key")
    if not secret:
        raise CredentialsError(f"AWS {origin} has a key's id and no aws_secret_access_key", hint=HINT)
    token = table.get("aws_session_token")
    return Keys(table["aws_access_key_id"], SecretStr(secret), SecretStr(token) if token else None, origin)


def _from_process(command: str, origin: str) -> Keys:
    """Run the user's own program. Its output is never shown."""
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, timeout=_PROCESS_TIMEOUT_S, check=True
        )
        answer = json.loads(done.stdout)
        token = answer.get("SessionToken")
        return Keys(
            answer["AccessKeyId"],
            SecretStr(answer["SecretAccessKey"]),
            SecretStr(token) if token else None,
            f"the credential_process of {origin}",
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.SubprocessError) as error:
        raise CredentialsError(
            f"the credential_process of AWS {origin} gave no keys ({type(error).__name__})", hint="run it by hand"
        ) from None


def _single_sign_on(
    context: Context, name: str, table: Mapping[str, str], known: Files, endpoint: Callable[[str], str]
) -> Keys:
    login = f"run `aws sso login --profile {name}`"
    session = table.get("sso_session")
    start = {**known.sessions.get(session, {}), **table} if session else table
    cached = hashlib.sha1((session or start.get("sso_start_url", "")).encode(), usedforsecurity=False).hexdigest()
    text = credential_file(context.user_home / ".aws" / "sso" / "cache" / f"{cached}.json", hint=login)
    try:
        token = json.loads(text or "")
        expires = datetime.fromisoformat(token["expiresAt"].replace("UTC", "Z").replace("Z", "+00:00"))
        if expires <= datetime.fromtimestamp(context.clock(), UTC):
            raise ValueError("expired")
        secret = SecretStr(token["accessToken"])
        region, account, role = start["sso_region"], start["sso_account_id"], start["sso_role_name"]
    except (ValueError, KeyError, TypeError, AttributeError):  # its words may quote the token
        raise CredentialsError(
            f"the sign-on session of AWS profile {name!r} is over or was never opened", hint=login
        ) from None
    api = RestApi(
        context,
        name="AWS",
        endpoint=endpoint(region),
        headers=lambda: {"x-amz-sso_bearer_token": secret},
        table=ERRORS,
        read_failure=read_failure,
        hint=login,
    )
    reply: Any = api.get("federation/credentials", {"account_id": account, "role_name": role})
    with expecting("AWS", "the sign-on's keys"):
        given = reply["roleCredentials"]
        return Keys(
            given["accessKeyId"],
            SecretStr(given["secretAccessKey"]),
            SecretStr(given["sessionToken"]),
            f"profile {name!r}",
        )


def _sections(path: Path) -> dict[str, dict[str, str]]:
    text = credential_file(path, hint=HINT)
    parser = configparser.RawConfigParser(strict=False, default_section="", allow_no_value=True)
    try:
        parser.read_string(text or "")
    except configparser.Error as error:  # its words quote the line
        line = getattr(error, "lineno", None)
        where = f", line {line}" if line else ""
        raise CredentialsError(f"the credential file {path}{where} is not in AWS's format", hint=HINT) from None
    return {name: {key: value or "" for key, value in parser.items(name)} for name in parser.sections()}


def _short(path: Path, home: Path) -> str:
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
