"""Stop, start and down share one shape: choose, confirm, act with progress, say what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from styx_cli.confirm import confirm_clusters
from styx_cli.progress import Progress

if TYPE_CHECKING:
    from styx.api import ClusterView, Say
    from styx_cli.app import App


def act(
    app: App,
    verb: str,
    done: str,
    views: Sequence[ClusterView],
    names: Sequence[str],
    action: Callable[[Sequence[str], Say | None], list[str]],
    *,
    yes: bool,
    as_json: bool,
    note: str = "",
) -> None:
    """Do `action` to the clusters.

    Args:
        app: The run.
        verb: What is asked about: `stop`.
        done: What is said afterwards: `stopped`.
        views: The clusters meant.
        names: What the user typed, to tell exact names from globs.
        action: The call; returns the names it acted on.
        yes: Do not ask.
        as_json: Print the names to stdout as JSON.
        note: What the question adds.
    """
    confirm_clusters(app, verb, views, names, yes=yes, note=note)
    changed: list[str] = []
    if views:
        with Progress(app) as progress:
            changed = action([view.name for view in views], progress.say)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(changed))
    elif changed:
        app.note(f"{done}: {', '.join(changed)}")
    else:
        app.note(f"no cluster to {verb}" if not views else f"nothing was {done}")
