"""The container of a node: how docker (or podman) is asked to make, use and end it. Nothing here is remembered.

One long-lived container runs nothing by itself; each phase of a job is a `docker exec` in it. Programs travel to it on
standard input, so that neither scripts nor secrets are ever in an argument. Processes inside carry `STYX_INSIDE`.
"""

from __future__ import annotations

import os

from styx_agent.lean import TYPE_CHECKING, NamedTuple, dumps, loads, sha256

if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Sequence, Tuple

MARK = "STYX_INSIDE"
LABEL = "styx.spec"
_CANDIDATES = (("docker",), ("sudo", "-n", "docker"), ("podman",), ("sudo", "-n", "podman"))
_ASK_S = 30.0
_RUN_S = 180.0
_END_S = 30.0
_IDLE = "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait $!; done"
"""What keeps a container up; a shell that waits also reaps whom it is given."""


class Spec(NamedTuple):
    """What a container is made of."""

    image: str
    options: List[str]
    mounts: List[str]
    gpus: bool

    def digest(self) -> str:
        """Tells one container from another that was asked for under the same name."""
        return _sha256(dumps(list(self)))[:16]


class Box(NamedTuple):
    """A container that was made.

    `runtime` is how docker is called; `user` is empty for the image's own. With `foreign` what is written in it belongs
    to a user of the node that the agent is not.
    """

    runtime: List[str]
    name: str
    user: str
    home: str
    spec: Spec
    foreign: bool = False

    def record(self) -> Dict[str, Any]:
        """As JSON."""
        return {**self._asdict(), "spec": self.spec._asdict()}


def box_of(record: object) -> Optional[Box]:
    """A box from its record; None when that is none."""
    if not isinstance(record, dict):
        return None
    try:
        fields = {name: record[name] for name in Box._fields}
        return Box(**{**fields, "spec": Spec(**record["spec"])})
    except (KeyError, TypeError):
        return None


class Said(NamedTuple):
    """What a command came to; code 124 means that it did not end in time, 127 that it could not be started."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """Its last words, but for advice on how it is called."""
        lines = (self.err.strip() or self.out.strip()).splitlines()
        words = [line for line in lines if line.strip() and "--help'" not in line and not line.startswith("Usage:")]
        return (words or lines or ["it said nothing"])[-1][:400]


def call(
    argv: Sequence[str], *, stdin: bytes = b"", env: Optional[Dict[str, str]] = None, timeout_s: float = _ASK_S
) -> Said:
    """Run one command to its end. Never raises."""
    import subprocess

    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Said(124, "", "%s did not end within %g s" % (" ".join(argv[:3]), timeout_s))
    except OSError as error:
        return Said(127, "", "cannot run %s: %s" % (argv[0], error.strerror))
    return Said(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def find_runtime(path: str) -> Tuple[Optional[List[str]], str]:
    """How docker can be called on this node, or None and why it can't, with the fix."""
    from shutil import which

    problems = []
    for candidate in _CANDIDATES:
        words = [word if word.startswith("-") else which(word, path=path) for word in candidate]
        runtime = [word for word in words if word is not None]
        if len(runtime) < len(candidate):
            continue
        said = call([*runtime, "ps", "-q"])
        if said.code == 0:
            return runtime, ""
        problems.append("`%s ps` failed: %s" % (" ".join(candidate), said.last))
    if not problems:
        return None, "neither docker nor podman is installed on the node; install one, or choose an image that has it"
    return None, "%s; let this user run docker (add it to the group `docker`), or allow `sudo -n docker`" % problems[0]


def _is_podman(runtime: Sequence[str]) -> bool:
    return os.path.basename(runtime[-1]) == "podman"


