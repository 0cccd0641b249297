"""The driver: a node is a lease on a host of a pool. It lies on the host, so two installations never share one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from styx.plugin import (
    CapacityError,
    CatalogRow,
    Context,
    CredentialsError,
    Driver,
    DriverError,
    Ended,
    Endpoint,
    EndsItself,
    FeatureSet,
    Identity,
    Limits,
    Node,
    NodeRequest,
    NodeState,
    OfferQuery,
    OpensPorts,
    Place,
    QuotesLive,
    SelfEnd,
    Ssh,
    SshFailed,
    StyxError,
    TransientError,
)
from styx_ssh import scripts
from styx_ssh.config import SshConfig
from styx_ssh.hosts import Hosts, each, unusable
from styx_ssh.leases import Book, Foreign, Lease, Note, parse
from styx_ssh.pools import Host, read_pools
from styx_ssh.shapes import Facts, by_shape, facts_of

ACCOUNT = "own-machines"
DEFAULT_FILE = "ssh_node_pools.yaml"
_RELEASE_S = 50.0
_FETCH_S = 40.0
_AWAY_S = 30.0
"""A host that did not answer is not asked again so soon, when it is only one of many to choose from."""


@dataclass(frozen=True)
class Seen:
    """One look at one host."""

    host: Host
    facts: Facts
    lease: Lease | Foreign | None


class SshPools(Driver[SshConfig], QuotesLive, OpensPorts, EndsItself):
    """Pools of machines that exist already."""

    name = "ssh"
    display_name = "Your own machines"
    config_type = SshConfig
    features = FeatureSet(idempotent_create=True, ports="any_time", container="docker")
    limits = Limits(max_nodes=1000, min_poll_s=1.0)
    free = True

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._hosts = Hosts(self.context, self.config.reach_s)
        self._book = Book(self.context.home)
        self._creating = threading.Lock()
        self._away_since: dict[str, tuple[float, StyxError]] = {}

    # who and what ------------------------------------------------------------------------------------------------

    def check(self) -> Identity:
        """Look at every host; a pool is usable when one of its hosts is. The notes tell of the others."""
        pools = self._pools()
        every = [host for hosts in pools.values() for host in hosts]
        looks = dict(zip((host.id for host in every), each(every, self._detect), strict=True))
        places: dict[Place, StyxError | None] = {}
        notes: list[str] = []
        for pool, hosts in pools.items():
            said = [line for host in hosts if (line := self._remark(host, looks[host.id])) is not None]
            good = [host for host in hosts if _is_usable(looks[host.id])]
            if good:
                notes += said
            problem = None if good else _pool_problem(pool, [looks[host.id] for host in hosts], said)
            places[self._place(pool)] = problem
        if places and all(places.values()):
            first = next(iter(places.values()))
            if isinstance(first, CredentialsError):
                raise CredentialsError("; ".join(str(one) for one in places.values()), hint=first.hint)
        return Identity(ACCOUNT, places, user=self.context.user, notes=notes)

    def _remark(self, host: Host, look: Seen | StyxError) -> str | None:
        if isinstance(look, StyxError):
            return f"{host.id}: {look.message}"
        if look.facts.problem is not None:
            return f"{host.id}: {look.facts.problem}"
        if look.lease is None or (isinstance(look.lease, Lease) and look.lease.store == self.context.store):
            return None
        return f"{host.id} is {look.lease.holder}; if that is over, remove {self.config.lease_folder}/styx.lease there"

    def fetch(self) -> Iterable[CatalogRow]:
        """A row for each shape in each pool, whether its hosts are free or not."""
        return list(self._rows(self._look_around(self._every_host(), _FETCH_S), lambda _: True))

    def offers(self, query: OfferQuery, deadline_s: float) -> Sequence[CatalogRow]:
        """Shapes of which a host is free; where none is, those that are taken, so that the refusal can say by whom."""
        hosts = [host for host in self._every_host() if query.region in (None, host.pool)]
        seen = self._look_around(hosts, min(self.config.reach_s, deadline_s * 0.8))
        free = [row for row in self._rows(seen, lambda one: one.lease is None) if _answers(row, query)]
        return free or [row for row in self._rows(seen, lambda _: True) if _answers(row, query)]

    def _rows(self, seen: Sequence[Seen], counts: Callable[[Seen], bool]) -> Iterator[CatalogRow]:
        now = datetime.fromtimestamp(self.context.clock(), UTC)
        for pool in dict.fromkeys(one.host.pool for one in seen):
            listed = [one for one in seen if one.host.pool == pool and counts(one)]
            facts = {one.host.id: one.facts for one in listed}
            for name, hosts in by_shape([(one.host, one.facts) for one in listed]).items():
                shape = facts[hosts[0].id].shape
                assert shape is not None  # by_shape keeps no other
                yield CatalogRow(
                    cloud=self.name,
                    instance_type=name,
                    region=pool,
                    vcpus=shape.vcpus,
                    memory_gib=shape.memory_gib,
                    arch=shape.arch,
                    accelerator_name=shape.accelerator,
                    accelerator_count=shape.count,
                    accelerator_memory_gib=shape.accelerator_gib,
                    usd_per_hour=shape.usd_per_hour,
                    as_of=now,
                    ttl_s=60.0,
                    source="the hosts themselves",
                )

    # make and unmake ---------------------------------------------------------------------------------------------

    def create(self, request: NodeRequest) -> Sequence[Node]:
        """Lease one free host of the wanted shape for each rank that has none yet."""
        with self._creating:
            pool = request.place.region
            hosts = self._pools().get(pool)
            if hosts is None:
                raise DriverError(f"there is no pool {pool} in {self._file}", hint=f"pools: {', '.join(self._pools())}")
            looks = dict(zip((host.id for host in hosts), self._looks(hosts, 2 * self.config.reach_s), strict=True))
            seen = [look for look in looks.values() if isinstance(look, Seen)]
            have = self._already(request, seen)
            self._refuse_unknown(request, have, looks)
            missing = [rank for rank in range(request.count) if rank not in have]
            free = [one for one in seen if one.lease is None and _is_usable(one) and _is_shape(one, request.offer)]
            if len(free) < len(missing):
                raise self._no_room(request, looks, len(free), len(missing), list(have.values()))
            return self._lease(request, have, missing, free, looks)

    def _already(self, request: NodeRequest, seen: Sequence[Seen]) -> dict[int, Node]:
        """Nodes that this very request has got before, by rank."""
        have: dict[int, Node] = {}
        for one in seen:
            lease = one.lease
            if not isinstance(lease, Lease) or (lease.store, lease.cluster) != (self.context.store, request.cluster):
                continue
            node = self._running(lease, one.host.reach)
            if lease.token != request.token:
                message = f"{one.host.id} is leased for {request.cluster} already, by another request"
                raise DriverError(message, created=[node])
            have.setdefault(lease.rank, node)
        return have

    def _refuse_unknown(self, request: NodeRequest, have: dict[int, Node], looks: dict[str, Seen | StyxError]) -> None:
        """Stop when a host that this request may have leased does not answer: nobody knows whether it did."""
        for note in self._book.notes(request.place.region, self.context.store):
            look = looks.get(f"{note.lease.pool}/{note.lease.host}")
            if note.lease.token == request.token and isinstance(look, StyxError):
                node = _node(note.lease, note.reach, NodeState.UNREACHABLE)
                message = f"{node.id} was about to be leased and no longer answers: {look.message}"
                raise DriverError(message, created=[*have.values(), node], hint=look.hint)

    def _lease(
        self,
        request: NodeRequest,
        have: dict[int, Node],
        missing: Sequence[int],
        free: Sequence[Seen],
        looks: dict[str, Seen | StyxError],
    ) -> Sequence[Node]:
        """Take free hosts in the file's order; who is beaten to one takes the next."""
        waiting, left = list(missing), list(free)
        lost: StyxError | None = None
        while waiting and left:
            pairs = list(zip(waiting, left, strict=False))
            left = left[len(pairs) :]
            for (rank, one), outcome in zip(pairs, each(pairs, lambda pair: self._take(request, *pair)), strict=True):
                if isinstance(outcome, SshFailed) and outcome.reason == "lost":
                    lost = unusable(one.host, outcome)
                elif isinstance(outcome, StyxError):
                    looks[one.host.id] = outcome
                elif isinstance(outcome, Node):
                    have[outcome.rank] = outcome
                    waiting.remove(rank)
                else:
                    looks[one.host.id] = replace(one, lease=outcome)
            if lost is not None:
                raise TransientError(
                    f"the reply of {lost.message} was lost", retry_after_s=1.0, created=list(have.values())
                )
        if waiting:
            raise self._no_room(request, looks, 0, len(waiting), list(have.values()))
        return [have[rank] for rank in sorted(have)]

    def _take(self, request: NodeRequest, rank: int, one: Seen) -> Node | Lease | Foreign:
        """Lease one host; whoever has it, if it is not this request."""
        host, shape = one.host, one.facts.shape
        assert shape is not None  # only usable hosts are asked
        lease = Lease(
            store=self.context.store,
            cluster=request.cluster,
            rank=rank,
            token=request.token,
            owner=self.context.user,
            since=datetime.fromtimestamp(self.context.clock(), UTC),
            pool=host.pool,
            host=host.name,
            instance_type=shape.name,
            usd_per_hour=shape.usd_per_hour,
            ports=tuple(sorted(set(request.ports))),
            labels=request.labels,
            private_ip=one.facts.ip,
            keep_workdir=one.facts.workdir_there,
        )
        try:
            self._book.write(Note(lease=lease, reach=host.reach, written_at=self.context.clock()))
        except OSError as error:
            raise DriverError(f"cannot write down that {host.id} is leased: {error}") from error
        folder, mark = self.config.lease_folder, f"{request.token}-{rank}"
        try:
            answer = self._hosts.ask(host.reach, scripts.TAKE, folder, mark, stdin=lease.line())
        except SshFailed as error:
            if error.reason != "lost":
                self._book.strike(lease)
            raise
        said = answer.one("lease")
        holder = parse(said) if said else None
        if isinstance(holder, Lease) and (holder.token, holder.rank) == (request.token, rank):
            return self._running(holder, host.reach)
        self._book.strike(lease)
        if holder is None:
            raise DriverError(f"{host.id}: {answer.one('trouble') or 'the lease was not made'}")
        return holder

    def _no_room(
        self, request: NodeRequest, looks: dict[str, Seen | StyxError], free: int, missing: int, made: list[Node]
    ) -> CapacityError:
        """The refusal, which names for each host why it cannot be had."""
        reasons = []
        for name, look in looks.items():
            if isinstance(look, StyxError):
                reasons.append(f"{name}: {look.message}")
            elif look.facts.problem is not None:
                reasons.append(f"{name}: {look.facts.problem}")
            elif not _is_shape(look, request.offer):
                continue
            elif look.lease is not None and not (isinstance(look.lease, Lease) and look.lease.token == request.token):
                reasons.append(f"{name} is {look.lease.holder}")
        pool, shape = request.place.region, request.offer.instance_type
        return CapacityError(
            f"{missing} more of {shape} needed and {free} free in pool {pool}: "
            + ("; ".join(reasons) or "it has no other"),
            created=made,
            hint=f"wait, or add hosts to {self._file}; `styx check ssh` shows who has what",
        )

    def nodes(self, place: Place, cluster: str | None, known: Sequence[Node] = ()) -> Sequence[Node]:
        """Leases of this installation. A host that we have, or may have, and that does not answer is unreachable."""
        pool, store = place.region, self.context.store
        reaches = {host.id: host.reach for host in self._pools().get(pool, ())}
        notes = {f"{pool}/{note.lease.host}": note for note in self._book.notes(pool, store)}
        ours = {node.id: node for node in known if node.place.region == pool and node.cluster in (None, cluster)}
        where = {name for name, note in notes.items() if note.lease.cluster == cluster} | set(ours)
        if cluster is None or not where:
            where = set(reaches) | set(notes)
        for name, note in notes.items():
            reaches.setdefault(name, note.reach)
        for name, node in ours.items():
            if isinstance(node.reach, Ssh):
                reaches.setdefault(name, node.reach)
        names = [name for name in reaches if name in where]
        found: dict[tuple[str, int, str], Node] = {}
        for name, look in self._looks_again(names, reaches, {*notes, *ours}).items():
            for node in self._listed(look, reaches[name], notes.get(name), ours.get(name)):
                if node.place.region == pool and cluster in (None, node.cluster):
                    key = (node.cluster, node.rank, node.token or "")
                    if key not in found or node.id == name:
                        found[key] = node
        return sorted(found.values(), key=lambda node: (node.cluster, node.rank))

    def _looks_again(
        self, names: Sequence[str], reaches: Mapping[str, Ssh], ours: Set[str]
    ) -> dict[str, scripts.Answer | StyxError]:
        """What hosts show. Those of which we know nothing are not waited for long: when away they tell nothing."""
        others = [name for name in names if name not in ours]

        def look(name: str) -> scripts.Answer:
            self._refuse_away(name)
            return self._look(reaches[name])

        mine = [name for name in names if name in ours]
        found = dict(zip(mine, each(mine, lambda name: self._look(reaches[name])), strict=True))
        found |= dict(zip(others, each(others, look, within_s=self.config.reach_s), strict=True))
        for name in others:
            self._note_away(name, found[name])
        return {name: found[name] for name in names}

    def _listed(
        self, look: scripts.Answer | StyxError, reach: Ssh, note: Note | None, known: Node | None
    ) -> Iterator[Node]:
        """The nodes that one host shows: its lease, and those of ours that ended by themselves."""
        if isinstance(look, StyxError):
            if note is not None:
                yield _node(note.lease, note.reach, NodeState.UNREACHABLE)
            elif known is not None:
                yield known.model_copy(update={"state": NodeState.UNREACHABLE})
            return
        said = look.one("lease")
        lease = parse(said) if said else None
        if note is not None and (not isinstance(lease, Lease) or lease.token != note.lease.token):
            self._book.settle(note, self.context.clock())
        if isinstance(lease, Lease) and lease.store == self.context.store:
            yield self._running(lease, reach)
        for text in look.all("ended"):
            ended = parse(text)
            if isinstance(lease, Lease) and isinstance(ended, Lease) and ended.token == lease.token:
                continue  # it holds the host, whatever somebody has written beside it
            if isinstance(ended, Lease) and ended.store == self.context.store:
                node = _node(ended, reach, NodeState.TERMINATED)
                cause = Ended(cause="requested", message="it ended by itself: its lease was over")
                yield node.model_copy(update={"ended": cause})

    def terminate(self, nodes: Sequence[Node]) -> None:
        """End what the agents of these nodes run, remove their folders, and give the hosts back."""
        wanted = [node for node in nodes if isinstance(node.reach, Ssh)]
        lost: list[str] = []
        failed: list[StyxError] = []
        for node, outcome in zip(wanted, each(wanted, self._give_back), strict=True):
            if isinstance(outcome, SshFailed) and outcome.reason == "lost":
                lost.append(f"the reply of {node.id} was lost: {outcome.message}")
            elif isinstance(outcome, StyxError):
                failed.append(unusable(node.id, outcome))
        if failed:
            again = "run the command again when it answers, or give it up with --purge"
            words = "; ".join(error.message for error in failed)
            raise type(failed[0])(words, hint=f"{failed[0].hint}; {again}" if failed[0].hint else again)
        if lost:
            raise TransientError("; ".join(lost), retry_after_s=2.0)

    def _give_back(self, node: Node) -> None:
        assert isinstance(node.reach, Ssh)
        keep = "keep" if node.data.get("keep_workdir", True) else "remove"
        arguments = (self.config.lease_folder, node.token or "none", node.cluster, str(node.rank), keep)
        answer = self._hosts.ask(node.reach, scripts.GIVE_BACK, *arguments, timeout_s=_RELEASE_S)
        if trouble := answer.one("trouble"):
            raise DriverError(f"{trouble}; the host stays leased", hint=f"look at the processes on {node.reach.host}")
        for note in self._book.notes(node.place.region, self.context.store):
            if note.lease.token == node.token and note.lease.rank == node.rank:
                self._book.strike(note.lease)

    def release(self, place: Place, cluster: str) -> None:
        """Remove the traces of nodes of the cluster that ended by themselves."""
        ended = [node for node in self.nodes(place, None) if node.cluster == cluster and node.ended is not None]
        reaches = list({node.reach.host: node.reach for node in ended if isinstance(node.reach, Ssh)}.values())
        arguments = (self.config.lease_folder, cluster, self.context.store)
        for outcome in each(reaches, lambda reach: self._hosts.ask(reach, scripts.FORGET, *arguments)):
            if isinstance(outcome, StyxError):
                raise TransientError(outcome.message, retry_after_s=2.0)

    # capabilities ------------------------------------------------------------------------------------------------

    def open_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Remember them: whether they can be reached is for the hosts' network to say."""
        self._change_ports(nodes, lambda known: known | set(ports))

    def close_ports(self, nodes: Sequence[Node], ports: Sequence[int]) -> None:
        """Forget them."""
        self._change_ports(nodes, lambda known: known - set(ports))

    def _change_ports(self, nodes: Sequence[Node], change: Callable[[set[int]], set[int]]) -> None:
        for node in nodes:
            if not isinstance(node.reach, Ssh):
                continue
            try:
                said = self._look(node.reach).one("lease")
                lease = parse(said) if said else None
                if not isinstance(lease, Lease) or (lease.store, lease.token) != (self.context.store, node.token):
                    continue
                ports = tuple(sorted(change(set(lease.ports))))
                line = lease.model_copy(update={"ports": ports}).line()
                self._hosts.ask(node.reach, scripts.CHANGE, self.config.lease_folder, lease.token, stdin=line)
            except StyxError as error:
                raise unusable(node.id, error) from error

    def self_action(self, node: Node, action: Literal["stop", "down"]) -> SelfEnd:  # noqa: ARG002 - both free the host
        """The node ends its agent, cleans up after itself, and frees the host."""
        keep = "keep" if node.data.get("keep_workdir", True) else "remove"
        arguments = (self.config.lease_folder, node.token or "none", node.cluster, str(node.rank), keep)
        return SelfEnd(kind="command", argv=tuple(scripts.command(scripts.END_ITSELF, *arguments)), stops_billing=True)

    # how a host looks --------------------------------------------------------------------------------------------

    @property
    def _file(self) -> str:
        return str(self.config.pools_file or self.context.home / DEFAULT_FILE)

    def _pools(self) -> dict[str, tuple[Host, ...]]:
        path = self.config.pools_file or self.context.home / DEFAULT_FILE
        if self.config.pools_file is not None and str(path).startswith("~/"):
            path = self.context.user_home / str(path)[2:]
        pools = read_pools(path, self.context.user_home)
        allowed = self.config.allowed_node_pools
        if allowed is None:
            return pools
        if unknown := [name for name in allowed if name not in pools]:
            message = f"clouds.ssh.allowed_node_pools names {', '.join(unknown)}, which {path} does not have"
            raise CredentialsError(message, hint=f"it has {', '.join(pools)}")
        return {name: hosts for name, hosts in pools.items() if name in allowed}

    def _every_host(self) -> list[Host]:
        return [host for hosts in self._pools().values() for host in hosts]

    def _place(self, pool: str) -> Place:
        return Place(cloud=self.name, account=ACCOUNT, region=pool)

    def _look(self, reach: Ssh) -> scripts.Answer:
        return self._hosts.ask(reach, scripts.LOOK, self.config.lease_folder)

    def _detect(self, host: Host) -> Seen:
        answer = self._hosts.ask(host.reach, scripts.DETECT, self.config.lease_folder)
        said = answer.one("lease")
        return Seen(host, facts_of(host, answer), parse(said) if said else None)

    def _refuse_away(self, name: str) -> None:
        """A host that has just been seen to be away is believed to be so still, when it is only one of several."""
        since, error = self._away_since.get(name, (0.0, None))
        if error is not None and self.context.clock() - since < _AWAY_S:
            raise error

    def _note_away(self, name: str, look: object) -> None:
        if isinstance(look, SshFailed) and self._away_since.get(name, (0.0, None))[1] is not look:
            self._away_since[name] = (self.context.clock(), look)

    def _consider(self, host: Host) -> Seen:
        self._refuse_away(host.id)
        return self._detect(host)

    def _looks(self, hosts: Sequence[Host], within_s: float) -> list[Seen | StyxError]:
        """A look at each of several hosts, within so many seconds for all of them."""
        looks = each(hosts, self._consider, within_s=within_s)
        for host, look in zip(hosts, looks, strict=True):
            self._note_away(host.id, look)
        return looks

    def _look_around(self, hosts: Sequence[Host], within_s: float) -> list[Seen]:
        """Hosts that answer. Not one of several is a failure to be told, not an empty pool."""
        looks = self._looks(hosts, within_s)
        seen = [look for look in looks if isinstance(look, Seen)]
        failed = [(host, look) for host, look in zip(hosts, looks, strict=True) if isinstance(look, StyxError)]
        if failed and not seen:
            raise unusable(*failed[0])
        return seen

    def _running(self, lease: Lease, reach: Ssh) -> Node:
        """A node as it is; its host key is what the host has just proved to have."""
        return _node(lease, reach.model_copy(update={"host_key": self._hosts.key(reach)}), NodeState.RUNNING)


