"""Settings of where machines may be made, and where rather: what every plan keeps to, and what it would like."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from styx.models.base import AsText, Model, Problem, Problems
from styx.models.infra import Infra
from styx.models.scalars import Text, amount, choice, whole
from styx.units import parse_size_gib, tidy_number


def accelerator_name(value: Any) -> str:
    """The usual name of an accelerator, without a count."""
    if not isinstance(value, str) or not value.strip() or ":" in value:
        raise Problem("must be the name of an accelerator, without a count")
    from styx.models.accelerators import canonical_accelerator

    return canonical_accelerator(value)


def gib(value: Any) -> float:
    """A size in GiB from a number or from text with a unit."""
    return tidy_number(parse_size_gib(value))


class Where(Model):
    """Some offers: all that fit every key that is given."""

    infra: Annotated[Infra, AsText] | None = None
    """`cloud[/region[/zone]]`; `*` leaves a part open."""
    instance_type: Text | None = None
    """One type of machine."""
    accelerator: Annotated[str, BeforeValidator(accelerator_name)] | None = None
    """One kind of accelerator, by name."""
    market: Annotated[Literal["on_demand", "spot"], BeforeValidator(choice(("on_demand", "spot")))] | None = None
    """How they are sold."""


class Wish(Where):
    """What counts as dearer, or (below zero) as cheaper, than it is when places are compared; no total has it."""

    usd_per_hour: Annotated[float, BeforeValidator(amount(unit="US dollars"))] = 0.0
    """Added to the price of each machine."""
    percent: Annotated[float, BeforeValidator(amount(at_least=-100))] = 0.0
    """Of what is paid for it, added to that; -100 makes it count as free."""
    why: Text = "it was wished so"
    """For explanations."""


class Reserved(Where):
    """Machines that are paid for already: using them costs nothing more."""

    nodes: Annotated[int, BeforeValidator(whole(at_least=1))]
    """How many there are; those of live clusters count as taken."""


class Quota(Where):
    """What may be used at the same time; live clusters count."""

    name: Text
    """For messages."""
    most: Annotated[float, BeforeValidator(amount(at_least=0))]
    """How much."""
    of: Annotated[
        Literal["vcpus", "accelerators", "nodes"], BeforeValidator(choice(("vcpus", "accelerators", "nodes")))
    ] = "vcpus"
    """Of what."""


def entries(value: Any) -> Any:
    """A list of mappings, none of them empty: an empty one would be about everything there is."""
    if not isinstance(value, (list, tuple)):
        raise Problem("must be a list")
    empty = [index for index, item in enumerate(value) if item is None or item == {}]
    if empty:
        raise Problems(Problem("says nothing", at=(index,)) for index in empty)
    return value


class PlacementSettings(Model):
    """Where machines may be made, and where rather."""

    arch: Annotated[Literal["x86_64", "arm64", "any"], BeforeValidator(choice(("x86_64", "arm64", "any")))] = "x86_64"
    """The processors of tasks that name neither a machine type nor an accelerator; `any` lets the price decide."""
    default_cpus: Annotated[float, BeforeValidator(amount(at_least=0, unit="vCPUs"))] = 2.0
    """The fewest vCPUs of a machine for tasks that name neither `cpus`, `memory`, `accelerators` nor `instance_type`;
    0 is any."""
    default_memory: Annotated[float, BeforeValidator(gib)] = 4.0
    """The least memory of a machine for the same tasks, in GiB; 0 is any."""
    prefer: Annotated[tuple[Wish, ...], BeforeValidator(entries)] | None = None
    """Wishes with a price."""
    reserved: Annotated[tuple[Reserved, ...], BeforeValidator(entries)] | None = None
    """Machines that are paid for."""
    quotas: Annotated[tuple[Quota, ...], BeforeValidator(entries)] | None = None
    """Limits on what is used at the same time."""
    exclude: Annotated[tuple[Where, ...], BeforeValidator(entries)] | None = None
    """Never there."""
    only: Annotated[tuple[Where, ...], BeforeValidator(entries)] | None = None
    """Nowhere else."""
