"""What a machine runs at each boot, so that its agents come back without a client: queue, lease and dead-man switch."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from string import Template
from typing import Final

LEASED: Final = "/var/lib/styx/leased-"
"""Followed by the cluster's key: on machines whose agent was once given a lease, for good."""

_STATES = r"""/root/.styx-agent/@ /home/*/.styx-agent/@ \
    $(awk -F: '$6 ~ /^\// && $6 !~ /[ *?[]/ && $6 != "/" && $6 != "/root" && $6 !~ /^\/home\// {
        print $6 "/.styx-agent/@" }' /etc/passwd) /var/tmp/styx-agent-*/@"""
"""Where agents may live, as words of a shell; `@` stands for what is looked for below."""

_SCRIPT = r"""#!/bin/sh
# Styx: starts the agents that lived on this machine before it was switched off. Run as root; each agent, and the Python
# beside it, runs as the owner of its state folder, and only if the program is that owner's: some of these folders may
# be anybody's. A machine that is up costs money, so an agent that was ended comes back as well: its lease decides about
# the machine.
start='
  program=$1 state=$2
  for each in "${state%/*/*}/python/bin/python3" python3 /usr/bin/python3 /usr/local/bin/python3 /opt/*/bin/python3 \
      python3.14 python3.13 python3.12 python3.11 python3.10 python3.9 python3.8 python; do
    case $("$each" -V 2>&1) in
      "Python 3."[89]*|"Python 3."[1-9][0-9]*) exec "$each" -I -S "$program" boot --state "$state";;
    esac
  done
'
for identity in @STATES@; do
  [ -f "$identity" ] || continue
  state=${identity%/identity.json}
  program=$(ls -t "$state"/agent-*.pyz 2>/dev/null | head -n 1)
  owner=$(stat -L -c %U "$state" 2>/dev/null)
  [ -n "$program" ] && [ -n "$owner" ] && [ "$(stat -c %U "$program")" = "$owner" ] || continue
  set -- sh -c "$start" sh "$program" "$state"
  if [ "$owner" != "$(id -un)" ]; then
    if command -v runuser >/dev/null 2>&1; then
      set -- runuser -u "$owner" -- "$@"
    else
      set -- su -s /bin/sh "$owner" -c 'exec "$@"' -- sh "$@"
    fi
  fi
  (cd / && exec "$@" </dev/null >/dev/null 2>&1) &
done
wait
"""


_FIRST_LEASE = Template(r"""
# A client that dies before it has given this machine's agent a lease leaves the machine to this clock. Once a lease was
# seen, the agent alone decides, in this life of the machine and in all later ones.
leased=$leased
if [ ! -e "$$leased" ]; then
  first_lease() {
    left=$seconds
    while :; do
      for lease in $states; do
        if [ -s "$$lease" ]; then
          mkdir -p "$${leased%/*}" && : >"$$leased"
          return
        fi
      done
      if [ "$$left" -gt 0 ]; then
        pause=$$((left < 5 ? left : 5))
        left=$$((left - pause))
      else
        echo "styx: no client came within $seconds s; this machine ends itself" >/dev/console
        $end
        pause=60
      fi
      sleep "$$pause"
    done
  }
  (cd / && first_lease </dev/null >/dev/null 2>&1 &) # nobody's child: the boot does not wait for it
fi
""")


POWEROFF: Final = ("sh", "-c", "systemctl poweroff || poweroff || shutdown -h now")
"""What switches a machine off, whatever it has for that."""


def boot_script(cluster: str = "", *, first_lease_s: float | None = None, end: Sequence[str] = ()) -> str:
    """A shell script for `NodeRequest.boot_script`; it brings back the agents that a machine had.

    Args:
        cluster: The cluster key whose agents count.
        first_lease_s: How long after its boot a machine that was never given a lease runs `end`; None: it never does.
        end: The command by which it ends itself.
    """
    revive = _SCRIPT.replace("@STATES@", _STATES.replace("@", "*/*/identity.json"))
    if first_lease_s is None or not end:
        return revive
    clock = _FIRST_LEASE.substitute(
        leased=LEASED + cluster,
        seconds=max(1, round(first_lease_s)),
        states=_STATES.replace("@", f"{cluster}/*/lease.json"),
        end=shlex.join(end),
    )
    head, line, rest = revive.partition("\nstart='")
    return head + clock.rstrip() + line + rest
