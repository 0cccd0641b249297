"""The hosts for tests are what they claim to be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from styx.testing.machines import Machine, Machines, nvidia_smi
from styx.testing.machines.network import started
from styx.testing.machines.userdata import parse


def ssh_keygen(folder: Path) -> tuple[Path, str]:
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return key, key.with_suffix(".pub").read_text().strip()


def over_ssh(machine: Machine, key: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    known = key.with_name("known")
    known.write_text(f"[{machine.host}]:{machine.port} {machine.host_key}\n{machine.host} {machine.host_key}\n")
    options = {"UserKnownHostsFile": known, "StrictHostKeyChecking": "yes", "BatchMode": "yes", "ConnectTimeout": 20}
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    target = ["-F", "/dev/null", "-i", str(key), "-p", str(machine.port), f"{machine.user}@{machine.host}"]
    return subprocess.run(
        ["ssh", *words, *target, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )


def eventually(holds: Callable[[], object], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)


def text(machine: Machine, script: str) -> str:
    return machine.run(["sh", "-c", script]).stdout.decode().strip()


def test_a_host_has_its_own_view_of_the_world(machines: Machines, tmp_path: Path) -> None:
    key, public = ssh_keygen(tmp_path)
    one = machines.boot("one", user="ubuntu", authorized_keys=[public])
    two = machines.boot("two", authorized_keys=[public], port=2222, hide_python=True)
    for machine in (one, two):
        machine.wait_for_ssh()
    said = over_ssh(one, key, "hostname; id -un; sudo -n id -un; echo kept > kept; ls -a /root; cat /proc/net/route")
    assert said.stdout.split("\n")[:3] == ["one", "ubuntu", "root"], said
    assert over_ssh(two, key, "hostname; id -un; command -v python3").stdout.split() == ["two", "root"]
    assert (one.root / "home/ubuntu/kept").read_text() == "kept\n"
    seen = [f"test -e {path} && echo {path}" for path in (__file__, sys.prefix, os.environ["STYX_HOME"], tmp_path)]
    assert text(one, "; ".join(seen)) == ""
    assert not Path("/etc/machine-id").exists() or text(one, "cat /etc/machine-id") != text(two, "cat /etc/machine-id")
    assert len(text(two, "ls -d /proc/[0-9]*").split()) < 10
    assert text(one, f"bash -c ': <>/dev/tcp/{two.host}/2222' && echo reached") == "reached"
    assert text(one, f"bash -c ': <>/dev/tcp/{machines.gateway}/1' 2>&1").endswith("Connection refused")


def test_user_data_is_applied_before_ssh_answers(machines: Machines, tmp_path: Path) -> None:
    key, public = ssh_keygen(tmp_path)
    host_key = tmp_path / "host"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(host_key)], check=True)
    boots = "/var/lib/cloud/scripts/per-boot/count"
    config = {
        "ssh_keys": {
            "ed25519_private": host_key.read_text(),
            "ed25519_public": host_key.with_suffix(".pub").read_text(),
        },
        "ssh_authorized_keys": [public],
        "write_files": [
            {"path": boots, "content": "#!/bin/sh\necho boot >> /root/boots\n", "permissions": "0755"},
            {"path": "/opt/b64", "content": "eWVz", "encoding": "b64"},
        ],
        "bootcmd": ["echo early >> /root/early"],
        "runcmd": [["touch", "/root/ran"], "echo $((6 * 7)) > /root/answer"],
    }
    machine = machines.boot("cloudy", user="admin", user_data="#cloud-config\n" + json.dumps(config))
    machine.wait_for_ssh()
    assert machine.host_key == config["ssh_keys"]["ed25519_public"].strip()
    assert over_ssh(machine, key, "cat", "/opt/b64").stdout == "yes"
    eventually(lambda: text(machine, "cat /root/answer /root/boots /root/early") == "42\nboot\nearly")
    assert over_ssh(machine, key, "reboot").returncode != 0
    assert "Operation not permitted" in text(machine, "sudo -u admin /usr/sbin/poweroff 2>&1")
    first = machine.pid
    over_ssh(machine, key, "sudo", "reboot")
    eventually(lambda: machine.pid not in (first, None))
    machine.wait_for_ssh()
    eventually(lambda: text(machine, "cat /root/answer /root/boots /root/early") == "42\nboot\nboot\nearly\nearly")


def test_a_script_as_user_data_runs_once(machines: Machines) -> None:
    machine = machines.boot("scripted", user_data="#!/bin/sh\nid -un >> /root/who\n", ssh=False)
    eventually(lambda: text(machine, "cat /root/who") == "root")
    with pytest.raises(TimeoutError, match="does not answer SSH"):
        machine.wait_for_ssh(timeout_s=0.2)
    with pytest.raises(ValueError, match="neither"):
        machines.boot("odd", user_data="echo no")


def test_power_and_cable(machines: Machines, tmp_path: Path) -> None:
    key, public = ssh_keygen(tmp_path)
    ended = threading.Event()
    machine = machines.boot("strong", env={"PUBLIC_KEY": public, "POD": "7"}, on_poweroff=lambda _: ended.set())
    machine.wait_for_ssh()
    assert "POD=7" in text(machine, "tr '\\0' '\\n' < /proc/1/environ")
    assert over_ssh(machine, key, "touch /root/disk /tmp/memory; sync").returncode == 0
    address = machine.host
    machine.kill()
    assert not machine.running
    machine.start()
    machine.wait_for_ssh()
    assert (machine.host, text(machine, "ls /root /tmp | xargs")) == (address, "/root: disk /tmp:")
    machine.hang()
    with pytest.raises(TimeoutError):
        machine.wait_for_ssh(timeout_s=0.3)
    machine.resume()
    machine.wait_for_ssh()
    machine.cut()
    with pytest.raises(TimeoutError):
        machine.wait_for_ssh(timeout_s=0.3)
    machine.mend()
    machine.wait_for_ssh()
    machine.stop()
    assert not machine.running
    assert (machine.root / "root/disk").exists()
    assert not ended.is_set()
    machine.start()
    machine.run(["shutdown", "-h", "now"])
    eventually(lambda: not machine.running and ended.is_set())
    machine.remove()
    eventually(lambda: machines.hosts == [])
    with pytest.raises(OSError, match="was removed"):
        machine.start()


def test_fake_gpus(machines: Machines) -> None:
    files = {"/usr/bin/nvidia-smi": nvidia_smi("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3")}
    machine = machines.boot("gpus", ssh=False, files=files)
    query = "nvidia-smi --query-gpu=index,name,memory.total --format=csv,noheader,nounits"
    assert text(machine, query).split("\n")[1] == "1, NVIDIA H100 80GB HBM3, 81559"
    assert text(machine, "nvidia-smi -L").startswith("GPU 0: NVIDIA H100")


def test_nothing_outlives_a_killed_test_process(machines: Machines) -> None:
    program = """
        import time
        from styx.testing.machines import Machines
        with Machines() as room:
            alive, hung = room.boot("alive"), room.boot("hung")
            hung.hang()
            print(alive.pid, hung.pid, room._network.bridge, room._network.folder, flush=True)
            time.sleep(600)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    try:
        alive, hung, bridge, folder = process.stdout.readline().split()
        assert Path(f"/sys/class/net/{bridge}").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    eventually(lambda: started(int(alive)) is None)
    with Machines():
        eventually(lambda: started(int(hung)) is None)
        record = Path(f"{folder}.json")
        owner = json.loads(record.read_text())["pid"] if record.exists() else None
        assert owner != process.pid
        assert owner is not None or not Path(f"/sys/class/net/{bridge}").exists()


def test_user_data_that_is_none() -> None:
    assert parse("").once == ()
    assert parse("#cloud-config\n{}").ignored == ()
    assert parse("#cloud-config\npackages: [git]\n").ignored == ("packages",)
    with pytest.raises(ValueError, match="no mapping"):
        parse("#cloud-config\n- 1\n")
