"""Jobs in a container: the decisions without docker, and everything else in real containers of a podman of our own."""

import json
import os
import shlex
import shutil
import subprocess

import pytest

from styx.testing.containers import PrivatePodman, Registry
from styx_agent import container
from styx_agent.client import AgentError
from styx_agent.container import Box, Spec

BOX = Box(["/usr/bin/docker"], "styx-a-1", "", "/home/me", Spec("ubuntu:24.04", ["--shm-size", "1g"], ["/data"], True))


LOGIN = {"username": "me"}


# decisions --------------------------------------------------------------------------------------------------------


def test_the_container_shares_network_home_and_mounts():
    argv = container.run_argv(BOX, "ubuntu:24.04", "styx-a/1")
    text = " ".join(argv)
    assert "run -d --name styx-a-1" in text
    assert "--network host" in text
    assert "-v /home/me:/home/me -v /data:/data" in text
    assert "--gpus all" in text
    assert text.index("--shm-size 1g") < text.index("ubuntu:24.04")
    podman = BOX._replace(runtime=["/usr/bin/podman"])
    assert "--device nvidia.com/gpu=all" in " ".join(container.run_argv(podman, "x", "m"))
    bare = BOX._replace(spec=BOX.spec._replace(gpus=False))
    assert "gpu" not in " ".join(container.run_argv(bare, "x", "m"))


@pytest.mark.parametrize(
    ("image", "runtime", "server", "name"),
    [
        ("ubuntu", "docker", None, "ubuntu"),
        ("ubuntu", "podman", None, "docker.io/library/ubuntu"),
        ("me/tool:1", "podman", None, "docker.io/me/tool:1"),
        ("ghcr.io/me/tool", "podman", None, "ghcr.io/me/tool"),
        ("localhost/x", "podman", None, "localhost/x"),
        ("tool:1", "docker", "registry.example.org/team", "registry.example.org/team/tool:1"),
        ("registry.example.org/tool", "docker", "registry.example.org", "registry.example.org/tool"),
    ],
)
def test_names_of_images(image, runtime, server, name):
    assert container.qualified(image, [f"/usr/bin/{runtime}"], server) == name


@pytest.mark.parametrize(
    ("err", "last"),
    [
        ("Error: unknown flag: --x\nSee 'podman run --help'\n", "Error: unknown flag: --x"),
        ("unknown flag\n\nUsage:  docker run [OPTIONS]\n\nRun 'docker run --help' for more\n", "unknown flag"),
        ("one\ntwo\n", "two"),
        ("", "out"),
    ],
)
def test_last_words_are_no_advice(err, last):
    assert container.Said(125, "out", err).last == last
    assert container.Said(0, "", "").last == "it said nothing"


def test_a_box_survives_json():
    assert container.box_of(json.loads(json.dumps(BOX.record()))) == BOX
    assert container.box_of({"name": "x"}) is None
    assert container.box_of(None) is None
    assert BOX.spec.digest() != BOX.spec._replace(image="other").digest()


def test_logins_are_kept_apart_also_through_sudo():
    assert container.with_folder(["/usr/bin/docker"], "/s") == ["/usr/bin/docker"]
    argv = container.with_folder(["/usr/bin/sudo", "-n", "/usr/bin/docker"], "/s")
    assert argv[:4] == ["/usr/bin/sudo", "-n", "env", "DOCKER_CONFIG=/s"]
    assert argv[-1] == "/usr/bin/docker"
    assert container.pull_environment("/s", {"A": "1"})["DOCKER_CONFIG"] == "/s"


def test_the_program_is_read_by_any_shell(tmp_path):
    env = {"TWO": "a\nb 'c' \"d\" $e", "HOME": str(tmp_path), "not a name": "x"}
    script = 'printf "%s|%s|%s" "$TWO" "$PWD" "$STYX_INSIDE"; read -r line || echo " eof"; exit 3'
    program = container.program("k/0/1", "run", env, script, str(tmp_path / "missing"))
    done = subprocess.run(["sh"], input=program, capture_output=True, text=True, check=False, env={"PATH": os.defpath})
    assert done.stdout == f"{env['TWO']}|{tmp_path}|k/0/1/run/ eof\n"
    assert done.returncode == 3, done.stderr