def _node(lease: Lease, reach: Ssh, state: NodeState) -> Node:
    ip = lease.private_ip
    ports = {port: Endpoint(host=reach.host, port=port) for port in lease.ports}
    return Node(
        id=f"{lease.pool}/{lease.host}",
        cluster=lease.cluster,
        rank=lease.rank,
        place=Place(cloud=SshPools.name, account=ACCOUNT, region=lease.pool),
        state=state,
        token=lease.token,
        reach=reach,
        endpoints=ports,
        private_ip=ip,
        instance_type=lease.instance_type,
        usd_per_hour=lease.usd_per_hour,
        created_at=lease.since,
        data={"keep_workdir": lease.keep_workdir},
    )


def _is_usable(look: Seen | StyxError) -> bool:
    return isinstance(look, Seen) and look.facts.shape is not None and look.facts.problem is None


def _is_shape(look: Seen, offer: CatalogRow) -> bool:
    return look.facts.shape is not None and look.facts.shape.name == offer.instance_type


def _pool_problem(pool: str, looks: Sequence[Seen | StyxError], said: Sequence[str]) -> StyxError:
    errors = [look for look in looks if isinstance(look, StyxError)]
    hint = next((error.hint for error in errors if error.hint), None)
    message = f"no host of pool {pool} can be used: {'; '.join(said)}"
    refused = [one for one in errors if isinstance(one, SshFailed) and one.reason in ("auth", "host_key")]
    if len(refused) == len(looks):
        return CredentialsError(message, hint=hint or "log in by hand once with ssh")
    return DriverError(message, hint=hint)


def _answers(row: CatalogRow, query: OfferQuery) -> bool:
    return (
        query.region in (None, row.region)
        and query.zone is None
        and (query.accelerator_name is None or row.accelerator_name == query.accelerator_name)
        and row.accelerator_count >= query.accelerator_count
        and (query.vcpus is None or (row.vcpus or 0) >= query.vcpus)
        and (query.memory_gib is None or (row.memory_gib or 0) >= query.memory_gib)
    )
