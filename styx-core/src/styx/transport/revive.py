"""What a machine runs at each boot, so that its agents come back without a client: queue, lease and dead-man switch."""

from __future__ import annotations

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
for identity in /root/.styx-agent/*/*/identity.json /home/*/.styx-agent/*/*/identity.json \
    $(awk -F: '$6 ~ /^\// && $6 !~ /[ *?[]/ && $6 != "/" && $6 != "/root" && $6 !~ /^\/home\// {
        print $6 "/.styx-agent/*/*/identity.json" }' /etc/passwd) /var/tmp/styx-agent-*/*/*/identity.json; do
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


def boot_script() -> str:
    """A shell script for `NodeRequest.boot_script`; it does nothing on a machine that never had an agent."""
    return _SCRIPT