def _sha256(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape"))


def qualified(image: str, runtime: Sequence[str], server: Optional[str] = None) -> str:
    """The image's name with its registry, where that must be said: for a private one, and for podman always."""
    if server and not image.startswith(server.rstrip("/") + "/"):
        return "%s/%s" % (server.rstrip("/"), image)
    first, slash, _ = image.partition("/")
    if not _is_podman(runtime) or (slash and ("." in first or ":" in first or first == "localhost")):
        return image
    return "docker.io/%s%s" % ("" if slash else "library/", image)


def run_argv(box: Box, image: str, mark: str) -> List[str]:
    """Makes and starts the container: host network, the home under its own path, all GPUs."""
    spec = box.spec
    devices = [] if not spec.gpus else ["--device", "nvidia.com/gpu=all"]
    if devices and not _is_podman(box.runtime):
        devices = ["--gpus", "all"]
    mounts = [word for path in [box.home, *spec.mounts] for word in ("-v", "%s:%s" % (path, path))]
    return [
        *box.runtime, "run", "-d", "--name", box.name, "--label", "styx.node=%s" % mark,
        "--label", "%s=%s" % (LABEL, spec.digest()), "--network", "host", "--ipc", "host", *devices, *mounts,
        "-w", box.home, "-e", "HOME=%s" % box.home, *spec.options, "--entrypoint", "sh", image, "-c", _IDLE,
    ]  # fmt: skip


def state_of(box: Box) -> Tuple[Optional[bool], str]:
    """Whether the container runs (None: there is none), and the digest of what it was made of."""
    said = call([*box.runtime, "inspect", "--type", "container", box.name])
    if said.code:
        return None, ""
    try:
        seen = loads(said.out)[0]
        labels = seen["Config"].get("Labels") or {}
        return bool(seen["State"]["Running"]), str(labels.get(LABEL, ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None, ""


def revive(box: Box, image: str, mark: str) -> Optional[str]:
    """Have the container run: started again when it ended, made anew when it is gone. What went wrong, or None."""
    running, digest = state_of(box)
    if running and digest == box.spec.digest():
        return None
    if running is False and digest == box.spec.digest():
        said = call([*box.runtime, "start", box.name], timeout_s=_RUN_S)
        if said.code == 0:
            return None
    if running is not None:
        remove(box)
    said = call(run_argv(box, image, mark), timeout_s=_RUN_S)
    if said.code and not state_of(box)[0]:  # somebody else may have made it just now
        remove(box)
        return explain_run(box, said)
    return None


def explain_run(box: Box, said: Said) -> str:
    """Why a container did not start, with the fix where there is a usual one."""
    if box.spec.gpus and ("could not select device driver" in said.err or "nvidia.com/gpu" in said.err):
        return "%s; install the NVIDIA Container Toolkit on the node" % said.last
    if '"sh"' in said.err or "sh: no such file" in said.err or "`sh`" in said.err:
        return "the image has no shell: %s" % said.last
    return said.last


def remove(box: Box) -> Optional[str]:
    """Remove the container with all that runs in it. What went wrong, or None."""
    said = call([*box.runtime, "rm", "-f", "-v", box.name], timeout_s=_RUN_S)
    if said.code and state_of(box)[0] is not None:
        return said.last
    return None


def halt(box: Box) -> Optional[str]:
    """End all that runs in the container, and keep its files. What went wrong, or None."""
    if not state_of(box)[0]:
        return None
    said = call([*box.runtime, "stop", "-t", "1", box.name], timeout_s=_RUN_S)
    return said.last if said.code else None


def inside(box: Box, *words: str, user: Optional[str] = None) -> List[str]:
    """The command that runs `words` in the container, reading our standard input."""
    who = box.user if user is None else user
    return [*box.runtime, "exec", "-i", *(("-u", who) if who else ()), box.name, *words]


def program(job: str, phase: str, env: Dict[str, str], script: str, cwd: str) -> str:
    """What a shell in the container reads to run one phase: variables, then the user's script in bash."""
    import shlex

    mark = "%s/%s/" % (job, phase)
    name = "%s-%s" % (job.replace("/", "-"), phase)
    end = "STYX_END_%s" % _sha256(script)
    exports = "".join("export %s=%s\n" % (key, shlex.quote(value)) for key, value in env.items() if _is_name(key))
    return (
        "umask 077\n"
        'where="/tmp/.styx-$(id -u)"; mkdir -p "$where"\n'
        'echo $$ > "$where/%(name)s.sid"\n'
        "umask 022\n"
        "USER=$(id -un 2>/dev/null) || USER=$(id -u); LOGNAME=$USER; export USER LOGNAME\n"
        "%(exports)s"
        "export %(variable)s=%(mark)s\n"
        "cat > \"$where/%(name)s.sh\" <<'%(end)s'\n%(script)s\n%(end)s\n"
        'cd %(cwd)s 2>/dev/null || cd "$HOME" || exit 126\n'
        'script="$where/%(name)s.sh"; unset where\n'
        'if command -v bash >/dev/null 2>&1; then exec bash "$script" </dev/null; fi\n'
        'exec sh "$script" </dev/null\n'
    ) % {
        "name": name,
        "exports": exports,
        "variable": MARK,
        "mark": shlex.quote(mark),
        "end": end,
        "script": script,
        "cwd": shlex.quote(cwd),
    }


def _is_name(key: str) -> bool:
    return key.isidentifier() and key.isascii()


_END = r"""
mark=$1 rounds=$2
set -- $(cat /tmp/.styx-*/$3.sid 2>/dev/null)
sids=" $* "
members() {
    found=' ' tree=
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        [ "$pid" = $$ ] || [ "$pid" = 1 ] && continue
        { IFS= read -r stat < "$folder/stat"; } 2>/dev/null || continue
        set -- ${stat##*) }
        case $1 in Z|X) continue ;; esac
        tree="$tree $pid:$2"
        case "$sids" in *" $4 "*) found="$found$pid "; continue ;; esac
        grep -qsF "STYX_INSIDE=$mark" "$folder/environ" 2>/dev/null && found="$found$pid "
    done
    more=1
    while [ $more = 1 ]; do
        more=0
        for pair in $tree; do
            pid=${pair%:*}
            case "$found" in *" $pid "*) continue ;; esac
            case "$found" in *" ${pair#*:} "*) found="$found$pid " more=1 ;; esac
        done
    done
    found=${found# }
}
members
if [ "$rounds" -gt 0 ] && [ -n "$found" ]; then
    kill -TERM $found 2>/dev/null
    kill -CONT $found 2>/dev/null
fi
while [ "$rounds" -gt 0 ] && [ -n "$found" ]; do
    sleep 0.1 2>/dev/null || sleep 1
    rounds=$((rounds - 1))
    members
done
quiet=0 rounds=80
while [ $rounds -gt 0 ]; do
    members
    if [ -n "$found" ]; then quiet=0; kill -KILL $found 2>/dev/null; else quiet=$((quiet + 1)); fi
    [ $quiet = 2 ] && exit 0
    sleep 0.05 2>/dev/null || sleep 1
    rounds=$((rounds - 1))
done
echo $found
exit 3
"""


def end(box: Box, job: str, phase: Optional[str], grace_s: float) -> List[str]:
    """End everything that a job (or one phase of it) runs in the container, and verify. What is left, in words.

    Found are processes that carry the mark, that are in the session of a phase, and that descend from those.
    """
    mark = "%s/" % job if phase is None else "%s/%s/" % (job, phase)
    files = "%s-%s" % (job.replace("/", "-"), phase or "*")
    argv = inside(box, "sh", "-c", _END, "sh", mark, str(int(grace_s * 10)), files, user="0")
    said = call(argv, timeout_s=grace_s + _END_S)
    if said.code == 0 or not state_of(box)[0]:
        return []
    if said.code == 3:
        return ["pid %s in the container" % pid for pid in said.out.split()]
    return ["perhaps some in the container (%s)" % said.last]


_OWN = 'find "$1" -xdev ! -uid "$2" -exec chown -h "$2:$3" {} + || chown -R -h "$2:$3" "$1"'


def own(box: Box, folder: str) -> None:
    """Give what is in a folder back to the agent's user, as far as the image has the tools: a sync must replace it."""
    call(inside(box, "sh", "-c", _OWN, "sh", folder, str(os.getuid()), str(os.getgid()), user="0"), timeout_s=_RUN_S)


def pull_environment(folder: str, env: Dict[str, str]) -> Dict[str, str]:
    """The environment of a pull that must not touch the user's own logins."""
    return {**env, "DOCKER_CONFIG": folder, "REGISTRY_AUTH_FILE": os.path.join(folder, "auth.json")}


def with_folder(runtime: Sequence[str], folder: str) -> List[str]:
    """How docker is called to use the logins in `folder`; sudo drops the environment."""
    if os.path.basename(runtime[0]) != "sudo":
        return list(runtime)
    named = ["DOCKER_CONFIG=%s" % folder, "REGISTRY_AUTH_FILE=%s" % os.path.join(folder, "auth.json")]
    return [*runtime[:-1], "env", *named, runtime[-1]]
