"""Every file in `examples/` runs on the local cloud as its comments say, and leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Styx

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PRICES = EXAMPLES.parent / "styx-cli" / "tests" / "data" / "hosted"
"""A hosted catalog of four clouds; the figures are made up."""


def test_every_example_has_a_test() -> None:
    tested = set(re.findall(r"examples/([\w-]+\.yaml)", Path(__file__).read_text()))
    assert tested == {path.name for path in EXAMPLES.glob("*.yaml")}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_is_valid(styx: Styx, path: Path) -> None:
    values = ["--env-file", str(path.with_suffix(".env"))] if path.with_suffix(".env").exists() else []
    assert styx.json("validate", str(path), *values) == [{"file": str(path), "ok": True, "errors": []}]


def test_hello(styx: Styx) -> None:
    launched = styx("launch", "examples/hello.yaml")
    assert re.fullmatch(r"Hello from Styx, \S+ on rank 0 of 1\n", launched.stdout)
    (row,) = styx.json("status")
    assert (row["state"], row["nodes"], row["usd_per_hour"]) == ("UP", 1, 0)
    assert row["infra"].startswith("local")
    assert styx.processes()
    assert styx.node_folders()
    styx("exec", row["name"], "true")  # brings an agent that was ended from outside back, and its socket with it
    assert styx.waits_for_short_paths()
    styx("down", "--yes", row["name"])
    assert styx.json("status") == []
    styx.assert_nothing_left()


@pytest.mark.ray
@pytest.mark.slow
def test_multinode(styx: Styx) -> None:
    launched = styx("launch", "-c", "trio", "examples/multinode.yaml", timeout_s=240)
    ranks = re.findall(r"rank (\d) of 3 at (\S+)", launched.stdout)
    assert sorted(rank for rank, _ in ranks) == ["0", "1", "2"]
    assert "sum over 3 ranks: 14" in launched.stdout
    (row,) = styx.json("status", "trio")
    assert row["nodes"] == 3
    styx("down", "--yes", "trio")
    styx.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.debian("python3-venv", "python3", "-c", "import ensurepip")
def test_train_digits(styx: Styx) -> None:
    launched = styx("launch", "-c", "digits", "examples/train-digits.yaml", timeout_s=280)
    assert float(re.search(r"unseen images: (\d\.\d+)", launched.stdout)[1]) > 0.95
    again = styx("exec", "digits", "examples/train-digits.yaml", "--env", "KERNEL=linear")
    assert "with the linear kernel" in again.stdout
    styx("down", "--yes", "digits")
    styx.assert_nothing_left()


def test_file_mounts(styx: Styx) -> None:
    launched = styx("launch", "-c", "files", "examples/file-mounts.yaml")
    assert launched.stdout == ("lines in the working folder's file: 5\nlongest word: crossing\nall copies agree\n")
    styx("down", "--yes", "files")
    styx.assert_nothing_left()


def test_env_secrets(styx: Styx) -> None:
    refused = styx("launch", "-c", "envs", "examples/env-secrets.yaml", code=65)
    assert "GREETING" in refused.stderr
    launched = styx("launch", "-c", "envs", "examples/env-secrets.yaml", "--env-file", "examples/env-secrets.env")
    assert launched.stdout == "Good morning, world\nthe token has 17 characters\n"
    other = styx(
        "launch", "-c", "envs", "examples/env-secrets.yaml", "--env", "GREETING=Hi", "--secret", "API_TOKEN",
        env={"API_TOKEN": "canary-5f1d"},
    )  # fmt: skip
    assert other.stdout == "Hi, world\nthe token has 11 characters\n"
    assert not [path for path in files_below(styx.home) if b"canary-5f1d" in path.read_bytes()]
    styx("down", "--yes", "envs")
    styx.assert_nothing_left()


def test_job_queue(styx: Styx) -> None:
    styx("launch", "-c", "work", "examples/job-queue.yaml", "--detach-run")
    for step in ("2", "3"):
        styx("exec", "work", "--detach-run", "examples/job-queue.yaml", "--env", f"STEP={step}")
    for job_id in (1, 2, 3):
        assert styx.wait_for("work", job_id)["state"] == "SUCCEEDED"
        expected = "".join(f"step {job_id}, part {part}\n" for part in (1, 2, 3))
        assert styx("logs", "work", str(job_id)).stdout == expected
    assert len(styx.json("queue", "work")) == 3
    styx("down", "--yes", "work")
    styx.assert_nothing_left()


@pytest.mark.parametrize(
    "example", ["examples/multi-cloud-any-of.yaml", "examples/ordered.yaml", "examples/pipeline-data.yaml"]
)
def test_plans_over_several_clouds(styx: Styx, example: str) -> None:
    """These need accounts to run; they are planned over a small catalog, as their comments say."""
    styx("catalog", "refresh", "--from", str(PRICES))
    plan = styx.json("optimize", "--assume-enabled", "aws,gcp,lambda,runpod", example)
    assert plan["status"] == "optimal"
    assert plan["usd_total"] > 0
    styx.assert_nothing_left()


def files_below(folder: Path) -> list[Path]:
    """Regular files under `folder`."""
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
