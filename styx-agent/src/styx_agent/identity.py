"""Who an instance is, kept in its state folder so that it can be revived without being told again."""

from __future__ import annotations

import contextlib
import os

from styx_agent import files
from styx_agent.faults import AgentFailure
from styx_agent.lean import TYPE_CHECKING, NamedTuple
from styx_agent.paths import State

if TYPE_CHECKING:
    from typing import Dict, Optional

NODE_MARK = "STYX_NODE"
JOB_MARK = "STYX_JOB"
SELF_ACTION_MARK = "STYX_SELF_ACTION"

_PASSED_ON = ("PATH", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "STYX_SOCKET_DIR")


class Identity(NamedTuple):
    """One instance. `stopped` says why it was ended on purpose: it is then only brought back by `start`."""

    key: str
    rank: int
    home: str
    env: Dict[str, str]
    started_at: float
    stopped: Optional[str] = None

    @property
    def mark(self) -> str:
        """The value of STYX_NODE in every process of this instance."""
        return "%s/%d" % (self.key, self.rank)

    def process_env(self) -> dict[str, str]:
        """The whole environment of the agent's own processes."""
        env = dict(self.env)
        env.setdefault("PATH", os.defpath)
        env["HOME"] = self.home
        env[NODE_MARK] = self.mark
        return env

    def marks(self) -> dict[str, str]:
        """The variables that every process of this node carries."""
        marks = {NODE_MARK: self.mark}
        if "STYX_HOME" in self.env:
            marks["STYX_HOME"] = self.env["STYX_HOME"]
        return marks


def inherited_env() -> dict[str, str]:
    """What an instance keeps of the environment it is started in: no credential ever gets in."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    if "STYX_HOME" in os.environ:
        kept["STYX_HOME"] = os.environ["STYX_HOME"]
    return kept


def load(state: State) -> Identity | None:
    """The identity in a state folder, or None."""
    value = files.read_object(state.identity)
    if not value:
        value = files.read_object(_ended(state))
        value["stopped"] = "stopped while the disk was full"
    try:
        return Identity(
            str(value["key"]),
            int(value["rank"]),
            str(value["home"]),
            {str(name): str(text) for name, text in dict(value["env"]).items()},
            float(value["started_at"]),
            None if value.get("stopped") is None else str(value["stopped"]),
        )
    except (KeyError, TypeError, ValueError):
        return None


def save(state: State, identity: Identity) -> None:
    """Keep an identity.

    Raises:
        AgentFailure: It cannot be written.
    """
    try:
        files.write_json(state.identity, identity._asdict(), durable=True)
    except OSError as error:
        raise AgentFailure("cannot write %s: %s" % (state.identity, error.strerror)) from error


def mark_stopped(state: State, reason: str) -> None:
    """Remember that the instance was ended on purpose. Says nothing when there is no instance."""
    known = load(state)
    if known is None or known.stopped is not None:
        return
    try:
        files.write_json(state.identity, known._replace(stopped=reason)._asdict())
    except OSError:  # a full disk: renaming needs no room
        with contextlib.suppress(OSError):
            os.replace(state.identity, _ended(state))


def _ended(state: State) -> str:
    return state.identity + ".ended"
