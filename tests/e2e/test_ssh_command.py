"""`styx ssh` on a real host: commands, forwards, the config file for plain `ssh`, and what `down` leaves of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from styx.testing.machines import Machines
from tests.conftest import Styx

pytestmark = [
    pytest.mark.debian("openssh-server", "sshd"),
    pytest.mark.debian("openssh-client", "ssh", "-V"),
    pytest.mark.debian("iproute2", "ip", "-V"),
    pytest.mark.debian("sudo", "sudo", "--version"),
]


def read_line(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    assert process.stderr is not None
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        line = process.stderr.readline()
        if words in line or not line:
            return line
    raise AssertionError(f"{words!r} was not said")


def test_a_cluster_is_entered_forwarded_to_and_left(styx: Styx, machines: Machines, tmp_path: Path) -> None:
    key = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=60)
    host = machines.boot("box", user="ubuntu", authorized_keys=[key.with_suffix(".pub").read_text().strip()])
    host.wait_for_ssh()
    user = tmp_path / "user"
    user.mkdir()
    styx.env["HOME"] = str(user)
    styx.home.mkdir(parents=True, exist_ok=True)
    pool = {"user": "ubuntu", "identity_file": str(key), "hosts": [host.host]}
    (styx.home / "ssh_node_pools.yaml").write_text(json.dumps({"lab": pool}))
    styx("launch", "-c", "dev", "--infra", "ssh/lab", "-y", "echo up")
    assert styx("ssh", "dev", "--", "sh", "-c", "hostname; exit 5", code=5).stdout == "box\n"

    config = styx.home / "ssh/config"
    plain = ["ssh", "-F", str(config), "-o", "BatchMode=yes", "dev", "hostname"]
    done = subprocess.run(plain, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "box\n"), done.stderr
    assert not (user / ".ssh").exists()  # nothing is changed there unasked
    styx("ssh", "--setup", code=73)
    styx("ssh", "--setup", "-y")
    assert (user / ".ssh/config").read_text() == f"Include {config}\n\n"

    program = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8765, bind='127.0.0.1')"
    served = styx.begin("ssh", "dev", "--", "python3", "-c", program)
    forward = styx.begin("ssh", "dev", "-N", "-L", "0:8765")
    try:
        line = read_line(forward, b"forwarding")
        port = int(line.split(b":")[1].split()[0])
        command = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{port}/', timeout=30).status)"
        deadline = time.monotonic() + 60
        while (done := subprocess.run(["python3", "-c", command], capture_output=True, text=True)).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.2)
        assert done.stdout == "200\n"
        os.killpg(forward.pid, signal.SIGINT)
        assert forward.wait(60) == 0
    finally:
        for each in (forward, served):
            each.kill()
            each.communicate()
    styx("down", "dev", "-y")
    assert "Host " not in config.read_text()
    assert styx("ssh", "dev", code=66).stdout == ""
