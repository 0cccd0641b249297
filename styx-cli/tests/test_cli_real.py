"""The real command on the embedded local cloud, in a home of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "styx_cli"]


class Styx:
    """`styx` with its own `STYX_HOME`."""

    def __init__(self, home: Path) -> None:
        self.env = os.environ | {"STYX_HOME": str(home), "COLUMNS": "100"}

    def __call__(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*PROGRAM, *arguments], env=self.env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
            cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"styx {arguments} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code).stdout)

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*PROGRAM, *arguments], env=self.env, cwd=ROOT, **options)


@pytest.fixture(scope="module")
def styx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Styx]:
    command = Styx(tmp_path_factory.mktemp("cli") / "home")
    first = command("launch", "examples/hello.yaml")
    assert "Hello from Styx" in first.stdout
    assert "cluster hello" in first.stderr
    yield command
    command("down", "--all", "-y")
    assert command.json("status") == []
    assert "Hello from Styx" in command("logs", "hello", "1").stdout


def test_status_and_queue(styx: Styx) -> None:
    (cluster,) = styx.json("status", "hel*")
    assert (cluster["name"], cluster["state"], cluster["nodes"], cluster["usd_per_hour"]) == ("hello", "UP", 1, 0.0)
    assert cluster["infra"].startswith("local/")
    row = styx.json("queue", "hello")[-1]
    assert (row["cluster"], row["job_id"], row["name"], row["exit_code"]) == ("hello", 1, "hello", 0)


def test_exit_codes_pass_through(styx: Styx) -> None:
    styx("exec", "hello", "exit 7", code=7)
    styx("logs", "hello", code=7)
    styx("exec", "hello", "kill -9 $$", code=137)
    ran = styx("exec", "hello", "--json", "echo out; exit 3", code=3)
    result = json.loads(ran.stdout)
    assert (result["exit_code"], result["exit_code_source"], result["state"]) == (3, "job", "FAILED")
    assert "out" in ran.stderr


def test_words_after_dashes_are_one_command(styx: Styx) -> None:
    assert styx("exec", "hello", "--", "python3", "-c", "print('a  b')").stdout == "a  b\n"


def test_output_is_passed_byte_for_byte(styx: Styx) -> None:
    done = subprocess.run(
        [*PROGRAM, "exec", "hello", r"printf '\377\000\r\nno end'"],
        env=styx.env,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"\xff\x00\r\nno end"


def test_a_failed_setup_shows_its_lines_and_fails(styx: Styx, tmp_path: Path) -> None:
    task = tmp_path / "bad.yaml"
    task.write_text("resources: {infra: local}\nsetup: |\n  echo cannot install\n  exit 5\nrun: echo never\n")
    ran = styx("launch", "-c", "hello", str(task), code=5)
    assert "cannot install" in ran.stderr
    assert "FAILED_SETUP" in ran.stderr
    assert ran.stdout == ""


def test_cancel_and_the_states_in_between(styx: Styx) -> None:
    result = styx.json("exec", "hello", "-d", "echo begun; sleep 300")
    job_id = str(result["job_id"])
    assert styx("logs", "hello", job_id, "--status", code=75).stdout.split()[0] == job_id
    styx("logs", "hello", job_id, "--no-follow")
    assert styx.json("cancel", "hello", job_id) == [int(job_id)]
    assert styx("logs", "hello", job_id, "--status", code=143).stdout == f"{job_id} CANCELLED\n"


def test_ctrl_c_detaches_and_the_job_goes_on(styx: Styx) -> None:
    process = styx.popen("exec", "hello", "echo begun; sleep 300", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 72
    assert b"goes on" in err
    newest = styx.json("queue", "hello")[0]
    assert newest["state"] == "RUNNING"
    assert styx.json("cancel", "hello") == [newest["job_id"]]


def test_why_ssh_sync_down_and_completion(styx: Styx, tmp_path: Path) -> None:
    assert "reach" in styx("why", "hello").stdout
    assert styx("ssh", "hello", "--", "sh", "-c", "echo in; exit 4", code=4).stdout == "in\n"
    folder = Path(styx("logs", "hello", "1", "-s", "--to", str(tmp_path)).stdout.strip())
    assert any("Hello from Styx" in path.read_text() for path in folder.rglob("*.log"))
    complete = {"_STYX_COMPLETE": "complete_bash", "COMP_WORDS": "styx down he", "COMP_CWORD": "2"}
    done = subprocess.run(
        PROGRAM_AS_STYX, env=styx.env | complete, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["hello"]


PROGRAM_AS_STYX = [sys.executable, "-c", "from styx_cli.main import main; main()"]


def test_a_terminal_gets_a_spinner_and_a_pipe_gets_lines(styx: Styx) -> None:
    """Waiting for output for over a second is shown, on a terminal by Rich, elsewhere by a line."""
    assert "waiting for the output" in styx("exec", "hello", "sleep 2").stderr
    master, slave = pty.openpty()
    process = styx.popen("exec", "hello", "sleep 2; echo done", stdin=slave, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                shown += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    out, _ = process.communicate(timeout=30)
    os.close(master)
    assert (process.returncode, out) == (0, b"done\n")
    assert b"waiting for the output" in shown
    assert b"\x1b[?25h" in shown  # the cursor is given back
