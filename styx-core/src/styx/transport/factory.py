"""Which transport reaches a node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from styx.driver import Exec, Local, PluginReach, Reach
from styx.errors import InternalError, NotExecutable
from styx.transport.base import Transport

if TYPE_CHECKING:
    from styx.transport.ssh.logins import Logins


def make_transport(
    reach: Reach,
    ask: Callable[[Reach], Transport | None] | None = None,
    *,
    instance: str = "styx/0",
    logins: Callable[[], Logins] | None = None,
) -> Transport:
    """A transport to a node.

    Args:
        reach: How the cloud says that the node is reached.
        ask: The hook `styx_make_transport`; its answer, when there is one, replaces the built-in transports.
        instance: `<cluster key>/<rank>`, which keeps agents that share a home apart.
        logins: The process's SSH logins; called only for a node that is reached by SSH.

    Raises:
        NotExecutable: Only a plugin knows the way, and none does.
        InvalidInput: The reach, or the user's SSH config, is wrong.
        Unreachable: It could not be reached; a node behind SSH is not asked before its first command.
    """
    if ask is not None and (found := ask(reach)) is not None:
        return found
    if isinstance(reach, Local):
        from styx.transport.local import LocalTransport

        return LocalTransport(reach)
    if isinstance(reach, Exec):
        from styx.transport.exec import ExecTransport

        return ExecTransport(reach, instance)
    if isinstance(reach, PluginReach):
        raise NotExecutable(
            f"the plugin for {reach.cloud} knows no way to the node {instance}", hint="install its newest version"
        )
    if logins is None:
        raise InternalError(f"the way to {instance} was asked for without SSH logins")
    from styx.transport.ssh.transport import SshTransport

    return SshTransport(reach, logins(), instance)
