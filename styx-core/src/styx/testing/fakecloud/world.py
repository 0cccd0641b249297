"""What exists at the fake vendor, as values: its price list, its machines, its mishaps."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field

from styx.driver import Value

ERROR_STATUS: dict[str, int] = {
    "bad_request": 400,
    "invalid_key": 401,
    "payment_required": 402,
    "quota_exceeded": 403,
    "not_found": 404,
    "out_of_stock": 409,
    "in_use": 409,
    "invalid_type": 422,
    "rate_limited": 429,
    "internal": 500,
}
"""The vendor's documented error codes and their HTTP status."""


class ApiError(Exception):
    """The vendor's refusal, as its SDK would raise it."""

    def __init__(self, code: str, message: str, *, request_id: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = ERROR_STATUS.get(code, 418)
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class ConnectionLost(Exception):
    """The connection broke before the reply came. Nobody knows whether the call was carried out."""


class MachineType(Value):
    """One line of the price list."""

    name: str
    vcpus: float
    memory_gib: float
    usd_per_hour: float
    spot_usd_per_hour: float | None = None
    accelerator_name: str | None = None
    accelerator_count: float = 0
    accelerator_memory_gib: float | None = None


class World(Value):
    """The vendor's set-up: fixed for the life of a cloud."""

    keys: dict[str, str] = Field(default_factory=lambda: {"fake-key": "acct-1"})
    """API keys and the account that each one opens."""
    regions: dict[str, tuple[str, ...]] = Field(
        default_factory=lambda: {"north": ("north-a", "north-b"), "south": ("south-a",)}
    )
    """Regions and their zones."""
    closed_regions: tuple[str, ...] = ()
    """Regions that exist but are not enabled for any account."""
    types: tuple[MachineType, ...] = (
        MachineType(name="small", vcpus=2, memory_gib=4, usd_per_hour=0.05, spot_usd_per_hour=0.02),
        MachineType(name="large", vcpus=16, memory_gib=64, usd_per_hour=0.60),
        MachineType(
            name="gpu",
            vcpus=26,
            memory_gib=200,
            usd_per_hour=2.49,
            spot_usd_per_hour=1.10,
            accelerator_name="H100",
            accelerator_count=1,
            accelerator_memory_gib=80,
        ),
    )
    """The price list, the same in every zone."""
    page_size: int = 5
    """Most entries in one page of a listing."""
    listing_lag_s: float = 0.0
    """How long a new machine is missing from listings."""
    boot_s: float = 0.0
    """From accepted to running."""
    stop_s: float = 0.0
    """From asked to stopped."""
    terminate_s: float = 0.0
    """From asked to gone."""
    idempotent: bool = True
    """Whether create keeps the promise of its client token."""
    new_id_on_start: bool = True
    """Whether a machine gets a new id when it starts again."""
    machines_per_region: int = 100
    """Quota of every account."""
    nodes_dir: str | None = None
    """Folder under which machines get real homes; None makes them addresses at which nobody answers."""


class Status(StrEnum):
    """The vendor's words for the state of a machine."""

    BOOTING = "booting"
    ACTIVE = "active"
    HALTING = "halting"
    HALTED = "halted"
    BROKEN = "broken"
    RECLAIMED = "reclaimed"
    DELETING = "deleting"
    GONE = "gone"


class Machine(Value):
    """One machine, with the times of what happened to it; its status follows from them."""

    id: str
    account: str
    region: str
    zone: str
    name: str
    type: str
    spot: bool = False
    tags: dict[str, str] = Field(default_factory=dict)
    client_token: str | None = None
    ssh_public_key: str | None = None
    user_data: str | None = None
    image: str | None = None
    group: str | None = None
    ports: tuple[int, ...] = ()
    volumes: tuple[str, ...] = ()
    disk_gib: float | None = None
    public_ip: str
    private_ip: str
    folder: str | None = None
    """Where its real home lies, when it has one; kept across stop and start."""
    created_at: float
    booted_at: float
    """When its present boot is complete."""
    listed_at: float
    """From when on listings show it."""
    doom: str | None = None
    """Error code with which it breaks instead of becoming active."""
    halt_at: float | None = None
    halted_at: float | None = None
    reclaimed_at: float | None = None
    delete_at: float | None = None
    deleted_at: float | None = None

    def status(self, now: float) -> Status:
        """The vendor's word for it at `now`."""
        if self.deleted_at is not None:
            return Status.GONE if now >= self.deleted_at else Status.DELETING
        if self.reclaimed_at is not None:
            return Status.RECLAIMED
        if self.halted_at is not None:
            return Status.HALTED if now >= self.halted_at else Status.HALTING
        if now < self.booted_at:
            return Status.BOOTING
        return Status.BROKEN if self.doom else Status.ACTIVE


class Thing(Value):
    """Anything else that the vendor keeps: a firewall group, an address, a volume, an image."""

    id: str
    kind: Literal["group", "address", "volume", "image"]
    account: str
    region: str
    name: str
    tags: dict[str, str] = Field(default_factory=dict)
    size_gib: float | None = None
    created_at: float


class Mishap(Value):
    """A scripted failure of one kind of call."""

    call: str
    kind: Literal["refuse", "lose_reply", "doom"]
    code: str = ""
    zone: str | None = None
    """Only calls for this zone."""
    after: int = 0
    """So many matching calls pass unharmed first."""
    times: int | None = 1
    """So many calls are hit; None is all of them."""


class Books(BaseModel):
    """Everything that the vendor remembers; what the file holds."""

    world: World
    machines: dict[str, Machine] = Field(default_factory=dict)
    things: dict[str, Thing] = Field(default_factory=dict)
    mishaps: list[Mishap] = Field(default_factory=list)
    requests: list[str] = Field(default_factory=list)
    """The latest request lines, as a proxy would log them."""
    serial: int = 0

    def next_id(self, prefix: str) -> str:
        """A fresh id; numbered, so that a test reads the same on each run."""
        self.serial += 1
        return f"{prefix}-{self.serial:06d}"
