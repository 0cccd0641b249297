"""User data: what cloud-init is told."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr

from styx.plugin import CatalogRow, NodeRequest, Place, UnsupportedError, cloud_config, public_half

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHdoYXRldmVyIGl0IGlzIG9mIDMyIGJ5dGVzIS4u styx"


def request(**fields: Any) -> NodeRequest:
    place = Place(cloud="x", account="a", region="r")
    offer = CatalogRow(cloud="x", instance_type="t", region="r")
    return NodeRequest(token="0" * 32, cluster="styx-c-abcdef00", store="abcdef", place=place, offer=offer, **fields)


def new_key(folder: Path) -> tuple[str, str]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), public.decode()


def test_public_half_is_what_the_library_says(tmp_path: Path) -> None:
    private, public = new_key(tmp_path)
    assert public_half(SecretStr(private)) == public


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_public_half_of_a_key_by_openssh(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", tmp_path / "key"], check=True)
    private = (tmp_path / "key").read_text()
    assert public_half(SecretStr(private)) == (tmp_path / "key.pub").read_text().strip()


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN X-----\nAAAA\n-----END X-----", "a\n!!!\nb"])
def test_other_text_is_no_key_and_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not an OpenSSH private key$"):
        public_half(SecretStr(text))


def test_cloud_config_is_yaml_that_cloud_init_knows(tmp_path: Path) -> None:
    private, public = new_key(tmp_path)
    text = cloud_config(request(ssh_public_key=KEY, host_key=SecretStr(private), boot_script="#!/bin/sh\necho é\n"))
    assert text.startswith("#cloud-config\n")
    config = yaml.safe_load(text)
    assert config == json.loads(text.split("\n", 1)[1])
    assert config["ssh_authorized_keys"] == [KEY]
    assert config["ssh_keys"] == {"ed25519_private": private, "ed25519_public": public}
    (script,) = config["write_files"]
    assert script["path"].startswith("/var/lib/cloud/scripts/per-boot/")
    assert (script["content"], script["permissions"]) == ("#!/bin/sh\necho é\n", "0755")


def test_nothing_asked_is_nothing_said() -> None:
    assert cloud_config(request()) == ""


def test_too_long_is_refused_before_the_cloud_is() -> None:
    with pytest.raises(UnsupportedError, match="over 16384"):
        cloud_config(request(boot_script="x" * 16384))
    with pytest.raises(UnsupportedError, match="over 100"):
        cloud_config(request(boot_script="x" * 100), limit_bytes=100)
