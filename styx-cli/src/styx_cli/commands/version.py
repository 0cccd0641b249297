"""`styx version`."""

from __future__ import annotations

import typer

from styx_cli import __version__
from styx_cli.app import app_of
from styx_cli.flags import expands
from styx_cli.options import OutputFlags, command_app


@expands
def version(ctx: typer.Context, *, out: OutputFlags) -> None:
    """Show the versions of Styx and its packages."""
    app = app_of(ctx)
    as_json = out.wants_json(app)
    import platform

    from styx_cli.jsonout import VersionInfo, to_json

    info = VersionInfo(
        styx=__version__,
        python=platform.python_version(),
        platform=f"{platform.system().lower()}-{platform.machine()}",
        packages=installed_packages(),
    )
    if as_json:
        app.data(to_json(info))
        return
    lines = [f"styx {info.styx}", f"python {info.python} on {info.platform}"]
    lines += [f"{name} {its_version}" for name, its_version in info.packages.items()]
    app.data("\n".join(lines))


def installed_packages() -> dict[str, str]:
    """Every distribution that declares something to Styx, with its version."""
    from importlib.metadata import distributions

    found: dict[str, str] = {}
    for each in distributions():
        name = each.metadata["Name"]
        declares = any(point.group == "styx" or point.group.startswith("styx.") for point in each.entry_points)
        if name and (declares or name.startswith("styx-")):
            found[name] = each.version
    return dict(sorted(found.items()))


app = command_app(version)
