"""`python -m styx.testing.machines COMMAND ...`: run it as the root of a user namespace, where hosts can be had."""

from __future__ import annotations

import os
import sys

_IN_NAMESPACE = 'ip link set lo up && mount -t tmpfs tmpfs /run && exec "$@"'


def main() -> None:
    """Become `unshare`, which becomes the command."""
    if len(sys.argv) < 2:
        sys.exit("usage: python -m styx.testing.machines COMMAND ...")
    spaces = ["--user", "--map-root-user", "--map-auto", "--mount", "--net", "--pid", "--fork", "--mount-proc"]
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    os.execvp("unshare", ["unshare", *spaces, "--kill-child", "sh", "-c", _IN_NAMESPACE, "sh", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
