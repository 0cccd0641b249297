"""Accelerator requests: `A100:8`, `L4:0.5`, `80GB+`, `nvidia:80GB+:4`, and maps and lists of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import BeforeValidator, model_serializer, model_validator

from styx.models.acceleratornames import ACCELERATORS, ALIASES, BOARDS, AcceleratorFacts
from styx.models.base import Compact, Model, Problem, collect
from styx.models.suggest import did_you_mean
from styx.units import number_text, parse_amount, parse_size_gib, tidy_number

KNOWN_ACCELERATORS: Final = frozenset(ACCELERATORS)
"""Names that are taken as they are. Any other name is valid too: only a catalog can say what is for sale."""

GPU_MAKERS: Final = ("nvidia", "amd")
"""Whose accelerators answer a request by memory that names no maker; the others run other programs."""
_VENDORS: Final = frozenset({*(facts.vendor for facts in ACCELERATORS.values()), "google", "habana", "tenstorrent"})
_VENDOR_ALIASES: Final[Mapping[str, str]] = {"habana": "intel", "amazon": "aws", "annapurna": "aws"}
_PREFIX: Final = re.compile(r"^(?:nvidia|amd|intel|tesla|quadro|geforce|instinct)(?:[ _-]+|(?=tesla))", re.IGNORECASE)
_TPU: Final = re.compile(r"tpu-(v\d+[a-z]*)-\d+(-pod)?", re.IGNORECASE)
_V5E: Final = ("v5e", "v5litepod")
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._ +-]*")
_MEMORY: Final = re.compile(r"(\d+(?:\.\d+)?\s*[kmgtKMGT][iI]?[bB]?)(\+?)")
_SHAPE: Final = 'must be a name with an optional count, such as "A100:8", or a memory size such as "80GB+"'


def is_known_accelerator(name: str) -> bool:
    """Whether this is the usual name of an accelerator; others are valid but worth a warning."""
    return canonical_accelerator(name) in ACCELERATORS or _TPU.fullmatch(name) is not None


def accelerator_suggestion(name: str) -> str | None:
    """The known name nearest to this one, as a question."""
    return did_you_mean(name, KNOWN_ACCELERATORS, cutoff=0.7)


class AcceleratorRequest(Compact):
    """So many accelerators per node, by name or by memory."""

    name: str | None = None
    """The usual name, such as `A100-80GB`, or None when asked by memory."""
    count: float = 1
    """How many per node; a fraction shares one device among jobs."""
    memory_gib: float | None = None
    """Memory of one device in GiB, when asked by memory."""
    memory_at_least: bool = False
    """Whether a device with more memory will do."""
    vendor: str | None = None
    """`nvidia`, `amd`, ..., when asked by memory and vendor."""

    @classmethod
    def parts(cls, value: str | float) -> Mapping[str, Any]:
        """Split `[vendor:]name-or-memory[:count]`."""
        if not isinstance(value, str):
            raise Problem(_SHAPE)
        pieces = [piece.strip() for piece in value.strip().split(":")]
        vendor = None
        if len(pieces) > 1 and pieces[0].lower() in _VENDORS:
            vendor = canonical_vendor(pieces.pop(0))
        if not pieces[0] or len(pieces) > 2:
            raise Problem(_SHAPE)
        if len(pieces) == 2 and _MEMORY.fullmatch(pieces[1]):
            near = did_you_mean(pieces[0], _VENDORS)
            raise Problem(f"names a maker of accelerators that is not known, {pieces[0]!r}", suggestion=near)
        count = _count(pieces[1]) if len(pieces) == 2 else 1
        memory = _MEMORY.fullmatch(pieces[0])
        if memory:
            return {
                "count": count,
                "memory_gib": tidy_number(parse_size_gib(memory[1])),
                "memory_at_least": bool(memory[2]),
                "vendor": vendor,
            }
        if vendor is not None:
            raise Problem("names a vendor without a memory size", suggestion=f'write "{vendor}:80GB+"')
        if not _NAME.fullmatch(pieces[0]):
            raise Problem(_SHAPE)
        return {"name": canonical_accelerator(pieces[0]), "count": count}

    def __str__(self) -> str:
        if self.memory_gib is None:
            what = self.name or ""
        else:
            lead = f"{self.vendor}:" if self.vendor else ""
            what = f"{lead}{number_text(self.memory_gib)}GB{'+' if self.memory_at_least else ''}"
        return what if self.count == 1 else f"{what}:{number_text(self.count)}"


class Accelerators(Model):
    """One accelerator request, or several of which one will do."""

    options: tuple[AcceleratorRequest, ...]
    """The requests, in the order written."""
    ordered: bool = False
    """Whether the order is the user's preference (a list) or not (a map or a set)."""

    @model_validator(mode="before")
    @classmethod
    def _read_shapes(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "options" in data and data.keys() <= {"options", "ordered"}:
            return data
        if isinstance(data, (set, frozenset)):
            data = dict.fromkeys(sorted(map(str, data)))
        if isinstance(data, Mapping):
            return _read((key, f"{key}" if count is None else (key, count)) for key, count in data.items())
        if isinstance(data, (list, tuple)):
            return _read(enumerate(data), ordered=True)
        if isinstance(data, (str, AcceleratorRequest)):
            return {"options": (_one(data),), "ordered": False}
        if isinstance(data, cls):
            return data
        raise Problem('must be text such as "A100:8", a map, or a list')

    @model_serializer(mode="plain")
    def _write(self) -> Any:
        texts = [str(option) for option in self.options]
        if self.ordered:
            return texts
        return texts[0] if len(texts) == 1 else dict.fromkeys(texts)

    def __str__(self) -> str:
        return (" then " if self.ordered else " or ").join(str(option) for option in self.options)


def _read(entries: Iterable[tuple[str | int, Any]], *, ordered: bool = False) -> dict[str, Any]:
    options = collect(entries, _one)
    if not options:
        raise Problem("is empty", suggestion="leave the key out for no accelerator")
    return {"options": tuple(options.values()), "ordered": ordered}


def _one(item: Any) -> AcceleratorRequest:
    if isinstance(item, AcceleratorRequest):
        return item
    if isinstance(item, str):
        return AcceleratorRequest(**AcceleratorRequest.parts(item))
    if isinstance(item, Mapping) and len(item) == 1:
        return _one(next(iter(item.items())))
    if isinstance(item, tuple):
        name, count = item
        parts = dict(AcceleratorRequest.parts(str(name)))
        if parts["count"] != 1:
            raise Problem("gives the count twice, in the name and after it")
        return AcceleratorRequest(**(parts | {"count": 1 if count is None else _count(count)}))
    raise Problem(_SHAPE)


def _count(value: Any) -> float:
    count = parse_amount(value, what="a count above 0")
    if count <= 0:
        raise Problem("must have a count above 0")
    if count > 1 and not count.is_integer():
        raise Problem("must have a whole count, or a fraction below 1 to share one device")
    return tidy_number(count)


_SHORT_GB: Final = re.compile(r"(?<![0-9A-Za-z])(\d+)G(?=$|[-_ ])")
_FORM: Final = re.compile(r"[-_ ]bare[-_ ]?metal$", re.IGNORECASE)
_PCIE: Final = re.compile(r"[-_ ]pcie$", re.IGNORECASE)
"""What resellers write behind the name of a card that comes in one form only."""


def canonical_accelerator(name: str) -> str:
    """The one usual name: `a100`, `A100-40GB` and `NVIDIA A100` are `A100`; an unknown name stays as it is."""
    if _TPU.fullmatch(name):
        return name.lower()
    bare = _SHORT_GB.sub(r"\1GB", name.strip())
    for said in (bare, _FORM.sub("", bare), _PCIE.sub("", _FORM.sub("", bare))):
        part = said
        while True:
            if found := _CANONICAL.get(_folded(part)):
                return found
            shorter = _PREFIX.sub("", part)
            if shorter == part:
                break
            part = shorter
    return name


@lru_cache(maxsize=512)
def answering(name: str) -> tuple[str, ...]:
    """Names of what meets a request for this one: who asks for `H100` takes an `H100-SXM`, not the other way round.

    A TPU `v5e` is what its vendor's interface calls `v5litepod`: each is the other.
    """
    usual = canonical_accelerator(name)
    same = [usual.replace(f"-{one}-", f"-{other}-") for one, other in (_V5E, _V5E[::-1]) if f"tpu-{one}-" in usual]
    return (usual, *same, *BOARDS.get(usual, ()))


def accelerator_of_product(product: str, memory_gib: float) -> str:
    """The name users ask for: `NVIDIA A100-SXM4-80GB` is `A100-80GB`, `NVIDIA GeForce RTX 4090` is `RTX4090`."""
    words = _BRANDS.sub(" ", product).replace("-", " ").split()
    words = [word for word in words if not _SIZE.match(word)]
    if not words:
        return product
    if words[0] == "RTX" and len(words) > 1:
        suffix = "-Ada" if "Ada" in words else "Ti" if "Ti" in words[2:] else ""
        name = f"RTX{words[1]}{suffix}" if words[1] != "PRO" else f"RTXPRO{''.join(words[2:3])}"
    else:
        name = words[0]
    if name == "A100" and memory_gib > 60:
        return "A100-80GB"
    if name == "V100" and memory_gib > 20:
        return "V100-32GB"
    return name


def canonical_vendor(vendor: str) -> str:
    """The usual spelling of a maker's name: lower case, one name for each."""
    lowered = vendor.strip().lower()
    return _VENDOR_ALIASES.get(lowered, lowered)


def accelerator_facts(name: str) -> AcceleratorFacts | None:
    """Maker and memory of an accelerator by its canonical name; None when it is unknown."""
    if _TPU.fullmatch(name):
        return AcceleratorFacts("google", None)
    return ACCELERATORS.get(name)


def _folded(name: str) -> str:
    return name.lower().translate(_SEPARATORS)


_BRANDS: Final = re.compile(r"\b(NVIDIA|Tesla|GeForce|Quadro)\b")
_SIZE: Final = re.compile(r"^\d+GB$")
_SEPARATORS: Final = str.maketrans("", "", " -_")
_CANONICAL: Final[Mapping[str, str]] = {
    _folded(known): usual for known, usual in (*((name, name) for name in ACCELERATORS), *ALIASES.items())
}


def none_is_nothing(value: Any) -> Any:
    """The word `none` asks for no accelerator (flags use it to clear the YAML's choice)."""
    return None if isinstance(value, str) and value.strip().lower() == "none" else value


NoneIsNothing: Final = BeforeValidator(none_is_nothing)
