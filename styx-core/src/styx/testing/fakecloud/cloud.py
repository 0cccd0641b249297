"""The fake vendor's API, and the levers by which a test moves it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from styx.testing.fakecloud.shelf import FileShelf, MemoryShelf, Shelf
from styx.testing.fakecloud.world import (
    ApiError,
    Books,
    ConnectionLost,
    Machine,
    MachineType,
    Mishap,
    Status,
    Thing,
    World,
)
from styx.testing.processes import kill_marked

MARKER = "STYX_NODE"
"""Environment variable that every process of a machine with a real home carries, as the agent sets it."""
REQUESTS_KEPT = 500


class Page(NamedTuple):
    """One page of machines, and the token of the next one."""

    machines: list[Machine]
    next: str | None


class Account(NamedTuple):
    """Who a key belongs to, and which zones it may use (with the reason where it may not)."""

    id: str
    user: str
    zones: dict[tuple[str, str], str | None]


def instance_of(machine: Machine) -> str:
    """`<cluster key>/<rank>` of a machine of ours: the value of `MARKER` in its processes."""
    return f"{machine.tags.get('styx-cluster')}/{machine.tags.get('styx-rank')}"


class FakeCloud:
    """A vendor with an API like any other's; every API method takes the caller's key first.

    API methods raise `ApiError` with the vendor's code, or `ConnectionLost`. The rest of the methods are the test's
    levers: `refuse`, `lose_reply`, `doom`, `plant`, `preempt`, `warn`, and the views `machines` and `things`.

    Args:
        world: Regions, price list, paging, delays, quotas. Ignored when `path` exists already.
        clock: Unix seconds; everything that takes time is computed from it.
        path: A file for the books, shared by all processes that name it; None keeps them in memory.
    """

    def __init__(
        self, world: World | None = None, *, clock: Callable[[], float] = time.time, path: Path | None = None
    ) -> None:
        self.clock = clock
        self.path = path
        self._shelf: Shelf = FileShelf(path, world or World()) if path else MemoryShelf(world or World())

    @cached_property
    def world(self) -> World:
        """The set-up in force; it never changes, so it is read once."""
        with self._shelf.books() as books:
            return books.world

    # ------------------------------------------------------------------------------------------------ the API

    def whoami(self, key: str) -> Account:
        """The account of `key`."""
        with self._call(key, "whoami") as (books, account):
            world = books.world
            zones = {
                (region, zone): "region not enabled for this account" if region in world.closed_regions else None
                for region, names in world.regions.items()
                for zone in names
            }
            return Account(account, f"user-of-{account}", zones)

    def price_list(self, key: str) -> list[MachineType]:
        """What can be bought."""
        with self._call(key, "price_list") as (books, _):
            return list(books.world.types)

    def create_machine(
        self,
        key: str,
        *,
        zone: str,
        type: str,
        name: str,
        tags: Mapping[str, str],
        client_token: str | None = None,
        spot: bool = False,
        ssh_public_key: str | None = None,
        user_data: str | None = None,
        image: str | None = None,
        group: str | None = None,
        ports: tuple[int, ...] = (),
        volumes: tuple[str, ...] = (),
        disk_gib: float | None = None,
    ) -> Machine:
        """Accept a machine. With `World.idempotent`, a repeated `client_token` returns the first one."""
        with self._call(key, "create_machine", zone=zone) as (books, account):
            now, world = self.clock(), books.world
            region = self._region_of(books, zone)
            known = {one.client_token: one for one in self._alive(books) if one.account == account}
            if world.idempotent and client_token and client_token in known:
                return known[client_token]
            if type not in {one.name for one in world.types}:
                raise self._error(books, "invalid_type", f"no machine type {type!r}")
            if self._used(books, account, region) >= world.machines_per_region:
                raise self._error(books, "quota_exceeded", f"machine quota of {region} is used up")
            number = books.next_id("m")
            machine = Machine(
                id=number,
                account=account,
                region=region,
                zone=zone,
                name=name,
                type=type,
                spot=spot,
                tags=dict(tags),
                client_token=client_token,
                ssh_public_key=ssh_public_key,
                user_data=user_data,
                image=image,
                group=group,
                ports=ports,
                volumes=volumes,
                disk_gib=disk_gib,
                public_ip=f"203.0.113.{books.serial % 250 + 1}",
                private_ip=f"10.0.{books.serial // 250 % 250}.{books.serial % 250 + 1}",
                folder=str(Path(world.nodes_dir) / number) if world.nodes_dir else None,
                created_at=now,
                booted_at=now + world.boot_s,
                listed_at=now + world.listing_lag_s,
                doom=self._doomed(books, zone),
            )
            books.machines[machine.id] = machine
        # Only now, with the machine in the books: a client killed before this leaves no folder that nobody knows.
        return self._settled(machine)

    def list_machines(
        self, key: str, *, region: str, tags: Mapping[str, str] | None = None, page: str | None = None
    ) -> Page:
        """Machines of the account in `region` whose tags include `tags`, a page at a time, in order of id."""
        with self._call(key, "list_machines") as (books, account):
            now = self.clock()
            start = page or ""
            hits = [
                one
                for _, one in sorted(books.machines.items())
                if one.account == account
                and one.region == region
                and one.id > start
                and now >= one.listed_at
                and one.status(now) is not Status.GONE
                and dict(tags or {}).items() <= one.tags.items()
            ]
            size = books.world.page_size
            machines = [self._settled(one) for one in hits[:size]]
            return Page(machines, machines[-1].id if len(hits) > size else None)

    def get_machine(self, key: str, machine_id: str) -> Machine:
        """One machine, also while listings lag."""
        with self._call(key, "get_machine") as (books, account):
            return self._settled(self._mine(books, account, machine_id))

    def delete_machine(self, key: str, machine_id: str) -> None:
        """Remove it for good. Its processes and its folder are gone when this returns."""
        with self._call(key, "delete_machine") as (books, account):
            machine = self._mine(books, account, machine_id)
            if machine.deleted_at is None:
                self._clear(machine, remove=True)
                now = self.clock()
                gone = {"delete_at": now, "deleted_at": now + books.world.terminate_s}
                books.machines[machine_id] = machine.model_copy(update=gone)

    def halt_machine(self, key: str, machine_id: str) -> None:
        """Stop it; its disk stays."""
        with self._call(key, "halt_machine") as (books, account):
            machine = self._mine(books, account, machine_id)
            now = self.clock()
            if machine.halt_at is None and machine.status(now) in {Status.BOOTING, Status.ACTIVE}:
                self._clear(machine, remove=False)
                halt = {"halt_at": now, "halted_at": now + books.world.stop_s}
                books.machines[machine_id] = machine.model_copy(update=halt)

    def start_machine(self, key: str, machine_id: str) -> Machine:
        """Boot a halted machine; it may come back under a new id. One that runs already is returned as it is."""
        with self._call(key, "start_machine") as (books, account):
            machine = self._mine(books, account, machine_id)
            now = self.clock()
            if machine.status(now) is Status.HALTING:
                raise self._error(books, "in_use", f"{machine_id} is still halting")
            if machine.status(now) is not Status.HALTED:
                return self._settled(machine)
            number = books.next_id("m") if books.world.new_id_on_start else machine.id
            boot = {"id": number, "halt_at": None, "halted_at": None, "booted_at": now + books.world.boot_s}
            del books.machines[machine_id]
            books.machines[number] = machine.model_copy(update=boot)
            return self._settled(books.machines[number])

    def set_ports(self, key: str, machine_id: str, ports: tuple[int, ...]) -> None:
        """Open exactly these ports of a machine."""
        with self._call(key, "set_ports") as (books, account):
            machine = self._mine(books, account, machine_id)
            books.machines[machine_id] = machine.model_copy(update={"ports": tuple(sorted(set(ports)))})

    def machine_quota(self, key: str, region: str) -> int:
        """How many machines the account may still make in `region`."""
        with self._call(key, "machine_quota") as (books, account):
            return max(0, books.world.machines_per_region - self._used(books, account, region))

    def create_thing(
        self,
        key: str,
        kind: Literal["group", "address", "volume", "image"],
        *,
        region: str,
        name: str,
        tags: Mapping[str, str],
        size_gib: float | None = None,
    ) -> Thing:
        """A group, an address, a volume or an image. Names are unique for each kind and region: a repeat returns it."""
        with self._call(key, f"create_{kind}") as (books, account):
            for one in books.things.values():
                if (one.account, one.kind, one.region, one.name) == (account, kind, region, name):
                    return one
            thing = Thing(
                id=books.next_id(kind),
                kind=kind,
                account=account,
                region=region,
                name=name,
                tags=dict(tags),
                size_gib=size_gib,
                created_at=self.clock(),
            )
            books.things[thing.id] = thing
            return thing

    def list_things(self, key: str, kind: str, *, region: str, tags: Mapping[str, str]) -> list[Thing]:
        """Things of one kind whose tags include `tags`; these listings are not paged."""
        with self._call(key, f"list_{kind}s") as (books, account):
            return [
                one
                for one in books.things.values()
                if (one.account, one.kind, one.region) == (account, kind, region) and tags.items() <= one.tags.items()
            ]

    def delete_thing(self, key: str, thing_id: str) -> None:
        """Delete it; a group or volume that a machine still uses is `in_use`."""
        with self._call(key, "delete_thing") as (books, account):
            thing = books.things.get(thing_id)
            if thing is None or thing.account != account:
                raise self._error(books, "not_found", f"no such thing: {thing_id}")
            if any(thing_id == one.group or thing_id in one.volumes for one in self._alive(books)):
                raise self._error(books, "in_use", f"{thing_id} is still used by a machine")
            del books.things[thing_id]

    # --------------------------------------------------------------------------------------------- the levers

    def refuse(self, call: str, code: str, *, after: int = 0, times: int | None = 1, zone: str | None = None) -> None:
        """Let the next calls of an API method fail with `code`, carrying nothing out.

        `call` is the method's name; for things it is `create_group`, `list_volumes` and so on. `code` is one of
        `ERROR_STATUS`, or anything else to play an undocumented one. With `after=k` the first k calls pass: k of n.
        """
        self._script(Mishap(call=call, kind="refuse", code=code, after=after, times=times, zone=zone))

    def lose_reply(self, call: str, *, after: int = 0, times: int | None = 1) -> None:
        """Let the next calls be carried out, and their replies be lost."""
        self._script(Mishap(call=call, kind="lose_reply", after=after, times=times))

    def doom(self, code: str, *, after: int = 0, times: int | None = 1, zone: str | None = None) -> None:
        """Let the next machines be accepted, and break with `code` instead of becoming active."""
        self._script(Mishap(call="doom", kind="doom", code=code, after=after, times=times, zone=zone))

    def relent(self) -> None:
        """Forget every scripted failure."""
        with self._shelf.books() as books:
            books.mishaps.clear()

    def plant(self, zone: str, *, name: str = "somebody-elses", tags: Mapping[str, str] | None = None) -> Machine:
        """A machine that somebody made by other means, in the first account."""
        with self._shelf.books() as books:
            now = self.clock()
            machine = Machine(
                id=books.next_id("m"),
                account=next(iter(books.world.keys.values())),
                region=self._region_of(books, zone),
                zone=zone,
                name=name,
                type=books.world.types[0].name,
                tags=dict(tags or {}),
                public_ip="203.0.113.254",
                private_ip="10.9.9.9",
                created_at=now,
                booted_at=now,
                listed_at=now,
            )
            books.machines[machine.id] = machine
            return machine

    def warn(self, machine_id: str) -> None:
        """Announce to a machine with a real home that it will be reclaimed."""
        with self._shelf.books() as books:
            folder = books.machines[machine_id].folder
            if folder is None:
                raise ValueError(f"{machine_id} has no real home; set World.nodes_dir")
            (Path(folder) / "notice").touch()

    def preempt(self, machine_id: str) -> None:
        """Take a machine away without asking, as happens to spot machines."""
        with self._shelf.books() as books:
            machine = books.machines[machine_id]
            self._clear(machine, remove=True)
            books.machines[machine_id] = machine.model_copy(update={"reclaimed_at": self.clock()})

    def machines(self) -> list[Machine]:
        """The truth: every machine that is not being deleted, whatever listings show, foreign ones included."""
        with self._shelf.books() as books:
            return [self._settled(one) for one in self._alive(books)]

    def things(self) -> list[Thing]:
        """The truth about groups, addresses, volumes and images."""
        with self._shelf.books() as books:
            return list(books.things.values())

    def requests(self) -> list[str]:
        """The latest request lines, oldest first: what a proxy between Styx and the vendor would have logged."""
        with self._shelf.books() as books:
            return list(books.requests)

    def end_from_within(self, machine_id: str, action: Literal["stop", "down"]) -> None:
        """What the vendor does when a machine powers itself off; needs no key, and spares the calling process."""
        with self._shelf.books() as books:
            machine = books.machines.get(machine_id)
            if machine is None:
                return
            now = self.clock()
            self._clear(machine, remove=action == "down")
            ended = {"delete_at": now, "deleted_at": now} if action == "down" else {"halt_at": now, "halted_at": now}
            books.machines[machine_id] = machine.model_copy(update=ended)

    # ----------------------------------------------------------------------------------------------- workings

    @contextmanager
    def _call(self, key: str, call: str, *, zone: str | None = None) -> Iterator[tuple[Books, str]]:
        """One API call: log it, let scripted failures strike, check the key, and lose the reply if so scripted."""
        with self._shelf.books() as books:
            books.requests.append(f"POST /v1/{call}" + (f"?zone={zone}" if zone else ""))
            del books.requests[:-REQUESTS_KEPT]
            mishap = self._strike(books, call, zone)
            if mishap and mishap.kind == "refuse":
                raise self._error(books, mishap.code, f"{call} refused")
            account = books.world.keys.get(key)
            if account is None:
                raise self._error(books, "invalid_key", "the key is not valid")
            yield books, account
            if mishap and mishap.kind == "lose_reply":
                raise ConnectionLost(f"the connection broke during {call}")

    def _script(self, mishap: Mishap) -> None:
        with self._shelf.books() as books:
            books.mishaps.append(mishap)

    @staticmethod
    def _strike(books: Books, call: str, zone: str | None) -> Mishap | None:
        """The failure that hits this call, if any; counts it down."""
        for index, mishap in enumerate(books.mishaps):
            if mishap.call != call or (mishap.zone is not None and mishap.zone != zone):
                continue
            if mishap.after > 0:
                books.mishaps[index] = mishap.model_copy(update={"after": mishap.after - 1})
                continue
            if mishap.times is not None:
                books.mishaps[index] = mishap.model_copy(update={"times": mishap.times - 1})
                if mishap.times <= 1:
                    del books.mishaps[index]
            return mishap
        return None

    def _doomed(self, books: Books, zone: str) -> str | None:
        mishap = self._strike(books, "doom", zone)
        return mishap.code if mishap else None

    @staticmethod
    def _error(books: Books, code: str, message: str) -> ApiError:
        wait = 2.0 if code == "rate_limited" else None
        return ApiError(code, message, request_id=books.next_id("req"), retry_after_s=wait)

    def _mine(self, books: Books, account: str, machine_id: str) -> Machine:
        machine = books.machines.get(machine_id)
        if machine is None or machine.account != account or machine.status(self.clock()) is Status.GONE:
            raise self._error(books, "not_found", f"no such machine: {machine_id}")
        return machine

    def _region_of(self, books: Books, zone: str) -> str:
        for region, zones in books.world.regions.items():
            if zone in zones:
                return region
        raise self._error(books, "bad_request", f"no such zone: {zone}")

    @staticmethod
    def _alive(books: Books) -> list[Machine]:
        return [one for one in books.machines.values() if one.deleted_at is None and one.reclaimed_at is None]

    def _used(self, books: Books, account: str, region: str) -> int:
        return sum(1 for one in self._alive(books) if (one.account, one.region) == (account, region))

    @staticmethod
    def _settled(machine: Machine) -> Machine:
        """The machine, with its folders in place."""
        if machine.folder and machine.delete_at is None and machine.reclaimed_at is None:
            for part in ("home", "state"):
                (Path(machine.folder) / part).mkdir(parents=True, exist_ok=True)
        return machine

    @staticmethod
    def _clear(machine: Machine, *, remove: bool) -> None:
        """Kill a machine's processes and remove its folder, before the books say so: killed between, do it again."""
        if machine.folder is None:
            return
        if not kill_marked(MARKER, instance_of(machine)):
            raise RuntimeError(f"processes of {machine.id} survive SIGKILL")
        if remove:
            shutil.rmtree(machine.folder, ignore_errors=True)
