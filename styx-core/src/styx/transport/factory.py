"""Which transport reaches a node."""

from __future__ import annotations

from collections.abc import Callable

from styx.driver import Exec, Local, Reach
from styx.errors import NotExecutable
from styx.transport.base import Transport


def make_transport(
    reach: Reach, ask: Callable[[Reach], Transport | None] | None = None, *, instance: str = "styx/0"
) -> Transport:
    """A transport to a node.

    Args:
        reach: How the cloud says that the node is reached.
        ask: The hook `styx_make_transport`; its answer, when there is one, replaces the built-in transports.
        instance: `<cluster key>/<rank>`, which keeps agents that share a home apart.

    Raises:
        NotExecutable: No built-in transport and no plugin reaches it.
        Unreachable: It could not be reached.
    """
    if ask is not None and (found := ask(reach)) is not None:
        return found
    if isinstance(reach, Local):
        from styx.transport.local import LocalTransport

        return LocalTransport(reach)
    if isinstance(reach, Exec):
        from styx.transport.exec import ExecTransport

        return ExecTransport(reach, instance)
    raise NotExecutable(
        f"the node {instance} is reached by SSH ({reach.user}@{reach.host}:{reach.port}), which this release does not "
        "speak yet",
        hint="use `infra: local`, or install a plugin that implements styx_make_transport",
    )
