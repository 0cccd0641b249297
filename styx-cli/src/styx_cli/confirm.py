"""Asking before money is spent or something is destroyed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from styx.errors import NotConfirmed

if TYPE_CHECKING:
    from styx.api import ClusterView
    from styx_cli.app import App


def ask(app: App, question: str, *, what: str) -> None:
    """Ask on the terminal; anything but yes declines.

    Raises:
        NotConfirmed: It was declined, or there is no terminal to ask on.
    """
    if not (app.is_terminal("stdin") and app.is_terminal("stderr")):
        raise NotConfirmed(f"{what} needs a yes, and there is no terminal to ask on", hint="add -y to go ahead")
    sys.stdout.flush()
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        if not answer.endswith("\n"):
            sys.stderr.write("\n")
        raise NotConfirmed(f"{what} was declined", hint="nothing was changed")


def is_free(view: ClusterView) -> bool:
    """Whether a cluster never cost anything, so far as the ledger knows; unknown prices are not free."""
    return view.usd_per_hour == 0 and view.usd_so_far == 0


def needs_question(views: Sequence[ClusterView], *, named: bool, terminal: bool) -> bool:
    """Whether an action on these clusters has to be confirmed.

    Clusters that cost money always do. Free ones never do when each was named in full and there is only one; several,
    globs and `--all` are asked about on a terminal, where a slip is easy, and go ahead in scripts.
    """
    if not views:
        return False
    if not all(map(is_free, views)):
        return True
    return terminal and not (named and len(views) == 1)


def confirm_clusters(
    app: App, verb: str, views: Sequence[ClusterView], names: Iterable[str], *, yes: bool, note: str = ""
) -> None:
    """Ask about an action on clusters where that is needed.

    Raises:
        NotConfirmed: See `ask`.
    """
    exact = {view.name for view in views} <= set(names)
    terminal = app.is_terminal("stdin") and app.is_terminal("stderr")
    if yes or not needs_question(views, named=exact, terminal=terminal):
        return
    listed = ", ".join(view.name for view in views)
    what = f"{verb} of {listed}"
    ask(app, f"{verb.capitalize()} {listed}{note}?", what=what)
