"""`styx show-gpus`: the name that users of the task format know for `styx gpus list`."""

from __future__ import annotations

from styx_cli.accelerators import list_accelerators
from styx_cli.flags import expands
from styx_cli.options import command_app

app = command_app(expands(list_accelerators), name="show-gpus")
