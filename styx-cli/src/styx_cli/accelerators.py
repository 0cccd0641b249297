"""The listing of accelerators, which `styx gpus list` and `styx show-gpus` share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from styx.errors import NotFound
from styx_cli.app import App, app_of
from styx_cli.options import ConfigFlag, OutputFlags

if TYPE_CHECKING:
    from styx.api import AcceleratorView, Client, PriceRange

SOURCES_SHOWN: Final = 3
NUMBERS_SHOWN: Final = 8
_HEADERS: Final = ("GPU", "GB EACH", "INFRA", "REGIONS", "INSTANCE", "VCPUS", "MEM GB", "$/H", "SPOT $/H", "AGE")
_RIGHT: Final = ("GB EACH", "REGIONS", "VCPUS", "MEM GB", "$/H", "SPOT $/H", "AGE")


def list_accelerators(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME[:N]", help="A100, A100:8 (exactly 8 per machine), 80GB+, nvidia:80GB+:4; default: all."
        ),
    ] = None,
    infra: Annotated[
        str | None, typer.Option(metavar="CLOUD[/REGION[/ZONE]]", help="Only there; * leaves a part open.")
    ] = None,
    all_regions: Annotated[bool, typer.Option("--all-regions", help="One line for each region.")] = False,
    *,
    out: OutputFlags,
    config: ConfigFlag = None,
) -> None:
    """List accelerators for sale: where, in which numbers, at which prices.

    One line for each number of accelerators per machine at each cloud: the cheapest machine type, and the range of
    prices per hour over its regions. ? is a price that nobody knows, - means that it is not sold so. AGE is how long
    ago the figures were true; `styx catalog refresh` fetches fresh ones. Needs no credentials.
    """
    app = app_of(ctx)
    as_json = out.wants_json(app)
    from styx.api import AcceleratorQuery
    from styx_cli.progress import Progress

    query = AcceleratorQuery(wanted=name, infra=infra, every_region=all_regions)
    with app.client(config) as client, Progress(app) as progress, progress.waiting("reading the catalogs"):
        views = client.accelerators(query)
        hint = None if views else _what_there_is(client, name, infra)
    if as_json:
        from styx_cli.jsonout import to_json

        app.data(to_json(views))
    elif views:
        _show(app, views)
    if not views:
        raise _nothing(name, infra, hint)


def _what_there_is(client: Client, name: str | None, infra: str | None) -> str | None:
    """The same accelerator in other numbers, or elsewhere."""
    from styx.api import AcceleratorQuery
    from styx.models.suggest import did_you_mean

    kind, _, count = (name or "").rpartition(":")
    if kind and count.replace(".", "", 1).isdigit():
        numbers = dict.fromkeys(
            f"{view.name}:{view.count:g}" for view in client.accelerators(AcceleratorQuery(wanted=kind, infra=infra))
        )
        if numbers:
            return f"there: {', '.join(list(numbers)[:NUMBERS_SHOWN])}; a task that asks for {name} takes more, too"
    if infra:
        clouds = sorted({view.cloud for view in client.accelerators(AcceleratorQuery(wanted=name))})
        near = did_you_mean(infra.partition("/")[0], clouds)
        sold = f"sold at {', '.join(clouds)}" if clouds else None
        return f"{near} It is {sold}" if near and sold and infra.partition("/")[0] not in clouds else sold
    return None


def _nothing(name: str | None, infra: str | None, hint: str | None) -> NotFound:
    what = f"{name or 'no accelerator'}{f' at {infra}' if infra else ''}"
    said = f"nobody sells {what}, as far as the catalogs know" if name else f"the catalogs know of {what}"
    usual = "`styx catalog list` shows which catalogs there are, `styx catalog refresh` fetches more"
    return NotFound(said, hint=hint or usual)


def _show(app: App, views: Sequence[AcceleratorView]) -> None:
    from styx_cli.render import age, show_table

    now = datetime.now(UTC)
    rows = [
        [
            f"{view.name}:{view.count:g}",
            _number(view.memory_gib),
            f"{view.cloud}/{view.region}" if view.region else view.cloud,
            "" if view.region else str(view.regions),
            _types(view.instance_types),
            _number(view.vcpus),
            _number(view.host_memory_gib),
            price_range(view.on_demand),
            price_range(view.spot),
            age(view.as_of, now),
        ]
        for view in views
    ]
    show_table(app, _HEADERS, rows, right=_RIGHT)
    sources = dict.fromkeys(source for view in views for source in view.sources if source)
    if len(sources) <= SOURCES_SHOWN:
        for source in sources:  # such as how many of them are free
            app.note(f"figures from {source}")


def price_range(prices: PriceRange | None) -> str:
    """`$1.20`, `$1.20-3.40`, `?` when unknown, `-` when it is not sold so."""
    from styx_cli.render import usd

    if prices is None:
        return "-"
    least, most = usd(prices.least), usd(prices.most)
    return least if least == most else f"{least}-{most.removeprefix('$')}"


def _types(names: Sequence[str]) -> str:
    return names[0] + (f" +{len(names) - 1}" if len(names) > 1 else "") if names else "-"


def _number(amount: float | None) -> str:
    return "?" if amount is None else f"{amount:g}"
