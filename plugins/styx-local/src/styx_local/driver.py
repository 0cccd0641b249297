"""The driver: a node is a folder with a record; its processes are the agent's. Nothing here starts one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from styx.plugin import (
    CapacityError,
    CatalogRow,
    CredentialsError,
    Driver,
    DriverError,
    Ended,
    Endpoint,
    EndsItself,
    FeatureSet,
    Identity,
    Limits,
    Market,
    Node,
    NodeRequest,
    NodeState,
    OpensPorts,
    Place,
    Problem,
    QuotaError,
    Scope,
    SelfEnd,
    Stoppable,
    StyxError,
    TransientError,
    UnsupportedError,
)
from styx.plugin import Local as LocalReach
from styx_local import gpus, hardware, processes, spot
from styx_local.config import LocalConfig
from styx_local.machine import Machine, Machines, Slot

_ALIVE = frozenset({NodeState.RUNNING, NodeState.STOPPED})
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where jobs look in any case."""
_STOPS = 'printf %s "$1" > "$2.new" && mv -f "$2.new" "$2"'


class Local(Driver[LocalConfig], Stoppable, OpensPorts, EndsItself):
    """This machine as a cloud."""

    name = hardware.CLOUD
    display_name = "This machine"
    config_type = LocalConfig
    features = FeatureSet(stop=True, idempotent_create=True, ports="any_time")
    limits = Limits(max_nodes=64, min_poll_s=0.05)
    free = True

    @property
    def _machines(self) -> Machines:
        return Machines(self.context.home)

    @property
    def _place(self) -> Place:
        return Place(cloud=self.name, account=hardware.account(), region=hardware.REGION)

    # who and what ------------------------------------------------------------------------------------------------

    def check(self) -> Identity:
        """This machine and user; its one place is usable when jobs can run here."""
        problem: StyxError | None = None
        if shutil.which("bash") is None and shutil.which("bash", path=_SYSTEM_PATH) is None:
            problem = DriverError("bash was not found on PATH: jobs cannot run on this machine", hint="install bash")
        return Identity(self._place.account, {self._place: problem}, user=self.context.user)

    def fetch(self) -> Iterable[CatalogRow]:
        """Rows made from this machine's processors, memory and accelerators; all cost nothing."""
        return list(hardware.rows(hardware.probe(), self.features, self.context.clock()))

    # make and unmake ---------------------------------------------------------------------------------------------

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """Make the folders; nodes run at once."""
        self._own(request.place)
        row = self._row(request.offer)
        try:
            slots = [self._machines.slot(request.cluster, rank) for rank in range(request.count)]
        except ValueError as error:
            raise UnsupportedError(str(error)) from error
        with self._at_work():
            missing = [slot for slot in slots if self._reusable(slot, request) is None]
            self._admit(row, len(missing))
            try:
                for slot in missing:
                    self._make(slot, request, row)
            except OSError as error:
                made = [self._node(slot, machine) for slot in slots if (machine := self._record(slot))]
                raise DriverError(f"cannot make a node in {error.filename}: {error.strerror}", created=made) from error
            return [self._node(slot, machine) for slot in slots if (machine := self._record(slot))]

    def _own(self, place: Place) -> None:
        if place.account != self._place.account or place.region != hardware.REGION:
            raise CredentialsError(
                f"{place} of account {place.account} is another machine or user; this is {self._place.account}",
                hint="run the command where the nodes were made",
            )

    def _row(self, offer: CatalogRow) -> CatalogRow:
        known = {(row.instance_type, row.market): row for row in self.fetch()}
        row = known.get((offer.instance_type, offer.market))
        if row is None:
            names = ", ".join(sorted({name for name, _ in known}))
            raise UnsupportedError(f"this machine has no {offer.instance_type} ({offer.market}); it has {names}")
        return row

    def _reusable(self, slot: Slot, request: NodeRequest) -> Machine | None:
        """What this very request made before; the remains of a node that ended make room."""
        try:
            machine = slot.read()
        except ValueError as error:
            raise DriverError(str(error), hint="`styx sweep --delete` removes the damaged node") from error
        if machine is None or machine.store != self.context.store:
            if machine is not None:
                raise DriverError(f"{slot.folder} belongs to another installation ({machine.store})")
            return None
        if machine.token == request.token:
            return machine
        if machine.state in _ALIVE:
            raise DriverError(
                f"{slot.mark} exists already, made by another request", created=[self._node(slot, machine)]
            )
        self._clear(slot)
        return None

    def _admit(self, row: CatalogRow, missing: int) -> None:
        """Refuse what exceeds the limit on nodes or, on the spot market, the trace."""
        if not missing:
            return
        alive = [machine for _, machine in self._ours() if machine.state in _ALIVE]
        if len(alive) + missing > self.config.max_nodes:
            raise QuotaError(
                f"{missing} more nodes would be over clouds.local.max_nodes ({self.config.max_nodes}); {len(alive)} "
                "exist",
                scope=Scope.ACCOUNT,
                hint="take a cluster down, or raise the limit in the config",
            )
        available = self._spot_available()
        if row.market is Market.SPOT and available is not None:
            spots = sum(machine.market is Market.SPOT and machine.state is NodeState.RUNNING for machine in alive)
            if spots + missing > available:
                raise CapacityError(
                    f"the spot trace has room for {available} nodes now: {spots} exist, {missing} more were asked for"
                )

    def _make(self, slot: Slot, request: NodeRequest, row: CatalogRow) -> None:
        indices = self._assign(row)
        slot.make(
            Machine(
                store=self.context.store,
                account=request.place.account,
                cluster=slot.cluster,
                rank=slot.rank,
                token=request.token,
                state=NodeState.RUNNING,
                instance_type=row.instance_type,
                market=row.market,
                created_at=datetime.fromtimestamp(self.context.clock(), UTC),
                ports=tuple(sorted(set(request.ports))),
                gpus=indices,
                gpu_share=min(1.0, row.accelerator_count) if row.accelerator_count else 1.0,
                labels=request.labels,
            )
        )

    def _assign(self, row: CatalogRow) -> tuple[int, ...]:
        if not row.accelerator_count:
            return ()
        held = [(m.gpus, m.gpu_share) for _, m in self._ours() if m.state is NodeState.RUNNING]
        found = gpus.assign([gpu.index for gpu in hardware.probe().gpus], held, row.accelerator_count)
        if found is None:
            raise CapacityError(
                f"not enough of this machine's {row.accelerator_name} is free for {row.instance_type}: other local "
                "clusters hold it"
            )
        return found

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:  # noqa: ARG002
        """Read the records, after doing what is due: ends that nodes asked for themselves, and spot preemptions."""
        self._own(place)
        with _disk_errors():
            self._settle()
            listed = [self._listed(slot, place) for slot in self._machines.slots(cluster)]
        return [node for node in listed if node is not None]

    def _listed(self, slot: Slot, place: Place) -> Node | None:
        try:
            machine = slot.read()
        except ValueError as error:
            return self._damaged(slot, place, str(error)) if self._key_is_ours(slot.cluster) else None
        if machine is None or machine.store != self.context.store or machine.account != place.account:
            return None
        return self._node(slot, machine)

    def terminate(self, nodes: Sequence[Node]) -> None:
        """Kill every process of these nodes and remove their folders."""
        with self._at_work():
            for slot in self._slots_of(nodes):
                self._clear(slot)
            for cluster in {node.cluster for node in nodes}:
                self._machines.forget(cluster)

    def release(self, place: Place, cluster: str) -> None:
        """Remove what is left of the cluster's nodes that ended, and its folder."""
        self._own(place)
        with self._at_work():
            for slot, machine in self._ours():
                if slot.cluster == cluster and machine.state not in _ALIVE:
                    self._clear(slot)
            self._machines.forget(cluster)

    # capabilities ------------------------------------------------------------------------------------------------

    def stop(self, nodes: Sequence[Node]) -> None:
        """Kill every process of these nodes; their folders stay."""
        with self._at_work():
            for slot in self._slots_of(nodes):
                machine = self._record(slot)
                if machine is not None and machine.state is NodeState.RUNNING:
                    self._stop(slot, machine)

    def start(self, nodes: Sequence[Node]) -> Sequence[Node]:
        """Mark them running; the agent is started by whoever reaches them."""
        started: list[Node] = []
        with self._at_work():
            for slot in self._slots_of(nodes):
                machine = self._record(slot)
                if machine is None or machine.state not in _ALIVE:
                    raise DriverError(f"{slot.mark} cannot be started: it does not exist any more", created=started)
                if machine.state is NodeState.STOPPED:
                    row = {row.instance_type: row for row in self.fetch()}.get(machine.instance_type)
                    if row is None:
                        raise CapacityError(f"this machine has no {machine.instance_type} any more", created=started)
                    slot.power.unlink(missing_ok=True)
                    machine = machine.model_copy(update={"state": NodeState.RUNNING, "gpus": self._assign(row)})
                    slot.write(machine)
                started.append(self._node(slot, machine))
        return started

    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Remember them: everything that listens here can be reached from here."""
        self._change_ports(nodes, lambda known: known | set(ports))

    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Forget them."""
        self._change_ports(nodes, lambda known: known - set(ports))

    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:
        """Leave word beside the record; `nodes` acts on it."""
        power = str(self._machines.slot(node.cluster, node.rank).power)
        return SelfEnd(kind="command", argv=("/bin/sh", "-c", _STOPS, "sh", action, power), stops_billing=True)

    def preempt(self, nodes: Sequence[Node]) -> None:
        """Take these nodes away as a spot market would: processes killed, files gone, the reason kept."""
        with self._at_work():
            for slot in self._slots_of(nodes):
                machine = self._record(slot)
                if machine is not None and machine.state in _ALIVE:
                    self._end(slot, machine, Ended(cause="preempted", message="preempted on request"))

    # what is on disk ---------------------------------------------------------------------------------------------

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Alone with the folders; what the disk refuses is said in the driver's words."""
        with _disk_errors(), self._machines.locked():
            yield

    def _key_is_ours(self, key: str) -> bool:
        """Whether a cluster key was made by this installation: its id is in the key, before the generation."""
        return key[-8:-2] == self.context.store

    def _record(self, slot: Slot) -> Machine | None:
        """A node of this installation, or None when there is none or its record is damaged."""
        try:
            machine = slot.read()
        except ValueError:
            return None
        return machine if machine is not None and machine.store == self.context.store else None

    def _ours(self) -> list[tuple[Slot, Machine]]:
        """Every node of this installation on this machine."""
        account = self._place.account
        read = [(slot, self._record(slot)) for slot in self._machines.slots()]
        return [(slot, machine) for slot, machine in read if machine is not None and machine.account == account]

    def _slots_of(self, nodes: Sequence[Node]) -> list[Slot]:
        """Where these nodes lie, as far as they are this installation's and exist."""
        found = []
        for node in nodes:
            self._own(node.place)
            for slot in self._machines.slots(node.cluster):
                if slot.rank != node.rank:
                    continue
                try:
                    machine = slot.read()
                    mine = machine is not None and machine.store == self.context.store
                except ValueError:
                    mine = self._key_is_ours(slot.cluster)
                if mine:
                    found.append(slot)
        return found

    def _spot_available(self) -> int | None:
        """How many spot nodes the trace allows now; None without one."""
        path = self.config.spot_trace
        if path is None:
            return None
        now = self.context.clock()
        return spot.load(path).available(now - spot.began(self._machines.root, path, now))

    def _settle(self) -> None:
        """Do what is due; most of the time nothing is, and no lock is taken."""
        if not self._due():
            return
        with self._at_work():
            for slot, machine, ended in self._due():
                if ended is None:
                    self._stop(slot, machine)
                else:
                    self._end(slot, machine, ended)

    def _due(self) -> list[tuple[Slot, Machine, Ended | None]]:
        """Nodes that must be stopped (None) or ended: by their own wish, by the trace, or left half-ended."""
        due: list[tuple[Slot, Machine, Ended | None]] = []
        spots: list[tuple[Slot, Machine]] = []
        for slot, machine in self._ours():
            if machine.state is NodeState.TERMINATED:
                if slot.home.exists() or slot.state.exists():
                    due.append((slot, machine, machine.ended or Ended(cause="unknown")))
                continue
            wish = slot.self_end()
            if wish == "down":
                due.append((slot, machine, Ended(cause="requested", message="the node ended itself")))
            elif machine.state is NodeState.RUNNING and wish == "stop":
                due.append((slot, machine, None))
            elif machine.state is NodeState.RUNNING and machine.market is Market.SPOT:
                spots.append((slot, machine))
        available = self._spot_available() if spots else None
        if available is not None:
            spots.sort(key=lambda pair: (pair[1].created_at, pair[0].cluster, pair[0].rank))
            why = Ended(cause="preempted", message=f"the spot trace has room for {available} nodes now")
            due += [(slot, machine, why) for slot, machine in spots[available:]]
        return due

    def _stop(self, slot: Slot, machine: Machine) -> None:
        self._kill(slot)
        slot.write(machine.model_copy(update={"state": NodeState.STOPPED}))
        slot.power.unlink(missing_ok=True)

    def _end(self, slot: Slot, machine: Machine, ended: Ended) -> None:
        """Take away processes and files; the record stays, with the reason, until the cluster is released."""
        slot.write(machine.model_copy(update={"state": NodeState.TERMINATED, "ended": ended}))
        self._kill(slot)
        slot.empty()

    def _clear(self, slot: Slot) -> None:
        """Take away everything. Said in the record first: if this is cut short, `nodes` goes on with it."""
        machine = self._record(slot)
        if machine is not None and machine.state is not NodeState.TERMINATED:
            gone = {"state": NodeState.TERMINATED, "ended": Ended(cause="requested")}
            slot.write(machine.model_copy(update=gone))
        self._kill(slot)
        slot.remove()

    def _kill(self, slot: Slot) -> None:
        signs = processes.Signs(slot.mark, str(self._home), slot.folder.resolve(), slot.state.resolve())
        survivors = processes.end_all(signs)
        if survivors:
            raise TransientError(
                f"processes of {slot.mark} do not end: {', '.join(str(pid) for pid in survivors)}", retry_after_s=2.0
            )

    def _change_ports(self, nodes: Sequence[Node], change: Callable[[set[int]], set[int]]) -> None:
        with self._at_work():
            for slot in self._slots_of(nodes):
                machine = self._record(slot)
                if machine is not None:
                    slot.write(machine.model_copy(update={"ports": tuple(sorted(change(set(machine.ports))))}))

    @property
    def _home(self) -> Path:
        return self._machines.root.parent

    def _node(self, slot: Slot, machine: Machine) -> Node:
        runs = machine.state is NodeState.RUNNING
        env = {"STYX_HOME": str(self._home), "STYX_NODE": slot.mark}
        if machine.gpus:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in machine.gpus)
        return Node(
            id=f"{slot.cluster}-{slot.rank}",
            cluster=slot.cluster,
            rank=slot.rank,
            place=Place(cloud=self.name, account=machine.account, region=hardware.REGION),
            state=machine.state,
            token=machine.token,
            ended=machine.ended,
            reach=LocalReach(home=str(slot.home), state=str(slot.state), env=env) if runs else None,
            endpoints={port: Endpoint(host="127.0.0.1", port=port) for port in machine.ports} if runs else {},
            private_ip="127.0.0.1",
            instance_type=machine.instance_type,
            usd_per_hour=0.0,
            created_at=machine.created_at,
            data={"folder": str(slot.folder)},
        )

    def _damaged(self, slot: Slot, place: Place, why: str) -> Node:
        return Node(
            id=f"{slot.cluster}-{slot.rank}",
            cluster=slot.cluster,
            rank=slot.rank,
            place=place,
            state=NodeState.FAILED,
            problem=Problem(error="DriverError", message=why),
            usd_per_hour=0.0,
            data={"folder": str(slot.folder)},
        )


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DriverError(f"the disk refused {error.filename or 'a file'}: {error.strerror or error}") from error
