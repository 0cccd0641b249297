"""The way from the coordinator to every node's agent, through Ray. Runs under Ray's Python, as a child of the driver.

Reads questions as JSON lines from its standard input and writes answers to its standard output. It decides nothing, so
that it may hang, crash or be killed without harm: the driver starts another one. Rank r is reached through an actor
that is bound to the node with the resource `styx_rank_<r>` and that talks to that node's agent on its socket.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any, Dict, List

from .launch import allow_loopback, rank_resource
from .layout import Layout, NodeFailure, read_json

GATHER_S = 50.0
"""How long all nodes may take to join and grant the job's slots."""
LAST_WORDS_S = 4.0
_SHARE = 0.001
"""Of a rank's resource, for each job: a thousand may run side by side."""


def agent_call(method: str, params: Dict[str, Any], timeout_s: float) -> Dict[str, Any]:
    """Ask the agent of the node this runs on. Travels to the workers by value, hence its imports are inside."""
    import os

    from styx_agent.client import AgentError, connect
    from styx_agent.paths import socket_path

    try:
        with connect(socket_path(os.environ["STYX_AGENT_STATE"]), timeout=timeout_s) as agent:
            return {"result": agent.call(method, params, timeout_s)}
    except AgentError as error:
        kind = "unreachable" if error.code == "lost" else "refused"
        return {"error": kind, "code": error.code, "message": str(error)}
    except OSError as error:
        return {"error": "unreachable", "message": "its agent does not answer: %s" % (error.strerror or error)}


class Rank:
    """What runs on each node: nothing but a way to its agent."""

    def call(self, method: str, params: Dict[str, Any], timeout_s: float) -> Dict[str, Any]:
        """See `agent_call`."""
        return agent_call(method, params, timeout_s)


class Link:
    """The actors of one job."""

    def __init__(self, layout: Layout, order: Dict[str, Any], out: int) -> None:
        self._out = out
        self._spec = read_json(layout.spec)
        self._address = str(read_json(layout.status).get("address"))
        self._order = order
        self._actors: List[Any] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        """Join Ray and make the actors.

        Raises:
            NodeFailure: Not all nodes are there.
        """
        import ray

        if self._spec["loopback"]:
            allow_loopback()
        ray.init(
            address=self._address,
            namespace="styx",
            _node_ip_address=self._spec["ip"],
            log_to_driver=False,
            configure_logging=False,
        )
        self.say({"joined": True})
        import ray.cloudpickle as by_value

        by_value.register_pickle_by_value(  # type: ignore[no-untyped-call]
            sys.modules[__name__]
        )
        group = None if self._order["again"] else self._reserve()
        for rank in range(self._order["num_nodes"]):
            self._actors.append(self._actor(rank, group))

    def _reserve(self) -> Any:
        """The slots of all nodes, or of none: the gang starts as a whole."""
        import ray
        from ray.util.placement_group import placement_group

        slots = {"CPU": float(self._order["cpus"]), "GPU": float(self._order["gpus"])}
        wanted = {name: amount for name, amount in slots.items() if amount > 0}
        ranks = range(self._order["num_nodes"])
        group = placement_group([{**wanted, rank_resource(rank): _SHARE} for rank in ranks], strategy="STRICT_SPREAD")
        if not group.wait(GATHER_S):
            there = ray.cluster_resources()  # type: ignore[no-untyped-call]
            missing = [str(rank) for rank in ranks if rank_resource(rank) not in there]
            if missing:
                raise NodeFailure("Ray on node %s has not joined" % ", ".join(missing))
            raise NodeFailure("Ray did not grant %s on each of %d nodes" % (wanted or "room", len(ranks)))
        return group

    def _actor(self, rank: int, group: Any) -> Any:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        options: Dict[str, Any] = {"num_cpus": 0, "max_restarts": -1, "max_concurrency": 8}
        if group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group, rank)
        else:
            options["resources"] = {rank_resource(rank): _SHARE}
        return ray.remote(Rank).options(**options).remote()

    def ask(self, question: Dict[str, Any]) -> None:
        """Send one question on; the answer is written when it comes."""
        actor = self._actors[question["rank"]]
        pending = actor.call.remote(question["method"], question["params"], question["timeout_s"])
        pending.future().add_done_callback(lambda done: self._answer(question["call"], done))

    def end_ranks(self) -> None:
        """Tell every node to end its rank, without waiting for long."""
        import ray

        params = {"job_id": self._order["job_id"], "grace_s": 1.0}
        pending = [actor.call.remote("rank.cancel", params, LAST_WORDS_S) for actor in self._actors]
        ray.wait(pending, num_returns=len(pending), timeout=LAST_WORDS_S)

    def _answer(self, call: int, done: Any) -> None:
        try:
            answer = done.result()
        except Exception as error:  # noqa: BLE001 - whatever Ray raises here, the node was not reached
            answer = {"error": "unreachable", "message": type(error).__name__}
        self.say({"call": call, **answer})

    def say(self, value: Dict[str, Any]) -> None:
        """Write one line to the driver."""
        line = (json.dumps(value) + "\n").encode("ascii")
        with self._lock:
            while line:
                line = line[os.write(self._out, line) :]


def main(root: str) -> int:
    """Serve until the standard input ends."""
    out = os.dup(1)
    os.dup2(2, 1)  # Ray prints
    order = json.loads(sys.stdin.readline())
    link = Link(Layout(root), order, out)
    try:
        link.open()
    except Exception as error:  # noqa: BLE001 - Ray raises every kind; the driver needs one line and tries again
        text = " ".join(str(error).split()) or type(error).__name__
        link.say({"failed": text[:300]})
        os._exit(1)
    link.say({"up": True})
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        link.ask(json.loads(line))
    link.end_ranks()  # the driver kills its link when all is well: it was killed itself
    os._exit(0)  # Ray ends the actors and returns the slots when it sees this process gone
