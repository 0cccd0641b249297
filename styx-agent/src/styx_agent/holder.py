"""Holds the node's container: has it pulled, made and ready, says how far that is, and remembers it."""

from __future__ import annotations

import os
import threading
import time

from styx_agent import container, files
from styx_agent.container import Box, Spec
from styx_agent.faults import Fault
from styx_agent.fields import Fields, bad
from styx_agent.identity import Identity
from styx_agent.journal import note
from styx_agent.lean import TYPE_CHECKING
from styx_agent.paths import State
from styx_agent.protocol import BAD_REQUEST

if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

NONE, STARTING, READY, FAILED = "none", "starting", "ready", "failed"
_PULL_S = 3600.0
_WRITABLE = '[ -w "$HOME" ] && echo writable; exit 0'
_PROBE = ': > "$1"'
_LOGIN = "login-"


class Holder:
    """All methods may be called from any thread. `busy()` says whether jobs use it, `path()` where docker is."""

    def __init__(
        self,
        state: State,
        who: Identity,
        path: Callable[[], str],
        has_gpus: Callable[[], bool],
        busy: Callable[[], bool],
    ) -> None:
        self._state = state
        self._who = who
        self._path = path
        self._has_gpus = has_gpus
        self._busy = busy
        self._changed = threading.Condition()
        record = files.read_object(state.container)
        self._box = container.box_of(record.get("box"))
        self._image = str(record.get("image") or "")
        self._stage = str(record.get("stage") or NONE)
        self._message = str(record.get("message") or "")
        if self._stage == STARTING:
            self._stage, self._message = FAILED, "the agent was restarted while the container was made"
            _forget_logins(state.root)

    @property
    def contained(self) -> bool:
        """Whether jobs of this node run in a container."""
        return self._stage != NONE

    def box(self) -> Optional[Box]:
        """The container that jobs run in; None without one.

        Raises:
            OSError: There is to be one, and it is not ready.
        """
        with self._changed:
            if self._stage == NONE:
                return None
            if self._stage != READY or self._box is None:
                raise OSError("the container of this node is not ready: %s" % (self._message or self._stage))
            return self._box

    @property
    def image(self) -> str:
        """The image by its full name."""
        return self._image

    def start(self, params: Dict[str, Any]) -> Dict[str, Any]:
        """Begin to have a container. The same again changes nothing; `login` is used once, and never kept.

        Raises:
            Fault: The spec is wrong, or jobs run in another container.
        """
        fields = Fields(params, "container.start")
        login = Fields(fields.mapping_of("login"), "container.start")
        secrets = None
        if params.get("login"):
            secrets = (login.text("server"), login.text("username"), login.text("password"))
        image = fields.text("image")
        if not image or image.startswith("-"):
            raise bad("container.start: %.80r is not the name of an image" % image)
        mounts = fields.texts("mounts", [])
        if any(not path.startswith("/") or ":" in path for path in mounts):
            raise bad("container.start: mounts must be absolute paths without a colon")
        spec = Spec(image, fields.texts("options", []), mounts, self._has_gpus())
        limit_s = float(fields.number("pull_s", _PULL_S))
        with self._changed:
            if self._stage in (STARTING, READY) and self._box is not None and self._box.spec == spec:
                return {}
            if self._stage == STARTING:
                raise Fault(BAD_REQUEST, "another container is being made on this node; try again")
            if self._stage == READY and self._busy():
                raise Fault(
                    BAD_REQUEST, "jobs run in the container of %s; wait for their end, or cancel them" % self._image
                )
            for path in mounts:
                _make_folder(path)
            name = "%s-%d" % (self._who.key, self._who.rank)
            old, self._box = self._box, Box([], name, "", self._who.home, spec)
            self._tell(STARTING, "looking for docker")
        arguments = (self._box, old, secrets, limit_s)
        threading.Thread(target=self._work, args=arguments, name="container", daemon=True).start()
        return {}

    def wait(self, params: Dict[str, Any], wait_s: float) -> Dict[str, Any]:
        """The view as soon as its message differs from `seen`, or the time has passed."""
        seen = Fields(params, "container.wait").text("seen", None)
        with self._changed:
            self._changed.wait_for(lambda: self._message != seen or self._stage != STARTING, wait_s)
            name = self._box.name if self._box is not None else None
            mounts = self._box.spec.mounts if self._box is not None else []
            said = {"stage": self._stage, "message": self._message, "image": self._image}
            return {**said, "name": name, "mounts": mounts}

    def halt(self) -> Optional[str]:
        """End what runs in the container; it is kept, and used again by the next job. What went wrong, or None."""
        with self._changed:
            box = self._box
        return container.halt(box) if box is not None and box.runtime else None

    # -- how it comes about, on a thread of its own ------------------------------------------------------------

    def _tell(self, stage: str, message: str) -> None:
        with self._changed:
            self._stage, self._message = stage, message
            box = self._box.record() if self._box is not None else None
            record = {"stage": stage, "message": message, "image": self._image, "box": box}
            try:
                files.write_json(self._state.container, record, durable=stage == READY)
            except OSError as error:
                note("cannot keep the record of the container: %s" % error)
            self._changed.notify_all()

    def _work(self, box: Box, old: Optional[Box], login: Optional[tuple[str, str, str]], limit_s: float) -> None:
        try:
            if old is not None and old.runtime and old.spec != box.spec:
                container.remove(old)
            problem = self._make(box, login, limit_s)
        except Exception as error:  # noqa: BLE001 - the wall around the thread: the waiting client is told
            note("making the container failed: %r" % error)
            problem = "%s: %s" % (type(error).__name__, error)
        if problem is not None:
            note("no container of %s: %s" % (box.spec.image, problem))
            self._tell(FAILED, problem)

    def _make(self, box: Box, login: Optional[tuple[str, str, str]], limit_s: float) -> Optional[str]:
        runtime, missing = container.find_runtime(self._path())
        if runtime is None:
            return missing
        box = box._replace(runtime=runtime)
        image = container.qualified(box.spec.image, runtime, login[0] if login else None)
        with self._changed:
            self._box, self._image = box, image
        running, digest = container.state_of(box)
        if not (running and digest == box.spec.digest()):
            problem = self._pull(box, image, login, limit_s)
            if problem is not None:
                return problem
            self._tell(STARTING, "starting the container")
            problem = container.revive(box, self._image, self._who.mark)
            if problem is not None:
                return "a container of %s does not start: %s" % (image, problem)
        said = container.call(container.inside(box, "sh", "-c", _WRITABLE))
        if said.code:
            return "nothing can be run in a container of %s: %s" % (image, said.last)
        words = said.out.split()
        if "writable" not in words:
            box = box._replace(user="0")
        box = box._replace(foreign=_writes_as_somebody_else(box))
        with self._changed:
            self._box = box
        self._tell(READY, "ready")
        return None

    def _pull(self, box: Box, image: str, login: Optional[tuple[str, str, str]], limit_s: float) -> Optional[str]:
        """Have the image here, as the registry has it now; when that can't be reached, as it was pulled before."""
        local = next((name for name in (image, box.spec.image) if _is_here(box, name)), None)
        if local is not None and ("@sha256:" in local or local.startswith("localhost/")):
            with self._changed:
                self._image = local
            return None  # it cannot have changed, or nobody but this node has it
        import shutil  # here: most nodes run no image, and a start does without these two
        import tempfile

        folder = tempfile.mkdtemp(prefix=_LOGIN, dir=self._state.root)
        try:
            problem = self._pull_with(box, image, login, limit_s, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if problem is None:
            return None
        if local is None:
            return "%s cannot be pulled: %s" % (image, problem)
        note("%s cannot be pulled (%s): the copy on this node is used" % (image, problem))
        with self._changed:
            self._image = local
        return None

    def _pull_with(
        self, box: Box, image: str, login: Optional[tuple[str, str, str]], limit_s: float, folder: str
    ) -> Optional[str]:
        runtime, env = box.runtime, dict(os.environ)
        if login is not None:
            server, username, password = login
            env = container.pull_environment(folder, env)
            runtime = container.with_folder(runtime, folder)
            self._tell(STARTING, "logging in to %s" % server)
            argv = [*runtime, "login", "--username", username, "--password-stdin", server]
            said = container.call(argv, stdin=password.encode("utf-8", "surrogateescape"), env=env, timeout_s=60.0)
            if said.code:
                return "the login at %s as %s failed: %s" % (server, username, said.last.replace(password, "***"))
        self._tell(STARTING, "pulling %s" % image)
        return self._watch_pull([*runtime, "pull", image], env, limit_s)

    def _watch_pull(self, argv: list[str], env: Dict[str, str], limit_s: float) -> Optional[str]:
        import subprocess

        began = time.monotonic()
        lines: list[str] = []
        try:
            pull = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
            )
        except OSError as error:
            return "cannot run %s: %s" % (argv[0], error.strerror)
        timer = threading.Timer(limit_s, pull.kill)
        timer.daemon = True
        timer.start()
        assert pull.stdout is not None
        done = 0
        try:
            for raw in pull.stdout:
                line = raw.decode("utf-8", "replace").strip()
                if line:
                    lines = [*lines[-4:], line[:300]]
                    done += "complete" in line.lower() or "copying blob" in line.lower()
                    self._tell(STARTING, "pulling %s: %d layers" % (argv[-1], done) if done else self._message)
            code = pull.wait()
        finally:
            timer.cancel()
            pull.stdout.close()
        if code == 0:
            return None
        if time.monotonic() - began >= limit_s:
            return "it took longer than %g s" % limit_s
        return lines[-1] if lines else "exit code %d" % code


