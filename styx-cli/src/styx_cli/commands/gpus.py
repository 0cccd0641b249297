"""`styx gpus`."""

from __future__ import annotations

from styx_cli.accelerators import list_accelerators
from styx_cli.flags import expands
from styx_cli.options import new_app

app = new_app("List accelerators for sale.")


@app.callback()
def gpus() -> None:
    """List accelerators for sale: where, in which numbers, at which prices."""


app.command("list")(expands(list_accelerators))
