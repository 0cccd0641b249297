"""Key pairs: made once, private, readable by OpenSSH, and one per cluster."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from styx.errors import LocalIOError
from styx.state.folders import HomeFolders
from styx.transport.ssh import keys


def test_the_login_key_is_made_once_and_private(tmp_path):
    folders = HomeFolders(tmp_path)
    made = keys.login_key(folders)
    assert made == keys.login_key(folders)
    assert made.path == tmp_path / "keys" / "id_ed25519"
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert made.public.startswith("ssh-ed25519 AAAA")
    assert "PRIVATE KEY" in made.private().get_secret_value()
    assert "PRIVATE" not in repr(made) + repr(made.private())


@pytest.mark.debian("openssh-client", "ssh", "-V")
def test_openssh_finds_the_same_public_half(tmp_path):
    made = keys.login_key(HomeFolders(tmp_path))
    done = subprocess.run(["ssh-keygen", "-y", "-f", str(made.path)], capture_output=True, text=True, check=True)
    assert keys.public_only(done.stdout) == keys.public_only(made.public)


def test_a_lost_public_half_is_derived_again(tmp_path):
    folders = HomeFolders(tmp_path)
    made = keys.login_key(folders)
    made.path.with_name("id_ed25519.pub").unlink()
    assert keys.public_only(keys.login_key(folders).public) == keys.public_only(made.public)


def test_each_cluster_has_its_own_host_key_until_it_is_forgotten(tmp_path):
    folders = HomeFolders(tmp_path)
    one, two = keys.host_key(folders, "styx-a-00000001"), keys.host_key(folders, "styx-b-00000001")
    assert one.public != two.public
    assert keys.host_key(folders, "styx-a-00000001") == one
    keys.forget_host_key(folders, "styx-a-00000001")
    keys.forget_host_key(folders, "styx-a-00000001")
    assert [path.name for path in sorted((tmp_path / "keys").iterdir())] == [two.path.name, f"{two.path.name}.pub"]


def test_processes_that_begin_at_once_agree_on_one_key(tmp_path):
    code = (
        "import sys; from pathlib import Path; from styx.state.folders import HomeFolders;"
        "from styx.transport.ssh import keys; print(keys.login_key(HomeFolders(Path(sys.argv[1]))).public)"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = {racer.communicate(timeout=60)[0] for racer in racers}
    assert len(said) == 1
    assert said.pop().startswith("ssh-ed25519")


def test_a_damaged_key_is_named(tmp_path: Path):
    folders = HomeFolders(tmp_path)
    folders.key_path("id_ed25519").write_text("not a key")
    with pytest.raises(LocalIOError, match="id_ed25519 can't be read"):
        keys.login_key(folders)