def remove(state: State) -> Optional[str]:
    """Remove the container of an instance that is no more. What went wrong, or None."""
    box = container.box_of(files.read_object(state.container).get("box"))
    if box is None or not box.runtime:
        return None
    problem = container.remove(box)
    if problem is None:
        files.remove(state.container)
        return None
    return "its container %s cannot be removed: %s" % (box.name, problem)


def _writes_as_somebody_else(box: Box) -> bool:
    """Whether a file that is made in the container belongs to another user than the agent's."""
    probe = os.path.join(box.home, ".styx-probe-%s" % box.name)
    container.call(container.inside(box, "sh", "-c", _PROBE, "sh", probe))
    try:
        return os.stat(probe).st_uid != os.getuid()
    except OSError:
        return False
    finally:
        container.call(container.inside(box, "sh", "-c", 'rm -f "$1"', "sh", probe))
        files.remove(probe)


def _forget_logins(root: str) -> None:
    """Remove what an agent that died in the middle of a pull has left: docker keeps passwords in such a folder."""
    import shutil

    for name in os.listdir(root):
        if name.startswith(_LOGIN):
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)


def _is_here(box: Box, image: str) -> bool:
    return container.call([*box.runtime, "image", "inspect", image]).code == 0


def _make_folder(path: str) -> None:
    """A folder that is mounted before anything is put there; docker would make it root's."""
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise Fault(
            BAD_REQUEST, "cannot make %s to share it with the container: %s" % (path, error.strerror)
        ) from error