def stub(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_docker_is_found_with_sudo_or_the_reason_is_told(tmp_path):
    path = str(tmp_path)
    assert container.find_runtime(path)[0] is None
    assert "neither docker nor podman" in container.find_runtime(path)[1]
    stub(tmp_path, "docker", "echo permission denied at the socket >&2; exit 1")
    runtime, problem = container.find_runtime(path)
    assert runtime is None
    assert "permission denied at the socket; let this user run docker" in problem
    stub(tmp_path, "sudo", "exit 0")
    assert container.find_runtime(path)[0] == [f"{path}/sudo", "-n", f"{path}/docker"]
    stub(tmp_path, "docker", "exit 0")
    assert container.find_runtime(path)[0] == [f"{path}/docker"]


# with an agent ----------------------------------------------------------------------------------------------------


def contained(node, image, **spec):
    """Ask for a container and wait for it; the last view."""
    node.call("container.start", image=image, **spec)
    view = {"stage": "starting", "message": None}
    while view["stage"] == "starting":
        view = node.call("container.wait", seen=view["message"], wait_s=20)
    return view


@pytest.fixture
def tools(make_node, tmp_path):
    """A node that finds programs in a folder of the test."""
    folder = tmp_path / "tools"
    folder.mkdir()
    node = make_node(start=False)
    node.env["PATH"] = f"{folder}:{node.env['PATH']}"
    node.start()
    return node, folder


def test_passwords_go_to_docker_on_standard_input_and_nowhere_else(tools):
    node, folder = tools
    log = folder / "log"
    stub(
        folder,
        "docker",
        f"""echo "$@" >> {log}
case "$*" in
*password-stdin*) {{ cat; echo; echo "config $DOCKER_CONFIG"; }} >> {log} ;;
image\\ inspect*) exit 1 ;;
inspect*) exit 1 ;;
pull*) echo "denied: no such image" >&2; exit 1 ;;
esac""",
    )
    login = {"server": "registry.example.org", "username": "me", "password": "canary-5f2b"}
    view = contained(node, "tool:1", login=login)
    assert view["stage"] == "failed"
    assert view["message"] == "registry.example.org/tool:1 cannot be pulled: denied: no such image"
    said = log.read_text().splitlines()
    assert "login --username me --password-stdin registry.example.org" in said
    assert said[said.index("canary-5f2b") + 1].startswith(f"config {node.state_folder}")
    assert [line for line in said if "canary" in line] == ["canary-5f2b"]
    kept = [path.read_text(errors="replace") for path in node.state_folder.rglob("*") if path.is_file()]
    assert not any("canary-5f2b" in text for text in kept)
    assert not list(node.state_folder.glob("login-*"))


def test_a_password_does_not_outlive_an_agent_that_died_during_a_pull(tools, until):
    node, folder = tools
    (folder / "pulling").touch()
    stub(
        folder,
        "docker",
        f"""case "$*" in
*password-stdin*) cat > "$DOCKER_CONFIG/config.json" ;;
ps*) ;;
pull*) while [ -e {folder}/pulling ]; do sleep 0.1; done ;;
*) exit 1 ;;
esac""",
    )
    login = {"server": "registry.example.org", "username": "me", "password": "canary-5f2b"}
    node.call("container.start", image="tool:1", login=login)
    until(lambda: "pulling" in node.call("container.wait", wait_s=0)["message"])
    assert list(node.state_folder.glob("login-*/config.json"))
    node.kill("agent")
    (folder / "pulling").unlink()
    assert "the agent was restarted" in node.call("container.wait", wait_s=0)["message"]
    assert not list(node.state_folder.glob("login-*"))


def test_secrets_of_a_job_that_never_got_into_its_container_are_not_kept(tools):
    node, folder = tools
    stub(
        folder,
        "docker",
        f"""case "$1" in
exec) echo writable ;;
run) if [ -e {folder}/broken ]; then echo no more room >&2; exit 1; fi ;;
ps|pull) ;;
*) exit 1 ;;
esac""",
    )
    assert contained(node, "tool:1")["stage"] == "ready"
    (folder / "broken").touch()
    job = node.wait(node.submit("echo never", secret_env={"TOKEN": "canary-77aa"}))
    assert job["exit_code"] == 125
    kept = [path for path in node.state_folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if "canary-77aa" in path.read_text(errors="replace")]


def test_a_job_waits_for_no_container_that_failed(tools):
    node, folder = tools
    stub(folder, "docker", 'case "$1" in ps) ;; pull) echo "no such host" >&2; exit 1 ;; *) exit 1 ;; esac')
    view = contained(node, "nowhere.invalid/image")
    assert (view["stage"], view["name"]) == ("failed", f"{node.key}-0")
    job = node.wait(node.submit("echo never"))
    assert job["state"] == "FAILED_DRIVER"
    assert "no such host" in job["reason"]
    with pytest.raises(AgentError, match="not the name of an image"):
        node.call("container.start", image="--privileged")
    with pytest.raises(AgentError, match="absolute"):
        node.call("container.start", image="x", mounts=["../up"])


# in real containers -----------------------------------------------------------------------------------------------


KINDS = ["podman", *(["docker"] if shutil.which("docker") else [])]
"""Podman by its own command and, where docker's command is there, by that one through podman's service."""


@pytest.fixture(scope="module")
def podman(request, tmp_path_factory):
    podman = PrivatePodman(tmp_path_factory.mktemp("podman"), api=getattr(request, "param", "podman") == "docker")
    podman.image("styx-test:1")
    yield podman
    podman.close()


@pytest.fixture
def inside(podman, make_node):
    """A node whose jobs run in a container."""
    node = make_node(start=False)
    node.env["PATH"] = f"{podman.bin}:{node.env['PATH']}"
    node.start()
    assert contained(node, "localhost/styx-test:1")["stage"] == "ready"
    return node


@pytest.mark.parametrize("podman", KINDS, indirect=True, scope="module")
@pytest.mark.debian("podman", "podman", "--version")
@pytest.mark.debian("runc", "runc", "--version")
def test_jobs_run_in_the_image_as_they_would_without(inside, podman):
    (inside.home / "sky_workdir").mkdir()
    script = (
        'cat /etc/image; echo " $PWD $HOME $STYX_NODE_RANK $SKYPILOT_NUM_NODES $ASKED"; echo "$SECRET" > $HOME/made; '
        'echo "[$STYX_NODE_IPS] [$SECRET_OF_THE_CLIENT]"; echo "$PATH"; exit 5'
    )
    spec = {"setup": "echo once > /root/setup", "env": {"ASKED": "a\nb"}, "secret_env": {"SECRET": "canary-77"}}
    job, log = inside.run(script, **spec)
    assert (job["state"], job["exit_code"]) == ("FAILED", 5), job
    home = inside.home
    assert log.startswith(f"styx-test:1 {home}/sky_workdir {home} 0 1 a\nb\n[127.0.0.1] []\n")
    assert str(podman.bin) not in log  # the image's PATH, not ours
    assert (home / "made").read_text() == "canary-77\n"
    assert inside.run("cat /root/setup")[1] == "once\n"
    listed = podman.docker("inspect", f"{inside.key}-0").stdout
    assert "canary" not in listed
    kept = [path.read_text(errors="replace") for path in inside.state_folder.rglob("*") if path.is_file()]
    assert not any("canary-77" in text for text in kept)
    again = inside.call("container.start", image="localhost/styx-test:1")
    assert again == {}
    inside.stop()
    assert podman.containers() == []


def in_container(podman, node, text):
    """Processes of the container whose command has `text`."""
    listed = podman.docker("exec", f"{node.key}-0", "ps", "-eo", "pid,args", check=False).stdout
    return [line for line in listed.splitlines() if text in line and "ps -eo" not in line]


@pytest.mark.debian("podman", "podman", "--version")
@pytest.mark.debian("runc", "runc", "--version")
def test_cancel_ends_all_that_a_job_runs_in_the_container(inside, podman, until):
    other = inside.submit("sleep 4000")
    hard = "(trap '' TERM; sleep 3001 & env -i sleep 3002 & setsid sleep 3003 & wait) & wait"
    job = inside.submit(f"env -i bash -c {shlex.quote('sleep 3004 & exit')} ; {hard}")
    until(lambda: len(in_container(podman, inside, "sleep 300")) >= 4, timeout=90)
    assert inside.call("job.cancel", job_ids=[job], grace_s=0.3) == {"cancelled": [job], "survivors": []}
    assert in_container(podman, inside, "sleep 300") == []
    assert len(in_container(podman, inside, "sleep 4000")) > 0
    assert inside.wait(job, timeout=120)["state"] == "CANCELLED"
    inside.call("job.cancel", job_ids=[other])
    left, _ = inside.run("sleep 3005 & exit 0")
    assert left["state"] == "SUCCEEDED"
    assert in_container(podman, inside, "sleep 3005") == []


@pytest.mark.debian("podman", "podman", "--version")
@pytest.mark.debian("runc", "runc", "--version")
def test_jobs_and_container_survive_the_agent_and_the_container_is_brought_back(inside, podman, until):
    job = inside.submit("echo begun; while [ ! -e $HOME/go ]; do sleep 0.1; done; echo done")
    until(lambda: "begun" in inside.peek(job), timeout=90)
    inside.kill("agent")
    (inside.home / "go").touch()
    assert inside.wait(job, timeout=120)["state"] == "SUCCEEDED"
    assert inside.log(job) == "begun\ndone\n"
    lost = inside.submit("echo up; sleep 3006")
    until(lambda: "up" in inside.peek(lost), timeout=90)
    podman.docker("kill", f"{inside.key}-0")
    ended = inside.wait(lost, timeout=120)
    assert (ended["state"], ended["reason"]) == ("FAILED", "its container has ended")
    assert inside.run("cat /etc/image")[1] == "styx-test:1"
    podman.docker("rm", "-f", f"{inside.key}-0")
    assert inside.run("cat /etc/image")[1] == "styx-test:1"
    inside.call("shutdown")
    assert podman.docker("ps", "-q").stdout == ""
    until(lambda: not inside.processes(), timeout=60)
    inside.start()
    assert inside.run("cat /etc/image")[1] == "styx-test:1"


@pytest.mark.parametrize("podman", KINDS, indirect=True, scope="module")
@pytest.mark.debian("podman", "podman", "--version")
@pytest.mark.debian("runc", "runc", "--version")
def test_a_private_registry(podman, make_node):
    registry = Registry(podman, "localhost/styx-test:1", "me", "canary-pull-9")
    try:
        node = make_node(start=False)
        node.env["PATH"] = f"{podman.bin}:{node.env['PATH']}"
        node.start()
        view = contained(node, "private/tool:1", login={**LOGIN, "server": registry.address, "password": "wrong-9"})
        assert view["stage"] == "failed"
        assert f"the login at {registry.address} as me failed" in view["message"]
        assert "wrong-9" not in view["message"]
        login = {**LOGIN, "server": registry.address, "password": "canary-pull-9"}
        view = contained(node, "private/tool:1", login=login)
        assert (view["stage"], view["image"]) == ("ready", registry.image), view
        assert node.run("cat /etc/image")[1] == "styx-test:1"
        kept = [path for path in node.root.rglob("*") if path.is_file() and b"canary-pull" in path.read_bytes()]
        assert not kept
        node.stop()
    finally:
        registry.close()


@pytest.mark.debian("podman", "podman", "--version")
@pytest.mark.debian("runc", "runc", "--version")
def test_the_images_own_user_is_kept_if_it_can_write_to_the_home(podman, make_node):
    image = podman.image("styx-nobody:1", user="65534")
    node = make_node(start=False)
    node.env["PATH"] = f"{podman.bin}:{node.env['PATH']}"
    node.start()
    assert contained(node, image)["stage"] == "ready"
    assert node.run("id -u; echo > $HOME/made")[1] == "0\n"  # the home is not nobody's
    workdir = node.home / "sky_workdir"
    workdir.mkdir()
    for folder in (node.root, node.home, workdir):
        folder.chmod(0o777)
    assert contained(node, image, options=["--label", "again=1"])["stage"] == "ready"
    assert node.run("id -u; echo > made")[1] == "65534\n"
    assert (workdir / "made").stat().st_uid == os.getuid()  # given back, so that a sync can replace it
    node.stop()
    assert podman.containers() == []
