"""From machines to ready nodes: a way to each, an agent on each that knows its rank, its peers and its lease."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from styx.driver import Local, Node, SelfEnd, Ssh, SshFailed
from styx.errors import DeadlineExceeded, StyxError, Unreachable
from styx.parallel import in_parallel
from styx.provision.jobs import cluster_info
from styx.provision.leases import action_of
from styx.provision.ledger import offer_of, rate_of
from styx.provision.request import pinned
from styx.provision.world import World
from styx.state.rows import ClusterRow

if TYPE_CHECKING:
    from styx.backends.base import ReadyNode
    from styx.transport.agent import AgentConnection
    from styx.transport.base import Transport

NOTICE_VARIABLE = "STYX_NOTICE_FILE"
"""Names a file to jobs that appears once the cloud has said that it will take the node away."""

REACH_DEADLINE_S = 300.0
"""How long a machine that runs may take to answer for the first time."""
FOREIGN_KEY_S = 20.0
"""How long a host may show another key than its own: at first boot sshd can be up before its key is put in place."""
SOON_IDLE_S = 600.0
"""Until the job is submitted, a node is not called idle before this: the launch itself is under way."""
LEAST_IDLE_S = 5.0
"""A node that ends itself at once would take the job's last lines with it."""


@dataclass(frozen=True)
class Up:
    """A node whose agent answers."""

    node: Node
    transport: Transport
    agent: AgentConnection

    def close(self) -> None:
        """Let go of the connections; the agent goes on."""
        self.agent.close()
        self.transport.close()


def way_to(world: World, node: Node) -> Transport:
    """A transport to one node."""
    from styx.transport.factory import make_transport

    if node.reach is None:
        raise Unreachable(f"node {node.rank} of {node.cluster} has no address yet")
    reach = pinned(world, node).reach or node.reach
    instance = f"{node.cluster}/{node.rank}"
    return make_transport(reach, world.hub.make_transport, instance=instance, logins=world.hub.ssh.logins)


def connect(world: World, node: Node, *, deadline_s: float = 30.0, anew: bool = False) -> Up:
    """A way to the node and its agent, started if it isn't running. Tried again until the deadline.

    An agent is begun `anew` by launches and starts only: a machine that was given back belongs to others.

    Raises:
        Unreachable: It did not answer in time; the message is the last diagnosis.
    """
    from styx.transport.agent import ensure_agent
    from styx.transport.agentfile import agent_file
    from styx.transport.base import NodeGone, Unusable

    agent = agent_file(world.store.folders.cache_dir("agent"))
    began = world.timestamp()
    while True:
        transport = way_to(world, node)
        try:
            return Up(node, transport, ensure_agent(transport, node.cluster, node.rank, agent, anew=anew))
        except (Unreachable, DeadlineExceeded) as error:
            transport.close()
            foreign = isinstance(error, SshFailed) and error.reason == "host_key"
            patience_s = min(deadline_s, FOREIGN_KEY_S) if foreign else deadline_s
            if isinstance(error, NodeGone | Unusable) or world.timestamp() + 2.0 > began + patience_s:
                raise
        except BaseException:
            transport.close()
            raise
        world.sleep(1.0)


def configure(world: World, row: ClusterRow, ups: Sequence[Up]) -> None:
    """Tell every agent its cluster, its peers, its slots and (loosely, until a job is in) its lease."""
    offer = offer_of(row)
    ips = [address_of(up.node) for up in ups]

    driver = world.provisioner(row.place.cloud) if row.place else None

    def tell(up: Up) -> None:
        probe = list(driver.notice_probe(up.node)) if driver else []
        told_by = {NOTICE_VARIABLE: f"{up.transport.agent_state}/notice.json"} if probe else {}
        config: dict[str, Any] = {
            "num_nodes": row.num_nodes,
            "ips": ips,
            "env": {**up.transport.job_env, **told_by},
            "notice": probe,
            "cluster": cluster_info(row),
            "usd_per_hour": rate_of(up.node, row.offer),
        }
        if offer is not None and offer.vcpus is not None:
            config["cpus"] = offer.vcpus
        if offer is not None:
            config["gpus"] = offer.accelerator_count
        up.agent.call("node.configure", config)

    in_parallel(tell, ups)
    set_lease(world, row, ups, least_idle_s=SOON_IDLE_S)


def set_lease(world: World, row: ClusterRow, ups: Sequence[Up], *, least_idle_s: float = LEAST_IDLE_S) -> None:
    """Give every agent the cluster's lease, with what it runs to end itself. Idempotent."""
    limits = row.lease
    if row.place is None:
        return
    driver = world.provisioner(row.place.cloud)
    offer = offer_of(row)
    features = (offer.features if offer else None) or driver.cloud.features
    action = action_of(limits, features, can_stop=driver.can_stop)
    if ups:
        driver.prepare_self_action([up.node for up in ups], action)

    def give(up: Up) -> None:
        lease: dict[str, Any] = {
            **{name: limits.get(name) for name in ("max_age_s", "max_usd", "dead_man_s")},
            "idle_s": None if limits.get("idle_s") is None else max(float(limits["idle_s"]), least_idle_s),
            "wait_for": limits.get("wait_for", "jobs_and_ssh"),
            "action": action,
            "born_at": row.created_at.timestamp(),
            "age_s": max(0.0, world.timestamp() - row.created_at.timestamp()),
            "usd_per_hour": row.usd_per_hour,
            "actions": {name: _as_wire(driver.self_action(up.node, name)) for name in ("stop", "down")},
        }
        up.agent.call("lease.set", lease)

    in_parallel(give, ups)


def _as_wire(action: SelfEnd) -> dict[str, Any]:
    return {"kind": action.kind, "argv": list(action.argv), "stops_billing": action.stops_billing}


def ready_nodes(row: ClusterRow, ups: Sequence[Up]) -> list[ReadyNode]:
    """What a backend needs of the nodes."""
    from styx.backends.base import ReadyNode

    offer = offer_of(row)
    return [
        ReadyNode(
            rank=up.node.rank,
            ip=address_of(up.node),
            transport=up.transport,
            agent_path=up.agent.agent_path,
            cpus=(offer.vcpus if offer else None) or 1.0,
            gpus=offer.accelerator_count if offer else 0.0,
            env=dict(up.node.reach.env) if isinstance(up.node.reach, Local) else {},
            shares_host=isinstance(up.node.reach, Local),
        )
        for up in ups
    ]


def address_of(node: Node) -> str:
    """Where the other nodes of the cluster reach this one."""
    if node.private_ip or not isinstance(node.reach, Ssh):
        return node.private_ip or "127.0.0.1"
    return node.reach.host


def close_all(ups: Sequence[Up]) -> None:
    """Let go of every connection."""
    for up in ups:
        up.close()


def answering(world: World, row: ClusterRow, deadline_s: float) -> list[Up]:
    """Those nodes of a cluster that answer now, without waiting for the others. Never raises."""

    def attempt(node: Node) -> Up | None:
        try:
            return connect(world, node, deadline_s=deadline_s)
        except StyxError:
            return None

    return [up for up in in_parallel(attempt, row.nodes) if up is not None] if row.nodes else []
